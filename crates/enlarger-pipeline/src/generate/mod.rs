//! The generative engine: what a plan says of it, and what runs it.
//!
//! A plan holds a [`Diffuse`] for each pass: numbers, texts and the hashes of files. A [`Generator`] says what there is
//! ([`Offering`]) and what a pass costs, and runs it on a canvas of pixels. [`Local`] is the one on this machine, [`Remote`] a running
//! ComfyUI, for whose workflows a plan holds a [`Redraw`].

#[cfg(feature = "gpu")]
mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "no_gpu.rs"]
mod gpu;
mod kept;
mod local;
mod numbers;
mod offers;
mod pace;
mod remote;
mod workflow;

use std::ops::ControlFlow;

use enlarger_diffusion::tiles::Pixels;
use enlarger_nn::{Device, RunProgress, Sink, Source};
use serde::{Deserialize, Serialize};

use crate::{
    error::PipelineError,
    extent::Extent,
    request::{Creative, Crop, Generative, Lora, Sampler},
};

pub(crate) use local::Local;
pub(crate) use remote::Remote;
pub use remote::RemoteGenerator;
pub use workflow::Redraw;

use numbers::{Generation, generation};
use workflow::{Numbers, Offered, numbers};

/// Makes detail that was never there: here, or in somebody else's program.
pub(crate) trait Generator: Send + Sync {
    /// What a request names: whether it is there and fits, and what a plan has to know of it. Reads no weights.
    ///
    /// # Errors
    /// A sentence that names what is missing or does not fit, and what would; [`PipelineError::Cancelled`] if `cancelled` says so while
    /// files are read for their hashes, or another program is waited for.
    fn offering(
        &self,
        asked: &Generative,
        prompts: &Prompts,
        patience: Patience,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Offering, PipelineError>;

    /// Kinds and names of what requests may name, where only the generator knows.
    ///
    /// # Errors
    /// If it cannot be asked; [`PipelineError::Cancelled`].
    fn names(&self, _cancelled: &dyn Fn() -> bool) -> Result<Vec<(&'static str, String)>, PipelineError> {
        Ok(Vec::new())
    }

    /// What a pass costs on a device, before anything is loaded.
    ///
    /// # Errors
    /// If a file is gone or has changed.
    fn cost(&self, pass: Pass<'_>, device: &dyn Device) -> Result<Cost, PipelineError>;

    /// Runs a pass, on `device` if that can draw: reads the canvas, and the source, as large; writes all of `to`, which is as large. `tell`
    /// is called at least every second or so, from any thread, and ends the pass if it breaks. Gives sentences about what went wrong and
    /// was mended.
    ///
    /// # Errors
    /// [`PipelineError::Cancelled`] if `tell` breaks; files that changed since the plan; what running raises.
    fn run(
        &self,
        pass: Pass<'_>,
        device: &dyn Device,
        canvas_and_source: [&dyn Source; 2],
        to: &dyn Sink,
        tell: &(dyn Fn(RunProgress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<String>, PipelineError>;

    /// Frees what no job uses; gives its bytes.
    fn give_back(&self) -> u64 {
        0
    }
}

/// How long the answer of another program is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it may take: a job needs it.
    Long,
    /// A moment: a client waits to be told that its request is accepted. What the program said before counts, too.
    Short,
}

/// Texts of a request, without the tags of LoRAs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Prompts {
    pub prompt: String,
    pub negative: String,
    pub loras: Vec<Lora>,
}

/// What a generator has for a request: files for the engine here, or a workflow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Offering {
    Files(Parts),
    Workflow(Offered),
}

impl Offering {
    /// Sentences about what draws.
    pub fn sentences(&self) -> Vec<String> {
        match self {
            Self::Files(parts) => [vec![parts.sentence()], parts.notes.clone()].concat(),
            Self::Workflow(offered) => [vec![offered.sentence()], offered.notes.clone()].concat(),
        }
    }
}

/// Files for the engine on this machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parts {
    pub checkpoint: Weights,
    pub vae: Option<Weights>,
    pub control: Option<Weights>,
    /// How many residuals a ControlNet of the family has.
    pub residuals: usize,
    pub loras: Vec<Merged>,
    pub embeddings: Vec<Weights>,
    /// Tile sides in latents at a fractality of -10, -5, 0, 5 and 10.
    pub tiles: [f32; 5],
    /// Sentences about what is missing.
    pub notes: Vec<String>,
}

impl Parts {
    /// What draws.
    pub fn sentence(&self) -> String {
        let drawing = format!("{} draws the detail", self.checkpoint.name);
        sentence(&drawing, self.control.as_ref().map(|control| &*control.name))
    }
}

/// What draws, and what keeps it close to the source, as a sentence.
fn sentence(drawing: &str, control: Option<&str>) -> String {
    let held = control.map_or_else(String::new, |control| format!(", kept close to the source by {control}"));
    format!("{drawing}{held}")
}

/// What a pass costs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Seconds when nothing else runs; `None` while nothing was measured.
    pub seconds: Option<f64>,
    /// Peak memory in bytes, besides that of pictures.
    pub bytes: u64,
    /// Bytes of these that are in memory already, or of others that are freed first.
    pub held: u64,
    /// Why it would not run on the device, as a sentence.
    pub note: Option<String>,
}

/// A file of weights, as a plan names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    /// The file's name.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// A LoRA, and how strongly it is added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// The file.
    #[serde(flatten)]
    pub weights: Weights,
    /// 1 is as trained.
    pub strength: f32,
}

/// A part of a prompt with its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// The words; `None` ends a chunk (`BREAK`).
    pub text: Option<String>,
    /// 1 is as written.
    pub weight: f32,
}

/// One pass of the generative engine over the whole picture, as numbers. Arrays of numbers are as long as there are steps, unless
/// said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diffuse {
    /// The size of the picture.
    pub at: Extent,
    /// The checkpoint.
    pub checkpoint: Weights,
    /// A VAE instead of the checkpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<Weights>,
    /// The ControlNet that follows the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Weights>,
    /// A weight for each of its residuals, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control_scales: Vec<f32>,
    /// LoRAs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Merged>,
    /// Embeddings that the prompts name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Weights>,
    /// What the result shall show.
    pub prompt: Vec<Piece>,
    /// What it shall not show.
    pub negative: Vec<Piece>,
    /// As A1111 counts it; 1 leaves no layer out.
    pub clip_skip: u32,
    /// The sampler.
    pub sampler: Sampler,
    /// Noise before each step, and one more: what stays at the end.
    pub sigmas: Vec<f32>,
    /// The time that the network is told at each step.
    pub times: Vec<f32>,
    /// Classifier-free guidance; at 1 the negative prompt is not asked.
    pub guidance: f32,
    /// Side of a tile in latents, of 8 pixels each.
    pub tile: u32,
    /// By how many latents tiles overlap.
    pub overlap: u32,
    /// By how much the grid of tiles moves at each step, across and down, in latents.
    pub shifts: Vec<[u32; 2]>,
    /// Seed of the noise, of which the lower 32 bits count, as in torch.
    pub seed: u64,
    /// Whether the canvas continues at its other side.
    #[serde(default, skip_serializing_if = "crate::omit::is_default")]
    pub seamless: bool,
    /// Areas that stay as they are, in pixels of this size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<Crop>,
    /// What asks for the numbers: knobs, preset, engine.
    pub why: String,
}

/// One pass as a plan has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pass<'a> {
    /// By files, here.
    Diffuse(&'a Diffuse),
    /// By a workflow, elsewhere.
    Workflow(&'a Redraw),
}

impl<'a> Pass<'a> {
    /// The size of the picture.
    pub fn at(self) -> Extent {
        match self {
            Self::Diffuse(pass) => pass.at,
            Self::Workflow(pass) => pass.at,
        }
    }

    /// Whether the canvas continues at its other side.
    pub fn seamless(self) -> bool {
        match self {
            Self::Diffuse(pass) => pass.seamless,
            Self::Workflow(pass) => pass.seamless,
        }
    }

    /// Areas that stay as they are, in pixels of its size.
    pub fn keep(self) -> &'a [Crop] {
        match self {
            Self::Diffuse(pass) => &pass.keep,
            Self::Workflow(pass) => &pass.keep,
        }
    }

    /// What draws: the checkpoint, or the workflow where that is not known.
    pub fn by(&self) -> &str {
        match self {
            Self::Diffuse(pass) => &pass.checkpoint.name,
            Self::Workflow(pass) => pass.checkpoint.as_ref().unwrap_or(&pass.workflow.name),
        }
    }
}

/// The passes of a request, as numbers from which each takes its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Passes {
    Files(Generation),
    Workflow(Numbers),
}

impl Passes {
    /// The numbers of a request's knobs.
    ///
    /// # Errors
    /// [`PipelineError::Request`] if a number of the request is out of range, or the prompt is too long.
    pub fn of(
        knobs: &Creative,
        asked: &Generative,
        prompts: &Prompts,
        offering: Offering,
        seed: u64,
    ) -> Result<Self, PipelineError> {
        Ok(match offering {
            Offering::Files(parts) => Self::Files(generation(knobs, asked, prompts, parts, seed)?),
            Offering::Workflow(offered) => Self::Workflow(numbers(knobs, asked, prompts, offered, seed)?),
        })
    }

    /// Sentences about the choice of files or of the workflow.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Files(of) => of.notes(),
            Self::Workflow(of) => of.notes(),
        }
    }

    /// Sentences about what is missing, and about settings that have no effect.
    pub fn idle(&self) -> Vec<String> {
        match self {
            Self::Files(of) => of.idle(),
            Self::Workflow(of) => of.idle(),
        }
    }

    /// Whether guidance has an effect.
    pub fn guided(&self) -> bool {
        match self {
            Self::Files(of) => of.guidance != 1.0,
            Self::Workflow(of) => of.guided(),
        }
    }

    /// Share of what the result lacks of the source that is brought back after the last pass.
    pub fn back(&self) -> f32 {
        match self {
            Self::Files(of) => of.back,
            Self::Workflow(of) => of.back(),
        }
    }

    /// The sizes at which passes end: each twice as large, and the result.
    pub fn sizes(source: Extent, result: Extent) -> Vec<Extent> {
        Generation::sizes(source, result)
    }

    /// Where the canvas of a pass lies: one that wraps consists of whole latents.
    pub fn canvas(&self, at: Extent) -> Extent {
        let seamless = match self {
            Self::Files(of) => of.seamless(),
            Self::Workflow(of) => of.seamless(),
        };
        let whole = |side: u32| side.div_ceil(8) * 8;
        if seamless { Extent { width: whole(at.width), height: whole(at.height) } } else { at }
    }
}

/// A picture as tiles read it.
struct Seen<'a>(&'a dyn Source);

impl Pixels for Seen<'_> {
    fn read(&self, x: usize, y: usize, width: usize, height: usize, to: &mut [f32]) {
        self.0.read(x as u32, y as u32, width as u32, height as u32, to);
    }
}

impl Diffuse {
    /// How often the network is asked about each tile, negative prompt apart.
    pub fn steps(&self) -> usize {
        self.times.len()
    }
}

/// Takes `<lora:NAME:0.5>` out of a prompt: A1111's notation.
///
/// # Errors
/// [`PipelineError::Request`] if a strength is not a number.
pub(crate) fn without_tags(prompt: &str) -> Result<(String, Vec<Lora>), PipelineError> {
    let (mut text, mut loras) = (String::new(), Vec::new());
    let mut rest = prompt;
    while let Some((before, tag)) = rest.split_once("<lora:") {
        let Some((tag, after)) = tag.split_once('>') else { break };
        let (name, strength) = tag.split_once(':').unwrap_or((tag, "1"));
        // A second strength, of the text encoder, counts as the first.
        let strength = strength.split(':').next().unwrap_or_default().trim();
        let number = strength.parse().ok().filter(|number: &f32| number.is_finite());
        let strength = number.ok_or_else(|| PipelineError::Request {
            what: format!(
                "the prompt gives the LoRA {:?} a strength of {strength:?}, which is not a number",
                name.trim()
            ),
            hint: "write it as <lora:NAME:0.5>".into(),
        })?;
        text.push_str(before);
        loras.push(Lora { name: name.trim().to_owned(), strength });
        rest = after;
    }
    text.push_str(rest);
    Ok((text, loras))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_loras_are_no_part_of_the_prompt() {
        let lora = |name: &str, strength| Lora { name: name.into(), strength };
        let read = |prompt| without_tags(prompt).expect("numbers");
        assert_eq!(
            read("a wall, <lora:more_details:0.5>moss"),
            ("a wall, moss".into(), vec![lora("more_details", 0.5)])
        );
        assert_eq!(read("<lora:a> <lora:b:-0.3:1>"), (" ".into(), vec![lora("a", 1.0), lora("b", -0.3)]));
        assert_eq!(read("a <lora:b"), ("a <lora:b".into(), vec![]));
        assert_eq!(read(" y < z"), (" y < z".into(), vec![]));
        for wrong in ["<lora:b:x>", "<lora:b:nan>", "<lora:b:inf>", "<lora:b:>"] {
            let error = without_tags(wrong).expect_err(wrong).to_string();
            assert!(error.starts_with("the prompt gives the LoRA \"b\" a strength of"), "{error}");
        }
    }
}
