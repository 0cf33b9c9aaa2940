//! Whether a card's result can be right.
//!
//! Drivers that fail often do so without an error: results are black, or not numbers. Networks change details and keep the mean
//! of an area, so a result whose mean is far from that of the same part of the source is a card's mistake.

use crate::error::NnError;

/// Columns of the source per cell.
const CELL: usize = 32;
/// How far the mean of a cell may be from the source's. The bundled networks stay within 0.04 on photos and noise.
const ALLOWED: f64 = 0.2;

/// Compares a strip's result with its source.
pub struct Check {
    width: usize,
    scale: usize,
    /// Sums over the pixels of each row of each cell of the source.
    sums: Vec<f64>,
    cells: usize,
}

impl Check {
    /// For a strip of this size, and a result so many times as large.
    pub fn new(width: usize, height: usize, scale: usize) -> Self {
        let cells = width.div_ceil(CELL);
        Self { width, scale, sums: vec![0.0; cells * height], cells }
    }

    /// Takes rows of the source from one on, interleaved RGB.
    pub fn source(&mut self, first: usize, rgb: &[f32]) {
        for (row, y) in rgb.chunks_exact(self.width * 3).zip(first..) {
            for (cell, values) in row.chunks(CELL * 3).enumerate() {
                self.sums[y * self.cells + cell] = values.iter().map(|&value| f64::from(value)).sum();
            }
        }
    }

    /// Compares rows of the result from one on.
    ///
    /// # Errors
    /// [`NnError::Device`] if they cannot be right.
    pub fn result(&self, first: usize, rgb: &[f32]) -> Result<(), NnError> {
        let stride = self.width * self.scale * 3;
        let rows = rgb.len() / stride;
        let (from, to) = (first / self.scale, (first + rows) / self.scale);
        for cell in 0..self.cells {
            let columns = cell * CELL * self.scale * 3..((cell + 1) * CELL * self.scale * 3).min(stride);
            let result = rgb.chunks_exact(stride).flat_map(|row| &row[columns.clone()]);
            let result: f64 = result.map(|&value| f64::from(value)).sum::<f64>() / (rows * columns.len()) as f64;
            let values = columns.len() / self.scale * (to - from);
            let source: f64 = (from..to).map(|y| self.sums[y * self.cells + cell]).sum::<f64>() / values as f64;
            if !result.is_finite() {
                return Err(NnError::Device("it computed values that are not numbers".into()));
            }
            if (result - source).abs() > ALLOWED {
                return Err(NnError::Device(format!(
                    "it computed a brightness of {:.0} % where the image has {:.0} %",
                    100.0 * result,
                    100.0 * source
                )));
            }
        }
        Ok(())
    }
}
