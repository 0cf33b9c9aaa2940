//! 3x3 convolutions by Winograd's F(4x4, 3x3).
//!
//! Some tiles of 4x4 results are computed together. Their inputs are transformed to V first. A task has some tiles and
//! outputs; it transforms the weights of some channels to U, multiplies, and goes on to the next channels, so that U never leaves
//! the second-level cache. This repeats the transform for other tiles, which costs a few percent, but weights stay in the
//! format of their file, and nothing else is kept: with all of U, a network would be four times as large.

use rayon::prelude::*;

use super::{
    dispatch::{Dense, GoOn, Task, To, with_scratch},
    linear::{Matrix, PANEL},
    math::{Math, load_some, store_some},
    multiply::{Left, PIECE, Right, Start, Sums, apart, multiply, prefetch},
};
use crate::{
    error::NnError,
    kernels::{
        vector::Vector,
        winograd::{
            POINTS,
            transform::{filter_line, input_line, output_line},
        },
    },
};

/// Tiles of a task.
const TILES: usize = 64;
/// Tiles whose inputs a task transforms, a piece of the channels after the other: few, so that their pixels are in a few pages.
const GROUP: usize = 8;
/// Panels of outputs of a task.
const PANELS: usize = 2;
/// Channels that are multiplied at once.
const DEEP: usize = 32;
/// Values from one point of U to the next: an odd number of cache lines more than the channels have.
const U_POINT: usize = DEEP * PANEL + PIECE;
/// Tasks for each thread between two transforms of inputs. Few, so that V is still in cache.
const TASKS: usize = 3;

/// A convolution with zeros around the picture. `x` is `[batch][height][width][channels]`; the result has each `stride`th row and
/// column from `offset` on.
pub struct Conv3x3<'a> {
    /// Weights; as many inputs as 9 times the channels.
    pub weights: Matrix<'a>,
    /// Batch, height, width.
    pub size: [usize; 3],
    /// Rows and columns from one result to the next.
    pub stride: usize,
    /// The first row and column that there is a result for: 0, where the sum is centred on the first pixel, or more.
    pub offset: usize,
}

impl Conv3x3<'_> {
    fn channels(&self) -> usize {
        self.weights.inputs / 9
    }

    /// Height and width of the result.
    pub fn result(&self) -> [usize; 2] {
        [self.size[1], self.size[2]].map(|side| side.saturating_sub(self.offset).div_ceil(self.stride))
    }

    /// Tiles side by side, and in all.
    fn tiles(&self) -> (usize, usize) {
        let across = self.size[2].div_ceil(4);
        (across, self.size[0] * self.size[1].div_ceil(4) * across)
    }

    /// Values of V for the tiles of a task.
    fn v_floats(&self) -> usize {
        let tiles = self.tiles().1.min(TILES);
        POINTS * apart(tiles) * self.channels().div_ceil(PIECE)
    }

    /// Tasks that have the same tiles.
    fn panels(&self) -> usize {
        self.weights.outputs.div_ceil(PANELS * PANEL)
    }

    /// Floats that [`Dense::conv3x3`] works in.
    pub fn workspace(&self) -> usize {
        let blocks = (TASKS * rayon::current_num_threads()).div_ceil(self.panels());
        self.v_floats() * blocks.min(self.tiles().1.div_ceil(TILES))
    }
}

impl Dense {
    /// Computes a convolution; `workspace` is as long as [`Conv3x3::workspace`] says.
    ///
    /// # Errors
    /// [`NnError::Memory`] if a thread has not enough.
    ///
    /// # Panics
    /// If the slices have other sizes.
    pub fn conv3x3(
        self,
        x: &[f32],
        conv: &Conv3x3<'_>,
        to: &mut [f32],
        workspace: &mut [f32],
        go_on: GoOn<'_>,
    ) -> Result<(), NnError> {
        let Conv3x3 { weights: w, size: [batch, height, width], stride, .. } = conv;
        let [result_height, result_width] = conv.result();
        w.check();
        assert!(w.inputs.is_multiple_of(9) && *stride > 0);
        assert!(x.len() == batch * height * width * conv.channels() && workspace.len() >= conv.workspace());
        assert!(to.len() == batch * result_height * result_width * w.outputs);
        let (across, count) = conv.tiles();
        if count == 0 {
            return Ok(());
        }
        let v_floats = conv.v_floats();
        let blocks = workspace.len() / v_floats;
        let (v, to) = (To(workspace.as_mut_ptr()), To(to.as_mut_ptr()));
        let panels = conv.panels();
        for start in (0..count).step_by(blocks * TILES) {
            let blocks = (count - start).min(blocks * TILES).div_ceil(TILES);
            let tiles = |block: usize| {
                let first = start + block * TILES;
                // V's rows are as far apart as in the largest block.
                let v = To(v.at(block * v_floats));
                Tiles { conv, across, first, count: (count - first).min(TILES), apart: apart(count.min(TILES)), v }
            };
            let groups = TILES / GROUP;
            (0..blocks * groups).into_par_iter().with_max_len(1).for_each(|i| {
                let (tiles, first) = (tiles(i / groups), i % groups * GROUP);
                if go_on() && first < tiles.count {
                    self.run(Inputs { x, tiles, first, end: tiles.count.min(first + GROUP) });
                }
            });
            (0..blocks * panels).into_par_iter().with_max_len(1).try_for_each(|i| {
                let tiles = tiles(i / panels);
                if !go_on() {
                    return Ok(());
                }
                with_scratch(Products::floats(tiles.count), |scratch| {
                    self.run(Products { tiles, output: i % panels * PANELS * PANEL, to, scratch });
                })
            })?;
        }
        Ok(())
    }
}

/// Some tiles, one after the other in rows, rows of pictures, and pictures.
#[derive(Clone, Copy)]
struct Tiles<'a> {
    conv: &'a Conv3x3<'a>,
    /// Side by side.
    across: usize,
    first: usize,
    count: usize,
    /// Values from a point of V to the next.
    apart: usize,
    /// `[piece][point][tile][PIECE]`.
    v: To,
}

impl Tiles<'_> {
    /// Picture, and the first row and column of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> [usize; 3] {
        let (row, column) = ((self.first + tile) / self.across, (self.first + tile) % self.across);
        let down = self.conv.size[1].div_ceil(4);
        [row / down, row % down * 4, column * 4]
    }
}

impl Tiles<'_> {
    /// Where the results of the pixels of a tile are, if there are any: divisions by strides take long, and outputs are many.
    fn results(&self, tile: usize) -> [[Option<usize>; 4]; 4] {
        let &Conv3x3 { size: [_, height, width], stride, offset, .. } = self.conv;
        let [down, across] = self.conv.result();
        let [image, top, left] = self.place(tile);
        let place = |at: usize, of: usize| {
            let from_first = at.checked_sub(offset).filter(|at| at % stride == 0)?;
            (at < of).then_some(from_first / stride)
        };
        let columns: [Option<usize>; 4] = std::array::from_fn(|j| place(left + j, width));
        std::array::from_fn(|i| {
            let row = place(top + i, height);
            columns.map(|column| Some((image * down + row?) * across + column?))
        })
    }
}

/// The transform of some of the tiles.
struct Inputs<'a> {
    x: &'a [f32],
    tiles: Tiles<'a>,
    first: usize,
    end: usize,
}

impl Task for Inputs<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { x, tiles, first, end } = self;
        let [_, height, width] = tiles.conv.size;
        let channels = tiles.conv.channels();
        // Divisions take as long as much of a transform.
        let places: [[usize; 3]; GROUP] = std::array::from_fn(|i| tiles.place(first + i));
        for channel in (0..channels).step_by(V::LANES) {
            let (piece, lane) = (channel / PIECE, channel % PIECE);
            let lanes = V::LANES.min(channels - channel);
            let mut before = [usize::MAX; 3];
            // SAFETY: pixels are inside the picture where they are read, and V has room for the tiles; the caller has V's
            // instructions.
            unsafe {
                let mut half = [[V::splat(0.0); 6]; 6];
                for tile in first..end {
                    let [image, y, left] = places[tile - first];
                    let column = |x_at: usize| {
                        // Counted from the left border pixel, as rows are from the upper one.
                        if !(1..=width).contains(&x_at) {
                            return [V::splat(0.0); 6];
                        }
                        let pixel = |i: usize| {
                            let row = y + i;
                            if !(1..=height).contains(&row) {
                                return V::splat(0.0);
                            }
                            let at = ((image * height + row - 1) * width + x_at - 1) * channels + channel;
                            // The next piece of the pixel, which will be read after all tiles.
                            prefetch(x.as_ptr().wrapping_add(at + PIECE));
                            load_some::<V>(x.as_ptr().add(at), lanes)
                        };
                        input_line([pixel(0), pixel(1), pixel(2), pixel(3), pixel(4), pixel(5)])
                    };
                    // Two columns are those of the tile before.
                    if before == [image, y, left.wrapping_sub(4)] {
                        (half[0], half[1]) = (half[4], half[5]);
                    } else {
                        (half[0], half[1]) = (column(left), column(left + 1));
                    }
                    for j in 2..6 {
                        half[j] = column(left + j);
                    }
                    before = [image, y, left];
                    let to = tiles.v.at(piece * POINTS * tiles.apart + tile * PIECE + lane);
                    for i in 0..6 {
                        let row = input_line([half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]]);
                        for j in 0..6 {
                            row[j].store(to.add((i * 6 + j) * tiles.apart));
                        }
                    }
                }
            }
        }
    }
}

/// The products of some tiles and outputs, and their way back.
struct Products<'a> {
    tiles: Tiles<'a>,
    output: usize,
    to: To,
    scratch: *mut f32,
}

impl Products<'_> {
    /// From one point of the products of a panel to the next.
    fn m_point(tiles: usize) -> usize {
        tiles * PANEL + PIECE
    }

    /// The scratch memory: U, the products, and weights as they come.
    fn floats(tiles: usize) -> usize {
        POINTS * U_POINT + PANELS * POINTS * Self::m_point(tiles) + DEEP * 9 * PANEL
    }
}

impl Task for Products<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { tiles, output, to, scratch } = self;
        let w = &tiles.conv.weights;
        let channels = tiles.conv.channels();
        let m_point = Self::m_point(tiles.count);
        let end = w.outputs.min(output + PANELS * PANEL);
        // SAFETY: the scratch memory is as `floats` says, V is complete, and no other task has the same tiles and outputs.
        unsafe {
            let u = scratch;
            let m = u.add(POINTS * U_POINT);
            let taps = m.add(PANELS * POINTS * m_point);
            for channel in (0..channels).step_by(DEEP) {
                let depth = DEEP.min(channels - channel);
                let v = tiles.v.at(channel / PIECE * POINTS * tiles.apart);
                for (panel, output) in (output..end).step_by(PANEL).enumerate() {
                    let at = (output / PANEL * w.inputs + channel * 9) * PANEL;
                    let taps = w.weights.widened::<V>(at, depth * 9 * PANEL, taps);
                    transform_weights::<V>(taps, depth, u);
                    let m = m.add(panel * POINTS * m_point);
                    let groups = (end - output).min(PANEL).div_ceil(PIECE);
                    let start = if channel > 0 { Start::Held } else { Start::Zero };
                    for k in 0..POINTS {
                        let left = Left { at: v.add(k * tiles.apart), apart: POINTS * tiles.apart };
                        let right = Right { at: u.add(k * U_POINT), apart: PANEL };
                        let sums = Sums { at: m.add(k * m_point), rows: PANEL, groups: PIECE };
                        multiply::<V>(left, right, [tiles.count, depth, groups], sums, start);
                    }
                }
            }
            for tile in 0..tiles.count {
                let results = tiles.results(tile);
                for lane in (output..end).step_by(V::LANES) {
                    let (panel, column) = ((lane - output) / PANEL, (lane - output) % PANEL);
                    let m = m.add(panel * POINTS * m_point + tile * PANEL + column);
                    let lanes = V::LANES.min(end - lane);
                    let bias = w.bias.map_or(V::splat(0.0), |b| load_some::<V>(b.as_ptr().add(lane), lanes));
                    store_results(m, m_point, bias, &results, to.at(lane), w.outputs, lanes);
                }
            }
        }
    }
}

/// Transforms `[channel][tap][PANEL]` weights to `[point][channel][PANEL]`.
///
/// # Safety
/// There are so many, and room; the caller has V's instructions, here and below.
#[inline(always)]
unsafe fn transform_weights<V: Vector>(taps: *const f32, channels: usize, u: *mut f32) {
    for channel in 0..channels {
        for lane in (0..PANEL).step_by(V::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let tap = |i: usize| V::load(taps.add((channel * 9 + i) * PANEL + lane));
                let mut half = [[V::splat(0.0); 3]; 6];
                for j in 0..3 {
                    let column = filter_line([tap(j), tap(3 + j), tap(6 + j)]);
                    for i in 0..6 {
                        half[i][j] = column[i];
                    }
                }
                for i in 0..6 {
                    let row = filter_line(half[i]);
                    for j in 0..6 {
                        row[j].store(u.add((i * 6 + j) * U_POINT + channel * PANEL + lane));
                    }
                }
            }
        }
    }
}

/// Transforms a tile's products back and stores `lanes` outputs of those results that there are.
///
/// # Safety
/// `m` are products, `m_point` apart; there is room for the results, `outputs` values each.
#[inline(always)]
unsafe fn store_results<V: Vector>(
    m: *const f32,
    m_point: usize,
    bias: V,
    results: &[[Option<usize>; 4]; 4],
    to: *mut f32,
    outputs: usize,
    lanes: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut half = [[V::splat(0.0); 6]; 4];
        for i in 0..6 {
            let product = |j: usize| V::load(m.add((i * 6 + j) * m_point));
            let row = output_line([product(0), product(1), product(2), product(3), product(4), product(5)]);
            for j in 0..4 {
                half[j][i] = row[j];
            }
        }
        for j in 0..4 {
            let values = output_line(half[j]);
            for i in 0..4 {
                if let Some(result) = results[i][j] {
                    store_some(values[i].add(bias), to.add(result * outputs), lanes);
                }
            }
        }
    }
}
