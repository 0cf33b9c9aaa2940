//! Products in f32.

use super::{GROUP, Kernel, PART, POINTS, Tiles, Weights, block, filter, inputs, outputs, room};
use crate::kernels::{Line, vector::Vector};

/// Channels are cut into pieces of this many, so that what one transform writes is within a few pages of memory.
const PIECE: usize = 16;
/// Tiles of a task.
const TILES: usize = 24;
/// The most outputs of a block of U.
const WIDEST: usize = 32;

/// For any processor: the compiler finds its vectors (all 64-bit Arm processors have some of four).
pub static PORTABLE: Kernel<f32> = Kernel {
    outputs: 16,
    tiles: TILES,
    rows: |depth| depth,
    weights: weights::<[f32; 4]>,
    compute: compute::<[f32; 4], 2>,
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::*;

    pub static AVX2: Kernel<f32> =
        Kernel { outputs: 16, tiles: TILES, rows: |depth| depth, weights: weights_avx2, compute: compute_avx2 };
    pub static AVX512: Kernel<f32> =
        Kernel { outputs: 32, tiles: TILES, rows: |depth| depth, weights: weights_avx512, compute: compute_avx512 };

    #[target_feature(enable = "avx2,fma")]
    fn weights_avx2(job: &Weights<'_, f32>, group: usize, channel: usize) {
        // SAFETY: this function enables the vectors' instructions.
        unsafe { weights::<__m256>(job, group, channel) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn compute_avx2(job: &Tiles<'_, f32>, first: usize, scratch: &mut Vec<Line>) {
        // SAFETY: as above.
        unsafe { compute::<__m256, 6>(job, first, scratch) }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    fn weights_avx512(job: &Weights<'_, f32>, group: usize, channel: usize) {
        // SAFETY: as above.
        unsafe { weights::<__m512>(job, group, channel) }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    fn compute_avx512(job: &Tiles<'_, f32>, first: usize, scratch: &mut Vec<Line>) {
        // SAFETY: as above.
        unsafe { compute::<__m512, 12>(job, first, scratch) }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{AVX2, AVX512};

/// See [`Kernel::weights`].
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

/// See [`Kernel::compute`]; `TALL` tiles are kept in registers.
///
/// # Safety
/// `u` is complete, and no one else computes the same tiles.
#[inline(always)]
unsafe fn compute<V: Vector, const TALL: usize>(job: &Tiles<'_, f32>, first: usize, scratch: &mut Vec<Line>) {
    let depth = job.conv.depth;
    let count = job.of_task(first);
    let pieces = depth.div_ceil(PIECE);
    let v_floats = POINTS * pieces * job.task * PIECE;
    let v = room(scratch, v_floats + POINTS * job.task * WIDEST);
    // SAFETY: with `TALL` tiles to a team, V is `[teams][pieces][36][TALL][PIECE]` and M `[teams][36][TALL][at most
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
            for team in 0..count.div_ceil(TALL) {
                let v = v.add((team * pieces * POINTS + k) * TALL * PIECE);
                products::<V, TALL, WIDE>(v, u, depth, m.add((team * POINTS + k) * TALL * width));
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
