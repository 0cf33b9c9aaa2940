//! From pixels to bytes.

#[cfg(feature = "avif")]
mod avif;
mod eight;
mod jpeg;
mod metadata;
mod png;
mod tiff;
mod webp;

use std::io::{Seek, Write};

use crate::{Format, ImageError, Picture};

/// How a picture becomes a file.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// The file format.
    pub format: Format,
    /// 1..=100 for lossy formats; `None` is the format's default.
    pub quality: Option<u8>,
    /// Which EXIF, XMP, IPTC and texts are kept.
    pub metadata: MetadataPolicy,
    /// Pixels per inch, instead of the picture's own.
    pub dpi: Option<f32>,
    /// A sentence on how the result was made, written where the format has a place for it.
    pub provenance: Option<String>,
}

/// Which EXIF, XMP, IPTC and texts are kept. The ICC profile always is: without it the colours would be other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataPolicy {
    /// Everything.
    #[default]
    All,
    /// Everything but the GPS location.
    NoGps,
    /// Nothing.
    Strip,
}

/// Encodes a picture.
///
/// For formats without alpha the picture is placed on white; for formats without 16 bits it is rounded to 8. PNG, JPEG
/// and TIFF are written row by row; WebP and AVIF take the whole picture at once and hold it again. What a format
/// cannot hold of the metadata is left out, and [`encode_notes`] says so: AVIF keeps EXIF only, JPEG neither EXIF nor
/// XMP of more than 64 KB, and texts are kept where other programs look for them. An AVIF is always in sRGB.
///
/// # Errors
/// If the format is only read, cannot hold the picture's size, or `out` fails.
pub fn encode<W: Write + Seek + Send>(
    picture: &Picture,
    options: &EncodeOptions,
    out: &mut W,
) -> Result<(), ImageError> {
    let format = options.format;
    let (width, height) = (picture.width, picture.height);
    if !format.can_encode() {
        return Err(ImageError::CannotEncode { format });
    }
    if width.max(height) > format.max_side() {
        return Err(ImageError::TooLargeForFormat { format, width, height });
    }
    match format {
        Format::Png => png::write(picture, options, out)?,
        Format::Jpeg => jpeg::write(picture, options, out)?,
        Format::WebP => webp::write(picture, options, out)?,
        Format::Tiff => tiff::write(picture, options, out)?,
        #[cfg(feature = "avif")]
        Format::Avif => avif::write(picture, options, out)?,
        _ => return Err(ImageError::CannotEncode { format }),
    }
    Ok(out.flush()?)
}

/// What [`encode`] will change or leave out because the format cannot hold it, as sentences.
pub fn encode_notes(picture: &Picture, options: &EncodeOptions) -> Vec<String> {
    let format = options.format;
    let name = format.name();
    let written = metadata::Written::of(picture, options);
    let too_long = |len: Option<usize>, prefix: usize| len.is_some_and(|len| len + prefix > metadata::MOST_SEGMENT);
    let (exif, xmp) = (written.exif.as_ref().map(Vec::len), written.xmp.as_ref().map(String::len));
    let mut notes = Vec::new();
    let mut note = |holds: bool, what: &str| {
        if holds {
            notes.push(format!("{name} {what}"));
        }
    };
    note(
        picture.samples.bits() == 16 && !format.keeps_16_bits(),
        "stores only 8 bits per channel, so the image's 16 bits were rounded",
    );
    note(
        picture.channels.has_alpha() && !format.has_alpha(),
        "has no transparency, so the image was placed on a white background",
    );
    note(
        format == Format::Avif && written.icc.is_some(),
        "is written without a color profile, so colors were converted to sRGB",
    );
    note(format == Format::Avif && xmp.is_some(), "is written without XMP, so the image's XMP was dropped");
    note(
        options.dpi.is_some()
            && matches!(format, Format::WebP | Format::Avif)
            && written.exif.as_deref().and_then(crate::exif::dpi).is_none(),
        "stores a resolution only in EXIF, and this image's EXIF has none, so it was not set",
    );
    note(
        format == Format::Jpeg && too_long(exif, metadata::EXIF_PREFIX),
        "stores at most 64 KB of EXIF and the image has more, so its EXIF was dropped",
    );
    note(
        format == Format::Jpeg && too_long(xmp, jpeg::XMP.len()),
        "stores at most 64 KB of XMP and the image has more, so its XMP was dropped",
    );
    notes.extend(written.left_out.iter().map(|what| format!("{name} cannot store {what}, which was dropped")));
    notes
}

fn failed(format: Format, reason: impl ToString) -> ImageError {
    ImageError::Encoder { format, reason: reason.to_string() }
}
