//! Between a [`Picture`]'s interleaved samples and a network's RGB floats, part by part.

use std::{ops::Range, sync::Mutex};

use enlarger_image::{Channels, Picture, Sample, Samples, with_samples};
use enlarger_nn::{Sink, Source};

use crate::{request::Crop, sample::from_floats};

/// Which of a picture's channels a network sees and makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Grey or RGB.
    Colour,
    /// Alpha, shown to the network as grey.
    Alpha,
}

/// A part of a picture.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// Where the part lies.
    pub part: Crop,
}

impl<'a> View<'a> {
    /// All of a picture.
    pub fn of(picture: &'a Picture) -> Self {
        Self { picture, part: Crop { x: 0, y: 0, width: picture.width, height: picture.height } }
    }
}

/// A part of a picture as a network's input, with a margin around it: a network treats what lies beyond its input as
/// black, and draws the edge that it sees there.
pub struct PictureSource<'a> {
    seen: View<'a>,
    margin: u32,
    plane: Plane,
}

impl<'a> PictureSource<'a> {
    /// Shows one plane of a part of a picture with `margin` pixels on each side, which are the picture's own as far as it goes,
    /// then mirrored.
    pub fn new(seen: View<'a>, margin: u32, plane: Plane) -> Self {
        Self { seen, margin, plane }
    }
}

impl Source for PictureSource<'_> {
    fn width(&self) -> u32 {
        self.seen.part.width + 2 * self.margin
    }

    fn height(&self) -> u32 {
        self.seen.part.height + 2 * self.margin
    }

    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        let Self { seen: View { picture, part }, margin, plane } = *self;
        let n = picture.channels.count();
        let row = picture.width as usize * n;
        let channels = channel_map(picture.channels, plane);
        let columns: Vec<usize> =
            (x..x + w).map(|x| mirrored(part.x + x, margin, picture.width) as usize * n).collect();
        for (y, out) in (y..y + h).zip(rgb.chunks_exact_mut(w as usize * 3)) {
            let start = mirrored(part.y + y, margin, picture.height) as usize * row;
            with_samples!(&picture.samples, s => spread(&s[start..start + row], &columns, channels, out));
        }
    }
}

/// The pixel of a side that is seen at a place, which is counted from `margin` pixels before the side. The outermost pixel comes
/// twice (half-sample symmetry): 14 clean photos of 112 x 80 pixels are 1.3 SSIMULACRA2 nearer to the truth than if it came once
/// (docs/reference/quality.md).
fn mirrored(place: u32, margin: u32, side: u32) -> u32 {
    let at = if place < margin { margin - 1 - place } else { place - margin };
    if at < side { at } else { (2 * side - 1).saturating_sub(at) }
}

/// Index of the red, green and blue sample within a pixel, as the network is to see them.
fn channel_map(channels: Channels, plane: Plane) -> [usize; 3] {
    match (plane, channels.count()) {
        (Plane::Colour, 3 | 4) => [0, 1, 2],
        (Plane::Colour, _) => [0; 3],
        (Plane::Alpha, n) => [n - 1; 3],
    }
}

/// The pixels that start at some places of a row of samples.
fn spread<T: Sample>(row: &[T], starts: &[usize], map: [usize; 3], out: &mut [f32]) {
    for (start, rgb) in starts.iter().zip(out.chunks_exact_mut(3)) {
        for (value, &channel) in rgb.iter_mut().zip(&map) {
            *value = row[start + channel].to_float();
        }
    }
}

/// A picture under construction: parts arrive in any order, from any thread. Each row has its own lock, so that threads
/// do not wait for each other.
pub struct Canvas<'a> {
    channels: Channels,
    margin: usize,
    rows: Rows<'a>,
}

enum Rows<'a> {
    U8(Vec<Mutex<&'a mut [u8]>>),
    U16(Vec<Mutex<&'a mut [u16]>>),
}

impl<'a> Canvas<'a> {
    /// Writes to a picture. Arriving parts have `margin` more pixels on each side, which are dropped.
    pub fn new(picture: &'a mut Picture, margin: u32) -> Self {
        fn rows<T>(samples: &mut [T], row: usize) -> Vec<Mutex<&mut [T]>> {
            samples.chunks_exact_mut(row).map(Mutex::new).collect()
        }
        let channels = picture.channels;
        let row = picture.width as usize * channels.count();
        let rows = match &mut picture.samples {
            Samples::U8(s) => Rows::U8(rows(s, row)),
            Samples::U16(s) => Rows::U16(rows(s, row)),
        };
        Self { channels, margin: margin as usize, rows }
    }

    /// A sink for one plane, reducing each part by 2 if `halve`.
    pub fn sink(&self, plane: Plane, halve: bool) -> CanvasSink<'_, 'a> {
        CanvasSink { canvas: self, plane, halve, share: 1.0 }
    }

    /// Writes `w` columns of RGB floats. With a share below 1, existing values keep the rest.
    fn lay(&self, plane: Plane, share: f32, x: u32, y: u32, w: u32, rgb: &[f32]) {
        let n = self.channels.count();
        let written = match plane {
            Plane::Colour => 0..self.channels.colours(),
            Plane::Alpha => n - 1..n,
        };
        let (x, y, w) = (x as usize, y as usize, w as usize);
        let above = self.margin.saturating_sub(y).min(rgb.len() / (3 * w));
        let place = Place { n, written, share, x, w, margin: self.margin };
        let (top, rgb) = ((y + above).saturating_sub(self.margin), &rgb[above * w * 3..]);
        match &self.rows {
            Rows::U8(rows) => place.lay(rows.get(top..).unwrap_or_default(), rgb),
            Rows::U16(rows) => place.lay(rows.get(top..).unwrap_or_default(), rgb),
        }
    }
}

/// Where in some rows a plane's values go.
struct Place {
    /// Samples per pixel.
    n: usize,
    /// Those of them that are written.
    written: Range<usize>,
    share: f32,
    /// The first column, counted from the margin's.
    x: usize,
    w: usize,
    /// Columns before the rows' first, and behind their last, which are dropped.
    margin: usize,
}

impl Place {
    fn lay<T: Sample>(&self, rows: &[Mutex<&mut [T]>], rgb: &[f32]) {
        for (row, rgb) in rows.iter().zip(rgb.chunks_exact(self.w * 3)) {
            let mut row = row.lock().expect("no writer panicked");
            let inside = |x: usize| x.saturating_sub(self.margin).min(row.len() / self.n);
            let (start, end) = (inside(self.x), inside(self.x + self.w));
            let rgb = &rgb[(start + self.margin).saturating_sub(self.x).min(self.w) * 3..];
            let rgb = &rgb[..(end - start) * 3];
            let row = &mut row[start * self.n..end * self.n];
            if self.n == 3 && self.share == 1.0 {
                from_floats(rgb, row);
                continue;
            }
            let put = |sample: &mut T, value: f32| {
                let new = T::from_float(value);
                *sample = if self.share < 1.0 { sample.mixed(new, self.share) } else { new };
            };
            for (pixel, rgb) in row.chunks_exact_mut(self.n).zip(rgb.chunks_exact(3)) {
                match &mut pixel[self.written.clone()] {
                    // The three are one grey value seen three times; their mean has the least of the network's colour
                    // error.
                    [grey] => put(grey, (rgb[0] + rgb[1] + rgb[2]) * (1.0 / 3.0)),
                    colours => colours.iter_mut().zip(rgb).for_each(|(sample, &value)| put(sample, value)),
                }
            }
        }
    }
}

/// The sink through which a network fills one plane of a [`Canvas`].
pub struct CanvasSink<'a, 'p> {
    canvas: &'a Canvas<'p>,
    plane: Plane,
    halve: bool,
    share: f32,
}

impl CanvasSink<'_, '_> {
    /// Share of new values when blending with existing ones, 0..=1.
    pub fn mixing(self, share: f32) -> Self {
        Self { share, ..self }
    }
}

impl Sink for CanvasSink<'_, '_> {
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        if self.halve {
            // Tiles of a 4x network start and end at multiples of 4, so halving needs no neighbours.
            self.canvas.lay(self.plane, self.share, x / 2, y / 2, w / 2, &halved(rgb, w as usize, h as usize));
        } else {
            self.canvas.lay(self.plane, self.share, x, y, w, rgb);
        }
    }
}

/// Half the size by averaging 2x2 pixels of interleaved RGB; `w` and `h` are even.
fn halved(rgb: &[f32], w: usize, h: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rgb.len() / 4);
    for y in 0..h / 2 {
        let (top, bottom) = (&rgb[2 * y * w * 3..], &rgb[(2 * y + 1) * w * 3..]);
        for x in 0..w / 2 {
            for c in 0..3 {
                let i = 6 * x + c;
                out.push(0.25 * (top[i] + top[i + 3] + bottom[i] + bottom[i + 3]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_border_a_picture_is_mirrored() {
        let seen: Vec<u32> = (0..12).map(|place| mirrored(place, 4, 5)).collect();
        assert_eq!(seen, [3, 2, 1, 0, 0, 1, 2, 3, 4, 4, 3, 2]);
        // Of a picture that is smaller than the margin, as far as it goes.
        assert!((0..9).all(|place| mirrored(place, 4, 1) == 0));
        assert_eq!((0..6).map(|place| mirrored(place, 2, 2)).collect::<Vec<_>>(), [1, 0, 0, 1, 1, 0]);
    }
}
