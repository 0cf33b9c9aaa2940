//! AVIF by ravif, 8 bits, in sRGB: its container has no place for a profile here, so colours are converted.

use std::io::Write;

use imgref::Img;
use ravif::{AlphaColorMode, BitDepth, Encoder};
use rgb::FromSlice;

use super::{EncodeOptions, eight::Eight, failed, metadata::Written};
use crate::{Format, ImageError, Picture};

/// The encoder's own default.
const DEFAULT_QUALITY: u8 = 80;

/// Of 1..=10. Slower ones take minutes for an enlarged photograph.
const SPEED: u8 = 9;

pub(super) fn write<W: Write>(picture: &Picture, options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let mut written = Written::of(picture, options);
    let eight = Eight::of(picture, written.icc, false)?;
    let quality = options.quality.unwrap_or(DEFAULT_QUALITY).clamp(1, 100).into();
    let mut encoder = Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(SPEED)
        .with_bit_depth(BitDepth::Eight)
        .with_alpha_color_mode(AlphaColorMode::UnassociatedDirty);
    if let Some(exif) = written.exif_with_note() {
        encoder = encoder.with_exif(exif);
    }
    let (width, height) = (picture.width as usize, picture.height as usize);
    let encoded = if eight.alpha {
        encoder.encode_rgba(Img::new(eight.samples.as_rgba(), width, height))
    } else {
        encoder.encode_rgb(Img::new(eight.samples.as_rgb(), width, height))
    };
    Ok(out.write_all(&encoded.map_err(|e| failed(Format::Avif, e))?.avif_file)?)
}
