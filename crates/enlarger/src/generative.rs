//! The generative engine as flags.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{
    Arg, Args, Command,
    builder::{NonEmptyStringValueParser, TypedValueParser},
    error::ErrorKind,
};
use enlarger_pipeline::{Crop, Generative, Lora, RemoteGenerator, Sampler, Style};

use crate::{dirs, machine::whole, printer::Hinted, style::choice};

/// Any of these chooses the engine.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Generative engine: draws new detail with a Stable Diffusion checkpoint (see docs/guides/generative.md)"
)]
pub struct GenerativeArgs {
    /// Use the generative engine, with the only checkpoint that `enlarger models scan` finds; implied by every flag below except --model-dirs.
    #[arg(long)]
    generative: bool,
    /// Draw with a running ComfyUI, using its graphics card and models (see docs/guides/comfyui-generator.md).
    #[arg(long, value_name = "comfyui=URL", value_parser = Remotes, hide_short_help = true)]
    generator: Option<RemoteGenerator>,
    /// Workflow for ComfyUI to run, in its API format [default: a bundled one for SD 1.x, SD 2.x and SDXL].
    #[arg(long, value_name = "FILE", requires = "generator", hide_short_help = true)]
    workflow: Option<PathBuf>,
    /// Checkpoint: a file, a diffusers folder, or a name that `enlarger models scan` lists.
    #[arg(long, value_name = "NAME|FILE", value_parser = NonEmptyStringValueParser::new())]
    checkpoint: Option<String>,
    /// ControlNet that keeps the result close to the source, or `none` [default: a tile ControlNet of the checkpoint's family].
    #[arg(long, value_name = "NAME|FILE", value_parser = NonEmptyStringValueParser::new(), hide_short_help = true)]
    control: Option<String>,
    /// VAE to use instead of the checkpoint's.
    #[arg(long, value_name = "NAME|FILE", value_parser = NonEmptyStringValueParser::new(), hide_short_help = true)]
    vae: Option<String>,
    /// LoRA and its strength, such as more_details:0.5; can be given several times.
    #[arg(long, value_name = "NAME|FILE[:N]", hide_short_help = true)]
    lora: Vec<Lora>,
    /// What the result must not show [default: a list of common faults].
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    negative: Option<String>,
    /// Steps of a full schedule, 1 to 150; creativity decides how many of them run [default: 18, or 8 for LCM].
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=150), allow_negative_numbers = true, hide_short_help = true)]
    steps: Option<u32>,
    /// Sampler [default: dpmpp_2m].
    #[arg(long, value_parser = choice(Sampler::ALL, Sampler::name, Sampler::name, Sampler::what), hide_short_help = true)]
    sampler: Option<Sampler>,
    /// Classifier-free guidance, 1 to 30, instead of --hdr; 1 for distilled checkpoints.
    #[arg(long, value_name = "N", value_parser = guidance, allow_negative_numbers = true, hide_short_help = true)]
    guidance: Option<f32>,
    /// Layers of the text encoder to skip, counted as A1111 does: 1 skips none.
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=12), allow_negative_numbers = true, hide_short_help = true)]
    clip_skip: Option<u32>,
    /// Make a texture that repeats without a seam.
    #[arg(long, hide_short_help = true)]
    seamless: bool,
    /// Area that the engine leaves as it is, such as a face, in pixels of the source; can be given several times.
    #[arg(long, value_name = "X,Y,WIDTH,HEIGHT", hide_short_help = true)]
    keep: Vec<Area>,
    /// Folders to search for models, such as ComfyUI's or A1111's `models` [default: the usual places in the home folder].
    #[arg(long, env = "ENLARGER_MODEL_DIRS", value_name = "DIR", value_delimiter = ',', hide_short_help = true)]
    model_dirs: Vec<PathBuf>,
}

/// Takes `comfyui=http://HOST:PORT`. What is not that is not repeated in the message: it may contain a password.
#[derive(Debug, Clone)]
pub struct Remotes;

impl TypedValueParser for Remotes {
    type Value = RemoteGenerator;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<RemoteGenerator, clap::Error> {
        RemoteGenerator::parse(&value.to_string_lossy(), None).map_err(|why| {
            let flag = arg.map_or_else(String::new, |arg| format!(" for '{arg}'"));
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value{flag}: {why}\n")).with_cmd(command)
        })
    }
}

fn guidance(text: &str) -> Result<f32, String> {
    let guidance = text.parse::<f32>().ok().filter(|guidance| (1.0..=30.0).contains(guidance));
    guidance.ok_or_else(|| "expected a number from 1 to 30".into())
}

/// `X,Y,WIDTH,HEIGHT`.
#[derive(Debug, Clone, Copy)]
struct Area(Crop);

impl FromStr for Area {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Self(Crop { x, y, width, height })),
            _ => Err("expected X,Y,WIDTH,HEIGHT in pixels, such as 120,40,64,64".into()),
        }
    }
}

impl GenerativeArgs {
    /// What a request asks of the engine; nothing without any of the flags.
    ///
    /// # Errors
    /// If flags of the precision style are given, too; it ends the program with code 2.
    pub fn generative(&self, style: &Style) -> anyhow::Result<Option<Generative>> {
        let given = self.generative
            || self.generator.is_some()
            || [&self.checkpoint, &self.control, &self.vae, &self.negative].iter().any(|text| text.is_some())
            || self.steps.is_some()
            || self.sampler.is_some()
            || self.guidance.is_some()
            || self.clip_skip.is_some()
            || self.seamless
            || !self.lora.is_empty()
            || !self.keep.is_empty();
        if !given {
            return Ok(None);
        }
        if matches!(style, Style::Precision(_)) {
            return Err(Hinted::usage(
                "the generative engine (Creative) and flags of the Precision style cannot be combined",
                "leave one of them out; `enlarger upscale --help` lists the flags of each",
            ));
        }
        Ok(Some(Generative {
            checkpoint: self.checkpoint.clone(),
            control: self.control.clone(),
            vae: self.vae.clone(),
            loras: self.lora.clone(),
            negative: self.negative.clone(),
            steps: self.steps,
            sampler: self.sampler.unwrap_or_default(),
            guidance: self.guidance,
            clip_skip: self.clip_skip,
            seamless: self.seamless,
            keep: self.keep.iter().map(|area| area.0).collect(),
        }))
    }

    /// The program that draws instead of this one.
    pub fn remote(&self) -> Option<RemoteGenerator> {
        self.generator.clone().map(|remote| RemoteGenerator { workflow: self.workflow.clone(), ..remote })
    }

    /// Folders to search. A checkpoint that is named by its path may have what goes with it in the folders beside its own, as ComfyUI
    /// and A1111 keep it.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = if self.model_dirs.is_empty() { dirs::model_dirs() } else { self.model_dirs.clone() };
        let path = self.checkpoint.as_ref().and_then(|path| Path::new(path).canonicalize().ok());
        let of_checkpoints = |folder: &&Path| folder.ends_with("checkpoints") || folder.ends_with("Stable-diffusion");
        let folder = path.as_deref().and_then(Path::parent).filter(of_checkpoints).and_then(Path::parent);
        folders.extend(folder.map(Path::to_owned));
        folders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_have_four_numbers_and_a_size() {
        let area = |text: &str| text.parse::<Area>().map(|area| area.0).ok();
        assert_eq!(area("1, 2,30,40"), Some(Crop { x: 1, y: 2, width: 30, height: 40 }));
        for wrong in ["1,2,0,4", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,2,2", ""] {
            assert_eq!(area(wrong), None, "{wrong}");
        }
    }
}
