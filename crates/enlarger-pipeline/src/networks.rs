//! The networks in memory, and how fast each is on this machine.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use enlarger_models::Catalogue;
use enlarger_nn::{Device, Network, NnError, devices::gpu::took_over, grey, pool};

use crate::{
    error::PipelineError,
    extent::Extent,
    plan::{AlphaWay, Ensemble, Patch, Plan, Step},
};

/// The network that calibrates the machine: the smallest bundled one.
const PROBE_MODEL: &str = "animevideo-v3";
/// Side of the calibration's picture in pixels: some ten milliseconds of work.
const PROBE_SIDE: u32 = 96;
/// Networks kept in memory when no plan needs more: those of the default.
const KEPT: usize = 2;

/// Loads networks once and remembers their speed.
pub(crate) struct Networks {
    catalogue: Arc<Catalogue>,
    device: Arc<dyn Device>,
    /// Of a job.
    threads: usize,
    shelf: Mutex<Shelf>,
    /// Seconds per input pixel, as measured by jobs.
    measured: Mutex<HashMap<String, f64>>,
    /// Parameters times pixels per second, from the first job or the calibration.
    rate: OnceLock<f64>,
}

/// A network, ready to run.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub network: Arc<Network>,
    /// Why it runs on the CPU and not on the GPU, if so: a sentence for the user.
    pub note: Option<String>,
}

/// What is in memory.
#[derive(Default)]
struct Shelf {
    /// The most recently used last.
    loaded: Vec<(String, Loaded)>,
    /// What running plans need, once for each.
    needed: Vec<String>,
}

impl Shelf {
    /// Drops what was not used for longest and no running plan needs, until there are at most `most`.
    fn trim(&mut self, most: usize) {
        while self.loaded.len() > most
            && let Some(at) = self.loaded.iter().position(|(name, _)| !self.needed.contains(name))
        {
            self.loaded.remove(at);
        }
    }
}

/// What a plan's networks cost beside each other.
pub(crate) struct Costs {
    per_pixel: HashMap<String, f64>,
    /// All of the plan.
    pub total: f64,
}

impl Costs {
    /// Of one of the networks, for so many input pixels.
    pub fn of(&self, model: &str, pixels: u64) -> f64 {
        self.per_pixel[model] * pixels as f64
    }
}

/// While it lives, a plan's networks stay in memory once loaded, so that no pass loads them again.
pub(crate) struct Held<'a> {
    networks: &'a Networks,
    names: Vec<String>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut shelf = self.networks.shelf.lock().expect("loading does not panic");
        for name in &self.names {
            if let Some(at) = shelf.needed.iter().position(|needed| needed == name) {
                shelf.needed.swap_remove(at);
            }
        }
        shelf.trim(KEPT);
    }
}

impl Networks {
    pub fn new(catalogue: Arc<Catalogue>, device: Arc<dyn Device>, threads: usize) -> Self {
        Self { catalogue, device, threads, shelf: Mutex::default(), measured: Mutex::default(), rate: OnceLock::new() }
    }

    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Keeps the networks of a plan until it has run.
    pub fn hold(&self, plan: &Plan) -> Held<'_> {
        let names: Vec<String> = names(plan).map(Into::into).collect();
        self.shelf.lock().expect("loading does not panic").needed.extend(names.iter().cloned());
        Held { networks: self, names }
    }

    /// The network of this name, on the CPU if the GPU may not use as much memory as it needs.
    pub fn get(&self, model: &str) -> Result<Loaded, PipelineError> {
        // Held while loading, so that two jobs never load the same weights at once.
        let mut shelf = self.shelf.lock().expect("loading does not panic");
        if let Some(at) = shelf.loaded.iter().position(|(n, _)| n == model) {
            let entry = shelf.loaded.remove(at);
            let loaded = entry.1.clone();
            shelf.loaded.push(entry);
            return Ok(loaded);
        }
        // Before the next one comes.
        shelf.trim(KEPT - 1);
        let (architecture, weights) = self.catalogue.load(model)?;
        let (network, note) = match (Network::build(architecture, &weights, &*self.device), self.device.spare()) {
            (Err(NnError::DeviceMemory { needed, budget }), Some(cpu)) => {
                let (megabytes, title) = (needed.div_ceil(1 << 20), self.device.title());
                let note = format!(
                    "the CPU computes {model} instead of the GPU {title}, of whose memory it needs {megabytes} MB and {} MB may be used; \
                     allow it with --gpu-memory {megabytes}",
                    budget >> 20
                );
                took_over(&*self.device, &note);
                let (architecture, _) = self.catalogue.load(model)?;
                (Network::build(architecture, &weights, cpu)?, Some(note))
            }
            (network, _) => (network?, None),
        };
        let loaded = Loaded { network: Arc::new(network), note };
        shelf.loaded.push((model.to_owned(), loaded.clone()));
        Ok(loaded)
    }

    /// What a plan's networks would run on, and, as sentences, which of them on the CPU and not on the GPU, and why.
    pub fn elsewhere(&self, plan: &Plan) -> Result<(&dyn Device, Vec<String>), PipelineError> {
        let Some(cpu) = self.device.spare() else { return Ok((&*self.device, Vec::new())) };
        let notes = names(plan).map(|model| Ok(self.get(model)?.note)).collect::<Result<Vec<_>, PipelineError>>()?;
        let device = if !notes.is_empty() && notes.iter().all(Option::is_some) { cpu } else { &*self.device };
        Ok((device, notes.into_iter().flatten().collect()))
    }

    /// Parameters times pixels per second, if that is known by now.
    pub fn rate(&self) -> Option<f64> {
        self.rate.get().copied()
    }

    /// Expected seconds of all networks of a plan.
    pub fn seconds(&self, plan: &Plan) -> f64 {
        let calibrated = || *self.rate.get_or_init(|| self.calibrate());
        total(plan, |model| self.per_pixel(model, calibrated))
    }

    /// What a job's progress is weighted by: seconds or, as long as this machine has not been measured, parameters.
    /// Measuring now would delay the job, unless it takes so long that it does not matter: `others` are the seconds of what is no network.
    pub fn costs(&self, plan: &Plan, others: f64) -> Costs {
        let rate = if others > 0.0 { Some(self.rate.get_or_init(|| self.calibrate())) } else { self.rate.get() };
        let cost = |model: &str| rate.map_or_else(|| self.parameters(model), |rate| self.per_pixel(model, || *rate));
        let per_pixel = names(plan).map(|model| (model.to_owned(), cost(model))).collect();
        let mut costs = Costs { per_pixel, total: 0.0 };
        costs.total = (total(plan, |model| costs.of(model, 1)) + others).max(f64::MIN_POSITIVE);
        costs
    }

    /// Seconds per input pixel: measured if this model has run, else from its size and a rate.
    fn per_pixel(&self, model: &str, rate: impl Fn() -> f64) -> f64 {
        if let Some(&seconds) = self.measured.lock().expect("no panic under it").get(model) {
            return seconds;
        }
        self.parameters(model) / rate()
    }

    fn parameters(&self, model: &str) -> f64 {
        self.catalogue.get(model).map_or(1.0, |m| m.parameters as f64)
    }

    /// Moves the remembered speed half-way to what a pass has just shown.
    pub fn learn(&self, model: &str, pixels: u64, elapsed: Duration) {
        // Tiny pictures measure overhead, not speed.
        if pixels < 64 * 64 {
            return;
        }
        let now = elapsed.as_secs_f64() / pixels as f64;
        self.rate.get_or_init(|| self.parameters(model) / now);
        let mut measured = self.measured.lock().expect("no panic under it");
        measured.entry(model.to_owned()).and_modify(|s| *s = 0.5 * (*s + now)).or_insert(now);
    }

    /// Runs the smallest network on a grey square: parameters times pixels per second.
    fn calibrate(&self) -> f64 {
        const FALLBACK: f64 = 5e9;
        let Ok(Loaded { network, .. }) = self.get(PROBE_MODEL) else { return FALLBACK };
        let Ok(pool) = pool(self.threads) else { return FALLBACK };
        let started = Instant::now();
        match pool.install(|| grey(&network, PROBE_SIDE)) {
            Ok(()) => {
                let pixels = f64::from(PROBE_SIDE * PROBE_SIDE);
                self.parameters(PROBE_MODEL) * pixels / started.elapsed().as_secs_f64().max(1e-6)
            }
            Err(_) => FALLBACK,
        }
    }
}

/// All networks of a plan.
fn names(plan: &Plan) -> impl Iterator<Item = &str> {
    let alpha = match &plan.alpha {
        AlphaWay::Network(name) => Some(name.as_str()),
        AlphaWay::Opaque | AlphaWay::Whole | AlphaWay::Cubic => None,
    };
    plan.models().into_iter().chain(alpha)
}

/// The sum over all passes of a plan.
fn total(plan: &Plan, per_pixel: impl Fn(&str) -> f64) -> f64 {
    let alpha = match &plan.alpha {
        AlphaWay::Network(name) => per_pixel(name),
        AlphaWay::Opaque | AlphaWay::Whole | AlphaWay::Cubic => 0.0,
    };
    let step = |step: &Step| match step {
        Step::Network { by, from, patches, .. } => {
            let all = |by: &Ensemble| by.names().map(&per_pixel).sum::<f64>();
            let patch = |patch: &Patch| Extent::from(patch.area).computed() as f64 * all(&patch.by);
            from.computed() as f64 * (all(by) + alpha) + patches.iter().map(patch).sum::<f64>()
        }
        Step::Resample { .. } | Step::Style { .. } | Step::Diffuse(_) | Step::Workflow(_) => 0.0,
    };
    plan.steps.iter().map(step).sum()
}
