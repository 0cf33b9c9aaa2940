//! The plan: the steps for a picture, as plain data.

use enlarger_models::{ModelInfo, near};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{InPart, Part, PipelineError},
    extent::Extent,
    generate::{Diffuse, Offering, Pass, Passes, Prompts, Redraw, without_tags},
    request::{Creative, Crop, Engine, Generative, OptimizedFor, Precision, Quality, Request, Size, Style},
    resize::Resampling,
    statistics::{Asked, Condition, Content, PixelArt, Statistics},
    style::{self, Closeness, Filter, Recipe, Seen},
};

mod pixels;

/// The largest factor there is.
pub const MAX_FACTOR: f64 = 16.0;
/// Distance beyond which colour must not drift, in pixels of the source: well above what networks draw, well below what
/// is seen as one surface.
const CORRECTION_RADIUS: f32 = 8.0;
/// The halo of a draft: seams may show where a picture is cut into strips, but only very wide ones are.
const DRAFT_HALO: u32 = 8;
/// The network that enlarges alpha: fast, and crisp on the flat shapes that masks are.
const ALPHA_MODEL: &str = "animevideo-v3";
/// The network that adds least: it draws edges and leaves texture out.
const PLAIN_MODEL: &str = "animevideo-v3";

/// How the alpha channel gets larger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlphaWay {
    /// There is none, or it is opaque everywhere.
    Opaque,
    /// By this network, with untouched areas kept exactly opaque or exactly transparent.
    Network(String),
    /// With the colours, by whole pixels.
    Whole,
    /// With a cubic filter, because that network is missing or has another scale. The plan's notes say so.
    Cubic,
}

/// One thing done to the whole picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// A network enlarges by its own scale.
    Network {
        /// Which.
        #[serde(flatten)]
        by: Ensemble,
        /// The network's scale.
        scale: u32,
        /// The size it starts from.
        from: Extent,
        /// Whether its result is halved at once, part by part, by area averaging.
        halve: bool,
        /// Parts that others enlarge, blended into the rest.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        patches: Vec<Patch>,
    },
    /// The generative engine draws anew at the present size.
    Diffuse(Box<Diffuse>),
    /// A workflow of another program draws anew at the present size.
    Workflow(Box<Redraw>),
    /// A filter at the present size.
    #[serde(rename = "look")]
    Style {
        /// The filter.
        #[serde(flatten)]
        filter: Filter,
        /// What asks for it: knobs, preset, engine.
        why: String,
    },
    /// Classic resampling to a size.
    Resample {
        /// The size after it.
        to: Extent,
        /// The kernel.
        kernel: Resampling,
    },
}

impl Step {
    /// The pass of the generative engine that it is, if it is one.
    pub(crate) fn pass(&self) -> Option<Pass<'_>> {
        match self {
            Self::Diffuse(pass) => Some(Pass::Diffuse(pass)),
            Self::Workflow(pass) => Some(Pass::Workflow(pass)),
            _ => None,
        }
    }

    /// The picture's size after it.
    pub(crate) fn ends_at(&self, before: Extent) -> Extent {
        match self {
            Self::Network { scale, from, halve, .. } => from.times(if *halve { scale / 2 } else { *scale }),
            Self::Resample { to, .. } => *to,
            Self::Style { .. } | Self::Diffuse(_) | Self::Workflow(_) => before,
        }
    }
}

/// What enlarges in one pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    /// The model's name in the catalogue.
    pub model: String,
    /// SHA-256 of its weights, so that a plan names what it ran.
    pub sha256: String,
    /// A second network whose result is mixed in. Costs a pass of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
}

impl Ensemble {
    /// Names of the models.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.model).chain(self.mix.as_ref().map(|mix| &mix.model)).map(String::as_str)
    }
}

/// A part that differs from the rest, and what enlarges it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// Where it lies, in pixels of what the pass starts from.
    pub area: Crop,
    /// By which networks: of the pass's scale, or in a pass that makes 2x of 2x or 4x.
    #[serde(flatten)]
    pub by: Ensemble,
}

/// The mean of two networks' results: `(1 - share)` of the first's and `share` of this one's. Detail that only one of
/// them adds becomes weaker. (Their weights are not mixed: between networks that were not trained one from the other,
/// such as realsr-df2k and x4plus, colours are off by up to 20/255.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The second model's name in the catalogue.
    pub model: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// Its share, 0..=1.
    pub share: f32,
}

/// What will be done. Two equal plans on the same pixels and backend give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Raised when the meaning of a field changes.
    pub version: u32,
    /// The part of the source that is used; `None` is all.
    pub crop: Option<Crop>,
    /// The size that goes in, after the crop.
    pub source: Extent,
    /// How often it is smoothed before all steps, if it is a photo in few colours.
    #[serde(default, skip_serializing_if = "crate::omit::is_default")]
    pub smoothed: u8,
    /// The size that it is reduced to before all steps, if it has no detail beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduced: Option<Extent>,
    /// The size that comes out.
    pub result: Extent,
    /// Bits per sample of the result, 8 or 16.
    pub bits: u8,
    /// How alpha is treated.
    pub alpha: AlphaWay,
    /// Seed of everything random.
    pub seed: u64,
    /// Source pixels that networks see beside a strip of a wide picture; `None` for as many as the network needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halo: Option<u32>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Sentences about the choices made, for users.
    pub notes: Vec<String>,
    /// Sentences that are worth saying once for all images: about settings that have no effect, and what the generative engine lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<String>,
}

impl Plan {
    /// The first 12 hexadecimal digits of the plan's SHA-256.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is plain data");
        Sha256::digest(json).iter().take(6).map(|b| format!("{b:02x}")).collect()
    }

    /// Bits per sample between a step and the next. 8 bits would show as bands in skies once a filter works on them, so
    /// only what is the result, but for filters that keep its depth, has the result's own.
    pub(crate) fn bits_after(&self, step: usize) -> u8 {
        let keeps = |step: &Step| matches!(step, Step::Style { filter, .. } if filter.keeps_depth());
        if self.steps[step + 1..].iter().all(keeps) { self.bits } else { 16 }
    }

    /// Names of the models it needs, each once.
    pub fn models(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for step in &self.steps {
            if let Step::Network { by, patches, .. } = step {
                for name in std::iter::once(by).chain(patches.iter().map(|patch| &patch.by)).flat_map(Ensemble::names) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
        names
    }

    /// The passes of the generative engine.
    pub fn generated(&self) -> impl Iterator<Item = Pass<'_>> {
        self.steps.iter().filter_map(Step::pass)
    }

    /// Whether the picture is a texture that repeats.
    pub(crate) fn wraps(&self) -> bool {
        self.generated().any(Pass::seamless)
    }

    /// Names of the models and of the checkpoint in a row, or what enlarges instead.
    pub fn means(&self, between: &str) -> String {
        let mut models = self.models();
        let drawn = self.generated().next();
        models.extend(drawn.as_ref().map(Pass::by));
        if models.is_empty() { "whole pixels".into() } else { models.join(between) }
    }

    /// The note that is written into the result: "upscaled 4x by enlarger 0.1.0, x4plus, plan 0123456789ab", and the seed of what was
    /// generated.
    pub fn provenance(&self) -> String {
        let factor = f64::from(self.result.width) / f64::from(self.source.width);
        let factor = (factor * 100.0).round() / 100.0;
        let version = env!("CARGO_PKG_VERSION");
        let seed = self.generated().next().map_or_else(String::new, |_| format!(", seed {}", self.seed));
        format!("upscaled {factor}x by enlarger {version}, {}, plan {}{seed}", self.means("+"), self.hash())
    }
}

/// What has to be measured besides the usual statistics.
pub(crate) fn subjects(statistics: &Statistics, request: &Request) -> Asked {
    let asked = style::asked(&with_prompt(request, statistics.content, &mut Vec::new(), &mut Vec::new()));
    let follows = follows(statistics, request);
    // A model that is named gets what there is.
    let pixels = if request.model.is_none() { asked.pixels } else { PixelArt::Unasked };
    Asked { faces: asked.faces || follows, coarse_grain: follows, pixels, ..asked }
}

/// Whether the result follows a damaged photo, and small faces with it.
fn follows(statistics: &Statistics, request: &Request) -> bool {
    matches!(closeness(statistics, request, false), Closeness::Coarse)
}

/// Makes the plan. Pure: the same statistics, request and models give the same plan.
///
/// # Errors
/// [`PipelineError::Request`] if the size is out of range, or a network that is needed is missing; in [`Part::Model`] if one is missing that
/// was named.
pub fn plan(statistics: &Statistics, request: &Request, models: &[ModelInfo]) -> Result<Plan, PipelineError> {
    plan_with(statistics, request, models, None)
}

/// What a request asks of the generative engine: nothing if it leaves that out, wants a draft, or may not add detail.
pub(crate) fn generates(request: &Request) -> Option<(&Creative, &Generative)> {
    match (&request.style, &request.generative) {
        (Style::Creative(knobs), Some(asked)) if request.quality != Quality::Draft && !asked.is_none() => {
            Some((knobs, asked))
        }
        _ => None,
    }
}

/// Areas of the source that stay, as far as they lie in a crop, and where they lie there.
fn kept(areas: &[Crop], statistics: &Statistics, crop: Option<Crop>) -> Result<Vec<Crop>, PipelineError> {
    let whole = Extent { width: statistics.width, height: statistics.height };
    if let Some(Crop { x, y, width, height }) = areas.iter().find(|area| !area.lies_in(whole)) {
        return Err(PipelineError::Request {
            what: format!(
                "the area to keep ({width}x{height} at {x},{y}) does not lie within the {whole} pixels of the source"
            ),
            hint: "an area has a left and top edge, a width and a height, in pixels of the source".into(),
        });
    }
    Ok(areas.iter().filter_map(|area| crop.map_or(Some(*area), |crop| area.within(crop))).collect())
}

/// The texts of a request for the generative engine.
///
/// # Errors
/// [`PipelineError::Request`] if one gives a LoRA a strength that is not a number.
pub(crate) fn prompts(knobs: &Creative, asked: &Generative) -> Result<Prompts, PipelineError> {
    let (prompt, mut loras) = without_tags(knobs.prompt.as_deref().unwrap_or_default()).in_part(Part::Prompt)?;
    let (negative, more) = without_tags(asked.negative.as_deref().unwrap_or_default()).in_part(Part::Negative)?;
    loras.extend(more);
    Ok(Prompts { prompt, negative, loras })
}

/// [`plan()`] with what the generative engine has for the request; it is planned for if the request asks for it.
///
/// # Errors
/// As [`plan()`], and for numbers and texts that the engine does not take.
pub(crate) fn plan_with(
    statistics: &Statistics,
    request: &Request,
    models: &[ModelInfo],
    offering: Option<Offering>,
) -> Result<Plan, PipelineError> {
    let source = cropped(statistics, request.crop)?;
    let result = result_size(source, request.size)?;
    let (mut notes, mut idle) = (Vec::new(), Vec::new());
    let mut style = with_prompt(request, statistics.content, &mut notes, &mut idle);
    let asked = style::asked(&style);
    let seed = request.seed.unwrap_or_else(|| seed_of(statistics, request));
    let generated = match (generates(request), &style, offering) {
        (Some((_, asked)), Style::Creative(knobs), Some(offering)) => {
            let keep = kept(&asked.keep, statistics, request.crop).in_part(Part::Keep)?;
            let asked = &Generative { keep, ..asked.clone() };
            Some(Passes::of(knobs, asked, &prompts(knobs, asked)?, offering, seed)?)
        }
        _ => None,
    };
    if request.generative.as_ref().is_some_and(|asked| !asked.is_none()) && generated.is_none() {
        idle.push(not_generated(request).into());
    }
    if let (Some(name), Quality::Fast) = (&request.model, request.quality) {
        idle.push(format!("fast changes nothing here: {name} was chosen explicitly"));
    }
    if let (Some(generated), Style::Creative(knobs)) = (&generated, &mut style) {
        notes.extend(generated.notes());
        idle.extend(generated.idle());
        step_back(knobs, generated);
    }
    let whole = asked.pixels != PixelArt::Unasked && request.model.is_none() && generated.is_none();
    if let Some(square) = statistics.subject.square.filter(|_| whole) {
        let mut plan = pixels::plan(statistics, request.crop, [source, result], square, seed, notes, idle);
        if asked.pixels == PixelArt::Evident {
            let smooth = match style {
                Style::Creative(_) => "preset art_n_illustration",
                Style::Precision(_) => "flavor sublime",
            };
            plan.notes.push(format!("the {smooth} redraws pixel art smoothly instead"));
        }
        return Ok(plan);
    }
    let faces = style::faces_in(
        &statistics.subject.faces,
        Extent { width: statistics.width, height: statistics.height },
        request.crop,
    );
    if asked.faces {
        notes.push(match faces.len() {
            0 => "found no face; the preset is applied to the whole image".into(),
            1 => "found 1 face; the preset is applied to it".into(),
            count => format!("found {count} faces; the preset is applied to them"),
        });
    }
    let smoothed = if restores(statistics, request) && generated.is_none() { statistics.dithered } else { 0 };
    if smoothed > 0 {
        notes.push("smoothed first: the image is a photo in few colors".into());
    }
    let reduced = reduced(statistics, request, source).filter(|_| generated.is_none());
    if reduced.is_some() {
        notes.push("halved first: the image has no finer detail".into());
    }
    let start = reduced.unwrap_or(source);
    let factor = (result.width as f32 / start.width as f32).max(result.height as f32 / start.height as f32);
    let mut network = choose(statistics, &style, request, factor, models, &mut notes)?;
    if statistics.condition != Condition::Clean && statistics.content == Content::Photo {
        network.reach = if reduced.is_some() { REDUCED_REACH } else { REACH };
    }
    let draft = request.quality == Quality::Draft;
    let far =
        passes(start, result, &network, &[]).iter().filter(|step| matches!(step, Step::Network { .. })).count() > 1;
    let closeness = if generated.is_some() { Closeness::Free } else { closeness(statistics, request, far) };
    let patches = if request.model.is_none() && request.quality == Quality::Best {
        let patches = choose_patches(statistics, &style, &network, factor, models, &mut notes)?;
        let patches = inside(patches, request.crop).into_iter();
        patches.map(|(area, choice)| (area.scaled(source, start), choice)).collect()
    } else {
        Vec::new()
    };
    let cleaned = statistics.condition == Condition::Damaged;
    let drawn = statistics.content == Content::Art;
    let seen = Seen { width: start.width, faces, grain: statistics.subject.grain, cleaned, drawn };
    let recipe = style::recipe(&style, &network.model.name, factor, closeness, &seen);
    let mut steps = match &generated {
        Some(generated) => generated_steps(source, result, &network, &patches, recipe, generated)?,
        None => steps(start, result, &network, &patches, recipe),
    };
    // A model chosen by name may be meant to add colour.
    if statistics.grey && request.model.is_none() {
        steps.push(Step::Style { filter: Filter::Grey, why: "the source has no color".into() });
    }
    let alpha = if statistics.transparent { alpha_way(&steps, models, &mut notes) } else { AlphaWay::Opaque };
    let halo = draft.then_some(DRAFT_HALO);
    let bits = statistics.bits;
    let (version, crop) = (1, request.crop);
    Ok(Plan { version, crop, source, smoothed, reduced, result, bits, alpha, seed, halo, steps, notes, idle })
}

/// What a photo without fine detail is reduced to before it is enlarged. Networks know blur of a pixel or so: of a wider one they make a mask of hard
/// edges, and of its half they draw what they know (docs/reference/quality.md). What a person names does as it does, and a draft is
/// to be quick.
fn reduced(statistics: &Statistics, request: &Request, source: Extent) -> Option<Extent> {
    let half = Extent { width: source.width.div_ceil(2), height: source.height.div_ceil(2) };
    (statistics.oversampled && restores(statistics, request)).then_some(half)
}

/// Whether a picture is prepared for its networks.
fn restores(statistics: &Statistics, request: &Request) -> bool {
    statistics.content == Content::Photo && request.model.is_none() && request.quality != Quality::Draft
}

/// Above this the small errors of JPEG show, and come back with each round.
const HARDLY_DAMAGED: f32 = 0.2;

/// How a result is brought back to a source: where a source is right, the result's texture is kept and its local
/// colour and shading come back (docs/reference/quality.md). What damage there is would come back too, and so would
/// softness. Where it takes more than one pass (`far`), drawn edges are so much finer than the source's pixels that
/// what these lack of them would lie beside them as smudges. What a person names does as it does, and a draft is to be
/// quick.
///
/// Where a photo is damaged only what is coarser than its faults comes back. Of a soft one even what is coarser would come back as halos around edges, and drawings
/// have their coarse faults, such as rings of JPEG, at the edges which they are made of.
fn closeness(statistics: &Statistics, request: &Request, far: bool) -> Closeness {
    if request.model.is_some() || request.quality == Quality::Draft {
        return Closeness::Free;
    }
    match (statistics.condition, statistics.content) {
        (Condition::Damaged, Content::Photo) => Closeness::Coarse,
        (Condition::Soft, _) | (Condition::Damaged, Content::Art) => Closeness::Free,
        (Condition::Clean, Content::Art) if far => Closeness::Colours,
        (Condition::Clean, _) if statistics.damaged >= HARDLY_DAMAGED => Closeness::Pixels(1),
        (Condition::Clean, _) => Closeness::Pixels(2),
    }
}

/// The smallest network of a network's scale.
fn drafting<'a>(model: &'a ModelInfo, models: &'a [ModelInfo]) -> &'a ModelInfo {
    let same = models.iter().filter(|other| other.scale == model.scale);
    same.min_by_key(|other| other.parameters).unwrap_or(model)
}

/// By a network, unless its result cannot meet the colour's grid, halved or not.
fn alpha_way(steps: &[Step], models: &[ModelInfo], notes: &mut Vec<String>) -> AlphaWay {
    let Some(model) = models.iter().find(|m| m.name == ALPHA_MODEL) else {
        notes.push(format!("alpha is resampled with a cubic filter: the model {ALPHA_MODEL} is missing"));
        return AlphaWay::Cubic;
    };
    let fits = |step: &Step| match step {
        Step::Network { scale, .. } => *scale == model.scale || 2 * *scale == model.scale,
        Step::Style { .. } | Step::Resample { .. } | Step::Diffuse(_) | Step::Workflow(_) => true,
    };
    if steps.iter().all(fits) {
        return AlphaWay::Network(ALPHA_MODEL.into());
    }
    notes.push(format!("alpha is resampled with a cubic filter: {ALPHA_MODEL} only does {}x", model.scale));
    AlphaWay::Cubic
}

fn cropped(statistics: &Statistics, crop: Option<Crop>) -> Result<Extent, PipelineError> {
    let whole = Extent { width: statistics.width, height: statistics.height };
    let Some(c) = crop else { return Ok(whole) };
    if c.lies_in(whole) {
        return Ok(c.into());
    }
    Err(PipelineError::Request {
        what: format!(
            "the crop {}x{} at {},{} is outside the image of {}x{} pixels",
            c.width, c.height, c.x, c.y, whole.width, whole.height
        ),
        hint: "choose a crop inside the upright image".into(),
    })
}

/// The result's size, each side rounded to the nearest pixel.
///
/// # Errors
/// If it is smaller than the source or more than 16 times as large.
pub fn result_size(source: Extent, size: Size) -> Result<Extent, PipelineError> {
    let factor = size.factor(source.width, source.height);
    if !(1.0..=MAX_FACTOR).contains(&factor) {
        return Err(PipelineError::Request {
            what: format!("that would be {factor:.3}x; the scale must be between 1x and 16x"),
            hint: "choose a size between the image's own and 16 times that".into(),
        });
    }
    Ok(size.result(source.width, source.height))
}

/// A prompt guides the generative engine alone. It may choose a preset if none was named; the plan says so.
fn with_prompt(request: &Request, content: Content, notes: &mut Vec<String>, idle: &mut Vec<String>) -> Style {
    let mut style = request.style.clone();
    let generates = generates(request).is_some();
    if let Style::Creative(knobs) = &mut style
        && let Some(prompt) = knobs.prompt.as_deref().filter(|p| !p.trim().is_empty())
    {
        let preset = style::preset_of(prompt, content).filter(|_| knobs.optimized_for == OptimizedFor::Standard);
        if let Some((preset, word)) = preset {
            let chose = format!("{word:?} chose {}", preset.name());
            match generates {
                true => notes.push(format!("the prompt guides the result; its word {chose}")),
                false => idle.push(format!("without {ENGINE}, the prompt only chooses a preset: {chose} ({GUIDE})")),
            }
            knobs.optimized_for = preset;
        } else if !generates {
            idle.push(format!("without {ENGINE}, the prompt has no effect ({GUIDE})"));
        }
    }
    style
}

const ENGINE: &str = "the generative engine";
const GUIDE: &str = "see docs/guides/generative.md";

/// Why the generative engine is left out of a plan.
fn not_generated(request: &Request) -> &'static str {
    match (&request.style, request.quality) {
        (Style::Precision(_), _) => "the generative engine is not used: the precision style adds no detail",
        (_, Quality::Draft) => "draft: the generative engine is not used",
        _ => "the generative engine is not available",
    }
}

/// Filters and networks that imitate what a knob means to the generative engine step back: one knob, one meaning. Where there is no
/// guidance, hdr still means contrast.
fn step_back(knobs: &mut Creative, generated: &Passes) {
    knobs.creativity = 0;
    knobs.resemblance = 0;
    knobs.fractality = 0;
    if generated.guided() {
        knobs.hdr = 0;
    }
}

/// What enlarges.
#[derive(Clone)]
struct Choice<'a> {
    /// Cleans the source first.
    restore: Option<&'a ModelInfo>,
    model: &'a ModelInfo,
    mix: Option<Mix>,
    /// Makes the passes after the first.
    again: Option<&'a ModelInfo>,
    /// How far the last pass may stay below the result's size, for resampling to do the rest.
    reach: f32,
}

/// A damaged or soft photo has no detail as fine as its pixels, so resampling loses nothing of it, while a second pass draws what errors
/// the first has left: of 15 photos as JPEG 50, reduced to 0.8 and enlarged 5x, SSIMULACRA2 was -5.4 with two passes and is 1.7 with one
/// (docs/reference/quality.md).
const REACH: f32 = 1.5;

/// Of one that was reduced, a second pass draws doll's eyes from what the first made up: one pass and resampling look more natural.
const REDUCED_REACH: f32 = 2.0;

impl<'a> Choice<'a> {
    /// One network alone.
    fn of(model: &'a ModelInfo) -> Self {
        Self { restore: None, model, mix: None, again: None, reach: 1.0 }
    }

    /// What makes the result.
    fn ensemble(&self) -> Ensemble {
        Ensemble { model: self.model.name.clone(), sha256: self.model.sha256.clone(), mix: self.mix.clone() }
    }
}

/// Of clean photographs that the classifier saw, few have more damage than the first, and most as JPEG 92 have more than the second:
/// the nearer to it, the more of the plain network, which leaves out what a large one would draw of small errors. At 0.7 of it JPEG 92
/// comes closer to the truth than by any one network (docs/reference/quality.md).
fn wary(mut choice: Choice<'_>, damaged: f32) -> Choice<'_> {
    const FROM: f32 = 0.05;
    const TO: f32 = 0.15;
    const MOST: f32 = 0.7;
    if let Some(mix) = choice.mix.as_mut().filter(|mix| mix.model == PLAIN_MODEL && mix.share < MOST) {
        let share = mix.share + (MOST - mix.share) * ((damaged - FROM) / (TO - FROM)).clamp(0.0, 1.0);
        mix.share = (100.0 * share).round() / 100.0;
    }
    choice
}

/// The plain network's share where a photo has coarse grain, which it takes for strokes: 15 sepia photos with grain of 9/255, 4x, have an
/// SSIMULACRA2 of -25.8 with its usual share of 0.3 and of -16.1 with this one (docs/reference/quality.md).
const COARSE_SHARE: f32 = 0.05;

/// The plain network's least share where a photo is slightly damaged: 19 photos as JPEG 92 have an SSIMULACRA2 of 36.4 so, 35.2 with 0.3 of
/// it, and 36.2 by the network for clean ones with 0.7 of it (docs/reference/quality.md).
const SLIGHT_SHARE: f32 = 0.5;

/// Less added detail: more of the plain network, blended with the cleaner of two. What only one of two networks draws
/// becomes weaker in their mean, and edges stay sharp; a blur would remove those first. A network without a plain one
/// of its scale stays alone.
fn restrained<'a>(choice: Choice<'a>, style: &Style, models: &'a [ModelInfo]) -> Choice<'a> {
    const MOST: f32 = 0.9;
    let Style::Creative(Creative { creativity: knob @ ..0, .. }) = style else { return choice };
    let less = f32::from((*knob).max(-10)) / -10.0;
    let (model, share) = match &choice.mix {
        Some(mix) if mix.model == PLAIN_MODEL => (choice.model, mix.share),
        Some(mix) => (models.iter().find(|m| m.name == mix.model).unwrap_or(choice.model), 0.0),
        None => (choice.model, 0.0),
    };
    let plain = models.iter().find(|m| m.name == PLAIN_MODEL && m.scale == model.scale && m.name != model.name);
    let Some(plain) = plain else { return choice };
    let share = share + (MOST - share).max(0.0) * less;
    let mix = Mix { model: plain.name.clone(), sha256: plain.sha256.clone(), share };
    Choice { mix: Some(mix), model, ..choice }
}

/// Finds `MODEL`, `MODEL+OTHER@SHARE` (the mean of two) or `FIRST/MODEL` (the first cleans what the second enlarges),
/// named in the request or chosen by the plan.
fn find<'a>(name: &str, named: bool, models: &'a [ModelInfo]) -> Result<Choice<'a>, PipelineError> {
    let find = |name: &str| {
        models.iter().find(|m| m.name == name).ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            let names = names.join(", ");
            if named {
                let near = near(name, models.iter().map(|m| m.name.as_str()));
                let meant =
                    if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
                return PipelineError::Request {
                    what: format!("there is no model named {name:?}"),
                    hint: format!("{meant}available: {names}; add your own with `enlarger models add FILE`"),
                };
            }
            PipelineError::Request {
                what: format!("the model {name} is needed for this image and these settings, but it is missing"),
                hint: format!(
                    "add it with `enlarger models add FILE --name {name}`, or choose one of {names} with --model"
                ),
            }
        })
    };
    if let Some((first, model)) = name.split_once('/') {
        return Ok(Choice { restore: Some(find(first)?), ..Choice::of(find(model)?) });
    }
    let Some((first, rest)) = name.split_once('+') else { return Ok(Choice::of(find(name)?)) };
    let share = rest.split_once('@').and_then(|(other, share)| Some((other, share.parse::<f32>().ok()?)));
    let Some((other, share)) = share.filter(|(_, share)| (0.0..=1.0).contains(share)) else {
        return Err(PipelineError::Request {
            what: format!("{name:?} is not a blend of models"),
            hint: "write it as MODEL+OTHER@SHARE, such as realsr-df2k+x4plus@0.5, with a share from 0 to 1".into(),
        });
    };
    let (model, other) = (find(first)?, find(other)?);
    if model.scale != other.scale {
        return Err(PipelineError::Request {
            what: format!(
                "{} is a {}x model and {} is a {}x model: they cannot be blended",
                model.name, model.scale, other.name, other.scale
            ),
            hint: "blend models of the same scale, see `enlarger models list`".into(),
        });
    }
    let mix = Mix { model: other.name.clone(), sha256: other.sha256.clone(), share };
    Ok(Choice { mix: Some(mix), ..Choice::of(model) })
}

/// Whether all models that a request names are there, and can be combined in this way.
///
/// # Errors
/// As [`plan()`].
pub(crate) fn check_model(name: &str, models: &[ModelInfo]) -> Result<(), PipelineError> {
    find(name, true, models).map(drop)
}

/// What enlarges: what was named, or what suits picture, style and quality.
fn choose<'a>(
    statistics: &Statistics,
    style: &Style,
    request: &Request,
    factor: f32,
    models: &'a [ModelInfo],
    notes: &mut Vec<String>,
) -> Result<Choice<'a>, PipelineError> {
    let mut choice = match (request.model.as_deref(), request.quality) {
        (None, Quality::Fast) => {
            let small =
                find(style::networks(style, statistics.content).fast(statistics.condition, factor), false, models)?;
            let (name, words) = (&small.model.name, statistics.words());
            notes.push(format!("fast: only {name} is used; the image looks like {words}"));
            return Ok(small);
        }
        (None, Quality::Draft | Quality::Best) => best(statistics, style, factor, models, notes)?,
        (Some(name), _) => find(name, true, models).in_part(Part::Model)?,
    };
    choice = restrained(choice, style, models);
    if request.quality == Quality::Draft {
        choice = Choice::of(drafting(choice.model, models));
        notes.push(format!("draft: {} is the smallest {}x model", choice.model.name, choice.model.scale));
    }
    Ok(choice)
}

/// Whether a clean photo has errors that a large network for clean ones would draw, as JPEG 92 may have. By eye their ringing becomes stubble on
/// faces and scratches beside edges. Of 60 clean parts of photos 4 have the first of these amounts and 14 the second, of the same as JPEG 92 22 and
/// 51 (docs/reference/quality.md); a file tells what its pixels do not show. Up to 2x the network is small, and draws little.
fn is_slightly_damaged(statistics: &Statistics, factor: f32) -> bool {
    const LEAST: f32 = 0.3;
    const LEAST_OF_JPEG: f32 = 0.08;
    const BEST_JPEG: u8 = 95;
    let least = match statistics.jpeg_quality {
        Some(..=BEST_JPEG) => LEAST_OF_JPEG,
        _ => LEAST,
    };
    let kind = (statistics.condition, statistics.content);
    kind == (Condition::Clean, Content::Photo) && statistics.damaged >= least && factor > 2.0
}

/// The networks by engine, preset and statistics.
fn best<'a>(
    statistics: &Statistics,
    style: &Style,
    factor: f32,
    models: &'a [ModelInfo],
    notes: &mut Vec<String>,
) -> Result<Choice<'a>, PipelineError> {
    let (inventing, cause) = match style {
        Style::Creative(Creative { engine: Engine::Automatic, .. }) => (style::invents(style), String::new()),
        Style::Creative(Creative { engine, .. }) => (false, format!(" (engine: {})", engine.short())),
        Style::Precision(Precision { flavor: Some(flavor), .. }) => (false, format!(" (flavor: {})", flavor.name())),
        Style::Precision(_) => (false, String::new()),
    };
    let networks = style::networks(style, statistics.content);
    let slight = is_slightly_damaged(statistics, factor);
    let name = networks.of(if slight { Condition::Damaged } else { statistics.condition }, inventing, factor);
    let words = statistics.words();
    notes
        .push(format!("{name}: the image looks like {words}{}{cause}", if slight { ", slightly damaged" } else { "" }));
    let mut choice = find(name, false, models)?;
    choice.again = networks.again().and_then(|name| models.iter().find(|model| model.name == name));
    if let Some(mix) = choice.mix.as_mut().filter(|mix| statistics.subject.coarse_grain && mix.model == PLAIN_MODEL) {
        notes.push(format!("{} draws coarse grain: its share is {COARSE_SHARE}", mix.model));
        mix.share = COARSE_SHARE;
    }
    if let Some(mix) = choice.mix.as_mut().filter(|mix| slight && mix.model == PLAIN_MODEL) {
        mix.share = mix.share.max(SLIGHT_SHARE);
    }
    // Knobs that make more of the texture are to have it.
    let textured = inventing || matches!(style, Style::Creative(Creative { fractality: 1.., .. }));
    Ok(if statistics.condition == Condition::Clean && !slight && !textured {
        wary(choice, statistics.damaged)
    } else {
        choice
    })
}

/// What enlarges a picture's regions, where that differs from the rest.
fn choose_patches<'a>(
    statistics: &Statistics,
    style: &Style,
    rest: &Choice<'a>,
    factor: f32,
    models: &'a [ModelInfo],
    notes: &mut Vec<String>,
) -> Result<Vec<(Crop, Choice<'a>)>, PipelineError> {
    let mut patches = Vec::new();
    for region in &statistics.regions {
        let name = style::networks(style, region.content).of(region.condition, false, factor);
        let mut choice = find(name, false, models)?;
        // A region is enlarged in one pass: what is to be cleaned first is only cleaned.
        choice = choice.restore.map_or(choice, Choice::of);
        choice = restrained(choice, style, models);
        // In a pass that makes 2x, 2x networks meet 4x ones, whose results are halved.
        let scales = [choice.model.scale, rest.model.scale];
        let fits = scales[0] == scales[1] || factor <= 2.0 && scales.iter().all(|scale| matches!(scale, 2 | 4));
        if fits && choice.ensemble() != rest.ensemble() {
            let Crop { x, y, width, height } = region.area;
            let (name, words) = (&choice.model.name, region.words());
            notes.push(format!("{name} for the area {width}x{height} at {x},{y}, which looks like {words}"));
            patches.push((region.area, choice));
        }
    }
    Ok(patches)
}

/// The patches as far as they lie in a crop, and where they lie there.
fn inside(patches: Vec<(Crop, Choice<'_>)>, crop: Option<Crop>) -> Vec<(Crop, Choice<'_>)> {
    let Some(crop) = crop else { return patches };
    let cut = |(area, choice): (Crop, _)| Some((area.within(crop)?, choice));
    patches.into_iter().filter_map(cut).collect()
}

/// All that is done, in order.
fn steps(
    source: Extent,
    result: Extent,
    network: &Choice,
    patches: &[(Crop, Choice)],
    mut recipe: Recipe,
) -> Vec<Step> {
    let mut steps = cleaning(source, network);
    let style = |(filter, why)| Step::Style { filter, why };
    if let Some((share, why)) = recipe.redraw {
        let half = Extent { width: source.width.div_ceil(2), height: source.height.div_ceil(2) };
        steps.push(Step::Resample { to: half, kernel: Resampling::Mitchell });
        let halves: Vec<_> = patches.iter().map(|(area, choice)| (area.scaled(source, half), choice.clone())).collect();
        steps.extend(passes(half, source, network, &halves));
        steps.push(style((Filter::Keep { share: 1.0 - share }, why)));
    }
    steps.extend(recipe.before.into_iter().map(style));
    let mut way = passes(source, result, network, patches);
    // The next pass would enlarge the errors of the first.
    let (mut networks, back) = (way.iter().enumerate(), recipe.after.iter().find(|(filter, _)| filter.brings_back()));
    if let Some((first, _)) = networks.find(|(_, step)| matches!(step, Step::Network { .. }))
        && networks.any(|(_, step)| matches!(step, Step::Network { .. }))
        && let Some(back) = back
    {
        way.insert(first + 1, style(back.clone()));
    }
    steps.extend(way);
    // A network of scale 1 may be meant to change colours.
    if network.model.scale > 1 {
        if !recipe.after.iter().any(|(filter, _)| filter.is_exact() || matches!(filter, Filter::Recolour { .. })) {
            steps.push(style((Filter::ColourCorrection { radius: CORRECTION_RADIUS }, "colors are kept".into())));
        }
        settle(&mut recipe.after);
    }
    steps.extend(recipe.after.into_iter().map(style));
    steps
}

/// All that is done with the generative engine: networks enlarge to the size of a pass, the engine draws anew, and colors come back.
fn generated_steps(
    source: Extent,
    result: Extent,
    network: &Choice,
    patches: &[(Crop, Choice)],
    mut recipe: Recipe,
    generated: &Passes,
) -> Result<Vec<Step>, PipelineError> {
    let style = |(filter, why)| Step::Style { filter, why };
    let resample = |to, kernel| Step::Resample { to, kernel };
    // Texture that presets add is what the engine draws.
    recipe.before.retain(|(filter, _)| !filter.imitates());
    recipe.after.retain(|(filter, _)| !filter.imitates());
    let mut steps = cleaning(source, network);
    steps.extend(recipe.before.into_iter().map(style));
    let mut here = source;
    for (number, size) in (0..).zip(Passes::sizes(source, result)) {
        steps.extend(passes(here, size, network, if number == 0 { patches } else { &[] }));
        let canvas = generated.canvas(size);
        if canvas != size {
            steps.push(resample(canvas, Resampling::Lanczos3));
        }
        steps.push(match generated {
            Passes::Files(of) => Step::Diffuse(Box::new(of.pass(number, source, canvas)?)),
            Passes::Workflow(of) => Step::Workflow(Box::new(of.pass(number, source, canvas)?)),
        });
        steps.push(style((Filter::ColourCorrection { radius: CORRECTION_RADIUS }, "colors are kept".into())));
        if canvas != size {
            steps.push(resample(size, Resampling::Mitchell));
        }
        here = size;
    }
    if generated.back() > 0.0 {
        let back = Filter::Match { rounds: 1, strength: generated.back(), reach: 0 };
        steps.push(style((back, "resemblance above 0".into())));
    }
    settle(&mut recipe.after);
    steps.extend(recipe.after.into_iter().map(style));
    Ok(steps)
}

/// What makes a source clean at its own size, if anything does.
fn cleaning(source: Extent, network: &Choice) -> Vec<Step> {
    let Some(restore) = network.restore else { return Vec::new() };
    let mut steps = passes(source, source.times(restore.scale), &Choice::of(restore), &[]);
    steps.push(Step::Resample { to: source, kernel: Resampling::CatmullRom });
    steps
}

/// Keeps flat areas: after filters that may draw there, before those that change tones or add grain there on purpose.
fn settle(filters: &mut Vec<(Filter, String)>) {
    let drawn = filters.iter().rposition(|(filter, _)| filter.draws()).map_or(0, |last| last + 1);
    filters.insert(drawn, (Filter::Settle, "flat areas are kept".into()));
}

/// The passes from `source` to `result`. The last network pass ends at the result's size or just above it, so that no
/// filter enlarges; earlier passes are as small as that allows, since cost grows with pixels.
fn passes(source: Extent, result: Extent, choice: &Choice, patches: &[(Crop, Choice)]) -> Vec<Step> {
    let model = choice.model;
    let again = choice.again.filter(|again| again.scale == model.scale).map(Choice::of);
    let network = |from: Extent, halve: bool| {
        let patch = |(area, choice): &(Crop, Choice)| Patch { area: area.scaled(source, from), by: choice.ensemble() };
        let choice = again.as_ref().filter(|_| from != source).unwrap_or(choice);
        Step::Network {
            by: choice.ensemble(),
            scale: model.scale,
            from,
            halve,
            patches: patches.iter().map(patch).collect(),
        }
    };
    let mut steps = Vec::new();
    let mut here = source;
    let covers = |e: Extent| e.width >= result.width && e.height >= result.height;
    let reaches = |e: Extent| {
        let reaches = |side: u32, wanted: u32| side as f32 * choice.reach >= wanted as f32;
        reaches(e.width, result.width) && reaches(e.height, result.height)
    };
    // A 1x network restores without enlarging: once is enough, resampling does the rest.
    if model.scale == 1 {
        steps.push(network(here, false));
    }
    while model.scale > 1 && (steps.is_empty() || !reaches(here)) {
        if reaches(here.times(model.scale)) {
            let halve = model.scale == 4 && covers(here.times(2));
            steps.push(network(here, halve));
            here = here.times(if halve { 2 } else { model.scale });
        } else {
            steps.push(network(here, false));
            let full = here.times(model.scale);
            // The size from which one more pass just reaches the result, if that is smaller than what there is.
            let enough = Extent {
                width: result.width.div_ceil(model.scale).max(here.width),
                height: result.height.div_ceil(model.scale).max(here.height),
            };
            here = full;
            if enough.width < full.width && enough.height < full.height {
                steps.push(Step::Resample { to: enough, kernel: Resampling::Mitchell });
                here = enough;
            }
        }
    }
    if here != result {
        let enlarges = here.width < result.width;
        steps.push(Step::Resample {
            to: result,
            kernel: if enlarges { Resampling::Lanczos3 } else { Resampling::Mitchell },
        });
    }
    steps
}

/// From picture statistics and request, so that the same request gives the same bytes.
fn seed_of(statistics: &Statistics, request: &Request) -> u64 {
    let json = serde_json::to_vec(&(statistics, request)).expect("facts and requests are plain data");
    let digest = Sha256::digest(json);
    // JavaScript reads numbers of up to 53 bits exactly.
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes")) & ((1 << 53) - 1)
}
