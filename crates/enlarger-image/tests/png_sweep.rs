//! PNG files of every colour type, depth, interlacing and kind of transparency give the samples that went into them. The files
//! are made here, by the specification (PNG, third edition), without the decoder's libraries.

use std::io::Write;

use enlarger_image::{Limits, Samples, decode};
use flate2::{Compression, Crc, write::ZlibEncoder};
use rayon::prelude::*;

const GRAY: u8 = 0;
const RGB: u8 = 2;
const PALETTE: u8 = 3;
const GRAY_ALPHA: u8 = 4;
const RGBA: u8 = 6;

/// Colour types and their depths (section 11.2.1).
const TYPES: [(u8, &[u8]); 5] =
    [(GRAY, &[1, 2, 4, 8, 16]), (RGB, &[8, 16]), (PALETTE, &[1, 2, 4, 8]), (GRAY_ALPHA, &[8, 16]), (RGBA, &[8, 16])];

/// The last has all passes of Adam7, the others lack some.
const SIZES: [(usize, usize); 3] = [(1, 1), (3, 5), (37, 19)];

/// First column and row of each pass, and the steps to the next (section 8.1).
const ADAM7: [(usize, usize, usize, usize); 7] =
    [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];

#[derive(Debug, Clone, Copy)]
struct Form {
    colour: u8,
    depth: u8,
    transparent: bool,
    interlaced: bool,
    width: usize,
    height: usize,
}

impl Form {
    fn stored_channels(self) -> usize {
        match self.colour {
            GRAY | PALETTE => 1,
            GRAY_ALPHA => 2,
            RGB => 3,
            _ => 4,
        }
    }

    fn most(self) -> u16 {
        u16::MAX >> (16 - self.depth)
    }

    /// Colours of the palette: at small depths all that there can be, at 8 bits not all.
    fn colours(self) -> usize {
        usize::from(self.most()).min(200) + 1
    }

    /// The stored samples of a pixel.
    fn pixel(self, x: usize, y: usize) -> Vec<u16> {
        if self.transparent && (x + y).is_multiple_of(5) {
            return self.key();
        }
        // Pixels that differ from the transparent one in their last bit alone.
        if self.transparent && (x + y) % 5 == 1 {
            return self.key().into_iter().map(|v| v ^ 1).collect();
        }
        (0..self.stored_channels())
            .map(|c| {
                let value = x * 7919 + y * 104_729 + c * 31_337 + x * y * 613;
                match self.colour {
                    PALETTE => (value % self.colours()) as u16,
                    _ => value as u16 & self.most(),
                }
            })
            .collect()
    }

    /// The pixel that tRNS makes transparent.
    fn key(self) -> Vec<u16> {
        let value = if self.colour == PALETTE { 0 } else { 0xA5C3 & self.most() };
        vec![value; self.stored_channels()]
    }

    fn palette(self) -> Vec<[u8; 3]> {
        (0..self.colours()).map(|i| [i * 37 + 5, i * 91 + 3, 255 - i].map(|v| v as u8)).collect()
    }

    /// Alpha of the palette's first colours; the others are opaque (section 11.3.1.1).
    fn alphas(self) -> Vec<u8> {
        (0..self.colours().div_ceil(2)).map(|i| (i * 67) as u8).collect()
    }

    /// What tRNS holds.
    fn transparency(self) -> Vec<u8> {
        match self.colour {
            PALETTE => self.alphas(),
            _ => self.key().iter().flat_map(|v| v.to_be_bytes()).collect(),
        }
    }

    /// What a decoder has to make of a pixel: 8 or 16 bits, grey or RGB, alpha if there is any.
    fn expected(self, x: usize, y: usize) -> Vec<u16> {
        let mut pixel = self.pixel(x, y);
        if self.colour == PALETTE {
            let index = usize::from(pixel[0]);
            let alpha = self.transparent.then(|| self.alphas().get(index).copied().unwrap_or(255));
            return self.palette()[index].into_iter().chain(alpha).map(u16::from).collect();
        }
        let opaque = if self.depth == 16 { u16::MAX } else { 255 };
        let alpha = self.transparent.then(|| if pixel == self.key() { 0 } else { opaque });
        // The factors 255, 85, 17 and 1 are whole.
        pixel.iter_mut().for_each(|v| *v *= opaque / self.most());
        pixel.into_iter().chain(alpha).collect()
    }

    fn file(self) -> Vec<u8> {
        let mut header = [(self.width as u32).to_be_bytes(), (self.height as u32).to_be_bytes()].concat();
        header.extend([self.depth, self.colour, 0, 0, self.interlaced.into()]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut file, b"IHDR", &header);
        if self.colour == PALETTE {
            chunk(&mut file, b"PLTE", self.palette().as_flattened());
        }
        if self.transparent {
            chunk(&mut file, b"tRNS", &self.transparency());
        }
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        let passes = if self.interlaced { &ADAM7[..] } else { &[(0, 0, 1, 1)] };
        for &pass in passes {
            deflated.write_all(&self.filtered(pass)).expect("memory");
        }
        // Pixels may be cut into chunks anywhere.
        for part in deflated.finish().expect("memory").chunks(101) {
            chunk(&mut file, b"IDAT", part);
        }
        chunk(&mut file, b"IEND", &[]);
        file
    }

    /// The rows of a pass, one filter after the other (section 9.2).
    fn filtered(self, (left, top, across, down): (usize, usize, usize, usize)) -> Vec<u8> {
        let mut out = Vec::new();
        // A pass without columns has no rows either.
        if left >= self.width {
            return out;
        }
        let step = (self.stored_channels() * usize::from(self.depth)).div_ceil(8);
        let mut above = Vec::new();
        for (i, y) in (top..self.height).step_by(down).enumerate() {
            let row = self.packed((left..self.width).step_by(across).flat_map(|x| self.pixel(x, y)));
            above.resize(row.len(), 0u8);
            let filter = (i % 5) as u8;
            out.push(filter);
            for (i, &byte) in row.iter().enumerate() {
                let up = above[i];
                let (before, before_up) = i.checked_sub(step).map_or((0, 0), |at| (row[at], above[at]));
                let guess = match filter {
                    0 => 0,
                    1 => before,
                    2 => up,
                    3 => ((u16::from(before) + u16::from(up)) / 2) as u8,
                    _ => paeth(before, up, before_up),
                };
                out.push(byte.wrapping_sub(guess));
            }
            above = row;
        }
        out
    }

    /// Samples as bytes, the first in the highest bits.
    fn packed(self, samples: impl Iterator<Item = u16>) -> Vec<u8> {
        if self.depth == 16 {
            return samples.flat_map(u16::to_be_bytes).collect();
        }
        let samples: Vec<u16> = samples.collect();
        let join = |byte: &[u16]| {
            let at = |i: usize| 8 - usize::from(self.depth) * (i + 1);
            byte.iter().enumerate().fold(0, |sum, (i, &v)| sum | (v as u8) << at(i))
        };
        samples.chunks(8 / usize::from(self.depth)).map(join).collect()
    }
}

/// Section 9.4.
fn paeth(before: u8, up: u8, before_up: u8) -> u8 {
    let distance = |v: u8| (i16::from(before) + i16::from(up) - i16::from(before_up) - i16::from(v)).abs();
    [before, up, before_up].into_iter().min_by_key(|&v| distance(v)).expect("three")
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let mut sum = Crc::new();
    sum.update(kind);
    sum.update(data);
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(sum.sum().to_be_bytes());
}

#[test]
fn every_form_of_png_gives_the_samples_that_went_in() {
    let mut forms = Vec::new();
    for (colour, depths) in TYPES {
        for &depth in depths {
            for transparent in [false, true] {
                if transparent && matches!(colour, GRAY_ALPHA | RGBA) {
                    continue;
                }
                for interlaced in [false, true] {
                    for (width, height) in SIZES {
                        forms.push(Form { colour, depth, transparent, interlaced, width, height });
                    }
                }
            }
        }
    }
    assert_eq!(forms.len(), 156);
    forms.into_par_iter().for_each(|form| {
        let decoded = decode(&form.file(), &Limits::default()).unwrap_or_else(|e| panic!("{form:?}: {e}"));
        let places = (0..form.height).flat_map(|y| (0..form.width).map(move |x| (x, y)));
        let expected: Vec<u16> = places.flat_map(|(x, y)| form.expected(x, y)).collect();
        let picture = decoded.picture;
        assert_eq!((picture.width as usize, picture.height as usize), (form.width, form.height), "{form:?}");
        let samples = match picture.samples {
            Samples::U16(samples) if form.depth == 16 => samples,
            Samples::U8(samples) if form.depth <= 8 => samples.into_iter().map(u16::from).collect(),
            _ => panic!("{form:?}: another depth"),
        };
        let channels = expected.len() / (form.width * form.height);
        assert_eq!(picture.channels.count(), channels, "{form:?}");
        assert!(samples == expected, "{form:?}");
        assert_eq!(decoded.notes, [""; 0], "{form:?}");
    });
}
