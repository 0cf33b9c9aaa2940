//! `sheets OUT PICTURE...`: contact sheets of what the knobs do. Of each picture's centre, 4x, one row; one column for
//! each value of a knob. One JPEG file per knob, and one of the engines.

use std::path::PathBuf;

use anyhow::Context;
use enlarger_benches::{
    photos::{cut, load},
    run::run,
};
use enlarger_image::{Channels, EncodeOptions, Format, Picture, Samples};
use enlarger_pipeline::{Creative, Crop, Engine, Enlarger, EnlargerOptions, Look, Request, Size};

/// Pixels of a picture that are enlarged, and of the result that are shown.
const SEEN: u32 = 96;
const SHOWN: u32 = 256;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let out = args.next().context("name the folder to write to, then pictures")?;
    let sources = args.map(|path| Ok(centre(&load(&path)?))).collect::<anyhow::Result<Vec<_>>>()?;
    let enlarger = Enlarger::new(EnlargerOptions::default())?;
    std::fs::create_dir_all(&out)?;
    let turned = |set: fn(&mut Creative, i8)| {
        [-10, -5, 0, 5, 10].map(|value| {
            let mut knobs = Creative::default();
            set(&mut knobs, value);
            knobs
        })
    };
    let engines = [Engine::Automatic, Engine::MagnificIllusio, Engine::MagnificSparkle, Engine::MagnificSharpy];
    let sheets = [
        ("creativity", turned(|k, v| k.creativity = v).to_vec()),
        ("hdr", turned(|k, v| k.hdr = v).to_vec()),
        ("resemblance", turned(|k, v| k.resemblance = v).to_vec()),
        ("fractality", turned(|k, v| k.fractality = v).to_vec()),
        ("engines", engines.map(|engine| Creative { engine, ..Creative::default() }).to_vec()),
    ];
    for (name, columns) in sheets {
        let mut sheet = Picture {
            width: SHOWN * columns.len() as u32,
            height: SHOWN * sources.len() as u32,
            channels: Channels::Rgb,
            samples: Samples::U8(vec![0; SHOWN as usize * SHOWN as usize * 3 * columns.len() * sources.len()]),
            metadata: Default::default(),
        };
        for (row, source) in sources.iter().enumerate() {
            for (column, knobs) in columns.iter().enumerate() {
                let look = Look::Creative(knobs.clone());
                let request = Request { size: Size::Factor(4.0), look, ..Request::default() };
                let (result, _) = run(&enlarger, source, &request)?;
                let side = |length: u32| (length - SHOWN) / 2;
                let crop = Crop { x: side(result.width), y: side(result.height), width: SHOWN, height: SHOWN };
                paste(&mut sheet, &cut(&result, crop), column as u32 * SHOWN, row as u32 * SHOWN);
            }
        }
        let options = EncodeOptions { format: Format::Jpeg, quality: Some(85), ..EncodeOptions::default() };
        enlarger_image::encode(&sheet, &options, &mut std::fs::File::create(out.join(format!("{name}.jpg")))?)?;
    }
    Ok(())
}

fn centre(picture: &Picture) -> Picture {
    let (w, h) = (SEEN.min(picture.width), SEEN.min(picture.height));
    cut(picture, Crop { x: (picture.width - w) / 2, y: (picture.height - h) / 2, width: w, height: h })
}

fn paste(sheet: &mut Picture, part: &Picture, x: u32, y: u32) {
    let width = sheet.width as usize * 3;
    let (Samples::U8(to), Samples::U8(from)) = (&mut sheet.samples, &part.samples) else {
        unreachable!("both are 8-bit pictures")
    };
    for (line, row) in from.chunks_exact(part.width as usize * 3).zip(y as usize..) {
        let start = row * width + x as usize * 3;
        to[start..start + line.len()].copy_from_slice(line);
    }
}
