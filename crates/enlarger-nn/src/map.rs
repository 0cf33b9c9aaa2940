//! Feature maps.

use std::ops::Range;

use rayon::prelude::*;

use crate::{aligned::Aligned, error::NnError};

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
        let data = Aligned::zeroed((rows + 1) * stride(width, channels))?;
        Ok(Self { width, channels, rows: 0..0, data })
    }

    /// Values per row, border and padding included.
    pub fn stride(&self) -> usize {
        stride(self.width, self.channels)
    }

    /// Makes room for other rows; what they hold is to be written.
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

    /// What a convolution sees: the held rows, and those before them that are remembered.
    pub fn view<'a>(&'a self, history: &'a History<T>) -> View<'a, T> {
        let (zero, held) = self.data.split_at(self.stride());
        let (width, channels, rows) = (self.width, self.channels, self.rows.clone());
        View { width, channels, doubled: false, rows, zero, held, history }
    }

    /// A view of the held rows alone.
    pub fn alone(&self) -> View<'_, T> {
        self.view(const { &History::NONE })
    }
}

/// The last rows that a map held before those that it holds now.
pub struct History<T> {
    keep: usize,
    /// Row y is at `y % keep`.
    data: Aligned<T>,
}

impl<T> History<T> {
    /// Remembers nothing.
    pub const NONE: Self = Self { keep: 0, data: Aligned::empty() };
}

impl<T: Copy + Default + Send + Sync> History<T> {
    /// Remembers `keep` rows.
    pub fn new(width: usize, channels: usize, keep: usize) -> Result<Self, NnError> {
        Ok(Self { keep, data: Aligned::zeroed(keep * stride(width, channels))? })
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

/// A map as a convolution reads it: rows that are not there are zero.
#[derive(Clone)]
pub struct View<'a, T> {
    pub width: usize,
    pub channels: usize,
    doubled: bool,
    rows: Range<usize>,
    zero: &'a [T],
    held: &'a [T],
    history: &'a History<T>,
}

impl<'a, T> View<'a, T> {
    /// The same at twice the size, by repetition, for kernels that find pixels by [`Self::pixel`].
    pub fn doubled(self) -> Self {
        Self { width: 2 * self.width, doubled: true, ..self }
    }

    /// Which pixel of a row is the one at `x`, an even number, and `after` further on, both counted from the left border
    /// pixel.
    #[inline(always)]
    pub fn pixel(&self, x: usize, after: usize) -> usize {
        if self.doubled { x / 2 + after.div_ceil(2) } else { x + after }
    }

    /// One row, beginning with the left border pixel.
    #[inline(always)]
    pub fn row(&self, y: isize) -> &'a [T] {
        let y = if self.doubled { y >> 1 } else { y };
        let stride = self.zero.len();
        let keep = self.history.keep;
        match usize::try_from(y) {
            Ok(y) if self.rows.contains(&y) => &self.held[(y - self.rows.start) * stride..][..stride],
            Ok(y) if y < self.rows.start && y + keep >= self.rows.start => {
                &self.history.data[y % keep * stride..][..stride]
            }
            _ => self.zero,
        }
    }
}

fn stride(width: usize, channels: usize) -> usize {
    (width.next_multiple_of(BLOCK) + 2) * channels
}
