//! How fast a device is, on a small network.

use std::{collections::BTreeMap, thread::available_parallelism, time::Instant};

use crate::{
    arch::{Activation, Compact},
    architecture::Architecture,
    device::Device,
    error::NnError,
    network::Network,
    probe::grey,
    strips::pool,
    tensor::{StateDict, Tensor},
};

/// The sides of the images: first a small one, which also compiles kernels and shows a hopeless device, then larger ones.
const SIDES: [u32; 3] = [64, 192, 192];
/// A device that takes longer for the small image is not measured further.
const HOPELESS: f64 = 1.0;

/// Operations per second, convolutions being computed directly. The CPU uses all its cores.
///
/// # Errors
/// A sentence if the device fails.
pub fn of(device: &dyn Device) -> Result<f64, String> {
    let network = Compact { scale: 2, channels: 3, features: 64, convs: 8, activation: Activation::Relu };
    let network = Network::build(Box::new(network), &weights(&network), device).map_err(|error| error.to_string())?;
    let pool = pool(available_parallelism().map_or(1, usize::from)).map_err(|error| error.to_string())?;
    let mut best: f64 = 0.0;
    for side in SIDES {
        let started = Instant::now();
        pool.install(|| grey(&network, side)).map_err(|error| match error {
            // The card failed, and this was the CPU.
            NnError::Device(note) => note,
            other => other.to_string(),
        })?;
        let seconds = started.elapsed().as_secs_f64();
        best = best.max(network.flops_per_pixel() * f64::from(side * side) / seconds);
        if seconds > HOPELESS && side == SIDES[0] {
            break;
        }
    }
    Ok(best)
}

/// Small weights: the result is the image.
fn weights(network: &Compact) -> StateDict {
    let mut dict = BTreeMap::new();
    for conv in network.graph().convs() {
        let shape = vec![conv.outputs, conv.inputs, 3, 3];
        let data = (0..shape.iter().product()).map(|at: usize| (at % 7) as f32 * 1e-5).collect();
        dict.insert(format!("{}.weight", conv.name), Tensor { shape, data });
        dict.insert(format!("{}.bias", conv.name), Tensor { shape: vec![conv.outputs], data: vec![0.0; conv.outputs] });
    }
    StateDict(dict)
}
