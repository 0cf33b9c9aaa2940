//! What a group of threads computes at a time, and by what.

/// Pixels of a tile.
pub const TILE: (u32, u32) = (16, 8);
/// Threads per group of outputs: each has four pixels.
pub const QUADS: u32 = TILE.0 * TILE.1 / 4;
/// Outputs whose sums pass from units for matrices to the threads at once.
pub const PART: usize = 16;

/// Units that multiply matrices of 16-bit floats and add them up in f32, as a card offers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Of all three matrices: 8 or 16.
    pub side: usize,
    /// Threads of the largest subgroup.
    pub threads: u32,
}

impl Matrix {
    /// Whether so many channels and outputs of a group are whole matrices.
    pub fn fits(self, channels: usize, outputs: usize) -> bool {
        channels.is_multiple_of(self.side) && outputs.is_multiple_of(PART)
    }
}
