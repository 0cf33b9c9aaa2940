//! Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks",
//! with the points 0, 1, -1, 2, -2 and infinity): 36 products make 16 outputs that take 144 directly.
//!
//! A task is some tiles of 4x4 outputs. Their 6x6 inputs are transformed to 36 matrices V (tiles by channels), multiplied
//! by 36 matrices U (channels by outputs; the transformed weights) and transformed back, all in a few hundred kilobytes
//! that stay in the second-level cache. U is made anew for each band of rows: kept for a whole network it would take four
//! times the weights' memory.
//!
//! Transforms are in f32 always. Products are in f32 ([`floats`]) or of 16-bit integers ([`int16`]).

pub mod floats;
pub mod int16;
mod tiles;
pub mod transform;

pub use tiles::{POINTS, Winograd};
