//! Super-resolution networks on the CPU.
//!
//! [`weights`] reads files, [`architecture`] tells from keys and shapes what they are, [`Network`] packs them for a
//! [`Backend`], and [`upscale`] runs a picture of any size through it, tile by tile.

// Kernels index several arrays by one variable; iterators would hide which values belong together.
#![allow(clippy::needless_range_loop)]

mod aligned;
pub mod architecture;
mod compact;
mod error;
mod kernels;
mod map;
mod network;
mod rrdb;
mod spec;
mod tensor;
mod tiles;
pub mod weights;

pub use error::NnError;
pub use kernels::{Backend, Isa, Precision, cpu_features, peak_flops};
pub use network::Network;
pub use spec::{Activation, Architecture};
pub use tensor::{StateDict, Tensor};
pub use tiles::{Progress, RunOptions, Sink, Source, pool, upscale};
