//! Closeness to the source.

use enlarger_image::{ImageError, Picture};
use rayon::prelude::*;

use crate::{plan::Kernel, resize::resize};

use super::{
    band::{change_rows, colours, read_colours},
    blur,
};

/// See [`Filter::Keep`](super::Filter::Keep).
pub(super) fn keep(picture: &mut Picture, source: &Picture, share: f32) {
    let row = |y: usize| read_colours(source, y);
    enlarged_rows(picture, source.width, source.height, row, |colours, from| {
        colours.iter_mut().zip(from).for_each(|(c, s)| *c += share * (s - *c));
    });
}

/// See [`Filter::Match`](super::Filter::Match).
pub(super) fn back_project(
    picture: &mut Picture,
    source: &Picture,
    rounds: u32,
    strength: f32,
) -> Result<(), ImageError> {
    for _ in 0..rounds {
        let small = resize(picture, source.width, source.height, Kernel::CatmullRom)?;
        let row = |y: usize| missing_row(source, &small, y);
        enlarged_rows(picture, source.width, source.height, row, |colours, missing| {
            colours.iter_mut().zip(missing).for_each(|(c, m)| *c += strength * m);
        });
    }
    Ok(())
}

/// See [`Filter::Lock`](super::Filter::Lock). Works on both reduced to squares of half the radius, so that it takes little
/// time and memory.
pub(super) fn lock(picture: &mut Picture, source: &Picture, radius: f32) -> Result<(), ImageError> {
    let cell = (0.5 * radius).max(1.0);
    let side = |length: u32| (length as f32 / cell).round().max(1.0) as u32;
    let (width, height) = (side(source.width), side(source.height));
    let (wanted, have) = (resize(source, width, height, Kernel::Box)?, resize(picture, width, height, Kernel::Box)?);
    let missing: Vec<f32> = (0..height as usize).flat_map(|y| missing_row(&wanted, &have, y)).collect();
    let (w, n) = (width as usize, colours(picture));
    let planes: Vec<Vec<f32>> = (0..n)
        .map(|c| {
            let plane: Vec<f32> = missing.iter().skip(c).step_by(n).copied().collect();
            blur::gaussian(&plane, w, radius / cell)
        })
        .collect();
    let row = |y: usize| (y * w..(y + 1) * w).flat_map(|i| planes.iter().map(move |plane| plane[i])).collect();
    enlarged_rows(picture, width, height, row, |colours, missing| {
        colours.iter_mut().zip(missing).for_each(|(c, m)| *c += m);
    });
    Ok(())
}

/// A row of what one picture has more than another of its size.
fn missing_row(wanted: &Picture, have: &Picture, y: usize) -> Vec<f32> {
    let mut missing = read_colours(wanted, y);
    missing.iter_mut().zip(read_colours(have, y)).for_each(|(m, h)| *m -= h);
    missing
}

/// Changes a picture by a smaller one, enlarged to its size by a cubic (Catmull-Rom), in bands of rows. `row` gives a row
/// of the smaller one's colours; `change` gets whole rows of both.
fn enlarged_rows(
    picture: &mut Picture,
    width: u32,
    height: u32,
    row: impl Fn(usize) -> Vec<f32> + Sync,
    change: impl Fn(&mut [f32], &[f32]) + Sync,
) {
    let n = colours(picture);
    let columns = taps(width, picture.width);
    let lines = taps(height, picture.height);
    let rows = ((1 << 20) / columns.len().max(1)).max(1);
    for (index, band) in lines.chunks(rows).enumerate() {
        let first = band.iter().flat_map(|t| t.at).min().unwrap_or(0);
        let last = band.iter().flat_map(|t| t.at).max().unwrap_or(0);
        let wide: Vec<Vec<f32>> = (first..=last)
            .into_par_iter()
            .map(|y| {
                let from = row(y);
                let value = |t: &Tap, c: usize| (0..4).map(|i| t.weight[i] * from[n * t.at[i] + c]).sum::<f32>();
                columns.iter().flat_map(|t| (0..n).map(move |c| value(t, c))).collect()
            })
            .collect();
        let top = index * rows;
        change_rows(picture, top..top + band.len(), |y, colours, line| {
            let tap = &band[y - top];
            let [a, b, c, d] = tap.at.map(|y| &wide[y - first][..colours.len()]);
            let [p, q, r, s] = tap.weight;
            line.clear();
            line.extend(a.iter().zip(b).zip(c).zip(d).map(|(((a, b), c), d)| p * a + q * b + r * c + s * d));
            change(colours, line);
        });
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
