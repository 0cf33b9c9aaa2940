//! TIFF: reads directories, and interprets the decompressed contents of strips and tiles.

mod chunks;
mod fax;

use super::{Cancelled, Container, broken, check_size, jpeg, metadata_block, zeroed};
use std::collections::HashSet;

use crate::{
    Channels, Format, ImageError, Limits, Metadata, Sample, Samples,
    colour::Space,
    exif::{self, Parts},
    ifd::{Entry, Fields, Structure},
    iptc,
};
use chunks::Chunks;

const FORMAT: Format = Format::Tiff;

const NEW_SUBFILE_TYPE: u16 = 254;
const SUBFILE_TYPE: u16 = 255;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR: u16 = 284;
const PALETTE: u16 = 320;
const SUB_DIRECTORIES: u16 = 330;
const INK_SET: u16 = 332;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const XMP: u16 = 700;
const IPTC: u16 = 33723;
const ICC: u16 = 34675;
const DNG_VERSION: u16 = 50706;

/// Samples of a pixel; those beyond colours and alpha are ignored.
const MOST_SAMPLES: usize = 12;

/// PhotometricInterpretation of what a sensor saw behind its coloured filters, and of that once it is RGB (DNG 1.4).
const SENSOR: u64 = 32803;
const LINEAR_RAW: u64 = 34892;
/// Sony's, Samsung's, Nikon's, Kodak's and Pentax's own.
const RAW_COMPRESSIONS: [u64; 6] = [32767, 32769, 32770, 34713, 65000, 65535];

/// The directory of the picture that is decoded.
struct Directory<'a> {
    structure: Structure<'a>,
    entries: Vec<Entry<'a>>,
    at: u64,
    /// Whether there are more pictures than this one and smaller versions.
    more: bool,
}

impl<'a> Directory<'a> {
    /// The first that is not a smaller version of another; if there is none, the first.
    fn first(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let cut = || ImageError::Truncated { format: FORMAT };
        let (structure, start) = Structure::open(bytes).ok_or_else(cut)?;
        let (mut first, mut reduced, mut more) = (None, None, false);
        let (mut at, mut read) = (start, 0);
        let mut seen = HashSet::new();
        // Overlapping directories could make a small file expensive, and a loop would never end.
        while at != 0 && seen.insert(at) && read <= structure.bytes.len() {
            let Some(Fields { entries, next, bytes }) = structure.directory(at) else {
                // The first picture is complete, whatever follows.
                if first.is_some() || reduced.is_some() {
                    break;
                }
                return Err(cut());
            };
            read += bytes;
            let page = Self { structure, entries, at, more: false };
            page.check_is_no_raw_file(&mut read)?;
            if !page.is_reduced() {
                more = first.is_some();
                first.get_or_insert(page);
            } else {
                reduced.get_or_insert(page);
            }
            if more {
                break;
            }
            at = next;
        }
        let first = first.or(reduced).ok_or_else(cut)?;
        Ok(Self { more, ..first })
    }

    /// A thumbnail, a smaller version or a mask: NewSubfileType's bits, or SubfileType's 2.
    fn is_reduced(&self) -> bool {
        self.number(NEW_SUBFILE_TYPE).is_some_and(|bits| bits & 5 != 0) || self.number(SUBFILE_TYPE) == Some(2)
    }

    /// Camera raw files are TIFF files whose readable picture is a thumbnail. The sensor data is in a directory below.
    /// `read` grows by the bytes of the directories that are read, until there were as many as the file has.
    fn check_is_no_raw_file(&self, read: &mut usize) -> Result<(), ImageError> {
        let order = self.structure.order;
        let below = self.get(SUB_DIRECTORIES).into_iter().flat_map(|e| {
            // Cameras write a handful at most.
            (0..e.count.min(16) as usize).filter_map(move |i| e.number(order, i))
        });
        let is_raw = |entries: &[Entry<'_>]| {
            let number = |tag| entries.iter().find(|e| e.tag == tag)?.number(order, 0);
            matches!(number(PHOTOMETRIC), Some(SENSOR | LINEAR_RAW))
                || number(COMPRESSION).is_some_and(|compression| RAW_COMPRESSIONS.contains(&compression))
                || entries.iter().any(|e| e.tag == DNG_VERSION)
        };
        let mut raw = is_raw(&self.entries);
        for at in below {
            if raw || *read > self.structure.bytes.len() {
                break;
            }
            if let Some(Fields { entries, bytes, .. }) = self.structure.directory(at) {
                *read += bytes;
                raw = is_raw(&entries);
            }
        }
        if raw { Err(ImageError::Unreadable { what: "a camera raw file" }) } else { Ok(()) }
    }

    fn get(&self, tag: u16) -> Option<&Entry<'a>> {
        self.entries.iter().find(|e| e.tag == tag)
    }

    fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.get(tag)?.data
    }

    /// The first value of a field.
    fn number(&self, tag: u16) -> Option<u64> {
        self.get(tag)?.number(self.structure.order, 0)
    }

    /// The first `most` values of a field; empty if there is none.
    fn numbers(&self, tag: u16, most: usize) -> Vec<u64> {
        let order = self.structure.order;
        let count = |e: &Entry<'_>| most.min(e.count as usize);
        self.get(tag).map_or(Vec::new(), |e| (0..count(e)).map_while(|i| e.number(order, i)).collect())
    }

    fn dpi(&self) -> Option<(f32, f32)> {
        let scale = exif::dots_per_unit(self.number(exif::RESOLUTION_UNIT))?;
        let side = |tag| Some(self.get(tag)?.rational(self.structure.order)? * scale);
        Some((side(exif::X_RESOLUTION)?, side(exif::Y_RESOLUTION)?))
    }
}

/// What the samples of a file mean.
struct Layout {
    width: u32,
    height: u32,
    /// Bits of a stored sample: 1, 2, 4, 8 or 16.
    bits: u8,
    /// Stored samples of a pixel.
    samples: usize,
    planar: bool,
    colours: Colours,
    alpha: Alpha,
    ycc: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colours {
    Gray { white_is_zero: bool },
    Palette,
    Rgb,
    Other(Space),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alpha {
    None,
    Straight,
    Premultiplied,
}

impl Layout {
    fn channels(&self) -> Channels {
        match (self.colours, self.alpha) {
            (Colours::Gray { .. }, Alpha::None) => Channels::Gray,
            (Colours::Gray { .. }, _) => Channels::GrayAlpha,
            (Colours::Rgb | Colours::Palette, Alpha::None) | (Colours::Other(_), _) => Channels::Rgb,
            (Colours::Rgb | Colours::Palette, _) => Channels::Rgba,
        }
    }

    /// Samples of a pixel that are used: colours first, then alpha.
    fn used(&self) -> usize {
        let colours = match self.colours {
            Colours::Gray { .. } | Colours::Palette => 1,
            Colours::Other(Space::Cmyk) => 4,
            Colours::Rgb | Colours::Other(_) => 3,
        };
        colours + usize::from(self.alpha != Alpha::None)
    }

    /// Bits of a decoded sample.
    fn decoded_bits(&self) -> u8 {
        if self.bits == 16 && self.colours != Colours::Palette { 16 } else { 8 }
    }

    fn read(first: &Directory<'_>, limits: &Limits) -> Result<Self, ImageError> {
        let number = |tag| first.number(tag);
        let unsupported = |what: String| ImageError::Unsupported { format: FORMAT, what };
        let side = |tag| number(tag).and_then(|v| u32::try_from(v).ok());
        let (Some(width), Some(height)) = (side(WIDTH), side(HEIGHT)) else {
            return Err(broken(FORMAT, "its size is missing"));
        };
        check_size(FORMAT, width, height, limits)?;

        let samples = number(SAMPLES_PER_PIXEL).unwrap_or(1) as usize;
        let all_bits = first.numbers(BITS, MOST_SAMPLES);
        let bits = all_bits.first().copied().unwrap_or(1);
        if all_bits.iter().any(|&b| b != bits) {
            return Err(unsupported("samples of different bit depths".into()));
        }
        match first.number(SAMPLE_FORMAT) {
            None | Some(1 | 4) => {}
            Some(3) => return Err(unsupported("floating-point samples".into())),
            Some(_) => return Err(unsupported("signed samples".into())),
        }
        if !matches!(bits, 1 | 2 | 4 | 8 | 16) {
            return Err(unsupported(format!("{bits} bits per sample")));
        }
        let compression = number(COMPRESSION).unwrap_or(1);
        let colours = match number(PHOTOMETRIC) {
            Some(0) => Colours::Gray { white_is_zero: true },
            Some(1) | None => Colours::Gray { white_is_zero: false },
            Some(2) => Colours::Rgb,
            Some(3) => Colours::Palette,
            Some(5) if matches!(number(INK_SET), None | Some(1)) => Colours::Other(Space::Cmyk),
            Some(6) if compression == 7 => Colours::Rgb,
            Some(8) => Colours::Other(Space::TiffLab),
            Some(9) => Colours::Other(Space::IccLab),
            Some(6) => return Err(unsupported("YCbCr without JPEG compression".into())),
            Some(n) => return Err(unsupported(format!("color space {n}"))),
        };
        let mut layout = Self {
            width,
            height,
            bits: bits as u8,
            samples,
            planar: number(PLANAR) == Some(2),
            colours,
            alpha: Alpha::None,
            ycc: number(PHOTOMETRIC) == Some(6),
        };
        let colour_samples = layout.used();
        if samples < colour_samples || samples > MOST_SAMPLES {
            return Err(unsupported(format!("{samples} samples per pixel")));
        }
        if matches!(colours, Colours::Other(_)) && bits < 8 {
            return Err(unsupported(format!("{bits} bits per sample in this color space")));
        }
        if samples > colour_samples && !matches!(colours, Colours::Other(_)) {
            layout.alpha = match first.number(EXTRA_SAMPLES) {
                Some(1) => Alpha::Premultiplied,
                Some(2) | None => Alpha::Straight,
                Some(_) => Alpha::None,
            };
        }
        Ok(layout)
    }
}

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Container, ImageError> {
    let first = Directory::first(bytes)?;
    let layout = Layout::read(&first, limits)?;
    Chunks::read(bytes, &first, &layout)?;

    let mut metadata = Metadata { dpi: first.dpi(), ..Metadata::default() };
    if let Some(icc) = first.bytes(ICC) {
        metadata.icc = Some(metadata_block(icc, "ICC profile", limits)?);
    }
    if let Some(xmp) = first.bytes(XMP) {
        metadata.xmp = Some(metadata_block(xmp, "XMP", limits)?);
    }
    if let Some(records) = first.bytes(IPTC).and_then(iptc::of_resources) {
        metadata.iptc = Some(metadata_block(&records, "IPTC", limits)?);
    }
    let parts = Parts::read(first.structure, first.at);
    if !parts.is_empty() {
        metadata.exif = Some(metadata_block(&parts.into_block(), "EXIF", limits)?).filter(|e| exif::is_valid(e));
    }
    let mut notes = Vec::new();
    if first.more {
        notes.push("the file has more than one image: only the first was used".into());
    }
    if matches!(layout.colours, Colours::Other(_)) && layout.samples > layout.used() {
        notes.push("extra channels were left out".into());
    }
    let Layout { width, height, .. } = layout;
    let (channels, bits) = (layout.channels(), layout.decoded_bits());
    let orientation = match first.number(exif::ORIENTATION) {
        Some(o @ 1..=8) => o as u8,
        _ => 1,
    };
    let (animated, may_be_cut) = (false, false);
    Ok(Container { format: FORMAT, width, height, channels, bits, orientation, animated, metadata, notes, may_be_cut })
}

/// The pixels, and what their samples mean.
pub(super) fn pixels(bytes: &[u8], limits: &Limits, cancelled: Cancelled<'_>) -> Result<(Samples, Space), ImageError> {
    let first = Directory::first(bytes)?;
    let layout = Layout::read(&first, limits)?;
    let chunks = Chunks::read(bytes, &first, &layout)?;
    let planes = if layout.planar { layout.samples } else { 1 };
    // Bytes of a row, of one plane if there are several.
    let row = (layout.width as usize * (layout.samples / planes) * usize::from(layout.bits)).div_ceil(8);
    let count = (row * layout.height as usize * planes) as u64;
    let space = match layout.colours {
        Colours::Other(space) => space,
        _ => Space::Display,
    };
    let palette = first.numbers(PALETTE, 3 << layout.bits);
    if layout.bits == 16 {
        let mut raw = zeroed::<u16>(count / 2)?;
        chunks.decode(&layout, row, bytemuck::cast_slice_mut(&mut raw), cancelled)?;
        let samples = match layout.colours {
            _ if layout.is_plain() => Samples::U16(raw),
            Colours::Palette => Samples::U8(layout.settle(&raw, row / 2, &palette)?),
            _ => Samples::U16(layout.settle(&raw, row / 2, &palette)?),
        };
        return Ok((samples, space));
    }
    let mut raw = zeroed::<u8>(count)?;
    chunks.decode(&layout, row, &mut raw, cancelled)?;
    let samples = if layout.is_plain() { raw } else { layout.settle(&raw, row, &palette)? };
    Ok((Samples::U8(samples), space))
}

impl Layout {
    /// Whether stored samples are decoded samples.
    fn is_plain(&self) -> bool {
        !self.planar
            && self.bits >= 8
            && self.samples == self.used()
            && !self.ycc
            && self.alpha != Alpha::Premultiplied
            && !matches!(self.colours, Colours::Palette | Colours::Gray { white_is_zero: true })
    }

    /// From stored to decoded samples. `row` is the length of a stored row, of one plane if there are several.
    fn settle<T: Sample, U: Sample>(&self, raw: &[T], row: usize, palette: &[u64]) -> Result<Vec<U>, ImageError> {
        let (width, height) = (self.width as usize, self.height as usize);
        let used = self.used();
        let out_samples = match self.colours {
            Colours::Palette => 3 + usize::from(self.alpha != Alpha::None),
            _ => used,
        };
        let levels = (1u32 << self.bits) - 1;
        if self.colours == Colours::Palette && palette.len() < 3 << self.bits {
            return Err(broken(FORMAT, "its palette is too short"));
        }
        // Some programs wrote palettes of 8 bits; of those with 16, some have levels times 257 and some times 256.
        let palette_shift = if palette.iter().all(|&v| v < 256) { 0 } else { 8 };
        let mut out = zeroed::<U>((width * height * out_samples) as u64)?;
        let mut pixel = [0u32; 5];
        for (y, line) in out.chunks_exact_mut(width * out_samples).enumerate() {
            for (x, to) in line.chunks_exact_mut(out_samples).enumerate() {
                for (c, value) in pixel[..used].iter_mut().enumerate() {
                    let (start, i) =
                        if self.planar { ((c * height + y) * row, x) } else { (y * row, x * self.samples + c) };
                    *value = level(&raw[start..start + row], i, self.bits);
                }
                if self.ycc {
                    let [y, cb, cr, ..] = pixel.map(|v| v as u8);
                    let rgb = jpeg::ycc_to_rgb(y, cb, cr);
                    pixel[..3].copy_from_slice(&rgb.map(u32::from));
                }
                match self.colours {
                    Colours::Gray { white_is_zero: true } => pixel[0] = levels - pixel[0],
                    Colours::Palette => {
                        let index = pixel[0] as usize;
                        for (c, to) in to[..3].iter_mut().enumerate() {
                            *to = U::from_ratio(
                                (palette[(c << self.bits) + index] >> palette_shift).min(255) as u32,
                                255,
                            );
                        }
                        if let Some(alpha) = to.get_mut(3) {
                            *alpha = U::from_ratio(pixel[1], levels);
                        }
                        continue;
                    }
                    _ => {}
                }
                if self.alpha == Alpha::Premultiplied {
                    let alpha = pixel[used - 1];
                    for value in &mut pixel[..used - 1] {
                        *value = (*value * levels + alpha / 2).checked_div(alpha).unwrap_or(0).min(levels);
                    }
                }
                for (to, &value) in to.iter_mut().zip(&pixel) {
                    *to = U::from_ratio(value, levels);
                }
            }
        }
        Ok(out)
    }
}

/// The `i`th sample of a row whose samples have so many bits, the first in the highest.
fn level<T: Sample>(row: &[T], i: usize, bits: u8) -> u32 {
    let (per_word, bits) = (usize::from(T::BITS / bits), u32::from(bits));
    let (word, before) = (row[i / per_word].value(), (i % per_word) as u32);
    word >> (u32::from(T::BITS) - (before + 1) * bits) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of entries (tag, type, count, value) and the offset of the next.
    fn directory(entries: &[(u16, u16, u32, u32)], next: u32) -> Vec<u8> {
        let mut bytes = (entries.len() as u16).to_le_bytes().to_vec();
        for (tag, kind, count, value) in entries {
            bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].as_flattened());
            bytes.extend([count.to_le_bytes(), value.to_le_bytes()].as_flattened());
        }
        bytes.extend(next.to_le_bytes());
        bytes
    }

    #[test]
    fn directories_below_cost_no_more_than_twice_the_files_size() {
        // Behind the header lie 16 offsets of one large directory, and that, of fields of a type or of none.
        for kind in [3, 99] {
            let large = directory(&[(700, kind, 1, 0); 20_000], 0);
            let mut file = b"II*\0\0\0\0\0".to_vec();
            let at = 8 + 16 * 4;
            file.extend([at as u32; 16].iter().flat_map(|at| at.to_le_bytes()));
            file.extend(&large);
            let first = file.len() as u64;
            file.extend(directory(&[(SUB_DIRECTORIES, 4, 16, 8)], 0));
            let (structure, _) = Structure::open(&file).expect("a header");
            let entries = structure.directory(first).expect("a directory").entries;
            let page = Directory { structure, entries, at: first, more: false };
            let mut read = 0;
            page.check_is_no_raw_file(&mut read).expect("no raw file");
            assert!((large.len() - 6..=2 * file.len()).contains(&read), "{read} of {}", file.len());
        }
    }
}
