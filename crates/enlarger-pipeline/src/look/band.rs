//! A filter sees a picture in bands of rows: bounded memory whatever the picture's size, and one result whatever the
//! bands.

use enlarger_image::{Picture, Samples};
use rayon::prelude::*;

/// Luminance values held at once per buffer; a filter holds about ten such buffers.
const BAND_VALUES: usize = 1 << 20;

/// A horizontal part of a picture's luminance, with a margin above and below in which the picture's first and last row
/// are repeated where it ends.
pub(super) struct Band<'a> {
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

impl Band<'_> {
    /// The rows to be made, of a buffer that covers the margins too.
    pub fn inner<'b>(&self, buffer: &'b [f32]) -> &'b [f32] {
        &buffer[self.reach * self.width..(self.reach + self.rows) * self.width]
    }
}

/// Adds to each pixel what `delta` makes of the luminance around it: the same to red, green and blue, so that hue stays.
/// `delta` gives `rows * width` values; it must not look further than `reach` rows.
pub(super) fn add_to_luma(picture: &mut Picture, reach: usize, delta: impl Fn(&Band) -> Vec<f32>) {
    change_luma(picture, reach, delta, |colour, delta| add_within_range(colour, delta[0]));
}

/// The same for what is invented: less of it the more a colour is saturated. Strong paint has one colour near its end and
/// another near the other; on it networks make dotted lines of noise, and luminance alone looks like dirt.
pub(super) fn invent_in_luma(picture: &mut Picture, reach: usize, delta: impl Fn(&Band) -> Vec<f32>) {
    change_luma(picture, reach, delta, |colour, delta| {
        let saturation = highest(colour) - lowest(colour);
        add_within_range(colour, delta[0] * (1.0 - saturation * saturation));
    });
}

fn change_luma(
    picture: &mut Picture,
    reach: usize,
    delta: impl Fn(&Band) -> Vec<f32>,
    change: impl Fn(&mut [f32], &[f32]) + Sync,
) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let rows = (BAND_VALUES / width).max(2 * reach).clamp(1, height);
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
        let deltas = delta(&Band { width, y, rows, reach, luma: &luma });
        change_rows(picture, y, &deltas, 1, &change);
        // What the next band still needs: its own margin above.
        let keep = 2 * reach * width;
        luma.drain(..luma.len() - keep);
    }
}

/// Changes the colours of whole rows from `y` on. `values` has `per_pixel` values for each pixel; `change` gets them and
/// the pixel's red, green and blue (or grey, alone) in 0..=1.
pub(super) fn change_rows(
    picture: &mut Picture,
    y: usize,
    values: &[f32],
    per_pixel: usize,
    change: impl Fn(&mut [f32], &[f32]) + Sync,
) {
    let (width, n) = (picture.width as usize, picture.channels.count());
    let colours = if n < 3 { 1 } else { 3 };
    let line = width * n;
    match &mut picture.samples {
        Samples::U8(s) => s[y * line..]
            .par_chunks_exact_mut(line)
            .zip(values.par_chunks_exact(width * per_pixel))
            .for_each(|(row, values)| {
                for (pixel, v) in row.chunks_exact_mut(n).zip(values.chunks_exact(per_pixel)) {
                    let mut colour = [0.0; 3];
                    (0..colours).for_each(|c| colour[c] = f32::from(pixel[c]) * (1.0 / 255.0));
                    change(&mut colour[..colours], v);
                    (0..colours).for_each(|c| pixel[c] = (colour[c].clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
                }
            }),
        Samples::U16(s) => s[y * line..]
            .par_chunks_exact_mut(line)
            .zip(values.par_chunks_exact(width * per_pixel))
            .for_each(|(row, values)| {
                for (pixel, v) in row.chunks_exact_mut(n).zip(values.chunks_exact(per_pixel)) {
                    let mut colour = [0.0; 3];
                    (0..colours).for_each(|c| colour[c] = f32::from(pixel[c]) * (1.0 / 65535.0));
                    change(&mut colour[..colours], v);
                    (0..colours).for_each(|c| pixel[c] = (colour[c].clamp(0.0, 1.0) * 65535.0 + 0.5) as u16);
                }
            }),
    }
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

/// One row of luminance (BT.601 weights on encoded values), 0..=1.
pub(super) fn read_luma(picture: &Picture, row: usize, line: &mut [f32]) {
    let n = picture.channels.count();
    let range = row * picture.width as usize * n..(row + 1) * picture.width as usize * n;
    match &picture.samples {
        Samples::U8(s) => weigh(&s[range], n, line, |v| f32::from(v) * (1.0 / 255.0)),
        Samples::U16(s) => weigh(&s[range], n, line, |v| f32::from(v) * (1.0 / 65535.0)),
    }
}

fn weigh<T: Copy>(samples: &[T], n: usize, line: &mut [f32], float: impl Fn(T) -> f32) {
    for (pixel, value) in samples.chunks_exact(n).zip(line) {
        *value = match n {
            1 | 2 => float(pixel[0]),
            _ => 0.299 * float(pixel[0]) + 0.587 * float(pixel[1]) + 0.114 * float(pixel[2]),
        };
    }
}

/// One row of colours as RGB (grey thrice), 0..=1, interleaved.
pub(super) fn read_rgb(picture: &Picture, row: usize) -> Vec<f32> {
    let n = picture.channels.count();
    let range = row * picture.width as usize * n..(row + 1) * picture.width as usize * n;
    match &picture.samples {
        Samples::U8(s) => spread(&s[range], n, |v| f32::from(v) * (1.0 / 255.0)),
        Samples::U16(s) => spread(&s[range], n, |v| f32::from(v) * (1.0 / 65535.0)),
    }
}

fn spread<T: Copy>(samples: &[T], n: usize, float: impl Fn(T) -> f32) -> Vec<f32> {
    let pick = if n < 3 { [0; 3] } else { [0, 1, 2] };
    samples.chunks_exact(n).flat_map(|p| pick.map(|c| float(p[c]))).collect()
}
