//! PNG, row by row.

use std::io::Write;

use png::{BitDepth, ColorType, Compression};

use super::{EncodeOptions, failed};
use crate::{Channels, Format, ImageError, Picture, Samples};

pub(super) fn write<W: Write>(picture: &Picture, _options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let mut encoder = png::Encoder::new(out, picture.width, picture.height);
    encoder.set_color(match picture.channels {
        Channels::Gray => ColorType::Grayscale,
        Channels::GrayAlpha => ColorType::GrayscaleAlpha,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    });
    encoder.set_depth(if picture.samples.bits() == 8 { BitDepth::Eight } else { BitDepth::Sixteen });
    // The next level is tens of times slower for a few percent.
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(told)?;
    let mut rows = writer.stream_writer().map_err(told)?;
    let row = picture.width as usize * picture.channels.count();
    match &picture.samples {
        Samples::U8(samples) => {
            for line in samples.chunks_exact(row) {
                rows.write_all(line)?;
            }
        }
        Samples::U16(samples) => {
            let mut big_endian = Vec::with_capacity(row * 2);
            for line in samples.chunks_exact(row) {
                big_endian.clear();
                big_endian.extend(line.iter().flat_map(|s| s.to_be_bytes()));
                rows.write_all(&big_endian)?;
            }
        }
    }
    rows.finish().map_err(told)?;
    writer.finish().map_err(told)
}

fn told(error: png::EncodingError) -> ImageError {
    match error {
        png::EncodingError::IoError(e) => ImageError::Io(e),
        other => failed(Format::Png, other),
    }
}
