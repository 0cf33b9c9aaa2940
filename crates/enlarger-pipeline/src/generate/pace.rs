//! How fast a device draws, before a pass has shown it.

use std::time::Instant;

use enlarger_diffusion::{
    Error,
    array::Array,
    ops::{Ops, Padding},
};

/// Operations per second of a convolution as the UNet's first level has it.
pub(super) fn calibrate<O: Ops>(ops: &O) -> Result<f64, Error> {
    const SIDE: usize = 32;
    const CHANNELS: usize = 320;
    let x = ops.upload([1, SIDE, SIDE, CHANNELS], &vec![0.5; SIDE * SIDE * CHANNELS])?;
    let weights = Array::new(&[CHANNELS, CHANNELS, 3, 3], vec![0.01; 9 * CHANNELS * CHANNELS]);
    let weights = ops.weights(weights, None)?;
    let started = Instant::now();
    // What a device prepares ends when its values are asked for.
    ops.download(&ops.conv(&x, &weights, 1, Padding::Around)?)?;
    Ok((2 * SIDE * SIDE * 9 * CHANNELS * CHANNELS) as f64 / started.elapsed().as_secs_f64().max(1e-6))
}
