//! BMP: the header is checked here, pixels come from the `image` crate.

use std::{borrow::Cow, io::Cursor};

use image::{ColorType, ImageDecoder, ImageError as CodecError, codecs::bmp::BmpDecoder};

use super::{Cancelled, Container, Pieces, broken, check_size, in_words, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples};

const FORMAT: Format = Format::Bmp;

/// A run of two bytes stands for 255 pixels at most.
const MOST_RUN: u64 = 128;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let header = Header::of(bytes).ok_or(ImageError::Truncated { format: FORMAT })?;
    check_size(FORMAT, header.width, header.height, limits)?;
    let pixels = u64::from(header.width) * u64::from(header.height);
    let held = (bytes.len() as u64).saturating_sub(header.data_at.into());
    let enough = match header.compression {
        RLE8 | RLE4 => held.saturating_mul(MOST_RUN) >= pixels && !matches!(header.runs(bytes), Runs::Short),
        _ => {
            let row = (u64::from(header.width) * u64::from(header.depth)).div_ceil(32) * 4;
            // The last row's padding may be missing.
            held + 3 >= row * u64::from(header.height)
        }
    };
    if !enough {
        return Err(ImageError::Truncated { format: FORMAT });
    }
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(told)?;
    let channels = match decoder.color_type() {
        ColorType::L8 => Channels::Gray,
        ColorType::Rgb8 => Channels::Rgb,
        ColorType::Rgba8 => Channels::Rgba,
        _ => return Err(ImageError::Unsupported { format: FORMAT, what: "an unusual color space".into() }),
    };
    let metadata = Metadata { dpi: header.dpi, ..Metadata::default() };
    let Header { width, height, .. } = header;
    Ok(Container {
        format: FORMAT,
        width,
        height,
        channels,
        bits: 8,
        orientation: 1,
        animated: false,
        metadata,
        notes: Vec::new(),
        may_be_cut: false,
    })
}

pub(super) fn pixels(bytes: &[u8], container: &Container, cancelled: Cancelled<'_>) -> Result<Samples, ImageError> {
    let mut file = Cow::Borrowed(bytes);
    if let Some(header) = Header::of(bytes).filter(|header| matches!(header.compression, RLE8 | RLE4)) {
        match header.runs(bytes) {
            Runs::Ended => {}
            Runs::Whole => file.to_mut().extend(END_OF_RUNS),
            Runs::Short => return Err(ImageError::Truncated { format: FORMAT }),
        }
    }
    let decoder = BmpDecoder::new(Pieces::of(&file, cancelled)).map_err(told)?;
    if decoder.dimensions() != (container.width, container.height) || decoder.total_bytes() != container.samples() {
        return Err(broken(FORMAT, "its headers contradict each other"));
    }
    let mut samples = zeroed::<u8>(container.samples())?;
    decoder.read_image(&mut samples).map_err(told)?;
    Ok(Samples::U8(samples))
}

const RLE8: u32 = 1;
const RLE4: u32 = 2;
const END_OF_RUNS: [u8; 2] = [0, 1];

/// How many pixels the run-length codes cover.
enum Runs {
    /// To the mark of their end.
    Ended,
    /// After all rows, but the mark is missing.
    Whole,
    /// Not to the last row's end.
    Short,
}

struct Header {
    width: u32,
    height: u32,
    depth: u16,
    compression: u32,
    data_at: u32,
    dpi: Option<(f32, f32)>,
}

impl Header {
    /// A run is a count and a colour. A count of 0 and then: 0 ends a row, 1 all; 2 moves on; more is so many pixels as they are.
    fn runs(&self, bytes: &[u8]) -> Runs {
        let mut at = self.data_at as usize;
        let (mut x, mut y) = (0u64, 0u64);
        while let Some(&[count, what]) = bytes.get(at..at.saturating_add(2)) {
            at += 2;
            match (count, what) {
                (0, 0) => (x, y) = (0, y + 1),
                (0, 1) => return Runs::Ended,
                (0, 2) => {
                    let Some(&[right, up]) = bytes.get(at..at + 2) else { break };
                    at += 2;
                    (x, y) = (x + u64::from(right), y + u64::from(up));
                }
                (0, pixels) => {
                    let stored = usize::from(pixels).div_ceil(if self.compression == RLE4 { 2 } else { 1 });
                    if at + stored > bytes.len() {
                        break;
                    }
                    at += stored.next_multiple_of(2);
                    x += u64::from(pixels);
                }
                _ => x += u64::from(count),
            }
        }
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        if y >= height || y + 1 == height && x >= width { Runs::Whole } else { Runs::Short }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let data_at = u32_at(10)?;
        // The oldest header, of 12 bytes, has sides of 16 bits and little else.
        if u32_at(14)? == 12 {
            let (width, height) = (u16_at(18)?.into(), u16_at(20)?.into());
            return Some(Self { width, height, depth: u16_at(24)?, compression: 0, data_at, dpi: None });
        }
        // Negative heights are stored from the top.
        let (width, height) = (u32_at(18)?, u32_at(22)?.cast_signed().unsigned_abs());
        let per_inch = |at| u32_at(at).map(|per_metre| (f64::from(per_metre) * 0.0254) as f32);
        let dpi = per_inch(38).zip(per_inch(42)).filter(|d| d.0 > 0.0 && d.1 > 0.0);
        Some(Self { width, height, depth: u16_at(28)?, compression: u32_at(30)?, data_at, dpi })
    }
}

fn told(error: CodecError) -> ImageError {
    match error {
        CodecError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT }
        }
        other => broken(FORMAT, in_words(other)),
    }
}
