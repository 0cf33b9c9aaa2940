//! 3x3 convolutions on the CPU: feature maps, and kernels for several instruction sets and number formats.
//!
//! Nothing here knows a network. A [`Conv`] is packed for a kernel and runs on it; a kernel is made from the token of
//! its instruction set ([`isa`]), so it exists only where the CPU can run it. [`Winograd`] works on vectors of any
//! width, in f32 or on 16-bit integers, and [`AmxBf16`] on Intel's matrix unit. What they share is written once:
//! vectors ([`vector`]), number formats of maps ([`value`]), and what follows a sum ([`finish`]).

mod amx;
mod conv;
pub mod dense;
mod element;
mod finish;
pub mod isa;
mod map;
mod memory;
mod packed;
mod peak;
mod value;
mod vector;
mod winograd;

pub use conv::Conv;
pub use element::Element;
pub use finish::Output;
pub use isa::AmxBf16;
pub use map::{BLOCK, History, Map, View};
pub use memory::{Scratch, reserve_small, zeroed};
pub use peak::Peak;
pub use winograd::{Winograd, floats, int16};
