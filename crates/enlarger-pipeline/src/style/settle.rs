//! Flat areas stay flat.
//!
//! Beside the edges of flat drawings networks draw rims: they take them for the halos of photographs that were sharpened, and
//! are off by up to 60/255 there, several pixels deep. Where a source pixel and its eight neighbours are one colour there is
//! nothing to draw, and that colour is the right result. Around such pixels edges are the network's, but for colours beyond
//! the flat one, and for what comes close to the flat one where the source has it.
//!
//! Areas near slow changes are left to the network: skies in few levels, and the blocks of JPEG, which are flat inside.

use std::ops::Range;

use enlarger_image::{Picture, Sample, with_samples};
use rayon::prelude::*;

use crate::canvas::View;

use super::slab::{colours, read_colours};

/// Rows of the source that are worked on at once.
const ROWS: usize = 128;
/// Rows beyond them that are looked at.
const HALO: usize = REACH + SLOW_REACH + SPREAD + 1;
/// Pixels within which a change of colour is a slow one if there is no larger.
const SLOW_REACH: usize = 2;
/// The range of a slow change: below it rims are not seen, and at quality 10 the blocks of JPEG hardly differ by more.
const SLOW: f32 = 24.0 / 255.0;
/// Pixels around a slow change that are the network's: half a block of JPEG.
const REACH: usize = 4;
/// Pixels around a flat area that belong to it if they have its colour.
const SPREAD: usize = 4;
/// Share of the contrast around a pixel below which a result is meant to be its colour. Up to twice of it fades.
const CLOSE: f32 = 0.25;

/// See [`Filter::Settle`](super::Filter::Settle).
pub(super) fn settle(picture: &mut Picture, source: View<'_>) {
    let columns = cells(source.part.width, picture.width);
    let rows = cells(source.part.height, picture.height);
    let n = [picture.channels.count(), colours(picture)];
    with_samples!(&mut picture.samples, s => settle_samples(s, source, &columns, &rows, n));
}

/// The result's pixels whose centres lie in each of the source's, along a side.
fn cells(from: u32, to: u32) -> Vec<Range<usize>> {
    let (from, to) = (u64::from(from), u64::from(to));
    let start = |i: u64| (2 * i * to).saturating_sub(from).div_ceil(2 * from) as usize;
    (0..from).map(|i| start(i)..if i + 1 == from { to as usize } else { start(i + 1) }).collect()
}

/// Pixels have `n` samples, of which `colours` are changed.
fn settle_samples<T: Sample>(
    mut samples: &mut [T],
    source: View<'_>,
    columns: &[Range<usize>],
    rows: &[Range<usize>],
    [n, colours]: [usize; 2],
) {
    let line = columns.last().map_or(0, |last| last.end) * n;
    let mut slabs = Vec::new();
    for (index, rows) in rows.chunks(ROWS).enumerate() {
        let height = rows.last().map_or(0, |last| last.end) - rows[0].start;
        let (slab, rest) = samples.split_at_mut(height * line);
        samples = rest;
        slabs.push((index * ROWS, rows, slab));
    }
    slabs.into_par_iter().for_each(|(top, rows, slab)| {
        let top = source.part.y as usize + top;
        let Some(area) = Area::of(source.picture, top, rows.len(), colours) else { return };
        for (y, lines) in rows.iter().enumerate() {
            let limits = area.limits(y + HALO, source.part.x as usize, columns.len());
            let lines = (lines.start - rows[0].start) * line..(lines.end - rows[0].start) * line;
            for samples in slab[lines].chunks_exact_mut(line) {
                for (x, limits) in &limits {
                    let pixels = &mut samples[columns[*x].start * n..columns[*x].end * n];
                    pixels.chunks_exact_mut(n).for_each(|pixel| limits.apply(&mut pixel[..colours]));
                }
            }
        }
    });
}

/// What a source pixel requires of the result at its place.
struct Limits {
    low: [f32; 3],
    high: [f32; 3],
    /// A flat colour, and the largest difference from it around.
    flat: Option<([f32; 3], f32)>,
}

impl Limits {
    fn apply<T: Sample>(&self, pixel: &mut [T]) {
        let mut colour = [0.0; 3];
        for (c, sample) in pixel.iter().enumerate() {
            colour[c] = sample.to_float().clamp(self.low[c], self.high[c]);
        }
        if let Some((flat, contrast)) = &self.flat {
            let off = (0..pixel.len()).map(|c| (colour[c] - flat[c]).abs()).fold(0.0, f32::max);
            let share = (2.0 - off / (CLOSE * contrast)).clamp(0.0, 1.0);
            (0..pixel.len()).for_each(|c| colour[c] += share * (flat[c] - colour[c]));
        }
        pixel.iter_mut().zip(colour).for_each(|(sample, value)| *sample = T::from_float(value));
    }
}

/// Some rows of the source with [`HALO`] more on both sides, where its outermost rows are repeated.
struct Area {
    width: usize,
    colours: usize,
    values: Vec<f32>,
    /// Pixels that are one colour with their neighbours, and not near a slow change.
    flat: Vec<bool>,
    /// Those, and what is around them in the same colour.
    known: Vec<bool>,
    /// Those and all their neighbours.
    near: Vec<bool>,
}

impl Area {
    /// `None` if nothing is flat there.
    fn of(source: &Picture, top: usize, rows: usize, colours: usize) -> Option<Self> {
        let (width, height) = (source.width as usize, source.height as usize);
        let values =
            (top..top + rows + 2 * HALO).flat_map(|y| read_colours(source, y.saturating_sub(HALO).min(height - 1)));
        let mut area =
            Self { width, colours, values: values.collect(), flat: Vec::new(), known: Vec::new(), near: Vec::new() };
        let height = rows + 2 * HALO;
        let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let mut flat: Vec<bool> = places().map(|(x, y)| area.is_flat(x, y)).collect();
        if !flat.contains(&true) {
            return None;
        }
        let slow: Vec<bool> = places().zip(&flat).map(|((x, y), flat)| !flat && area.is_slow(x, y)).collect();
        let slow = grown(&slow, width, REACH);
        flat.iter_mut().zip(&slow).for_each(|(flat, slow)| *flat &= !slow);
        area.known = flat.clone();
        (0..SPREAD).for_each(|_| area.spread(&slow));
        area.near = grown(&area.known, width, 1);
        area.flat = flat;
        Some(area)
    }

    fn pixel(&self, x: usize, y: usize) -> &[f32] {
        &self.values[(y * self.width + x) * self.colours..][..self.colours]
    }

    /// Places of the pixels up to `reach` away, those that are inside.
    fn around(&self, x: usize, y: usize, reach: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let height = self.values.len() / self.colours / self.width;
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(self.width);
        (y.saturating_sub(reach)..(y + reach + 1).min(height)).flat_map(move |y| columns.clone().map(move |x| (x, y)))
    }

    fn is_flat(&self, x: usize, y: usize) -> bool {
        let colour = self.pixel(x, y);
        self.around(x, y, 1).all(|(x, y)| self.pixel(x, y) == colour)
    }

    /// Whether a pixel that is not flat lies on a slow change.
    fn is_slow(&self, x: usize, y: usize) -> bool {
        let (mut low, mut high) = ([f32::MAX; 3], [f32::MIN; 3]);
        self.around(x, y, SLOW_REACH).all(|(x, y)| {
            widen(&mut low, &mut high, self.pixel(x, y));
            (0..self.colours).all(|c| high[c] - low[c] <= SLOW)
        })
    }

    /// Pixels whose neighbours are known are so too if they have the same colour and are not `slow`.
    fn spread(&mut self, slow: &[bool]) {
        let near = grown(&self.known, self.width, 1);
        let more = (0..near.len()).filter(|&i| near[i] && !self.known[i] && !slow[i]).filter(|&i| {
            let (x, y) = (i % self.width, i / self.width);
            let same =
                |(other, row)| self.known[row * self.width + other] && self.pixel(other, row) == self.pixel(x, y);
            self.around(x, y, 1).any(same)
        });
        let more: Vec<usize> = more.collect();
        more.into_iter().for_each(|i| self.known[i] = true);
    }

    /// Those pixels of a row, from `left` on, that demand something.
    fn limits(&self, y: usize, left: usize, count: usize) -> Vec<(usize, Limits)> {
        let near = |x: &usize| self.near[y * self.width + left + x];
        (0..count).filter(near).map(|x| (x, self.limits_at(left + x, y))).collect()
    }

    fn limits_at(&self, x: usize, y: usize) -> Limits {
        let mut own = [0.0; 3];
        own[..self.colours].copy_from_slice(self.pixel(x, y));
        let i = y * self.width + x;
        if self.flat[i] {
            return Limits { low: own, high: own, flat: None };
        }
        let (mut low, mut high) = ([f32::MAX; 3], [f32::MIN; 3]);
        let (mut known_low, mut known_high) = (low, high);
        for (x, y) in self.around(x, y, 1) {
            widen(&mut low, &mut high, self.pixel(x, y));
            if self.known[y * self.width + x] {
                widen(&mut known_low, &mut known_high, self.pixel(x, y));
            }
        }
        let contrast = (0..self.colours).map(|c| (high[c] - own[c]).max(own[c] - low[c])).fold(0.0, f32::max);
        for c in 0..self.colours {
            // What is darkest or lightest around, and not flat, may be a thin stroke: the result's may be more so.
            if known_low[c] > low[c] {
                low[c] = 0.0;
            }
            if known_high[c] < high[c] {
                high[c] = 1.0;
            }
        }
        Limits { low, high, flat: (self.known[i] && contrast > 0.0).then_some((own, contrast)) }
    }
}

fn widen(low: &mut [f32; 3], high: &mut [f32; 3], pixel: &[f32]) {
    for (c, &value) in pixel.iter().enumerate() {
        low[c] = low[c].min(value);
        high[c] = high[c].max(value);
    }
}

/// A mask, and what is up to `reach` away from it across, down or both.
fn grown(mask: &[bool], width: usize, reach: usize) -> Vec<bool> {
    let height = mask.len() / width;
    let mut across = vec![false; mask.len()];
    for (to, row) in across.chunks_exact_mut(width).zip(mask.chunks_exact(width)) {
        for x in (0..width).filter(|&x| row[x]) {
            to[x.saturating_sub(reach)..(x + reach + 1).min(width)].fill(true);
        }
    }
    let mut both = vec![false; mask.len()];
    for (y, to) in both.chunks_exact_mut(width).enumerate() {
        for row in across[y.saturating_sub(reach) * width..(y + reach + 1).min(height) * width].chunks_exact(width) {
            to.iter_mut().zip(row).for_each(|(to, &set)| *to |= set);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Limits, Metadata, Samples};

    use super::*;
    use crate::resize::{Resampling, resize};

    fn grey(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Picture {
        let samples = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect();
        Picture {
            width,
            height,
            channels: Channels::Gray,
            samples: Samples::U8(samples),
            metadata: Metadata::default(),
        }
    }

    /// The source enlarged by a cubic, before and behind the filter.
    fn settled(source: &Picture, width: u32, height: u32) -> (Samples, Samples) {
        let mut picture = resize(source, width, height, Resampling::Lanczos3).expect("there is room");
        let before = picture.samples.clone();
        settle(&mut picture, View::of(source));
        (before, picture.samples)
    }

    #[test]
    fn photographs_without_flat_areas_are_left_bit_for_bit() {
        for name in ["stream.jpg", "friends.jpg"] {
            let path = format!("{}/../../samples/{name}", env!("CARGO_MANIFEST_DIR"));
            let bytes = std::fs::read(path).expect("a sample");
            let source = enlarger_image::decode(&bytes, &Limits::default()).expect("a picture").picture;
            let (before, behind) = settled(&source, source.width * 2, source.height * 3);
            assert!(before == behind, "{name}");
        }
    }

    #[test]
    fn blocks_of_jpeg_and_banded_skies_are_left_to_the_network() {
        let blocks = grey(64, 64, |x, y| (100 + x / 8 * 3 + y / 8 * 10) as u8);
        let steps = grey(64, 64, |_, y| (100 + y / 5) as u8);
        for source in [blocks, steps] {
            let (before, behind) = settled(&source, 128, 192);
            assert!(before == behind);
        }
    }

    #[test]
    fn shapes_are_flat_up_to_their_edges_and_thin_strokes_keep_theirs() {
        let source = grey(300, 300, |x, y| if x < 150 || y == 20 { 40 } else { 200 });
        let (before, behind) = settled(&source, 900, 411);
        let (Samples::U8(before), Samples::U8(behind)) = (before, behind) else { unreachable!("it has 8 bits") };
        assert!(before.iter().any(|v| !(40..=200).contains(v)), "the cubic rings");
        let mut edge = 0;
        for (i, (before, behind)) in before.iter().zip(&behind).enumerate() {
            let (x, y) = (i % 900, i / 900);
            if x < 450 - 2 || x >= 450 + 2 && !(24..34).contains(&y) {
                assert_eq!(*behind, if x < 450 { 40 } else { 200 }, "at {x}, {y}");
            } else if x > 460 && (27..29).contains(&y) {
                assert_eq!(before, behind, "the stroke at {x}, {y}");
                edge += 1;
            }
        }
        assert!(edge > 0);
    }

    #[test]
    fn every_pixel_of_a_result_lies_in_one_of_the_source() {
        for (from, to) in [(1, 1), (1, 16), (7, 7), (7, 12), (300, 411), (640, 10_240)] {
            let cells = cells(from, to);
            assert_eq!((cells.len(), cells[0].start, cells[from as usize - 1].end), (from as usize, 0, to as usize));
            for (i, cell) in cells.iter().enumerate() {
                assert!(i == 0 || cells[i - 1].end == cell.start);
                for x in cell.clone() {
                    assert_eq!((2 * x as u64 + 1) * u64::from(from) / (2 * u64::from(to)), i as u64, "{from} to {to}");
                }
            }
        }
    }
}
