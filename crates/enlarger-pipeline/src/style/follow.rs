//! Follows a source that is damaged: coarse differences that stand out are right, fine and weak ones are the
//! damage.

use enlarger_image::{ImageError, LUMA, Picture, luma};
use rayon::prelude::*;

use crate::resize::{Resampling, resample};

use super::{
    blur,
    keep::{change_by_enlarged, missing_row},
    slab::colours,
};

/// Of the Gaussian that hides colour's damage, in those of luminance's: JPEG halves colour, and cameras blur its noise.
const COLOUR: f32 = 3.0;
/// Below this a difference is a step between blocks.
const STEP: f32 = 2.0 / 255.0;
/// Above a deviation of [`STEP`] in luminance the damage is noise, and the blur is as many times as wide as the deviation is larger, up
/// to this much more. Six photos had 1.7/255 on average as JPEG 50, and 2.9 to 4.1/255 with noise of 10/255 in luminance.
const MOST_NOISE: f32 = 1.5;
/// Rows that are sampled to measure how strong the damage is.
const ROWS: usize = 256;

/// See [`Filter::Follow`](super::Filter::Follow).
///
/// What the reduced result lacks is blurred, then cored: a difference counts by `d^2 / (d^2 + t^2)`, where `t` is [`STEP`] and the
/// deviation of all differences, estimated from their median. A narrow blur leaves too much of strong noise, so it is
/// wider then.
pub(super) fn follow(picture: &mut Picture, source: &Picture, radius: f32, strength: f32) -> Result<(), ImageError> {
    let small = resample(picture, source.width, source.height, Resampling::CatmullRom)?;
    let mut lacking = Lacking::new(source, &small, radius);
    let mut deviations = lacking.deviations();
    let noise = (deviations[0] / STEP - 1.0).clamp(0.0, MOST_NOISE);
    if noise > 0.0 {
        lacking = Lacking::new(source, &small, (1.0 + noise) * radius);
        deviations = lacking.deviations();
    }
    let limits: Vec<f32> = deviations.iter().map(|deviation| STEP + deviation).collect();
    let row = |y: usize| {
        let mut row = lacking.row(y);
        for pixel in row.chunks_exact_mut(limits.len()) {
            for (d, limit) in pixel.iter_mut().zip(&limits) {
                *d *= strength * *d * *d / (*d * *d + limit * limit);
            }
            from_luma(pixel);
        }
        row
    };
    change_by_enlarged(picture, source.width, source.height, row, |colour, lacking| colour + lacking);
    Ok(())
}

/// What a reduced result lacks of its source.
struct Lacking<'a> {
    source: &'a Picture,
    small: &'a Picture,
    /// The blur of each channel.
    kernels: Vec<Vec<f32>>,
}

impl<'a> Lacking<'a> {
    fn new(source: &'a Picture, small: &'a Picture, radius: f32) -> Self {
        let radii = [radius, COLOUR * radius, COLOUR * radius];
        let kernels = radii[..colours(source)].iter().map(|&radius| blur::kernel(radius)).collect();
        Self { source, small, kernels }
    }

    /// A blurred row: luminance, or luminance and how blue and red differ from it.
    fn row(&self, y: usize) -> Vec<f32> {
        let Self { source, small, kernels } = self;
        let (n, width, last) = (kernels.len(), source.width as usize, i64::from(source.height) - 1);
        let reach = kernels.iter().map(|kernel| kernel.len() / 2).max().unwrap_or(0) as i64;
        let mut sums = vec![vec![0.0; width]; n];
        for offset in -reach..=reach {
            let mut lacking = missing_row(source, small, (y as i64 + offset).clamp(0, last) as usize);
            lacking.chunks_exact_mut(n).for_each(to_luma);
            for (c, (sum, kernel)) in sums.iter_mut().zip(kernels).enumerate() {
                let Some(weight) = kernel.get((offset + (kernel.len() / 2) as i64) as usize) else { continue };
                sum.iter_mut().zip(lacking.chunks_exact(n)).for_each(|(sum, pixel)| *sum += weight * pixel[c]);
            }
        }
        let mut row = vec![0.0; n * width];
        for (c, (sum, kernel)) in sums.iter().zip(kernels).enumerate() {
            let blurred = blur::across(sum, kernel);
            row.chunks_exact_mut(n).zip(blurred).for_each(|(pixel, value)| pixel[c] = value);
        }
        row
    }

    /// The deviation of each channel.
    fn deviations(&self) -> Vec<f32> {
        let (n, height) = (self.kernels.len(), self.source.height as usize);
        let rows = height.min(ROWS);
        let seen: Vec<f32> = (0..rows).into_par_iter().flat_map_iter(|i| self.row(i * height / rows)).collect();
        (0..n)
            .map(|c| {
                let mut values: Vec<f32> = seen.iter().skip(c).step_by(n).map(|d| d.abs()).collect();
                let middle = values.len() / 2;
                // Of a normal distribution, the deviation is 1.4826 times the median of what is off its middle.
                1.4826 * *values.select_nth_unstable_by(middle, f32::total_cmp).1
            })
            .collect()
    }
}

/// Of three colours luminance (BT.601) and what blue and red differ from it; one stays.
fn to_luma(pixel: &mut [f32]) {
    if let [r, g, b] = *pixel {
        let y = luma([r, g, b]);
        pixel.copy_from_slice(&[y, 0.564 * (b - y), 0.713 * (r - y)]);
    }
}

/// The way back.
fn from_luma(pixel: &mut [f32]) {
    if let [y, blue, red] = *pixel {
        let [of_red, of_green, of_blue] = LUMA.map(|weight| weight as f32);
        let (r, b) = (y + red / 0.713, y + blue / 0.564);
        pixel.copy_from_slice(&[r, (y - of_red * r - of_blue * b) / of_green, b]);
    }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    const SIDE: usize = 48;

    fn grey(value: impl Fn(usize, usize) -> u8) -> Picture {
        let samples = (0..SIDE * SIDE).map(|i| value(i % SIDE, i / SIDE)).collect();
        Picture {
            width: SIDE as u32,
            height: SIDE as u32,
            channels: Channels::Gray,
            samples: Samples::U8(samples),
            metadata: Metadata::default(),
        }
    }

    fn at(picture: &Picture, x: usize, y: usize) -> f32 {
        let Samples::U8(samples) = &picture.samples else { panic!("8 bits") };
        f32::from(samples[y * SIDE + x])
    }

    #[test]
    fn what_stands_out_comes_back_and_noise_and_steps_of_blocks_do_not() {
        let noise = |x: usize, y: usize| ((x * 7919 + y * 104_729) % 13) as u8;
        let bar = |x: usize| if (20..26).contains(&x) { 60 } else { 0 };
        let step = |x: usize| if (x / 8).is_multiple_of(2) { 0 } else { 2 };
        let mut lost = grey(|_, _| 100);
        follow(&mut lost, &grey(|x, y| 94 + noise(x, y) + bar(x)), 0.7, 1.0).expect("room");
        assert!(at(&lost, 22, 24) > 145.0, "the bar is {}", at(&lost, 22, 24));
        let noisy: f32 = (0..SIDE).map(|y| (at(&lost, 6, y) - 100.0).powi(2)).sum::<f32>() / SIDE as f32;
        assert!(noisy.sqrt() < 1.5, "noise of 3.7 came back as {}", noisy.sqrt());
        let mut blocks = grey(|_, _| 100);
        follow(&mut blocks, &grey(|x, _| 99 + step(x)), 0.7, 1.0).expect("room");
        assert!((0..SIDE).all(|x| at(&blocks, x, 9) == 100.0));
    }

    #[test]
    fn colours_come_back_from_luminance() {
        for colour in [[0.2, 0.5, 0.9], [1.0, 0.0, 0.0], [-0.1, 0.05, 0.3]] {
            let mut pixel = colour;
            to_luma(&mut pixel);
            from_luma(&mut pixel);
            assert!(pixel.iter().zip(colour).all(|(a, b)| (a - b).abs() < 1e-5), "{colour:?} became {pixel:?}");
        }
    }
}
