//! `quality PHOTOS [--scale N] [--models A,B,C] [--models-dir DIR] [--damage TEXT] [--out FILE]`: enlarges reduced photos and compares the results
//! with the originals.
//! Each photo is halved and its centre taken as the truth. That is reduced N times (antialiased cubic; default 4), damaged, enlarged again by each candidate and compared with the truth. `--models` lists the candidates besides the default: models as for `--model` of the command line, or a quality. `--damage` selects damages whose names contain TEXT; `--models-dir` is the folder of added models.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::{Damage, reduce},
    document::replace_block,
    metric::{Scores, scores},
    photos::{cut, ground_truth, list, load},
    run::run,
};
use enlarger_image::Picture;
use enlarger_pipeline::{Crop, Enlarger, EnlargerOptions, Quality, Request, Resampling, Size, resize};

struct Arguments {
    photos: PathBuf,
    scale: u32,
    models: Option<Vec<String>>,
    models_dir: Option<PathBuf>,
    damage: String,
    out: Option<PathBuf>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut args = std::env::args().skip(1);
        let photos = PathBuf::from(args.next().context("name the folder of photos")?);
        let mut read = Self { photos, scale: 4, models: None, models_dir: None, damage: String::new(), out: None };
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--scale" => read.scale = value.parse().context("--scale needs a whole number")?,
                "--models" => read.models = Some(value.split(',').map(Into::into).collect()),
                "--models-dir" => read.models_dir = Some(value.into()),
                "--damage" => read.damage = value,
                "--out" => read.out = Some(value.into()),
                _ => bail!("there is no {flag}"),
            }
        }
        Ok(read)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let options = EnlargerOptions { models_dir: arguments.models_dir.clone(), ..EnlargerOptions::default() };
    let enlarger = Enlarger::new(options)?;
    let bundled = || enlarger.models().list().into_iter().map(|m| m.name).collect();
    let models = arguments.models.clone().unwrap_or_else(bundled);
    let candidates: Vec<Option<String>> = [None].into_iter().chain(models.into_iter().map(Some)).collect();
    let damages: Vec<Damage> = Damage::ALL.into_iter().filter(|d| d.name().contains(&arguments.damage)).collect();

    let mut table: BTreeMap<(usize, usize), Vec<Scores>> = BTreeMap::new();
    let mut chosen: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let photos = list(&arguments.photos)?;
    for path in &photos {
        let whole = ground_truth(&load(path)?, 448, 320);
        let small = reduce(&whole, arguments.scale);
        for (d, damage) in damages.iter().enumerate() {
            let input = damage.apply(&small)?;
            let truth = seen(&whole, *damage, arguments.scale);
            for (c, kernel) in [Resampling::CatmullRom, Resampling::Lanczos3].into_iter().enumerate() {
                let classic = resize(&input, truth.width, truth.height, kernel)?;
                table.entry((d, c)).or_default().push(scores(&truth, &classic)?);
            }
            for (c, model) in candidates.iter().enumerate() {
                let (result, models) = enlarge(&enlarger, &input, Size::Width(truth.width), model.clone())?;
                if model.is_none() {
                    *chosen.entry((d, models)).or_default() += 1;
                }
                let result = if result.height == truth.height {
                    result
                } else {
                    resize(&result, truth.width, truth.height, Resampling::CatmullRom)?
                };
                table.entry((d, c + 2)).or_default().push(scores(&truth, &result)?);
            }
        }
        eprintln!("{}", path.display());
    }

    let mut text = String::new();
    let device = enlarger.device();
    writeln!(
        text,
        "{} photos, {}x, device {device}. Means; SSIMULACRA2 / Butteraugli 3-norm / PSNR.\n",
        photos.len(),
        arguments.scale
    )?;
    writeln!(text, "| input | candidate | SSIMULACRA2 | Butteraugli | PSNR |\n|---|---|---|---|---|")?;
    for ((d, c), all) in &table {
        let name = match c {
            0 => "bicubic".to_owned(),
            1 => "Lanczos".to_owned(),
            2 => "**enlarger, default**".to_owned(),
            _ => candidates[c - 2].clone().unwrap_or_default(),
        };
        let mean = |f: fn(&Scores) -> f64| all.iter().map(f).sum::<f64>() / all.len() as f64;
        let (s, b, p) = (mean(|s| s.ssimulacra2), mean(|s| s.butteraugli), mean(|s| s.psnr));
        writeln!(text, "| {} | {name} | {s:.2} | {b:.2} | {p:.2} |", damages[*d].name())?;
    }
    writeln!(text, "\nWhat the default chose:\n")?;
    for ((d, models), count) in &chosen {
        writeln!(text, "- {}: {models} for {count}", damages[*d].name())?;
    }
    print!("{text}");
    match arguments.out {
        Some(path) => replace_block(&path, "quality", &text),
        None => Ok(()),
    }
}

/// The part of the truth that a damage keeps, in the tones that it keeps.
fn seen(truth: &Picture, damage: Damage, scale: u32) -> Picture {
    let (x, y) = damage.cropped();
    let (x, y) = (x * scale, y * scale);
    damage.tone(&cut(truth, Crop { x, y, width: truth.width - x, height: truth.height - y }))
}

fn enlarge(
    enlarger: &Enlarger,
    input: &Picture,
    size: Size,
    model: Option<String>,
) -> anyhow::Result<(Picture, String)> {
    let quality = model.as_deref().and_then(|name| Quality::ALL.iter().find(|quality| quality.name() == name));
    let request = match quality {
        Some(&quality) => Request { size, quality, ..Request::default() },
        None => Request { size, model, ..Request::default() },
    };
    let (picture, outcome) = run(enlarger, input, &request)?;
    Ok((picture, outcome.plan.models().join("+")))
}
