//! A card with the CPU for when it fails.

use std::sync::{Arc, Mutex, OnceLock};

use super::{
    card::{Adapter, Card, CardKind},
    engine::Engine,
    kernel::Store,
    model::CardModel,
    tensors::Tensors,
};
use crate::{
    arch::detect,
    architecture::Architecture,
    device::{Arithmetic, Device, Precision},
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

/// A card that runs networks, with the CPU for when it fails.
#[derive(Debug)]
pub struct Gpu {
    title: String,
    pub engine: Arc<Engine>,
    /// Made when they are first asked for.
    tensors: OnceLock<Arc<Tensors>>,
    cpu: Arc<dyn Device>,
}

impl Gpu {
    /// Opens a card. `memory` are the bytes that it may use, `None` is a share of what it has.
    ///
    /// # Errors
    /// [`NnError::Device`] if it cannot be opened.
    pub fn open(
        adapter: &Adapter,
        memory: Option<u64>,
        precision: Precision,
        cpu: Arc<dyn Device>,
    ) -> Result<Self, NnError> {
        let share = if adapter.kind == CardKind::Discrete { SHARE } else { SHARE_OF_SHARED };
        let budget =
            memory.unwrap_or_else(|| adapter.memory().map_or(USUAL_MEMORY, |memory| (memory as f64 * share) as u64));
        let store = if precision == Precision::F32 { Store::F32 } else { Store::F16 };
        let engine = Engine::new(Card::open(adapter)?, store, budget);
        Ok(Self { title: adapter.name.clone(), engine: Arc::new(engine), tensors: OnceLock::new(), cpu })
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        "gpu"
    }

    fn title(&self) -> &str {
        &self.title
    }

    fn arithmetic(&self) -> Arithmetic {
        match self.engine.store {
            Store::F16 => Arithmetic::F16,
            Store::F32 => Arithmetic::F32,
        }
    }

    fn spare(&self) -> Option<&dyn Device> {
        Some(&*self.cpu)
    }

    fn tensors(&self) -> Option<Result<Arc<Tensors>, NnError>> {
        Some(Ok(self.tensors.get_or_init(|| Arc::new(Tensors::new(self.engine.clone()))).clone()))
    }

    fn load(&self, network: &dyn Architecture, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        let (card, failed) = match CardModel::new(self.engine.clone(), network, weights) {
            Ok(card) => (Some(card), None),
            Err(NnError::Device(why)) => (None, Some(why)),
            Err(error) => return Err(error),
        };
        let spare = OnceLock::new();
        if card.is_none() {
            _ = spare.set(self.cpu.load(network, weights)?);
        }
        Ok(Box::new(Guarded {
            card,
            failed: Mutex::new(failed),
            title: self.title.clone(),
            scale: network.scale() as usize,
            weights: weights.clone(),
            cpu: self.cpu.clone(),
            spare,
        }))
    }
}

/// A network on a card, and on the CPU once the card has failed.
struct Guarded {
    card: Option<CardModel>,
    /// Why the card is not used any more.
    failed: Mutex<Option<String>>,
    title: String,
    scale: usize,
    weights: StateDict,
    cpu: Arc<dyn Device>,
    spare: OnceLock<Box<dyn Model>>,
}

impl Model for Guarded {
    fn widest(&self) -> u32 {
        match (&self.card, self.spare.get()) {
            (None, Some(spare)) => spare.widest(),
            (card, _) => card.as_ref().map_or(u32::MAX, CardModel::widest),
        }
    }

    fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let mut done = 0;
        let stride = strip.width * self.scale * 3;
        let failed = self.failed.lock().expect("no panic under it").clone();
        let why = match (&self.card, failed) {
            (Some(card), None) => {
                let ran = card.run(strip, report, &mut |y, rows| {
                    done = y + rows.len() / stride;
                    emit(y, rows);
                });
                match ran {
                    Err(NnError::Device(why)) => self.give_up(why),
                    other => return other,
                }
            }
            (_, failed) => failed.unwrap_or_default(),
        };
        report.note(format!("the CPU computed what the GPU {} should have: {why}", self.title));
        self.spare()?.run(strip, report, &mut |y, rows| {
            let there = done.saturating_sub(y).min(rows.len() / stride);
            if there * stride < rows.len() {
                emit(y + there, &rows[there * stride..]);
            }
        })
    }
}

impl Guarded {
    /// Does without the card from now on.
    fn give_up(&self, why: String) -> String {
        self.failed.lock().expect("no panic under it").get_or_insert(why).clone()
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
