//! Products of 16-bit integers, summed in 32 bits: twice as many per instruction as in f32.
//!
//! Quantisation is dynamic. When half of a tile's transform is done, its rows are scaled so that no value of V leaves its
//! range; each column of U is scaled so that no sum can overflow 32 bits, whatever V is. Bundled networks stay 55 to 76 dB from f32 on crops of photos
//! (tests/parity.rs prints them), where F(4x4, 3x3) in bfloat16 is too coarse.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use half::f16;

use super::{
    tiles::{PART, POINTS, Tiles, Weights, block, column, filter, for_isa, outputs},
    transform::input_line,
};
use crate::kernels::{
    isa::{Avx2F16c, Avx512Vnni},
    memory::Scratch,
    packed::{GROUP, Layer},
    vector::{Int16Vector, Vector},
};

/// The largest value in V; what is left of 32 bits is for U.
const LARGEST: f32 = 32767.0;
/// How much larger than the largest of six inputs the six points of a line can be: sums of the absolute coefficients.
const GAINS: [f32; 6] = [10.0, 10.0, 10.0, 6.0, 6.0, 10.0];
/// The largest of them.
const GAIN: f32 = 10.0;
/// Maps that a convolution may read.
const SOURCES: usize = 8;
/// Floats between the rows of a tile, beyond its channels: else they compete for the same lines of first-level cache.
const APART: usize = 16;
/// Floats between the step sizes of two tiles.
const STEPS: usize = 8;
/// Tiles of a task.
const TILES: usize = 24;

/// Pairs of channels are multiplied at once.
fn rows(depth: usize) -> usize {
    depth.div_ceil(2)
}

for_isa! {
    /// On 256-bit vectors.
    pub fn avx2(Avx2F16c) -> f16: "avx2,fma,f16c", weights::<__m256>, compute::<__m256, 6>, 16 outputs
}
for_isa! {
    /// On 512-bit vectors.
    pub fn avx512(Avx512Vnni) -> f16: "avx512f,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c",
        weights::<__m512>, compute::<__m512, 12>, 32 outputs
}

/// Channels that are stored together.
const fn team<V: Vector>() -> usize {
    2 * V::LANES
}

/// For each of the 36 points and each output, the step size of U: so that the largest weight fits into 16 bits and no sum
/// of products leaves 32.
fn scales(layer: &Layer<'_>, packed: &[f16]) -> Vec<f32> {
    let channels: usize = layer.padded_inputs().sum();
    let mut scales = vec![0.0; POINTS * layer.padded_outputs()];
    // Rounding adds up to a half to each.
    let most = |k: usize| {
        let largest = LARGEST * GAINS[k % 6] / GAIN + 1.0;
        (2f64.powi(31) / f64::from(largest) - channels as f64) as f32
    };
    for (group, packed) in packed.chunks_exact(channels * 9 * GROUP).enumerate() {
        let mut largest = [[0f32; GROUP]; POINTS];
        let mut sums = [[0f32; GROUP]; POINTS];
        for taps in packed.chunks_exact(9 * GROUP) {
            // SAFETY: arrays need no instructions, and there are nine taps of 16 outputs.
            unsafe {
                filter(taps.as_ptr(), |k, values: [f32; GROUP]| {
                    for (o, value) in values.into_iter().enumerate() {
                        largest[k][o] = largest[k][o].max(value.abs());
                        sums[k][o] += value.abs();
                    }
                });
            }
        }
        for k in 0..POINTS {
            for o in 0..GROUP {
                let scale = (largest[k][o] / 32767.0).max(sums[k][o] / most(k));
                scales[k * layer.padded_outputs() + group * GROUP + o] = scale.max(1e-30);
            }
        }
    }
    scales
}

/// See [`Functions::weights`](super::tiles::Functions::weights).
///
/// # Safety
/// `u` has room, and no one else uses the part of the same group and channels.
#[inline(always)]
unsafe fn weights<V: Int16Vector>(job: &Weights<'_, f16>, group: usize, channel: usize) {
    let (packed, (u, width)) = (job.packed(group), job.place(group));
    let scales = &job.conv.scales;
    let stride = job.conv.padded_outputs;
    for q in channel / 2..((channel + PART) / 2).min(job.rows) {
        for lane in (0..GROUP).step_by(V::LANES) {
            // SAFETY: `packed` has 9 taps of 16 outputs per channel, of which there is an even number; the block of U
            // has `36 * rows * width` pairs.
            unsafe {
                let mut first = [V::splat(0.0); POINTS];
                let at = packed.as_ptr().add(2 * q * 9 * GROUP + lane);
                filter(at, |k, v: V| first[k] = v);
                filter(at.add(9 * GROUP), |k, second: V| {
                    let scale = V::load(scales.as_ptr().add(k * stride + group * GROUP + lane));
                    let pairs = V::pairs(first[k].div(scale), second.div(scale));
                    V::store_integers(pairs, u.add((k * job.rows + q) * width + lane).cast());
                });
            }
        }
    }
}

/// See [`Functions::compute`](super::tiles::Functions::compute); `TALL` tiles are kept in registers.
///
/// # Safety
/// `u` is complete, and no one else computes the same tiles.
#[inline(always)]
unsafe fn compute<V: Int16Vector, const TALL: usize>(job: &Tiles<'_, f16>, first: usize, scratch: &mut Scratch) {
    assert!(job.sources.len() <= SOURCES);
    let count = job.of_task(first);
    let channels = job.conv.depth.next_multiple_of(team::<V>());
    let v_words = POINTS * job.task * channels / 2;
    let m_words = POINTS * job.task * 2 * V::LANES;
    let v = scratch.floats(v_words + m_words + job.task * STEPS + 36 * (channels + APART));
    // SAFETY: with `TALL` tiles to a batch, V is `[batches][teams of channels][36][TALL][team]` and M `[batches][36][TALL][at
    // most 2 vectors]`; then there are the tiles' step sizes, and half a tile. The scratch memory holds all, and U's blocks
    // are as `weights` wrote them.
    unsafe {
        let m = v.add(v_words).cast::<i32>();
        let steps = v.add(v_words + m_words);
        let half = steps.add(job.task * STEPS);
        let v = v.cast::<i16>();
        for run in job.runs(first) {
            let mut rows = [[std::ptr::null(); 6]; SOURCES];
            for (rows, source) in rows.iter_mut().zip(job.sources) {
                *rows = job.rows(source, &run);
            }
            // Two columns of six are the next tile's, too.
            let mut before = columns::<V>(job, &rows, 0, half, channels);
            for tile in 0..run.count {
                let x = 4 * tile + 2;
                let middle = columns::<V>(job, &rows, x, half, channels);
                let after = columns::<V>(job, &rows, x + 2, half, channels);
                let t = run.t + tile;
                let mut scales = [0.0; 6];
                for i in 0..6 {
                    let largest = before[i].max(middle[i]).max(after[i]).largest().max(1e-30);
                    scales[i] = LARGEST / GAIN / largest;
                    *steps.add(t * STEPS + i) = largest * (GAIN / LARGEST);
                }
                before = after;
                let v = v.add(t / TALL * POINTS * TALL * channels + t % TALL * team::<V>());
                narrow::<V, TALL>(half, channels, 4 * tile, &scales, v);
            }
        }
        let mut output = 0;
        while output < job.target.outputs {
            let (start, width) = block(output, job.width, job.target.outputs);
            match width / V::LANES {
                1 => multiplied::<V, TALL, 1>(job, first, count, start, v, m, steps),
                _ => multiplied::<V, TALL, 2>(job, first, count, start, v, m, steps),
            }
            output += width;
        }
    }
}

/// Where a row of a column is in half a tile: its last six columns are kept.
fn place(x: usize, row: usize, channels: usize) -> usize {
    (x % 6 * 6 + row) * (channels + APART)
}

/// Transforms two columns of all maps from `x` on into half a tile, and returns the largest of each row, lane by lane.
///
/// # Safety
/// `rows` are what [`Tiles::rows`] gives for each source, and `half` has room for six columns.
#[inline(always)]
unsafe fn columns<V: Int16Vector>(
    job: &Tiles<'_, f16>,
    rows: &[[*const f16; 6]; SOURCES],
    x: usize,
    half: *mut f32,
    channels: usize,
) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut largest = [V::splat(0.0); 6];
        let mut channel = 0;
        for (rows, source) in rows.iter().zip(job.sources) {
            let places =
                [0, 1].map(|j| (source.pixel(0, x + j) * source.channels, place(x + j, 0, channels) + channel));
            for c in (0..source.channels.min(channels - channel)).step_by(V::LANES) {
                for (from, to) in places {
                    let column: [V; 6] = column(*rows, from + c);
                    for i in 0..6 {
                        largest[i] = largest[i].max_abs(column[i]);
                        column[i].store(half.add(to + i * (channels + APART) + c));
                    }
                }
            }
            channel += source.channels;
        }
        largest
    }
}

/// The second half of a tile's transform, from its first column on, scaled and rounded.
///
/// # Safety
/// `half` has the tile's columns, and `v` is its place in V.
#[inline(always)]
unsafe fn narrow<V: Int16Vector, const TALL: usize>(
    half: *const f32,
    channels: usize,
    x: usize,
    scales: &[f32; 6],
    v: *mut i16,
) {
    let starts: [usize; 6] = std::array::from_fn(|j| place(x + j, 0, channels));
    for c in (0..channels).step_by(V::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let v = v.add(c / team::<V>() * POINTS * TALL * team::<V>() + c % team::<V>());
            for i in 0..6 {
                let scale = V::splat(scales[i]);
                let from = half.add(i * (channels + APART) + c);
                let value = |j: usize| V::load(from.add(starts[j])).mul(scale);
                let line = input_line([value(0), value(1), value(2), value(3), value(4), value(5)]);
                for j in 0..6 {
                    line[j].narrow(v.add((i * 6 + j) * TALL * team::<V>()));
                }
            }
        }
    }
}

/// Computes a block of `WIDE` vectors of outputs, from `output` on, of `count` tiles.
///
/// # Safety
/// V and its step sizes are complete, and M has room.
#[inline(always)]
unsafe fn multiplied<V: Int16Vector, const TALL: usize, const WIDE: usize>(
    job: &Tiles<'_, f16>,
    first: usize,
    count: usize,
    output: usize,
    v: *const i16,
    m: *mut i32,
    steps: *const f32,
) {
    let depth = job.conv.depth;
    let channels = depth.next_multiple_of(team::<V>());
    let rows = depth.div_ceil(2);
    let width = WIDE * V::LANES;
    // SAFETY: the blocks of U are as `weights` wrote them; for V and M see `compute`.
    unsafe {
        for k in 0..POINTS {
            let u = job.u.add((POINTS * output + k * width) * rows).cast::<i32>();
            for batch in 0..count.div_ceil(TALL) {
                let v = v.add(batch * POINTS * TALL * channels + k * TALL * team::<V>());
                products::<V, TALL, WIDE>(v, u, rows, m.add((batch * POINTS + k) * TALL * width));
            }
        }
        let scales = job.conv.scales.as_ptr().add(output);
        for t in 0..count {
            let m = m.add((t / TALL * POINTS * TALL + t % TALL) * width);
            let place = job.place(first + t);
            let steps = steps.add(t * STEPS);
            for lane in (0..width).step_by(V::LANES) {
                let product = |k: usize| {
                    let scale = V::load(scales.add(k * job.conv.padded_outputs + lane));
                    V::load_integers(m.add(k * TALL * width + lane)).mul(scale)
                };
                let rescale = |i: usize, values: V| values.mul(V::splat(*steps.add(i)));
                outputs(job.target, &place, output + lane, product, rescale);
            }
        }
    }
}

/// `TALL` rows of M by `WIDE` vectors: rows of V times U, of which there are `rows` pairs.
///
/// # Safety
/// V has `TALL` tiles by a team of channels, and again for each further team, 36 such matrices further on; U has `rows`
/// rows of `WIDE` vectors, and M room for `TALL` rows as long.
#[inline(always)]
unsafe fn products<V: Int16Vector, const TALL: usize, const WIDE: usize>(
    v: *const i16,
    mut u: *const i32,
    rows: usize,
    m: *mut i32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::zeros(); WIDE]; TALL];
        for from in (0..rows).step_by(V::LANES) {
            let v = v.add(from * 2 * POINTS * TALL);
            for q in 0..V::LANES.min(rows - from) {
                let weights: [V::Sums; WIDE] = std::array::from_fn(|i| V::load_pairs(u.add(i * V::LANES)));
                for t in 0..TALL {
                    let pair = V::splat_pair(v.add(t * team::<V>() + 2 * q));
                    for i in 0..WIDE {
                        sums[t][i] = V::dot(sums[t][i], pair, weights[i]);
                    }
                }
                u = u.add(WIDE * V::LANES);
            }
        }
        for t in 0..TALL {
            for i in 0..WIDE {
                V::store_integers(sums[t][i], m.add((t * WIDE + i) * V::LANES));
            }
        }
    }
}
