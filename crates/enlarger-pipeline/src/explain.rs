//! A plan in words.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    extent::Extent,
    generate::{Diffuse, Piece, Redraw, Weights},
    plan::{AlphaWay, Ensemble, Patch, Plan, Step},
    request::Crop,
    statistics::Statistics,
};

/// What a job will cost, before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds when nothing else runs; `None` while another program draws that has not been measured yet.
    pub seconds: Option<f64>,
    /// Peak memory in bytes.
    pub bytes: u64,
    /// Width of the result.
    pub output_width: u32,
    /// Height of the result.
    pub output_height: u32,
}

/// What a job would do, without doing it. As text it has about ten lines.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// What was measured of the picture.
    #[serde(rename = "facts")]
    pub statistics: Statistics,
    /// What would be done to it.
    pub plan: Plan,
    /// What networks would run on: a GPU's name, or the CPU's kernels and arithmetic.
    pub device: String,
    /// What that would cost.
    pub estimate: Estimate,
    /// Sentences about the picture: first frame only, colours converted, and so on.
    pub notes: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statistics, plan, device, estimate, notes } = self;
        writeln!(
            f,
            "detected  {}x{}, {} bits{}: {} (damaged {:.2}, soft {:.2}, drawn {:.2})",
            statistics.width,
            statistics.height,
            statistics.bits,
            statistics.jpeg_quality.map_or(String::new(), |quality| format!(", JPEG {quality}")),
            statistics.words(),
            statistics.damaged,
            statistics.soft,
            statistics.drawn
        )?;
        write!(f, "{plan}")?;
        for note in notes {
            writeln!(f, "note      {note}")?;
        }
        writeln!(f, "device    {device}")?;
        match estimate.seconds {
            Some(seconds) => write!(f, "estimate  about {}", human_seconds(seconds))?,
            None => write!(f, "estimate  time unknown until ComfyUI has drawn a tile")?,
        }
        writeln!(f, ", up to {} of memory", human_bytes(estimate.bytes))
    }
}

/// "512 MB", "1.5 GB", "50 GB": in units of 1024, as settings and other messages count them.
pub fn human_bytes(bytes: u64) -> String {
    let megabytes = bytes >> 20;
    match bytes as f64 / f64::from(1 << 30) {
        _ if megabytes < 1024 => format!("{megabytes} MB"),
        gigabytes if gigabytes < 10.0 => format!("{} GB", (gigabytes * 10.0).round() / 10.0),
        gigabytes => format!("{gigabytes:.0} GB"),
    }
}

/// "0.4 s", "45 s", "3 min 20 s", "2 h 5 min".
pub fn human_seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A line for each step, and for what else there is.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(crop) = self.crop {
            writeln!(f, "crop      {}x{} at {},{}", crop.width, crop.height, crop.x, crop.y)?;
        }
        if self.smoothed > 0 {
            let times = if self.smoothed == 1 { "once".to_owned() } else { format!("{} times", self.smoothed) };
            writeln!(f, "smooth    by the weights 1, 2, 1, {times}")?;
        }
        if let Some(reduced) = self.reduced {
            writeln!(f, "reduce    to {reduced}")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:8}  {step}", format!("step {}", index + 1))?;
        }
        match &self.alpha {
            AlphaWay::Opaque => {}
            AlphaWay::Network(model) => writeln!(f, "alpha     model {model}, in each pass")?,
            AlphaWay::Whole => writeln!(f, "alpha     with the colors, by whole pixels")?,
            AlphaWay::Cubic => writeln!(f, "alpha     cubic filter, in each pass")?,
        }
        for note in self.notes.iter().chain(&self.idle) {
            writeln!(f, "note      {note}")?;
        }
        writeln!(f, "result    {}, {} bits, seed {}", self.result, self.bits, self.seed)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mix {
            Some(mix) => write!(f, "{}, with {} of {}", self.model, mix.share, mix.model),
            None => f.write_str(&self.model),
        }
    }
}

/// One line: files, numbers, texts, and what asks for them.
impl fmt::Display for Diffuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |weights: &Weights| format!("{} ({})", weights.name, weights.sha256.get(..10).unwrap_or_default());
        let text = |pieces: &[Piece]| {
            let piece = |piece: &Piece| match (&piece.text, piece.weight) {
                (None, _) => " BREAK ".to_owned(),
                (Some(text), 1.0) => text.clone(),
                (Some(text), weight) => format!("({text}:{weight})"),
            };
            pieces.iter().map(piece).collect::<String>()
        };
        write!(
            f,
            "generate by {} at {}, {} steps of {}",
            file(&self.checkpoint),
            self.at,
            self.steps(),
            self.sampler.name()
        )?;
        write!(f, ", guidance {}, tiles of {} px, seed {}", self.guidance, 8 * self.tile, self.seed)?;
        if self.clip_skip > 1 {
            write!(f, ", clip skip {}", self.clip_skip)?;
        }
        if self.seamless {
            write!(f, ", seamless")?;
        }
        for Crop { x, y, width, height } in &self.keep {
            write!(f, "; keeps {width}x{height} at {x},{y}")?;
        }
        if let (Some(control), Some(most)) = (&self.control, self.control_scales.last()) {
            write!(f, "; ControlNet {}: {most} to {}", file(control), self.control_scales[0])?;
        }
        if let Some(vae) = &self.vae {
            write!(f, "; VAE {}", file(vae))?;
        }
        for lora in &self.loras {
            write!(f, "; LoRA {}: {}", file(&lora.weights), lora.strength)?;
        }
        for embedding in &self.embeddings {
            write!(f, "; embedding {}", file(embedding))?;
        }
        write!(f, "; prompt {:?}, negative {:?} ({})", text(&self.prompt), text(&self.negative), self.why)
    }
}

/// One line: the workflow, what is filled in, and what asks for it.
impl fmt::Display for Redraw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Weights { name, sha256 } = &self.workflow;
        write!(f, "generate by {}, workflow {name} ({})", self.generator, sha256.get(..10).unwrap_or_default())?;
        if let Some(checkpoint) = &self.checkpoint {
            write!(f, " with {checkpoint}")?;
        }
        write!(f, " at {}", self.at)?;
        if let Some(steps) = self.steps {
            write!(f, ", {steps} steps")?;
        }
        if let Some(sampler) = self.sampler {
            write!(f, " of {}", sampler.name())?;
        }
        if let Some(denoise) = self.denoise {
            write!(f, ", denoise {denoise}")?;
        }
        if let Some(guidance) = self.guidance {
            write!(f, ", guidance {guidance}")?;
        }
        let noise = if self.shared_noise { "one canvas of noise" } else { "a seed for each tile" };
        write!(f, ", tiles of {} px, seed {}, {noise}", self.tile, self.seed)?;
        if let Some(control) = &self.control {
            write!(f, "; ControlNet {control}")?;
        }
        if let Some(strength) = self.strength {
            write!(f, ", weight {strength}")?;
        }
        let text = |text: &Option<String>| text.as_ref().map_or("none".into(), |text| format!("{text:?}"));
        write!(f, "; prompt {}, negative {} ({})", text(&self.prompt), text(&self.negative), self.why)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { by, from, halve, patches, .. } => {
                write!(f, "model {by}: {from} to {}", self.ends_at(*from))?;
                if *halve {
                    write!(f, ", then halved")?;
                }
                patches.iter().try_for_each(|Patch { area: Crop { x, y, width, height }, by }| {
                    write!(f, "; {width}x{height} at {x},{y} by {by}")
                })
            }
            Self::Diffuse(pass) => write!(f, "{pass}"),
            Self::Workflow(pass) => write!(f, "{pass}"),
            Self::Resample { to, kernel } => write!(f, "resample to {to} ({kernel:?})"),
            Self::Style { filter, why } => {
                let Ok(Value::Object(fields)) = serde_json::to_value(filter) else {
                    unreachable!("a filter has fields")
                };
                let numbers = fields.iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
                let numbers: Vec<String> =
                    numbers.map(|(name, value)| format!("{name} {}", (value * 1000.0).round() / 1000.0)).collect();
                let name = fields["filter"].as_str().unwrap_or_default();
                let colon = if numbers.is_empty() { "" } else { ": " };
                write!(f, "filter {name}{colon}{} ({why})", numbers.join(", "))
            }
        }
    }
}
