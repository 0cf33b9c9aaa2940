//! Networks ready to run.

use crate::{
    architecture::Architecture,
    device::Device,
    error::NnError,
    model::{Emit, Model, Report, Strip},
    tensor::StateDict,
};

/// A network on a device.
pub struct Network {
    architecture: Box<dyn Architecture>,
    model: Box<dyn Model>,
    flops_per_pixel: f64,
}

impl Network {
    /// Puts a network on a device.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture says, [`NnError::Memory`]
    /// if there is not enough for the weights.
    pub fn build(
        architecture: Box<dyn Architecture>,
        weights: &StateDict,
        device: &dyn Device,
    ) -> Result<Self, NnError> {
        let model = device.load(&*architecture, weights)?;
        let flops_per_pixel = architecture.graph().flops_per_pixel();
        Ok(Self { architecture, model, flops_per_pixel })
    }

    /// How many times as wide and high the result is.
    pub fn scale(&self) -> u32 {
        self.architecture.scale()
    }

    /// See [`Architecture::halo`].
    pub fn halo(&self) -> u32 {
        self.architecture.halo()
    }

    /// See [`Graph::flops_per_pixel`](crate::Graph::flops_per_pixel).
    pub fn flops_per_pixel(&self) -> f64 {
        self.flops_per_pixel
    }

    /// See [`Architecture::alignment`].
    pub(crate) fn alignment(&self) -> usize {
        self.architecture.alignment()
    }

    /// See [`Model::widest`].
    pub(crate) fn widest(&self) -> u32 {
        self.model.widest()
    }

    /// See [`Model::run`].
    pub(crate) fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        self.model.run(strip, report, emit)
    }
}
