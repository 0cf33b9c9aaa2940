//! Whether a card's result can be right.
//!
//! Drivers that fail often do so without an error: results are black, or not numbers. Networks change details and keep the mean
//! of an area, so a result whose mean is far from that of the same part of the source is a card's mistake. So is one colour where
//! the source has several.

use rayon::prelude::*;

use crate::error::NnError;

/// Columns of the source per cell; a cell is one row high.
const CELL: usize = 32;
/// How far the mean of a cell may be from the source's. The bundled 4x networks stay within 0.05 on the crops of `tests/parity.rs`.
const ALLOWED: f64 = 0.2;

/// Compares a strip's result with its source.
pub struct Check {
    width: usize,
    scale: usize,
    colours: usize,
    cells: Vec<Cell>,
    /// Cells of a row.
    across: usize,
}

/// What values there are.
#[derive(Debug, Clone, Copy)]
struct Cell {
    sum: f64,
    least: f32,
    most: f32,
}

impl Cell {
    const EMPTY: Self = Self { sum: 0.0, least: f32::INFINITY, most: f32::NEG_INFINITY };

    fn with(self, value: f32) -> Self {
        Self { sum: self.sum + f64::from(value), least: self.least.min(value), most: self.most.max(value) }
    }

    /// Whether a result can come from this, by their means and by how many colours there are.
    fn agrees(&self, result: &Self, mean: f64, expected: f64) -> Result<(), NnError> {
        if !mean.is_finite() {
            return Err(NnError::Device("it computed values that are not numbers".into()));
        }
        if (mean - expected).abs() > ALLOWED {
            return Err(NnError::Device(format!(
                "it computed a brightness of {:.0} % where the image has {:.0} %",
                100.0 * mean,
                100.0 * expected
            )));
        }
        if result.least == result.most && self.least < self.most {
            return Err(NnError::Device("it computed one color where the image has several".into()));
        }
        Ok(())
    }
}

impl Check {
    /// For a strip of this size, a result so many times as large, and a network of so many colours, 1 or 3.
    pub fn new(width: usize, height: usize, scale: usize, colours: usize) -> Self {
        let across = width.div_ceil(CELL);
        Self { width, scale, colours, cells: vec![Cell::EMPTY; across * height], across }
    }

    /// Takes rows of the source from one on, interleaved RGB.
    pub fn source(&mut self, first: usize, rgb: &[f32]) {
        let colours = self.colours;
        for (row, cells) in
            rgb.chunks_exact(self.width * 3).zip(self.cells[first * self.across..].chunks_mut(self.across))
        {
            for (cell, values) in cells.iter_mut().zip(row.chunks(CELL * 3)) {
                *cell = values.chunks_exact(3).flat_map(|rgb| seen(rgb, colours)).fold(Cell::EMPTY, Cell::with);
            }
        }
    }

    /// Compares rows of the result from one on, as many as belong to whole rows of the source.
    ///
    /// # Errors
    /// [`NnError::Device`] if they cannot be right.
    pub fn result(&self, first: usize, rgb: &[f32]) -> Result<(), NnError> {
        let (stride, size) = (self.width * self.scale * 3, CELL * self.scale * 3);
        let rows = rgb.par_chunks_exact(stride * self.scale).enumerate();
        rows.try_for_each(|(row, rows)| {
            let sources = &self.cells[(first / self.scale + row) * self.across..][..self.across];
            sources.iter().enumerate().try_for_each(|(at, source)| {
                let columns = at * size..((at + 1) * size).min(stride);
                let values = rows.chunks_exact(stride).flat_map(|row| &row[columns.clone()]);
                let result = values.fold(Cell::EMPTY, |cell, &value| cell.with(value));
                let mean = result.sum / (self.scale * columns.len()) as f64;
                source.agrees(&result, mean, source.sum / (columns.len() / self.scale) as f64)
            })
        })
    }
}

/// A pixel of the source as a network of so many colours sees it.
fn seen(rgb: &[f32], colours: usize) -> [f32; 3] {
    match *rgb {
        [red, green, blue] if colours == 3 => [red, green, blue],
        _ => [rgb.iter().sum::<f32>() / 3.0; 3],
    }
}
