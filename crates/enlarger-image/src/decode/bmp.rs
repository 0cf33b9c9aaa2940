//! BMP: the header is checked here, pixels come from the `image` crate.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError as CodecError, codecs::bmp::BmpDecoder};

use super::{Container, broken, check_size, zeroed};
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
        1 | 2 => held.saturating_mul(MOST_RUN) >= pixels,
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
        other => return Err(ImageError::Unsupported { format: FORMAT, what: format!("colours as {other:?}") }),
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
    })
}

pub(super) fn pixels(bytes: &[u8], container: &Container) -> Result<Samples, ImageError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(told)?;
    if decoder.dimensions() != (container.width, container.height) || decoder.total_bytes() != container.samples() {
        return Err(broken(FORMAT, "its headers contradict each other"));
    }
    let mut samples = zeroed::<u8>(container.samples())?;
    decoder.read_image(&mut samples).map_err(told)?;
    Ok(Samples::U8(samples))
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
        other => broken(FORMAT, other),
    }
}
