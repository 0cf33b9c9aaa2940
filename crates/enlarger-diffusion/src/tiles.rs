//! Large pictures, tile by tile: a canvas of latents, or of pixels, is cut into overlapping tiles whose results are blended.
//!
//! At each step of a sampler every tile predicts, the predictions are blended, and the sampler takes one step on the whole canvas
//! (MultiDiffusion, Bar-Tal et al. 2023). Within the overlap the weight of a tile rises as a raised cosine, and the grid moves from
//! step to step, so that no border stays where it was.

use crate::error::{Error, Result, zeros};

/// How a canvas of latents is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    /// Latents of a tile's side: a multiple of 8. A canvas that is no larger is one tile.
    pub side: usize,
    /// Latents by which neighbours overlap, or three quarters of these where the grid could not move otherwise; a quarter of the side
    /// is usual.
    pub overlap: usize,
    /// By how much the grid moves at each step, across and down, in latents; steps without an entry begin again from the first. It
    /// moves only as far as no further tile is needed.
    pub shifts: Vec<[usize; 2]>,
    /// Whether the canvas goes on at its other side, as a texture that is repeated does.
    pub wrap: bool,
}

impl Tiles {
    /// One tile of any size.
    pub fn one() -> Self {
        Self { side: usize::MAX / 16 * 8, overlap: 0, shifts: Vec::new(), wrap: false }
    }

    /// The grid of a step on a canvas of so many latents.
    ///
    /// # Errors
    /// [`Error::Request`] if the tiles are no multiples of 8, or overlap by more than half.
    pub fn grid(&self, [height, width]: [usize; 2], step: usize) -> Result<Grid> {
        if self.side == 0 || !self.side.is_multiple_of(8) || self.overlap > self.side / 2 {
            return Err(Error::Request(format!(
                "tiles of {} latents that overlap by {}: sides must be multiples of 8, and overlap by at most half",
                self.side, self.overlap
            )));
        }
        let [right, down] = if self.shifts.is_empty() { [0, 0] } else { self.shifts[step % self.shifts.len()] };
        let spans = |length, shift| spans(length, self.side, self.overlap, shift, self.wrap);
        Ok(Grid { rows: spans(height, down), columns: spans(width, right), height, width, overlap: self.overlap })
    }
}

/// What a tile covers along one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Where it begins.
    pub start: usize,
    /// Its share of each place; with those of the other spans they sum to 1.
    pub weights: Vec<f32>,
}

impl Span {
    /// How long it is.
    pub fn length(&self) -> usize {
        self.weights.len()
    }
}

/// Tiles of a canvas. The weight of a tile at a place is the product of those of its row and its column.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// From top to bottom.
    pub rows: Vec<Span>,
    /// From left to right.
    pub columns: Vec<Span>,
    height: usize,
    width: usize,
    overlap: usize,
}

/// One tile of a grid.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Counted from 0, row by row.
    pub number: usize,
    /// Of how many.
    pub of: usize,
    /// Where it lies.
    pub row: &'a Span,
    /// Where it lies.
    pub column: &'a Span,
    canvas: [usize; 2],
}

impl Tile<'_> {
    /// Latents down and across.
    pub fn size(&self) -> [usize; 2] {
        [self.row.length(), self.column.length()]
    }

    /// Cuts it out of a canvas `[height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn cut(&self, canvas: &[f32], channels: usize) -> Result<Vec<f32>> {
        let [height, width] = self.canvas;
        let mut tile = zeros(self.row.length() * self.column.length() * channels)?;
        let mut to = tile.chunks_exact_mut(channels);
        for y in (self.row.start..).take(self.row.length()) {
            for x in (self.column.start..).take(self.column.length()) {
                let from = (y % height * width + x % width) * channels;
                to.next().expect("as many as places").copy_from_slice(&canvas[from..from + channels]);
            }
        }
        Ok(tile)
    }

    /// Adds its share to a canvas `[rows, width, channels]` whose first row is `top` of the whole.
    fn add(&self, tile: &[f32], canvas: &mut [f32], top: usize, channels: usize) {
        let [height, width] = self.canvas;
        let mut from = tile.chunks_exact(channels);
        for (y, down) in (self.row.start..).zip(&self.row.weights) {
            for (x, across) in (self.column.start..).zip(&self.column.weights) {
                let at = ((y % height - top) * width + x % width) * channels;
                let values = from.next().expect("as many as places");
                canvas[at..at + channels].iter_mut().zip(values).for_each(|(to, v)| *to += down * across * v);
            }
        }
    }
}

impl Grid {
    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The same tiles on a canvas so many times as large.
    #[must_use]
    pub fn times(&self, factor: usize) -> Self {
        let axis = |spans: &[Span], length: usize| {
            let starts: Vec<usize> = spans.iter().map(|span| factor * span.start).collect();
            weighed(&starts, factor * spans[0].length(), factor * self.overlap, factor * length)
        };
        let (height, width, overlap) = (factor * self.height, factor * self.width, factor * self.overlap);
        Self { rows: axis(&self.rows, self.height), columns: axis(&self.columns, self.width), height, width, overlap }
    }

    /// The tile of a number, counted row by row.
    pub fn tile(&self, number: usize) -> Tile<'_> {
        let (row, column) = (&self.rows[number / self.columns.len()], &self.columns[number % self.columns.len()]);
        Tile { number, of: self.count(), row, column, canvas: [self.height, self.width] }
    }

    /// Blends what `each` makes of each tile, `[rows, columns, channels]`, into a canvas.
    ///
    /// # Errors
    /// What `each` answers; [`Error::Request`] for results of another size; [`Error::Memory`].
    pub fn blend(&self, channels: usize, mut each: impl FnMut(&Tile<'_>) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        let mut canvas = zeros(self.height * self.width * channels)?;
        for tile in (0..self.count()).map(|number| self.tile(number)) {
            let made = each(&tile)?;
            check(&made, &tile, channels)?;
            tile.add(&made, &mut canvas, 0, channels);
        }
        Ok(canvas)
    }

    /// As [`Grid::blend`], but gives the canvas away row by row as soon as no later tile adds to it: `rows` gets the first row and the
    /// values of some rows. What is held is as high as two tiles at most, or the whole canvas if it wraps.
    ///
    /// # Errors
    /// As above, and what `rows` answers.
    pub fn blend_rows(
        &self,
        channels: usize,
        mut each: impl FnMut(&Tile<'_>) -> Result<Vec<f32>>,
        mut rows: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let wraps = self.rows.iter().any(|row| row.start + row.length() > self.height);
        if wraps {
            return rows(0, &self.blend(channels, each)?);
        }
        let line = self.width * channels;
        let (mut held, mut top) = (Vec::new(), 0);
        for (at, row) in self.rows.iter().enumerate() {
            let more = (row.start + row.length() - top) * line - held.len();
            held.try_reserve(more).map_err(|_| Error::Memory { bytes: 4 * more })?;
            held.resize(held.len() + more, 0.0);
            for column in 0..self.columns.len() {
                let tile = self.tile(at * self.columns.len() + column);
                let made = each(&tile)?;
                check(&made, &tile, channels)?;
                tile.add(&made, &mut held, top, channels);
            }
            let next = self.rows.get(at + 1).map_or(self.height, |row| row.start);
            rows(top, &held[..(next - top) * line])?;
            held.drain(..(next - top) * line);
            top = next;
        }
        Ok(())
    }
}

fn check(made: &[f32], tile: &Tile<'_>, channels: usize) -> Result<()> {
    if made.len() == tile.row.length() * tile.column.length() * channels {
        return Ok(());
    }
    Err(Error::Request("a tile came back in another size".into()))
}

/// Cuts a length into spans of `side` that overlap by `overlap` or more. The first span begins where the canvas does and the last
/// ends there, unless the canvas wraps.
pub fn spans(length: usize, side: usize, overlap: usize, shift: usize, wrap: bool) -> Vec<Span> {
    if wrap {
        let side = side.min((length / 8 * 8).max(8));
        let stride = side - overlap.min(side / 2);
        // A single tile would not see across the seam.
        let count = length.div_ceil(stride).max(2);
        let starts: Vec<usize> = (0..count).map(|k| (shift + k * length / count) % length).collect();
        return weighed(&starts, side, overlap, length);
    }
    if length <= side {
        return weighed(&[0], length, 0, length);
    }
    let (mut stride, last) = (side - overlap, length - side);
    let count = last.div_ceil(stride) + 1;
    // A grid that fits tightly could not move: then a little less of each tile overlaps, and no further one is needed.
    if (count - 1) * stride - last < stride / 4 {
        stride += overlap / 4;
    }
    let slack = (count - 1) * stride - last;
    let moved = shift % (slack + 1);
    let mut starts: Vec<usize> = (0..count).map(|k| (k * stride).saturating_sub(moved).min(last)).collect();
    starts.dedup();
    weighed(&starts, side, overlap, length)
}

/// Spans that begin at some places, with their shares.
fn weighed(starts: &[usize], side: usize, overlap: usize, length: usize) -> Vec<Span> {
    let rise = ramp(side, overlap.min(side / 2));
    let mut sums = vec![0.0; length];
    for start in starts {
        for (i, weight) in rise.iter().enumerate() {
            sums[(start + i) % length] += weight;
        }
    }
    let span = |&start: &usize| {
        let weights = rise.iter().enumerate().map(|(i, weight)| (weight / sums[(start + i) % length]) as f32);
        Span { start, weights: weights.collect() }
    };
    starts.iter().map(span).collect()
}

/// 1 in the middle, and a raised cosine down to both ends over `overlap`.
fn ramp(side: usize, overlap: usize) -> Vec<f64> {
    let weight = |i: usize| {
        let depth = i.min(side - 1 - i);
        if depth >= overlap {
            return 1.0;
        }
        (std::f64::consts::FRAC_PI_2 * (depth as f64 + 0.5) / overlap as f64).sin().powi(2)
    };
    (0..side).map(weight).collect()
}

/// Pixels of a picture, which may be larger than memory has room for as numbers.
pub trait Pixels: Sync {
    /// Reads a part as `[height, width, 3]` in 0..1. It lies within the picture.
    fn read(&self, x: usize, y: usize, width: usize, height: usize, to: &mut [f32]);
}

/// A picture in memory, `[height, width, 3]` in 0..1.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// Row after row.
    pub pixels: &'a [f32],
    /// In pixels.
    pub width: usize,
}

impl Pixels for Whole<'_> {
    fn read(&self, x: usize, y: usize, width: usize, _: usize, to: &mut [f32]) {
        for (row, to) in (y..).zip(to.chunks_exact_mut(3 * width)) {
            to.copy_from_slice(&self.pixels[(row * self.width + x) * 3..][..3 * width]);
        }
    }
}

/// Reads a part of a picture of `size` (height, width) that may go beyond it: there it is mirrored, or begins again if it wraps.
///
/// # Errors
/// [`Error::Memory`]
pub fn read_beyond(
    pixels: &dyn Pixels,
    size: [usize; 2],
    [y, x]: [usize; 2],
    [height, width]: [usize; 2],
    wrap: bool,
) -> Result<Vec<f32>> {
    let place = |at: usize, length: usize| {
        if wrap {
            return at % length;
        }
        let at = at % (2 * length);
        if at < length { at } else { 2 * length - 1 - at }
    };
    let rows: Vec<usize> = (y..y + height).map(|at| place(at, size[0])).collect();
    let columns: Vec<usize> = (x..x + width).map(|at| place(at, size[1])).collect();
    let range = |places: &[usize]| {
        let least = places.iter().copied().min().unwrap_or(0);
        (least, places.iter().copied().max().unwrap_or(0) + 1 - least)
    };
    let ((top, high), (left, wide)) = (range(&rows), range(&columns));
    let mut read = zeros(high * wide * 3)?;
    pixels.read(left, top, wide, high, &mut read);
    let mut all = zeros(height * width * 3)?;
    let mut to = all.chunks_exact_mut(3);
    for row in &rows {
        for column in &columns {
            let from = ((row - top) * wide + column - left) * 3;
            to.next().expect("as many as places").copy_from_slice(&read[from..from + 3]);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(side: usize, overlap: usize, wrap: bool) -> Tiles {
        Tiles { side, overlap, shifts: vec![[0, 0], [5, 3], [11, 200], [7, 1]], wrap }
    }

    /// A network that sees values and not places.
    fn toy(values: &[f32]) -> Vec<f32> {
        values.iter().map(|v| 0.7 * v.tanh() + 0.1 * v * v).collect()
    }

    #[test]
    fn tiles_of_a_network_that_sees_no_positions_are_as_one_tile() {
        for (height, width) in [(8, 8), (16, 40), (24, 96), (64, 200), (8, 17)] {
            let canvas: Vec<f32> = (0..height * width * 4).map(|i| ((i * 7919) % 2003) as f32 / 500.0 - 2.0).collect();
            let whole = toy(&canvas);
            for (side, overlap) in [(8, 2), (16, 4), (16, 8), (64, 16), (24, 0)] {
                for (wrap, step) in [false, true].into_iter().flat_map(|wrap| (0..5).map(move |step| (wrap, step))) {
                    let grid = tiles(side, overlap, wrap).grid([height, width], step).unwrap();
                    let got = grid.blend(4, |tile| Ok(toy(&tile.cut(&canvas, 4)?))).unwrap();
                    let worst = got.iter().zip(&whole).fold(0f32, |a, (g, w)| a.max((g - w).abs()));
                    assert!(worst < 1e-5, "{height}x{width}, tiles {side}/{overlap}, wrap {wrap}: {worst}");
                }
            }
        }
    }

    #[test]
    fn rows_come_in_order_and_as_the_whole_is() {
        for wrap in [false, true] {
            let grid = tiles(16, 4, wrap).grid([50, 30], 1).unwrap();
            let make = |tile: &Tile<'_>| Ok(vec![tile.number as f32; tile.row.length() * tile.column.length() * 3]);
            let (whole, mut rows) = (grid.blend(3, make).unwrap(), Vec::new());
            let each = |first: usize, values: &[f32]| {
                assert_eq!(first * 90, rows.len());
                rows.extend_from_slice(values);
                Ok(())
            };
            grid.blend_rows(3, make, each).unwrap();
            assert_eq!(rows, whole, "wrap {wrap}");
        }
    }

    #[test]
    fn the_grid_moves_and_no_more_tiles_are_needed() {
        let starts = |shift| spans(100, 32, 8, shift, false).iter().map(|span| span.start).collect::<Vec<_>>();
        assert_eq!(starts(0), [0, 26, 52, 68]);
        assert_eq!(starts(5), [0, 21, 47, 68]);
        assert_eq!(
            spans(256, 64, 16, 7, false).iter().map(|span| span.start).collect::<Vec<_>>(),
            [0, 45, 97, 149, 192]
        );
        assert_eq!(spans(32, 16, 4, 5, false).iter().map(|span| span.start).collect::<Vec<_>>(), [0, 7, 16]);
        assert_eq!(spans(32, 16, 4, 5, true).iter().map(|span| span.start).collect::<Vec<_>>(), [5, 15, 26]);
        assert_eq!(spans(64, 64, 16, 9, false).len(), 1);
        assert_eq!(spans(64, 64, 16, 9, true).len(), 2, "one tile does not see across the seam");
    }

    #[test]
    fn beyond_its_border_a_picture_is_mirrored_or_begins_again() {
        let pixels: Vec<f32> = (0..6).flat_map(|i| [i as f32; 3]).collect();
        let whole = Whole { pixels: &pixels, width: 3 };
        let read = |wrap| {
            let read = read_beyond(&whole, [2, 3], [1, 1], [3, 4], wrap).unwrap();
            read.chunks_exact(3).map(|p| p[0]).collect::<Vec<_>>()
        };
        assert_eq!(read(false), [4.0, 5.0, 5.0, 4.0, 4.0, 5.0, 5.0, 4.0, 1.0, 2.0, 2.0, 1.0]);
        assert_eq!(read(true), [4.0, 5.0, 3.0, 4.0, 1.0, 2.0, 0.0, 1.0, 4.0, 5.0, 3.0, 4.0]);
    }

    #[test]
    fn a_larger_grid_has_the_same_tiles() {
        for wrap in [false, true] {
            let small = tiles(64, 8, wrap).grid([20, 200], 0).unwrap();
            let large = small.times(8);
            assert_eq!(small.count(), large.count());
            let ones = |tile: &Tile<'_>| Ok(vec![1.0; tile.size().iter().product()]);
            assert!(large.blend(1, ones).unwrap().iter().all(|v| (v - 1.0).abs() < 1e-6));
            for (a, b) in small.columns.iter().zip(&large.columns) {
                assert_eq!([8 * a.start, 8 * a.length()], [b.start, b.length()]);
            }
        }
    }

    #[test]
    fn tiles_that_no_network_takes_are_refused() {
        for (side, overlap) in [(0, 0), (12, 2), (16, 9)] {
            assert!(matches!(tiles(side, overlap, false).grid([64, 64], 0), Err(Error::Request(_))));
        }
    }
}
