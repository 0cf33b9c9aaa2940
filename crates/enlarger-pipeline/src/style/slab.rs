//! A filter sees a picture in slabs of rows: memory is bounded for any size, and the result does not depend on the
//! slabs.

use std::ops::Range;

use enlarger_image::{Picture, Sample, with_samples};
use rayon::prelude::*;

use crate::sample::read_luma;

/// Luminance values held at once per buffer; a filter holds about ten such buffers.
const SLAB_VALUES: usize = 1 << 20;

/// A horizontal part of a picture's luminance, with a margin above and below in which the picture's first and last row
/// are repeated where it ends.
pub(super) struct Slab<'a> {
    /// Pixels across: the picture's width.
    pub width: usize,
    /// The first row to be made, in the picture.
    pub y: usize,
    /// Rows to be made.
    pub rows: usize,
    /// Rows of margin above, and below.
    pub reach: usize,
    /// `rows + 2 * reach` rows of luminance in 0..=1.
    pub luma: &'a [f32],
}

impl Slab<'_> {
    /// The rows to be made, of a buffer that covers the margins too.
    pub fn inner<'b>(&self, buffer: &'b [f32]) -> &'b [f32] {
        &buffer[self.reach * self.width..(self.reach + self.rows) * self.width]
    }
}

/// Adds to each pixel what `delta` makes of the luminance around it: the same to red, green and blue, so that hue stays.
/// `delta` gives `rows * width` values; it must not look further than `reach` rows.
pub(super) fn add_to_luma(picture: &mut Picture, reach: usize, delta: impl Fn(&Slab) -> Vec<f32>) {
    change_luma(picture, reach, delta, add_within_range);
}

/// The same for added detail, which is weaker the more a colour is saturated. Strong paint has one colour near its end
/// and another near the other; on it networks make dotted lines of noise, and luminance alone looks like dirt.
pub(super) fn invent_in_luma(picture: &mut Picture, reach: usize, delta: impl Fn(&Slab) -> Vec<f32>) {
    change_luma(picture, reach, delta, |colour, delta| {
        let saturation = highest(colour) - lowest(colour);
        add_within_range(colour, delta * (1.0 - saturation * saturation));
    });
}

fn change_luma(
    picture: &mut Picture,
    reach: usize,
    delta: impl Fn(&Slab) -> Vec<f32>,
    change: impl Fn(&mut [f32], f32) + Sync,
) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let rows = (SLAB_VALUES / width).max(2 * reach).clamp(1, height);
    let reach_i = reach as i64;
    // Rows first..last of luminance, from before anything was written over them.
    let (mut luma, mut last) = (Vec::new(), -reach_i);
    for y in (0..height).step_by(rows) {
        let rows = rows.min(height - y);
        let end = (y + rows) as i64 + reach_i;
        let more: Vec<usize> = (last..end).map(|row| row.clamp(0, height as i64 - 1) as usize).collect();
        let start = luma.len();
        luma.resize(start + more.len() * width, 0.0);
        let source = &*picture;
        luma[start..].par_chunks_mut(width).zip(more).for_each(|(line, row)| read_luma(source, row, line));
        last = end;
        let deltas = delta(&Slab { width, y, rows, reach, luma: &luma });
        change_rows(picture, y..y + rows, |row, line| {
            let deltas = &deltas[(row - y) * width..][..width];
            for (pixel, &delta) in line.chunks_exact_mut(line.len() / width).zip(deltas) {
                change(pixel, delta);
            }
        });
        // What the next slab still needs: its own margin above.
        let keep = 2 * reach * width;
        luma.drain(..luma.len() - keep);
    }
}

/// Colours of a pixel: 1 or 3.
pub(super) fn colours(picture: &Picture) -> usize {
    picture.channels.colours()
}

/// Changes the colours of whole rows, in parallel. `change` gets a row's number and its colours in 0..=1.
pub(super) fn change_rows(picture: &mut Picture, rows: Range<usize>, change: impl Fn(usize, &mut [f32]) + Sync) {
    fn all<T: Sample>(
        samples: &mut [T],
        line: usize,
        [n, colours]: [usize; 2],
        top: usize,
        change: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        samples.par_chunks_exact_mut(line).enumerate().for_each_init(
            || vec![0.0; line / n * colours],
            |values, (row, samples)| {
                if n == colours {
                    values.iter_mut().zip(&*samples).for_each(|(value, sample)| *value = sample.to_float());
                    change(top + row, values);
                    samples.iter_mut().zip(&*values).for_each(|(sample, &value)| *sample = T::from_float(value));
                } else {
                    let pixels = samples.chunks_exact(n).flat_map(|pixel| &pixel[..colours]);
                    values.iter_mut().zip(pixels).for_each(|(value, sample)| *value = sample.to_float());
                    change(top + row, values);
                    let pixels = samples.chunks_exact_mut(n).flat_map(|pixel| &mut pixel[..colours]);
                    pixels.zip(&*values).for_each(|(sample, &value)| *sample = T::from_float(value));
                }
            },
        );
    }
    let (n, colours) = (picture.channels.count(), colours(picture));
    let line = picture.width as usize * n;
    let range = rows.start * line..rows.end * line;
    with_samples!(&mut picture.samples, s => all(&mut s[range], line, [n, colours], rows.start, change));
}

/// Adds to all colours alike, slowing down where one of them comes near its end: clipping one colour shifts hue, and a
/// hard stop shows as a flat patch.
fn add_within_range(colour: &mut [f32], delta: f32) {
    let room = if delta > 0.0 { 1.0 - highest(colour) } else { lowest(colour) };
    if room > 0.0 {
        let delta = room * (delta / room).tanh();
        colour.iter_mut().for_each(|c| *c += delta);
    }
}

fn highest(colour: &[f32]) -> f32 {
    colour.iter().copied().fold(0.0, f32::max)
}

fn lowest(colour: &[f32]) -> f32 {
    colour.iter().copied().fold(1.0, f32::min)
}

/// One row of colours, 0..=1, interleaved.
pub(super) fn read_colours(picture: &Picture, row: usize) -> Vec<f32> {
    fn read<T: Sample>(samples: &[T], n: usize, colours: usize) -> Vec<f32> {
        samples.chunks_exact(n).flat_map(|pixel| pixel[..colours].iter().map(|c| c.to_float())).collect()
    }
    let n = picture.channels.count();
    let range = row * picture.width as usize * n..(row + 1) * picture.width as usize * n;
    with_samples!(&picture.samples, s => read(&s[range], n, colours(picture)))
}
