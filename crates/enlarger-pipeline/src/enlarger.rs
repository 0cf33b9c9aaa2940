//! The whole path of a picture, from bytes to bytes.

use std::{
    borrow::Cow,
    io::{Seek, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use enlarger_image::{Channels, Decoded, EncodeOptions, Format, Header, Limits, MetadataPolicy, Opened, Picture};
use enlarger_models::{Catalogue, Library};
use enlarger_nn::{Backend, Device, RunOptions, pool};
use serde::Serialize;

use crate::{
    difference::Difference,
    error::{InPart, Part, PipelineError},
    explain::{Estimate, Explanation},
    extent::Extent,
    generate::{Cost, Generator, Local, Offering, Pass, Patience, Prompts, Remote, RemoteGenerator},
    lanes::{Lane, LaneStatus, Lanes},
    memory::{self, Memory},
    networks::Networks,
    plan::{AlphaWay, Plan, Step, check_model, generates, plan_with, prompts, subjects},
    request::{Generative, Request, Size},
    run::{Ran, run},
    statistics::{Condition, Content, Statistics, Subject},
    watch::{Progress, Stage, Unwatched, Watch},
};

/// What a job needs besides its images: code, packed weights and feature maps of the largest bundled network.
const WORKING_BYTES: u64 = 400 << 20;

/// How the machine is to be used.
#[derive(Debug, Clone, Default)]
pub struct EnlargerOptions {
    /// Threads of a job; `None` is one per core, which is also the maximum.
    pub threads: Option<NonZeroUsize>,
    /// Width of a strip and height of a band in input pixels; `None` lets the network choose.
    pub strip: Option<u32>,
    /// The folder of added models; `None` for bundled models only.
    pub models_dir: Option<PathBuf>,
    /// What networks run on, the fastest first; none is this machine's fastest CPU device, a job at a time.
    pub lanes: Vec<Lane>,
    /// Where checkpoints and their like lie, as ComfyUI and A1111 keep them.
    pub model_dirs: Vec<PathBuf>,
    /// Whether requests are a person's own: they may name files of the generative engine by their paths, and errors say where another
    /// program is.
    pub own_requests: bool,
    /// What requests of the creative style use that ask to draw, by a prompt or by creativity above 0, and say nothing of the generative
    /// engine; `None` leaves it out.
    pub generative: Option<Generative>,
    /// Another program that draws instead of checkpoints here.
    pub generator: Option<RemoteGenerator>,
}

/// How the result becomes bytes.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The file format; `None` is PNG.
    pub format: Option<Format>,
    /// 1..=100 for lossy formats; `None` is the format's default.
    pub quality: Option<u8>,
    /// What of EXIF and XMP is kept.
    pub metadata: MetadataPolicy,
    /// Pixels per inch; `None` keeps the source's.
    pub dpi: Option<f32>,
}

/// Seconds spent in each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Bytes to pixels.
    pub decode: f64,
    /// Statistics and plan.
    pub plan: f64,
    /// Networks, including writing their results to the picture.
    pub network: f64,
    /// Filters and resampling, loading networks, and measuring the difference.
    pub filters: f64,
    /// Pixels to bytes.
    pub encode: f64,
}

/// The outcome of a job, besides the bytes themselves.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// MIME type of the bytes.
    pub media_type: &'static str,
    /// File extension, without the dot.
    pub extension: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What was measured of the source.
    #[serde(rename = "facts")]
    pub statistics: Statistics,
    /// What was done.
    pub plan: Plan,
    /// What networks ran on: a GPU's name, or the CPU's kernels and arithmetic.
    pub device: String,
    /// How far the result deviates from the source.
    #[serde(rename = "invention")]
    pub difference: Difference,
    /// How long it took.
    pub timings: Timings,
    /// Sentences about the picture and the run: first frame only, colours converted, a GPU that failed, and so on.
    pub notes: Vec<String>,
}

/// Enlarges pictures: devices with their networks, and jobs. One per process, shared by all jobs.
pub struct Enlarger {
    catalogue: Arc<Catalogue>,
    lanes: Lanes,
    library: Arc<Library>,
    generator: Box<dyn Generator>,
    /// What requests use that ask to draw and do not say with what.
    drawing: Option<Generative>,
    options: RunOptions,
    /// Of each job.
    threads: usize,
}

impl Enlarger {
    /// Opens the catalogue. Networks are loaded when first needed.
    ///
    /// # Errors
    /// If the models directory cannot be read.
    pub fn new(options: EnlargerOptions) -> Result<Self, PipelineError> {
        let cores = memory::cores();
        let threads = options.threads.map_or(cores, |asked| asked.min(cores)).get();
        let run = RunOptions { strip: options.strip, halo: None };
        let mut lanes = options.lanes;
        if lanes.is_empty() {
            lanes.push(Lane { device: Backend::default().find()?, slots: 1 });
        }
        // Beside the added models, which have a folder of their own.
        let cache = options.models_dir.as_ref().and_then(|folder| folder.parent()).map(PathBuf::from);
        let library = Library::new(options.model_dirs, cache);
        let library = if options.own_requests { library.with_paths() } else { library };
        let (catalogue, library) = (Arc::new(Catalogue::open(options.models_dir)?), Arc::new(library));
        let networks = |lane: Lane| (Networks::new(catalogue.clone(), lane.device, threads), lane.slots);
        let lanes = Lanes::new(lanes.into_iter().map(networks).collect());
        let generator: Box<dyn Generator> = match &options.generator {
            Some(remote) => Box::new(Remote::new(remote, options.own_requests)?),
            None => Box::new(Local::new(library.clone(), threads)),
        };
        Ok(Self { catalogue, lanes, library, generator, drawing: options.generative, options: run, threads })
    }

    /// The available models.
    pub fn models(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Files that the generative engine can use.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Kinds and names of what requests may name where another program draws, as it has them now; empty otherwise.
    ///
    /// # Errors
    /// If it cannot be asked; [`PipelineError::Cancelled`].
    pub fn generator_names(&self, watch: &dyn Watch) -> Result<Vec<(&'static str, String)>, PipelineError> {
        self.generator.names(&|| watch.cancelled())
    }

    /// What networks run on, or the one of several devices that the next job most likely runs on.
    pub fn device(&self) -> &dyn Device {
        self.lanes.usual().device()
    }

    /// All devices, the fastest first, and what they do now.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.status()
    }

    /// How many jobs may run at once. More would share what is there.
    pub fn slots(&self) -> usize {
        self.lanes.slots()
    }

    /// How many jobs the device that estimates are for could do in the time in which all devices do theirs.
    pub fn pace(&self) -> f64 {
        self.lanes.pace()
    }

    /// Threads that a job uses.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Measures a picture and plans for it.
    ///
    /// # Errors
    /// See [`plan()`].
    pub fn plan(&self, picture: &Picture, request: &Request) -> Result<(Statistics, Plan), PipelineError> {
        self.plan_watched(picture, request, &Unwatched)
    }

    fn plan_watched(
        &self,
        picture: &Picture,
        request: &Request,
        watch: &dyn Watch,
    ) -> Result<(Statistics, Plan), PipelineError> {
        let request = &*self.drawing(request);
        let statistics = Statistics::with_subject(picture, |statistics| subjects(statistics, request));
        let plan = self.plan_of(&statistics, request, watch)?;
        Ok((statistics, plan))
    }

    /// A request with the generative engine that it uses.
    fn drawing<'a>(&self, request: &'a Request) -> Cow<'a, Request> {
        match (&self.drawing, &request.generative) {
            (Some(drawing), None) if request.asks_to_draw() => {
                Cow::Owned(Request { generative: Some(drawing.clone()), ..request.clone() })
            }
            (Some(drawing), Some(asked)) => {
                Cow::Owned(Request { generative: Some(asked.clone().or(drawing)), ..request.clone() })
            }
            _ => Cow::Borrowed(request),
        }
    }

    /// Reads the files that requests use that ask to draw and do not say with what, so that their hashes are known before the first one
    /// comes. Gives sentences about what will draw; none if nothing will.
    ///
    /// # Errors
    /// As [`Self::estimate`].
    pub fn prepare(&self) -> Result<Vec<String>, PipelineError> {
        self.drawing.as_ref().map_or_else(|| Ok(Vec::new()), |drawing| self.check(drawing, &Unwatched))
    }

    /// Whether what a request of the generative engine names is there and fits: sentences about what would draw.
    ///
    /// # Errors
    /// As [`Self::estimate`].
    pub fn check(&self, asked: &Generative, watch: &dyn Watch) -> Result<Vec<String>, PipelineError> {
        Ok(self.generator.offering(asked, &Prompts::default(), Patience::Long, &|| watch.cancelled())?.sentences())
    }

    /// Whether the model that a request names, or each of a combination, is there.
    ///
    /// # Errors
    /// If it is not, or the combination is not one, as in every job that names it.
    pub fn check_model(&self, name: &str) -> Result<(), PipelineError> {
        check_model(name, &self.models().list())
    }

    fn plan_of(&self, statistics: &Statistics, request: &Request, watch: &dyn Watch) -> Result<Plan, PipelineError> {
        self.plan_by(statistics, request, self.offering(request, Patience::Long, watch)?)
    }

    fn plan_by(
        &self,
        statistics: &Statistics,
        request: &Request,
        offering: Option<Offering>,
    ) -> Result<Plan, PipelineError> {
        tracing::trace!("planned");
        plan_with(statistics, request, &self.models().list(), offering)
    }

    /// What the generator has for a request that wants it.
    fn offering(
        &self,
        request: &Request,
        patience: Patience,
        watch: &dyn Watch,
    ) -> Result<Option<Offering>, PipelineError> {
        let Some((knobs, asked)) = generates(request) else { return Ok(None) };
        named(asked)?;
        let prompts = prompts(knobs, asked)?;
        few_loras(asked, &prompts)?;
        let offering = self.generator.offering(asked, &prompts, patience, &|| watch.cancelled());
        offering.map(Some).map_err(|error| self.blamed(asked, error))
    }

    /// What is wrong with a part that the operator chose is not the request's fault.
    fn blamed(&self, asked: &Generative, error: PipelineError) -> PipelineError {
        match (&self.drawing, error) {
            (Some(usual), PipelineError::In { part, error }) if asked.takes(usual, part) => {
                PipelineError::Configured { error }
            }
            (_, error) => error,
        }
    }

    /// Cost of enlarging a picture of this size, from the speed measured on this machine so far. Another program that is to draw is
    /// waited for a moment only.
    ///
    /// # Errors
    /// If the size of the result is out of range or a model is not there.
    pub fn estimate(
        &self,
        width: u32,
        height: u32,
        request: &Request,
        watch: &dyn Watch,
    ) -> Result<Estimate, PipelineError> {
        let statistics = unseen(width, height, Channels::Rgb, 8);
        let request = &*self.drawing(request);
        // Another program that is down now may be there when the job runs: only its time is unknown.
        let (offering, down) = match self.offering(request, Patience::Short, watch) {
            Err(PipelineError::Remote { error, .. }) if error.is_retryable() => (None, true),
            offering => (offering?, false),
        };
        let plan = self.plan_by(&statistics, request, offering)?;
        let (estimate, _) = self.cost(&plan, Extent { width, height }, Channels::Rgb)?;
        Ok(Estimate { seconds: estimate.seconds.filter(|_| !down), ..estimate })
    }

    /// What [`Self::job`] would do with a picture and its cost, without doing it.
    ///
    /// # Errors
    /// As [`Self::job`], but for what only running can raise.
    pub fn dry_run(
        &self,
        bytes: &[u8],
        request: &Request,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Explanation, PipelineError> {
        let (Decoded { picture, notes, .. }, statistics, plan) = pool(self.threads)?.install(|| {
            let mut room = Memory::now().available;
            let decoded = self.decode(enlarger_image::open(bytes, limits)?, &mut room, watch)?;
            let (statistics, plan) = self.plan_within(room, &decoded, request, watch)?;
            Ok::<_, PipelineError>((decoded, statistics, plan))
        })?;
        let whole = Extent { width: picture.width, height: picture.height };
        let (estimate, elsewhere) = self.cost(&plan, whole, picture.channels)?;
        let (device, on_cpu) = self.lanes.usual().elsewhere(&plan)?;
        let notes = notes.into_iter().chain(on_cpu).chain(elsewhere).collect();
        Ok(Explanation { statistics, plan, device: device.to_string(), estimate, notes })
    }

    /// What a plan costs, and why the generative engine would not run on the device, if so.
    fn cost(
        &self,
        plan: &Plan,
        whole: Extent,
        channels: Channels,
    ) -> Result<(Estimate, Option<String>), PipelineError> {
        let generated = self.generated(plan)?;
        let estimate = Estimate {
            seconds: generated.seconds.map(|seconds| self.lanes.usual().seconds(plan) + seconds),
            bytes: peak_bytes(plan, whole, channels) + generated.bytes,
            output_width: plan.result.width,
            output_height: plan.result.height,
        };
        Ok((estimate, generated.note))
    }

    /// What the passes of the generative engine cost: the time of all, the memory of the largest.
    fn generated(&self, plan: &Plan) -> Result<Cost, PipelineError> {
        plan.generated().try_fold(Cost { seconds: Some(0.0), ..Cost::default() }, |sum, pass| {
            let cost = self.generator.cost(pass, self.device())?;
            let (flops, seconds) = (sum.flops + cost.flops, sum.seconds.zip(cost.seconds).map(|(a, b)| a + b));
            let (bytes, note) = (sum.bytes.max(cost.bytes), cost.note.or(sum.note));
            Ok(Cost { flops, seconds, bytes, held: cost.held, note })
        })
    }

    /// The whole path: decode, plan, run, encode. Blocks, and uses all its threads.
    ///
    /// # Errors
    /// [`PipelineError`]; nothing useful is in `out` then.
    pub fn job<W: Write + Seek + Send>(
        &self,
        bytes: &[u8],
        request: &Request,
        output: &Output,
        limits: &Limits,
        out: &mut W,
        watch: &dyn Watch,
    ) -> Result<Outcome, PipelineError> {
        self.job_of(enlarger_image::open(bytes, limits)?, request, output, out, watch)
    }

    /// [`Self::job`] of a file whose headers have been read.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub fn job_of<W: Write + Seek + Send>(
        &self,
        source: Opened<'_>,
        request: &Request,
        output: &Output,
        out: &mut W,
        watch: &dyn Watch,
    ) -> Result<Outcome, PipelineError> {
        // All in one pool, so that threads go from stage to stage without sleeping.
        pool(self.threads)?.install(|| self.stages(source, request, output, out, watch))
    }

    fn stages<W: Write + Seek + Send>(
        &self,
        source: Opened<'_>,
        request: &Request,
        output: &Output,
        out: &mut W,
        watch: &dyn Watch,
    ) -> Result<Outcome, PipelineError> {
        let place = self.lanes.enter();
        let mut room = Memory::now().available;
        let mut timings = Timings::default();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();

        stage(watch, Stage::Decode, 0.0)?;
        let decoded = self.decode(source, &mut room, watch)?;
        timings.decode = lap();

        stage(watch, Stage::Plan, 0.0)?;
        let (statistics, plan) = self.plan_within(room, &decoded, request, watch)?;
        timings.plan = lap();

        stage(watch, Stage::Enlarge, 0.0)?;
        let Ran { picture, networks, notes: mended } =
            run(&plan, &decoded.picture, place.networks(), &*self.generator, &self.options, watch)?;
        let difference = Difference::of(&picture, &decoded.picture, plan.crop);
        timings.network = networks.as_secs_f64();
        timings.filters = lap() - timings.network;

        stage(watch, Stage::Encode, 1.0)?;
        let device = place.networks().device();
        let format = output.format.unwrap_or(Format::Png);
        let encode = EncodeOptions {
            format,
            quality: output.quality,
            metadata: output.metadata,
            dpi: output.dpi,
            provenance: Some(match device.health() {
                // The same plan has other bytes on another GPU, or with another driver.
                Some(gpu) => format!("{}, on {device} ({}, {})", plan.provenance(), gpu.kernel, gpu.driver),
                None => plan.provenance(),
            }),
        };
        memory::room_for_small()?;
        enlarger_image::encode(&picture, &encode, out)?;
        let mut notes = decoded.notes;
        notes.extend(mended);
        notes.extend(enlarger_image::encode_notes(&picture, &encode));
        timings.encode = lap();

        Ok(Outcome {
            media_type: format.media_type(),
            extension: format.extension(),
            width: picture.width,
            height: picture.height,
            statistics,
            plan,
            device: device.to_string(),
            difference,
            timings,
            notes,
        })
    }

    /// [`Self::plan`], unless it needs more than the `room` in bytes that there was before the picture was decoded.
    fn plan_within(
        &self,
        mut room: u64,
        Decoded { picture, header, .. }: &Decoded,
        request: &Request,
        watch: &dyn Watch,
    ) -> Result<(Statistics, Plan), PipelineError> {
        let (statistics, plan) = self.plan_watched(picture, request, watch)?;
        let pictures = peak_bytes(&plan, extent(header), header.channels);
        self.fits(pictures, &mut room)?;
        let generated = self.generated(&plan)?;
        let need = pictures + generated.bytes.saturating_sub(generated.held);
        if need > room {
            return Err(PipelineError::GenerativeMemory {
                need_mb: need >> 20,
                have_mb: room >> 20,
                hint: smaller(&plan),
            });
        }
        Ok((statistics, plan))
    }

    /// The pixels of a file, unless they alone need more than the `room` in bytes that there is.
    fn decode(&self, source: Opened<'_>, room: &mut u64, watch: &dyn Watch) -> Result<Decoded, PipelineError> {
        let header = source.header();
        let pixels = extent(&header).pixels() * header.channels.count() as u64 * u64::from(header.bits / 8);
        self.fits(WORKING_BYTES + pixels, room)?;
        Ok(source.decode_unless(&|| watch.cancelled())?)
    }

    /// Refuses what needs more than the room. An idle model of the generative engine makes room first.
    fn fits(&self, need: u64, room: &mut u64) -> Result<(), PipelineError> {
        if need > *room {
            *room += self.generator.give_back();
        }
        if need > *room { Err(PipelineError::Memory { need_mb: need >> 20, have_mb: *room >> 20 }) } else { Ok(()) }
    }
}

/// LoRAs that a request can have, those in its prompts included. Each is opened when the request comes, and again when it is planned.
const MOST_LORAS: usize = 32;

fn few_loras(asked: &Generative, prompts: &Prompts) -> Result<(), PipelineError> {
    let count = asked.loras.len() + prompts.loras.len();
    if count <= MOST_LORAS {
        return Ok(());
    }
    let part = if asked.loras.len() > MOST_LORAS { Part::Loras } else { Part::Prompt };
    let (what, hint) = (format!("{count} LoRAs are too many"), format!("use at most {MOST_LORAS}"));
    Err(PipelineError::Request { what, hint }).in_part(part)
}

/// Refuses names that are empty: nothing is chosen by them.
fn named(asked: &Generative) -> Result<(), PipelineError> {
    let lora = asked.loras.iter().map(|lora| lora.name.as_str()).find(|name| name.trim().is_empty());
    let names = [
        (Part::Checkpoint, asked.checkpoint.as_deref()),
        (Part::Control, asked.control.as_deref()),
        (Part::Vae, asked.vae.as_deref()),
        (Part::Loras, lora),
    ];
    match names.into_iter().find(|(_, name)| name.is_some_and(|name| name.trim().is_empty())) {
        Some((part, _)) => Err(PipelineError::Request {
            what: "a name is empty".into(),
            hint: "leave it out, or choose one that `enlarger models scan` lists".into(),
        })
        .in_part(part),
        None => Ok(()),
    }
}

/// What needs less memory than a plan's generative passes.
fn smaller(plan: &Plan) -> String {
    let mut ways = Vec::new();
    let here: Vec<_> =
        plan.generated().filter_map(|pass| if let Pass::Diffuse(pass) = pass { Some(pass) } else { None }).collect();
    if here.iter().any(|pass| pass.tile > 48) {
        ways.push("smaller tiles (a higher fractality)");
    }
    if here.iter().any(|pass| pass.control.is_some()) {
        ways.push("no ControlNet (--control none)");
    }
    ways.push(if here.is_empty() { "a smaller scale" } else { "a checkpoint saved in 16 or 8 bits" });
    format!("to use less memory, try {}, or close other programs", ways.join(", "))
}

fn extent(header: &Header) -> Extent {
    Extent { width: header.width, height: header.height }
}

/// What is assumed of a picture before its pixels are decoded: a clean photograph, which is the most expensive, and
/// transparent if it can be.
fn unseen(width: u32, height: u32, channels: Channels, bits: u8) -> Statistics {
    Statistics {
        width,
        height,
        colours: channels.colours() as u8,
        grey: false,
        transparent: channels.has_alpha(),
        bits,
        damaged: 0.0,
        jpeg_quality: None,
        soft: 0.0,
        oversampled: false,
        dithered: 0,
        drawn: 0.0,
        content: Content::Photo,
        condition: Condition::Clean,
        regions: Vec::new(),
        subject: Subject::default(),
    }
}

/// Peak bytes of a plan: the whole picture that was read, its part that is used if that is a copy, and the largest pair
/// of neighbouring pictures on the way to the result.
fn peak_bytes(plan: &Plan, whole: Extent, channels: Channels) -> u64 {
    let bytes = |e: Extent, bits: u8| e.pixels() * channels.count() as u64 * u64::from(bits / 8);
    // A part is copied twice: with what networks see around it, and alone.
    let copies = if plan.crop.is_some() { 2 } else { u64::from(plan.alpha != AlphaWay::Opaque) };
    let reduced = plan.reduced.map_or(0, |reduced| bytes(reduced, 16));
    // The smoothed copy, and another from which it is made.
    let smoothed = if plan.smoothed > 0 { 2 * bytes(plan.source, plan.bits) } else { 0 };
    let source = bytes(whole, plan.bits) + copies * bytes(plan.source, plan.bits) + smoothed + reduced;
    // The first step reads the source, which is counted already.
    let (mut here, mut size, mut depth, mut peak) = (0, plan.reduced.unwrap_or(plan.source), plan.bits, 0);
    for (i, step) in plan.steps.iter().enumerate() {
        let before = depth;
        (size, depth) = match step {
            Step::Network { from, .. } => (step.ends_at(*from), plan.bits_after(i)),
            Step::Resample { to, .. } => (*to, 16),
            Step::Style { filter, .. } => (size, if filter.keeps_depth() { depth } else { 16 }),
            Step::Diffuse(_) | Step::Workflow(_) => (size, plan.bits_after(i)),
        };
        if let Some(pass) = step.pass() {
            // The source at its size, and what was there before, twice where areas of it stay.
            let undrawn = if pass.keep().is_empty() { 0 } else { here };
            peak = peak.max(here + undrawn + bytes(size, depth) + bytes(pass.at(), plan.bits));
        }
        if let Step::Network { from, patches, .. } = step {
            // Each is made apart before it is blended in.
            let largest = patches.iter().map(|patch| Extent::from(patch.area).pixels()).max().unwrap_or(0);
            let piece = bytes(size, depth) * largest / from.pixels();
            peak = peak.max(here + bytes(size, depth) + piece);
        }
        // Filters work in place, unless on the source, at another depth, or on a texture with what it repeats around it.
        if matches!(step, Step::Style { .. }) && here > 0 && depth == before && !plan.wraps() {
            continue;
        }
        let after = bytes(size, depth);
        peak = peak.max(here + after);
        here = after;
    }
    let last = if depth == plan.bits { 0 } else { bytes(size, plan.bits) };
    WORKING_BYTES + source + peak.max(here + last)
}

fn stage(watch: &dyn Watch, stage: Stage, fraction: f64) -> Result<(), PipelineError> {
    watch.progress(&Progress { stage, done: 0, total: 0, fraction, eta_seconds: None });
    if watch.cancelled() { Err(PipelineError::Cancelled) } else { Ok(()) }
}

impl Size {
    /// The factor that this asks for, for a source of this width and height.
    pub fn factor(self, width: u32, height: u32) -> f64 {
        match self {
            Self::Factor(factor) => factor,
            Self::Width(w) => f64::from(w) / f64::from(width),
            Self::Height(h) => f64::from(h) / f64::from(height),
        }
    }

    /// The size of the result for a source of this width and height: each side rounded to the nearest pixel, at least 1.
    pub fn result(self, width: u32, height: u32) -> Extent {
        let factor = self.factor(width, height);
        let side = |length: u32| (f64::from(length) * factor).round().max(1.0) as u32;
        match self {
            Self::Factor(_) => Extent { width: side(width), height: side(height) },
            Self::Width(exact) => Extent { width: exact, height: side(height) },
            Self::Height(exact) => Extent { width: side(width), height: exact },
        }
    }
}
