//! A card with its kernels and its speed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    budget::Budget,
    card::{Card, Kernel},
    kernel::{Kind, Store},
    proof::prove,
    tile::Matrix,
};
use crate::{
    devices::{memory::Memory, survey::Surveyed},
    error::NnError,
};

/// Seconds that a submission is made to take: systems take a card that is busy for 2 s for one that hangs.
const SUBMISSION: f64 = 0.1;
/// Operations per second that are expected of a card before it has been measured: few.
const SLOWEST: f64 = 1e10;
/// A card that runs networks.
#[derive(Debug)]
pub struct Engine {
    pub card: Card,
    pub store: Store,
    /// Its memory as far as it may be used.
    pub budget: Arc<Budget>,
    kernels: Mutex<HashMap<Kind, Kernel>>,
    pace: Mutex<Pace>,
    /// Which card it is, and what is known of it.
    is: Surveyed,
    memory: Arc<Memory>,
    /// One strip at a time: what is left of the budget is for one.
    turn: Mutex<()>,
    /// What makes kernels' texts.
    pub text: fn(&Kind) -> String,
    /// Its units for matrices, while they are used.
    matrix: Mutex<Option<Matrix>>,
}

impl Engine {
    pub fn new(
        card: Card,
        store: Store,
        budget: u64,
        matrix: Option<Matrix>,
        is: Surveyed,
        memory: Arc<Memory>,
        text: fn(&Kind) -> String,
    ) -> Self {
        let (kernels, pace, turn) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (budget, matrix) = (Budget::new(budget), Mutex::new(matrix));
        Self { card, store, budget, kernels, pace, is, memory, turn, text, matrix }
    }

    /// Its units for matrices, if they are used.
    pub fn matrix(&self) -> Option<Matrix> {
        *self.matrix.lock().expect("no panic under it")
    }

    /// Uses its units for matrices no more. Returns whether it did.
    pub fn without_matrix(&self) -> bool {
        self.matrix.lock().expect("no panic under it").take().is_some()
    }

    /// A kernel, compiled when it is first needed, and tested when it is first needed on this card with this driver.
    ///
    /// # Errors
    /// [`NnError::Device`] if the driver does not compile it, or it computes something else.
    pub fn kernel(&self, kind: &Kind) -> Result<Kernel, NnError> {
        let mut kernels = self.kernels.lock().expect("no panic under it");
        if let Some(kernel) = kernels.get(kind) {
            return Ok(kernel.clone());
        }
        let text = (self.text)(kind);
        let kernel = self.card.compile(&text)?;
        if !self.memory.has_passed(&self.is, &text) {
            prove(&self.card, kind, &kernel)?;
            self.memory.pass(&self.is, &text);
        }
        kernels.insert(kind.clone(), kernel.clone());
        Ok(kernel)
    }

    /// Waits until no other strip runs.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that are submitted at once.
    pub fn at_once(&self) -> f64 {
        self.pace.lock().expect("no panic under it").at_once()
    }

    /// Learns from so many operations in so many seconds.
    pub fn learn(&self, flops: f64, seconds: f64) {
        self.pace.lock().expect("no panic under it").learn(flops, seconds);
    }

    /// Operations per second, once some were measured.
    pub fn rate(&self) -> Option<f64> {
        self.pace.lock().expect("no panic under it").0
    }
}

/// Operations per second, as measured so far.
#[derive(Debug, Default)]
pub struct Pace(Option<f64>);

impl Pace {
    /// Operations that are submitted at once.
    pub fn at_once(&self) -> f64 {
        SUBMISSION * self.0.unwrap_or(SLOWEST)
    }

    /// Learns from so many operations in so many seconds. Short submissions measure overhead, so it grows by steps.
    pub fn learn(&mut self, flops: f64, seconds: f64) {
        let before = self.0.unwrap_or(SLOWEST);
        self.0 = Some((flops / seconds.max(1e-6)).clamp(before / 4.0, before * 2.0).max(SLOWEST / 10.0));
    }
}
