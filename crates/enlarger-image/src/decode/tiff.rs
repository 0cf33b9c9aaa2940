//! TIFF: the directory is read here, strips and tiles come from the `tiff` crate.
//!
//! The crate refuses palettes, grey with alpha and some more. So it is told that the samples mean nothing in particular, whereupon
//! it hands them over as they are stored, and their meaning is settled here.

use std::io::{Cursor, Read, Seek, SeekFrom};

use tiff::{TiffError, decoder::Decoder};

use super::{Container, broken, check_size, jpeg, metadata_block, zeroed};
use crate::{
    Channels, Format, ImageError, Limits, Metadata, Samples,
    colour::Space,
    exif::{self, Parts},
    ifd::{Entry, Structure},
};

const FORMAT: Format = Format::Tiff;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTES: u16 = 279;
const PLANAR: u16 = 284;
const PALETTE: u16 = 320;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTES: u16 = 325;
const INK_SET: u16 = 332;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const XMP: u16 = 700;
const ICC: u16 = 34675;

/// The first directory of a file.
struct Directory<'a> {
    structure: Structure<'a>,
    entries: Vec<Entry<'a>>,
    at: u64,
    next: u64,
}

impl<'a> Directory<'a> {
    fn first(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let (structure, at) = Structure::open(bytes).ok_or(ImageError::Truncated { format: FORMAT })?;
        let (entries, next) = structure.directory(at).ok_or(ImageError::Truncated { format: FORMAT })?;
        Ok(Self { structure, entries, at, next })
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

    /// All values of a field; empty if there is none.
    fn numbers(&self, tag: u16) -> Vec<u64> {
        let order = self.structure.order;
        self.get(tag).map_or(Vec::new(), |e| (0..e.count as usize).map_while(|i| e.number(order, i)).collect())
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

    /// Samples of a pixel that are of use: colours first, then alpha.
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
            return Err(broken(FORMAT, "it does not say its size"));
        };
        check_size(FORMAT, width, height, limits)?;

        let samples = number(SAMPLES_PER_PIXEL).unwrap_or(1) as usize;
        let all_bits = first.numbers(BITS);
        let bits = all_bits.first().copied().unwrap_or(1);
        if all_bits.iter().any(|&b| b != bits) {
            return Err(unsupported("samples of different widths".into()));
        }
        match first.numbers(SAMPLE_FORMAT).first() {
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
            Some(6) => return Err(unsupported("YCbCr colours without JPEG compression".into())),
            Some(32803) => return Err(unsupported("the raw data of a camera's sensor".into())),
            Some(n) => return Err(unsupported(format!("colours of kind {n}"))),
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
        if samples < colour_samples || samples > colour_samples + 8 {
            return Err(unsupported(format!("{samples} samples per pixel")));
        }
        if matches!(colours, Colours::Other(_)) && bits < 8 {
            return Err(unsupported(format!("{bits} bits per sample in such colours")));
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
    check_chunks(bytes, &first, &layout)?;

    let mut metadata = Metadata { dpi: first.dpi(), ..Metadata::default() };
    if let Some(icc) = first.bytes(ICC) {
        metadata.icc = Some(metadata_block(icc, "ICC profile", limits)?);
    }
    if let Some(xmp) = first.bytes(XMP) {
        metadata.xmp = Some(metadata_block(xmp, "XMP", limits)?);
    }
    let parts = Parts::read(first.structure, first.at);
    if !parts.is_empty() {
        metadata.exif = Some(metadata_block(&parts.into_block(), "EXIF", limits)?).filter(|e| exif::is_valid(e));
    }
    let mut notes = Vec::new();
    if first.next != 0 {
        notes.push("the file has more than one picture: only its first was used".into());
    }
    if matches!(layout.colours, Colours::Other(_)) && layout.samples > layout.used() {
        notes.push("samples beyond the colours were left out".into());
    }
    let Layout { width, height, .. } = layout;
    let (channels, bits) = (layout.channels(), layout.decoded_bits());
    let orientation = match first.number(exif::ORIENTATION) {
        Some(o @ 1..=8) => o as u8,
        _ => 1,
    };
    Ok(Container { format: FORMAT, width, height, channels, bits, orientation, animated: false, metadata, notes })
}

/// Holds every strip or tile against the file's length, and all of them against what they are to become.
fn check_chunks(bytes: &[u8], first: &Directory<'_>, layout: &Layout) -> Result<(), ImageError> {
    let cut = || ImageError::Truncated { format: FORMAT };
    let number = |tag| first.number(tag).unwrap_or(0);
    let (width, height) = (u64::from(layout.width), u64::from(layout.height));
    let tiled = first.get(TILE_OFFSETS).is_some();
    let (offsets, lengths, chunk) = if tiled {
        (TILE_OFFSETS, TILE_BYTES, (number(TILE_WIDTH), number(TILE_HEIGHT)))
    } else {
        let rows = first.number(ROWS_PER_STRIP).unwrap_or(height).min(height);
        (STRIP_OFFSETS, STRIP_BYTES, (width, rows))
    };
    // A tile larger than the picture by far would be a buffer larger by far.
    if chunk.0 == 0 || chunk.1 == 0 || chunk.0 > width + 4096 || chunk.1 > height + 4096 {
        return Err(broken(FORMAT, "the size of its strips or tiles makes no sense"));
    }
    let (offsets, lengths) = (first.numbers(offsets), first.numbers(lengths));
    let planes = if layout.planar { layout.samples as u64 } else { 1 };
    let needed = width.div_ceil(chunk.0) * height.div_ceil(chunk.1) * planes;
    if (offsets.len() as u64) < needed || (lengths.len() as u64) < needed {
        return Err(cut());
    }
    let compression = first.number(COMPRESSION).unwrap_or(1);
    let mut held = 0u64;
    for (&offset, &length) in offsets.iter().zip(&lengths) {
        let data = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(length)).ok());
        let data = data.and_then(|(start, end)| bytes.get(start..end)).ok_or_else(cut)?;
        held = held.saturating_add(length);
        // Each is a JPEG file of its own, which might claim any size.
        if compression == 7
            && let Some((w, h)) = jpeg::frame_size(data)
            && (u64::from(w) > chunk.0 || u64::from(h) > chunk.1)
        {
            return Err(broken(FORMAT, "a JPEG inside is larger than its place"));
        }
    }
    // Output bytes that one input byte can stand for, at most.
    let most = match compression {
        1 => 1,
        // A code of 12 bits is a string of at most 4096 bytes.
        5 => 2731,
        8 | 32946 => 1032,
        32773 => 64,
        // A bit per block of 64 pixels and component.
        7 => 64 * 8,
        _ => return Ok(()),
    };
    let row = (width * layout.samples as u64 * u64::from(layout.bits)) / 8;
    if held.saturating_mul(most) < row * height {
        return Err(cut());
    }
    Ok(())
}

/// The pixels, and what their samples mean.
pub(super) fn pixels(bytes: &[u8], container: &Container, limits: &Limits) -> Result<(Samples, Space), ImageError> {
    let first = Directory::first(bytes)?;
    let layout = Layout::read(&first, limits)?;
    let mut memory = tiff::decoder::Limits::unlimited();
    memory.ifd_value_size = bytes.len();
    let mut decoder = Decoder::new(Meaningless::new(bytes, &first)).map_err(told)?.with_limits(memory);
    let stored = decoder.image_buffer_layout().map_err(told)?;
    let planes = if layout.planar { layout.samples } else { 1 };
    let row = (u64::from(layout.width) * (layout.samples / planes) as u64 * u64::from(layout.bits)).div_ceil(8);
    if stored.complete_len as u64 != row * u64::from(layout.height) * planes as u64 {
        return Err(broken(FORMAT, "its tags contradict each other"));
    }
    let space = match layout.colours {
        Colours::Other(space) => space,
        _ => Space::Display,
    };
    if layout.bits == 16 {
        let mut raw = zeroed::<u16>(stored.complete_len as u64 / 2)?;
        decoder.read_image_bytes(bytemuck::cast_slice_mut(&mut raw)).map_err(told)?;
        if layout.is_plain() {
            return Ok((Samples::U16(raw), space));
        }
        let palette = first.numbers(PALETTE);
        if layout.colours == Colours::Palette {
            return Ok((Samples::U8(layout.settle(&raw, row as usize / 2, &palette)?), space));
        }
        return Ok((Samples::U16(layout.settle(&raw, row as usize / 2, &palette)?), space));
    }
    let mut raw = zeroed::<u8>(stored.complete_len as u64)?;
    decoder.read_image_bytes(&mut raw).map_err(told)?;
    if layout.is_plain() {
        return Ok((Samples::U8(raw), space));
    }
    debug_assert_eq!(container.bits, 8);
    Ok((Samples::U8(layout.settle(&raw, row as usize, &first.numbers(PALETTE))?), space))
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
    fn settle<T: Level, U: Level>(&self, raw: &[T], row: usize, palette: &[u64]) -> Result<Vec<U>, ImageError> {
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
        // Some programs wrote palettes of 8 bits.
        let palette_most = if palette.iter().all(|&v| v < 256) { 255 } else { 65535 };
        let mut out = zeroed::<U>((width * height * out_samples) as u64)?;
        let mut pixel = [0u32; 5];
        for (y, line) in out.chunks_exact_mut(width * out_samples).enumerate() {
            for (x, to) in line.chunks_exact_mut(out_samples).enumerate() {
                for (c, value) in pixel[..used].iter_mut().enumerate() {
                    let (start, i) =
                        if self.planar { ((c * height + y) * row, x) } else { (y * row, x * self.samples + c) };
                    *value = T::level(&raw[start..start + row], i, self.bits);
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
                            *to = U::scaled(palette[(c << self.bits) + index] as u32, palette_most);
                        }
                        if let Some(alpha) = to.get_mut(3) {
                            *alpha = U::scaled(pixel[1], levels);
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
                    *to = U::scaled(value, levels);
                }
            }
        }
        Ok(out)
    }
}

/// A stored or decoded sample.
trait Level: Copy + bytemuck::Zeroable {
    /// The `i`th sample of a row.
    fn level(row: &[Self], i: usize, bits: u8) -> u32;
    /// A value of `0..=most` over this type's range.
    fn scaled(value: u32, most: u32) -> Self;
}

impl Level for u8 {
    fn level(row: &[u8], i: usize, bits: u8) -> u32 {
        let (per_byte, bits) = (8 / usize::from(bits), u32::from(bits));
        let byte = u32::from(row[i / per_byte]);
        // The first sample is in the highest bits.
        byte >> (8 - bits - (i % per_byte) as u32 * bits) & ((1 << bits) - 1)
    }

    fn scaled(value: u32, most: u32) -> u8 {
        ((value * 255 + most / 2) / most) as u8
    }
}

impl Level for u16 {
    fn level(row: &[u16], i: usize, _bits: u8) -> u32 {
        row[i].into()
    }

    fn scaled(value: u32, most: u32) -> u16 {
        ((u64::from(value) * 65535 + u64::from(most) / 2) / u64::from(most)) as u16
    }
}

/// A file whose tag on what samples mean reads "grey", whatever it says.
struct Meaningless<'a> {
    file: Cursor<&'a [u8]>,
    at: u64,
    value: [u8; 2],
}

impl<'a> Meaningless<'a> {
    fn new(bytes: &'a [u8], first: &Directory<'_>) -> Self {
        let place = first.bytes(PHOTOMETRIC).map(|data| data.as_ptr() as u64 - bytes.as_ptr() as u64);
        let mut value = [0; 2];
        first.structure.order.put_u16(&mut value, 0, 1);
        Self { file: Cursor::new(bytes), at: place.unwrap_or(u64::MAX), value }
    }
}

impl Read for Meaningless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let from = self.file.position();
        let count = self.file.read(buffer)?;
        for (i, &byte) in self.value.iter().enumerate() {
            if let Some(place) = self.at.saturating_add(i as u64).checked_sub(from)
                && let Some(place) = buffer[..count].get_mut(place as usize)
            {
                *place = byte;
            }
        }
        Ok(count)
    }
}

impl Seek for Meaningless<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

fn told(error: TiffError) -> ImageError {
    match error {
        TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(what) => ImageError::Unsupported { format: FORMAT, what: what.to_string() },
        other => broken(FORMAT, other),
    }
}
