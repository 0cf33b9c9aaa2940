//! `quality PHOTOS [--out FILE]`: enlarges reduced photos 4x and compares the results with the originals.
//!
//! Every photo is halved and its centre taken as the truth; that is reduced 4x (antialiased cubic), damaged, enlarged
//! 4x by each candidate and compared with the truth.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Instant};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::{Damage, reduce},
    document::replace_block,
    metric::{Scores, scores},
    photos::{ground_truth, list, load},
    run::run,
};
use enlarger_image::Picture;
use enlarger_pipeline::{Enlarger, EnlargerOptions, Kernel, Request, Size, resize};

const SCALE: u32 = 4;
const DAMAGES: [Damage; 5] = [Damage::Clean, Damage::Jpeg(90), Damage::Jpeg(75), Damage::Noise(8), Damage::Hard];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().context("name the folder of photos")?);
    let out = match (args.next().as_deref(), args.next()) {
        (None, _) => None,
        (Some("--out"), Some(file)) => Some(PathBuf::from(file)),
        _ => bail!("usage: quality PHOTOS [--out FILE]"),
    };
    let enlarger = Enlarger::new(EnlargerOptions::default())?;
    let mut candidates: Vec<Option<String>> = vec![None];
    candidates.extend(enlarger.models().list().into_iter().map(|m| Some(m.name)));

    let mut table: BTreeMap<(usize, usize), Vec<Scores>> = BTreeMap::new();
    let mut chosen: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let photos = list(&folder)?;
    for path in &photos {
        let truth = ground_truth(&load(path)?, 768, 512);
        let small = reduce(&truth, SCALE);
        for (d, damage) in DAMAGES.into_iter().enumerate() {
            let input = damage.apply(&small)?;
            let cubic = resize(&input, truth.width, truth.height, Kernel::CatmullRom).expect("there is room");
            table.entry((d, 0)).or_default().push(scores(&truth, &cubic)?);
            for (c, model) in candidates.iter().enumerate() {
                let (result, models) = enlarge(&enlarger, &input, SCALE, model.clone())?;
                if model.is_none() {
                    *chosen.entry((d, models)).or_default() += 1;
                }
                table.entry((d, c + 1)).or_default().push(scores(&truth, &result)?);
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
            1 => "**enlarger, default**".to_owned(),
            _ => candidates[c - 1].clone().unwrap_or_default(),
        };
        let mean = |f: fn(&Scores) -> f64| all.iter().map(f).sum::<f64>() / all.len() as f64;
        let (s, b, p) = (mean(|s| s.ssimulacra2), mean(|s| s.butteraugli), mean(|s| s.psnr));
        writeln!(text, "| {} | {name} | {s:.2} | {b:.2} | {p:.2} |", DAMAGES[*d].name())?;
    }
    writeln!(text, "\nWhat the default chose:\n")?;
    for ((d, models), count) in &chosen {
        writeln!(text, "- {}: {models} for {count}", DAMAGES[*d].name())?;
    }
    text.push_str(&twice(&enlarger, &photos)?);
    print!("{text}");
    if let Some(path) = out {
        replace_block(&path, "quality", &text)?;
    }
    Ok(())
}

fn enlarge(
    enlarger: &Enlarger,
    input: &Picture,
    scale: u32,
    model: Option<String>,
) -> anyhow::Result<(Picture, String)> {
    let request = Request { size: Size::Factor(f64::from(scale)), model, ..Request::default() };
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
            [&|| Ok(cubic(&small)), &|| Ok(enlarge(enlarger, &small, 2, model())?.0), &|| {
                Ok(enlarge(enlarger, &reduce(&small, 2), 4, model())?.0)
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
