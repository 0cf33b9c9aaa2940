//! Between a [`Picture`]'s interleaved samples and a network's RGB floats, tile by tile.

use std::sync::Mutex;

use enlarger_image::{Channels, Picture, Samples};
use enlarger_nn::{Sink, Source};

/// Which of a picture's channels a network sees and makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Grey or RGB.
    Colour,
    /// Alpha, shown to the network as grey.
    Alpha,
}

/// A picture as a network's input.
pub struct PictureSource<'a> {
    picture: &'a Picture,
    plane: Plane,
}

impl<'a> PictureSource<'a> {
    /// Shows one plane of a picture.
    pub fn new(picture: &'a Picture, plane: Plane) -> Self {
        Self { picture, plane }
    }
}

impl Source for PictureSource<'_> {
    fn width(&self) -> u32 {
        self.picture.width
    }

    fn height(&self) -> u32 {
        self.picture.height
    }

    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        let n = self.picture.channels.count();
        let stride = self.picture.width as usize * n;
        let channels = channel_map(self.picture.channels, self.plane);
        for (row, out) in rgb.chunks_exact_mut(w as usize * 3).take(h as usize).enumerate() {
            let start = (y as usize + row) * stride + x as usize * n;
            let range = start..start + w as usize * n;
            match &self.picture.samples {
                Samples::U8(s) => spread(&s[range], n, channels, out, |v| f32::from(v) * (1.0 / 255.0)),
                Samples::U16(s) => spread(&s[range], n, channels, out, |v| f32::from(v) * (1.0 / 65535.0)),
            }
        }
    }
}

/// Index of the red, green and blue sample within a pixel, as the network is to see them.
fn channel_map(channels: Channels, plane: Plane) -> [usize; 3] {
    match (plane, channels.count()) {
        (Plane::Colour, 3 | 4) => [0, 1, 2],
        (Plane::Colour, _) => [0; 3],
        (Plane::Alpha, n) => [n - 1; 3],
    }
}

fn spread<T: Copy>(samples: &[T], n: usize, map: [usize; 3], out: &mut [f32], to_float: impl Fn(T) -> f32) {
    for (pixel, rgb) in samples.chunks_exact(n).zip(out.chunks_exact_mut(3)) {
        for (value, &channel) in rgb.iter_mut().zip(&map) {
            *value = to_float(pixel[channel]);
        }
    }
}

/// A picture in the making: tiles arrive in any order, from any thread.
pub struct Canvas {
    width: u32,
    channels: Channels,
    picture: Mutex<Picture>,
}

impl Canvas {
    /// A black canvas, opaque until alpha is written.
    pub fn new(width: u32, height: u32, like: &Picture, bits: u8) -> Self {
        let channels = like.channels;
        let count = width as usize * height as usize * channels.count();
        let samples = match bits {
            8 => Samples::U8(vec![0; count]),
            _ => Samples::U16(vec![0; count]),
        };
        let picture = Picture { width, height, channels, samples, metadata: like.metadata.clone() };
        Self { width, channels, picture: Mutex::new(picture) }
    }

    /// The finished picture.
    pub fn into_picture(self) -> Picture {
        self.picture.into_inner().expect("no writer panicked")
    }

    /// A sink for one plane, reducing each tile by 2 if `halve`.
    pub fn sink(&self, plane: Plane, halve: bool) -> CanvasSink<'_> {
        CanvasSink { canvas: self, plane, halve, share: 1.0 }
    }

    /// Lays a tile of RGB floats down: converts outside the lock, copies inside. Below a share of 1, what is there already
    /// keeps the rest.
    fn lay(&self, plane: Plane, share: f32, x: u32, y: u32, w: u32, rgb: &[f32]) {
        let eight = matches!(self.picture.lock().expect("no writer panicked").samples, Samples::U8(_));
        if eight {
            let tile = self.quantise(plane, rgb, |v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
            let mix = |old: u8, new: u8| (f32::from(old) + share * (f32::from(new) - f32::from(old)) + 0.5) as u8;
            self.copy(plane, (x, y), w, &tile, (share < 1.0).then_some(mix), |samples| match samples {
                Samples::U8(s) => s,
                Samples::U16(_) => unreachable!("a canvas keeps its depth"),
            });
        } else {
            let tile = self.quantise(plane, rgb, |v| (v.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16);
            let mix = |old: u16, new: u16| (f32::from(old) + share * (f32::from(new) - f32::from(old)) + 0.5) as u16;
            self.copy(plane, (x, y), w, &tile, (share < 1.0).then_some(mix), |samples| match samples {
                Samples::U16(s) => s,
                Samples::U8(_) => unreachable!("a canvas keeps its depth"),
            });
        }
    }

    /// Samples of one plane, interleaved: three for colour, one for grey and alpha. NaN becomes 0.
    fn quantise<T>(&self, plane: Plane, rgb: &[f32], to_sample: impl Fn(f32) -> T) -> Vec<T> {
        if self.written(plane).len() == 3 {
            return rgb.iter().map(|&v| to_sample(v)).collect();
        }
        // The three are one grey value seen three times; their mean has the least of the network's colour error.
        rgb.chunks_exact(3).map(|p| to_sample((p[0] + p[1] + p[2]) * (1.0 / 3.0))).collect()
    }

    /// Which samples of a pixel this plane writes.
    fn written(&self, plane: Plane) -> std::ops::Range<usize> {
        let n = self.channels.count();
        match plane {
            Plane::Colour => 0..if n >= 3 { 3 } else { 1 },
            Plane::Alpha => n - 1..n,
        }
    }

    fn copy<T: Copy>(
        &self,
        plane: Plane,
        (x, y): (u32, u32),
        w: u32,
        tile: &[T],
        mix: Option<impl Fn(T, T) -> T>,
        of: impl Fn(&mut Samples) -> &mut Vec<T>,
    ) {
        let (n, range) = (self.channels.count(), self.written(plane));
        let (w, m) = (w as usize, range.len());
        let mut picture = self.picture.lock().expect("no writer panicked");
        let samples = of(&mut picture.samples);
        for (row, values) in tile.chunks_exact(w * m).enumerate() {
            let start = ((y as usize + row) * self.width as usize + x as usize) * n;
            let line = &mut samples[start..start + w * n];
            if m == n && mix.is_none() {
                line.copy_from_slice(values);
                continue;
            }
            for (pixel, value) in line.chunks_exact_mut(n).zip(values.chunks_exact(m)) {
                for (old, &new) in pixel[range.clone()].iter_mut().zip(value) {
                    *old = mix.as_ref().map_or(new, |mix| mix(*old, new));
                }
            }
        }
    }
}

/// The door through which a network fills one plane of a [`Canvas`].
pub struct CanvasSink<'a> {
    canvas: &'a Canvas,
    plane: Plane,
    halve: bool,
    share: f32,
}

impl CanvasSink<'_> {
    /// Mixes into what is there: this share of what comes, 0..=1.
    pub fn mixing(self, share: f32) -> Self {
        Self { share, ..self }
    }

    /// The plane that it fills.
    pub fn plane(&self) -> Plane {
        self.plane
    }
}

impl Sink for CanvasSink<'_> {
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
