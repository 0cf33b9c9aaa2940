//! JPEG, baseline, row by row.

use std::io::Write;

use jpeg_encoder::{
    Encoder, EncodingError, ImageBuffer, JpegColorType, PixelDensity, PixelDensityUnit, SamplingFactor, rgb_to_ycbcr,
};

use super::{
    EncodeOptions, failed,
    metadata::{EXIF_PREFIX, MOST_SEGMENT, SOFTWARE, Written},
};
use crate::{Format, ImageError, Picture, Sample, iptc, with_samples};

/// A usual quality for photographs: differences are hard to see, and colour is not yet subsampled.
const DEFAULT_QUALITY: u8 = 92;

/// From here on colour keeps its full resolution.
const FULL_COLOUR_QUALITY: u8 = 90;

pub(super) const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Start of image, and the JFIF segment that the encoder always begins with and that must come first.
const JFIF_END: usize = 2 + 18;

pub(super) fn write<W: Write>(picture: &Picture, options: &EncodeOptions, out: &mut W) -> Result<(), ImageError> {
    let quality = options.quality.unwrap_or(DEFAULT_QUALITY).clamp(1, 100);
    let written = Written::of(picture, options);
    let note = written.provenance.map(|note| comment(&format!("{SOFTWARE}: {note}")));
    let comments = note.into_iter().chain(written.texts.iter().map(|text| comment(&text.text)));
    let comments = comments.collect::<Vec<_>>().concat();
    let mut encoder = Encoder::new(Insert { out, pass: JFIF_END, insert: comments }, quality);
    encoder.set_sampling_factor(if quality >= FULL_COLOUR_QUALITY {
        SamplingFactor::R_4_4_4
    } else {
        SamplingFactor::R_4_2_0
    });
    if let Some((across, down)) = written.dpi {
        let whole = |dpi: f32| dpi.round().clamp(1.0, 65_535.0) as u16;
        encoder.set_density(PixelDensity { density: (whole(across), whole(down)), unit: PixelDensityUnit::Inches });
    }
    // Blocks that fit into no segment are left out: there is no standard way to split them.
    if let Some(exif) = written.exif.filter(|exif| exif.len() + EXIF_PREFIX <= MOST_SEGMENT) {
        encoder.add_exif_metadata(&exif).map_err(told)?;
    }
    if let Some(xmp) = written.xmp.filter(|xmp| xmp.len() + XMP.len() <= MOST_SEGMENT) {
        encoder.add_app_segment(1, [XMP, xmp.as_bytes()].concat()).map_err(told)?;
    }
    if let Some(records) = written.iptc {
        encoder.add_app_segment(13, [iptc::PHOTOSHOP, &iptc::to_resource(records)].concat()).map_err(told)?;
    }
    if let Some(icc) = written.icc {
        encoder.add_icc_profile(icc).map_err(told)?;
    }
    encoder.encode_image(Rows(picture)).map_err(told)
}

/// A comment segment.
fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(MOST_SEGMENT)];
    let mut segment = vec![0xFF, 0xFE];
    segment.extend((text.len() as u16 + 2).to_be_bytes());
    segment.extend(text);
    segment
}

/// Inserts bytes after the first `pass` that are written. The encoder has no comments of its own.
struct Insert<W> {
    out: W,
    pass: usize,
    insert: Vec<u8>,
}

impl<W: Write> Write for Insert<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.pass == 0 {
            self.out.write_all(&std::mem::take(&mut self.insert))?;
            return self.out.write(bytes);
        }
        let count = self.out.write(&bytes[..bytes.len().min(self.pass)])?;
        self.pass -= count;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A picture as the encoder wants it: planes of 8-bit luminance and colour, on white.
struct Rows<'a>(&'a Picture);

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        if self.0.channels.is_gray() { JpegColorType::Luma } else { JpegColorType::Ycbcr }
    }

    fn width(&self) -> u16 {
        self.0.width as u16
    }

    fn height(&self) -> u16 {
        self.0.height as u16
    }

    fn fill_buffers(&self, y: u16, planes: &mut [Vec<u8>; 4]) {
        let n = self.0.channels.count();
        let row = self.0.width as usize * n;
        let range = usize::from(y) * row..(usize::from(y) + 1) * row;
        with_samples!(&self.0.samples, s => s[range].chunks_exact(n).for_each(|pixel| push(pixel, planes)));
    }
}

fn push<T: Sample>(pixel: &[T], planes: &mut [Vec<u8>; 4]) {
    match *pixel {
        [v] => planes[0].push(on_white(v, T::MAX)),
        [v, a] => planes[0].push(on_white(v, a)),
        [r, g, b] => push_rgb([r, g, b], T::MAX, planes),
        [r, g, b, a] => push_rgb([r, g, b], a, planes),
        _ => unreachable!("a pixel has one to four samples"),
    }
}

fn push_rgb<T: Sample>(rgb: [T; 3], alpha: T, planes: &mut [Vec<u8>; 4]) {
    let [r, g, b] = rgb.map(|v| on_white(v, alpha));
    let (y, cb, cr) = rgb_to_ycbcr(r, g, b);
    planes[0].push(y);
    planes[1].push(cb);
    planes[2].push(cr);
}

/// A sample with straight alpha laid on white, as 8 bits, rounded once.
fn on_white<T: Sample>(value: T, alpha: T) -> u8 {
    let [value, alpha, most] = [value, alpha, T::MAX].map(|v| u64::from(v.value()));
    let laid = value * alpha + most * (most - alpha);
    ((laid * 255 + most * most / 2) / (most * most)) as u8
}

fn told(error: EncodingError) -> ImageError {
    match error {
        EncodingError::IoError(e) => ImageError::Io(e),
        other => failed(Format::Jpeg, other),
    }
}
