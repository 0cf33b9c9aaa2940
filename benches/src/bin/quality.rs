//! `quality PHOTOS [--models A,B,C] [--damage TEXT] [--out FILE]`: enlarges reduced photos 4x and compares the results with the
//! originals.
//!
//! Every photo is halved and its centre taken as the truth; that is reduced 4x (antialiased cubic), damaged, enlarged
//! 4x by each candidate and compared with the truth. `--models` names the candidates beside the default, as `--model`
//! of the command line does; `--damage` takes only damages whose names have this text.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Instant};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::{Damage, reduce},
    document::replace_block,
    metric::{Scores, scores},
    photos::{cut, ground_truth, list, load},
    run::run,
};
use enlarger_image::Picture;
use enlarger_pipeline::{Crop, Enlarger, EnlargerOptions, Kernel, Request, Size, resize};

const SCALE: u32 = 4;

struct Arguments {
    photos: PathBuf,
    models: Option<Vec<String>>,
    damage: String,
    out: Option<PathBuf>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut args = std::env::args().skip(1);
        let photos = PathBuf::from(args.next().context("name the folder of photos")?);
        let mut read = Self { photos, models: None, damage: String::new(), out: None };
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--models" => read.models = Some(value.split(',').map(Into::into).collect()),
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
    let enlarger = Enlarger::new(EnlargerOptions::default())?;
    let bundled = || enlarger.models().list().into_iter().map(|m| m.name).collect();
    let models = arguments.models.unwrap_or_else(bundled);
    let candidates: Vec<Option<String>> = [None].into_iter().chain(models.into_iter().map(Some)).collect();
    let damages: Vec<Damage> = Damage::ALL.into_iter().filter(|d| d.name().contains(&arguments.damage)).collect();

    let mut table: BTreeMap<(usize, usize), Vec<Scores>> = BTreeMap::new();
    let mut chosen: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let photos = list(&arguments.photos)?;
    for path in &photos {
        let whole = ground_truth(&load(path)?, 768, 512);
        let small = reduce(&whole, SCALE);
        for (d, damage) in damages.iter().enumerate() {
            let input = damage.apply(&small)?;
            let truth = seen(&whole, *damage);
            for (c, kernel) in [Kernel::CatmullRom, Kernel::Lanczos3].into_iter().enumerate() {
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
                    resize(&result, truth.width, truth.height, Kernel::CatmullRom)?
                };
                table.entry((d, c + 2)).or_default().push(scores(&truth, &result)?);
            }
        }
        eprintln!("{}", path.display());
    }

    let mut text = String::new();
    let backend = enlarger.backend();
    writeln!(
        text,
        "{} photos, {SCALE}x, backend {backend}. Means; SSIMULACRA2 / Butteraugli 3-norm / PSNR.\n",
        photos.len()
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
    if arguments.damage.is_empty() {
        text.push_str(&twice(&enlarger, &photos)?);
    }
    print!("{text}");
    match arguments.out {
        Some(path) => replace_block(&path, "quality", &text),
        None => Ok(()),
    }
}

/// The part of the truth that a damage leaves, in the tones that it leaves.
fn seen(truth: &Picture, damage: Damage) -> Picture {
    let (x, y) = damage.cropped();
    let (x, y) = (x * SCALE, y * SCALE);
    damage.tone(&cut(truth, Crop { x, y, width: truth.width - x, height: truth.height - y }))
}

fn enlarge(
    enlarger: &Enlarger,
    input: &Picture,
    size: Size,
    model: Option<String>,
) -> anyhow::Result<(Picture, String)> {
    let request = Request { size, model, ..Request::default() };
    let (picture, outcome) = run(enlarger, input, &request)?;
    Ok((picture, outcome.plan.models().join("+")))
}

/// The two ways to 2x with a 4x network, on clean photos: its result halved, or the picture halved before it.
fn twice(enlarger: &Enlarger, photos: &[PathBuf]) -> anyhow::Result<String> {
    let mut all: [Vec<(Scores, f64)>; 3] = Default::default();
    for path in photos {
        let truth = ground_truth(&load(path)?, 768, 512);
        let small = reduce(&truth, 2);
        let cubic = |p: &Picture| resize(p, truth.width, truth.height, Kernel::CatmullRom).expect("there is room");
        let model = || Some("realsr-df2k".to_owned());
        let ways: [&dyn Fn() -> anyhow::Result<Picture>; 3] =
            [&|| Ok(cubic(&small)), &|| Ok(enlarge(enlarger, &small, Size::Factor(2.0), model())?.0), &|| {
                Ok(enlarge(enlarger, &reduce(&small, 2), Size::Factor(4.0), model())?.0)
            }];
        for (way, run) in ways.iter().enumerate() {
            let started = Instant::now();
            let result = run()?;
            all[way].push((scores(&truth, &result)?, started.elapsed().as_secs_f64()));
        }
    }
    let mut text = String::from("\n2x of the clean photos, by realsr-df2k:\n\n");
    writeln!(text, "| way | SSIMULACRA2 | Butteraugli | PSNR | seconds, relative |\n|---|---|---|---|---|")?;
    let seconds = |way: usize| all[way].iter().map(|(_, s)| s).sum::<f64>();
    for (way, name) in ["bicubic", "4x, then halved (what enlarger does)", "halved, then 4x"].into_iter().enumerate() {
        let mean = |f: fn(&Scores) -> f64| all[way].iter().map(|(s, _)| f(s)).sum::<f64>() / all[way].len() as f64;
        let (s, b, p) = (mean(|s| s.ssimulacra2), mean(|s| s.butteraugli), mean(|s| s.psnr));
        writeln!(text, "| {name} | {s:.2} | {b:.2} | {p:.2} | {:.2} |", seconds(way) / seconds(1))?;
    }
    Ok(text)
}
