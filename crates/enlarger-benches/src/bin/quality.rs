//! `quality PICTURES [--drawings] [--scale N] [--models A,B,C] [--models-dir DIR] [--damage TEXT] [--out FILE]`: enlarges reduced pictures and compares
//! the results with the originals.
//! Each photo is halved and its centre taken as the truth; with `--drawings` the upper left 640 x 480 pixels are (`benches/drawings.py`). That is reduced
//! N times (antialiased cubic; default 4), damaged, enlarged again by each candidate and compared with the truth. `--models` lists the candidates besides the default: models as for `--model` of the command line, or a quality. `--damage` selects damages whose names contain TEXT; `--models-dir` is the folder of added models.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::{Damage, reduce},
    document::replace_block,
    metric::{Scores, scores},
    photos::{cut, drawn, ground_truth, list, load},
    run::run,
};
use enlarger_image::Picture;
use enlarger_pipeline::{Crop, Enlarger, EnlargerOptions, Quality, Request, Resampling, Size, resize};

struct Arguments {
    pictures: PathBuf,
    drawings: bool,
    scale: u32,
    models: Option<Vec<String>>,
    models_dir: Option<PathBuf>,
    damage: String,
    out: Option<PathBuf>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut args = std::env::args().skip(1);
        let pictures = PathBuf::from(args.next().context("name the folder of pictures")?);
        let mut read = Self {
            pictures,
            drawings: false,
            scale: 4,
            models: None,
            models_dir: None,
            damage: String::new(),
            out: None,
        };
        while let Some(flag) = args.next() {
            if flag == "--drawings" {
                read.drawings = true;
                continue;
            }
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

    /// What the result should be.
    fn truth(&self, path: &Path) -> anyhow::Result<Picture> {
        let picture = load(path)?;
        Ok(if self.drawings { drawn(&picture) } else { ground_truth(&picture, 448, 320) })
    }

    /// What the picture shows, from its name.
    fn kind(&self, path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = name.split('-').next().unwrap_or_default();
        if self.drawings { kind.to_owned() } else { String::new() }
    }

    fn damages(&self) -> Vec<Damage> {
        let all: &[Damage] = if self.drawings { &Damage::OF_DRAWINGS } else { &Damage::ALL };
        all.iter().copied().filter(|damage| damage.name().contains(&self.damage)).collect()
    }
}

/// Scores by kind of picture, damage and candidate.
type Table = BTreeMap<(String, usize, usize), Vec<Scores>>;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let options = EnlargerOptions { models_dir: arguments.models_dir.clone(), ..EnlargerOptions::default() };
    let enlarger = Enlarger::new(options)?;
    let bundled = || enlarger.models().list().into_iter().map(|m| m.name).collect();
    let models = arguments.models.clone().unwrap_or_else(bundled);
    let candidates: Vec<Option<String>> = [None].into_iter().chain(models.into_iter().map(Some)).collect();
    let damages = arguments.damages();

    let mut table = Table::new();
    let mut chosen: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let pictures = list(&arguments.pictures)?;
    for path in &pictures {
        let (whole, kind) = (arguments.truth(path)?, arguments.kind(path));
        let small = reduce(&whole, arguments.scale);
        for (d, damage) in damages.iter().enumerate() {
            let input = damage.apply(&small)?;
            let truth = seen(&whole, *damage, arguments.scale);
            let mut add = |c, scores| table.entry((kind.clone(), d, c)).or_default().push(scores);
            for (c, kernel) in [Resampling::CatmullRom, Resampling::Lanczos3].into_iter().enumerate() {
                let classic = resize(&input, truth.width, truth.height, kernel)?;
                add(c, scores(&truth, &classic)?);
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
                add(c + 2, scores(&truth, &result)?);
            }
        }
        eprintln!("{}", path.display());
    }

    let (count, scale, device) = (pictures.len(), arguments.scale, enlarger.device());
    let names: Vec<String> = ["bicubic", "Lanczos", "**enlarger, default**"].map(str::to_owned).into_iter().collect();
    let names: Vec<String> = names.into_iter().chain(candidates.into_iter().flatten()).collect();
    let text = if arguments.drawings {
        let head = format!("{count} drawings, pages and screens, {scale}x, device {device}. Means of SSIMULACRA2.\n\n");
        head + &by_kind(&table, &damages, &names)?
    } else {
        let head =
            format!("{count} photos, {scale}x, device {device}. Means; SSIMULACRA2 / Butteraugli 3-norm / PSNR.\n\n");
        head + &by_damage(&table, &damages, &names)? + &choices(&chosen, &damages)?
    };
    print!("{text}");
    match arguments.out {
        Some(path) => replace_block(&path, if arguments.drawings { "drawings" } else { "quality" }, &text),
        None => Ok(()),
    }
}

fn mean(all: &[Scores], of: fn(&Scores) -> f64) -> f64 {
    all.iter().map(of).sum::<f64>() / all.len() as f64
}

/// A line for each damage and candidate, with all metrics.
fn by_damage(table: &Table, damages: &[Damage], names: &[String]) -> anyhow::Result<String> {
    let mut text = "| input | candidate | SSIMULACRA2 | Butteraugli | PSNR |\n|---|---|---|---|---|\n".to_owned();
    for ((_, d, c), all) in table {
        let (s, b, p) = (mean(all, |s| s.ssimulacra2), mean(all, |s| s.butteraugli), mean(all, |s| s.psnr));
        writeln!(text, "| {} | {} | {s:.2} | {b:.2} | {p:.2} |", damages[*d].name(), names[*c])?;
    }
    Ok(text)
}

/// A line for each kind and damage with SSIMULACRA2 by all candidates.
fn by_kind(table: &Table, damages: &[Damage], names: &[String]) -> anyhow::Result<String> {
    let mut text = format!("| input | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for ((kind, d, c), all) in table {
        if *c == 0 {
            write!(text, "| {kind}, {}", damages[*d].name())?;
        }
        write!(text, " | {:.1}", mean(all, |s| s.ssimulacra2))?;
        if c + 1 == names.len() {
            text.push_str(" |\n");
        }
    }
    Ok(text)
}

fn choices(chosen: &BTreeMap<(usize, String), usize>, damages: &[Damage]) -> anyhow::Result<String> {
    let mut text = "\nWhat the default chose:\n\n".to_owned();
    for ((d, models), count) in chosen {
        writeln!(text, "- {}: {models} for {count}", damages[*d].name())?;
    }
    Ok(text)
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
