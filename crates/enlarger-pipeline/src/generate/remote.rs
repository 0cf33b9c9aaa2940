//! The generative engine in another program: a running ComfyUI draws a picture tile by tile, the tiles are blended here.

use std::{
    fs,
    io::Cursor,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use enlarger_comfyui::{ComfyUi, Error, Filled, Offer, Place, Stored, Workflow};
use enlarger_diffusion::{
    engine::canvas,
    tiles::{Grid, Pixels, Tile, Tiles, read_beyond},
};
use enlarger_image::{Channels, EncodeOptions, Limits, Metadata, Picture, Samples, with_samples};
use enlarger_nn::{Device, RunProgress, Sink, Source};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    error::PipelineError,
    request::{Generative, Sampler},
};

use super::{
    Cost, Generator, Offering, Pass, Patience, Prompts, Seen, Weights,
    kept::lock,
    offers::Offers,
    workflow::{Offered, Redraw},
};

/// Bytes of a sample and channel that a PNG of noise does not exceed, and room for what ComfyUI writes into it: its workflow.
const MOST_METADATA: u64 = 4 << 20;
/// A file of a workflow is a few KB.
const MOST_WORKFLOW: u64 = 16 << 20;
/// How many names are told of what there is.
const MOST_NAMES: usize = 20;

/// Where another program draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteGenerator {
    /// The address of a ComfyUI, `http://HOST:PORT`.
    pub address: String,
    /// A workflow in its API format; `None` is the bundled one.
    pub workflow: Option<PathBuf>,
}

impl RemoteGenerator {
    /// Reads `comfyui=http://HOST:PORT`.
    ///
    /// # Errors
    /// A sentence, if it is anything else.
    pub fn parse(text: &str, workflow: Option<PathBuf>) -> Result<Self, String> {
        let usage = || "expected comfyui=http://HOST:PORT, such as comfyui=http://127.0.0.1:8188".to_owned();
        let address = text.trim().strip_prefix("comfyui=").ok_or_else(usage)?.to_owned();
        ComfyUi::at(&address).map_err(|error| format!("{error}; {}", usage()))?;
        Ok(Self { address, workflow })
    }
}

/// Runs workflows in a ComfyUI.
pub(crate) struct Remote {
    comfyui: ComfyUi,
    address: String,
    /// Whether errors say the address.
    tells_address: bool,
    /// For one workflow of a file, or the bundled ones: without a ControlNet, and with one.
    offers: Vec<Offers>,
    /// Seconds per pixel and step, as measured by tiles.
    speed: Mutex<Option<f64>>,
}

impl Remote {
    /// Reads the workflow. ComfyUI is not called yet. Its address is in the log, and in errors if `tells_address`.
    ///
    /// # Errors
    /// If the file cannot be read or is not a workflow with the places it needs.
    pub fn new(remote: &RemoteGenerator, tells_address: bool) -> Result<Self, PipelineError> {
        let workflows = match &remote.workflow {
            Some(path) => vec![read(path)?],
            None => vec![Workflow::bundled(false), Workflow::bundled(true)],
        };
        let (comfyui, address) = (ComfyUi::at(&remote.address)?, remote.address.clone());
        let offers = |workflow| Offers::new(comfyui.clone(), address.clone(), workflow);
        let offers = workflows.into_iter().map(offers).collect();
        Ok(Self { comfyui, address, tells_address, offers, speed: Mutex::default() })
    }

    /// What ComfyUI's error is to others. Its operator is told where it is, too.
    fn failed(&self, error: Error, place: &str) -> PipelineError {
        if error != Error::Cancelled {
            tracing::warn!(address = self.address, "{error}{place}");
        }
        self.told(error, place)
    }

    fn told(&self, error: Error, place: &str) -> PipelineError {
        let at = if self.tells_address { format!("{place} ({})", self.address) } else { place.to_owned() };
        PipelineError::from(error).at_place(&at)
    }

    /// The workflow that draws, what is offered for it, and the ControlNet.
    fn chosen(
        &self,
        asked: &Generative,
        notes: &mut Vec<String>,
        patience: Patience,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(&Workflow, Offer, Option<String>), PipelineError> {
        let offer = |of: &Offers| of.get(patience, cancelled).map_err(|error| self.told(error, ""));
        let [plain, rest @ ..] = &self.offers[..] else { unreachable!("there is always one") };
        let without = asked.control.as_deref() == Some("none");
        let [with_control] = rest else {
            let (workflow, offer) = (plain.workflow(), offer(plain)?);
            let names = offer.names(Place::Control);
            let control = match &asked.control {
                Some(name) if workflow.has(Place::Control) && !without => Some(find("ControlNet", name, names)?),
                _ => None,
            };
            return Ok((workflow, offer, control));
        };
        if without {
            return Ok((plain.workflow(), offer(plain)?, None));
        }
        let (workflow, offered) = (with_control.workflow(), offer(with_control)?);
        let names = offered.names(Place::Control);
        let control = match &asked.control {
            Some(name) => Some(find("ControlNet", name, names)?),
            None => {
                let checkpoint = checkpoint(workflow, asked, &offered)?.unwrap_or_default();
                names.iter().find(|name| says(name, "tile") && says(name, "xl") == says(&checkpoint, "xl")).cloned()
            }
        };
        if control.is_some() {
            return Ok((workflow, offered, control));
        }
        notes.push(
            "ComfyUI has no ControlNet with \"tile\" in its name that fits the checkpoint, so only low creativity stays close to \
             the source"
                .into(),
        );
        Ok((plain.workflow(), offer(plain)?, None))
    }

    fn planned(&self, pass: Pass<'_>) -> Result<(&Workflow, Redraw), PipelineError> {
        let Pass::Workflow(step) = pass else { return Err(other_generator()) };
        let mut workflows = self.offers.iter().map(Offers::workflow);
        let workflow = workflows.find(|workflow| workflow.sha256() == step.workflow.sha256);
        Ok((workflow.ok_or_else(other_generator)?, step.clone()))
    }

    fn learn(&self, pixels: usize, step: &Redraw, took: Duration) {
        let now = took.as_secs_f64() / (pixels as f64 * steps(step));
        let mut speed = lock(&self.speed);
        *speed = Some(speed.map_or(now, |before| 0.5 * (before + now)));
    }
}

impl Generator for Remote {
    fn offering(
        &self,
        asked: &Generative,
        prompts: &Prompts,
        patience: Patience,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Offering, PipelineError> {
        let (mut notes, mut idle) = (Vec::new(), Vec::new());
        let (workflow, offer, control) = self.chosen(asked, &mut notes, patience, cancelled)?;
        if let Some(lora) = prompts.loras.first() {
            idle.push(format!("the LoRA {:?} of the prompt has no effect: the workflow decides on LoRAs", lora.name));
        }
        Ok(Offering::Workflow(Offered {
            workflow: Weights { name: workflow.name().into(), sha256: workflow.sha256().into() },
            places: Place::ALL.iter().copied().filter(|place| workflow.has(*place)).collect(),
            checkpoint: checkpoint(workflow, asked, &offer)?,
            control,
            notes,
            idle,
        }))
    }

    fn names(&self, cancelled: &dyn Fn() -> bool) -> Result<Vec<(&'static str, String)>, PipelineError> {
        let last = self.offers.last().expect("there is always one");
        let offer = last.get(Patience::Long, cancelled).map_err(|error| self.told(error, ""))?;
        let of = |place, kind| offer.names(place).iter().map(move |name| (kind, name.clone()));
        Ok(of(Place::Checkpoint, "checkpoint").chain(of(Place::Control, "control")).collect())
    }

    fn cost(&self, pass: Pass<'_>, _: &dyn Device) -> Result<Cost, PipelineError> {
        let (_, step) = self.planned(pass)?;
        let grid = grid(&step)?;
        let [tall, wide] = grid.tile(0).size();
        let pixels = grid.count() * tall * wide;
        let high = if step.seamless { step.at.height as usize } else { (2 * tall).min(step.at.height as usize + 64) };
        // Rows that are being blended, and a tile on its way: as numbers, as pixels and as files.
        let bytes = 12 * high * (step.at.width as usize + 64) + 64 * tall * wide;
        let seconds = lock(&self.speed).map(|speed| speed * pixels as f64 * steps(&step));
        Ok(Cost { seconds, bytes: bytes as u64, ..Cost::default() })
    }

    fn run(
        &self,
        pass: Pass<'_>,
        _: &dyn Device,
        [from, hint]: [&dyn Source; 2],
        to: &dyn Sink,
        tell: &(dyn Fn(RunProgress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<String>, PipelineError> {
        let (workflow, step) = self.planned(pass)?;
        let grid = grid(&step)?;
        let drawing = Drawing {
            remote: self,
            filled: fill(workflow, &step),
            folder: format!("enlarger-{}", uuid::Uuid::new_v4().simple()),
            noise: whole(&grid),
            step: &step,
        };
        let count = grid.count();
        let mut failed = None;
        let draw = |tile: &Tile<'_>| {
            let progress = RunProgress { done: tile.number, total: count, fraction: tile.number as f64 / count as f64 };
            let started = Instant::now();
            let drawn = drawing.tile(tile, [&Seen(from), &Seen(hint)], &|| tell(progress).is_continue());
            if drawn.is_ok() {
                self.learn(tile.row.length() * tile.column.length(), &step, started.elapsed());
            }
            drawn.map_err(|error| {
                failed = Some(error);
                enlarger_diffusion::Error::Cancelled
            })
        };
        let (width, height) = (step.at.width as usize, step.at.height as usize);
        let across = 3 * if step.seamless { width } else { width.div_ceil(64) * 64 };
        let rows = |first: usize, rows: &[f32]| {
            let inside = rows.chunks_exact(across).take(height.saturating_sub(first));
            let cut: Vec<f32> = inside.flat_map(|row| &row[..3 * width]).copied().collect();
            if !cut.is_empty() {
                to.write(0, first as u32, step.at.width, (cut.len() / 3 / width) as u32, &cut);
            }
            Ok(())
        };
        let blended = grid.blend_rows(3, draw, rows);
        blended.map_err(|error| failed.unwrap_or_else(|| error.into()))?;
        match tell(RunProgress { done: count, total: count, fraction: 1.0 }) {
            ControlFlow::Continue(()) => Ok(Vec::new()),
            ControlFlow::Break(()) => Err(PipelineError::Cancelled),
        }
    }
}

/// A pass that is being drawn.
struct Drawing<'a> {
    remote: &'a Remote,
    /// With all that is the same for each tile.
    filled: Filled<'a>,
    /// ComfyUI's folder for the files of this pass.
    folder: String,
    /// Height and width of the canvas that all tiles lie on.
    noise: [usize; 2],
    step: &'a Redraw,
}

impl Drawing<'_> {
    /// A tile as the workflow makes it, `[height, width, 3]` in 0..1.
    fn tile(
        &self,
        tile: &Tile<'_>,
        [from, hint]: [&dyn Pixels; 2],
        going: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, PipelineError> {
        let (step, number) = (self.step, tile.number);
        let (comfyui, place) = (&self.remote.comfyui, format!(", in tile {} of {}", number + 1, tile.of));
        let here = |error: Error| self.remote.failed(error, &place);
        let (start, size) = ([tile.row.start, tile.column.start], [tile.row.length(), tile.column.length()]);
        let whole = [step.at.height as usize, step.at.width as usize];
        let upload = |what: &str, pixels: &dyn Pixels| -> Result<Stored, PipelineError> {
            let png = png(&read_beyond(pixels, whole, start, size, step.seamless)?, size)?;
            comfyui.upload(&self.folder, &format!("{number}-{what}.png"), &png, going).map_err(here)
        };
        let [height, width] = size;
        let at = [("x", start[1]), ("y", start[0]), ("width", width), ("height", height)];
        let canvas = [("width", self.noise[1]), ("height", self.noise[0])];
        let numbers = |of: &[(&'static str, usize)]| of.iter().map(|(key, v)| (*key, json!(v))).collect::<Vec<_>>();
        let seed = if step.shared_noise { step.seed } else { seed_of(step.seed, number) };
        let mut filled = self
            .filled
            .clone()
            .with(Place::Source, upload("source", from)?)
            .with(Place::Seed, seed)
            .with_all(Place::Canvas, &numbers(&canvas))
            .with_all(Place::Tile, &numbers(&at));
        if self.filled.has(Place::Hint) {
            filled = filled.with(Place::Hint, upload("hint", hint)?);
        }
        let pixels = (width * height) as u64;
        let most = 8 * pixels + MOST_METADATA;
        let bytes = comfyui.run(&filled, most, going).map_err(here)?;
        let limits = Limits { max_bytes: most, max_pixels: pixels.max(1 << 20), ..Limits::default() };
        let wrong = |what: String| {
            here(Error::Workflow {
                what: format!("the workflow {} {what}", step.workflow.name),
                hint: "its result must be an image as large as its source".into(),
            })
        };
        let decoded = enlarger_image::decode(&bytes, &limits);
        let picture = decoded.map_err(|error| wrong(format!("made a result that cannot be read: {error}")))?.picture;
        if [picture.height as usize, picture.width as usize] != size {
            return Err(wrong(format!("made {}x{} pixels of {width}x{height}", picture.width, picture.height)));
        }
        let made = numbers_of(&picture);
        // As a VAE does that overflows in 16 bits.
        if is_one_color(&made) && !is_one_color(&read_beyond(from, whole, start, size, step.seamless)?) {
            return Err(here(Error::Workflow {
                what: format!("the workflow {} made a tile of a single color", step.workflow.name),
                hint: "if ComfyUI's VAE overflows in 16 bits, start ComfyUI with --fp32-vae".into(),
            }));
        }
        Ok(made)
    }
}

/// Whether all pixels are as good as the first, to a level of 255.
fn is_one_color(pixels: &[f32]) -> bool {
    pixels.chunks_exact(3).all(|pixel| pixel.iter().zip(pixels).all(|(a, b)| (a - b).abs() <= 1.0 / 255.0))
}

/// The same for all tiles.
fn fill<'a>(workflow: &'a Workflow, step: &Redraw) -> Filled<'a> {
    let values: [(Place, Option<Value>); 9] = [
        (Place::Checkpoint, step.checkpoint.clone().map(Value::from)),
        (Place::Control, step.control.clone().map(Value::from)),
        (Place::Strength, step.strength.map(number)),
        (Place::Prompt, step.prompt.clone().map(Value::from)),
        (Place::Negative, step.negative.clone().map(Value::from)),
        (Place::Sampler, step.sampler.map(|sampler| sampler_name(sampler).into())),
        (Place::Steps, step.steps.map(Value::from)),
        (Place::Denoise, step.denoise.map(number)),
        (Place::Guidance, step.guidance.map(number)),
    ];
    let given = values.into_iter().filter_map(|(place, value)| Some((place, value?)));
    given.fold(workflow.fill(), |filled, (place, value)| filled.with(place, value))
}

/// As it stands in a plan: not as the nearest binary fraction.
fn number(value: f32) -> Value {
    json!((f64::from(value) * 1e4).round() / 1e4)
}

/// As ComfyUI names them.
fn sampler_name(sampler: Sampler) -> &'static str {
    match sampler {
        Sampler::Dpmpp2m => "dpmpp_2m",
        Sampler::Euler => "euler",
        Sampler::EulerAncestral => "euler_ancestral",
        Sampler::Ddim => "ddim",
        Sampler::Lcm => "lcm",
    }
}

fn read(path: &Path) -> Result<Workflow, PipelineError> {
    let failed = |why: String| PipelineError::Request {
        what: format!("the workflow {} cannot be read: {why}", path.display()),
        hint: "give a file that ComfyUI exports with Workflow > Export (API)".into(),
    };
    let about = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !about.is_file() || about.len() > MOST_WORKFLOW {
        return Err(failed("it is not a file of at most 16 MB".into()));
    }
    let json = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Workflow::parse(&name, &json)?)
}

fn other_generator() -> PipelineError {
    PipelineError::Request {
        what: "this was planned for another generator or workflow".into(),
        hint: "start it again".into(),
    }
}

/// The checkpoint for a workflow that has a place for one.
fn checkpoint(workflow: &Workflow, asked: &Generative, offer: &Offer) -> Result<Option<String>, PipelineError> {
    if !workflow.has(Place::Checkpoint) {
        return Ok(None);
    }
    let names = offer.names(Place::Checkpoint);
    if let Some(name) = &asked.checkpoint {
        return find("checkpoint", name, names).map(Some);
    }
    let written = workflow.value(Place::Checkpoint).and_then(Value::as_str).filter(|name| !name.is_empty());
    match (written, names) {
        (Some(name), _) => find("checkpoint", name, names).map(Some),
        (None, [one]) => Ok(Some(one.clone())),
        (None, []) => {
            Err(choice("ComfyUI has no checkpoint".into(), "put one into its folder models/checkpoints".into()))
        }
        (None, _) => Err(choice(
            format!("ComfyUI has {} checkpoints", names.len()),
            format!("choose one with --checkpoint, or the server's setting `checkpoint`: {}", list(names)),
        )),
    }
}

/// The name in a list that is meant: in full, without its folder, without its extension, or in other case.
fn find(kind: &str, asked: &str, names: &[String]) -> Result<String, PipelineError> {
    let plain = |name: &str| {
        let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
        file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_lowercase()
    };
    let exact = names.iter().find(|name| *name == asked);
    let found = exact.or_else(|| names.iter().find(|name| plain(name) == plain(asked)));
    found.cloned().ok_or_else(|| {
        let there = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", list(names)) };
        choice(format!("ComfyUI has no {kind} named {asked:?}"), there)
    })
}

fn choice(what: String, hint: String) -> PipelineError {
    Error::Choice { what, hint }.into()
}

fn list(names: &[String]) -> String {
    let more = if names.len() > MOST_NAMES { ", ..." } else { "" };
    names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ") + more
}

fn says(name: &str, word: &str) -> bool {
    name.to_lowercase().contains(word)
}

fn steps(step: &Redraw) -> f64 {
    f64::from(step.steps.unwrap_or(1).max(1))
}

/// The tiles of a pass, in pixels. They begin at whole latents, of 8 pixels each.
fn grid(step: &Redraw) -> Result<Grid, PipelineError> {
    let (side, overlap) = (step.tile as usize / 8, step.overlap as usize / 8);
    let tiles = Tiles { side, overlap, shifts: Vec::new(), wrap: step.seamless };
    let size = canvas(step.at.height as usize, step.at.width as usize, step.seamless);
    Ok(tiles.grid(size, 0)?.times(8))
}

/// Height and width that contain all tiles: where a canvas wraps, tiles go beyond it.
fn whole(grid: &Grid) -> [usize; 2] {
    [&grid.rows, &grid.columns].map(|spans| spans.iter().map(|span| span.start + span.length()).max().unwrap_or(0))
}

/// A seed of 32 bits for a tile.
fn seed_of(seed: u64, tile: usize) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update((tile as u64).to_le_bytes()).finalize();
    u64::from(u32::from_le_bytes(digest[..4].try_into().expect("a digest has 32 bytes")))
}

/// RGB in 0..1 as a file of 8 bits, which is all that ComfyUI reads.
fn png(rgb: &[f32], [height, width]: [usize; 2]) -> Result<Vec<u8>, PipelineError> {
    let samples = rgb.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let picture = Picture {
        width: width as u32,
        height: height as u32,
        channels: Channels::Rgb,
        samples: Samples::U8(samples),
        metadata: Metadata::default(),
    };
    let mut png = Cursor::new(Vec::new());
    enlarger_image::encode(&picture, &EncodeOptions::default(), &mut png)?;
    Ok(png.into_inner())
}

/// RGB in 0..1, whatever channels there are.
fn numbers_of(picture: &Picture) -> Vec<f32> {
    let (n, colours) = (picture.channels.count(), picture.channels.colours());
    with_samples!(&picture.samples, samples => samples
        .chunks_exact(n)
        .flat_map(|pixel| [0, 1, 2].map(|c| enlarger_image::Sample::to_f64(pixel[c.min(colours - 1)]) as f32))
        .collect())
}
