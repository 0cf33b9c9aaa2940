//! PNG, in strips of rows that are compressed in parallel.

use std::io::Write;

use png::{BitDepth, ColorType, Compression, Filter, Info, PixelDimensions, Unit, chunk, text_metadata::ITXtChunk};
use rayon::prelude::*;

use super::{
    EncodeOptions, failed,
    metadata::{SOFTWARE, Written},
};
use crate::{Channels, Format, ImageError, Picture, Samples};

/// Bytes of a strip: so many that its start, which knows nothing of the rows before, costs nothing, and so few that
/// strips of all threads take little memory.
const STRIP: usize = 1 << 20;

pub(super) fn write<W: Write>(picture: &Picture, options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let encoder = png::Encoder::with_info(out, info(picture, options)).map_err(told)?;
    let mut writer = encoder.write_header().map_err(told)?;
    let bytes = picture.width as usize * picture.channels.count() * usize::from(picture.samples.bits() / 8);
    let rows = (STRIP / bytes).max(1);
    let height = picture.height as usize;
    let strips: Vec<_> = (0..height).step_by(rows).map(|y| y..(y + rows).min(height)).collect();
    let mut sum = Adler32::default();
    for some in strips.chunks(2 * rayon::current_num_threads()) {
        let deflated: Result<Vec<_>, _> =
            some.par_iter().map(|rows| Deflated::strip(picture, rows.start, rows.len(), rows.end == height)).collect();
        for (strip, rows) in deflated?.iter().zip(some) {
            // Only the first keeps the header of the whole stream. Each row begins with the name of its filter.
            let start = if rows.start == 0 { 0 } else { ZLIB_HEADER };
            writer.write_chunk(chunk::IDAT, &strip.bytes[start..]).map_err(told)?;
            sum = sum.then(strip.sum, (rows.len() * (1 + bytes)) as u64);
        }
    }
    writer.write_chunk(chunk::IDAT, &sum.0.to_be_bytes()).map_err(told)?;
    writer.finish().map_err(told)
}

/// Bytes before the first block of a zlib stream (RFC 1950).
const ZLIB_HEADER: usize = 2;

/// Some rows, compressed so that others can follow.
struct Deflated {
    /// A zlib stream without its checksum. All but the last end with an empty stored block at a whole byte.
    bytes: Vec<u8>,
    sum: Adler32,
}

impl Deflated {
    fn strip(picture: &Picture, y: usize, rows: usize, last: bool) -> Result<Self, ImageError> {
        let mut stream = idat(&compressed(picture, y, rows)?);
        let end = stream.len() - size_of::<u32>();
        let sum = Adler32(u32::from_be_bytes(stream[end..].try_into().expect("four bytes are four bytes")));
        stream.truncate(end);
        if !last {
            // The encoder writes a single block: it is not the last any more (RFC 1951, 3.2.3).
            stream[ZLIB_HEADER] &= !1;
            // What ends a block has a 1 as its last bit, with this encoder's table. An empty stored block follows: three
            // zero bits, zeros to the next whole byte, its length of 0 and the complement of that. Zeros that fill the
            // byte already are its start, if there are three.
            if stream.last().is_some_and(|byte| byte.leading_zeros() < 3) {
                stream.push(0);
            }
            stream.extend([0, 0, 0xFF, 0xFF]);
        }
        Ok(Self { bytes: stream, sum })
    }
}

/// Rows as a picture of their own.
fn compressed(picture: &Picture, y: usize, rows: usize) -> Result<Vec<u8>, ImageError> {
    let mut info = Info::with_size(picture.width, rows as u32);
    (info.color_type, info.bit_depth) = kind(picture);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut file, info).map_err(told)?;
    // The next level is tens of times slower for a few percent.
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(told)?;
    let mut stream = writer.stream_writer().map_err(told)?;
    // The first row must not be told from the row above, which is another strip's.
    stream.set_filter(Filter::Sub);
    let row = picture.width as usize * picture.channels.count();
    let range = y * row..(y + rows) * row;
    match &picture.samples {
        Samples::U8(samples) => {
            for line in samples[range].chunks_exact(row) {
                stream.write_all(line)?;
                stream.set_filter(Filter::Adaptive);
            }
        }
        Samples::U16(samples) => {
            let mut big_endian = Vec::with_capacity(row * 2);
            for line in samples[range].chunks_exact(row) {
                big_endian.clear();
                big_endian.extend(line.iter().flat_map(|s| s.to_be_bytes()));
                stream.write_all(&big_endian)?;
                stream.set_filter(Filter::Adaptive);
            }
        }
    }
    stream.finish().map_err(told)?;
    writer.finish().map_err(told)?;
    Ok(file)
}

/// The data of a file's IDAT chunks.
fn idat(file: &[u8]) -> Vec<u8> {
    const SIGNATURE: usize = 8;
    let mut data = Vec::with_capacity(file.len());
    let mut rest = &file[SIGNATURE..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if after.starts_with(&chunk::IDAT.0) {
            data.extend_from_slice(&after[4..4 + length]);
        }
        // Its name, its data, its checksum.
        rest = &after[4 + length + 4..];
    }
    data
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
    info.utf8_text.extend(written.xmp.map(|xmp| ITXtChunk::new("XML:com.adobe.xmp", xmp)));
    info
}

fn told(error: png::EncodingError) -> ImageError {
    match error {
        png::EncodingError::IoError(e) => ImageError::Io(e),
        other => failed(Format::Png, other),
    }
}
