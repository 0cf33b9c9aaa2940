//! Winograd's minimal filtering F(4x4, 3x3) in f32 (Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural
//! Networks", with the points 0, 1, -1, 2, -2 and infinity): 36 products make 16 outputs that take 144 directly.
//!
//! A task is up to [`TILES`] tiles of 4x4 outputs. Their 6x6 inputs are transformed to 36 matrices V (tiles by
//! channels), multiplied by 36 matrices U (channels by outputs; the transformed weights) and transformed back, all in
//! a few hundred kilobytes that stay in the second-level cache. U is made anew for each band of rows: kept for a
//! whole network it would take four times the weights' memory.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Conv, Line, finish::Target, vector::Vector};
use crate::map::View;

/// Tiles of a task: a multiple of the tiles that any kernel keeps in registers.
const TILES: usize = 24;
/// Channels are cut into pieces of this many, so that what one transform writes is within a few pages of memory.
const PIECE: usize = 16;
/// Outputs are packed in groups of this many.
const GROUP: usize = 16;
/// Channels of a task that makes U.
const PART: usize = 32;

/// The functions compiled for one instruction set.
pub struct Kernel {
    /// Outputs of a block of U.
    outputs: usize,
    weights: unsafe fn(&Weights<'_>, group: usize, channel: usize),
    tiles: unsafe fn(&Tiles<'_>, first: usize, scratch: &mut Vec<Line>),
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::*;

    pub static AVX2: Kernel = Kernel { outputs: 16, weights: weights_avx2, tiles: tiles_avx2 };
    pub static AVX512: Kernel = Kernel { outputs: 32, weights: weights_avx512, tiles: tiles_avx512 };

    #[target_feature(enable = "avx2,fma")]
    fn weights_avx2(job: &Weights<'_>, group: usize, channel: usize) {
        // SAFETY: this function enables the vectors' instructions.
        unsafe { weights::<__m256>(job, group, channel) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn tiles_avx2(job: &Tiles<'_>, first: usize, scratch: &mut Vec<Line>) {
        // SAFETY: as above.
        unsafe { tiles::<__m256, 6>(job, first, scratch) }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    fn weights_avx512(job: &Weights<'_>, group: usize, channel: usize) {
        // SAFETY: as above.
        unsafe { weights::<__m512>(job, group, channel) }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    fn tiles_avx512(job: &Tiles<'_>, first: usize, scratch: &mut Vec<Line>) {
        // SAFETY: as above.
        unsafe { tiles::<__m512, 12>(job, first, scratch) }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{AVX2, AVX512};

thread_local! {
    /// V and M of the task that a thread is at.
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Computes the target's rows, in parallel. `memory` is for U.
///
/// # Safety
/// The processor has the kernel's instructions.
pub unsafe fn convolve(
    kernel: &Kernel,
    conv: &Conv<f32>,
    sources: &[View<'_, f32>],
    target: &Target<'_, f32>,
    memory: &mut Vec<Line>,
) {
    let lines = 36 * conv.depth * target.outputs / Line::FLOATS;
    if memory.len() < lines {
        memory.resize(lines, Line::ZERO);
    }
    let u = memory.as_mut_ptr().cast::<f32>();
    let job = Weights { conv, width: kernel.outputs, outputs: target.outputs, u };
    let groups = target.outputs / GROUP;
    let parts = conv.depth.div_ceil(PART);
    (0..groups * parts).into_par_iter().for_each(|i| {
        // SAFETY: the processor has the instructions, U was made large enough, and each call writes other parts of it.
        unsafe { (kernel.weights)(&job, i % groups, i / groups * PART) }
    });
    let across = target.width.div_ceil(4);
    let job = Tiles { conv, sources, target, u, across, count: across * target.height.div_ceil(4) };
    (0..job.count.div_ceil(TILES)).into_par_iter().with_max_len(1).for_each(|i| {
        // SAFETY: the processor has the instructions, and each call writes other pixels of the target.
        SCRATCH.with_borrow_mut(|scratch| unsafe { (kernel.tiles)(&job, i * TILES, scratch) });
    });
}

/// Where U of the block of outputs that begins at `output` is, and how many outputs it has: blocks of `width`
/// outputs, of [`GROUP`] where no more are left. It is `[36][depth][outputs of the block]`.
fn block(output: usize, width: usize, outputs: usize) -> (usize, usize) {
    let start = output / width * width;
    if start + width <= outputs { (start, width) } else { (output / GROUP * GROUP, GROUP) }
}

/// The making of U.
struct Weights<'a> {
    conv: &'a Conv<f32>,
    width: usize,
    outputs: usize,
    u: *mut f32,
}

// SAFETY: threads write different parts of `u`, see `weights`.
unsafe impl Sync for Weights<'_> {}

/// Transforms weights of a group of outputs and the part of the channels from `channel` on.
///
/// # Safety
/// `u` holds `36 * depth * outputs` floats, and no one else uses those of the same group and channels.
#[inline(always)]
unsafe fn weights<V: Vector>(job: &Weights<'_>, group: usize, channel: usize) {
    let depth = job.conv.depth;
    let channels: usize = job.conv.inputs.iter().sum();
    let packed = &job.conv.weights[group * channels * 9 * GROUP..][..channels * 9 * GROUP];
    let (start, width) = block(group * GROUP, job.width, job.outputs);
    // SAFETY: `packed` has 9 taps of 16 outputs per channel; the block of U begins at `36 * depth * start` and has
    // `36 * depth * width` floats.
    unsafe {
        let u = job.u.add(36 * depth * start + group * GROUP - start);
        for c in channel..(channel + PART).min(depth) {
            for lane in (0..GROUP).step_by(V::LANES) {
                let at = packed.as_ptr().add(c * 9 * GROUP + lane);
                let mut half = [[V::splat(0.0); 3]; 6];
                for j in 0..3 {
                    let tap = |i: usize| V::load(at.add((i * 3 + j) * GROUP));
                    let column = filter([tap(0), tap(1), tap(2)]);
                    for i in 0..6 {
                        half[i][j] = column[i];
                    }
                }
                for i in 0..6 {
                    let row = filter(half[i]);
                    for j in 0..6 {
                        row[j].store(u.add(((i * 6 + j) * depth + c) * width + lane));
                    }
                }
            }
        }
    }
}

/// The work on tiles.
struct Tiles<'a> {
    conv: &'a Conv<f32>,
    sources: &'a [View<'a, f32>],
    target: &'a Target<'a, f32>,
    u: *const f32,
    /// Tiles side by side.
    across: usize,
    /// Tiles in all.
    count: usize,
}

// SAFETY: `u` is only read.
unsafe impl Sync for Tiles<'_> {}

/// Computes tiles `first..first + TILES`, as far as there are so many; `TALL` of them are kept in registers.
///
/// # Safety
/// `u` is complete, and no one else computes the same tiles.
#[inline(always)]
unsafe fn tiles<V: Vector, const TALL: usize>(job: &Tiles<'_>, first: usize, scratch: &mut Vec<Line>) {
    let depth = job.conv.depth;
    let count = TILES.min(job.count - first);
    let pieces = depth.div_ceil(PIECE);
    let v_floats = 36 * pieces * TILES * PIECE;
    let lines = (v_floats + 36 * TILES * 2 * V::LANES) / Line::FLOATS;
    if scratch.len() < lines {
        scratch.resize(lines, Line::ZERO);
    }
    let v = scratch.as_mut_ptr().cast::<f32>();
    // SAFETY: with `TALL` tiles to a team, V is `[teams][pieces][36][TALL][PIECE]` and M `[teams][36][TALL][at most 2
    // vectors]`, and the scratch memory holds both. U's blocks are as `weights` wrote them.
    unsafe {
        let m = v.add(v_floats);
        let mut channel = 0;
        for source in job.sources {
            for t in 0..count {
                let v = v.add((t / TALL * pieces * 36 * TALL + t % TALL) * PIECE);
                inputs::<V, TALL>(job, source, first + t, v, channel);
            }
            channel += source.channels;
        }
        let mut output = 0;
        while output < job.target.outputs {
            let (start, width) = block(output, 2 * V::LANES, job.target.outputs);
            match width / V::LANES {
                1 => multiplied::<V, TALL, 1>(job, first, count, start, v, m),
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
    job: &Tiles<'_>,
    first: usize,
    count: usize,
    output: usize,
    v: *const f32,
    m: *mut f32,
) {
    let depth = job.conv.depth;
    let pieces = depth.div_ceil(PIECE);
    let width = WIDE * V::LANES;
    // SAFETY: the blocks of U are as `weights` wrote them; for V and M see `tiles`.
    unsafe {
        for k in 0..36 {
            let u = job.u.add((36 * output + k * width) * depth);
            for team in 0..count.div_ceil(TALL) {
                let v = v.add((team * pieces * 36 + k) * TALL * PIECE);
                products::<V, TALL, WIDE>(v, u, depth, m.add((team * 36 + k) * TALL * width));
            }
        }
        for t in 0..count {
            outputs::<V, TALL, WIDE>(job, first + t, m.add((t / TALL * 36 * TALL + t % TALL) * width), output);
        }
    }
}

/// Transforms a tile's inputs.
///
/// # Safety
/// `v` is the tile's place in its team's V.
#[inline(always)]
unsafe fn inputs<V: Vector, const TALL: usize>(
    job: &Tiles<'_>,
    source: &View<'_, f32>,
    tile: usize,
    v: *mut f32,
    channel: usize,
) {
    let (y, x) = (tile / job.across * 4, tile % job.across * 4);
    let channels = source.channels;
    let top = (job.target.start + y) as isize - 1;
    // Six pixels from x - 1 on; the border makes it x.
    let row = |i: isize| source.row(top + i)[x * channels..][..6 * channels].as_ptr();
    let rows = [row(0), row(1), row(2), row(3), row(4), row(5)];
    for c in (0..channels).step_by(V::LANES) {
        if channel + c >= job.conv.depth {
            break;
        }
        // SAFETY: channels are a multiple of 16, so the vectors are inside the six pixels.
        unsafe {
            let mut half = [[V::splat(0.0); 6]; 6];
            for j in 0..6 {
                let pixel = |i: usize| V::load(rows[i].add(j * channels + c));
                let column = data([pixel(0), pixel(1), pixel(2), pixel(3), pixel(4), pixel(5)]);
                for i in 0..6 {
                    half[i][j] = column[i];
                }
            }
            let at = v.add((channel + c) / PIECE * 36 * TALL * PIECE + (channel + c) % PIECE);
            for i in 0..6 {
                let row = data(half[i]);
                for j in 0..6 {
                    row[j].store(at.add((i * 6 + j) * TALL * PIECE));
                }
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
            let v = v.add(piece * 36 * TALL * PIECE);
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

/// Transforms a tile's products back, and finishes outputs from `output` on.
///
/// # Safety
/// `m` is the tile's place in its team's M.
#[inline(always)]
unsafe fn outputs<V: Vector, const TALL: usize, const WIDE: usize>(
    job: &Tiles<'_>,
    tile: usize,
    m: *const f32,
    output: usize,
) {
    let target = job.target;
    let (y, x) = (tile / job.across * 4, tile % job.across * 4);
    for lane in (0..WIDE * V::LANES).step_by(V::LANES) {
        // SAFETY: the caller's promise; the pixels are inside the target, whose outputs are a multiple of 16.
        unsafe {
            let mut half = [[V::splat(0.0); 6]; 4];
            for j in 0..6 {
                let product = |i: usize| V::load(m.add((i * 6 + j) * TALL * WIDE * V::LANES + lane));
                let column = result([product(0), product(1), product(2), product(3), product(4), product(5)]);
                for i in 0..4 {
                    half[i][j] = column[i];
                }
            }
            let finish = target.finish::<V>(output + lane);
            for i in 0..4 {
                let values = result(half[i]);
                if y + i < target.height {
                    let row = target.row(y + i);
                    for j in 0..4 {
                        if x + j < target.width {
                            target.put(&row, x + j, &finish, values[j]);
                        }
                    }
                }
            }
        }
    }
}

/// Three weights to six points.
#[inline(always)]
unsafe fn filter<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
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
unsafe fn data<V: Vector>(d: [V; 6]) -> [V; 6] {
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
unsafe fn result<V: Vector>(m: [V; 6]) -> [V; 4] {
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
