//! PNG: chunks are walked here, pixels come from the `png` crate.

use std::io::{Cursor, Read};

use png::Transformations;

use super::{Container, be32, broken, check_size, metadata_block, orientation, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples, exif};

/// Deflate cannot shrink by more: a pair of bits stands for 258 bytes at most.
const MOST_DEFLATED: u64 = 1032;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let format = Format::Png;
    let header = Chunks { bytes, at: 8 }.next().ok_or(ImageError::Truncated { format })??;
    if header.kind != *b"IHDR" || header.data.len() != 13 {
        return Err(broken(format, "it does not begin with its header"));
    }
    let (width, height) = (be32(header.data, 0).unwrap_or(0), be32(header.data, 4).unwrap_or(0));
    check_size(format, width, height, limits)?;
    let (depth, colour) = (header.data[8], header.data[9]);

    let mut metadata = Metadata::default();
    let mut notes = Vec::new();
    let (mut transparent, mut animated, mut data_bytes, mut ended) = (false, false, 0u64, false);
    for chunk in (Chunks { bytes, at: 8 }) {
        let chunk = chunk?;
        match &chunk.kind {
            b"IDAT" => data_bytes += chunk.data.len() as u64,
            b"tRNS" => transparent = true,
            b"acTL" => animated = be32(chunk.data, 0).is_some_and(|frames| frames > 1),
            b"iCCP" => metadata.icc = icc(chunk.data, limits)?,
            b"eXIf" => {
                metadata.exif = Some(metadata_block(chunk.data, "EXIF", limits)?).filter(|e| exif::is_valid(e));
            }
            b"iTXt" => metadata.xmp = xmp(chunk.data, limits)?.or(metadata.xmp),
            b"pHYs" => metadata.dpi = dpi(chunk.data),
            b"IEND" => {
                ended = true;
                break;
            }
            _ => {}
        }
    }
    if !ended {
        return Err(ImageError::Truncated { format });
    }
    let channels = match (colour, transparent) {
        (0, false) => Channels::Gray,
        (0, true) | (4, _) => Channels::GrayAlpha,
        (2 | 3, false) => Channels::Rgb,
        (2 | 3, true) | (6, _) => Channels::Rgba,
        _ => return Err(broken(format, "its colour type is unknown")),
    };
    let stored_samples = match colour {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        _ => 4,
    };
    let row = (u64::from(width) * stored_samples * u64::from(depth)).div_ceil(8);
    if data_bytes.saturating_mul(MOST_DEFLATED) < row * u64::from(height) {
        return Err(ImageError::Truncated { format });
    }
    if animated {
        notes.push("the picture is animated: only its first frame was used".into());
    }
    let bits = if depth == 16 { 16 } else { 8 };
    let orientation = orientation(&metadata);
    Ok(Container { format, width, height, channels, bits, orientation, animated, metadata, notes })
}

pub(super) fn pixels(bytes: &[u8], container: &Container) -> Result<Samples, ImageError> {
    // Rows in flight, and the few ancillary chunks that the codec cannot be told to leave alone.
    let memory = png::Limits { bytes: (64 << 20) + container.width as usize * 64 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), memory);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(told)?;
    let wanted = container.samples() * u64::from(container.bits / 8);
    if reader.output_buffer_size().map(|size| size as u64) != Some(wanted) {
        return Err(broken(Format::Png, "its chunks contradict each other"));
    }
    if container.bits == 8 {
        let mut samples = zeroed::<u8>(container.samples())?;
        reader.next_frame(&mut samples).map_err(told)?;
        Ok(Samples::U8(samples))
    } else {
        let mut samples = zeroed::<u16>(container.samples())?;
        reader.next_frame(bytemuck::cast_slice_mut(&mut samples)).map_err(told)?;
        samples.iter_mut().for_each(|s| *s = u16::from_be(*s));
        Ok(Samples::U16(samples))
    }
}

fn told(error: png::DecodingError) -> ImageError {
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: Format::Png }
        }
        other => broken(Format::Png, other),
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
}

struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, ImageError>;

    /// `None` at the end of the bytes, an error in the middle of a chunk.
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let chunk = be32(self.bytes, self.at).and_then(|length| {
            let start = self.at.checked_add(8)?;
            let end = start.checked_add(length as usize)?;
            let kind = self.bytes.get(start - 4..start)?.try_into().ok()?;
            // Four bytes of checksum follow.
            self.bytes.get(end..end.checked_add(4)?)?;
            Some((Chunk { kind, data: self.bytes.get(start..end)? }, end + 4))
        });
        Some(match chunk {
            Some((chunk, next)) => {
                self.at = next;
                Ok(chunk)
            }
            None => {
                self.at = self.bytes.len();
                Err(ImageError::Truncated { format: Format::Png })
            }
        })
    }
}

/// iCCP: a name, a zero, the compression method, the deflated profile. A damaged one counts as none.
fn icc(data: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(name) = data.iter().take(80).position(|&b| b == 0) else { return Ok(None) };
    inflate(data.get(name + 2..).unwrap_or_default(), "ICC profile", limits)
}

/// iTXt with XMP's keyword: keyword 0, compressed?, method, language 0, translated keyword 0, text.
fn xmp(data: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(rest) = data.strip_prefix(b"XML:com.adobe.xmp\0") else { return Ok(None) };
    let (Some(&compressed), Some(rest)) = (rest.first(), rest.get(2..)) else { return Ok(None) };
    let mut parts = rest.splitn(3, |&b| b == 0);
    let Some(text) = parts.nth(2) else { return Ok(None) };
    if compressed == 1 {
        return inflate(text, "XMP", limits);
    }
    metadata_block(text, "XMP", limits).map(Some)
}

/// Inflates up to the limit; what is damaged counts as absent, what is larger is refused.
fn inflate(deflated: &[u8], what: &'static str, limits: &Limits) -> Result<Option<Vec<u8>>, ImageError> {
    let limit = limits.max_metadata;
    let mut out = Vec::new();
    let read = flate2::read::ZlibDecoder::new(deflated).take(limit as u64 + 1).read_to_end(&mut out);
    match read {
        Ok(n) if n > limit => Err(ImageError::MetadataTooLarge { what, limit }),
        Ok(_) => Ok(Some(out)),
        Err(_) => Ok(None),
    }
}

/// pHYs: pixels per unit across, down, unit (1 is the metre).
fn dpi(data: &[u8]) -> Option<(f32, f32)> {
    let per_inch = |at| Some((f64::from(be32(data, at)?) * 0.0254) as f32);
    (data.get(8) == Some(&1)).then_some(())?;
    Some((per_inch(0)?, per_inch(4)?)).filter(|d| d.0 > 0.0 && d.1 > 0.0)
}
