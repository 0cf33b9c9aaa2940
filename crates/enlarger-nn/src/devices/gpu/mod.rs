//! Graphics cards, by Vulkan, Metal or Direct3D 12.
//!
//! ```text
//! graph ─program─▶ convolutions ─schedule─▶ bands of rows ─model─▶ submissions ─card─▶ rows ─check─▶ emitted
//!                        └──────kernel (text) ──proof (self-test)──┘
//! ```
//!
//! A card is trusted as far as it is checked: each kernel by a self-test before its first use, each band of a result against the
//! source. When a check fails or the card is lost, the CPU goes on from the last row that was emitted.

mod card;
mod check;
mod engine;
mod guarded;
mod kernel;
mod model;
mod program;
mod proof;
mod rate;
mod schedule;
pub mod tensors;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use card::{Adapter, CardKind};
use guarded::Gpu;

use super::survey::{Survey, Surveyed};
use crate::{
    device::{Device, Precision},
    error::NnError,
};

/// The card with a name, or part of one, or `pci:` and an address; the CPU is for when it fails.
///
/// # Errors
/// [`NnError::NoGpu`] if there is none, [`NnError::Device`] if it cannot be opened.
pub fn named(
    text: &str,
    cpu: Arc<dyn Device>,
    memory: Option<u64>,
    precision: Precision,
) -> Result<Arc<dyn Device>, NnError> {
    let adapters = Adapter::all();
    let found = adapters.iter().find(|adapter| adapter.is_called(text)).ok_or_else(|| NnError::NoGpu {
        asked: text.to_owned(),
        there: adapters.iter().map(Adapter::to_string).collect(),
    })?;
    Ok(Arc::new(Gpu::open(found, memory, precision, cpu)?))
}

/// The fastest card if it is faster than the CPU, else the CPU.
///
/// # Errors
/// None of its own: a card that fails is not used.
pub fn faster(cpu: Arc<dyn Device>, memory: Option<u64>, precision: Precision) -> Result<Arc<dyn Device>, NnError> {
    match survey(&cpu).best() {
        Some(best) => named(&best.to_ask_for(), cpu, memory, precision),
        None => Ok(cpu),
    }
}

/// Asks the drivers for cards, and measures each but software renderers, which are never chosen. Loads drivers, which may crash; it is best called in a process of its own.
pub fn survey(cpu: &Arc<dyn Device>) -> Survey {
    let cards: Vec<Surveyed> = Adapter::all().iter().map(|adapter| surveyed(adapter, cpu)).collect();
    let compare = cards.iter().any(|card| card.rate > 0.0);
    Survey { cpu: if compare { rate::of(&**cpu).unwrap_or(0.0) } else { 0.0 }, cards }
}

fn surveyed(adapter: &Adapter, cpu: &Arc<dyn Device>) -> Surveyed {
    let measured = if adapter.kind == CardKind::Software {
        Err("a program that imitates a GPU on the CPU".to_owned())
    } else {
        let opened = Gpu::open(adapter, None, Precision::Auto, cpu.clone());
        opened.map_err(|error| error.to_string()).and_then(|gpu| rate::of(&gpu))
    };
    let (rate, unfit) = measured.map_or_else(|why| (0.0, Some(why)), |rate| (rate, None));
    let (name, pci, driver) = (adapter.name.clone(), adapter.pci.clone(), adapter.driver.clone());
    Surveyed { name, pci, driver, memory: adapter.memory(), rate, unfit }
}
