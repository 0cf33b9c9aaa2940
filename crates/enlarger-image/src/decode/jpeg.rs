//! JPEG: markers are walked here, pixels come from `zune-jpeg`.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{Container, broken, check_size, orientation, zeroed};
use crate::{Channels, Format, ImageError, Limits, Metadata, Samples, Text, colour::Space, exif, iptc};

/// Every scan goes over all blocks, so a small file with many can keep a decoder busy for hours. Encoders write about 10.
const MOST_SCANS: u32 = 200;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const ICC: &[u8] = b"ICC_PROFILE\0";

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let format = Format::Jpeg;
    let mut frame = None;
    let mut metadata = Metadata::default();
    let mut jfif_dpi = None;
    let mut icc = IccParts::default();
    let (mut scans, mut scan_bytes) = (0, 0u64);
    let mut at = 2;
    loop {
        let (marker, data, next) = segment(bytes, at)?;
        at = next;
        match marker {
            0xD9 => break,
            0xC0..=0xC2 if frame.is_none() => {
                let found = Frame::read(data).ok_or_else(|| broken(format, "its frame header is too short"))?;
                check_size(format, found.width, found.height, limits)?;
                frame = Some(found);
            }
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let what = if marker >= 0xC9 { "arithmetic coding" } else { "lossless or hierarchical coding" };
                return Err(ImageError::Unsupported { format, what: what.into() });
            }
            0xDA => {
                scans += 1;
                let end = end_of_scan(bytes, at).ok_or(ImageError::Truncated { format })?;
                scan_bytes += (end - at) as u64;
                at = end;
                if scans > MOST_SCANS {
                    return Err(broken(format, "it has far more scans than any picture needs"));
                }
            }
            0xE0 if data.starts_with(b"JFIF\0") => jfif_dpi = density(data),
            0xE1 if data.starts_with(EXIF) && metadata.exif.is_none() => {
                metadata.exif = Some(&data[EXIF.len()..]).filter(|e| exif::is_valid(e)).map(<[u8]>::to_vec);
            }
            0xE1 if data.starts_with(XMP) => metadata.xmp = Some(data[XMP.len()..].to_vec()),
            0xED if data.starts_with(iptc::PHOTOSHOP) && metadata.iptc.is_none() => {
                metadata.iptc = iptc::of_resources(&data[iptc::PHOTOSHOP.len()..]);
            }
            0xFE => {
                let text = String::from_utf8_lossy(data).trim_end_matches('\0').to_owned();
                metadata.texts.push(Text { keyword: "Comment".into(), text });
            }
            0xE2 if data.starts_with(ICC) => icc.add(&data[ICC.len()..], limits)?,
            _ => {}
        }
    }
    let frame = frame.ok_or_else(|| broken(format, "it has no frame"))?;
    if frame.precision != 8 {
        return Err(ImageError::Unsupported { format, what: format!("{} bits per sample", frame.precision) });
    }
    // The first scan over a component spends at least a bit on each block of 8 x 8 pixels.
    if scan_bytes * 8 * 64 < u64::from(frame.width) * u64::from(frame.height) {
        return Err(ImageError::Truncated { format });
    }
    let channels = match frame.components {
        1 => Channels::Gray,
        3 | 4 => Channels::Rgb,
        n => return Err(ImageError::Unsupported { format, what: format!("{n} colour components") }),
    };
    metadata.icc = icc.join();
    metadata.dpi = jfif_dpi.or_else(|| metadata.exif.as_deref().and_then(exif::dpi));
    let Frame { width, height, .. } = frame;
    let orientation = orientation(&metadata);
    Ok(Container {
        format,
        width,
        height,
        channels,
        bits: 8,
        orientation,
        animated: false,
        metadata,
        notes: Vec::new(),
    })
}

/// The pixels, and what their samples mean.
pub(super) fn pixels(bytes: &[u8], container: &Container) -> Result<(Samples, Space), ImageError> {
    let told = |error| broken(Format::Jpeg, error);
    // Not strict, the codec fills up with grey whatever the entropy-coded data does not hold.
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(told)?;
    let stored = decoder.input_colorspace();
    let (out, space) = match stored {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, Space::Display),
        // Inks are taken as they are stored; the codec's own way to RGB knows no profile.
        Some(inks @ (ColorSpace::CMYK | ColorSpace::YCCK)) => (inks, Space::Cmyk),
        _ => (ColorSpace::RGB, Space::Display),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let pixels = u64::from(container.width) * u64::from(container.height);
    let mut samples = zeroed::<u8>(pixels * out.num_components() as u64)?;
    decoder.decode_into(&mut samples).map_err(told)?;
    if out == ColorSpace::YCCK {
        for pixel in samples.chunks_exact_mut(4) {
            let rgb = ycc_to_rgb(pixel[0], pixel[1], pixel[2]);
            pixel[..3].copy_from_slice(&rgb.map(|v| 255 - v));
        }
    }
    if space == Space::Cmyk && is_adobe(bytes) {
        samples.iter_mut().for_each(|s| *s = 255 - *s);
    }
    if space == Space::Display && out.num_components() != container.channels.count() {
        return Err(broken(Format::Jpeg, "its headers contradict each other"));
    }
    Ok((Samples::U8(samples), space))
}

/// Width, height and interleaved samples of a stream inside another format, as they are stored, without a change of colours.
///
/// # Errors
/// If the stream is damaged, or has other than `count` components.
pub(super) fn components(bytes: &[u8], count: usize) -> Result<(usize, usize, Vec<u8>), ImageError> {
    let told = |error| broken(Format::Jpeg, error);
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(told)?;
    let (Some(stored), Some((width, height))) = (decoder.input_colorspace(), decoder.dimensions()) else {
        return Err(broken(Format::Jpeg, "it has no frame"));
    };
    if stored.num_components() != count {
        return Err(broken(Format::Jpeg, "it has other colours than the file around it says"));
    }
    decoder.set_options(options.jpeg_set_out_colorspace(stored));
    let mut samples = zeroed::<u8>((width * height * count) as u64)?;
    decoder.decode_into(&mut samples).map_err(told)?;
    Ok((width, height, samples))
}

/// Adobe's programs store inks upside down: 255 is none. Their files, and those of all who followed them, have this segment.
fn is_adobe(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Ok((marker, data, next)) = segment(bytes, at) {
        match marker {
            0xEE if data.starts_with(b"Adobe") => return true,
            0xDA | 0xD9 => return false,
            _ => at = next,
        }
    }
    false
}

/// Size of the frame in a JPEG stream, if its headers can be made out.
pub(super) fn frame_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        let (marker, data, next) = segment(bytes, at).ok()?;
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return Frame::read(data).map(|f| (f.width, f.height));
            }
            0xDA | 0xD9 => return None,
            _ => at = next,
        }
    }
}

/// ITU-T T.871, section 7.
pub(super) fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round() as u8)
}

/// The marker at or after `at`, its data, and where the next one starts.
fn segment(bytes: &[u8], at: usize) -> Result<(u8, &[u8], usize), ImageError> {
    let format = Format::Jpeg;
    if bytes.get(at).is_some_and(|&b| b != 0xFF) {
        return Err(broken(format, "there are stray bytes between its segments"));
    }
    // Any number of fill bytes may come before a marker.
    let fill = bytes.get(at..).unwrap_or_default().iter().take_while(|&&b| b == 0xFF).count();
    let at = at + fill;
    let marker = *bytes.get(at).ok_or(ImageError::Truncated { format })?;
    if matches!(marker, 0x01 | 0xD0..=0xD9) {
        return Ok((marker, &[], at + 1));
    }
    let length = bytes.get(at + 1..at + 3).ok_or(ImageError::Truncated { format })?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return Err(broken(format, "a segment is shorter than its own length"));
    }
    let data = bytes.get(at + 3..at + 1 + length).ok_or(ImageError::Truncated { format })?;
    Ok((marker, data, at + 1 + length))
}

/// Where the next marker is that is neither a stuffed byte nor a restart.
fn end_of_scan(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

/// What SOF says.
struct Frame {
    precision: u8,
    width: u32,
    height: u32,
    components: u8,
}

impl Frame {
    fn read(data: &[u8]) -> Option<Self> {
        let &[precision, h1, h0, w1, w0, components, ..] = data else { return None };
        let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
        Some(Self { precision, width: side(w1, w0), height: side(h1, h0), components })
    }
}

/// A profile cut into segments, each with its number and their count (ICC.1, annex B.4).
#[derive(Default)]
struct IccParts<'a> {
    parts: Vec<(u8, &'a [u8])>,
    bytes: usize,
}

impl<'a> IccParts<'a> {
    fn add(&mut self, data: &'a [u8], limits: &Limits) -> Result<(), ImageError> {
        if let &[number, _, ref part @ ..] = data {
            self.bytes += part.len();
            self.parts.push((number, part));
        }
        if self.bytes > limits.max_metadata {
            return Err(ImageError::MetadataTooLarge { what: "ICC profile", limit: limits.max_metadata });
        }
        Ok(())
    }

    fn join(mut self) -> Option<Vec<u8>> {
        self.parts.sort_by_key(|part| part.0);
        let whole: Vec<u8> = self.parts.into_iter().flat_map(|part| part.1.iter().copied()).collect();
        (!whole.is_empty()).then_some(whole)
    }
}

/// JFIF's density: unit (1 inch, 2 centimetre), across, down.
fn density(data: &[u8]) -> Option<(f32, f32)> {
    let &[unit, x1, x0, y1, y0, ..] = data.get(7..)? else { return None };
    let scale = match unit {
        1 => 1.0,
        2 => 2.54,
        _ => return None,
    };
    let (x, y) = (u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0]));
    (x > 0 && y > 0).then(|| (f32::from(x) * scale, f32::from(y) * scale))
}
