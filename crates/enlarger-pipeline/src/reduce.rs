//! Pictures made smaller by area averaging, a row at a time and in full precision: libraries round the result, and use one
//! thread where it is small, however large the source is.

use enlarger_image::{Picture, Sample, with_samples};
use multiversion::multiversion;
use rayon::prelude::*;

/// A picture at `width` x `height` pixels, which is not larger, in 0..=1 and interleaved. Colour is weighted by alpha, and 0 where
/// there is none.
pub(crate) fn reduced(picture: &Picture, width: u32, height: u32) -> Vec<f32> {
    let columns: Vec<Cover> = (0..width).map(|x| Cover::of(x, width, picture.width)).collect();
    let rows = (0..height)
        .into_par_iter()
        .map_init(Vec::new, |sums, y| reduced_row(picture, &Cover::of(y, height, picture.height), &columns, sums));
    rows.flat_map_iter(|row| row.into_iter().map(|v| v as f32)).collect()
}

/// The pixels that lie under another one along a side.
pub(crate) struct Cover {
    first: usize,
    /// How much of each, in whole numbers whose sum is the length of their side: sums of samples times these are exact as
    /// long as they have 24 bits.
    shares: Vec<f32>,
}

impl Cover {
    /// Under pixel `i` of `from`, when there are `to` of them.
    pub fn of(i: u32, from: u32, to: u32) -> Self {
        let (from, to) = (u64::from(from), u64::from(to));
        let (start, end) = (u64::from(i) * to, u64::from(i + 1) * to);
        let pixels = start / from..end.div_ceil(from);
        let share = |p: u64| end.min((p + 1) * from) - start.max(p * from);
        Self { first: pixels.start as usize, shares: pixels.map(|p| share(p) as f32).collect() }
    }
}

/// A row of a picture reduced by area averaging, in 0..=1. Colour is weighted by alpha. `sums` is memory to work in.
pub(crate) fn reduced_row(picture: &Picture, rows: &Cover, columns: &[Cover], sums: &mut Vec<f32>) -> Vec<f64> {
    let n = picture.channels.count();
    let alpha = picture.channels.has_alpha().then_some(n - 1);
    let line = picture.width as usize * n;
    let white = f64::from((1u32 << picture.samples.bits()) - 1);
    // Rows first: that goes through all samples, and is the simplest of loops.
    sums.clear();
    sums.resize(line, 0.0);
    for (y, &share) in (rows.first..).zip(&rows.shares) {
        with_samples!(&picture.samples, s => add_row(sums, &s[y * line..][..line], share, alpha));
    }
    let area = f64::from(picture.width) * f64::from(picture.height);
    match n {
        1 => reduced_columns(sums, columns, |_: &[f64; 1]| area * white),
        2 => reduced_columns(sums, columns, |[.., alpha]: &[f64; 2]| alpha * white),
        3 => reduced_columns(sums, columns, |_: &[f64; 3]| area * white),
        _ => reduced_columns(sums, columns, |[.., alpha]: &[f64; 4]| alpha * white),
    }
}

/// Adds a share of a row's samples. Where there is alpha (which sample of a pixel it is) they are weighted by it.
#[multiversion(targets("x86_64+avx2"))]
fn add_row<T: Sample>(sums: &mut [f32], row: &[T], share: f32, alpha: Option<usize>) {
    let Some(alpha) = alpha else {
        return sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += share * v.value() as f32);
    };
    for (sum, pixel) in sums.chunks_exact_mut(alpha + 1).zip(row.chunks_exact(alpha + 1)) {
        let weight = share * pixel[alpha].value() as f32;
        sum.iter_mut().zip(&pixel[..alpha]).for_each(|(sum, &v)| *sum += weight * v.value() as f32);
        sum[alpha] += weight;
    }
}

/// A row's pixels of `N` samples reduced along it. `white` gives what a pixel's sums would be if it were white.
fn reduced_columns<const N: usize>(sums: &[f32], columns: &[Cover], white: impl Fn(&[f64; N]) -> f64) -> Vec<f64> {
    let (pixels, _) = sums.as_chunks::<N>();
    let mut reduced = Vec::with_capacity(columns.len() * N);
    for column in columns {
        let mut sum = [0.0; N];
        for (pixel, &share) in pixels[column.first..].iter().zip(&column.shares) {
            sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(share) * f64::from(value));
        }
        let white = white(&sum);
        if white > 0.0 {
            let scale = 1.0 / white;
            sum.iter_mut().for_each(|value| *value *= scale);
        }
        reduced.extend_from_slice(&sum);
    }
    reduced
}
