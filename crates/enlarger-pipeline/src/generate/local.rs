//! The generative engine on this machine: checkpoints that lie on its disks, run by `enlarger-diffusion`.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use enlarger_diffusion::{
    Error,
    bundle::{Bundle, Costs, Files, Size},
    cpu::Cpu,
    engine::{Model, Networks, Part as Stage, Progress, Prompted, Request, canvas, run_rows},
    family::{Checkpoint, Family, Kind},
    ladder::Ladder,
    noise::Noise,
    ops::Ops,
    prompt::Piece as Words,
    sampler::{self, Schedule},
    tiles::{Pixels, Tiles},
};
use enlarger_models::{Found, Library, What};
use enlarger_nn::{Device, RunProgress, Sink, Source, pool};

use crate::{
    error::{InPart, Part, PipelineError},
    request::{Generative, Sampler},
};

use super::{
    Cost, Diffuse, Generator, Merged, Offering, Parts, Pass, Patience, Piece, Prompts, Seen, Weights,
    gpu::{Gpus, OnGpu, count},
    kept::{Kept, Key, lock},
    pace::calibrate,
};

/// How often somebody who waits is told, and may stop it.
const BEAT: Duration = Duration::from_millis(200);
/// Bytes of weights read per second, until a model has been loaded.
const READING: f64 = 5e8;
/// Reading this many bytes or less shows no speed.
const SMALL_FILE: u64 = 64 << 20;

/// Runs checkpoints of a library.
pub(crate) struct Local {
    library: Arc<Library>,
    threads: usize,
    /// Where files that were planned with lie, by SHA-256.
    paths: Mutex<HashMap<String, PathBuf>>,
    kept: Kept<Model<Cpu>>,
    gpus: Gpus,
    /// Operations per second of the CPU, as measured by passes or a calibration.
    speed: Mutex<Option<f64>>,
    /// Bytes of weights that are read per second, as measured when a model was loaded.
    reading: Mutex<f64>,
}

impl Local {
    pub fn new(library: Arc<Library>, threads: usize) -> Self {
        let (paths, kept, gpus, speed) = (Mutex::default(), Kept::default(), Gpus::default(), Mutex::default());
        Self { library, threads, paths, kept, gpus, speed, reading: Mutex::new(READING) }
    }

    /// A file's name and hash. Where it lies is remembered.
    fn weights(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Weights, PipelineError> {
        let sha256 = self.library.sha256(path, cancelled)?;
        lock(&self.paths).insert(sha256.clone(), path.to_owned());
        Ok(Weights { name: Library::name(path), sha256 })
    }

    /// The file that a plan names, if it is still the same.
    fn path(&self, kind: &'static str, weights: &Weights) -> Result<PathBuf, PipelineError> {
        let known = lock(&self.paths).get(&weights.sha256).cloned();
        let path = match known.filter(|path| path.exists()) {
            Some(path) => path,
            None => self.library.find(kind, &weights.name)?,
        };
        if self.library.sha256(&path, &|| false)? != weights.sha256 {
            return Err(PipelineError::Request {
                what: format!("{} has changed since this was planned", weights.name),
                hint: "start it again to use the file as it is now".into(),
            });
        }
        Ok(path)
    }

    fn files(&self, step: &Diffuse) -> Result<Files, PipelineError> {
        let optional = |kind, weights: &Option<Weights>| weights.as_ref().map(|w| self.path(kind, w)).transpose();
        let loras = step.loras.iter().map(|lora| Ok((self.path("lora", &lora.weights)?, lora.strength)));
        Ok(Files {
            checkpoint: self.path("checkpoint", &step.checkpoint)?,
            vae: optional("vae", &step.vae)?,
            control: optional("control", &step.control)?,
            loras: loras.collect::<Result<_, PipelineError>>()?,
            embeddings: step.embeddings.iter().map(|w| self.path("embedding", w)).collect::<Result<_, _>>()?,
        })
    }

    fn costs(&self, step: &Diffuse, bundle: &Bundle) -> Result<Costs, PipelineError> {
        let words = [words(&step.prompt), words(&step.negative)];
        let chunks = bundle.chunks(&[&words[0], &words[1]])?;
        let (width, height) = (step.at.width as usize, step.at.height as usize);
        let guided = step.guidance != 1.0;
        let tiles = &tiles(step);
        Ok(bundle.cost(&Size { width, height, tiles, steps: step.steps(), guided, chunks })?)
    }

    /// The model on a device, from memory if it was the last one.
    fn model<O: Ops + 'static>(
        &self,
        kept: &Kept<Model<O>>,
        step: &Diffuse,
        bundle: &Bundle,
        costs: &Costs,
        ops: &O,
    ) -> Result<Arc<Model<O>>, Error> {
        let load = || {
            let started = Instant::now();
            let model = bundle.load(ops)?;
            let now = costs.loaded as f64 / started.elapsed().as_secs_f64().max(1e-6);
            // Tiny files measure overhead, not speed.
            if costs.loaded > SMALL_FILE {
                *lock(&self.reading) = now;
            }
            Ok(model)
        };
        kept.get(key(step), costs.resident, load)
    }

    /// Seconds of a pass: reading of weights and text, encoding, predictions, decoding.
    fn seconds(&self, step: &Diffuse, costs: &Costs, gpu: Option<&OnGpu>) -> [f64; 4] {
        let (speed, reading) = (self.speed(gpu), *lock(&self.reading));
        let kept = gpu.map_or_else(|| self.kept.has(&key(step)), |gpu| gpu.kept.has(&key(step)));
        let loaded = if kept { 0 } else { costs.loaded };
        let mut seconds = work(costs, gpu).map(|work| work / speed);
        if gpu.is_some() {
            // The CPU reads the text.
            seconds[0] = costs.work()[0] / self.speed(None);
        }
        seconds[0] += (loaded + costs.texts) as f64 / reading;
        seconds
    }

    fn speed(&self, gpu: Option<&OnGpu>) -> f64 {
        const FALLBACK: f64 = 1e10;
        let of_cpu = || pool(self.threads).ok()?.install(|| calibrate(&Cpu::default())).ok();
        let mut speed = lock(gpu.map_or(&self.speed, |gpu| &gpu.speed));
        *speed.get_or_insert_with(|| gpu.map_or_else(of_cpu, |gpu| gpu.calibrate().ok()).unwrap_or(FALLBACK))
    }

    fn only_checkpoint(&self, found: &[Found]) -> Result<PathBuf, PipelineError> {
        let all: Vec<&Found> = found.iter().filter(|f| f.what.kind() == "checkpoint").collect();
        match all[..] {
            [one] => Ok(one.path.clone()),
            [] => Err(PipelineError::Request {
                what: format!(
                    "the generative engine needs a Stable Diffusion checkpoint, and none was found{}",
                    self.instead()
                ),
                hint: "name its file with --checkpoint, or the models folder of ComfyUI or A1111 with --model-dirs or ENLARGER_MODEL_DIRS"
                    .into(),
            }),
            _ => {
                let names: Vec<&str> = all.iter().map(|f| f.name.as_str()).collect();
                Err(PipelineError::Request {
                    what: format!("there are {} checkpoints", all.len()),
                    hint: format!("choose one with --checkpoint NAME: {}", names.join(", ")),
                })
            }
        }
    }

    /// What there is where no checkpoint is: how many other files, and of the first that is not supported, why.
    fn instead(&self) -> String {
        let found = self.library.scan();
        let why = found.iter().find_map(|found| match &found.what {
            What::Unsupported(why) => Some(why.split("; hint: ").next().unwrap_or(why)),
            _ => None,
        });
        match (found.len(), why) {
            (0, _) => String::new(),
            (count, None) => format!(" among {count} other models"),
            (1, Some(why)) => format!(": {why}"),
            (count, Some(why)) => format!(" among {count} models, such as: {why}"),
        }
    }

    /// The ControlNet for tiles of a family: by its name, or one for several kinds of pictures.
    fn default_control(found: &[Found], family: Family) -> Option<&Found> {
        let follows = |f: &&Found, of_union: bool| match f.what {
            What::Part(Kind::Control { family: own, union }) if own == family => {
                f.name.to_lowercase().contains("tile") || of_union && union
            }
            _ => false,
        };
        let named = found.iter().find(|f| follows(f, false));
        named.or_else(|| found.iter().find(|f| follows(f, true)))
    }
}

impl Local {
    fn parts(
        &self,
        asked: &Generative,
        prompts: &Prompts,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Parts, PipelineError> {
        let weights = |path: &PathBuf| self.weights(path, cancelled);
        let mut notes = Vec::new();
        let found =
            if asked.checkpoint.is_none() || asked.control.is_none() { self.library.parts() } else { Vec::new() };
        let checkpoint = match &asked.checkpoint {
            Some(name) => self.library.find("checkpoint", name).in_part(Part::Checkpoint)?,
            None => self.only_checkpoint(&found).in_part(Part::Checkpoint)?,
        };
        let mut files = Files { checkpoint, ..Files::default() };
        let opened = Checkpoint::open(&files.checkpoint).in_part(Part::Checkpoint)?;
        let family = opened.family;
        if let Some(name) = &asked.vae {
            files.vae = Some(self.library.find("vae", name).in_part(Part::Vae)?);
        }
        // A checkpoint without a VAE is what that part is about, as long as no VAE was named.
        let of_files = if files.vae.is_some() { Part::Vae } else { Part::Checkpoint };
        let mut bundle = Bundle::of(opened, files.vae.as_deref()).in_part(of_files)?;
        let named = asked.loras.iter().map(|lora| (lora, self.library.find("lora", &lora.name), Part::Loras));
        // Prompts are passed around; whoever pastes one does not mean to open a file of its choice.
        let pasted = prompts.loras.iter().map(|lora| (lora, self.library.named("lora", &lora.name), Part::Prompt));
        for (lora, path, part) in named.chain(pasted) {
            let path = path.in_part(part)?;
            let unused = bundle.add_lora(&path, lora.strength).in_part(part)?;
            if unused > 0 {
                notes.push(format!("the checkpoint lacks {unused} of the layers that the LoRA {} changes", lora.name));
            }
            files.loras.push((path, lora.strength));
        }
        match asked.control.as_deref() {
            Some("none") => {}
            Some(name) => files.control = Some(self.library.find("control", name).in_part(Part::Control)?),
            None => match Self::default_control(&found, family) {
                Some(found) => files.control = Some(found.path.clone()),
                None => notes.push(format!(
                    "no {family} ControlNet with \"tile\" in its name, and no union ControlNet was found, so only low creativity stays close to the source"
                )),
            },
        }
        if let Some(path) = &files.control {
            bundle.add_control(path).in_part(Part::Control)?;
        }
        files.embeddings = self.embeddings(family, prompts, &mut notes);
        for path in &files.embeddings {
            bundle.add_embedding(path).in_part(Part::Prompt)?;
        }
        let control = files.control.as_ref().map(weights).transpose()?;
        if let Some(hint) = distilled(&files, asked) {
            notes.push(hint);
        }
        let loras = files
            .loras
            .iter()
            .map(|(path, strength)| Ok::<_, PipelineError>(Merged { weights: weights(path)?, strength: *strength }));
        Ok(Parts {
            checkpoint: weights(&files.checkpoint)?,
            vae: files.vae.as_ref().map(weights).transpose()?,
            control,
            residuals: bundle.residuals(),
            loras: loras.collect::<Result<_, _>>()?,
            embeddings: files.embeddings.iter().map(weights).collect::<Result<_, _>>()?,
            // Attention grows with the square of a tile's area: on a CPU 64 latents are cheapest where a network still sees enough.
            tiles: match family {
                Family::Sd1 | Family::Sd2 => [128.0, 96.0, 64.0, 56.0, 48.0],
                Family::Sdxl => [160.0, 144.0, 128.0, 88.0, 64.0],
            },
            notes,
        })
    }
}

impl Generator for Local {
    fn offering(
        &self,
        asked: &Generative,
        prompts: &Prompts,
        _: Patience,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Offering, PipelineError> {
        self.parts(asked, prompts, cancelled).map(Offering::Files)
    }

    fn cost(&self, pass: Pass<'_>, device: &dyn Device) -> Result<Cost, PipelineError> {
        let step = here(pass)?;
        let costs = self.costs(step, &Bundle::open(&self.files(step)?)?)?;
        let (gpu, note) = match self.gpus.of(device, &costs) {
            Ok(gpu) => (gpu, None),
            Err(why) => (None, Some(why)),
        };
        let seconds = self.seconds(step, &costs, gpu.as_deref()).iter().sum();
        // Weights in a GPU's memory take none here.
        let elsewhere = if gpu.is_some() { costs.loaded } else { 0 };
        let (bytes, held) = (costs.peak - elsewhere, self.kept.spares(&key(step)));
        Ok(Cost { flops: costs.total(), seconds: Some(seconds), bytes, held, note })
    }

    fn give_back(&self) -> u64 {
        self.kept.give_back()
    }

    fn run(
        &self,
        pass: Pass<'_>,
        device: &dyn Device,
        [from, hint]: [&dyn Source; 2],
        to: &dyn Sink,
        tell: &(dyn Fn(RunProgress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<String>, PipelineError> {
        let step = here(pass)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        // Held while telling, so that nobody hears of less than before.
        let last = Mutex::new(RunProgress { done: 0, total: 0, fraction: 0.0 });
        let (running, ended) = channel::<()>();
        std::thread::scope(|scope| {
            // A tile takes seconds: between two reports the one who waits is told the last again, and may stop it.
            scope.spawn(|| {
                let ended = ended;
                while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                    let progress = lock(&last);
                    if tell(*progress).is_break() {
                        cancelled.store(true, Relaxed);
                    }
                }
            });
            // Dropped however this ends, which ends the thread.
            let _running = running;
            self.pass(step, device, [from, hint], to, &cancelled, &|progress| {
                let mut last = lock(&last);
                *last = progress;
                tell(progress)
            })
        })
    }
}

impl Local {
    fn pass(
        &self,
        step: &Diffuse,
        device: &dyn Device,
        [from, hint]: [&dyn Source; 2],
        to: &dyn Sink,
        cancelled: &Arc<AtomicBool>,
        tell: &(dyn Fn(RunProgress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<String>, PipelineError> {
        let bundle = Bundle::open(&self.files(step)?)?;
        let costs = self.costs(step, &bundle)?;
        let mut notes = Vec::new();
        let gpu = self.gpus.of(device, &costs).unwrap_or_else(|why| {
            count(device, &why);
            notes.push(why);
            None
        });
        let _reserved = gpu.as_ref().map(|gpu| gpu.reserve(&costs));
        let [reading, encode, predict, decode] = self.seconds(step, &costs, gpu.as_deref());
        let tiles = tiles(step);
        let side = tiles
            .side
            .min(canvas(step.at.height as usize, step.at.width as usize, false).into_iter().max().unwrap_or(8));
        let texts = [words(&step.prompt), words(&step.negative)];
        let cpu = Cpu::cancelled_by(cancelled.clone());
        let read = bundle.read(&cpu, &[&texts[0], &texts[1]], step.clip_skip as usize, [side; 2])?;
        let [prompt, negative] = &read[..] else { unreachable!("as many as texts") };

        let (width, height) = (step.at.width as usize, step.at.height as usize);
        let [down, across] = canvas(height, width, step.seamless);
        let schedule = Schedule { sigmas: step.sigmas.clone(), times: step.times.clone() };
        let (from, hint) = (Seen(from), Seen(hint));
        let request = Request {
            pixels: &from,
            width,
            height,
            prompt,
            negative,
            guidance: step.guidance,
            sampler: sampler(step.sampler),
            schedule: &schedule,
            noise: &Noise::new(step.seed).latents(down, across),
            step_seed: step.seed.wrapping_add(1),
            control: step.control.as_ref().map(|_| (&hint as &dyn Pixels, step.control_scales.as_slice())),
            tiles: &tiles,
        };
        let whole = (reading + encode + predict + decode).max(f64::MIN_POSITIVE);
        let [encoded, predicted, decoded] = costs.tiles;
        let mut progress = |progress: Progress| {
            let (tiles, before, all) = match progress.part {
                Stage::Encode => (0, reading, encode),
                Stage::Predict => (encoded, reading + encode, predict),
                Stage::Decode => (encoded + predicted, reading + encode + predict, decode),
            };
            let fraction = (before + all * progress.done as f64 / progress.of.max(1) as f64) / whole;
            tell(RunProgress { done: tiles + progress.done, total: encoded + predicted + decoded, fraction })
        };
        let mut networks = Ladder::new(bundle.prediction());
        if let Some(gpu) = &gpu {
            let model = |ops: &_| self.model(&gpu.kept, step, &bundle, &costs, ops);
            gpu.add_to(&mut networks, &request, cancelled, model);
        }
        networks.add("CPU", || {
            let model = self.model(&self.kept, step, &bundle, &costs, &cpu)?;
            Ok(Box::new(Prompted::new(model, cpu.clone(), &request)?) as Box<dyn Networks>)
        });
        let started = Instant::now();
        let mut rows = |first: usize, rows: &[f32]| {
            to.write(0, first as u32, step.at.width, (rows.len() / 3 / width) as u32, rows);
            Ok(())
        };
        let ran = run_rows(&networks, &request, &mut progress, &mut rows);
        let failed = networks.notes();
        if let Some(why) = networks.last_resort() {
            count(device, &why);
        }
        if let Some(gpu) = &gpu {
            gpu.rest(failed.is_empty());
        }
        ran?;
        // Tiny pictures measure overhead, not speed.
        if costs.total() > 1e11 && failed.is_empty() {
            let work: f64 = work(&costs, gpu.as_deref())[1..].iter().sum();
            let now = work / started.elapsed().as_secs_f64().max(1e-6);
            let mut speed = lock(gpu.as_ref().map_or(&self.speed, |gpu| &gpu.speed));
            *speed = Some(speed.map_or(now, |before| 0.5 * (before + now)));
        }
        notes.extend(failed);
        Ok(notes)
    }

    /// Embeddings that the prompts name: `NAME`, or `embedding:NAME` as ComfyUI has it, which leaves no doubt that one is meant.
    fn embeddings(&self, family: Family, prompts: &Prompts, notes: &mut Vec<String>) -> Vec<PathBuf> {
        let texts = [&prompts.prompt, &prompts.negative].map(|text| text.to_lowercase());
        let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '[' | ']' | ':');
        let named = |name: &str| texts.iter().any(|text| text.split(is_end).any(|word| word == name));
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Vec::new();
        }
        let found = self.library.parts().into_iter().filter(|f| matches!(f.what, What::Part(Kind::Embedding { .. })));
        let found = found.filter(|found| named(&found.name.to_lowercase()));
        let (found, others): (Vec<Found>, Vec<Found>) = found.partition(|found| found.what.fits(family));
        let found: Vec<PathBuf> = found.into_iter().map(|found| found.path).collect();
        let is_there = |name: &str| found.iter().any(|path| Library::name(path).eq_ignore_ascii_case(name));
        for name in
            texts.iter().flat_map(|text| text.split("embedding:").skip(1).filter_map(|rest| rest.split(is_end).next()))
        {
            if !name.is_empty() && !is_there(name) {
                notes.push(format!("there is no {family} embedding named {name:?}, so the prompt is taken literally"));
            }
        }
        for Found { name, what, .. } in others {
            notes.push(format!("{name} in the prompt is taken literally: the file of that name is an {what}"));
        }
        found
    }
}

/// What a model in memory is known by.
fn key(step: &Diffuse) -> Key {
    let parts = [Some(&step.checkpoint), step.vae.as_ref(), step.control.as_ref()];
    let parts = parts.into_iter().map(|part| (part.map_or_else(String::new, |w| w.sha256.clone()), 0));
    parts.chain(step.loras.iter().map(|lora| (lora.weights.sha256.clone(), lora.strength.to_bits()))).collect()
}

/// A pass that was planned for this machine.
fn here(pass: Pass<'_>) -> Result<&Diffuse, PipelineError> {
    match pass {
        Pass::Diffuse(step) => Ok(step),
        Pass::Workflow(step) => Err(PipelineError::Request {
            what: format!("this was planned for {}", step.generator),
            hint: "start it again".into(),
        }),
    }
}

/// Names that say that few steps and no guidance are meant. A hint, never trusted: the request says how it is run.
fn distilled(files: &Files, asked: &Generative) -> Option<String> {
    let name = files.checkpoint.file_stem()?.to_string_lossy().to_lowercase();
    let word = ["lcm", "turbo", "lightning", "hyper"].into_iter().find(|word| name.contains(word))?;
    if asked.guidance.is_some() || asked.sampler == Sampler::Lcm {
        return None;
    }
    Some(format!(
        "the checkpoint's name says {word:?}: if it is distilled, add --guidance 1 --steps 8, or --sampler lcm for LCM"
    ))
}

fn words(pieces: &[Piece]) -> Vec<Words> {
    pieces.iter().map(|piece| (piece.text.clone(), piece.weight)).collect()
}

fn tiles(step: &Diffuse) -> Tiles {
    let shifts = step.shifts.iter().map(|shift| shift.map(|by| by as usize)).collect();
    Tiles { side: step.tile as usize, overlap: step.overlap as usize, shifts, wrap: step.seamless }
}

fn sampler(of: Sampler) -> sampler::Sampler {
    match of {
        Sampler::Dpmpp2m => sampler::Sampler::Dpmpp2m,
        Sampler::Euler => sampler::Sampler::Euler,
        Sampler::EulerAncestral => sampler::Sampler::EulerAncestral,
        Sampler::Ddim => sampler::Sampler::Ddim,
        Sampler::Lcm => sampler::Sampler::Lcm,
    }
}

/// Operations of a pass: text, encoding, predictions, decoding. On the CPU also what it takes to widen weights.
fn work(costs: &Costs, gpu: Option<&OnGpu>) -> [f64; 4] {
    if gpu.is_some() { costs.flops } else { costs.work() }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use enlarger_nn::Backend;

    use super::*;
    use crate::{extent::Extent, generate::numbers::generation, request::Creative};

    /// The header of a checkpoint of SD 1.x without a byte on disk behind it.
    fn sparse(path: &Path) {
        let mut at = 0;
        let mut header = serde_json::Map::new();
        for line in include_str!("../../../enlarger-diffusion/tests/reference/sd15.keys").lines() {
            let (name, shape) = line.split_once(' ').unwrap();
            let mut shape: Vec<usize> = shape.split('x').map(|l| l.parse().unwrap()).collect();
            if name.starts_with("lora_") || name.starts_with("control_model.") {
                continue;
            }
            if name.contains("attn2.to_k") || name.contains("attn2.to_v") {
                shape[1] = 768;
            } else if name.starts_with("cond_stage_model.") {
                shape.iter_mut().filter(|l| **l == 32).for_each(|l| *l = 768);
            }
            let from = at;
            at += 2 * shape.iter().product::<usize>();
            let entry = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [from, at]});
            header.insert(name.to_owned(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(&header).unwrap();
        file.set_len((8 + header.len() + at) as u64).unwrap();
    }

    #[test]
    fn a_pass_whose_file_changed_since_its_plan_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        sparse(&path);
        let local = Local::new(Arc::new(Library::new(vec![folder.path().to_owned()], None)), 1);
        let device = Backend::default().find().unwrap();
        let (asked, prompts) = (Generative::default(), Prompts::default());
        let parts = local.parts(&asked, &prompts, &|| false).unwrap();
        assert!(parts.notes[0].starts_with("no SD 1.x ControlNet"), "{:?}", parts.notes);
        let at = Extent { width: 512, height: 256 };
        let pass = generation(&Creative::default(), &asked, &prompts, parts, 1).unwrap().pass(0, at, at).unwrap();
        let cost = local.cost(Pass::Diffuse(&pass), &*device).unwrap();
        assert!(cost.seconds > Some(0.0) && cost.bytes > 20 << 20, "{cost:?}");

        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
        let error = local.cost(Pass::Diffuse(&pass), &*device).unwrap_err();
        assert_eq!(error.to_string(), "a has changed since this was planned");
        fs::remove_file(&path).unwrap();
        assert_eq!(
            local.cost(Pass::Diffuse(&pass), &*device).unwrap_err().to_string(),
            "there is no checkpoint named \"a\""
        );
    }
}
