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
/// Channels are cut into pieces of this many, so that the distance between tiles in V is a constant.
const PIECE: usize = 64;
/// The 36 matrices of a task do not begin at multiples of 4 KB from each other, which first-level caches could not
/// tell apart.
const PAD: usize = 16;
/// Outputs are packed in groups of this many.
const GROUP: usize = 16;

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
    let pieces = conv.depth.div_ceil(PIECE);
    (0..groups * pieces).into_par_iter().for_each(|i| {
        // SAFETY: the processor has the instructions, U was made large enough, and each call writes other parts of it.
        unsafe { (kernel.weights)(&job, i % groups, i / groups * PIECE) }
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

/// Transforms weights of a group of outputs and the piece of channels from `channel` on.
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
        for c in channel..(channel + PIECE).min(depth) {
            for lane in (0..GROUP).step_by(V::LANES) {
                let at = packed.as_ptr().add(c * 9 * GROUP + lane);
                let columns: [[V; 6]; 3] =
                    std::array::from_fn(|x| filter(std::array::from_fn(|y| V::load(at.add((y * 3 + x) * GROUP)))));
                for i in 0..6 {
                    let row = filter(columns.map(|column| column[i]));
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
    let v_stride = pieces * TILES * PIECE + PAD;
    let m_stride = TILES * 2 * V::LANES + PAD;
    let lines = 36 * (v_stride + m_stride) / Line::FLOATS;
    if scratch.len() < lines {
        scratch.resize(lines, Line::ZERO);
    }
    let v = scratch.as_mut_ptr().cast::<f32>();
    // SAFETY: V is `[36][pieces][TILES][PIECE]` and M `[36][TILES][at most 2 vectors]`, and the scratch memory holds
    // both. U's blocks are as `weights` wrote them.
    unsafe {
        let m = v.add(36 * v_stride);
        let mut channel = 0;
        for source in job.sources {
            for t in 0..count {
                inputs::<V>(job, source, first + t, v.add(t * PIECE), v_stride, channel);
            }
            channel += source.channels;
        }
        let mut output = 0;
        while output < job.target.outputs {
            let (start, width) = block(output, 2 * V::LANES, job.target.outputs);
            let u = job.u.add(36 * depth * start);
            for k in 0..36 {
                let (v, u, m) = (v.add(k * v_stride), u.add(k * depth * width), m.add(k * m_stride));
                for t in (0..count).step_by(TALL) {
                    match width / V::LANES {
                        1 => products::<V, TALL, 1>(v.add(t * PIECE), u, depth, m.add(t * width)),
                        _ => products::<V, TALL, 2>(v.add(t * PIECE), u, depth, m.add(t * width)),
                    }
                }
            }
            for t in 0..count {
                for lane in (0..width).step_by(V::LANES) {
                    outputs::<V>(job, first + t, m.add(t * width + lane), m_stride, start + lane);
                }
            }
            output += width;
        }
    }
}

/// Transforms a tile's inputs.
///
/// # Safety
/// `v` is the tile's place in the first of the 36 matrices.
#[inline(always)]
unsafe fn inputs<V: Vector>(
    job: &Tiles<'_>,
    source: &View<'_, f32>,
    tile: usize,
    v: *mut f32,
    v_stride: usize,
    channel: usize,
) {
    let (y, x) = (tile / job.across * 4, tile % job.across * 4);
    let channels = source.channels;
    let top = (job.target.start + y) as isize - 1;
    // Six pixels from x - 1 on; the border makes it x.
    let rows: [&[f32]; 6] = std::array::from_fn(|i| &source.row(top + i as isize)[x * channels..][..6 * channels]);
    for c in (0..channels).step_by(V::LANES) {
        if channel + c >= job.conv.depth {
            break;
        }
        // SAFETY: channels are a multiple of 16, so the vectors are inside the six pixels.
        unsafe {
            let columns: [[V; 6]; 6] =
                std::array::from_fn(|j| data(std::array::from_fn(|i| V::load(rows[i].as_ptr().add(j * channels + c)))));
            let at = v.add((channel + c) / PIECE * TILES * PIECE + (channel + c) % PIECE);
            for i in 0..6 {
                let row = data(columns.map(|column| column[i]));
                for j in 0..6 {
                    row[j].store(at.add((i * 6 + j) * v_stride));
                }
            }
        }
    }
}

/// `TALL` rows of M by `WIDE` vectors: rows of V times U.
///
/// # Safety
/// V has `TALL` tiles, U `depth` rows of `WIDE` vectors, and M room for `TALL` rows as long.
#[inline(always)]
unsafe fn products<V: Vector, const TALL: usize, const WIDE: usize>(
    v: *const f32,
    mut u: *const f32,
    depth: usize,
    m: *mut f32,
) {
    // SAFETY: the caller's promise; pieces of V are `TILES * PIECE` floats from each other.
    unsafe {
        let mut sums = [[V::splat(0.0); WIDE]; TALL];
        for piece in 0..depth.div_ceil(PIECE) {
            let v = v.add(piece * TILES * PIECE);
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

/// Transforms a tile's products back, and finishes its outputs `output..output + V::LANES`.
///
/// # Safety
/// `m` is the place of the tile's outputs in the first of the 36 matrices.
#[inline(always)]
unsafe fn outputs<V: Vector>(job: &Tiles<'_>, tile: usize, m: *const f32, m_stride: usize, output: usize) {
    let target = job.target;
    let (y, x) = (tile / job.across * 4, tile % job.across * 4);
    // SAFETY: the caller's promise; the pixels are inside the target, whose outputs are a multiple of 16.
    unsafe {
        let columns: [[V; 4]; 6] =
            std::array::from_fn(|j| result(std::array::from_fn(|i| V::load(m.add((i * 6 + j) * m_stride)))));
        for i in 0..4.min(target.height - y) {
            let row = target.row(y + i);
            let values = result(columns.map(|column| column[i]));
            for j in 0..4.min(target.width - x) {
                target.put(&row, x + j, output, values[j]);
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
