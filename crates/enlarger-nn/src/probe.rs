//! A run whose time matters and whose result does not.

use std::ops::ControlFlow;

use crate::{
    error::NnError,
    network::Network,
    strips::{RunOptions, Sink, Source, upscale},
};

/// Enlarges a grey square of `side` pixels, and drops the result.
///
/// # Errors
/// As [`upscale`]; [`NnError::Device`] if a GPU fails, though the CPU goes on.
pub fn grey(network: &Network, side: u32) -> Result<(), NnError> {
    let run = upscale(network, &Grey(side), &Nowhere, &RunOptions::default(), &|_| ControlFlow::Continue(()));
    run?.into_iter().next().map_or(Ok(()), |note| Err(NnError::Device(note)))
}

struct Grey(u32);

impl Source for Grey {
    fn width(&self) -> u32 {
        self.0
    }
    fn height(&self) -> u32 {
        self.0
    }
    fn read(&self, _: u32, _: u32, _: u32, _: u32, rgb: &mut [f32]) {
        rgb.fill(0.5);
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _: u32, _: u32, _: u32, _: u32, _: &[f32]) {}
}
