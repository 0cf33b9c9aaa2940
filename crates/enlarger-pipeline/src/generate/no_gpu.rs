//! What stands for `gpu` in builds without it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use enlarger_diffusion::{
    Error,
    bundle::Costs,
    cpu::Cpu,
    engine::{Model, Request},
    ladder::Ladder,
};
use enlarger_nn::Device;

use super::kept::Kept;

/// There are none.
#[derive(Default)]
pub(super) struct Gpus;

pub(super) struct OnGpu {
    never: Infallible,
    pub kept: Kept<Model<Cpu>>,
    pub speed: Mutex<Option<f64>>,
}

impl Gpus {
    pub fn of(&self, _: &dyn Device, _: &Costs) -> Result<Option<Arc<OnGpu>>, String> {
        Ok(None)
    }
}

pub(super) fn count(_: &dyn Device, _: &str) {}

impl OnGpu {
    pub fn add_to<'a>(
        &self,
        _: &mut Ladder<'a>,
        _: &'a Request<'a>,
        _: &Arc<AtomicBool>,
        _: impl Fn(&Cpu) -> Result<Arc<Model<Cpu>>, Error> + 'a,
    ) {
        match self.never {}
    }

    pub fn reserve(&self, _: &Costs) {
        match self.never {}
    }

    pub fn rest(&self, _: bool) {
        match self.never {}
    }

    pub fn calibrate(&self) -> Result<f64, Error> {
        match self.never {}
    }
}
