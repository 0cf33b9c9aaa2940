//! Direct convolution in f32: one body, compiled for each instruction set.

use super::{Conv, Isa, Layer};
use crate::map::{BLOCK, Map};

pub fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

pub fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx2() && std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `[group of 32 outputs][source][tap][channel][32]`.
pub fn pack(layer: &Layer<'_>) -> Vec<f32> {
    let mut packed = Vec::new();
    for group in (0..layer.padded_outputs).step_by(32) {
        for (source, &channels) in layer.inputs.iter().enumerate() {
            for tap in 0..9 {
                for channel in 0..channels {
                    packed.extend((group..group + 32).map(|o| layer.at(o, source, channel, tap)));
                }
            }
        }
    }
    packed
}

pub fn row(isa: Isa, conv: &Conv<f32>, sources: &[&Map<f32>], y: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: a backend is resolved only if the processor has its instruction set.
        Isa::Avx512 => return unsafe { row_avx512(conv, sources, y, out) },
        // SAFETY: as above.
        Isa::Avx2 => return unsafe { row_avx2(conv, sources, y, out) },
        _ => {}
    }
    body::<4, 8, false>(conv, sources, y, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn row_avx2(conv: &Conv<f32>, sources: &[&Map<f32>], y: usize, out: &mut [f32]) {
    body::<4, 16, true>(conv, sources, y, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn row_avx512(conv: &Conv<f32>, sources: &[&Map<f32>], y: usize, out: &mut [f32]) {
    body::<8, 32, true>(conv, sources, y, out);
}

/// `P` pixels by `N` outputs are kept in registers.
#[inline(always)]
fn body<const P: usize, const N: usize, const FMA: bool>(
    conv: &Conv<f32>,
    sources: &[&Map<f32>],
    y: usize,
    out: &mut [f32],
) {
    let blocks = sources[0].width.next_multiple_of(BLOCK) / P;
    let depth: usize = conv.inputs.iter().sum::<usize>() * 9;
    for group in (0..conv.padded_outputs).step_by(N) {
        let lane = group % 32;
        let weights = &conv.weights[group / 32 * depth * 32..][..depth * 32];
        for block in 0..blocks {
            let x = block * P;
            let mut sums = [[0.0f32; N]; P];
            let mut weights = weights.chunks_exact(32);
            for source in sources {
                let c = source.channels;
                for tap in 0..9 {
                    let start = (y + tap / 3) * source.stride + (x + tap % 3) * c;
                    let pixels: [&[f32]; P] = std::array::from_fn(|p| &source.data[start + p * c..][..c]);
                    for i in 0..c {
                        let line = weights.next().expect("as many weights as channels and taps");
                        let w: &[f32; N] = line[lane..lane + N].try_into().expect("N divides 32");
                        for p in 0..P {
                            let a = pixels[p][i];
                            for n in 0..N {
                                sums[p][n] = if FMA { a.mul_add(w[n], sums[p][n]) } else { sums[p][n] + a * w[n] };
                            }
                        }
                    }
                }
            }
            for (p, sums) in sums.iter().enumerate() {
                out[(x + p) * conv.padded_outputs + group..][..N].copy_from_slice(sums);
            }
        }
    }
}
