//! Networks' operations on plain slices in f32, channels last, of any size: products of matrices whose weights may be kept in
//! fewer bits, 3x3 convolutions by [Winograd's algorithm](super::winograd), attention, and functions of single values.
//!
//! Where the networks of this crate run down a strip in bands, with few channels and maps of any height, these are for networks
//! of many channels and small maps: weights are widened and transformed block by block in cache, and never kept so.
//! The order of each sum depends on the sizes alone, so results do not depend on the number of threads. What is NaN stays NaN.

mod attention;
mod conv;
mod dispatch;
mod functions;
mod linear;
mod math;
mod multiply;

pub use attention::Attention;
pub use conv::{Conv3x3, Input};
pub use dispatch::{Dense, GoOn};
pub use functions::Function;
pub use linear::{Matrix, PANEL, Weights};

pub use super::memory::large;
