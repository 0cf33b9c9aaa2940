//! Products in f32.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::tiles::{Functions, PART, POINTS, Tiles, Weights, Winograd, block, filter, for_isa, inputs, outputs};
use crate::kernels::{
    isa::{Avx2, Avx512},
    memory::Scratch,
    packed::{GROUP, Layer},
    vector::Vector,
};

/// Channels are cut into pieces of this many, so that what one transform writes is within a few pages of memory.
const PIECE: usize = 16;
/// Tiles of a task.
const TILES: usize = 24;
/// The most outputs of a block of U.
const WIDEST: usize = 32;

fn rows(depth: usize) -> usize {
    depth
}

/// Weights are not quantised.
fn scales(_: &Layer<'_>, _: &[f32]) -> Vec<f32> {
    Vec::new()
}

/// For any CPU: the compiler finds its vectors (all 64-bit Arm CPUs have some of four).
pub fn portable() -> Winograd<f32> {
    static FUNCTIONS: Functions<f32> = Functions {
        outputs: 16,
        tiles: TILES,
        rows,
        scales,
        weights: weights::<[f32; 4]>,
        compute: compute::<[f32; 4], 2>,
    };
    // SAFETY: arrays need no instruction set.
    unsafe { Winograd::new(&FUNCTIONS) }
}

for_isa! {
    /// On 256-bit vectors.
    pub fn avx2(Avx2) -> f32: "avx2,fma", weights::<__m256>, compute::<__m256, 6>, 16 outputs
}
for_isa! {
    /// On 512-bit vectors.
    pub fn avx512(Avx512) -> f32: "avx512f,avx2,fma", weights::<__m512>, compute::<__m512, 12>, 32 outputs
}

/// See [`Functions::weights`].
///
/// # Safety
/// `u` has room, and no one else uses the part of the same group and channels.
#[inline(always)]
unsafe fn weights<V: Vector>(job: &Weights<'_, f32>, group: usize, channel: usize) {
    let depth = job.conv.depth;
    let (packed, (u, width)) = (job.packed(group), job.place(group));
    for c in channel..(channel + PART).min(depth) {
        for lane in (0..GROUP).step_by(V::LANES) {
            // SAFETY: `packed` has 9 taps of 16 outputs per channel; the block of U has `36 * depth * width` floats.
            unsafe {
                let at = packed.as_ptr().add(c * 9 * GROUP + lane);
                filter(at, |k, v: V| v.store(u.add((k * depth + c) * width + lane)));
            }
        }
    }
}

/// See [`Functions::compute`]; `TALL` tiles are kept in registers.
///
/// # Safety
/// `u` is complete, and no one else computes the same tiles.
#[inline(always)]
unsafe fn compute<V: Vector, const TALL: usize>(job: &Tiles<'_, f32>, first: usize, scratch: &mut Scratch) {
    let depth = job.conv.depth;
    let count = job.of_task(first);
    let pieces = depth.div_ceil(PIECE);
    let v_floats = POINTS * pieces * job.task * PIECE;
    let v = scratch.floats(v_floats + POINTS * job.task * WIDEST);
    // SAFETY: with `TALL` tiles to a batch, V is `[batches][pieces][36][TALL][PIECE]` and M `[batches][36][TALL][at most
    // WIDEST]`, and the scratch memory holds both. U's blocks are as `weights` wrote them.
    unsafe {
        let m = v.add(v_floats);
        let mut channel = 0;
        for source in job.sources {
            for run in job.runs(first) {
                let rows = job.rows(source, &run);
                for c in (0..source.channels.min(depth - channel)).step_by(V::LANES) {
                    let rows = rows.map(|row| row.add(c));
                    let c = channel + c;
                    let v = v.add(c / PIECE * POINTS * TALL * PIECE + c % PIECE);
                    inputs(source, rows, &run, |t, k, values: V| {
                        let tile = t / TALL * pieces * POINTS * TALL + t % TALL;
                        values.store(v.add((tile + k * TALL) * PIECE));
                    });
                }
            }
            channel += source.channels;
        }
        let mut output = 0;
        while output < job.target.outputs {
            let (start, width) = block(output, job.width, job.target.outputs);
            match width / V::LANES {
                1 => multiplied::<V, TALL, 1>(job, first, count, start, v, m),
                4 => multiplied::<V, TALL, 4>(job, first, count, start, v, m),
                _ => multiplied::<V, TALL, 2>(job, first, count, start, v, m),
            }
            output += width;
        }
    }
}

/// Computes a block of `WIDE` vectors of outputs, from `output` on, of `count` tiles.
///
/// # Safety
/// V is there, and M has room.
#[inline(always)]
unsafe fn multiplied<V: Vector, const TALL: usize, const WIDE: usize>(
    job: &Tiles<'_, f32>,
    first: usize,
    count: usize,
    output: usize,
    v: *const f32,
    m: *mut f32,
) {
    let depth = job.conv.depth;
    let pieces = depth.div_ceil(PIECE);
    let width = WIDE * V::LANES;
    // SAFETY: the blocks of U are as `weights` wrote them; for V and M see `compute`.
    unsafe {
        for k in 0..POINTS {
            let u = job.u.add((POINTS * output + k * width) * depth);
            for batch in 0..count.div_ceil(TALL) {
                let v = v.add((batch * pieces * POINTS + k) * TALL * PIECE);
                products::<V, TALL, WIDE>(v, u, depth, m.add((batch * POINTS + k) * TALL * width));
            }
        }
        for t in 0..count {
            let m = m.add((t / TALL * POINTS * TALL + t % TALL) * width);
            let place = job.place(first + t);
            for lane in (0..width).step_by(V::LANES) {
                let product = |k: usize| V::load(m.add(k * TALL * width + lane));
                outputs(job.target, &place, output + lane, product, |_, values| values);
            }
        }
    }
}

/// `TALL` rows of M by `WIDE` vectors: rows of V times U.
///
/// # Safety
/// V has `TALL` tiles by `PIECE` channels, and again for each piece of the channels, 36 such matrices further on; U
/// has `depth` rows of `WIDE` vectors, and M room for `TALL` rows as long.
#[inline(always)]
unsafe fn products<V: Vector, const TALL: usize, const WIDE: usize>(
    v: *const f32,
    mut u: *const f32,
    depth: usize,
    m: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); WIDE]; TALL];
        for piece in 0..depth.div_ceil(PIECE) {
            let v = v.add(piece * POINTS * TALL * PIECE);
            for c in 0..PIECE.min(depth - piece * PIECE) {
                let weights: [V; WIDE] = std::array::from_fn(|i| V::load(u.add(i * V::LANES)));
                for t in 0..TALL {
                    let value = V::splat(*v.add(t * PIECE + c));
                    for i in 0..WIDE {
                        sums[t][i] = sums[t][i].fma(value, weights[i]);
                    }
                }
                u = u.add(WIDE * V::LANES);
            }
        }
        for t in 0..TALL {
            for i in 0..WIDE {
                sums[t][i].store(m.add((t * WIDE + i) * V::LANES));
            }
        }
    }
}
