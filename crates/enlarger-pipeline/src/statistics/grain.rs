//! How strong a picture's own grain is, and how coarse.

use enlarger_image::Picture;
use rayon::prelude::*;

use crate::sample::read_luma;

/// Side of the squares that are measured, in pixels.
const SIDE: usize = 8;
/// The shares of squares, the calmest ones, of which the roughest are compared. Grain is everywhere, so that they are alike.
const CALM: [f32; 2] = [0.03, 0.15];
/// By how much they differ at most: of 15 photos with grain of 6/255, also as JPEG 90, by up to 1.27; without it mostly by more.
const ALIKE: f32 = 1.35;
/// The deviation of the second of all squares of grain, as a share of its own.
const CALMER: f32 = 0.92;
/// Squares whose mean lies nearer to black or white than this say nothing: grain is cut off there.
const ENDS: f32 = 0.06;
/// Deviation below which it is rounding and sensor noise rather than grain.
const LEAST: f32 = 2.0 / 255.0;
/// Grain of film is not stronger; what is, is texture in a picture that is calm nowhere.
const MOST: f32 = 0.08;
/// Neighbours in JPEG's blocks, in texture and in soft pictures are alike. Of grain they differ by at least this share of what unrelated
/// ones would: of the same photos with grain by 0.71 and more, without it and as rough by up to 0.62.
const UNLIKE: f32 = 0.65;
/// Fewer squares say nothing.
const FEWEST: usize = 16;

/// How much neighbours differ, as a share of what unrelated pixels would, in coarse grain, as scanned film has: of 15 photos of 448 x 320
/// pixels 0.60 to 0.69 with grain blurred by 0.6 pixels, 0.37 to 0.42 blurred by 1 pixel, and 0.86 and more with noise in each pixel.
const COARSE: std::ops::Range<f32> = 0.3..0.75;
/// The same for pixels two apart, which compression and blur make alike: at least 0.90 in coarse grain, at most 0.75 as JPEG 50. Of the 15 photos reduced to 112 x 80
/// pixels, all are found with grain blurred by 0.6 pixels, 14 with that saved as JPEG 85; of those without it one, as noise of 5/255, which
/// shows nothing but wood (a prototype in NumPy).
const APART: f32 = 0.92;
/// Of fewer squares the calm ones are too few to be sure.
const FEWEST_COARSE: usize = 128;
/// Weaker texture that is alike everywhere may be the picture's own.
const LEAST_COARSE: f32 = 5.0 / 255.0;

/// The deviation of luminance in the calmest squares, less their slope, in thousandths; 0 for none.
pub(super) fn deviation(picture: &Picture) -> f32 {
    let calm = Calm::of(squares(picture));
    let found = calm.filter(|calm| (LEAST..MOST).contains(&calm.deviation) && calm.alike < ALIKE && calm.next > UNLIKE);
    found.map_or(0.0, |calm| (1000.0 * calm.deviation).round() / 1000.0)
}

/// Whether it has grain that is coarser than its pixels.
pub(super) fn is_coarse(picture: &Picture) -> bool {
    let squares = squares(picture);
    if squares.len() < FEWEST_COARSE {
        return false;
    }
    Calm::of(squares).is_some_and(|calm| {
        let strong = (LEAST_COARSE..MOST).contains(&calm.deviation) && calm.alike < ALIKE;
        strong && COARSE.contains(&calm.next) && calm.second > APART
    })
}

fn squares(picture: &Picture) -> Vec<Square> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let bands: Vec<usize> = (0..height / SIDE).collect();
    bands
        .into_par_iter()
        .flat_map_iter(|band| {
            let mut luma = vec![0.0; SIDE * width];
            for (y, line) in luma.chunks_exact_mut(width).enumerate() {
                read_luma(picture, band * SIDE + y, line);
            }
            (0..width / SIDE).filter_map(|x| Square::of(&luma[x * SIDE..], width)).collect::<Vec<_>>()
        })
        .collect()
}

/// A square, less its plane.
#[derive(Debug, Clone, Copy)]
struct Square {
    /// Variance of luminance.
    variance: f32,
    /// Mean square of how pixels differ that are one and two apart.
    differ: [f32; 2],
}

/// The calmest squares of a picture.
struct Calm {
    /// Their deviation.
    deviation: f32,
    /// The largest deviation as a multiple of the smallest.
    alike: f32,
    /// How much neighbours differ, as a share of what unrelated pixels would.
    next: f32,
    /// The same for pixels two apart.
    second: f32,
}

impl Calm {
    fn of(mut squares: Vec<Square>) -> Option<Self> {
        if squares.len() < FEWEST {
            return None;
        }
        squares.sort_by(|a, b| a.variance.total_cmp(&b.variance));
        let [calmest, calm] = CALM.map(|share| (share * squares.len() as f32) as usize);
        // Of all calm squares together: one alone says little.
        let sum = |of: fn(&Square) -> f32| squares[..=calm].iter().map(of).sum::<f32>();
        let unrelated = 2.0 * sum(|square| square.variance);
        Some(Self {
            deviation: squares[calm].variance.sqrt() / CALMER,
            alike: (squares[calm].variance / squares[calmest].variance).sqrt(),
            next: sum(|square| square.differ[0]) / unrelated,
            second: sum(|square| square.differ[1]) / unrelated,
        })
    }
}

impl Square {
    /// `None` near black or white.
    fn of(luma: &[f32], width: usize) -> Option<Self> {
        let at = |x: usize, y: usize| luma[y * width + x];
        let places = || (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
        let count = (SIDE * SIDE) as f32;
        let centred = |i: usize| i as f32 - 0.5 * (SIDE as f32 - 1.0);
        // The sum of squares of places about their middle, for all pixels.
        let spread = (SIDE * SIDE * (SIDE * SIDE - 1)) as f32 / 12.0;
        let (mut mean, mut across, mut down) = (0.0, 0.0, 0.0);
        for (x, y) in places() {
            mean += at(x, y) / count;
            across += centred(x) * at(x, y) / spread;
            down += centred(y) * at(x, y) / spread;
        }
        if !(ENDS..1.0 - ENDS).contains(&mean) {
            return None;
        }
        let rest = |x: usize, y: usize| at(x, y) - mean - across * centred(x) - down * centred(y);
        let variance: f32 = places().map(|(x, y)| rest(x, y).powi(2)).sum();
        let differ = |apart: usize| {
            let pairs = places().filter(|(x, y)| x + apart < SIDE && y + apart < SIDE);
            let sum: f32 = pairs
                .map(|(x, y)| {
                    ((rest(x + apart, y) - rest(x, y)).powi(2) + (rest(x, y + apart) - rest(x, y)).powi(2)) / 2.0
                })
                .sum();
            sum / ((SIDE - apart) * (SIDE - apart)) as f32
        };
        // A plane takes three of the degrees of freedom.
        Some(Self { variance: variance / (count - 3.0), differ: [differ(1), differ(2)] })
    }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 96;

    fn picture(luma: impl Fn(usize, usize) -> f32) -> Picture {
        let samples = (0..WIDTH * HEIGHT).map(|i| (255.0 * luma(i % WIDTH, i / WIDTH)).round() as u8).collect();
        Picture {
            width: WIDTH as u32,
            height: HEIGHT as u32,
            channels: Channels::Gray,
            samples: Samples::U8(samples),
            metadata: Metadata::default(),
        }
    }

    /// Noise of a pixel, -1..=1: SplitMix64.
    fn noise(x: usize, y: usize) -> f32 {
        let mut z = ((y * 4099 + x) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The mean of four pixels, so that neighbours share two of them and pixels two apart none.
    fn coarse(x: usize, y: usize) -> f32 {
        [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().map(|(i, j)| noise(x + i, y + j)).sum::<f32>() / 4.0
    }

    #[test]
    fn coarse_grain_is_told_from_noise_in_each_pixel_from_blocks_and_from_weak_texture() {
        let slope = |x: usize| 0.3 + 0.4 * x as f32 / WIDTH as f32;
        assert!(is_coarse(&picture(|x, y| slope(x) + 0.12 * coarse(x, y))));
        let not = [
            ("noise in each pixel", picture(|x, y| slope(x) + 0.06 * noise(x, y))),
            ("weak", picture(|x, y| slope(x) + 0.04 * coarse(x, y))),
            ("blocks", picture(|x, y| slope(x) + 0.12 * noise(x / 4, y / 4))),
            ("a slope", picture(|x, _| slope(x))),
            ("grain on one half", picture(|x, y| 0.5 + if x < WIDTH / 2 { 0.12 * coarse(x, y) } else { 0.0 })),
        ];
        for (name, picture) in not {
            assert!(!is_coarse(&picture), "{name}");
        }
    }
}
