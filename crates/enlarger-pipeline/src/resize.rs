//! Classic resampling, for reductions, for exact sizes and as a baseline.

use std::f32::consts::PI;

use enlarger_image::{ImageError, Picture, Sample, with_samples};
use multiversion::multiversion;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{reduce::reduced, sample::from_floats};

/// A classic resampling kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// The nearest pixel alone.
    Nearest,
    /// Area averaging.
    Box,
    /// Cubic, a = -0.5.
    CatmullRom,
    /// Cubic, B = C = 1/3.
    Mitchell,
    /// Windowed sinc with three lobes.
    Lanczos3,
}

/// Resamples to `width` x `height` pixels. Colour is weighted by alpha, so that transparent pixels do not bleed.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is no room for the result.
pub fn resize(picture: &Picture, width: u32, height: u32, kernel: Resampling) -> Result<Picture, ImageError> {
    resized(picture, width, height, kernel, true)
}

/// The same for pictures whose colour under transparency is already filled from nearby: it is kept.
pub(crate) fn resample(picture: &Picture, width: u32, height: u32, kernel: Resampling) -> Result<Picture, ImageError> {
    resized(picture, width, height, kernel, false)
}

/// What a network sees of a picture at `width` x `height` pixels, in 0..=1 and interleaved: reduced by area averaging, or enlarged by a
/// cubic filter. `None` if there is no room for it.
pub(crate) fn floats_at(picture: &Picture, width: u32, height: u32) -> Option<Vec<f32>> {
    if width <= picture.width && height <= picture.height {
        return Some(reduced(picture, width, height));
    }
    let larger = resize(picture, width, height, Resampling::CatmullRom).ok()?;
    Some(with_samples!(&larger.samples, samples => samples.iter().map(|sample| sample.to_float()).collect()))
}

fn resized(picture: &Picture, width: u32, height: u32, kernel: Resampling, weigh: bool) -> Result<Picture, ImageError> {
    if (picture.width, picture.height) == (width, height) {
        return picture.try_clone();
    }
    let columns = taps(picture.width, width, kernel);
    let rows = taps(picture.height, height, kernel);
    let n = picture.channels.count();
    let line = picture.width as usize * n;
    let weigh = weigh && picture.channels.has_alpha();
    let mut result = picture.blank(width, height, picture.samples.bits())?;
    let from = &picture.samples;
    with_samples!(&mut result.samples, to => resize_samples(from.of_depth(), to, n, line, [&columns, &rows], weigh));
    Ok(result)
}

/// The pixels that make one of another side, and their shares, which sum to 1.
struct Taps {
    first: usize,
    shares: Vec<f32>,
}

/// Those of all pixels of a side of `to`. Kernels of reductions are as wide as what is left out, against aliasing.
fn taps(from: u32, to: u32, kernel: Resampling) -> Vec<Taps> {
    let step = f64::from(from) / f64::from(to);
    let stretch = step.max(1.0);
    let reach = kernel.reach() * stretch;
    let of = |i: u32| {
        if kernel == Resampling::Nearest {
            let nearest = (2 * u64::from(i) + 1) * u64::from(from) / (2 * u64::from(to));
            return Taps { first: nearest as usize, shares: vec![1.0] };
        }
        let centre = (f64::from(i) + 0.5) * step;
        let first = (centre - reach).round().max(0.0) as usize;
        let end = ((centre + reach).round() as usize).min(from as usize).max(first + 1);
        let share = |p: usize| kernel.at(((p as f64 + 0.5 - centre) / stretch) as f32);
        let mut shares: Vec<f32> = (first..end).map(share).collect();
        let sum: f32 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        Taps { first, shares }
    };
    (0..to).map(of).collect()
}

impl Resampling {
    /// Pixels beyond which it is 0.
    fn reach(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::CatmullRom | Self::Mitchell => 2.0,
            Self::Lanczos3 => 3.0,
        }
    }

    /// Its value at a distance from its centre, in pixels. Cubics: Mitchell and Netravali 1988.
    fn at(self, x: f32) -> f32 {
        let x = x.abs();
        match self {
            Self::Nearest | Self::Box => 1.0,
            Self::CatmullRom if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::CatmullRom if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Mitchell if x < 1.0 => ((7.0 * x - 12.0) * x * x + 16.0 / 3.0) / 6.0,
            Self::Mitchell if x < 2.0 => (((-7.0 / 3.0 * x + 12.0) * x - 20.0) * x + 32.0 / 3.0) / 6.0,
            Self::Lanczos3 if x < 1e-4 => 1.0,
            Self::Lanczos3 if x < 3.0 => 3.0 * (PI * x).sin() * (PI * x / 3.0).sin() / (PI * PI * x * x),
            Self::CatmullRom | Self::Mitchell | Self::Lanczos3 => 0.0,
        }
    }
}

/// Rows first: that is the simplest of loops, and needs no picture between the two directions. Pixels have `n` samples, of which
/// the last weighs the others if `weigh`.
fn resize_samples<T: Sample>(from: &[T], to: &mut [T], n: usize, line: usize, taps: [&[Taps]; 2], weigh: bool) {
    let [columns, rows] = taps;
    let buffers = || (vec![0.0; line], vec![0.0; columns.len() * n]);
    to.par_chunks_exact_mut(columns.len() * n).zip(rows).for_each_init(buffers, |(sums, values), (to, row)| {
        sums.fill(0.0);
        for (y, &share) in (row.first..).zip(&row.shares) {
            let from = &from[y * line..][..line];
            if weigh { add_weighted_row(sums, from, share, n) } else { add_row(sums, from, share) }
        }
        match n {
            1 => resize_columns::<1>(sums, columns, values),
            2 => resize_columns::<2>(sums, columns, values),
            3 => resize_columns::<3>(sums, columns, values),
            _ => resize_columns::<4>(sums, columns, values),
        }
        if weigh {
            values.chunks_exact_mut(n).for_each(unweigh);
        }
        from_floats(values, to);
    });
}

#[multiversion(targets("x86_64+avx2"))]
fn add_row<T: Sample>(sums: &mut [f32], row: &[T], share: f32) {
    sums.iter_mut().zip(row).for_each(|(sum, sample)| *sum += share * sample.to_float());
}

fn add_weighted_row<T: Sample>(sums: &mut [f32], row: &[T], share: f32, n: usize) {
    for (sums, pixel) in sums.chunks_exact_mut(n).zip(row.chunks_exact(n)) {
        let alpha = share * pixel[n - 1].to_float();
        sums.iter_mut().zip(&pixel[..n - 1]).for_each(|(sum, sample)| *sum += alpha * sample.to_float());
        sums[n - 1] += alpha;
    }
}

/// Fully transparent colours become black.
fn unweigh(pixel: &mut [f32]) {
    let [colours @ .., alpha] = pixel else { return };
    let white = if *alpha > 0.0 { 1.0 / *alpha } else { 0.0 };
    colours.iter_mut().for_each(|colour| *colour *= white);
}

#[multiversion(targets("x86_64+avx2"))]
fn resize_columns<const N: usize>(row: &[f32], columns: &[Taps], to: &mut [f32]) {
    let (pixels, _) = row.as_chunks::<N>();
    let (to, _) = to.as_chunks_mut::<N>();
    for (to, column) in to.iter_mut().zip(columns) {
        let mut sum = [0.0; N];
        for (pixel, &share) in pixels[column.first..].iter().zip(&column.shares) {
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += share * value);
        }
        *to = sum;
    }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    const KERNELS: [Resampling; 4] =
        [Resampling::Box, Resampling::CatmullRom, Resampling::Mitchell, Resampling::Lanczos3];

    fn picture(width: u32, height: u32, channels: Channels, samples: Vec<u8>) -> Picture {
        Picture { width, height, channels, samples: Samples::U8(samples), metadata: Metadata::default() }
    }

    fn bytes_of(picture: Picture) -> Vec<u8> {
        let Samples::U8(samples) = picture.samples else { panic!("8 bits went in") };
        samples
    }

    #[test]
    fn a_flat_picture_stays_so_at_any_size_and_by_any_kernel() {
        for kernel in KERNELS {
            for (width, height) in [(1, 1), (3, 40), (7, 7), (29, 2), (100, 33)] {
                let flat = picture(7, 11, Channels::Rgba, [10, 200, 77, 128].repeat(77));
                let result = bytes_of(resize(&flat, width, height, kernel).expect("there is room"));
                assert!(result.chunks_exact(4).all(|pixel| pixel == [10, 200, 77, 128]), "{kernel:?} {width}x{height}");
            }
        }
    }

    /// Pillow 13's `resize` of the same row. Its cubic is Catmull-Rom's; a box of it counts no pixel that is only touched.
    #[test]
    fn rows_are_as_pillow_makes_them() {
        let row = vec![0, 255, 30, 30, 200, 90, 90, 0];
        let cases: [(u32, Resampling, &[u8]); 4] = [
            (4, Resampling::Box, &[128, 30, 145, 45]),
            (5, Resampling::CatmullRom, &[108, 89, 108, 117, 33]),
            (16, Resampling::CatmullRom, &[0, 53, 214, 227, 82, 10, 13, 67, 173, 190, 116, 84, 94, 70, 17, 0]),
            (12, Resampling::Lanczos3, &[0, 137, 253, 73, 0, 62, 188, 162, 81, 95, 43, 0]),
        ];
        for (width, kernel, expected) in cases {
            let result = bytes_of(resize(&picture(8, 1, Channels::Gray, row.clone()), width, 1, kernel).expect("room"));
            let worst = result.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(result.len() == expected.len() && worst <= Some(1), "{kernel:?}: {result:?} {expected:?}");
        }
    }

    #[test]
    fn transparent_colours_do_not_bleed_unless_they_are_to() {
        let two = picture(2, 1, Channels::Rgba, vec![255, 0, 0, 255, 0, 255, 0, 0]);
        assert_eq!(bytes_of(resize(&two, 1, 1, Resampling::Box).expect("room")), [255, 0, 0, 128]);
        assert_eq!(bytes_of(resample(&two, 1, 1, Resampling::Box).expect("room")), [128, 128, 0, 128]);
    }
}
