//! WebP: RIFF chunks are walked here, pixels come from `image-webp`.

use std::borrow::Cow;

use image_webp::{DecodingError, WebPDecoder};

use super::{Cancelled, Container, Pieces, broken, check_size, in_words, metadata_block, orientation, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples, exif};

const FORMAT: Format = Format::WebP;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let riff = le32(bytes, 4).ok_or(ImageError::Truncated { format: FORMAT })? as usize;
    // The padding of the last chunk is missing in some files.
    let end = riff.saturating_add(8);
    let end = if end == bytes.len() + 1 { bytes.len() } else { end };
    let file = bytes.get(..end).ok_or(ImageError::Truncated { format: FORMAT })?;
    let mut metadata = Metadata::default();
    let mut canvas = None;
    let mut still = None;
    let (mut frames, mut has_plane, mut is_lossy) = (0u32, false, false);
    for chunk in Chunks::of(file.get(12..).unwrap_or_default()) {
        let (kind, data) = chunk?;
        match &kind {
            b"VP8X" if canvas.is_none() => {
                let (flags, w, h) = (data.first(), le24(data, 4), le24(data, 7));
                let (Some(flags), Some(w), Some(h)) = (flags, w, h) else {
                    return Err(broken(FORMAT, "its extended header is too short"));
                };
                check_size(FORMAT, w + 1, h + 1, limits)?;
                canvas = Some(Size { width: w + 1, height: h + 1, alpha: flags & 0x10 != 0 });
            }
            b"VP8 " | b"VP8L" if still.is_none() => {
                let size = Size::of(&kind, data)?;
                check_size(FORMAT, size.width, size.height, limits)?;
                is_lossy = kind == *b"VP8 ";
                still = Some(size);
            }
            b"ALPH" => has_plane = true,
            b"ANMF" => {
                if frames == 0 {
                    check_frame(data, canvas)?;
                }
                frames += 1;
                if frames > limits.max_frames {
                    return Err(ImageError::TooManyFrames { limit: limits.max_frames });
                }
            }
            b"ICCP" => metadata.icc = Some(metadata_block(data, "ICC profile", limits)?),
            b"EXIF" => {
                // The specification has the bare structure, some programs write JPEG's prefix too.
                let bare = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
                metadata.exif = Some(metadata_block(bare, "EXIF", limits)?).filter(|e| exif::is_valid(e));
            }
            b"XMP " => metadata.xmp = Some(metadata_block(data, "XMP", limits)?),
            _ => {}
        }
    }
    if let (Some(canvas), Some(still)) = (canvas, still)
        && (canvas.width, canvas.height) != (still.width, still.height)
    {
        return Err(broken(FORMAT, "its headers disagree about its size"));
    }
    let size = canvas.or(still).ok_or_else(|| broken(FORMAT, "it has no image"))?;
    let mut notes = Vec::new();
    if frames > 1 {
        notes.push("the image is animated: only its first frame was used".into());
    }
    metadata.dpi = metadata.exif.as_deref().and_then(exif::dpi);
    let Size { width, height, alpha } = size;
    // A lossy picture has its alpha in a chunk of its own. Some programs announce one and write none.
    let alpha = alpha && (has_plane || !is_lossy);
    let channels = if alpha { Channels::Rgba } else { Channels::Rgb };
    let orientation = orientation(&metadata);
    Ok(Container {
        format: FORMAT,
        width,
        height,
        channels,
        bits: 8,
        orientation,
        animated: frames > 1,
        metadata,
        notes,
        may_be_cut: false,
    })
}

pub(super) fn pixels(bytes: &[u8], container: &Container, cancelled: Cancelled<'_>) -> Result<Samples, ImageError> {
    let file = mended(bytes, container.channels);
    let mut decoder = WebPDecoder::new(Pieces::of(&file, cancelled)).map_err(told)?;
    if decoder.dimensions() != (container.width, container.height)
        || decoder.has_alpha() != container.channels.has_alpha()
    {
        return Err(broken(FORMAT, "its headers contradict each other"));
    }
    let mut samples = zeroed::<u8>(container.samples())?;
    decoder.read_image(&mut samples).map_err(told)?;
    Ok(Samples::U8(samples))
}

/// The file with what the decoder takes too literally.
fn mended(bytes: &[u8], channels: Channels) -> Cow<'_, [u8]> {
    const ALPHA: u8 = 0x10;
    const REPLACE: u8 = 0x02;
    let mut file = Cow::Borrowed(bytes);
    let mut at = 12;
    for (kind, data) in Chunks::of(bytes.get(12..).unwrap_or_default()).map_while(Result::ok) {
        let flags = match &kind {
            // Alpha that is announced and missing.
            b"VP8X" if !channels.has_alpha() => data.first().map(|flags| (at + 8, flags & !ALPHA)),
            // Blended with an empty canvas, the first frame is itself, but for what the decoder loses in rounding.
            b"ANMF" => data.get(15).map(|flags| (at + 8 + 15, flags | REPLACE)),
            _ => None,
        };
        if let Some((place, flags)) = flags.filter(|&(place, flags)| bytes[place] != flags) {
            file.to_mut()[place] = flags;
        }
        if kind == *b"ANMF" {
            break;
        }
        at += 8 + data.len().next_multiple_of(2);
    }
    file
}

#[derive(Clone, Copy)]
struct Size {
    width: u32,
    height: u32,
    alpha: bool,
}

impl Size {
    /// What a bit stream declares: RFC 6386, section 9.1, and the lossless specification, section 3.
    fn of(kind: &[u8; 4], data: &[u8]) -> Result<Self, ImageError> {
        let short = || ImageError::Truncated { format: FORMAT };
        if kind == b"VP8L" {
            let bits = le32(data, 1).ok_or_else(short)?;
            Ok(Self { width: (bits & 0x3FFF) + 1, height: (bits >> 14 & 0x3FFF) + 1, alpha: bits >> 28 & 1 == 1 })
        } else {
            let bits = le32(data, 6).ok_or_else(short)?;
            Ok(Self { width: bits & 0x3FFF, height: bits >> 16 & 0x3FFF, alpha: false })
        }
    }
}

/// The decoder believes a frame's bit stream about its size before it compares: so we compare first.
fn check_frame(frame: &[u8], canvas: Option<Size>) -> Result<(), ImageError> {
    let wrong = || broken(FORMAT, "its first frame does not fit its canvas");
    let canvas = canvas.ok_or_else(wrong)?;
    let (Some(x), Some(y), Some(w), Some(h)) = (le24(frame, 0), le24(frame, 3), le24(frame, 6), le24(frame, 9)) else {
        return Err(ImageError::Truncated { format: FORMAT });
    };
    if x * 2 + w + 1 > canvas.width || y * 2 + h + 1 > canvas.height {
        return Err(wrong());
    }
    for chunk in Chunks::of(frame.get(16..).unwrap_or_default()) {
        let (kind, data) = chunk?;
        if matches!(&kind, b"VP8 " | b"VP8L") {
            let size = Size::of(&kind, data)?;
            return if (size.width, size.height) == (w + 1, h + 1) { Ok(()) } else { Err(wrong()) };
        }
    }
    Err(broken(FORMAT, "its first frame is empty"))
}

/// Chunks of four letters, a length and data padded to an even length.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<([u8; 4], &'a [u8]), ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        // A lone byte is miscounted padding.
        if self.rest.len() < 2 {
            return None;
        }
        let chunk = le32(self.rest, 4).and_then(|length| {
            let kind = self.rest[..4].try_into().ok()?;
            Some((kind, self.rest.get(8..8usize.checked_add(length as usize)?)?))
        });
        let Some((kind, data)) = chunk else {
            self.rest = &[];
            return Some(Err(ImageError::Truncated { format: FORMAT }));
        };
        self.rest = self.rest.get(8 + data.len().next_multiple_of(2)..).unwrap_or_default();
        Some(Ok((kind, data)))
    }
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at + 3)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], 0]))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn told(error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT }
        }
        other => broken(FORMAT, in_words(other)),
    }
}
