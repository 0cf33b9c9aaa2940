//! Closeness to the source.

use enlarger_image::{ImageError, Picture, Sample, with_samples};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::{
    reduce::reduced,
    resize::{Resampling, resample},
};

use super::{
    blur,
    bound::bound,
    slab::{colours, read_colours},
};

/// See [`Filter::Keep`](super::Filter::Keep).
pub(super) fn keep(picture: &mut Picture, source: &Picture, share: f32) {
    let row = |y: usize| read_colours(source, y);
    change_by_enlarged(picture, source.width, source.height, row, |colour, wanted| colour + share * (wanted - colour));
}

/// See [`Filter::Match`](super::Filter::Match).
pub(super) fn back_project(
    picture: &mut Picture,
    source: &Picture,
    rounds: u32,
    strength: f32,
    reach: u32,
) -> Result<(), ImageError> {
    let limit = |picture: &mut Picture| {
        if reach > 0 {
            bound(picture, source, BEYOND, reach);
        }
    };
    for _ in 0..rounds {
        limit(picture);
        let small = resample(picture, source.width, source.height, Resampling::CatmullRom)?;
        let row = |y: usize| missing_row(source, &small, y);
        change_by_enlarged(picture, source.width, source.height, row, |colour, missing| colour + strength * missing);
    }
    limit(picture);
    Ok(())
}

/// How far colours may lie beyond the source's around them, as a share of those colours' range: thin strokes have their colour in no pixel.
const BEYOND: f32 = 0.1;

/// Share of a square's surroundings below which what they lack counts less and less: nothing there is to be seen.
const LEAST_WEIGHT: f32 = 1e-4;

/// See [`Filter::ColourCorrection`](super::Filter::ColourCorrection). Works on both reduced to squares of half the radius, so that it takes little
/// time and memory.
pub(super) fn correct_colour(picture: &mut Picture, source: &Picture, radius: f32) {
    let cell = (0.5 * radius).max(1.0);
    let side = |length: u32| (length as f32 / cell).round().max(1.0) as u32;
    let (width, height) = (side(source.width), side(source.height));
    let (wanted, have) = (reduced(source, width, height), reduced(picture, width, height));
    let (w, n) = (width as usize, picture.channels.count());
    let has_alpha = picture.channels.has_alpha();
    let colours = if has_alpha { n - 1 } else { n };
    let calm = calm(&wanted, w, n, colours);
    let plane = |of: &dyn Fn(&[f32], &[f32]) -> f32| {
        let cells = wanted.chunks_exact(n).zip(have.chunks_exact(n)).zip(&calm);
        let cells: Vec<f32> = cells
            .map(|((a, b), calm)| {
                // A cell without alpha in either has no colour, and says nothing of what is missing.
                let seen = if has_alpha { a[n - 1] * b[n - 1] } else { 1.0 };
                seen * calm * of(a, b)
            })
            .collect();
        blur::gaussian(&cells, w, radius / cell)
    };
    let weights = plane(&|_, _| 1.0);
    let planes: Vec<Vec<f32>> = (0..colours)
        .map(|c| plane(&|a, b| a[c] - b[c]).iter().zip(&weights).map(|(m, w)| m / w.max(LEAST_WEIGHT)).collect())
        .collect();
    let row = |y: usize| (y * w..(y + 1) * w).flat_map(|i| planes.iter().map(move |plane| plane[i])).collect();
    change_by_enlarged(picture, width, height, row, |colour, missing| colour + missing);
}

/// Difference between neighbouring squares of which a square that has it counts half.
const CALM: f32 = 12.0 / 255.0;

/// How much each square's colour says of those around: little at edges, which networks draw thicker or thinner than they are.
/// Correcting that beside them would give shapes soft shadows. Where everything is edges, all count equally.
fn calm(cells: &[f32], width: usize, n: usize, colours: usize) -> Vec<f32> {
    let height = cells.len() / n / width;
    let at = |x: usize, y: usize| &cells[(y * width + x) * n..][..colours];
    let calm = |i: usize| {
        let (x, y) = (i % width, i / width);
        let around = [
            (x.saturating_sub(1), y),
            ((x + 1).min(width - 1), y),
            (x, y.saturating_sub(1)),
            (x, (y + 1).min(height - 1)),
        ];
        let differs =
            |(ox, oy): (usize, usize)| at(x, y).iter().zip(at(ox, oy)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let most = around.into_iter().map(differs).fold(0.0, f32::max);
        CALM * CALM / (CALM * CALM + most * most)
    };
    (0..width * height).map(calm).collect()
}

/// A row of what one picture has more than another of its size.
pub(super) fn missing_row(wanted: &Picture, have: &Picture, y: usize) -> Vec<f32> {
    let mut missing = read_colours(wanted, y);
    missing.iter_mut().zip(read_colours(have, y)).for_each(|(m, h)| *m -= h);
    missing
}

/// Changes each colour of a picture by that of a smaller one, enlarged to its size by a cubic (Catmull-Rom), in slabs of
/// rows. `row` gives a row of the smaller one's colours; `change` gets a colour, and the smaller one's in the same place.
pub(super) fn change_by_enlarged(
    picture: &mut Picture,
    width: u32,
    height: u32,
    row: impl Fn(usize) -> Vec<f32> + Sync,
    change: impl Fn(f32, f32) -> f32 + Sync,
) {
    let (n, colours) = (picture.channels.count(), colours(picture));
    let columns = taps(width, picture.width);
    let lines = taps(height, picture.height);
    let line = columns.len() * n;
    let rows = ((2 << 20) / columns.len().max(1)).max(1);
    for (index, slab) in lines.chunks(rows).enumerate() {
        let first = slab.iter().flat_map(|t| t.at).min().unwrap_or(0);
        let last = slab.iter().flat_map(|t| t.at).max().unwrap_or(0);
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
        let range = index * rows * line..(index * rows + slab.len()) * line;
        with_samples!(&mut picture.samples, s => {
            change_rows(&mut s[range], [n, colours], slab, &wide, first, &change);
        });
    }
}

/// Rows of samples, of which each pixel has `n` and `colours` of them are changed. `wide` begins with row `first`.
fn change_rows<T: Sample>(
    samples: &mut [T],
    [n, colours]: [usize; 2],
    lines: &[Tap],
    wide: &[Vec<f32>],
    first: usize,
    change: &(impl Fn(f32, f32) -> f32 + Sync),
) {
    let line = samples.len() / lines.len();
    samples.par_chunks_exact_mut(line).zip(lines).for_each(|(samples, tap)| {
        let rows = tap.at.map(|y| wide[y - first].as_slice());
        if n == colours {
            change_row(samples.iter_mut(), rows, tap.weight, change);
        } else {
            let samples = samples.chunks_exact_mut(n).flat_map(|pixel| &mut pixel[..colours]);
            change_row(samples, rows, tap.weight, change);
        }
    });
}

/// A row of samples, by the weighted sum of four rows.
#[multiversion(targets("x86_64+avx2"))]
fn change_row<'a, T: Sample + 'a>(
    samples: impl Iterator<Item = &'a mut T>,
    [a, b, c, d]: [&[f32]; 4],
    [p, q, r, s]: [f32; 4],
    change: impl Fn(f32, f32) -> f32,
) {
    let rows = a.iter().zip(b).zip(c).zip(d);
    for (sample, (((a, b), c), d)) in samples.zip(rows) {
        *sample = T::from_float(change(sample.to_float(), p * a + q * b + r * c + s * d));
    }
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
