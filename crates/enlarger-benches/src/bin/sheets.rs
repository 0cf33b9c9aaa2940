//! `sheets OUT PICTURE...`: contact sheets of what the knobs do. One row for each picture's centre at 4x, one column for each value of a knob. One JPEG file per knob, and one for the engines.
//!
//! `sheets --presets OUT PICTURE...`: one JPEG file per picture, named after it, with its centre by each preset in three rows, in the
//! order of `enlarger upscale --help`. Pictures of at most 32 pixels are enlarged 16x.

use std::path::{Path, PathBuf};

use anyhow::Context;
use enlarger_benches::{
    photos::{cut, load},
    run::run,
};
use enlarger_image::{Channels, EncodeOptions, Format, Picture, Samples};
use enlarger_pipeline::{Creative, Crop, Engine, Enlarger, EnlargerOptions, OptimizedFor, Request, Size, Style};

/// Pixels of a picture that are enlarged, and of the result that are shown.
const SEEN: u32 = 96;
const SHOWN: u32 = 256;

/// Sides of what is enlarged 16x.
const TINY: u32 = 32;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).peekable();
    let of_presets = args.next_if(|arg| arg == "--presets").is_some();
    let mut paths = args.map(PathBuf::from);
    let out = paths.next().context("name the folder to write to, then pictures")?;
    std::fs::create_dir_all(&out)?;
    let enlarger = Enlarger::new(EnlargerOptions::default())?;
    if of_presets { paths.try_for_each(|path| presets(&enlarger, &out, &path)) } else { knobs(&enlarger, &out, paths) }
}

fn presets(enlarger: &Enlarger, out: &Path, path: &Path) -> anyhow::Result<()> {
    let source = centre(&load(path)?);
    let knobs = OptimizedFor::ALL.iter().map(|&optimized_for| Creative { optimized_for, ..Creative::default() });
    let shown = knobs.map(|knobs| shown(enlarger, &source, knobs)).collect::<anyhow::Result<Vec<_>>>()?;
    let name = path.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
    save(&shown, 3, &out.join(format!("presets-{name}.jpg")))
}

fn knobs(enlarger: &Enlarger, out: &Path, paths: impl Iterator<Item = PathBuf>) -> anyhow::Result<()> {
    let sources = paths.map(|path| Ok(centre(&load(&path)?))).collect::<anyhow::Result<Vec<_>>>()?;
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
        let places = sources.iter().flat_map(|source| columns.iter().map(move |knobs| (source, knobs.clone())));
        let shown = places.map(|(source, knobs)| shown(enlarger, source, knobs)).collect::<anyhow::Result<Vec<_>>>()?;
        save(&shown, columns.len(), &out.join(format!("{name}.jpg")))?;
    }
    Ok(())
}

/// The middle of a picture's result.
fn shown(enlarger: &Enlarger, source: &Picture, knobs: Creative) -> anyhow::Result<Picture> {
    let factor = if source.width.max(source.height) <= TINY { 16.0 } else { 4.0 };
    let request = Request { size: Size::Factor(factor), style: Style::Creative(knobs), ..Request::default() };
    let (result, _) = run(enlarger, source, &request)?;
    let side = |length: u32| (length - SHOWN) / 2;
    let crop = Crop { x: side(result.width), y: side(result.height), width: SHOWN, height: SHOWN };
    Ok(cut(&result, crop))
}

/// Pictures in rows, as one JPEG file.
fn save(pictures: &[Picture], columns: usize, path: &Path) -> anyhow::Result<()> {
    let rows = pictures.len().div_ceil(columns);
    let mut sheet = Picture {
        width: SHOWN * columns as u32,
        height: SHOWN * rows as u32,
        channels: Channels::Rgb,
        samples: Samples::U8(vec![0; SHOWN as usize * SHOWN as usize * 3 * columns * rows]),
        metadata: Default::default(),
    };
    for (i, picture) in pictures.iter().enumerate() {
        paste(&mut sheet, picture, (i % columns) as u32 * SHOWN, (i / columns) as u32 * SHOWN);
    }
    let options = EncodeOptions { format: Format::Jpeg, quality: Some(85), ..EncodeOptions::default() };
    enlarger_image::encode(&sheet, &options, &mut std::fs::File::create(path)?)?;
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
