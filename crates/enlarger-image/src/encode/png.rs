//! PNG, row by row.

use std::io::Write;

use png::{BitDepth, ColorType, Compression, Info, PixelDimensions, Unit, text_metadata::ITXtChunk};

use super::{
    EncodeOptions, failed,
    metadata::{SOFTWARE, Written},
};
use crate::{Channels, Format, ImageError, Picture, Samples};

pub(super) fn write<W: Write>(picture: &Picture, options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let mut encoder = png::Encoder::with_info(out, info(picture, options)).map_err(told)?;
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

fn info<'a>(picture: &'a Picture, options: &'a EncodeOptions) -> Info<'a> {
    let written = Written::of(picture, options);
    let mut info = Info::with_size(picture.width, picture.height);
    info.color_type = match picture.channels {
        Channels::Gray => ColorType::Grayscale,
        Channels::GrayAlpha => ColorType::GrayscaleAlpha,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
    };
    info.bit_depth = if picture.samples.bits() == 8 { BitDepth::Eight } else { BitDepth::Sixteen };
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
