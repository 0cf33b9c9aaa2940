//! What a plan says of a pass that a workflow of another program runs, and how knobs become its numbers.

use enlarger_comfyui::Place;
use serde::{Deserialize, Serialize};

use crate::{
    error::PipelineError,
    extent::Extent,
    request::{Creative, Crop, Generative, Sampler},
};

use super::{
    Prompts, Weights,
    numbers::{self, Dials, FAULTS, FURTHER, STEPS, curve, kept, rounded, words},
    sentence,
};

/// Side of a tile in pixels at a fractality of -10, -5, 0, 5 and 10. SDXL and later models were trained at 1024 pixels.
const TILES: [f32; 5] = [1536.0, 1280.0, 1024.0, 768.0, 512.0];
/// Tiles are multiples of this many pixels: what networks of all families take without padding.
const UNIT: f32 = 64.0;

/// One pass over the whole picture by a workflow of ComfyUI. What it has no place for is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redraw {
    /// The size of the picture.
    pub at: Extent,
    /// The program that runs it.
    pub generator: String,
    /// The workflow's file.
    pub workflow: Weights,
    /// The checkpoint, as the program names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The ControlNet, as the program names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Weight of the ControlNet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// What the result shall show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What it shall not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// The sampler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Steps that are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Denoising strength, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoise: Option<f32>,
    /// Classifier-free guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f32>,
    /// Side of a tile in pixels, a multiple of 64.
    pub tile: u32,
    /// By how many pixels tiles overlap.
    pub overlap: u32,
    /// Seed of the noise, 32 bits.
    pub seed: u64,
    /// Whether tiles are cut out of one canvas of noise; otherwise each has a seed of its own, made from `seed` and its number.
    pub shared_noise: bool,
    /// Whether the canvas continues at its other side.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seamless: bool,
    /// Areas that stay as they are, in pixels of this size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<Crop>,
    /// What asks for the numbers: knobs, preset, engine.
    pub why: String,
}

/// What there is for a request that a workflow draws.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offered {
    pub workflow: Weights,
    /// What it has places for.
    pub places: Vec<Place>,
    pub checkpoint: Option<String>,
    pub control: Option<String>,
    /// Sentences about what is missing.
    pub notes: Vec<String>,
    /// Sentences about settings that have no effect.
    pub idle: Vec<String>,
}

impl Offered {
    /// What draws.
    pub fn sentence(&self) -> String {
        let Self { workflow, checkpoint, control, .. } = self;
        let by = checkpoint.as_ref().map_or_else(String::new, |name| format!(" with {name}"));
        let drawing = format!("ComfyUI draws the detail with the workflow {}{by}", workflow.name);
        sentence(&drawing, control.as_deref())
    }
}

/// Numbers of a request, from which each pass takes its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbers {
    offered: Offered,
    asked: Generative,
    dials: Dials,
    prompt: String,
    negative: String,
    tile: u32,
    seed: u64,
    why: String,
}

/// The numbers of a request's knobs.
///
/// # Errors
/// [`PipelineError::Request`] if a number of the request is out of range.
pub(crate) fn numbers(
    knobs: &Creative,
    asked: &Generative,
    prompts: &Prompts,
    offered: Offered,
    seed: u64,
) -> Result<Numbers, PipelineError> {
    numbers::check(asked, &[])?;
    let dials = Dials::of(knobs, asked);
    let tile = ((curve(TILES, knobs.fractality) / UNIT).round() * UNIT) as u32;
    let added = words(knobs.optimized_for);
    let said = prompts.prompt.trim();
    let prompt = if said.is_empty() { added.to_owned() } else { format!("{said}, {added}") };
    let negative = if asked.negative.is_some() { prompts.negative.clone() } else { FAULTS.to_owned() };
    let why = dials.why(knobs, asked, tile, offered.control.is_some());
    Ok(Numbers { offered, asked: asked.clone(), dials, prompt, negative, tile, seed, why })
}

impl Numbers {
    /// A sentence about the choice.
    pub fn notes(&self) -> Vec<String> {
        vec![self.offered.sentence()]
    }

    /// Sentences about what is missing, and about settings that have no effect.
    pub fn idle(&self) -> Vec<String> {
        let Offered { workflow, places, notes, idle, .. } = &self.offered;
        let mut all = [&notes[..], idle].concat();
        let settings = [
            (Place::Prompt, "prompt"),
            (Place::Negative, "negative prompt"),
            (Place::Denoise, "creativity"),
            (Place::Guidance, "hdr and guidance"),
            (Place::Steps, "steps"),
            (Place::Sampler, "sampler"),
            (Place::Seed, "seed"),
        ];
        let mut idle: Vec<&str> =
            settings.iter().filter(|(place, _)| !places.contains(place)).map(|(_, setting)| *setting).collect();
        let asked = &self.asked;
        for (given, setting) in [
            (asked.checkpoint.is_some() && !places.contains(&Place::Checkpoint), "checkpoint"),
            (asked.vae.is_some(), "VAE"),
            (!asked.loras.is_empty(), "LoRAs"),
            (asked.clip_skip.is_some(), "CLIP skip"),
        ] {
            if given {
                idle.push(setting);
            }
        }
        if !idle.is_empty() {
            let name = &workflow.name;
            all.push(format!(
                "the workflow {name} has no place for these settings, which have no effect: {}",
                idle.join(", ")
            ));
        }
        all
    }

    /// Whether there is guidance; otherwise `hdr` means contrast.
    pub fn guided(&self) -> bool {
        self.offered.places.contains(&Place::Guidance) && self.dials.guidance != 1.0
    }

    pub fn back(&self) -> f32 {
        self.dials.back
    }

    pub fn seamless(&self) -> bool {
        self.asked.seamless
    }

    /// A pass at a size, counted from 0; areas that stay are given in pixels of `source`.
    ///
    /// # Errors
    /// [`PipelineError::Generative`] if there are no such steps.
    pub fn pass(&self, number: u32, source: Extent, at: Extent) -> Result<Redraw, PipelineError> {
        let Self { offered, asked, dials, .. } = self;
        let there = |place: Place| offered.places.contains(&place);
        let denoise = rounded(dials.denoise * FURTHER.powi(number as i32));
        // As many as the engine here would run; ComfyUI counts those that are run.
        let steps = enlarger_diffusion::sampler::evaluations(asked.steps.unwrap_or(STEPS) as usize, denoise)?;
        Ok(Redraw {
            at,
            generator: "ComfyUI".into(),
            workflow: offered.workflow.clone(),
            checkpoint: offered.checkpoint.clone(),
            control: offered.control.clone(),
            strength: there(Place::Strength).then_some(dials.weight),
            prompt: there(Place::Prompt).then(|| self.prompt.clone()),
            negative: there(Place::Negative).then(|| self.negative.clone()),
            sampler: there(Place::Sampler).then_some(asked.sampler),
            steps: there(Place::Steps).then_some(steps as u32),
            denoise: there(Place::Denoise).then_some(denoise),
            guidance: there(Place::Guidance).then_some(dials.guidance),
            tile: self.tile,
            overlap: self.tile / 4,
            seed: self.seed.wrapping_add(u64::from(number)) & u64::from(u32::MAX),
            shared_noise: there(Place::Canvas) && there(Place::Tile),
            seamless: asked.seamless,
            keep: kept(asked, source, at),
            why: self.why.clone(),
        })
    }
}
