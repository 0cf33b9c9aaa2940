//! How much of its resolution a picture uses: what is out of focus, or was enlarged before, lacks the finest detail, also after it was
//! saved as JPEG.

use std::{array, f64::consts::TAU, ops::Range};

use enlarger_image::Picture;
use rayon::prelude::*;

use crate::{
    resize::{Resampling, resample},
    sample::read_luma,
};

use super::SOFT;

/// Length of the pieces of rows and columns whose spectra are measured, in pixels. The highest frequency of a spectrum, half of it,
/// is that of alternating pixels.
const LENGTH: usize = 32;
/// Pieces overlap by half.
const HOP: usize = LENGTH / 2;
/// Pieces of less deviation show nothing but a slope or damage.
const LIVELY: f32 = 10.0 / 255.0;
/// Fewer pieces say nothing.
const FEWEST: usize = 64;
/// How many rows and columns are read at most: every second one of a picture of a megapixel.
const LINES: usize = 512;
/// Bands of frequencies.
const FINE: Range<usize> = 10..14;
const COARSE: Range<usize> = 3..6;
const MIDDLE: Range<usize> = 5..8;
/// Of a soft picture, the logarithms of how much fine detail it has, as a share of coarse and of middling detail. 19 photos at two sizes each, one
/// of them soft by these numbers, also with three quarters out of focus and as JPEG 92; all 38 were soft when enlarged 2x before or
/// blurred by 1 pixel, and saved as JPEG 90 after that (a prototype in NumPy). The classifier finds 32 and 12 of these, and none as JPEG.
const LIMITS: [f64; 2] = [-1.5, -0.95];
/// How much further from these limits a picture is certainly soft.
const CERTAIN: f64 = 0.3;

/// What half the resolution cannot show, and what is much coarser. Below the limit, as a logarithm, halving a picture loses nothing
/// of it. 20 photos had -1.49 and more, -1.55 as JPEG 50; blurred by 2 pixels -3.01 and less, -2.34 as JPEG 90 after that; by 1.5
/// pixels -3.08 to -2.15; enlarged 4x before -2.75 and less, 3x -2.35 and more (a prototype in NumPy).
const BEYOND_HALF: [Range<usize>; 2] = [7..10, 2..4];
const HALVES: f64 = -2.4;
/// Of the half of a picture that is halved: with more, networks do better with the whole, and with less they make a mask of what is left.
/// Halves of 20 photos blurred by 2 pixels had -2.15 to -1.55, by 2.5 pixels -2.44 to -2.07, by 3 pixels -2.78 to -2.37, and by 4 pixels
/// -3.28 to -2.49; by 1.5 pixels -1.73 to -1.07. By eye faces blurred by 1.5 pixels are torn when they are halved, and those blurred by 4 in any
/// case; fur blurred by 2 becomes a grid of dots when it is not halved. SSIMULACRA2 of 18 photos, whole and halved, is -28.0 and -35.3 for
/// 1.5 pixels, -41.2 and -43.9 for 2 (prototypes).
const LEFT: Range<f64> = -2.9..-1.55;

/// What a picture's spectrum says of its sharpness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sharpness {
    /// How soft it is, 0..=1 in hundredths: [`SOFT`] at the limit.
    pub soft: f32,
    /// Whether it can be halved without losing detail, and networks do better with its half.
    pub oversampled: bool,
}

impl Sharpness {
    pub fn of(picture: &Picture) -> Self {
        let Some(spectrum) = spectrum(picture) else { return Self { soft: 0.0, oversampled: false } };
        let oversampled = share(&spectrum, BEYOND_HALF) < HALVES && gains_by_halving(picture);
        let soft = if oversampled { 1.0 } else { softness(&spectrum) };
        Self { soft, oversampled }
    }
}

/// Whether a picture is better halved: its half has detail left, but little. It has none if there is no memory to look at it.
fn gains_by_halving(picture: &Picture) -> bool {
    let half = resample(picture, picture.width.div_ceil(2), picture.height.div_ceil(2), Resampling::CatmullRom);
    half.is_ok_and(|half| spectrum(&half).is_some_and(|spectrum| LEFT.contains(&share(&spectrum, BEYOND_HALF))))
}

fn softness(spectrum: &Spectrum) -> f32 {
    let logarithms = [share(spectrum, [FINE, COARSE]), share(spectrum, [FINE, MIDDLE])];
    let beyond = logarithms.iter().zip(LIMITS).map(|(share, limit)| limit - share).fold(f64::INFINITY, f64::min);
    let soft = f64::from(SOFT) + (1.0 - f64::from(SOFT)) * beyond / CERTAIN;
    (100.0 * soft.clamp(0.0, 1.0)).round() as f32 / 100.0
}

/// The logarithm of how much there is of one band, as a share of another.
fn share(spectrum: &Spectrum, bands: [Range<usize>; 2]) -> f64 {
    let [one, other] = bands.map(|band| spectrum[band].iter().sum::<f64>());
    (one / other).log10()
}

type Spectrum = [f64; LENGTH / 2 + 1];

/// The mean power of each frequency in lively pieces of rows and columns, each as a share of its piece's.
fn spectrum(picture: &Picture) -> Option<Spectrum> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let waves = Waves::new();
    let step = |lines: usize| (lines / LINES).max(2);
    let rows = (0..height).into_par_iter().step_by(step(height)).map(|y| {
        let mut line = vec![0.0; width];
        read_luma(picture, y, &mut line);
        let pieces = line.windows(LENGTH).step_by(HOP);
        pieces.fold(Sum::default(), |sum, piece| sum.with(waves.shares(piece)))
    });
    let columns = (0..(height / HOP).saturating_sub(1)).into_par_iter().map(|band| {
        let mut lines = vec![0.0; LENGTH * width];
        for (y, line) in lines.chunks_exact_mut(width).enumerate() {
            read_luma(picture, band * HOP + y, line);
        }
        let pieces = (0..width).step_by(step(width)).map(|x| array::from_fn::<_, LENGTH, _>(|y| lines[y * width + x]));
        pieces.fold(Sum::default(), |sum, piece| sum.with(waves.shares(&piece)))
    });
    // Added in order, so that the sum is the same however many threads there are.
    let sums: Vec<Sum> = rows.chain(columns).collect();
    let (mut total, mut pieces) = (Spectrum::default(), 0);
    for sum in sums {
        total.iter_mut().zip(sum.shares).for_each(|(total, share)| *total += share);
        pieces += sum.pieces;
    }
    (pieces >= FEWEST).then_some(total)
}

#[derive(Default)]
struct Sum {
    shares: Spectrum,
    pieces: usize,
}

impl Sum {
    fn with(mut self, shares: Option<Spectrum>) -> Self {
        if let Some(shares) = shares {
            self.shares.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
            self.pieces += 1;
        }
        self
    }
}

/// Cosine and sine of each frequency, in Hann's window.
struct Waves([[[f32; LENGTH]; 2]; LENGTH / 2 + 1]);

impl Waves {
    fn new() -> Self {
        let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f64 / (LENGTH - 1) as f64).cos();
        let angle = |k: usize, i: usize| TAU * (k * i % LENGTH) as f64 / LENGTH as f64;
        Self(array::from_fn(|k| {
            [f64::cos, f64::sin].map(|wave| array::from_fn(|i| (hann(i) * wave(angle(k, i))) as f32))
        }))
    }

    /// How the power of a piece is shared among frequencies, leaving out its mean; `None` if it is not lively.
    fn shares(&self, piece: &[f32]) -> Option<Spectrum> {
        let mean = piece.iter().sum::<f32>() / LENGTH as f32;
        let piece: [f32; LENGTH] = array::from_fn(|i| piece[i] - mean);
        let variance = piece.iter().map(|v| v * v).sum::<f32>() / LENGTH as f32;
        if variance <= LIVELY * LIVELY {
            return None;
        }
        let dot = |wave: &[f32; LENGTH]| f64::from(wave.iter().zip(&piece).map(|(w, v)| w * v).sum::<f32>());
        let mut powers = self.0.each_ref().map(|[cosine, sine]| dot(cosine).powi(2) + dot(sine).powi(2));
        powers[0] = 0.0;
        let total: f64 = powers.iter().sum();
        Some(powers.map(|power| power / total))
    }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    /// Squares of many sizes and greys over each other.
    fn shapes(side: u32) -> Picture {
        let mut samples = vec![128_u8; (side * side) as usize];
        let mut state = 7_u64;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % below
        };
        for _ in 0..side * side / 40 {
            let (x, y, size, grey) = (random(side), random(side), 2 + random(12), random(256) as u8);
            for row in y..(y + size).min(side) {
                let row = (row * side) as usize;
                samples[row + x as usize..row + (x + size).min(side) as usize].fill(grey);
            }
        }
        Picture {
            width: side,
            height: side,
            channels: Channels::Gray,
            samples: Samples::U8(samples),
            metadata: Metadata::default(),
        }
    }

    /// Shapes of so many pixels fewer along a side, enlarged.
    fn enlarged(times: u32) -> Picture {
        resample(&shapes(640 / times), 640, 640, Resampling::CatmullRom).expect("room")
    }

    const SHARP: Sharpness = Sharpness { soft: 0.0, oversampled: false };

    #[test]
    fn what_was_enlarged_before_is_soft_and_sharp_or_empty_pictures_are_not() {
        let sharp = shapes(160);
        assert_eq!(Sharpness::of(&sharp), SHARP);
        for times in [2, 3, 4] {
            let soft = Sharpness::of(&enlarged(times)).soft;
            assert!(soft > SOFT, "enlarged {times}x: {soft}");
        }
        let empty = Picture { samples: Samples::U8(vec![90; 160 * 160]), ..sharp };
        assert_eq!(Sharpness::of(&empty), SHARP);
    }

    /// Shapes blurred by a Gaussian of so many pixels, as averages of neighbours, each of which adds half to its variance.
    fn blurred(pixels: f32) -> Picture {
        const SIDE: usize = 320;
        let sharp = shapes(SIDE as u32);
        let Samples::U8(samples) = &sharp.samples else { panic!("8 bits") };
        let mut values: Vec<f32> = samples.iter().map(|&sample| f32::from(sample)).collect();
        for step in [1, SIDE] {
            for _ in 0..(2.0 * pixels * pixels).round() as usize {
                let of = |at: usize| values[at.clamp(0, SIDE * SIDE - 1)];
                values = (0..SIDE * SIDE)
                    .map(|at| 0.25 * of(at.saturating_sub(step)) + 0.5 * of(at) + 0.25 * of(at + step))
                    .collect();
            }
        }
        Picture { samples: Samples::U8(values.iter().map(|value| value.round() as u8).collect()), ..sharp }
    }

    #[test]
    fn what_is_blurred_by_two_or_three_pixels_is_better_halved() {
        for (pixels, oversampled) in [(1.0, false), (1.4, false), (2.2, true), (3.0, true), (5.0, false)] {
            assert_eq!(Sharpness::of(&blurred(pixels)).oversampled, oversampled, "{pixels}");
        }
    }

    #[test]
    fn a_wave_is_found_at_its_frequency() {
        let wave: Vec<f32> =
            (0..LENGTH).map(|i| 0.5 + 0.4 * (TAU * 8.0 * i as f64 / LENGTH as f64).cos() as f32).collect();
        let shares = Waves::new().shares(&wave).expect("lively");
        // Hann's window spreads a wave over three frequencies.
        assert!(shares[7..=9].iter().sum::<f64>() > 0.99, "{shares:?}");
    }
}
