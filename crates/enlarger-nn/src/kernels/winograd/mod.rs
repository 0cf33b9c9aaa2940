//! Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks",
//! with the points 0, 1, -1, 2, -2 and infinity): 36 products make 16 outputs that take 144 directly.
//!
//! A task is some tiles of 4x4 outputs. Their 6x6 inputs are transformed to 36 matrices V (tiles by channels), multiplied
//! by 36 matrices U (channels by outputs; the transformed weights) and transformed back, all in a few hundred kilobytes
//! that stay in the second-level cache. U is made anew for each band of rows: kept for a whole network it would take four
//! times the weights' memory.
//!
//! Transforms are in f32 always. Products are in f32 ([`floats`]) or of 16-bit integers ([`integers`]).

pub mod floats;
pub mod integers;

use std::cell::RefCell;

use rayon::prelude::*;

use super::{
    Conv, Float, Line,
    finish::{Row, Target},
    vector::Vector,
};
use crate::map::View;

/// Points that a 6x6 tile is transformed to.
const POINTS: usize = 36;
/// Outputs are packed in groups of this many.
const GROUP: usize = 16;
/// Channels of a task that makes U.
const PART: usize = 32;

/// The functions compiled for one instruction set and one kind of products.
pub struct Kernel<T: Float> {
    /// Outputs of a block of U.
    outputs: usize,
    /// Tiles of a task: a multiple of those that the kernel keeps in registers.
    tiles: usize,
    /// 32-bit values that a column of U takes.
    rows: fn(depth: usize) -> usize,
    /// Makes the part of U of a group of outputs and of [`PART`] channels from one on.
    weights: unsafe fn(&Weights<'_, T>, group: usize, channel: usize),
    /// Computes some tiles, from one on.
    compute: unsafe fn(&Tiles<'_, T>, first: usize, scratch: &mut Vec<Line>),
}

thread_local! {
    /// V and M of the task that a thread is at.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Computes the target's rows, in parallel. `memory` is for U.
///
/// # Safety
/// The processor has the kernel's instructions.
pub unsafe fn convolve<T: Float>(
    kernel: &Kernel<T>,
    conv: &Conv<T>,
    sources: &[View<'_, T>],
    target: &Target<'_, T>,
    memory: &mut Vec<Line>,
) {
    let rows = (kernel.rows)(conv.depth);
    let u = room(memory, POINTS * rows * target.outputs);
    let job = Weights { conv, width: kernel.outputs, outputs: target.outputs, rows, u };
    let groups = target.outputs / GROUP;
    let parts = conv.depth.div_ceil(PART);
    (0..groups * parts).into_par_iter().for_each(|i| {
        // SAFETY: the processor has the instructions, U was made large enough, and each call writes other parts of it.
        unsafe { (kernel.weights)(&job, i % groups, i / groups * PART) }
    });
    let across = target.width.div_ceil(4);
    let count = across * target.height.div_ceil(4);
    let job = Tiles { conv, sources, target, u, width: kernel.outputs, across, count, task: kernel.tiles };
    (0..count.div_ceil(kernel.tiles)).into_par_iter().with_max_len(1).for_each(|i| {
        // SAFETY: the processor has the instructions, and each call writes other pixels of the target.
        SCRATCH.with_borrow_mut(|scratch| unsafe { (kernel.compute)(&job, i * kernel.tiles, scratch) });
    });
}

/// At least this many floats of scratch memory.
fn room(memory: &mut Vec<Line>, floats: usize) -> *mut f32 {
    let lines = floats.div_ceil(Line::FLOATS);
    if memory.len() < lines {
        memory.resize(lines, Line::ZERO);
    }
    memory.as_mut_ptr().cast()
}

/// Where the block of U is that has the output `output`, and how many outputs it has: blocks of `width` outputs, of
/// [`GROUP`] where no more are left.
fn block(output: usize, width: usize, outputs: usize) -> (usize, usize) {
    let start = output / width * width;
    if start + width <= outputs { (start, width) } else { (output / GROUP * GROUP, GROUP) }
}

/// The making of U: blocks of `[36][rows][outputs of the block]` 32-bit values.
struct Weights<'a, T> {
    conv: &'a Conv<T>,
    width: usize,
    outputs: usize,
    rows: usize,
    u: *mut f32,
}

// SAFETY: threads write different parts of `u`, see `Kernel::weights`.
unsafe impl<T: Sync> Sync for Weights<'_, T> {}

impl<T> Weights<'_, T> {
    /// Where U of a group of outputs begins, and the width of its block.
    fn place(&self, group: usize) -> (*mut f32, usize) {
        let (start, width) = block(group * GROUP, self.width, self.outputs);
        // Within what `convolve` made room for.
        (self.u.wrapping_add(POINTS * self.rows * start + group * GROUP - start), width)
    }

    /// The weights of a group of outputs: `[channel][9][16]`.
    fn packed(&self, group: usize) -> &[T] {
        let channels: usize = self.conv.inputs.iter().sum();
        &self.conv.weights[group * channels * 9 * GROUP..][..channels * 9 * GROUP]
    }
}

/// The work on tiles.
struct Tiles<'a, T: Float> {
    conv: &'a Conv<T>,
    sources: &'a [View<'a, T>],
    target: &'a Target<'a, T>,
    u: *const f32,
    /// Outputs of a block of U.
    width: usize,
    /// Tiles side by side.
    across: usize,
    /// Tiles in all.
    count: usize,
    /// Tiles of a task.
    task: usize,
}

// SAFETY: `u` is only read.
unsafe impl<T: Float> Sync for Tiles<'_, T> {}

/// Transforms the weights of one channel to some outputs. `at` are nine taps of [`GROUP`] outputs each.
///
/// # Safety
/// The caller has V's instructions.
#[inline(always)]
unsafe fn filter<T: Float, V: Vector>(at: *const T, mut put: impl FnMut(usize, V)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut half = [[V::splat(0.0); 3]; 6];
        for j in 0..3 {
            let tap = |i: usize| T::load::<V>(at.add((i * 3 + j) * GROUP));
            let column = filter_line([tap(0), tap(1), tap(2)]);
            for i in 0..6 {
                half[i][j] = column[i];
            }
        }
        for i in 0..6 {
            let row = filter_line(half[i]);
            for j in 0..6 {
                put(i * 6 + j, row[j]);
            }
        }
    }
}

/// Tiles side by side in one row of tiles.
struct Run {
    /// The first, counted from the task's first.
    t: usize,
    count: usize,
    /// Its first output's place in the target.
    y: usize,
    x: usize,
}

impl<T: Float> Tiles<'_, T> {
    /// Tiles of the task from `first` on.
    fn of_task(&self, first: usize) -> usize {
        self.task.min(self.count - first)
    }

    /// The same as runs, which end where a row of tiles does.
    fn runs(&self, first: usize) -> impl Iterator<Item = Run> {
        let (end, across) = (first + self.of_task(first), self.across);
        let mut at = first;
        std::iter::from_fn(move || {
            let (row, column) = (at / across, at % across);
            let run = Run { t: at - first, count: (end - at).min(across - column), y: row * 4, x: column * 4 };
            at += run.count;
            (run.count > 0).then_some(run)
        })
    }
}

impl<T: Float> Tiles<'_, T> {
    /// The six rows of a map that a run reads, from the first's first pixel on.
    fn rows(&self, source: &View<'_, T>, run: &Run) -> [*const T; 6] {
        let top = (self.target.start + run.y) as isize - 1;
        // From x - 1 on, which the border makes x; the last tile reads six pixels.
        let (first, last) = (source.pixel(run.x, 0), source.pixel(run.x, 4 * run.count + 1));
        let values = first * source.channels..(last + 1) * source.channels;
        std::array::from_fn(|i| source.row(top + i as isize)[values.clone()].as_ptr())
    }
}

/// Transforms a run's inputs of as many channels of one map as V has lanes. `put` gets a tile, counted from the task's
/// first, a point and its values.
///
/// # Safety
/// `rows` are what [`Tiles::rows`] gives, moved on by less than a pixel's channels; the caller has V's instructions.
#[inline(always)]
unsafe fn inputs<T: Float, V: Vector>(
    source: &View<'_, T>,
    rows: [*const T; 6],
    run: &Run,
    mut put: impl FnMut(usize, usize, V),
) {
    // SAFETY: channels are a multiple of the lanes, so the vectors are inside the pixels of `rows`.
    unsafe {
        let column = |x: usize| column(rows, source.pixel(0, x) * source.channels);
        // Columns, of which two are the next tile's, too.
        let mut half = [[V::splat(0.0); 6]; 6];
        (half[4], half[5]) = (column(0), column(1));
        for tile in 0..run.count {
            (half[0], half[1]) = (half[4], half[5]);
            for j in 2..6 {
                half[j] = column(4 * tile + j);
            }
            for i in 0..6 {
                let row = input_line([half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]]);
                for j in 0..6 {
                    put(run.t + tile, i * 6 + j, row[j]);
                }
            }
        }
    }
}

/// One column of six inputs, transformed.
///
/// # Safety
/// There are vectors at `at` of all rows, and the caller has V's instructions.
#[inline(always)]
unsafe fn column<T: Float, V: Vector>(rows: [*const T; 6], at: usize) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let pixel = |i: usize| T::load::<V>(rows[i].add(at));
        input_line([pixel(0), pixel(1), pixel(2), pixel(3), pixel(4), pixel(5)])
    }
}

/// Where a tile's outputs go.
struct Place<T: Float> {
    rows: [Row<T>; 4],
    height: usize,
    x: usize,
    width: usize,
}

impl<T: Float> Tiles<'_, T> {
    fn place(&self, tile: usize) -> Place<T> {
        let (y, x) = (tile / self.across * 4, tile % self.across * 4);
        let height = (self.target.height - y).min(4);
        let rows = std::array::from_fn(|i| self.target.row(y + i.min(height - 1)));
        Place { rows, height, x, width: (self.target.width - x).min(4) }
    }
}

/// Transforms a tile's products back, and finishes outputs from `output` on. `product` gives a point's; `adjust` changes
/// what comes of the six points of a row.
///
/// # Safety
/// The place is that of one of the target's tiles, no one else writes its outputs, and the caller has V's instructions.
#[inline(always)]
unsafe fn outputs<T: Float, V: Vector>(
    target: &Target<'_, T>,
    place: &Place<T>,
    output: usize,
    product: impl Fn(usize) -> V,
    adjust: impl Fn(usize, V) -> V,
) {
    // SAFETY: the caller's promise; the pixels are inside the target, whose outputs are a multiple of 16.
    unsafe {
        let mut half = [[V::splat(0.0); 6]; 4];
        for i in 0..6 {
            let product = |j: usize| product(i * 6 + j);
            let row = output_line([product(0), product(1), product(2), product(3), product(4), product(5)]);
            for j in 0..4 {
                half[j][i] = adjust(i, row[j]);
            }
        }
        let finish = target.finish::<V>(output);
        for j in 0..place.width {
            let values = output_line(half[j]);
            for i in 0..place.height {
                target.put(&place.rows[i], place.x + j, &finish, values[i]);
            }
        }
    }
}

/// Three weights to six points.
#[inline(always)]
unsafe fn filter_line<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
    // SAFETY: the caller has the instructions, here and below.
    unsafe {
        let even = a.add(c).mul(V::splat(-1.0 / 6.0));
        let odd = b.mul(V::splat(1.0 / 6.0));
        let far_even = a.mul(V::splat(1.0 / 24.0)).fma(c, V::splat(1.0 / 6.0));
        let far_odd = b.mul(V::splat(1.0 / 12.0));
        [a.mul(V::splat(0.25)), even.sub(odd), even.add(odd), far_even.add(far_odd), far_even.sub(far_odd), c]
    }
}

/// Six inputs to six points.
#[inline(always)]
unsafe fn input_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (two, four, minus_four, minus_five) = (V::splat(2.0), V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
        let even = d[4].fma(d[2], minus_four);
        let odd = d[3].fma(d[1], minus_four);
        let far_even = d[4].sub(d[2]);
        let far_odd = d[3].sub(d[1]).mul(two);
        [
            d[4].fma(d[2], minus_five).fma(d[0], four),
            even.add(odd),
            even.sub(odd),
            far_even.add(far_odd),
            far_even.sub(far_odd),
            d[5].fma(d[3], minus_five).fma(d[1], four),
        ]
    }
}

/// Six products to four outputs.
#[inline(always)]
unsafe fn output_line<V: Vector>(m: [V; 6]) -> [V; 4] {
    // SAFETY: as above.
    unsafe {
        let (even, odd) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (far_even, far_odd) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even).add(far_even),
            odd.fma(far_odd, V::splat(2.0)),
            even.fma(far_even, V::splat(4.0)),
            odd.fma(far_odd, V::splat(8.0)).add(m[5]),
        ]
    }
}
