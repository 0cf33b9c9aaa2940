//! Closeness to the source.

use std::ops::Range;

use enlarger_image::{ImageError, Picture, Samples};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::{plan::Kernel, reduce::reduced, resize::resample, sample::Sample};

use super::{
    band::{colours, read_colours},
    blur,
};

/// See [`Filter::Keep`](super::Filter::Keep).
pub(super) fn keep(picture: &mut Picture, source: &Picture, share: f32) {
    let row = |y: usize| read_colours(source, y);
    let change = |colour, wanted| colour + share * (wanted - colour);
    change_by_enlarged(picture, source.width, source.height, row, change, None);
}

/// See [`Filter::Match`](super::Filter::Match).
pub(super) fn back_project(
    picture: &mut Picture,
    source: &Picture,
    rounds: u32,
    strength: f32,
) -> Result<(), ImageError> {
    for _ in 0..rounds {
        let small = resample(picture, source.width, source.height, Kernel::CatmullRom)?;
        let row = |y: usize| missing_row(source, &small, y);
        let change = |colour, missing| colour + strength * missing;
        change_by_enlarged(picture, source.width, source.height, row, change, None);
    }
    Ok(())
}

/// Share of a square's surroundings below which what they lack counts less and less: nothing there is to be seen.
const LEAST_WEIGHT: f32 = 1e-4;

/// See [`Filter::Lock`](super::Filter::Lock). Works on both reduced to squares of half the radius, so that it takes little
/// time and memory. What is missing of an outline that a network drew thicker lies on the outline, and its flat surroundings
/// lack nothing: so no pixel is moved out of the range that the source has around it.
pub(super) fn lock(picture: &mut Picture, source: &Picture, radius: f32) {
    let cell = (0.5 * radius).max(1.0);
    let side = |length: u32| (length as f32 / cell).round().max(1.0) as u32;
    let (width, height) = (side(source.width), side(source.height));
    let (wanted, have) = (reduced(source, width, height), reduced(picture, width, height));
    let (w, n) = (width as usize, picture.channels.count());
    let plane = |of: &dyn Fn(&[f32], &[f32]) -> f32| {
        let cells: Vec<f32> = wanted.chunks_exact(n).zip(have.chunks_exact(n)).map(|(a, b)| of(a, b)).collect();
        blur::gaussian(&cells, w, radius / cell)
    };
    let planes: Vec<Vec<f32>> = if picture.channels.has_alpha() {
        // A cell without alpha in either has no colour, and says nothing of what is missing.
        let weight = |a: &[f32], b: &[f32]| a[n - 1] * b[n - 1];
        let weights = plane(&weight);
        let missing = |c: usize| plane(&|a, b| weight(a, b) * (a[c] - b[c]));
        let mean = |sums: Vec<f32>| sums.iter().zip(&weights).map(|(m, w)| m / w.max(LEAST_WEIGHT)).collect();
        (0..n - 1).map(missing).map(mean).collect()
    } else {
        (0..n).map(|c| plane(&|a, b| a[c] - b[c])).collect()
    };
    let row = |y: usize| (y * w..(y + 1) * w).flat_map(|i| planes.iter().map(move |plane| plane[i])).collect();
    change_by_enlarged(picture, width, height, row, |colour, missing| colour + missing, Some(source));
}

/// A row of what one picture has more than another of its size.
fn missing_row(wanted: &Picture, have: &Picture, y: usize) -> Vec<f32> {
    let mut missing = read_colours(wanted, y);
    missing.iter_mut().zip(read_colours(have, y)).for_each(|(m, h)| *m -= h);
    missing
}

/// Changes each colour of a picture by that of a smaller one, enlarged to its size by a cubic (Catmull-Rom), in bands of
/// rows. `row` gives a row of the smaller one's colours; `change` gets a colour, and the smaller one's in the same place. None is
/// moved out of the range of the pixels around it in `within`, which are fewer.
fn change_by_enlarged(
    picture: &mut Picture,
    width: u32,
    height: u32,
    row: impl Fn(usize) -> Vec<f32> + Sync,
    change: impl Fn(f32, f32) -> f32 + Sync,
    within: Option<&Picture>,
) {
    let (n, colours) = (picture.channels.count(), colours(picture));
    let columns = taps(width, picture.width);
    let lines = taps(height, picture.height);
    let line = columns.len() * n;
    let rows = ((2 << 20) / columns.len().max(1)).max(1);
    for (index, band) in lines.chunks(rows).enumerate() {
        let first = band.iter().flat_map(|t| t.at).min().unwrap_or(0);
        let last = band.iter().flat_map(|t| t.at).max().unwrap_or(0);
        let wide: Vec<Vec<f32>> = (first..=last)
            .into_par_iter()
            .map(|y| {
                let from = row(y);
                let mut wide = vec![0.0; columns.len() * colours];
                for (to, tap) in wide.chunks_exact_mut(colours).zip(&columns) {
                    for (at, weight) in tap.at.into_iter().zip(tap.weight) {
                        to.iter_mut().zip(&from[at * colours..]).for_each(|(to, value)| *to += weight * value);
                    }
                }
                wide
            })
            .collect();
        let band = Band { rows: index * rows..index * rows + band.len(), taps: band, wide: &wide, first };
        let range = band.rows.start * line..band.rows.end * line;
        let size = [picture.width, picture.height];
        match &mut picture.samples {
            Samples::U8(s) => {
                band.change(&mut s[range], [n, colours], &change, within.map(|w| Ranges::of(w, size, &band.rows)))
            }
            Samples::U16(s) => {
                band.change(&mut s[range], [n, colours], &change, within.map(|w| Ranges::of(w, size, &band.rows)))
            }
        }
    }
}

/// Rows of a picture, and what changes them.
struct Band<'a> {
    rows: Range<usize>,
    taps: &'a [Tap],
    /// Rows of the smaller picture, as wide as the larger one, from `first` on.
    wide: &'a [Vec<f32>],
    first: usize,
}

impl Band<'_> {
    /// Changes the rows' samples, of which each pixel has `n`, and `colours` of them are changed.
    fn change<T: Sample>(
        &self,
        samples: &mut [T],
        [n, colours]: [usize; 2],
        change: &(impl Fn(f32, f32) -> f32 + Sync),
        ranges: Option<Ranges<T>>,
    ) {
        let line = samples.len() / self.rows.len();
        samples.par_chunks_exact_mut(line).zip(self.taps).zip(self.rows.clone()).for_each(|((samples, tap), y)| {
            let rows = tap.at.map(|y| self.wide[y - self.first].as_slice());
            let range = ranges.as_ref().map(|ranges| ranges.row(y));
            if n == colours {
                change_row(samples.iter_mut(), rows, tap.weight, change, range);
            } else {
                let samples = samples.chunks_exact_mut(n).flat_map(|pixel| &mut pixel[..colours]);
                change_row(samples, rows, tap.weight, change, range);
            }
        });
    }
}

/// A row of samples, by the weighted sum of four rows. What is changed stays within the range of its place, or if it was out of
/// it goes no further out.
#[multiversion(targets("x86_64+avx2"))]
fn change_row<'a, T: Sample + 'a>(
    samples: impl Iterator<Item = &'a mut T>,
    [a, b, c, d]: [&[f32]; 4],
    [p, q, r, s]: [f32; 4],
    change: impl Fn(f32, f32) -> f32,
    range: Option<[&[T]; 2]>,
) {
    let other = a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| p * a + q * b + r * c + s * d);
    let Some([least, most]) = range else {
        samples.zip(other).for_each(|(sample, other)| *sample = T::from_float(change(sample.to_float(), other)));
        return;
    };
    for (((sample, other), least), most) in samples.zip(other).zip(least).zip(most) {
        let old = sample.to_float();
        let new = change(old, other);
        *sample = T::from_float(new.max(least.to_float().min(old)).min(most.to_float().max(old)));
    }
}

/// The least and the most of each colour among the 3x3 pixels around a place of a picture, as wide as a larger one.
struct Ranges<T> {
    /// Rows of the smaller picture, from `first` on.
    rows: Vec<[Vec<T>; 2]>,
    first: usize,
    /// Sides of the smaller and of the larger one.
    heights: [usize; 2],
}

impl<T: Sample> Ranges<T> {
    /// For some rows of a picture that is `width` x `height` pixels large.
    fn of(small: &Picture, [width, height]: [u32; 2], rows: &Range<usize>) -> Self {
        let colours = colours(small);
        let at = |i: usize, from: u32, to: u32| (i as u64 * u64::from(from) / u64::from(to)) as usize;
        let columns: Vec<usize> = (0..width as usize).map(|x| at(x, small.width, width) * colours).collect();
        let first = at(rows.start, small.height, height);
        let last = at(rows.end - 1, small.height, height);
        let wide = |row: &[f32]| {
            let mut wide = Vec::with_capacity(columns.len() * colours);
            for &start in &columns {
                wide.extend(row[start..start + colours].iter().map(|&v| T::from_float(v)));
            }
            wide
        };
        let rows = (first..=last).into_par_iter().map(|y| range_row(small, y).map(|row| wide(&row))).collect();
        Self { rows, first, heights: [small.height as usize, height as usize] }
    }

    /// The least and the most along a row of the larger one.
    fn row(&self, y: usize) -> [&[T]; 2] {
        let [least, most] = &self.rows[y * self.heights[0] / self.heights[1] - self.first];
        [least, most]
    }
}

/// The least and the most of the 3x3 pixels around each one of a row.
fn range_row(picture: &Picture, y: usize) -> [Vec<f32>; 2] {
    let colours = colours(picture);
    let last = picture.height as usize - 1;
    let rows = [y.saturating_sub(1), y, (y + 1).min(last)].map(|y| read_colours(picture, y));
    [f32::min, f32::max].map(|pick| {
        let [a, b, c] = &rows;
        let down: Vec<f32> = a.iter().zip(b).zip(c).map(|((&a, &b), &c)| pick(pick(a, b), c)).collect();
        let mut row = down.clone();
        for (here, next) in row.iter_mut().zip(&down[colours..]) {
            *here = pick(*here, *next);
        }
        for (here, before) in row[colours..].iter_mut().zip(&down) {
            *here = pick(*here, *before);
        }
        row
    })
}

/// Which four pixels make one of an enlarged line, and their shares.
struct Tap {
    at: [usize; 4],
    weight: [f32; 4],
}

fn taps(from: u32, to: u32) -> Vec<Tap> {
    let (step, last) = (f64::from(from) / f64::from(to), i64::from(from) - 1);
    (0..to)
        .map(|i| {
            let place = (f64::from(i) + 0.5) * step - 0.5;
            let start = place.floor();
            let t = (place - start) as f32;
            // Catmull-Rom: cubic convolution with a = -0.5 (Keys 1981).
            let weight = [
                ((-0.5 * t + 1.0) * t - 0.5) * t,
                (1.5 * t - 2.5) * t * t + 1.0,
                ((-1.5 * t + 2.0) * t + 0.5) * t,
                (0.5 * t - 0.5) * t * t,
            ];
            let at = [-1, 0, 1, 2].map(|o| (start as i64 + o).clamp(0, last) as usize);
            Tap { at, weight }
        })
        .collect()
}
