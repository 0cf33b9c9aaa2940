//! WebP by libwebp; the container with profile and metadata is put around its bit stream here.

use std::io::Write;

use webp::{Encoder, PixelLayout, WebPConfig};

use super::{EncodeOptions, eight::Eight, failed, metadata::Written};
use crate::{Format, ImageError, Picture};

/// Hardly distinguishable from the original, at about half the size of a JPEG.
const DEFAULT_QUALITY: u8 = 90;

const ICC: u8 = 0x20;
const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;

pub(super) fn write<W: Write>(picture: &Picture, options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let mut written = Written::of(picture, options);
    let eight = Eight::of(picture, written.icc, true)?;
    let mut config = WebPConfig::new().map_err(|()| failed(Format::WebP, "libwebp does not match its headers"))?;
    config.quality = options.quality.unwrap_or(DEFAULT_QUALITY).clamp(1, 100).into();
    config.thread_level = 1;
    let layout = if eight.alpha { PixelLayout::Rgba } else { PixelLayout::Rgb };
    let encoder = Encoder::new(&eight.samples, layout, picture.width, picture.height);
    let file = encoder.encode_advanced(&config).map_err(|e| failed(Format::WebP, format!("{e:?}")))?;
    let exif = written.exif_with_note();
    wrap(&file, picture, &eight, exif.as_deref(), written.xmp.as_deref(), out)
}

/// Rewrites libwebp's file as an extended one, if there is anything to add.
fn wrap<W: Write>(
    file: &[u8],
    picture: &Picture,
    eight: &Eight<'_>,
    exif: Option<&[u8]>,
    xmp: Option<&str>,
    out: &mut W,
) -> Result<(), ImageError> {
    let before: Vec<_> = eight.icc.map(|icc| (*b"ICCP", icc)).into_iter().collect();
    let exif_chunk = exif.map(|exif| (*b"EXIF", exif));
    let after: Vec<_> = exif_chunk.into_iter().chain(xmp.map(|xmp| (*b"XMP ", xmp.as_bytes()))).collect();
    if before.is_empty() && after.is_empty() {
        return Ok(out.write_all(file)?);
    }
    // RIFF, length, WEBP; with alpha a lossy file is an extended one already, whose header we write anew.
    let mut stream = &file[12..];
    if stream.starts_with(b"VP8X") {
        stream = &stream[8 + 10..];
    }
    let padded = |len: usize| 8 + len.next_multiple_of(2);
    let chunks: usize = before.iter().chain(&after).map(|(_, data)| padded(data.len())).sum();
    let length = 4 + padded(10) + chunks + stream.len();
    let length = u32::try_from(length).map_err(|_| failed(Format::WebP, "its metadata is too large"))?;
    let mut flags = 0;
    for (given, flag) in
        [(eight.icc.is_some(), ICC), (eight.alpha, ALPHA), (exif.is_some(), EXIF), (xmp.is_some(), XMP)]
    {
        flags |= if given { flag } else { 0 };
    }
    let mut header = [0; 10];
    header[0] = flags;
    header[4..7].copy_from_slice(&(picture.width - 1).to_le_bytes()[..3]);
    header[7..].copy_from_slice(&(picture.height - 1).to_le_bytes()[..3]);
    out.write_all(b"RIFF")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(b"WEBP")?;
    chunk(*b"VP8X", &header, out)?;
    before.iter().try_for_each(|(kind, data)| chunk(*kind, data, out))?;
    out.write_all(stream)?;
    after.iter().try_for_each(|(kind, data)| chunk(*kind, data, out))
}

fn chunk<W: Write>(kind: [u8; 4], data: &[u8], out: &mut W) -> Result<(), ImageError> {
    out.write_all(&kind)?;
    out.write_all(&(data.len() as u32).to_le_bytes())?;
    out.write_all(data)?;
    Ok(out.write_all(&[0][..data.len() % 2])?)
}
