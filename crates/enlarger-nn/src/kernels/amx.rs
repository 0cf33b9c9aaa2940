//! Direct convolution on Intel's matrix unit: bfloat16 products, f32 sums.
//!
//! A tile holds 16 pixels of 32 channels; a tap's shift is only another start address, so nothing is gathered. Two
//! pixel tiles by two output tiles are summed over sources, taps and channels before anything is stored.

use super::{Bf16, Conv, Element, Layer};
use crate::map::Map;

/// `[group of 32 outputs][source][tap][chunk of 32 channels][2 tiles][16 pairs][16 outputs][2]`.
pub fn pack(layer: &Layer<'_>) -> Vec<Bf16> {
    let mut packed = Vec::new();
    for group in (0..layer.padded_outputs).step_by(32) {
        for (source, &channels) in layer.inputs.iter().enumerate() {
            for tap in 0..9 {
                for chunk in (0..channels).step_by(32) {
                    for tile in [group, group + 16] {
                        for pair in 0..16 {
                            for output in tile..tile + 16 {
                                for channel in [chunk + 2 * pair, chunk + 2 * pair + 1] {
                                    packed.push(Bf16::from_f32(layer.at(output, source, channel, tap)));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    packed
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use linux::{available, row};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn available() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn row(_: &Conv<Bf16>, _: &[&Map<Bf16>], _: usize, _: &mut [f32]) {
    unreachable!("the backend is resolved only where it is available")
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::{
        arch::{asm, x86_64::__cpuid_count},
        sync::OnceLock,
    };

    use super::{Bf16, Conv, Map};
    use crate::map::BLOCK;

    /// Whether the processor has the unit and the kernel lets this process use it (asked for once).
    pub fn available() -> bool {
        static ANSWER: OnceLock<bool> = OnceLock::new();
        *ANSWER.get_or_init(|| {
            // Leaf 7: EDX bit 22 is AMX-BF16, bit 24 AMX-TILE (Intel SDM, vol. 2A, CPUID).
            let features = __cpuid_count(7, 0).edx;
            features & (1 << 22) != 0
                && features & (1 << 24) != 0
                && std::arch::is_x86_feature_detected!("avx512f")
                && permitted()
        })
    }

    /// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux hands out tile state on request only.
    fn permitted() -> bool {
        const SYS_ARCH_PRCTL: i64 = 158;
        let result: i64;
        // SAFETY: a system call that touches no memory; rcx and r11 are its clobbers.
        unsafe {
            asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => result, in("rdi") 0x1023_u64, in("rsi") 18_u64,
                 lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result == 0
    }

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

    pub fn row(conv: &Conv<Bf16>, sources: &[&Map<Bf16>], y: usize, out: &mut [f32]) {
        let width = sources[0].width.next_multiple_of(BLOCK);
        let depth: usize = conv.inputs.iter().sum::<usize>() * 9;
        assert!(out.len() >= width * conv.padded_outputs);
        assert_eq!(conv.weights.len(), depth * conv.padded_outputs);
        for (source, &channels) in sources.iter().zip(&conv.inputs) {
            assert!(source.channels == channels && source.stride == (width + 2) * channels);
            assert!(y + 2 < source.data.len() / source.stride);
        }
        let out_stride = conv.padded_outputs * 4;
        // SAFETY: tiles are configured before use and released after; nothing else in this process uses them. The
        // asserts above keep every load and store inside its slice: a tile reads 16 pixels by 32 channels at most 2
        // pixels and 2 rows from (x, y), which the map's border and padding cover; weights advance by 2 KB per step,
        // `depth / 32` steps per group of 32 outputs; sums are stored for 32 pixels by 32 outputs inside `out`.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly));
            for group in 0..conv.padded_outputs / 32 {
                for x in (0..width).step_by(BLOCK) {
                    let mut weights = conv.weights.as_ptr().add(group * depth * 32);
                    asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
                    for source in sources {
                        let c = source.channels;
                        for tap in 0..9 {
                            let start = (y + tap / 3) * source.stride + (x + tap % 3) * c;
                            let mut pixels = source.data.as_ptr().add(start);
                            let below = 16 * c * 2;
                            for _ in 0..c / 32 {
                                asm!(
                                    "tileloadd tmm4, [{a} + {s}*1]",
                                    "tileloadd tmm6, [{b} + {t}*1]",
                                    "tileloadd tmm7, [{b} + {t}*1 + 1024]",
                                    "tdpbf16ps tmm0, tmm4, tmm6",
                                    "tileloadd tmm5, [{a2} + {s}*1]",
                                    "tdpbf16ps tmm1, tmm4, tmm7",
                                    "tdpbf16ps tmm2, tmm5, tmm6",
                                    "tdpbf16ps tmm3, tmm5, tmm7",
                                    a = in(reg) pixels, a2 = in(reg) pixels.byte_add(below), s = in(reg) c * 2,
                                    b = in(reg) weights, t = in(reg) 64usize,
                                    options(nostack, readonly),
                                );
                                pixels = pixels.add(32);
                                weights = weights.add(1024);
                            }
                        }
                    }
                    let sums = out.as_mut_ptr().add(x * conv.padded_outputs + group * 32);
                    asm!(
                        "tilestored [{o} + {s}*1], tmm0",
                        "tilestored [{o} + {s}*1 + 64], tmm1",
                        "tilestored [{p} + {s}*1], tmm2",
                        "tilestored [{p} + {s}*1 + 64], tmm3",
                        o = in(reg) sums, p = in(reg) sums.byte_add(16 * out_stride), s = in(reg) out_stride,
                        options(nostack),
                    );
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}
