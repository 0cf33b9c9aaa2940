//! Random fields that depend on a seed and a pixel's place alone: the same for any slabs and threads.

use rayon::prelude::*;

/// Random bits of a place (the finaliser of SplitMix64, Steele et al. 2014, on a sum of odd multiples).
pub(super) fn bits(seed: u64, x: i64, y: i64) -> u64 {
    let mut z = seed
        .wrapping_add((x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((y as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// About a standard normal number: the sum of four uniform ones has variance 4/12.
pub(super) fn normal(seed: u64, x: i64, y: i64) -> f32 {
    let z = bits(seed, x, y);
    let sum: f32 = (0..4).map(|i| ((z >> (16 * i)) & 0xFFFF) as f32 * (1.0 / 65536.0)).sum();
    (sum - 2.0) * 3.0f32.sqrt()
}

/// White noise of deviation 1 for rows `y..` of a picture of this width; rows may be negative.
pub(super) fn white(seed: u64, width: usize, y: i64, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; width * rows];
    out.par_chunks_mut(width).enumerate().for_each(|(row, line)| {
        for (x, v) in line.iter_mut().enumerate() {
            *v = normal(seed, x as i64, y + row as i64);
        }
    });
    out
}

/// Variance of white noise after a Gaussian of deviation `a` times one of deviation `b` (their inner product).
fn product(a: f32, b: f32) -> f32 {
    1.0 / (2.0 * std::f32::consts::PI * (a * a + b * b))
}

/// What brings the difference of two blurred versions of one white noise back to deviation 1.
pub(super) fn band_gain(fine: f32, coarse: f32) -> f32 {
    1.0 / (product(fine, fine) + product(coarse, coarse) - 2.0 * product(fine, coarse)).sqrt()
}
