//! Graphics cards, by Vulkan, Metal or Direct3D 12.
//!
//! ```text
//! graph ─program─▶ convolutions ─schedule─▶ bands of rows ─model─▶ submissions ─card─▶ rows ─check─▶ emitted
//!                        └──────kernel (text) ──proof (self-test)──┘
//! ```
//!
//! A kernel multiplies in each thread, or by the card's units for matrices where those were measured to be faster (`matrix`).
//!
//! A card is trusted as far as it is checked: each kernel by a self-test before its first use, each band of a result against the
//! source. When a check fails or the card is lost, the CPU goes on from the last row that was emitted. A lost card is opened again for
//! what runs next.

mod budget;
mod card;
mod check;
mod engine;
mod guarded;
mod kernel;
mod lacks;
mod matrix;
mod model;
mod program;
mod proof;
mod rate;
mod schedule;
pub mod tensors;
#[cfg(test)]
mod tests;
mod tile;

use std::{any::Any, sync::Arc};

use card::{Adapter, CardKind};
use guarded::{Gpu, Host};
use tensors::Tensors;

use super::{
    memory::Memory,
    survey::{Survey, Surveyed},
};
use crate::{
    device::{Device, Precision},
    error::NnError,
};

/// Opens cards of a survey. The CPU is for when one fails, and `memory` for what they learn of themselves.
///
/// # Errors
/// [`NnError::Device`] if there are other cards or drivers now, or one cannot be opened.
pub fn open(
    survey: &Survey,
    cards: &[&Surveyed],
    cpu: &Arc<dyn Device>,
    budget: Option<u64>,
    precision: Precision,
    memory: &Arc<Memory>,
) -> Result<Vec<Arc<dyn Device>>, NnError> {
    memory.doubt();
    let adapters = Adapter::all();
    let there: Vec<Surveyed> = adapters.iter().map(|adapter| adapter.is.clone()).collect();
    let opened = if survey.is_of(&there) {
        let chosen = adapters.into_iter().filter(|adapter| cards.iter().any(|card| card.is(&adapter.is)));
        let open = |adapter: Adapter| {
            let faster = cards.iter().any(|card| card.is(&adapter.is) && card.matrix);
            let matrix = adapter.matrix().filter(|_| faster);
            Host::open(adapter, budget, precision, matrix, memory.clone())
        };
        let opened = chosen.map(|adapter| Ok(Arc::new(Gpu::new(open(adapter)?, cpu.clone()))));
        opened.collect::<Result<Vec<_>, NnError>>()
    } else {
        Err(NnError::Device("there are other GPUs or drivers now".into()))
    };
    memory.trust();
    let mut opened = opened?;
    opened.sort_by_key(|gpu| cards.iter().position(|card| card.is(gpu.card())));
    Ok(opened.into_iter().map(|gpu| gpu as Arc<dyn Device>).collect())
}

/// A device's operations on tensors, if it is a GPU; [`crate::dense`] has those of the CPU. They are the same until it was lost and
/// opened again.
///
/// # Errors
/// [`NnError::Device`] if the GPU cannot be used.
pub fn tensors_of(device: &dyn Device) -> Option<Result<Arc<Tensors>, NnError>> {
    let device: &dyn Any = device;
    device.downcast_ref::<Gpu>().map(|gpu| gpu.tensors())
}

/// Notes that the CPU took over what a GPU was to do with tensors, and why; [`crate::Health`] counts it. Networks do so themselves.
pub fn took_over(device: &dyn Device, why: &str) {
    let device: &dyn Any = device;
    if let Some(gpu) = device.downcast_ref::<Gpu>() {
        gpu.host.gave_up(why);
    }
}

/// Asks the drivers for cards, without measuring them. As [`survey`], it is best called in a process of its own.
pub fn list() -> Survey {
    let cards: Vec<Surveyed> = Adapter::all().into_iter().map(|adapter| adapter.is).collect();
    let lacks = lacks::lacks(&cards);
    Survey { cpu: 0.0, cards, lacks }
}

/// Asks the drivers for cards, and measures each that was not `known`, but software renderers, which are never chosen. Loads
/// drivers, which may crash; it is best called in a process of its own.
pub fn survey(cpu: &Arc<dyn Device>, known: &Survey) -> Survey {
    let cards = Adapter::all().into_iter().map(|adapter| {
        // One that failed may do better today.
        let before = known.cards.iter().find(|card| card.is(&adapter.is) && card.unfit.is_none() && card.rate > 0.0);
        before.cloned().unwrap_or_else(|| measured(adapter, cpu))
    });
    let cards: Vec<Surveyed> = cards.collect();
    let compare = cards.iter().any(|card| card.rate > 0.0);
    let rate = if known.cpu > 0.0 {
        known.cpu
    } else if compare {
        rate::of(&**cpu).unwrap_or(0.0)
    } else {
        0.0
    };
    let lacks = lacks::lacks(&cards);
    Survey { cpu: rate, cards, lacks }
}

fn measured(adapter: Adapter, cpu: &Arc<dyn Device>) -> Surveyed {
    let card = adapter.is.clone();
    let measured = if adapter.kind == CardKind::Software {
        Err("a program that imitates a GPU on the CPU".to_owned())
    } else {
        let rate = |matrix| {
            let host = Host::open(adapter.clone(), None, Precision::Auto, matrix, Arc::default());
            host.map_err(|error| error.to_string()).and_then(|host| rate::of(&Gpu::new(host, cpu.clone())))
        };
        // Whatever fails with matrices works without.
        let matrices = adapter.matrix().and_then(|matrix| rate(Some(matrix)).ok()).unwrap_or(0.0);
        rate(None).map(|rate| (rate.max(matrices), matrices > rate))
    };
    let ((rate, matrix), unfit) = measured.map_or_else(|why| ((0.0, false), Some(why)), |measured| (measured, None));
    Surveyed { rate, matrix, unfit, ..card }
}
