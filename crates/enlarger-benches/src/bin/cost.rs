//! `cost PICTURE [--out FILE]`: what each knob, engine and preset costs, in multiples of a job with one photo network at the same factor. Measures CPU time, the minimum of several rounds, so that other programs on the machine hardly matter.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context, bail};
use enlarger_benches::{
    damage::Damage,
    document::replace_block,
    photos::{cut, load},
    run::run,
};
use enlarger_image::Picture;
use enlarger_pipeline::{
    Creative, Crop, Engine, Enlarger, EnlargerOptions, OptimizedFor, Precision, Request, Size, Style,
};

/// Side of the picture's centre that is enlarged, in pixels.
const SIDE: u32 = 48;
/// The network whose single pass is the unit.
const UNIT: &str = "realsr-df2k";
const FACTORS: [f64; 2] = [2.0, 4.0];
const ROUNDS: usize = 2;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let picture = load(&PathBuf::from(args.next().context("name a picture")?))?;
    let out = match (args.next().as_deref(), args.next()) {
        (None, _) => None,
        (Some("--out"), Some(file)) => Some(PathBuf::from(file)),
        _ => bail!("usage: cost PICTURE [--out FILE]"),
    };
    let (w, h) = (SIDE.min(picture.width), SIDE.min(picture.height));
    let crop = Crop { x: (picture.width - w) / 2, y: (picture.height - h) / 2, width: w, height: h };
    let clean = cut(&picture, crop);
    let damaged = Damage::Jpeg(50).apply(&clean)?;
    let enlarger = Enlarger::new(EnlargerOptions::default())?;

    let mut text =
        String::from("| look | clean, 2x | clean, 4x | JPEG 50, 2x | JPEG 50, 4x |\n|---|---|---|---|---|\n");
    let time = |input: &Picture, factor, style: &Style, model: Option<&str>| {
        let (size, model) = (Size::Factor(factor), model.map(Into::into));
        least_time(&enlarger, input, &Request { size, style: style.clone(), model, ..Request::default() })
    };
    let mut units = Vec::new();
    for factor in FACTORS {
        units.push(time(&clean, factor, &Style::default(), Some(UNIT))?);
    }
    for (name, style) in styles() {
        write!(text, "| {name} |")?;
        for input in [&clean, &damaged] {
            for (factor, unit) in FACTORS.into_iter().zip(&units) {
                write!(text, " {:.2} |", time(input, factor, &style, None)? / unit)?;
            }
        }
        writeln!(text)?;
        eprintln!("{}", text.lines().last().unwrap_or_default());
    }
    print!("{text}");
    if let Some(path) = out {
        replace_block(&path, "cost", &text)?;
    }
    Ok(())
}

/// Sets a knob.
type Turn = fn(&mut Creative, i8);

/// The default, each knob at its ends, each engine and preset.
fn styles() -> Vec<(String, Style)> {
    let creative = |name: String, set: &dyn Fn(&mut Creative)| {
        let mut knobs = Creative::default();
        set(&mut knobs);
        (name, Style::Creative(knobs))
    };
    let mut styles = vec![creative("default".into(), &|_| {})];
    let knobs: [(&str, Turn); 4] = [
        ("creativity", |k, v| k.creativity = v),
        ("hdr", |k, v| k.hdr = v),
        ("resemblance", |k, v| k.resemblance = v),
        ("fractality", |k, v| k.fractality = v),
    ];
    for (name, set) in knobs {
        styles.extend([-10, 10].map(|value| creative(format!("{name} {value}"), &|k| set(k, value))));
    }
    let engines = Engine::ALL.iter().filter(|engine| **engine != Engine::Automatic);
    styles.extend(engines.map(|engine| creative(format!("engine {}", engine.short()), &|k| k.engine = *engine)));
    let presets = OptimizedFor::ALL.iter().filter(|preset| **preset != OptimizedFor::Standard);
    styles.extend(presets.map(|preset| creative(preset.name().into(), &|k| k.optimized_for = *preset)));
    styles.push(("precision, defaults".into(), Style::Precision(Precision::default())));
    let most = Precision { sharpen: 100, smart_grain: 100, ultra_detail: 100, flavor: None };
    styles.push(("precision, all at 100".into(), Style::Precision(most)));
    styles
}

/// CPU seconds of all cores, the minimum of several rounds: the first may have to load networks.
fn least_time(enlarger: &Enlarger, input: &Picture, request: &Request) -> anyhow::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let before = processor_seconds()?;
        run(enlarger, input, request)?;
        least = least.min(processor_seconds()? - before);
    }
    Ok(least)
}

/// What this process has used so far, in user and kernel mode (proc(5): fields 14 and 15, in ticks of 10 ms).
fn processor_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("processor time is read from Linux's /proc")?;
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
}
