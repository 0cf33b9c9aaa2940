//! TIFF with deflate and the horizontal predictor, strip by strip.

use std::io::{Seek, Write};

use tiff::{
    Directory, TiffError,
    encoder::{
        Compression, DeflateLevel, DirectoryEncoder, Rational, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard,
        TiffValue, colortype::*,
    },
    tags::{PhotometricInterpretation, Predictor, ResolutionUnit, SampleFormat, Tag, Type},
};

use super::{
    EncodeOptions, failed,
    metadata::{self, Written},
};
use crate::{
    Channels, Format, ImageError, Picture, Samples,
    exif::{
        DESCRIPTION, EXIF_DIRECTORY, GPS_DIRECTORY, PROCESSING_SOFTWARE, Parts, RESOLUTION_UNIT, SOFTWARE,
        X_RESOLUTION, Y_RESOLUTION,
    },
    ifd::{self, Structure},
};

/// Offsets have 32 bits in an ordinary TIFF. What deflate cannot shrink grows by less than the slack.
const MOST_ORDINARY: u64 = (1 << 32) - (64 << 20);

const XMP: u16 = 700;
const IPTC: u16 = 33723;
const ICC: u16 = 34675;

pub(super) fn write<W: Write + Seek>(
    picture: &Picture,
    options: &EncodeOptions,
    out: &mut W,
) -> Result<(), ImageError> {
    let bytes = picture.samples.len() as u64 * u64::from(picture.samples.bits() / 8);
    let result = if bytes < MOST_ORDINARY {
        TiffEncoder::<_, TiffKindStandard>::new_generic(out).and_then(|encoder| file(picture, options, encoder))
    } else {
        TiffEncoder::<_, TiffKindBig>::new_generic(out).and_then(|encoder| file(picture, options, encoder))
    };
    result.map_err(|error| match error {
        TiffError::IoError(e) => ImageError::Io(e),
        other => failed(Format::Tiff, other),
    })
}

fn file<W: Write + Seek, K: TiffKind>(
    picture: &Picture,
    options: &EncodeOptions,
    encoder: TiffEncoder<W, K>,
) -> Result<(), TiffError> {
    let encoder =
        encoder.with_compression(Compression::Deflate(DeflateLevel::Fast)).with_predictor(Predictor::Horizontal);
    match (&picture.samples, picture.channels) {
        (Samples::U8(s), Channels::Gray) => image::<Gray8, _, _>(picture, s, options, encoder),
        (Samples::U8(s), Channels::GrayAlpha) => image::<GrayAlpha8, _, _>(picture, s, options, encoder),
        (Samples::U8(s), Channels::Rgb) => image::<RGB8, _, _>(picture, s, options, encoder),
        (Samples::U8(s), Channels::Rgba) => image::<RGBA8, _, _>(picture, s, options, encoder),
        (Samples::U16(s), Channels::Gray) => image::<Gray16, _, _>(picture, s, options, encoder),
        (Samples::U16(s), Channels::GrayAlpha) => image::<GrayAlpha16, _, _>(picture, s, options, encoder),
        (Samples::U16(s), Channels::Rgb) => image::<RGB16, _, _>(picture, s, options, encoder),
        (Samples::U16(s), Channels::Rgba) => image::<RGBA16, _, _>(picture, s, options, encoder),
    }
}

fn image<C: ColorType, W: Write + Seek, K: TiffKind>(
    picture: &Picture,
    samples: &[C::Inner],
    options: &EncodeOptions,
    mut encoder: TiffEncoder<W, K>,
) -> Result<(), TiffError>
where
    [C::Inner]: TiffValue,
{
    let written = Written::of(picture, options);
    let parts = written.exif.as_deref().and_then(Structure::open).map(|(s, first)| Parts::read(s, first));
    let mut parts = parts.unwrap_or_default();
    let mut children = Vec::new();
    for (tag, fields) in [(EXIF_DIRECTORY, &parts.exif), (GPS_DIRECTORY, &parts.gps)] {
        if !fields.is_empty() {
            let mut directory = encoder.extra_directory()?;
            put(&mut directory, fields)?;
            children.push((tag, directory.finish_with_offsets()?.offset));
        }
    }

    let mut image = encoder.new_image::<C>(picture.width, picture.height)?;
    if let Some((across, down)) = written.dpi {
        image.resolution_unit(ResolutionUnit::Inch);
        image.x_resolution(fraction(across));
        image.y_resolution(fraction(down));
    }
    let directory = image.encoder();
    for (tag, offset) in children {
        directory.write_tag(Tag::from_u16_exhaustive(tag), offset)?;
    }
    if picture.channels.has_alpha() {
        // Unassociated, that is straight, alpha.
        directory.write_tag(Tag::ExtraSamples, 2u16)?;
    }
    if let Some(icc) = written.icc {
        field(directory, ICC, Type::UNDEFINED, icc)?;
    }
    if let Some(xmp) = &written.xmp {
        field(directory, XMP, Type::BYTE, xmp.as_bytes())?;
    }
    if let Some(records) = written.iptc {
        field(directory, IPTC, Type::UNDEFINED, records)?;
    }
    // What the picture's maker wrote into these goes before what we would.
    if let Some(note) = written.provenance {
        field(directory, SOFTWARE, Type::ASCII, format!("{}\0", metadata::SOFTWARE).as_bytes())?;
        field(directory, DESCRIPTION, Type::ASCII, format!("{note}\0").as_bytes())?;
    }
    if written.dpi.is_some() {
        parts.main.retain(|field| ![X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT].contains(&field.tag));
    }
    put(directory, &parts.main)?;
    // Nobody else's, and so a sure sign of a result.
    if let Some(note) = written.provenance {
        let note = format!("{}: {note}\0", metadata::SOFTWARE);
        field(directory, PROCESSING_SOFTWARE, Type::ASCII, note.as_bytes())?;
    }
    image.write_data(samples)
}

/// Writes fields of an EXIF block.
fn put<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    fields: &[ifd::Tag],
) -> Result<(), TiffError> {
    for value in fields {
        let Some(kind) = Type::from_u16(value.kind) else { continue };
        // The library writes in this machine's order.
        let native = if cfg!(target_endian = "little") { value.data.clone() } else { value.swapped() };
        field(directory, value.tag, kind, &native)?;
    }
    Ok(())
}

/// Writes one field, whose bytes are in this machine's order.
fn field<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    tag: u16,
    kind: Type,
    data: &[u8],
) -> Result<(), TiffError> {
    let entry = directory.write_entry_bytes(kind, data)?;
    let mut fields = Directory::empty();
    fields.extend([(Tag::from_u16_exhaustive(tag), entry)]);
    directory.extend_from(&fields);
    Ok(())
}

fn fraction(dpi: f32) -> Rational {
    Rational { n: (f64::from(dpi) * 1000.0).round() as u32, d: 1000 }
}

macro_rules! gray_alpha {
    ($name:ident, $inner:ty, $bits:literal) => {
        /// Grey and alpha, which the library has no type for.
        struct $name;

        impl ColorType for $name {
            type Inner = $inner;
            const TIFF_VALUE: PhotometricInterpretation = PhotometricInterpretation::BlackIsZero;
            const BITS_PER_SAMPLE: &'static [u16] = &[$bits; 2];
            const SAMPLE_FORMAT: &'static [SampleFormat] = &[SampleFormat::Uint; 2];

            fn horizontal_predict(row: &[$inner], result: &mut Vec<$inner>) {
                result.extend_from_slice(&row[..2]);
                result.extend(row.iter().zip(&row[2..]).map(|(before, this)| this.wrapping_sub(*before)));
            }
        }
    };
}

gray_alpha!(GrayAlpha8, u8, 8);
gray_alpha!(GrayAlpha16, u16, 16);
