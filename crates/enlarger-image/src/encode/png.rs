//! PNG, in strips of rows that are compressed in parallel.

use std::{io::Write, ops::Range};

use fdeflate::Compressor;
use png::{
    BitDepth, ColorType, Info, PixelDimensions, Unit,
    chunk::{self, ChunkType},
    text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk},
};
use rayon::prelude::*;

use super::{
    EncodeOptions, failed,
    metadata::{SOFTWARE, Written},
};
use crate::{Channels, Format, ImageError, Picture, Samples, Text, iptc};

/// Bytes of a strip: enough that restarting compression costs nothing, and few enough that the strips of all threads
/// take little memory.
const STRIP: usize = 1 << 20;
/// Strips that are compressed before some are written, at least: after each lot, threads wait for the slowest.
const AT_ONCE: usize = 16;

pub(super) fn write<W: Write + Send>(
    picture: &Picture,
    options: &EncodeOptions,
    out: &mut W,
) -> Result<(), ImageError> {
    let encoder = png::Encoder::with_info(out, info(picture, options)).map_err(told)?;
    let mut writer = encoder.write_header().map_err(told)?;
    if let Some(cicp) = picture.metadata.cicp {
        writer.write_chunk(ChunkType(*b"cICP"), &cicp).map_err(told)?;
    }
    let lines = Lines::of(picture);
    let rows = (STRIP / lines.bytes).max(1);
    let height = picture.height as usize;
    let strips: Vec<_> = (0..height).step_by(rows).map(|y| y..(y + rows).min(height)).collect();
    let mut sum = Adler32::default();
    let mut deflated: Vec<Deflated> = Vec::new();
    // While some strips are written the next ones are compressed; after the last there are none.
    for next in strips.chunks(AT_ONCE.max(2 * rayon::current_num_threads())).chain([&[][..]]) {
        let write = || {
            for strip in &deflated {
                writer.write_chunk(chunk::IDAT, &strip.bytes).map_err(told)?;
                sum = sum.then(strip.sum, strip.length as u64);
            }
            Ok::<_, ImageError>(())
        };
        let deflate = || next.par_iter().map(|rows| Deflated::strip(&lines, rows.clone())).collect();
        let (written, next): (_, Result<_, ImageError>) = rayon::join(write, deflate);
        written?;
        deflated = next?;
    }
    writer.write_chunk(chunk::IDAT, &sum.0.to_be_bytes()).map_err(told)?;
    writer.finish().map_err(told)
}

/// Bytes before the first block of a zlib stream (RFC 1950).
const ZLIB_HEADER: usize = 2;

/// Some rows, compressed so that others can follow.
struct Deflated {
    /// A part of a zlib stream without its checksum. All but the last end with an empty stored block at a whole byte.
    bytes: Vec<u8>,
    sum: Adler32,
    /// Bytes that were compressed.
    length: usize,
}

impl Deflated {
    fn strip(lines: &Lines<'_>, rows: Range<usize>) -> Result<Self, ImageError> {
        let (first, last) = (rows.start == 0, rows.end == lines.picture.height as usize);
        let length = rows.len() * (1 + lines.bytes);
        let mut compressor = Compressor::new(Vec::with_capacity(length / 2))?;
        lines.filtered(rows, |line| compressor.write_data(line))?;
        let mut stream = compressor.finish()?;
        let end = stream.len() - size_of::<u32>();
        let sum = Adler32(u32::from_be_bytes(stream[end..].try_into().expect("four bytes are four bytes")));
        stream.truncate(end);
        if !last {
            // The compressor writes a single block: it is not the last any more (RFC 1951, 3.2.3).
            stream[ZLIB_HEADER] &= !1;
            // What ends a block has a 1 as its last bit, with this compressor's table. An empty stored block follows: three
            // zero bits, zeros to the next whole byte, its length of 0 and the complement of that. Zeros that fill the
            // byte already are its start, if there are three.
            if stream.last().is_some_and(|byte| byte.leading_zeros() < 3) {
                stream.push(0);
            }
            stream.extend([0, 0, 0xFF, 0xFF]);
        }
        if !first {
            // Only the first keeps the header of the whole stream.
            stream.drain(..ZLIB_HEADER);
        }
        Ok(Self { bytes: stream, sum, length })
    }
}

/// A picture's rows as a PNG has them.
struct Lines<'a> {
    picture: &'a Picture,
    /// Bytes of a row.
    bytes: usize,
    /// Bytes of a pixel.
    pixel: usize,
}

impl<'a> Lines<'a> {
    fn of(picture: &'a Picture) -> Self {
        let pixel = picture.channels.count() * usize::from(picture.samples.bits() / 8);
        Self { picture, bytes: picture.width as usize * pixel, pixel }
    }

    /// A row's samples, the high byte first.
    fn read(&self, y: usize, line: &mut [u8]) {
        let n = self.picture.width as usize * self.picture.channels.count();
        match &self.picture.samples {
            Samples::U8(samples) => line.copy_from_slice(&samples[y * n..][..n]),
            Samples::U16(samples) => line
                .chunks_exact_mut(2)
                .zip(&samples[y * n..][..n])
                .for_each(|(bytes, sample)| bytes.copy_from_slice(&sample.to_be_bytes())),
        }
    }

    /// Gives rows to `take`, each as the number of its filter and what that leaves of it: of all filters, the one that
    /// leaves the smallest sum of absolute differences (PNG specification, 12.7) of the first of some rows.
    fn filtered(&self, rows: Range<usize>, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        // One more pixel to the left is black, and one more row above.
        let mut above = vec![0; self.pixel + self.bytes];
        let mut line = above.clone();
        let mut best = vec![0; 1 + self.bytes];
        let mut other = best.clone();
        if rows.start > 0 {
            self.read(rows.start - 1, &mut above[self.pixel..]);
        }
        for (i, y) in rows.enumerate() {
            self.read(y, &mut line[self.pixel..]);
            let chosen = [best[0]];
            let mut least = u64::MAX;
            for &filter in if i.is_multiple_of(ALIKE) { &FILTERS[..] } else { &chosen[..] } {
                other[0] = filter;
                differences(filter, &line, &above, self.pixel, &mut other[1..]);
                let sum = magnitude(&other[1..]);
                if sum < least {
                    least = sum;
                    std::mem::swap(&mut best, &mut other);
                }
            }
            take(&best)?;
            std::mem::swap(&mut line, &mut above);
        }
        Ok(())
    }
}

/// The numbers of filters (PNG specification, 9.2).
const SUB: u8 = 1;
const UP: u8 = 2;
const AVERAGE: u8 = 3;
const PAETH: u8 = 4;
const FILTERS: [u8; 4] = [PAETH, AVERAGE, UP, SUB];
/// Rows that get the same filter: neighbours are alike, and trying all filters on each takes a tenth of the time.
const ALIKE: usize = 4;

/// What a filter leaves of a row. Both rows begin with one more pixel.
fn differences(filter: u8, line: &[u8], above: &[u8], pixel: usize, to: &mut [u8]) {
    fn less(line: &[u8], above: &[u8], pixel: usize, to: &mut [u8], expected: impl Fn(u8, u8, u8) -> u8) {
        let before = line.iter().zip(&above[pixel..]).zip(above);
        for ((to, value), ((&left, &above), &corner)) in to.iter_mut().zip(&line[pixel..]).zip(before) {
            *to = value.wrapping_sub(expected(left, above, corner));
        }
    }
    match filter {
        SUB => less(line, above, pixel, to, |left, _, _| left),
        UP => less(line, above, pixel, to, |_, above, _| above),
        AVERAGE => less(line, above, pixel, to, |left, above, _| (left & above) + ((left ^ above) >> 1)),
        _ => less(line, above, pixel, to, paeth),
    }
}

/// Of the pixels to the left, above and at the corner, the one that is nearest to left + above - corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(above), i16::from(corner));
    let (to_left, to_above, to_corner) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if to_left <= to_above && to_left <= to_corner {
        left
    } else if to_above <= to_corner {
        above
    } else {
        corner
    }
}

/// Sum of absolute values, taken as signed.
fn magnitude(differences: &[u8]) -> u64 {
    // In pieces whose sum has 16 bits.
    let piece = |piece: &[u8]| piece.iter().map(|&d| u16::from((d as i8).unsigned_abs())).sum::<u16>();
    differences.chunks(256).map(|p| u64::from(piece(p))).sum()
}

/// The checksum of a zlib stream (RFC 1950).
#[derive(Clone, Copy)]
struct Adler32(u32);

impl Default for Adler32 {
    fn default() -> Self {
        Self(1)
    }
}

impl Adler32 {
    /// The checksum of what this one is of, and `length` more bytes with another one. The low half is 1 plus the sum of
    /// all bytes, the high half the sum of all low halves on the way.
    fn then(self, next: Self, length: u64) -> Self {
        const BASE: u64 = 65_521;
        let halves = |sum: u32| (u64::from(sum & 0xFFFF), u64::from(sum >> 16));
        let ((low, high), (next_low, next_high)) = (halves(self.0), halves(next.0));
        let before = low + BASE - 1;
        let low = (before + next_low) % BASE;
        let high = (high + next_high + length % BASE * before) % BASE;
        Self((high << 16 | low) as u32)
    }
}

fn kind(picture: &Picture) -> (ColorType, BitDepth) {
    let color_type = match picture.channels {
        Channels::Gray => ColorType::Grayscale,
        Channels::GrayAlpha => ColorType::GrayscaleAlpha,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    };
    (color_type, if picture.samples.bits() == 8 { BitDepth::Eight } else { BitDepth::Sixteen })
}

fn info<'a>(picture: &'a Picture, options: &'a EncodeOptions) -> Info<'a> {
    let written = Written::of(picture, options);
    let mut info = Info::with_size(picture.width, picture.height);
    (info.color_type, info.bit_depth) = kind(picture);
    info.icc_profile = written.icc.map(Into::into);
    info.exif_metadata = written.exif.map(Into::into);
    info.pixel_dims = written.dpi.map(|(across, down)| {
        let per_metre = |dpi: f32| (f64::from(dpi) / 0.0254).round() as u32;
        PixelDimensions { xppu: per_metre(across), yppu: per_metre(down), unit: Unit::Meter }
    });
    if let Some(note) = written.provenance {
        info.utf8_text.push(ITXtChunk::new("Software", SOFTWARE));
        info.utf8_text.push(ITXtChunk::new("Comment", note));
    }
    for Text { keyword, text } in &written.texts {
        // A zero would end the text early.
        let text = text.replace('\0', " ");
        // Many readers know the plain kind of text only.
        if text.chars().all(|c| u32::from(c) < 256) {
            info.uncompressed_latin1_text.push(TEXtChunk::new(keyword, text));
        } else {
            info.utf8_text.push(ITXtChunk::new(keyword, text));
        }
    }
    // PNG has no chunk for it; other programs look in this text.
    let iptc = written.iptc.map(|records| raw_profile("iptc", &iptc::to_resource(records)));
    info.compressed_latin1_text.extend(iptc.map(|text| ZTXtChunk::new("Raw profile type iptc", text)));
    info.utf8_text.extend(written.xmp.map(|xmp| ITXtChunk::new("XML:com.adobe.xmp", xmp)));
    info
}

/// As ImageMagick puts a profile into a text: a name and a length, each on a line of its own, and hexadecimal digits.
fn raw_profile(name: &str, profile: &[u8]) -> String {
    let lines: Vec<String> =
        profile.chunks(36).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    format!("\n{name}\n{:8}\n{}\n", profile.len(), lines.join("\n"))
}

fn told(error: png::EncodingError) -> ImageError {
    match error {
        png::EncodingError::IoError(e) => ImageError::Io(e),
        other => failed(Format::Png, other),
    }
}
