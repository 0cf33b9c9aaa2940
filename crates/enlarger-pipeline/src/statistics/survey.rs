//! The classifier's verdict, place by place.

use std::ops::Range;

use enlarger_image::{Picture, Sample, with_samples};
use rayon::prelude::*;

use crate::classifier::{self, CELL, KINDS, Logits};

/// Largest side of a window that is looked at, but for what fills no cell.
const WINDOW: usize = 256;
/// At most this many windows along each side, spread evenly: some 8 megapixels in all.
const WINDOWS: usize = 11;
/// A window has at least this side, as those had that the classifier was trained on: smaller pictures are mirrored. Repeating their outermost pixels
/// made streaks, which were taken for damage and for drawings: of 24 clean parts of photos of 24 x 24 pixels, 14 looked drawn, mirrored 3.
const LEAST: usize = 64;
/// Cells along a block's side, about.
const BLOCK: usize = 8;

/// Blocks of about 64 x 64 pixels in rows and columns. In pictures too large to be looked at everywhere there are gaps between.
pub(super) struct Survey {
    /// Pixels that each column of blocks covers.
    pub columns: Vec<Range<usize>>,
    /// And each row.
    pub rows: Vec<Range<usize>>,
    /// Row by row.
    blocks: Vec<Sums>,
}

/// Sums of the logits of some cells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    logits: [f64; KINDS],
    cells: usize,
}

impl Sums {
    /// Of at least one cell.
    pub fn mean(&self) -> Logits {
        self.logits.map(|sum| (sum / self.cells as f64) as f32)
    }

    fn add_cell(&mut self, cell: &Logits) {
        self.logits.iter_mut().zip(cell).for_each(|(sum, logit)| *sum += f64::from(*logit));
        self.cells += 1;
    }

    pub fn add(mut self, other: &Self) -> Self {
        self.logits.iter_mut().zip(other.logits).for_each(|(sum, more)| *sum += more);
        self.cells += other.cells;
        self
    }
}

impl Survey {
    /// Surveys a picture. The result is the same on every machine and with any number of threads.
    pub fn of(picture: &Picture) -> Self {
        let (across, down) = (windows(picture.width as usize), windows(picture.height as usize));
        let places: Vec<_> = down.iter().flat_map(|y| across.iter().map(move |x| (x, y))).collect();
        let seen: Vec<Vec<Sums>> = places.into_par_iter().map(|(x, y)| look(picture, x, y)).collect();
        let columns: Vec<Vec<_>> = across.iter().map(blocks).collect();
        let rows: Vec<Vec<_>> = down.iter().map(blocks).collect();
        let mut all = Vec::new();
        for (windows, rows) in seen.chunks_exact(across.len()).zip(&rows) {
            for row in 0..rows.len() {
                for (window, columns) in windows.iter().zip(&columns) {
                    all.extend(&window[row * columns.len()..][..columns.len()]);
                }
            }
        }
        Self { columns: columns.concat(), rows: rows.concat(), blocks: all }
    }

    /// The block in a column and a row.
    pub fn block(&self, [column, row]: [usize; 2]) -> &Sums {
        &self.blocks[row * self.columns.len() + column]
    }

    /// Columns and rows of all blocks.
    pub fn places(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let (columns, rows) = (self.columns.len(), self.rows.len());
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [column, row]))
    }

    /// The mean over some blocks, `None` over none.
    pub fn mean(&self, places: impl Iterator<Item = [usize; 2]>) -> Option<Logits> {
        let sums = places.fold(Sums::default(), |sums, place| sums.add(self.block(place)));
        (sums.cells > 0).then(|| sums.mean())
    }
}

/// The windows along a side: side by side if they cover it, else evenly spread.
fn windows(side: usize) -> Vec<Range<usize>> {
    let count = side.div_ceil(WINDOW);
    if count > WINDOWS {
        return (0..WINDOWS).map(|i| i * (side - WINDOW) / (WINDOWS - 1)).map(|start| start..start + WINDOW).collect();
    }
    let start = |i: usize| if i == count { side } else { i * side / count / CELL * CELL };
    (0..count).map(|i| start(i)..start(i + 1)).collect()
}

/// The blocks of a window along a side, of which pixels that fill no cell belong to the last.
fn blocks(window: &Range<usize>) -> Vec<Range<usize>> {
    let cells = cells(window);
    let count = (cells / BLOCK).max(1);
    let start = |i: usize| if i == count { window.end } else { window.start + i * cells / count * CELL };
    (0..count).map(|i| start(i)..start(i + 1)).collect()
}

/// Cells inside a window along a side, at least one.
fn cells(window: &Range<usize>) -> usize {
    (window.len() / CELL).max(1)
}

/// Cells that count. Those of a mirrored picture show all of it, at other places of the classifier's grid.
fn counted(window: &Range<usize>) -> usize {
    if window.len() < LEAST { LEAST / CELL } else { cells(window) }
}

/// The blocks of a window, row by row.
fn look(picture: &Picture, x: &Range<usize>, y: &Range<usize>) -> Vec<Sums> {
    let [width, height] = [x, y].map(|side| side.len().next_multiple_of(CELL).max(LEAST));
    let logits = classifier::classify(&seen(picture, [x.start, y.start], [width, height]), width);
    let (columns, rows) = (blocks(x), blocks(y));
    let block_of = |side: &Range<usize>, blocks: &[Range<usize>], cell: usize| {
        blocks.iter().position(|block| block.contains(&(side.start + cell * CELL))).unwrap_or(blocks.len() - 1)
    };
    let mut sums = vec![Sums::default(); columns.len() * rows.len()];
    for row in 0..counted(y) {
        let down = block_of(y, &rows, row);
        for column in 0..counted(x) {
            let across = block_of(x, &columns, column);
            sums[down * columns.len() + across].add_cell(&logits[row * (width / CELL) + column]);
        }
    }
    sums
}

/// A window as interleaved RGB, 0..=1. Beyond the picture its mirror images follow; transparency shows white.
fn seen(picture: &Picture, [x0, y0]: [usize; 2], [w, h]: [usize; 2]) -> Vec<f32> {
    let n = picture.channels.count();
    let (width, height) = (picture.width as usize, picture.height as usize);
    let sample = |i: usize| with_samples!(&picture.samples, s => s[i].to_f64() as f32);
    let mut rgb = Vec::with_capacity(w * h * 3);
    for y in (y0..y0 + h).map(|y| mirrored(y, height)) {
        for x in (x0..x0 + w).map(|x| mirrored(x, width)) {
            let i = (y * width + x) * n;
            let alpha = if n.is_multiple_of(2) { sample(i + n - 1) } else { 1.0 };
            let colours = if n < 3 { [i; 3] } else { [i, i + 1, i + 2] };
            rgb.extend(colours.map(|at| sample(at) * alpha + 1.0 - alpha));
        }
    }
    rgb
}

/// The place in a side that a mirrored one shows at `i`.
fn mirrored(i: usize, side: usize) -> usize {
    let i = i % (2 * side);
    i.min(2 * side - 1 - i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_their_blocks_lie_in_order_and_cover_what_is_not_too_large() {
        for side in [1, 7, 8, 63, 64, 65, 256, 257, 300, 511, 2816, 2817, 20_000] {
            let windows = windows(side);
            assert!(
                windows.iter().all(|w| !w.is_empty() && w.len() < WINDOW + CELL && w.end <= side),
                "{side}: {windows:?}"
            );
            let blocks: Vec<_> = windows.iter().flat_map(blocks).collect();
            assert_eq!((blocks[0].start, blocks[blocks.len() - 1].end), (0, side));
            for pair in blocks.windows(2) {
                assert!(pair[0].end == pair[1].start || side > 2816 && pair[0].end < pair[1].start, "{side}: {pair:?}");
            }
            assert!(blocks.iter().all(|b| b.len() < 2 * BLOCK * CELL), "{side}: {blocks:?}");
        }
    }
}
