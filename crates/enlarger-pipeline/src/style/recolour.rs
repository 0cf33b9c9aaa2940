//! Gives shapes of the result the colours of the source.

use enlarger_image::{Picture, Sample, with_samples};
use rayon::prelude::*;

use crate::reduce::reduced;

use super::{blur, slab::colours};

/// Variance of colour below which a window says little of how colours belong together, as squared shares of white.
const LEAST_VARIANCE: f32 = 1e-3;
/// Share of a window that has to be seen for its colours to count.
const LEAST_SEEN: f32 = 1e-4;
/// Source pixels whose maps are held at once.
const BAND_CELLS: usize = 1 << 17;

/// See [`Filter::Recolour`](super::Filter::Recolour).
///
/// In each window the affine map is found that takes the reduced result's colours nearest to the source's: a guided filter with
/// colour as its guide (He, Sun and Tang 2013), drawn towards changing nothing. The maps' means, between their pixels, are applied to
/// the result, as in the fast guided filter (He and Sun 2015). A map neither moves nor draws edges.
pub(super) fn recolour(picture: &mut Picture, source: &Picture, radius: f32) {
    match colours(picture) {
        1 => with_colours::<1>(picture, source, radius),
        _ => with_colours::<3>(picture, source, radius),
    }
}

fn with_colours<const C: usize>(picture: &mut Picture, source: &Picture, radius: f32) {
    let n = picture.channels.count();
    let cells = Cells {
        width: source.width as usize,
        n,
        wanted: reduced(source, source.width, source.height),
        have: reduced(picture, source.width, source.height),
    };
    let (height, result_height) = (source.height as usize, picture.height as usize);
    let places: Vec<Place> = (0..result_height).map(|y| Place::of(y, height, result_height)).collect();
    let columns: Vec<Place> =
        (0..picture.width as usize).map(|x| Place::of(x, cells.width, picture.width as usize)).collect();
    let line = picture.width as usize * n;
    let rows = (BAND_CELLS / cells.width).max(1);
    let mut done = 0;
    for first in (0..height).step_by(rows) {
        let last = (first + rows).min(height);
        let maps = Maps::<C>::of(&cells, first..(last + 1).min(height), radius);
        let end = done + places[done..].iter().take_while(|place| place.at[0] < last).count();
        let (range, places) = (done * line..end * line, &places[done..end]);
        with_samples!(&mut picture.samples, s => maps.apply(&mut s[range], n, places, &columns));
        done = end;
    }
}

/// Source and reduced result, pixel by pixel, in 0..=1 and interleaved.
struct Cells {
    width: usize,
    n: usize,
    wanted: Vec<f32>,
    have: Vec<f32>,
}

/// An affine map: what is added to colour `i` for each of colour `j`, and for none.
struct Map<const C: usize> {
    gains: [[f32; C]; C],
    offsets: [f32; C],
}

/// Such maps in rows of the source, a plane for each number.
struct Maps<const C: usize> {
    /// The row they begin with.
    first: usize,
    width: usize,
    /// Plane `C i + j` for colours `i` and `j`.
    gains: Vec<Vec<f32>>,
    offsets: Vec<Vec<f32>>,
}

impl<const C: usize> Maps<C> {
    fn of(cells: &Cells, rows: std::ops::Range<usize>, radius: f32) -> Self {
        let (width, n) = (cells.width, cells.n);
        // What goes into a mean of maps goes into their windows before.
        let reach = 2 * blur::reach(radius);
        let height = cells.wanted.len() / n / width;
        let (top, bottom) = (rows.start.saturating_sub(reach), (rows.end + reach).min(height));
        let range = top * width * n..bottom * width * n;
        let pixels = || cells.wanted[range.clone()].chunks_exact(n).zip(cells.have[range.clone()].chunks_exact(n));
        // Pixels without alpha in either have no colour, and say nothing.
        let seen = |wanted: &[f32], have: &[f32]| if n > C { wanted[C] * have[C] } else { 1.0 };
        let blurred = |of: &dyn Fn(&[f32], &[f32]) -> f32| {
            let values: Vec<f32> = pixels().map(|(wanted, have)| seen(wanted, have) * of(wanted, have)).collect();
            blur::gaussian(&values, width, radius)
        };
        let weights = blurred(&|_, _| 1.0);
        let mean = |of: &dyn Fn(&[f32], &[f32]) -> f32| {
            let mut mean = blurred(of);
            mean.iter_mut().zip(&weights).for_each(|(mean, weight)| *mean /= weight.max(LEAST_SEEN));
            mean
        };
        let each = || (0..C * C).map(|k| (k / C, k % C));
        let have: Vec<_> = (0..C).map(|i| mean(&|_, have| have[i])).collect();
        let missing: Vec<_> = (0..C).map(|i| mean(&|wanted, have| wanted[i] - have[i])).collect();
        let spread: Vec<_> = each().map(|(i, j)| mean(&|_, have| have[i] * have[j])).collect();
        let related: Vec<_> = each().map(|(i, j)| mean(&|wanted, have| (wanted[i] - have[i]) * have[j])).collect();
        let maps: Vec<Map<C>> = (0..weights.len())
            .into_par_iter()
            .map(|p| {
                let covariance = |i: usize, j: usize| spread[C * i + j][p] - have[i][p] * have[j][p];
                let matrix: [[f32; C]; C] = std::array::from_fn(|i| {
                    std::array::from_fn(|j| covariance(i, j) + if i == j { LEAST_VARIANCE } else { 0.0 })
                });
                let gains = std::array::from_fn(|i| {
                    let right = std::array::from_fn(|j| related[C * i + j][p] - missing[i][p] * have[j][p]);
                    solved(matrix, right)
                });
                let offset = |i: usize| missing[i][p] - (0..C).map(|j| gains[i][j] * have[j][p]).sum::<f32>();
                Map { gains, offsets: std::array::from_fn(offset) }
            })
            .collect();
        let plane = |of: &dyn Fn(&Map<C>) -> f32| {
            let mut plane = blur::gaussian(&maps.iter().map(of).collect::<Vec<f32>>(), width, radius);
            plane.truncate((rows.end - top) * width);
            plane.drain(..(rows.start - top) * width);
            plane
        };
        let gains = each().map(|(i, j)| plane(&|map| map.gains[i][j])).collect();
        let offsets = (0..C).map(|i| plane(&|map| map.offsets[i])).collect();
        Self { first: rows.start, width, gains, offsets }
    }

    /// Changes rows of samples, of which each pixel has `n`, where `rows` and `columns` say they lie in the source.
    fn apply<T: Sample>(&self, samples: &mut [T], n: usize, rows: &[Place], columns: &[Place]) {
        samples.par_chunks_exact_mut(columns.len() * n).zip(rows).for_each(|(samples, row)| {
            // One row of maps, between two.
            let line = |plane: &Vec<f32>| -> Vec<f32> {
                let [a, b] = row.at.map(|y| &plane[(y - self.first) * self.width..][..self.width]);
                a.iter().zip(b).map(|(a, b)| a + row.share * (b - a)).collect()
            };
            let gains: Vec<_> = self.gains.iter().map(line).collect();
            let offsets: Vec<_> = self.offsets.iter().map(line).collect();
            for (pixel, place) in samples.chunks_exact_mut(n).zip(columns) {
                let at = |line: &[f32]| line[place.at[0]] + place.share * (line[place.at[1]] - line[place.at[0]]);
                let colour: [f32; C] = std::array::from_fn(|i| pixel[i].to_float());
                for i in 0..C {
                    let gain: f32 = (0..C).map(|j| at(&gains[C * i + j]) * colour[j]).sum();
                    pixel[i] = T::from_float(colour[i] + gain + at(&offsets[i]));
                }
            }
        });
    }
}

/// Between which two pixels of a line one of an enlarged line lies.
struct Place {
    at: [usize; 2],
    /// The second's share.
    share: f32,
}

impl Place {
    /// Pixel `i` of `to` in a line of `from`.
    fn of(i: usize, from: usize, to: usize) -> Self {
        let place = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = place as usize;
        Self { at: [first, (first + 1).min(from - 1)], share: (place - first as f64) as f32 }
    }
}

/// The solution of a system of linear equations whose matrix is symmetric and positive definite, by its Cholesky factors.
fn solved<const C: usize>(mut matrix: [[f32; C]; C], mut right: [f32; C]) -> [f32; C] {
    for i in 0..C {
        for j in 0..=i {
            let sum = matrix[i][j] - (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum::<f32>();
            // Rounding must not make a flat window's variance negative.
            matrix[i][j] = if i == j { sum.max(0.1 * LEAST_VARIANCE).sqrt() } else { sum / matrix[j][j] };
        }
    }
    for i in 0..C {
        right[i] = (right[i] - (0..i).map(|k| matrix[i][k] * right[k]).sum::<f32>()) / matrix[i][i];
    }
    for i in (0..C).rev() {
        right[i] = (right[i] - (i + 1..C).map(|k| matrix[k][i] * right[k]).sum::<f32>()) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    fn picture(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let pixels = (0..width * height).flat_map(|i| colour(i % width, i / width));
        let samples = Samples::U8(pixels.collect());
        Picture { width, height, channels: Channels::Rgb, samples, metadata: Metadata::default() }
    }

    /// How far a colour is from one of two, in the worst pixel.
    fn worst(picture: &Picture, wanted: [[u8; 3]; 2]) -> u8 {
        let Samples::U8(samples) = &picture.samples else { unreachable!("it was made of bytes") };
        let far = |pixel: &[u8]| {
            let from = |to: [u8; 3]| pixel.iter().zip(to).map(|(&a, b)| a.abs_diff(b)).max().unwrap_or(0);
            wanted.into_iter().map(from).min().unwrap_or(0)
        };
        samples.chunks_exact(3).map(far).max().unwrap_or(0)
    }

    #[test]
    fn a_shape_whose_colour_is_wrong_gets_the_sources_and_stays_where_it_is() {
        let (red, bright, white) = ([160, 20, 20], [250, 5, 30], [255; 3]);
        let inside = |x: u32, y: u32| (10..13).contains(&x) || (20..22).contains(&y);
        let source = picture(40, 30, |x, y| if inside(x, y) { red } else { white });
        // Strokes that the result draws thinner: nothing may be corrected beside them.
        let thin = |x: u32, y: u32| (83..101).contains(&x) || (162..174).contains(&y);
        let mut result = picture(320, 240, |x, y| if thin(x, y) { bright } else { white });
        recolour(&mut result, &source, 1.0);
        // It was wrong by 90.
        assert!(worst(&result, [red, white]) <= 40, "{}", worst(&result, [red, white]));
        let Samples::U8(samples) = &result.samples else { unreachable!("it was made of bytes") };
        for (i, pixel) in samples.chunks_exact(3).enumerate() {
            let (x, y) = (i as u32 % 320, i as u32 / 320);
            assert_eq!(pixel[1] < 128, thin(x, y), "at {x},{y}");
        }
    }

    #[test]
    fn what_is_right_stays_as_it_is_and_bands_do_not_show() {
        let colour = |x: u32, y: u32| [x as u8, (x ^ y) as u8, if y % 16 < 8 { 200 } else { 20 }];
        let source = picture(2_000, 150, colour);
        let mut result = picture(2_000, 150, colour);
        recolour(&mut result, &source, 1.0);
        assert_eq!(result.samples, source.samples);
        let shifted = |x: u32, y: u32| colour(x, y).map(|c| c / 2 + 30);
        let (mut whole, mut part) = (picture(2_000, 150, shifted), picture(200, 150, shifted));
        recolour(&mut whole, &source, 1.0);
        recolour(&mut part, &picture(200, 150, colour), 1.0);
        let (Samples::U8(whole), Samples::U8(part)) = (&whole.samples, &part.samples) else { unreachable!("bytes") };
        for (whole, part) in whole.chunks_exact(2_000 * 3).zip(part.chunks_exact(200 * 3)) {
            assert_eq!(whole[..190 * 3], part[..190 * 3]);
        }
    }
}
