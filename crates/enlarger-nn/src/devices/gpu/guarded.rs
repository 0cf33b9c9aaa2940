//! A card with the CPU for when it fails.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    card::{Adapter, Card, CardKind},
    engine::Engine,
    kernel::{Kind, Store},
    model::CardModel,
    tensors::{Tensors, proof::prove},
    tile::Matrix,
};
use crate::{
    arch::detect,
    architecture::Architecture,
    device::{Arithmetic, Device, Health, Precision},
    devices::{memory::Memory, survey::Surveyed},
    error::NnError,
    model::{Emit, Model, Report, Strip},
    tensor::StateDict,
};

/// Of a card's own memory: the rest is for the desktop and other programs.
const SHARE: f64 = 0.7;
/// Of memory that it shares with the CPU.
const SHARE_OF_SHARED: f64 = 0.25;
/// If the driver does not say how much there is.
const USUAL_MEMORY: u64 = 2 << 30;
/// A card that was lost so often within [`WHILE`] is left alone until that is over.
const MOST_LOSSES: usize = 3;
/// See [`MOST_LOSSES`].
const WHILE: Duration = Duration::from_secs(3600);

/// A card that runs networks, with the CPU for when it fails.
#[derive(Debug)]
pub struct Gpu {
    pub host: Arc<Host>,
    cpu: Arc<dyn Device>,
}

/// A card that is opened again after it was lost.
#[derive(Debug)]
pub struct Host {
    adapter: Adapter,
    store: Store,
    budget: u64,
    /// Its units for matrices, if they are worth using.
    matrix: Option<Matrix>,
    memory: Arc<Memory>,
    /// What makes kernels' texts.
    text: fn(&Kind) -> String,
    state: Mutex<State>,
    /// How often the CPU took over.
    fallbacks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// `None` after a loss, until it is opened again.
    engine: Option<Arc<Engine>>,
    /// Of this engine, made when they are first asked for.
    tensors: Option<Arc<Tensors>>,
    losses: u64,
    /// When it was lost lately.
    lately: Vec<Instant>,
    /// Why the CPU took over the last time.
    trouble: Option<String>,
}

impl State {
    /// Whether it is left alone.
    fn is_given_up(&mut self) -> bool {
        self.lately.retain(|loss| loss.elapsed() < WHILE);
        self.lately.len() >= MOST_LOSSES
    }
}

impl Host {
    /// Opens a card. `budget` are the bytes that it may use, `None` is a share of what it has; `matrix` its units for matrices, if they
    /// are to be used.
    ///
    /// # Errors
    /// [`NnError::Device`] if it cannot be opened.
    pub fn open(
        adapter: Adapter,
        budget: Option<u64>,
        precision: Precision,
        matrix: Option<Matrix>,
        memory: Arc<Memory>,
    ) -> Result<Self, NnError> {
        Self::with_kernels(adapter, budget, precision, matrix, memory, Kind::text)
    }

    /// The same with kernels of another text.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_kernels(
        adapter: Adapter,
        budget: Option<u64>,
        precision: Precision,
        matrix: Option<Matrix>,
        memory: Arc<Memory>,
        text: fn(&Kind) -> String,
    ) -> Result<Self, NnError> {
        let share = if adapter.kind == CardKind::Discrete { SHARE } else { SHARE_OF_SHARED };
        let usual = || adapter.is.memory.map_or(USUAL_MEMORY, |memory| (memory as f64 * share) as u64);
        let budget = budget.unwrap_or_else(usual);
        let store = if precision == Precision::F32 { Store::F32 } else { Store::F16 };
        let (state, fallbacks) = (Mutex::default(), AtomicU64::default());
        let host = Self { adapter, store, budget, matrix, memory, text, state, fallbacks };
        host.engine()?;
        Ok(host)
    }

    /// The card, opened again if it was lost.
    ///
    /// # Errors
    /// [`NnError::Device`] if it does not open, or was lost too often.
    pub fn engine(&self) -> Result<Arc<Engine>, NnError> {
        let mut state = self.state();
        if let Some(engine) = &state.engine {
            return Ok(engine.clone());
        }
        if state.is_given_up() {
            let why = state.trouble.clone().unwrap_or_default();
            let minutes = WHILE.as_secs() / 60;
            return Err(NnError::Device(format!("it was lost {MOST_LOSSES} times within {minutes} minutes; {why}")));
        }
        let card =
            Card::open(&self.adapter, self.matrix.is_some()).inspect_err(|_| state.lately.push(Instant::now()))?;
        let (is, memory) = (self.adapter.is.clone(), self.memory.clone());
        let engine = Arc::new(Engine::new(card, self.store, self.budget, self.matrix, is, memory, self.text));
        state.engine = Some(engine.clone());
        Ok(engine)
    }

    /// Its operations on tensors.
    ///
    /// # Errors
    /// As [`Self::engine`].
    pub fn tensors(&self) -> Result<Arc<Tensors>, NnError> {
        let mut engine = self.engine()?;
        if self.failed(&engine) {
            engine = self.engine()?;
        }
        Ok(self.state().tensors.get_or_insert_with(|| Arc::new(Tensors::new(engine, prove))).clone())
    }

    /// Notes that the card failed, and lets go of it if it was lost. Returns whether it was.
    fn failed(&self, engine: &Arc<Engine>) -> bool {
        if !engine.card.is_lost() {
            return false;
        }
        self.distrust();
        let mut state = self.state();
        if let Some(lost) = state.engine.take_if(|current| Arc::ptr_eq(current, engine)) {
            state.losses += 1;
            state.tensors = None;
            state.lately.push(Instant::now());
            // Its driver may never end what wgpu would wait for when this is dropped. What it holds of the card's memory are its
            // kernels; maps and weights are freed.
            std::mem::forget(lost);
        }
        true
    }

    /// Has kernels tested again: what they passed before proves little now.
    fn distrust(&self) {
        self.memory.forget(&self.adapter.is);
    }

    /// The CPU takes over.
    fn takes_over(&self, why: &str) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        self.state().trouble = Some(why.to_owned());
    }

    /// The CPU takes over, perhaps because the card was lost.
    pub fn gave_up(&self, why: &str) {
        self.takes_over(why);
        let engine = self.state().engine.clone();
        if let Some(engine) = engine {
            self.failed(&engine);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under it")
    }
}

impl Gpu {
    /// A card, and what goes on when it fails.
    pub fn new(host: Host, cpu: Arc<dyn Device>) -> Self {
        Self { host: Arc::new(host), cpu }
    }

    /// Its operations on tensors.
    ///
    /// # Errors
    /// As [`Host::tensors`].
    pub fn tensors(&self) -> Result<Arc<Tensors>, NnError> {
        self.host.tensors()
    }

    /// Which card it is.
    pub fn card(&self) -> &Surveyed {
        &self.host.adapter.is
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        "gpu"
    }

    fn title(&self) -> &str {
        &self.host.adapter.is.name
    }

    fn arithmetic(&self) -> Arithmetic {
        match self.host.store {
            Store::F16 => Arithmetic::F16,
            Store::F32 => Arithmetic::F32,
        }
    }

    fn spare(&self) -> Option<&dyn Device> {
        Some(&*self.cpu)
    }

    fn health(&self) -> Option<Health> {
        let mut state = self.host.state();
        Some(Health {
            driver: self.host.adapter.is.driver.clone(),
            kernel: if state.engine.as_ref().is_some_and(|engine| engine.matrix().is_some()) {
                "matrix"
            } else {
                "fma"
            },
            rate: state.engine.as_ref().and_then(|engine| engine.rate()),
            losses: state.losses,
            fallbacks: self.host.fallbacks.load(Ordering::Relaxed),
            trouble: state.trouble.clone(),
            in_use: !state.is_given_up(),
        })
    }

    fn load(&self, network: &dyn Architecture, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        let guarded = Guarded {
            host: self.host.clone(),
            card: Mutex::default(),
            distrusted: Mutex::default(),
            scale: network.scale() as usize,
            weights: weights.clone(),
            cpu: self.cpu.clone(),
            spare: OnceLock::new(),
        };
        match guarded.bring(network, weights) {
            Ok(_) => {}
            Err(NnError::Device(_)) => _ = guarded.spare.set(self.cpu.load(network, weights)?),
            Err(error) => return Err(error),
        }
        Ok(Box::new(guarded))
    }
}

/// A network on a card, and on the CPU while the card does not work.
struct Guarded {
    host: Arc<Host>,
    /// As it was brought to the card the last time.
    card: Mutex<Option<Arc<CardModel>>>,
    /// Why the card is not used for this network any more: it computed something wrong.
    distrusted: Mutex<Option<String>>,
    scale: usize,
    weights: StateDict,
    cpu: Arc<dyn Device>,
    spare: OnceLock<Box<dyn Model>>,
}

impl Model for Guarded {
    fn widest(&self) -> u32 {
        let card = self.card.lock().expect("no panic under it").clone();
        match (card, self.spare.get()) {
            (None, Some(spare)) => spare.widest(),
            (card, _) => card.map_or(u32::MAX, |card| card.widest()),
        }
    }

    fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let stride = strip.width * self.scale * 3;
        let mut done: usize = 0;
        // Rows come once each, whoever computes them.
        let mut emit_new = |y: usize, rows: &[f32]| {
            let there = done.saturating_sub(y).min(rows.len() / stride);
            if there * stride < rows.len() {
                emit(y + there, &rows[there * stride..]);
                done = y + rows.len() / stride;
            }
        };
        let name = &self.host.adapter.is.name;
        let why = loop {
            let card = match self.card() {
                Ok(card) => card,
                Err(NnError::Device(why)) => break why,
                Err(other) => return Err(other),
            };
            let why = match card.run(strip, report, &mut emit_new) {
                Err(NnError::Device(why)) => why,
                other => return other,
            };
            self.host.distrust();
            if card.engine.card.is_lost() || !card.engine.without_matrix() {
                self.blame(&why, &card.engine);
                break why;
            }
            report.note(format!("the GPU {name} went on without its matrix units: {why}"));
        };
        self.host.takes_over(&why);
        report.note(format!("the CPU computed what the GPU {name} should have: {why}"));
        self.spare()?.run(strip, report, &mut emit_new)
    }
}

impl Guarded {
    /// The network on the card, brought there again if the card was lost since.
    fn card(&self) -> Result<Arc<CardModel>, NnError> {
        if let Some(why) = self.distrusted.lock().expect("no panic under it").clone() {
            return Err(NnError::Device(why));
        }
        let engine = self.host.engine()?;
        let card = self.card.lock().expect("no panic under it").clone();
        let current = |card: &Arc<CardModel>| Arc::ptr_eq(&card.engine, &engine) && card.matrix == engine.matrix();
        if let Some(card) = card.filter(current) {
            return Ok(card);
        }
        let (architecture, weights) = detect(self.weights.clone())?;
        self.bring(&*architecture, &weights)
    }

    /// Brings the network to the card, without its units for matrices if those fail their self-test.
    fn bring(&self, network: &dyn Architecture, weights: &StateDict) -> Result<Arc<CardModel>, NnError> {
        let engine = self.host.engine()?;
        let mut card = CardModel::new(engine.clone(), network, weights);
        if matches!(card, Err(NnError::Device(_))) && !engine.card.is_lost() && engine.without_matrix() {
            card = CardModel::new(engine.clone(), network, weights);
        }
        if let Err(NnError::Device(why)) = &card {
            self.blame(why, &engine);
        }
        let card = Arc::new(card?);
        *self.card.lock().expect("no panic under it") = Some(card.clone());
        Ok(card)
    }

    /// Draws conclusions from a failure. A card that is lost is opened again; one that computes something wrong does so again.
    fn blame(&self, why: &str, engine: &Arc<Engine>) {
        if !self.host.failed(engine) {
            self.distrusted.lock().expect("no panic under it").get_or_insert(why.to_owned());
        }
    }

    /// The same network on the CPU.
    fn spare(&self) -> Result<&dyn Model, NnError> {
        if self.spare.get().is_none() {
            let (architecture, weights) = detect(self.weights.clone())?;
            _ = self.spare.set(self.cpu.load(&*architecture, &weights)?);
        }
        Ok(&**self.spare.get().expect("it was just set"))
    }
}
