//! From bytes to pixels.
//!
//! Each format has a `read`, our own parser of the container, which is cheap and checks everything that can be checked
//! without a codec; and a `pixels`, which runs the codec on what `read` found sound.

mod bmp;
mod gif;
mod jpeg;
mod pieces;
mod png;
mod tiff;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

use crate::{
    Channels, Format, ImageError, Limits, Metadata, Picture, Samples,
    colour::{self, Space},
    exif,
    orient::upright,
    picture::zeroed,
    xmp,
};
use pieces::Pieces;

/// What a file declares before any pixel is decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Header {
    /// The file's format.
    pub format: Format,
    /// Width in pixels of the upright picture.
    pub width: u32,
    /// Height in pixels of the upright picture.
    pub height: u32,
    /// Channels of the decoded picture.
    pub channels: Channels,
    /// Bits per sample of the decoded picture: 8 or 16.
    pub bits: u8,
    /// EXIF orientation 1..=8 of the stored pixels; 1 is upright.
    pub orientation: u8,
    /// Whether there is more than one frame; only the first is decoded.
    pub animated: bool,
}

/// A decoded file.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The pixels, upright.
    pub picture: Picture,
    /// What the file declared.
    pub header: Header,
    /// Sentences on what was changed or left out: colours converted, first frame only, and so on.
    pub notes: Vec<String>,
}

/// What [`read`] finds in a container.
struct Container {
    format: Format,
    /// As stored, before orientation.
    width: u32,
    height: u32,
    channels: Channels,
    bits: u8,
    orientation: u8,
    animated: bool,
    metadata: Metadata,
    notes: Vec<String>,
    /// The end mark is missing: only decoding shows whether all pixels are there.
    may_be_cut: bool,
}

impl Container {
    fn header(&self) -> Header {
        let turned = self.orientation >= 5;
        Header {
            format: self.format,
            width: if turned { self.height } else { self.width },
            height: if turned { self.width } else { self.height },
            channels: self.channels,
            bits: self.bits,
            orientation: self.orientation,
            animated: self.animated,
        }
    }

    /// Samples over all pixels.
    fn samples(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * self.channels.count() as u64
    }
}

/// Pixels up to which [`probe`] decodes a file that may be truncated. Few files lack their end mark.
const MOST_TRIED: u64 = 16_000_000;

/// A file whose headers have been read, and whose pixels can be.
pub struct Opened<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    container: Container,
}

/// Reads a file's headers and checks them against the limits. They need not be read again to decode its pixels.
///
/// # Errors
/// Everything that [`decode`] can know without decoding pixels: unknown formats, limits, files cut off.
pub fn open<'a>(bytes: &'a [u8], limits: &'a Limits) -> Result<Opened<'a>, ImageError> {
    tracing::trace!("headers read");
    Ok(Opened { bytes, limits, container: read(bytes, limits)? })
}

/// The header of a file that is not to be decoded.
///
/// # Errors
/// Those of [`open`].
pub fn header(bytes: &[u8], limits: &Limits) -> Result<Header, ImageError> {
    Ok(open(bytes, limits)?.header())
}

/// [`header`], for callers that accept a file now and decode it later: if a file of up to 16 megapixels lacks its end
/// mark, its pixels are decoded too, because nothing else shows whether all of them are there.
///
/// # Errors
/// Those of [`header`], and of such a file those of [`decode`].
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, ImageError> {
    let Opened { mut container, .. } = open(bytes, limits)?;
    if container.may_be_cut && u64::from(container.width) * u64::from(container.height) <= MOST_TRIED {
        pixels(bytes, &mut container, limits, &|| false)?;
    }
    Ok(container.header())
}

/// Decodes a file to an upright picture in grey or RGB.
///
/// # Errors
/// See [`ImageError`]. Damaged and cut-off files are errors, never half a picture.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, ImageError> {
    decode_unless(bytes, limits, &|| false)
}

/// [`decode`], unless it is cancelled: `cancelled` is called several times a second, between pieces of the file.
///
/// # Errors
/// [`ImageError::Cancelled`] soon after `cancelled` has said `true`; else those of [`decode`].
pub fn decode_unless(bytes: &[u8], limits: &Limits, cancelled: Cancelled<'_>) -> Result<Decoded, ImageError> {
    checked(cancelled)?;
    open(bytes, limits)?.decode_unless(cancelled)
}

impl Opened<'_> {
    /// What the file says of itself.
    pub fn header(&self) -> Header {
        self.container.header()
    }

    /// The pixels, as [`decode_unless`] decodes them.
    ///
    /// # Errors
    /// Those of [`decode_unless`].
    pub fn decode_unless(self, cancelled: Cancelled<'_>) -> Result<Decoded, ImageError> {
        checked(cancelled)?;
        let decoded = decoded(self, cancelled);
        // Codecs report a cancelled read as they report any other.
        if decoded.is_err() {
            checked(cancelled)?;
        }
        decoded
    }
}

/// Whether the work is to stop.
pub(crate) type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// # Errors
/// [`ImageError::Cancelled`] if the work is to stop.
fn checked(cancelled: Cancelled<'_>) -> Result<(), ImageError> {
    if cancelled() { Err(ImageError::Cancelled) } else { Ok(()) }
}

fn decoded(opened: Opened<'_>, cancelled: Cancelled<'_>) -> Result<Decoded, ImageError> {
    let Opened { bytes, limits, mut container } = opened;
    let header = container.header();
    let (samples, space) = pixels(bytes, &mut container, limits, cancelled)?;
    let Container { format, width, height, channels, orientation, ref mut metadata, ref mut notes, .. } = container;
    checked(cancelled)?;
    let samples = colour::settle(format, samples, space, channels, metadata, notes)?;
    let samples = upright(samples, width, height, channels.count(), orientation)?;
    if let Some(exif) = &mut metadata.exif {
        exif::set_upright(exif);
    }
    if let Some(xmp) = &mut metadata.xmp {
        xmp::reset_orientation(xmp);
    }
    if orientation >= 5 {
        metadata.dpi = metadata.dpi.map(|(across, down)| (down, across));
    }
    let Container { metadata, notes, .. } = container;
    let picture = Picture { width: header.width, height: header.height, channels, samples, metadata };
    Ok(Decoded { picture, header, notes })
}

/// The codecs are third-party: if one panics, the file counts as damaged.
fn pixels(
    bytes: &[u8],
    container: &mut Container,
    limits: &Limits,
    cancelled: Cancelled<'_>,
) -> Result<(Samples, Space), ImageError> {
    let format = container.format;
    catch_unwind(AssertUnwindSafe(|| coded(bytes, container, limits, cancelled)))
        .unwrap_or_else(|_| Err(broken(format, "the decoder failed")))
}

fn coded(
    bytes: &[u8],
    container: &mut Container,
    limits: &Limits,
    cancelled: Cancelled<'_>,
) -> Result<(Samples, Space), ImageError> {
    match container.format {
        Format::Png => Ok((png::pixels(bytes, container, cancelled)?, Space::Display)),
        Format::Jpeg => jpeg::pixels(bytes, limits, &mut container.notes, cancelled),
        Format::WebP => Ok((webp::pixels(bytes, container, cancelled)?, Space::Display)),
        Format::Tiff => tiff::pixels(bytes, limits, cancelled),
        Format::Gif => Ok((gif::pixels(bytes, container, limits, cancelled)?, Space::Display)),
        Format::Bmp => Ok((bmp::pixels(bytes, container, cancelled)?, Space::Display)),
        Format::Avif => Err(ImageError::Unreadable { what: "an AVIF image" }),
    }
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(ImageError::TooManyBytes { bytes: bytes.len() as u64, limit: limits.max_bytes });
    }
    match Format::sniff(bytes)? {
        Format::Png => png::read(bytes, limits),
        Format::Jpeg => jpeg::read(bytes, limits),
        Format::WebP => webp::read(bytes, limits),
        Format::Tiff => tiff::read(bytes, limits),
        Format::Gif => gif::read(bytes, limits),
        Format::Bmp => bmp::read(bytes, limits),
        Format::Avif => Err(ImageError::Unreadable { what: "an AVIF image" }),
    }
}

/// Checks a size against the limits. Called as soon as a format's parser knows it.
fn check_size(format: Format, width: u32, height: u32, limits: &Limits) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(broken(format, "it has no pixels"));
    }
    if width.max(height) > limits.max_side {
        return Err(ImageError::SideTooLong { width, height, limit: limits.max_side });
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ImageError::TooManyPixels { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

/// A copy of a block of metadata that is within the limits.
fn metadata_block(data: &[u8], what: &'static str, limits: &Limits) -> Result<Vec<u8>, ImageError> {
    if data.len() > limits.max_metadata {
        return Err(ImageError::MetadataTooLarge { what, limit: limits.max_metadata });
    }
    Ok(data.to_vec())
}

/// The orientation that a file's EXIF block asks for.
fn orientation(metadata: &Metadata) -> u8 {
    metadata.exif.as_deref().map_or(1, exif::orientation)
}

fn broken(format: Format, reason: impl ToString) -> ImageError {
    ImageError::Broken { format, reason: reason.to_string() }
}

/// A codec's message, as part of our sentence. Some print their own structures, which mean nothing to users.
fn in_words(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let name = |word: &str| {
        word.len() > 4 && word.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
    };
    let code = text.contains(['{', '[', '`', '"', '\n']) || text.contains("::") || text.contains("Some(");
    if code || text.split(|c: char| !c.is_alphanumeric()).any(name) {
        return "its data contradicts its format".into();
    }
    text.trim_end_matches('.').into()
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
