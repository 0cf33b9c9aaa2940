//! `recognition PHOTOS [ART] [--out FILE]`: how often the kind and the condition of pictures are recognised, by kind of damage.
//! Each photo is used twice: the whole, reduced to 720 pixels across, and its centre at half size. Art is used as it is.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::Damage,
    document::replace_block,
    photos::{ground_truth, list, load},
};
use enlarger_image::Picture;
use enlarger_pipeline::{Content, Resampling, Statistics, resize};

fn main() -> anyhow::Result<()> {
    let (mut folders, mut out) = (Vec::new(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--out" => out = Some(PathBuf::from(args.next().context("name a file")?)),
            _ => folders.push(PathBuf::from(arg)),
        }
    }
    let (photos, art) = match &folders[..] {
        [photos] => (photos, None),
        [photos, art] => (photos, Some(art)),
        _ => bail!("usage: recognition PHOTOS [ART] [--out FILE]"),
    };
    let mut text = String::new();
    let mut pictures = Vec::new();
    for path in list(photos)? {
        let photo = load(&path)?;
        let height = (f64::from(photo.height) * 720.0 / f64::from(photo.width)).round() as u32;
        pictures.push((path.clone(), resize(&photo, 720, height, Resampling::Lanczos3)?));
        pictures.push((path, ground_truth(&photo, 640, 640)));
    }
    let damages = Damage::ALL.into_iter().filter(|damage| damage.condition().is_some());
    table(&mut text, "photo", &pictures, damages, Content::Photo)?;
    if let Some(art) = art {
        let mut pictures = Vec::new();
        for path in list(art)? {
            pictures.push((path.clone(), load(&path)?));
        }
        table(&mut text, "art", &pictures, [Damage::Clean, Damage::Jpeg(85), Damage::Jpeg(60)], Content::Art)?;
    }
    print!("{text}");
    match out {
        Some(path) => replace_block(&path, "facts", &text),
        None => Ok(()),
    }
}

fn table(
    text: &mut String,
    what: &str,
    pictures: &[(PathBuf, Picture)],
    damages: impl IntoIterator<Item = Damage>,
    content: Content,
) -> anyhow::Result<()> {
    writeln!(
        text,
        "| {what}, {} images | condition is right | classified as {content:?} |\n|---|---|---|",
        pictures.len()
    )?;
    for damage in damages {
        let (mut right, mut called) = (0, 0);
        for (path, picture) in pictures {
            let statistics = Statistics::of(&damage.apply(picture)?);
            let is_right = damage.condition() == Some(statistics.condition);
            right += usize::from(is_right);
            called += usize::from(statistics.content == content);
            if !is_right || statistics.content != content {
                let Statistics { damaged, soft, drawn, width, .. } = statistics;
                let name = path.file_name().unwrap_or_default().display();
                eprintln!("{}: {name}, {width} wide: damaged {damaged}, soft {soft}, drawn {drawn}", damage.name());
            }
        }
        writeln!(text, "| {} | {right} | {called} |", damage.name())?;
    }
    writeln!(text)?;
    Ok(())
}
