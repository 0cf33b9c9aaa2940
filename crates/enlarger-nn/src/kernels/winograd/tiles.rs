//! The tasks of a convolution: making U from the weights, and computing tiles.

use std::cell::RefCell;

use rayon::prelude::*;

use super::transform::{filter_line, input_line, output_line};
use crate::kernels::{
    finish::{Row, Target},
    map::View,
    memory::Scratch,
    packed::{GROUP, Layer, Packed},
    value::Float,
    vector::Vector,
};

/// Points that a 6x6 tile is transformed to.
pub const POINTS: usize = 36;
/// Channels of a task that makes U.
pub const PART: usize = 32;

/// Winograd's algorithm, compiled for an instruction set and a number format. Only a module that was handed the
/// instruction set's token makes one.
#[derive(Debug)]
pub struct Winograd<T: Float>(&'static Functions<T>);

impl<T: Float> Clone for Winograd<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Float> Copy for Winograd<T> {}

/// The functions compiled for one instruction set and one kind of products.
#[derive(Debug)]
pub struct Functions<T: Float> {
    /// Outputs of a block of U.
    pub outputs: usize,
    /// Tiles of a task: a multiple of those that the kernel keeps in registers.
    pub tiles: usize,
    /// 32-bit values that a column of U takes.
    pub rows: fn(depth: usize) -> usize,
    /// See [`Packed::scales`].
    pub scales: fn(&Layer<'_>, packed: &[T]) -> Vec<f32>,
    /// Makes the part of U of a group of outputs and of [`PART`] channels from one on.
    pub weights: unsafe fn(&Weights<'_, T>, group: usize, channel: usize),
    /// Computes some tiles, from one on.
    pub compute: unsafe fn(&Tiles<'_, T>, first: usize, scratch: &mut Scratch),
}

/// A kernel for those who hold the token of an instruction set: compiles the functions `weights` and `compute` of the
/// module for it.
macro_rules! for_isa {
    ($(#[$doc:meta])* pub fn $name:ident($token:ty) -> $value:ty: $features:tt, weights::<$vector:ty>,
        compute::<$same:ty, $tall:tt>, $outputs:tt outputs) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        pub fn $name(_: $token) -> $crate::kernels::winograd::tiles::Winograd<$value> {
            use $crate::kernels::winograd::tiles::{Functions, Winograd};

            #[target_feature(enable = $features)]
            fn for_weights(job: &Weights<'_, $value>, group: usize, channel: usize) {
                // SAFETY: this function enables the vectors' instructions.
                unsafe { weights::<$vector>(job, group, channel) }
            }

            #[target_feature(enable = $features)]
            fn for_tiles(job: &Tiles<'_, $value>, first: usize, scratch: &mut Scratch) {
                // SAFETY: as above.
                unsafe { compute::<$vector, $tall>(job, first, scratch) }
            }

            static FUNCTIONS: Functions<$value> = Functions {
                outputs: $outputs,
                tiles: TILES,
                rows,
                scales,
                weights: for_weights,
                compute: for_tiles,
            };
            // SAFETY: the token proves that the CPU has the instructions.
            unsafe { Winograd::new(&FUNCTIONS) }
        }
    };
}
pub(super) use for_isa;

thread_local! {
    /// V and M of the task that a thread is at.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

impl<T: Float> Winograd<T> {
    /// # Safety
    /// This CPU has the instructions that the functions need.
    pub const unsafe fn new(functions: &'static Functions<T>) -> Self {
        Self(functions)
    }

    /// See [`Packed::scales`].
    pub fn scales(self, layer: &Layer<'_>, packed: &[T]) -> Vec<f32> {
        (self.0.scales)(layer, packed)
    }

    /// Computes the target's rows, in parallel. `scratch` is for U.
    pub fn run(self, conv: &Packed<T>, sources: &[View<'_, T>], target: &Target<'_, T>, scratch: &mut Scratch) {
        let functions = self.0;
        let rows = (functions.rows)(conv.depth);
        let u = scratch.floats(POINTS * rows * target.outputs);
        let job = Weights { conv, width: functions.outputs, outputs: target.outputs, rows, u };
        let groups = target.outputs / GROUP;
        let parts = conv.depth.div_ceil(PART);
        (0..groups * parts).into_par_iter().for_each(|i| {
            // SAFETY: the CPU has the instructions, as `new` was promised; U was made large enough, and each call writes
            // other parts of it.
            unsafe { (functions.weights)(&job, i % groups, i / groups * PART) }
        });
        let across = target.width.div_ceil(4);
        let count = across * target.height.div_ceil(4);
        let job = Tiles { conv, sources, target, u, width: functions.outputs, across, count, task: functions.tiles };
        (0..count.div_ceil(functions.tiles)).into_par_iter().with_max_len(1).for_each(|i| {
            // SAFETY: the CPU has the instructions, and each call writes other pixels of the target.
            SCRATCH.with_borrow_mut(|scratch| unsafe { (functions.compute)(&job, i * functions.tiles, scratch) });
        });
    }
}

/// Where the block of U is that has the output `output`, and how many outputs it has: blocks of `width` outputs, or of
/// [`GROUP`] where no more are left.
pub fn block(output: usize, width: usize, outputs: usize) -> (usize, usize) {
    let start = output / width * width;
    if start + width <= outputs { (start, width) } else { (output / GROUP * GROUP, GROUP) }
}

/// The making of U: blocks of `[36][rows][outputs of the block]` 32-bit values.
pub struct Weights<'a, T> {
    pub conv: &'a Packed<T>,
    width: usize,
    outputs: usize,
    pub rows: usize,
    u: *mut f32,
}

// SAFETY: threads write different parts of `u`, see `Functions::weights`.
unsafe impl<T: Sync> Sync for Weights<'_, T> {}

impl<T> Weights<'_, T> {
    /// Where U of a group of outputs begins, and the width of its block.
    pub fn place(&self, group: usize) -> (*mut f32, usize) {
        let (start, width) = block(group * GROUP, self.width, self.outputs);
        // Within what `run` made room for.
        (self.u.wrapping_add(POINTS * self.rows * start + group * GROUP - start), width)
    }

    /// The weights of a group of outputs: `[channel][9][16]`.
    pub fn packed(&self, group: usize) -> &[T] {
        let channels: usize = self.conv.inputs.iter().sum();
        &self.conv.weights[group * channels * 9 * GROUP..][..channels * 9 * GROUP]
    }
}

/// The work on tiles.
pub struct Tiles<'a, T: Float> {
    pub conv: &'a Packed<T>,
    pub sources: &'a [View<'a, T>],
    pub target: &'a Target<'a, T>,
    pub u: *const f32,
    /// Outputs of a block of U.
    pub width: usize,
    /// Tiles side by side.
    across: usize,
    /// Tiles in all.
    count: usize,
    /// Tiles of a task.
    pub task: usize,
}

// SAFETY: `u` is only read.
unsafe impl<T: Float> Sync for Tiles<'_, T> {}

/// Transforms the weights of one channel to some outputs. `at` are nine taps of [`GROUP`] outputs each.
///
/// # Safety
/// The caller has V's instructions.
#[inline(always)]
pub unsafe fn filter<T: Float, V: Vector>(at: *const T, mut put: impl FnMut(usize, V)) {
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
pub struct Run {
    /// The first, counted from the task's first.
    pub t: usize,
    pub count: usize,
    /// Its first output's place in the target.
    y: usize,
    x: usize,
}

impl<T: Float> Tiles<'_, T> {
    /// Tiles of the task from `first` on.
    pub fn of_task(&self, first: usize) -> usize {
        self.task.min(self.count - first)
    }

    /// The same as runs, which end where a row of tiles does.
    pub fn runs(&self, first: usize) -> impl Iterator<Item = Run> {
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
    pub fn rows(&self, source: &View<'_, T>, run: &Run) -> [*const T; 6] {
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
pub unsafe fn inputs<T: Float, V: Vector>(
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
pub unsafe fn column<T: Float, V: Vector>(rows: [*const T; 6], at: usize) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let pixel = |i: usize| T::load::<V>(rows[i].add(at));
        input_line([pixel(0), pixel(1), pixel(2), pixel(3), pixel(4), pixel(5)])
    }
}

/// Where the outputs of a tile go.
pub struct Place<T: Float> {
    rows: [Row<T>; 4],
    height: usize,
    x: usize,
    width: usize,
}

impl<T: Float> Tiles<'_, T> {
    pub fn place(&self, tile: usize) -> Place<T> {
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
pub unsafe fn outputs<T: Float, V: Vector>(
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
