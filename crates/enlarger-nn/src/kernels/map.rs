//! Feature maps.

use std::ops::Range;

use rayon::prelude::*;

use super::memory::{Aligned, aligned};
use crate::error::NnError;

/// Columns are padded to a multiple of this, so that kernels may always work on whole blocks.
pub const BLOCK: usize = 32;

/// Some rows of a feature map, channels last, each with a border of one zero pixel on both sides: a 3x3 convolution
/// reads past the edge and sees the zero padding that networks are trained with.
pub struct Map<T> {
    pub width: usize,
    pub channels: usize,
    /// Which of the whole map's rows are held now.
    pub rows: Range<usize>,
    /// One row of zeros, then room for rows of `stride` values.
    data: Aligned<T>,
}

impl<T: Copy + Default> Map<T> {
    /// Room for `rows` rows, none of them held yet.
    pub fn new(width: usize, rows: usize, channels: usize) -> Result<Self, NnError> {
        let data = aligned((rows + 1) * stride(width, channels))?;
        Ok(Self { width, channels, rows: 0..0, data })
    }

    /// Values per row, border and padding included.
    pub fn stride(&self) -> usize {
        stride(self.width, self.channels)
    }

    /// Makes room for other rows, which are then to be written.
    pub fn hold(&mut self, rows: Range<usize>) {
        assert!((rows.len() + 1) * self.stride() <= self.data.len(), "more rows than there is room for");
        self.rows = rows;
    }

    /// The held rows, each of `stride` values beginning with the left border pixel.
    pub fn rows_mut(&mut self) -> &mut [T] {
        let stride = self.stride();
        let rows = self.rows.len();
        &mut self.data[stride..stride * (rows + 1)]
    }

    /// What a convolution sees: the held rows, and the remembered ones before them.
    pub fn view<'a>(&'a self, history: &'a History<T>) -> View<'a, T> {
        View { keep: history.keep, remembered: &history.data, ..self.alone() }
    }

    /// A view of the held rows alone.
    pub fn alone(&self) -> View<'_, T> {
        let (zero, held) = self.data.split_at(self.stride());
        let (width, channels, rows) = (self.width, self.channels, self.rows.clone());
        View { width, channels, upsampled: false, rows, zero, held, keep: 0, remembered: &[] }
    }
}

/// The last rows that a map held before those that it holds now.
pub struct History<T> {
    keep: usize,
    /// Row y is at `y % keep`.
    data: Aligned<T>,
}

impl<T: Copy + Default + Send + Sync> History<T> {
    /// Remembers `keep` rows.
    pub fn new(width: usize, channels: usize, keep: usize) -> Result<Self, NnError> {
        Ok(Self { keep, data: aligned(keep * stride(width, channels))? })
    }

    /// Remembers the map's last rows.
    pub fn remember(&mut self, map: &Map<T>) {
        let (keep, stride) = (self.keep, map.stride());
        let new = map.rows.end.saturating_sub(keep).max(map.rows.start)..map.rows.end;
        self.data.par_chunks_exact_mut(stride.max(1)).enumerate().for_each(|(slot, row)| {
            // The one new row that belongs here, if any.
            let y = new.start + (slot + keep - new.start % keep) % keep;
            if new.contains(&y) {
                row.copy_from_slice(&map.data[(y - map.rows.start + 1) * stride..][..stride]);
            }
        });
    }
}

/// A map as a convolution reads it: missing rows are zero.
#[derive(Clone)]
pub struct View<'a, T> {
    pub width: usize,
    pub channels: usize,
    upsampled: bool,
    rows: Range<usize>,
    zero: &'a [T],
    held: &'a [T],
    /// Of a [`History`].
    keep: usize,
    remembered: &'a [T],
}

impl<'a, T> View<'a, T> {
    /// The same at twice the size, each pixel repeated, for kernels that find pixels by [`Self::pixel`].
    pub fn upsampled(self) -> Self {
        Self { width: 2 * self.width, upsampled: true, ..self }
    }

    /// The place in a row of the pixel that is `after` pixels behind `x`, an even number; both count from the left
    /// border pixel.
    #[inline(always)]
    pub fn pixel(&self, x: usize, after: usize) -> usize {
        if self.upsampled { x / 2 + after.div_ceil(2) } else { x + after }
    }

    /// One row, beginning with the left border pixel.
    #[inline(always)]
    pub fn row(&self, y: isize) -> &'a [T] {
        let y = if self.upsampled { y >> 1 } else { y };
        let stride = self.zero.len();
        match usize::try_from(y) {
            Ok(y) if self.rows.contains(&y) => &self.held[(y - self.rows.start) * stride..][..stride],
            Ok(y) if y < self.rows.start && y + self.keep >= self.rows.start => {
                &self.remembered[y % self.keep * stride..][..stride]
            }
            _ => self.zero,
        }
    }
}

fn stride(width: usize, channels: usize) -> usize {
    (width.next_multiple_of(BLOCK) + 2) * channels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of one channel and column whose pixel in row y is y + 1.
    fn held(map: &mut Map<f32>, rows: Range<usize>) {
        map.hold(rows.clone());
        let stride = map.stride();
        for (row, y) in map.rows_mut().chunks_exact_mut(stride).zip(rows) {
            row[1] = y as f32 + 1.0;
        }
    }

    #[test]
    fn a_view_has_the_held_rows_the_remembered_ones_and_zeros() {
        let mut map = Map::new(1, 4, 1).expect("a few bytes");
        let mut history = History::new(1, 1, 2).expect("a few bytes");
        held(&mut map, 0..4);
        history.remember(&map);
        held(&mut map, 4..7);
        let view = map.view(&history);
        let seen: Vec<f32> = (-1..9).map(|y| view.row(y)[1]).collect();
        assert_eq!(seen, [0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0, 0.0]);
        let alone: Vec<f32> = (2..6).map(|y| map.alone().row(y)[1]).collect();
        assert_eq!(alone, [0.0, 0.0, 5.0, 6.0]);
    }

    #[test]
    fn a_band_shorter_than_the_history_keeps_older_rows() {
        let mut map = Map::new(1, 4, 1).expect("a few bytes");
        let mut history = History::new(1, 1, 3).expect("a few bytes");
        for rows in [0..4, 4..5] {
            held(&mut map, rows);
            history.remember(&map);
        }
        map.hold(5..5);
        let view = map.view(&history);
        assert_eq!([2, 3, 4].map(|y| view.row(y)[1]), [3.0, 4.0, 5.0]);
    }

    #[test]
    fn an_upsampled_view_repeats_rows_and_pixels() {
        let mut map = Map::new(2, 2, 1).expect("a few bytes");
        map.hold(0..2);
        let stride = map.stride();
        for (y, row) in map.rows_mut().chunks_exact_mut(stride).enumerate() {
            row[1..3].copy_from_slice(&[10.0 * y as f32 + 1.0, 10.0 * y as f32 + 2.0]);
        }
        let view = map.alone().upsampled();
        assert_eq!(view.width, 4);
        for (y, expected) in [(0, [0.0, 1.0, 1.0, 2.0, 2.0, 0.0]), (3, [0.0, 11.0, 11.0, 12.0, 12.0, 0.0])] {
            let row: Vec<f32> = (0..6).map(|after| view.row(y)[view.pixel(0, after)]).collect();
            assert_eq!(row, expected, "the border pixel, four pixels, the border pixel");
        }
    }
}
