//! 3x3 convolutions by Winograd's F(4x4, 3x3).
//!
//! Some tiles of 4x4 results are computed together. Their inputs are transformed to V first. A task has some tiles and
//! outputs; it transforms the weights of some channels to U, multiplies, and goes on to the next channels, so that U never leaves
//! the second-level cache. This repeats the transform for other tiles, which costs a few percent, but weights stay in the
//! format of their file, and nothing else is kept: with all of U, a network would be four times as large.
//!
//! The transform of inputs also normalises or doubles what it reads, and that of results adds another map, so that neither is stored
//! in between. Of a doubled picture, a tile sees lines `[a, b, b, c, c, d]`: the sum at the point -1, which F(4, 3) begins with
//! `(c - 4b) - (c - 4b)`, is always 0, so it is left out.

use rayon::prelude::*;

use super::{
    dispatch::{Dense, GoOn, Task, To, with_scratch},
    linear::{Matrix, PANEL},
    math::{Math, load_some, silu, store_some},
    multiply::{Left, PIECE, Right, Start, Sums, apart, multiply, prefetch, prefetch_to_write},
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

/// Tiles of a task: whole blocks of registers on AVX-512 and AVX2.
const TILES: usize = 96;
/// Tiles whose inputs a task transforms, a piece of the channels after the other: few, so that their pixels are in a few pages.
const GROUP: usize = 8;
/// Panels of outputs of a task.
const PANELS: usize = 2;
/// Channels that are multiplied at once.
const DEEP: usize = 64;
/// Values from one point of U to the next: an odd number of cache lines more than the channels have.
const U_POINT: usize = DEEP * PANEL + PIECE;
/// Tasks for each thread between two transforms of inputs. Few, so that V is still in cache.
const TASKS: usize = 3;

/// A convolution with zeros around the picture. `x` is `[batch][height][width][channels]`; the result has each `stride`th row and
/// column from `offset` on.
pub struct Conv3x3<'a> {
    /// Weights; as many inputs as 9 times the channels.
    pub weights: Matrix<'a>,
    /// Batch, height, width of the picture that is convolved.
    pub size: [usize; 3],
    /// How that picture comes from `x`.
    pub input: Input<'a>,
    /// What is added to the result, of the same shape.
    pub add: Option<&'a [f32]>,
    /// Rows and columns from one result to the next.
    pub stride: usize,
    /// The first row and column that there is a result for: 0, where the sum is centred on the first pixel, or more.
    pub offset: usize,
}

/// What is convolved.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// `x` itself.
    Plain,
    /// Each pixel of `x` four times: `x` is half as high and wide as the picture. The stride is 1, the offset 0.
    Doubled,
    /// SiLU of `x * scale + shift`, `[batch][channels]` each.
    Normed {
        /// What is multiplied.
        scale: &'a [f32],
        /// What is added.
        shift: &'a [f32],
    },
}

impl Conv3x3<'_> {
    fn channels(&self) -> usize {
        self.weights.inputs / 9
    }

    /// Height and width of the result.
    pub fn result(&self) -> [usize; 2] {
        [self.size[1], self.size[2]].map(|side| side.saturating_sub(self.offset).div_ceil(self.stride))
    }

    fn doubled(&self) -> bool {
        matches!(self.input, Input::Doubled)
    }

    /// Height and width of `x`.
    fn source(&self) -> [usize; 2] {
        let [_, height, width] = self.size;
        if self.doubled() { [height / 2, width / 2] } else { [height, width] }
    }

    /// Points that tiles are transformed to.
    fn points(&self) -> usize {
        points(self.doubled())
    }

    /// Checks the sizes of all that is read and written.
    fn check(&self, x: &[f32], to: &[f32]) {
        let Self { weights: w, size: [batch, ..], stride, offset, input, add } = self;
        w.check();
        assert!(w.inputs.is_multiple_of(9) && *stride > 0);
        let [height, width] = self.source();
        assert_eq!(x.len(), batch * height * width * self.channels());
        match input {
            Input::Plain => {}
            Input::Doubled => {
                assert!(self.size[1..].iter().all(|side| side.is_multiple_of(2)) && *stride == 1 && *offset == 0);
            }
            Input::Normed { scale, shift } => {
                assert!(scale.len() == batch * self.channels() && shift.len() == scale.len());
            }
        }
        let [height, width] = self.result();
        assert!(to.len() == batch * height * width * w.outputs && add.is_none_or(|add| add.len() == to.len()));
    }

    /// Tiles side by side, and in all.
    fn tiles(&self) -> (usize, usize) {
        let across = self.size[2].div_ceil(4);
        (across, self.size[0] * self.size[1].div_ceil(4) * across)
    }

    /// Values of V for the tiles of a task.
    fn v_floats(&self) -> usize {
        let tiles = self.tiles().1.min(TILES);
        self.points() * apart(tiles) * self.channels().div_ceil(PIECE)
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
        conv.check(x, to);
        assert!(workspace.len() >= conv.workspace());
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
                with_scratch(Products::floats(tiles.count, conv.points()), |scratch| {
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

/// Points of a line of 6 inputs that are left: the sum at -1 of a doubled line, with signs that alternate, is 0.
const fn kept(point: usize, doubled: bool) -> Option<usize> {
    match (doubled, point) {
        (true, 2) => None,
        (true, 3..) => Some(point - 1),
        _ => Some(point),
    }
}

/// Points of a tile.
const fn points(doubled: bool) -> usize {
    if doubled { 25 } else { POINTS }
}

/// Where the points of a tile are among those that are left.
#[inline(always)]
const fn slot<const DOUBLED: bool>(i: usize, j: usize) -> Option<usize> {
    match (kept(i, DOUBLED), kept(j, DOUBLED)) {
        (Some(i), Some(j)) => Some(i * if DOUBLED { 5 } else { 6 } + j),
        _ => None,
    }
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
            if stride == 1 {
                return (offset..of).contains(&at).then(|| at - offset);
            }
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
        // SAFETY: the caller's promise.
        unsafe {
            match self.tiles.conv.doubled() {
                true => self.transform::<V, true>(),
                false => self.transform::<V, false>(),
            }
        }
    }
}

impl Inputs<'_> {
    /// # Safety
    /// The caller has V's instructions, here and below.
    #[inline(always)]
    unsafe fn transform<V: Math, const DOUBLED: bool>(&self) {
        let &Self { tiles, first, end, .. } = self;
        let channels = tiles.conv.channels();
        // Pixels of `x` that a side of a tile sees, of which two are the next tile's, too.
        let pixels = if DOUBLED { 4 } else { 6 };
        // Divisions take as long as much of a transform.
        let places: [[usize; 3]; GROUP] = std::array::from_fn(|i| {
            let [image, top, left] = tiles.place(first + i);
            if DOUBLED { [image, top / 2, left / 2] } else { [image, top, left] }
        });
        for channel in (0..channels).step_by(V::LANES) {
            let (piece, lane) = (channel / PIECE, channel % PIECE);
            let mut before = [usize::MAX; 3];
            // SAFETY: V has room for the tiles.
            unsafe {
                let mut half = [[V::splat(0.0); 6]; 6];
                for tile in first..end {
                    let place @ [image, y, left] = places[tile - first];
                    let (from, seen) = if before == [image, y, left.wrapping_sub(pixels - 2)] {
                        ([half[pixels - 2], half[pixels - 1]], 2)
                    } else {
                        ([[V::splat(0.0); 6]; 2], 0)
                    };
                    (half[0], half[1]) = (from[0], from[1]);
                    for j in 0..pixels {
                        if j >= seen {
                            half[j] = self.column::<V, DOUBLED>(place, j, channel);
                        }
                    }
                    before = place;
                    let to = tiles.v.at(piece * points(DOUBLED) * tiles.apart + tile * PIECE + lane);
                    for i in 0..6 {
                        let row = line::<V, DOUBLED>([
                            half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i],
                        ]);
                        for j in 0..6 {
                            if let Some(slot) = slot::<DOUBLED>(i, j) {
                                row[j].store(to.add(slot * tiles.apart));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Transforms the `j`th column that a tile sees, of a vector of channels.
    #[inline(always)]
    unsafe fn column<V: Math, const DOUBLED: bool>(
        &self,
        [image, y, left]: [usize; 3],
        j: usize,
        channel: usize,
    ) -> [V; 6] {
        let conv = self.tiles.conv;
        let ([height, width], channels) = (conv.source(), conv.channels());
        let lanes = V::LANES.min(channels - channel);
        // SAFETY: pixels are inside the picture where they are read.
        unsafe {
            let mut d = [V::splat(0.0); 6];
            // Counted from the left border pixel, as rows are from the upper one.
            if !(1..=width).contains(&(left + j)) {
                return d;
            }
            let norm = match conv.input {
                Input::Normed { scale, shift } => {
                    let at = image * channels + channel;
                    Some([scale, shift].map(|values| values.as_ptr().add(at)))
                }
                _ => None,
            };
            let from =
                self.x.as_ptr().wrapping_add((image * height * width + left + j).wrapping_sub(1) * channels + channel);
            for i in 0..if DOUBLED { 4 } else { 6 } {
                if (1..=height).contains(&(y + i)) {
                    let at = from.wrapping_add((y + i - 1) * width * channels);
                    // The next piece of the pixel, which will be read after all tiles.
                    prefetch(at.wrapping_add(PIECE));
                    d[i] = load_some::<V>(at, lanes);
                    if let Some([scale, shift]) = norm {
                        d[i] = silu(load_some::<V>(shift, lanes).fma(d[i], load_some::<V>(scale, lanes)), 1.0);
                    }
                }
            }
            line::<V, DOUBLED>(d)
        }
    }
}

/// Transforms a line of inputs, or four pixels that become six as they are doubled.
///
/// # Safety
/// The caller has V's instructions.
#[inline(always)]
unsafe fn line<V: Vector, const DOUBLED: bool>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe { input_line(if DOUBLED { [d[0], d[1], d[1], d[2], d[2], d[3]] } else { d }) }
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
    fn floats(tiles: usize, points: usize) -> usize {
        points * U_POINT + PANELS * points * Self::m_point(tiles) + DEEP * 9 * PANEL
    }
}

impl Task for Products<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.tiles.conv.doubled() {
                true => self.compute::<V, true>(),
                false => self.compute::<V, false>(),
            }
        }
    }
}

impl Products<'_> {
    /// # Safety
    /// The caller has V's instructions.
    #[inline(always)]
    unsafe fn compute<V: Math, const DOUBLED: bool>(&self) {
        let &Self { tiles, output, to, scratch } = self;
        let w = &tiles.conv.weights;
        let (points, channels) = (points(DOUBLED), tiles.conv.channels());
        let m_point = Self::m_point(tiles.count);
        let end = w.outputs.min(output + PANELS * PANEL);
        // SAFETY: the scratch memory is as `floats` says, V is complete, and no other task has the same tiles and outputs.
        unsafe {
            let u = scratch;
            let m = u.add(points * U_POINT);
            let taps = m.add(PANELS * points * m_point);
            for channel in (0..channels).step_by(DEEP) {
                let depth = DEEP.min(channels - channel);
                let v = tiles.v.at(channel / PIECE * points * tiles.apart);
                for (panel, output) in (output..end).step_by(PANEL).enumerate() {
                    let at = (output / PANEL * w.inputs + channel * 9) * PANEL;
                    let taps = w.weights.widened::<V>(at, depth * 9 * PANEL, taps);
                    transform_weights::<V, DOUBLED>(taps, depth, u);
                    let m = m.add(panel * points * m_point);
                    let groups = (end - output).min(PANEL).div_ceil(PIECE);
                    let start = if channel > 0 { Start::Held } else { Start::Zero };
                    for k in 0..points {
                        let left = Left { at: v.add(k * tiles.apart), apart: points * tiles.apart };
                        let right = Right { at: u.add(k * U_POINT), apart: PANEL };
                        let sums = Sums { at: m.add(k * m_point), rows: PANEL, groups: PIECE };
                        multiply::<V>(left, right, [tiles.count, depth, groups], sums, start);
                    }
                }
            }
            let mut results = tiles.results(0);
            for tile in 0..tiles.count {
                // Results lie in rows far apart, which the processor does not foresee.
                let next = tiles.results((tile + 1).min(tiles.count - 1));
                for at in next.iter().flatten().flatten().map(|result| result * w.outputs) {
                    for lane in (output..end).step_by(PIECE) {
                        prefetch_to_write(to.at(at + lane));
                        if let Some(add) = tiles.conv.add {
                            prefetch(add.as_ptr().wrapping_add(at + lane));
                        }
                    }
                }
                for lane in (output..end).step_by(V::LANES) {
                    let (panel, column) = ((lane - output) / PANEL, (lane - output) % PANEL);
                    let m = m.add(panel * points * m_point + tile * PANEL + column);
                    let lanes = V::LANES.min(end - lane);
                    let bias = w.bias.map_or(V::splat(0.0), |b| load_some::<V>(b.as_ptr().add(lane), lanes));
                    let add = tiles.conv.add.map(|add| add.as_ptr().add(lane));
                    store_results::<V, DOUBLED>(m, m_point, bias, add, &results, to.at(lane), w.outputs, lanes);
                }
                results = next;
            }
        }
    }
}

/// Transforms `[channel][tap][PANEL]` weights to `[point][channel][PANEL]`.
///
/// # Safety
/// There are so many, and room; the caller has V's instructions, here and below.
#[inline(always)]
unsafe fn transform_weights<V: Vector, const DOUBLED: bool>(taps: *const f32, channels: usize, u: *mut f32) {
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
                        if let Some(slot) = slot::<DOUBLED>(i, j) {
                            row[j].store(u.add(slot * U_POINT + channel * PANEL + lane));
                        }
                    }
                }
            }
        }
    }
}

/// Transforms a tile's products back and stores `lanes` outputs of those results that there are.
///
/// # Safety
/// `m` are products, `m_point` apart; there is room for the results, `outputs` values each, and as many to add.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "it is the end of one loop")]
unsafe fn store_results<V: Vector, const DOUBLED: bool>(
    m: *const f32,
    m_point: usize,
    bias: V,
    add: Option<*const f32>,
    results: &[[Option<usize>; 4]; 4],
    to: *mut f32,
    outputs: usize,
    lanes: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut half = [[V::splat(0.0); 6]; 4];
        for i in 0..6 {
            let mut products = [V::splat(0.0); 6];
            for j in 0..6 {
                if let Some(slot) = slot::<DOUBLED>(i, j) {
                    products[j] = V::load(m.add(slot * m_point));
                }
            }
            let row = output_line(products);
            for j in 0..4 {
                half[j][i] = row[j];
            }
        }
        for j in 0..4 {
            let values = output_line(half[j]);
            for i in 0..4 {
                if let Some(result) = results[i][j] {
                    let mut value = values[i].add(bias);
                    if let Some(add) = add {
                        value = value.add(load_some(add.add(result * outputs), lanes));
                    }
                    store_some(value, to.add(result * outputs), lanes);
                }
            }
        }
    }
}
