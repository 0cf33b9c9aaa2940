//! How fast this machine runs a network.

use std::time::Instant;

use enlarger_models::Catalogue;
use enlarger_nn::{Device, Network, grey, pool};

use crate::{error::PipelineError, memory};

/// Shorter runs mostly measure startup; longer ones add nothing. In pixels, for a side that is chosen here.
const SIDES: [f64; 2] = [64.0, 512.0];
/// Runs are repeated at least this often, and until they took [`ENOUGH`].
const REPEATS: usize = 2;
/// Seconds.
const ENOUGH: f64 = 1.0;

/// A network's speed from memory to memory: no files, no filters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Side of the square that was enlarged, in pixels.
    pub side: u32,
    /// Seconds of the best run.
    pub seconds: f64,
    /// Operations of a run, if all convolutions were computed directly; see [`Network::flops_per_pixel`].
    pub flops: f64,
    /// Pixels of the result.
    pub pixels: f64,
    /// Most bytes that the process held, loading included; `None` where the system does not report it.
    pub peak_memory: Option<u64>,
}

/// Loads a network and runs it on a grey square. A `side` of `None` is one of about `flops` operations.
///
/// # Errors
/// What loading and running a network can raise.
pub fn bench(
    catalogue: &Catalogue,
    model: &str,
    device: &dyn Device,
    threads: usize,
    side: Option<u32>,
    flops: f64,
) -> Result<Speed, PipelineError> {
    memory::reset_peak();
    let (architecture, weights) = catalogue.load(model)?;
    let network = Network::build(architecture, &weights, device)?;
    drop(weights);
    let per_pixel = network.flops_per_pixel();
    let side = side.unwrap_or_else(|| (flops / per_pixel).sqrt().clamp(SIDES[0], SIDES[1]) as u32 / 16 * 16);
    let pool = pool(threads)?;
    let (mut seconds, begun) = (f64::INFINITY, Instant::now());
    let mut runs = 0;
    while runs < REPEATS || begun.elapsed().as_secs_f64() < ENOUGH {
        let started = Instant::now();
        pool.install(|| grey(&network, side))?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
        runs += 1;
    }
    let pixels = f64::from(side) * f64::from(side);
    Ok(Speed {
        side,
        seconds,
        flops: pixels * per_pixel,
        pixels: pixels * f64::from(network.scale() * network.scale()),
        peak_memory: memory::peak(),
    })
}
