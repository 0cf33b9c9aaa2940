//! Direct convolution on Intel's matrix unit: bfloat16 products, f32 sums.
//!
//! A tile holds 16 pixels of 32 channels; a tap's shift is only another start address, so nothing is gathered. Four
//! tiles of pixels are multiplied by one of weights, which mostly comes from the second-level cache, and summed over
//! sources, taps and channels before anything is stored.

use half::bf16;

use super::packed::{GROUP, Layer};

/// `[group of 16 outputs][source][tap][chunk of 32 channels][16 pairs][16 outputs][2]`.
pub fn pack(layer: &Layer<'_>) -> Vec<bf16> {
    let mut packed = Vec::with_capacity(layer.padded_outputs() * layer.padded_inputs().sum::<usize>() * 9);
    for group in (0..layer.padded_outputs()).step_by(GROUP) {
        for (source, channels) in layer.padded_inputs().enumerate() {
            for tap in 0..9 {
                for pair in (0..channels).step_by(2) {
                    for output in group..group + GROUP {
                        for channel in [pair, pair + 1] {
                            packed.push(bf16::from_f32(layer.at(output, source, channel, tap)));
                        }
                    }
                }
            }
        }
    }
    packed
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use linux::convolve;

/// Never called, because the token cannot exist.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn convolve(
    _: super::isa::AmxBf16,
    _: &super::packed::Packed<bf16>,
    _: &[super::map::View<'_, bf16>],
    _: &super::finish::Target<'_, bf16>,
) {
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::arch::{asm, x86_64::__m512};

    use half::bf16;
    use rayon::prelude::*;

    use super::super::{
        finish::{Finish, Row, Target},
        isa::AmxBf16,
        map::{BLOCK, View},
        packed::Packed,
        vector::Vector,
    };

    /// Pixels of a row that are one task.
    const TASK: usize = 256;
    /// Pixels that are summed at once: four tiles, or two at the end of a row.
    const WIDE: usize = 64;
    /// Maps that a convolution may read.
    const SOURCES: usize = 8;

    /// Palette 1, eight tiles of 16 rows by 64 bytes.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    static CONFIG: Config = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Config(bytes)
    };

    /// Computes the target's rows, in parallel.
    pub fn convolve(_: AmxBf16, conv: &Packed<bf16>, sources: &[View<'_, bf16>], target: &Target<'_, bf16>) {
        let depth: usize = conv.inputs.iter().sum::<usize>() * 9;
        assert!(sources.len() <= SOURCES && depth.is_multiple_of(32) && conv.padded_outputs.is_multiple_of(32));
        assert_eq!(conv.weights.len(), depth * conv.padded_outputs);
        let across = target.width.div_ceil(TASK);
        (0..across * target.height).into_par_iter().for_each(|i| {
            let (y, x) = (i / across, i % across * TASK);
            // SAFETY: the token proves that the CPU has the instructions; sizes are checked above and by `Conv::run`, and
            // each call writes other pixels.
            unsafe { pixels(conv, sources, target, y, x, (x + TASK).min(target.width)) };
        });
    }

    /// Computes pixels `x..end` of a row.
    ///
    /// # Safety
    /// The CPU has the instructions, the weights are as `pack` left them for these sources, and no one else
    /// writes the same pixels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn pixels(
        conv: &Packed<bf16>,
        sources: &[View<'_, bf16>],
        target: &Target<'_, bf16>,
        y: usize,
        x: usize,
        end: usize,
    ) {
        let depth: usize = conv.inputs.iter().sum::<usize>() * 9;
        let mut rows = [[std::ptr::null::<bf16>(); 3]; SOURCES];
        for (rows, source) in rows.iter_mut().zip(sources) {
            *rows = std::array::from_fn(|i| source.row((target.start + y + i) as isize - 1).as_ptr());
        }
        let row = target.row(y);
        let mut sums = Sums([[0.0; 16]; WIDE]);
        // SAFETY: tiles are configured before use and released after; nothing else in this process uses them. Every
        // load is inside its slice: a tile reads 16 pixels by 32 channels at most 2 pixels from x, which the row's
        // border and padding to whole blocks cover; weights advance by 1 KB per step, `depth / 32` steps per group of
        // 16 outputs. Sums are stored for as many pixels.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly));
            let mut x = x;
            // Sums are finished while the next ones are computed, so that the matrix unit never waits.
            let mut done = Pending { first: x, x, end: x, finish: target.finish::<__m512>(0) };
            while x < end {
                // Rows are padded to whole blocks.
                let wide = x + WIDE <= target.width.next_multiple_of(BLOCK);
                for group in (0..target.outputs).step_by(16) {
                    let mut weights = conv.weights.as_ptr().add(group * depth);
                    asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
                    for (source, rows) in sources.iter().zip(&rows) {
                        let c = source.channels;
                        for tap in 0..9 {
                            let mut pixels = rows[tap / 3].add((x + tap % 3) * c);
                            for _ in 0..c / 32 {
                                if wide {
                                    asm!(
                                        "tileloadd tmm4, [{b} + {t}*1]",
                                        "tileloadd tmm5, [{a0} + {s}*1]",
                                        "tdpbf16ps tmm0, tmm5, tmm4",
                                        "tileloadd tmm6, [{a1} + {s}*1]",
                                        "tdpbf16ps tmm1, tmm6, tmm4",
                                        "tileloadd tmm7, [{a2} + {s}*1]",
                                        "tdpbf16ps tmm2, tmm7, tmm4",
                                        "tileloadd tmm5, [{a3} + {s}*1]",
                                        "tdpbf16ps tmm3, tmm5, tmm4",
                                        a0 = in(reg) pixels, a1 = in(reg) pixels.add(16 * c),
                                        a2 = in(reg) pixels.add(32 * c), a3 = in(reg) pixels.add(48 * c),
                                        s = in(reg) c * 2, b = in(reg) weights, t = in(reg) 64usize,
                                        options(nostack, readonly),
                                    );
                                } else {
                                    asm!(
                                        "tileloadd tmm4, [{b} + {t}*1]",
                                        "tileloadd tmm5, [{a0} + {s}*1]",
                                        "tdpbf16ps tmm0, tmm5, tmm4",
                                        "tileloadd tmm6, [{a1} + {s}*1]",
                                        "tdpbf16ps tmm1, tmm6, tmm4",
                                        a0 = in(reg) pixels, a1 = in(reg) pixels.add(16 * c),
                                        s = in(reg) c * 2, b = in(reg) weights, t = in(reg) 64usize,
                                        options(nostack, readonly),
                                    );
                                }
                                for _ in 0..4.min(done.end - done.x) {
                                    done.put(target, &row, &sums);
                                }
                                pixels = pixels.add(32);
                                weights = weights.add(512);
                            }
                        }
                    }
                    while done.x < done.end {
                        done.put(target, &row, &sums);
                    }
                    asm!(
                        "tilestored [{o} + {s}*1], tmm0",
                        "tilestored [{o} + {s}*1 + 1024], tmm1",
                        "tilestored [{o} + {s}*1 + 2048], tmm2",
                        "tilestored [{o} + {s}*1 + 3072], tmm3",
                        o = in(reg) sums.0.as_mut_ptr(), s = in(reg) 64usize,
                        options(nostack),
                    );
                    let count = if wide { WIDE } else { BLOCK }.min(target.width - x);
                    done = Pending { first: x, x, end: x + count, finish: target.finish::<__m512>(group) };
                }
                x += if wide { WIDE } else { BLOCK };
            }
            asm!("tilerelease", options(nostack, nomem));
            while done.x < done.end {
                done.put(target, &row, &sums);
            }
        }
    }

    /// Sums of 64 pixels and 16 outputs.
    #[repr(C, align(64))]
    struct Sums([[f32; 16]; WIDE]);

    /// Pixels `x..end` whose sums are not finished yet; the first of all sums are those of pixel `first`.
    struct Pending {
        first: usize,
        x: usize,
        end: usize,
        finish: Finish<__m512>,
    }

    impl Pending {
        /// Finishes the next pixel.
        ///
        /// # Safety
        /// As [`Target::put`]; there is a next pixel.
        #[inline(always)]
        unsafe fn put(&mut self, target: &Target<'_, bf16>, row: &Row<bf16>, sums: &Sums) {
            // SAFETY: the caller's promise; there are sums of at most `WIDE` pixels.
            unsafe {
                let sums = __m512::load(sums.0.as_ptr().add(self.x - self.first).cast());
                target.put(row, self.x, &self.finish, sums);
            }
            self.x += 1;
        }
    }
}
