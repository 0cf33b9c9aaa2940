//! The image formats, and how to recognise them by their first bytes.

use serde::Serialize;

use crate::ImageError;

/// A picture file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Portable Network Graphics.
    #[default]
    Png,
    /// JPEG, as JFIF or EXIF file.
    Jpeg,
    /// WebP: read lossy and lossless, written lossy.
    WebP,
    /// TIFF.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// GIF.
    Gif,
    /// AVIF.
    Avif,
}

impl Format {
    /// The format's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Avif => "AVIF",
        }
    }

    /// The usual file extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
            Self::Tiff => "tif",
            Self::Bmp => "bmp",
            Self::Gif => "gif",
            Self::Avif => "avif",
        }
    }

    /// The MIME type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
            Self::Tiff => "image/tiff",
            Self::Bmp => "image/bmp",
            Self::Gif => "image/gif",
            Self::Avif => "image/avif",
        }
    }

    /// The format that an extension stands for, with or without the dot, in any case.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.trim_start_matches('.').to_ascii_lowercase().as_str() {
            "png" | "apng" => Some(Self::Png),
            "jpg" | "jpeg" | "jpe" | "jfif" | "pjpeg" | "pjp" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            "tif" | "tiff" => Some(Self::Tiff),
            "bmp" | "dib" => Some(Self::Bmp),
            "gif" => Some(Self::Gif),
            "avif" => Some(Self::Avif),
            _ => None,
        }
    }

    /// Whether [`crate::encode`] writes it.
    pub fn can_encode(self) -> bool {
        match self {
            Self::Png | Self::Jpeg | Self::WebP | Self::Tiff => true,
            Self::Avif => cfg!(feature = "avif"),
            Self::Bmp | Self::Gif => false,
        }
    }

    /// Whether [`crate::decode`] reads it.
    pub fn can_decode(self) -> bool {
        self != Self::Avif
    }

    /// Whether 16 bits per sample survive [`crate::encode`]; other formats round to 8.
    pub fn keeps_16_bits(self) -> bool {
        matches!(self, Self::Png | Self::Tiff)
    }

    /// Whether alpha survives [`crate::encode`]; other formats lay the picture on white.
    pub fn has_alpha(self) -> bool {
        matches!(self, Self::Png | Self::WebP | Self::Tiff | Self::Avif)
    }

    /// The longest side, in pixels, that the format can hold.
    pub fn max_side(self) -> u32 {
        match self {
            // PNG: 2^31 - 1, section 11.2.1 of the specification. TIFF's size fields have 32 bits.
            Self::Png | Self::Tiff | Self::Bmp => i32::MAX as u32,
            // 16-bit size fields.
            Self::Jpeg | Self::Gif => 65_535,
            // WEBP_MAX_DIMENSION: 14-bit size fields.
            Self::WebP => 16_383,
            // AV1 frame sizes have 16 bits.
            Self::Avif => 65_535,
        }
    }

    /// Tells a format that can be decoded by its signature; nothing else of the file is looked at.
    ///
    /// # Errors
    /// [`ImageError::Unreadable`] names formats that are known and not decoded; [`ImageError::Unknown`], [`ImageError::Empty`].
    pub fn sniff(bytes: &[u8]) -> Result<Self, ImageError> {
        let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if at(0, b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if at(0, b"\xff\xd8\xff") {
            return Ok(Self::Jpeg);
        }
        if at(0, b"RIFF") && at(8, b"WEBP") {
            return Ok(Self::WebP);
        }
        if is_raw(bytes) {
            return Err(ImageError::Unreadable { what: "a camera raw file" });
        }
        if at(0, b"II*\0") || at(0, b"MM\0*") || at(0, b"II+\0") || at(0, b"MM\0+") {
            return Ok(Self::Tiff);
        }
        if at(0, b"GIF87a") || at(0, b"GIF89a") {
            return Ok(Self::Gif);
        }
        // "BM" alone is too little to go by: the four bytes from 6 are reserved, and the header's size is known.
        if at(0, b"BM") && bytes.get(14).is_some_and(|size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)) {
            return Ok(Self::Bmp);
        }
        if at(4, b"ftyp") {
            let brands = &bytes[8..bytes.len().min(40)];
            let has = |brand: &[u8]| brands.chunks(4).any(|b| b == brand);
            if has(b"avif") || has(b"avis") {
                return Err(ImageError::Unreadable { what: "an AVIF image" });
            }
            if [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"].iter().any(|b| has(*b)) {
                return Err(ImageError::Unreadable { what: "a HEIC image" });
            }
            if has(b"crx ") {
                return Err(ImageError::Unreadable { what: "a camera raw file" });
            }
            return Err(ImageError::Unreadable { what: "a video" });
        }
        if at(0, b"\xff\x0a") || at(0, b"\0\0\0\x0cJXL \r\n\x87\n") {
            return Err(ImageError::Unreadable { what: "a JPEG XL image" });
        }
        if at(0, b"\0\0\0\x0cjP  \r\n\x87\n") || at(0, b"\xff\x4f\xff\x51") {
            return Err(ImageError::Unreadable { what: "a JPEG 2000 image" });
        }
        if at(0, b"%PDF-") {
            return Err(ImageError::Unreadable { what: "a PDF document" });
        }
        if at(0, b"8BPS") {
            return Err(ImageError::Unreadable { what: "a Photoshop document" });
        }
        if is_svg(bytes) {
            return Err(ImageError::Unreadable { what: "an SVG drawing" });
        }
        if at(0, b"PK\x03\x04") {
            return Err(ImageError::Unreadable { what: "a zip archive" });
        }
        Err(ImageError::Unknown)
    }
}

/// Camera raw files that have a signature: Canon's CR2 (behind TIFF's) and CRW, Olympus, Panasonic, Phase One,
/// Fujifilm, Sigma, Minolta. Others have the signature of TIFF, and are recognised by their directories.
fn is_raw(bytes: &[u8]) -> bool {
    let signatures: [(usize, &[u8]); 11] = [
        (8, b"CR\x02"),
        (6, b"HEAPCCDR"),
        (0, b"IIRO"),
        (0, b"IIRS"),
        (0, b"MMOR"),
        (0, b"IIU\0"),
        (8, b"IIII"),
        (8, b"MMMM"),
        (0, b"FUJIFILMCCD-RAW"),
        (0, b"FOVb"),
        (0, b"\0MRM"),
    ];
    let is_tiff = |at| at != 8 || matches!(bytes.get(..4), Some(b"II*\0" | b"MM\0*"));
    signatures.iter().any(|&(at, magic)| is_tiff(at) && bytes.get(at..).is_some_and(|rest| rest.starts_with(magic)))
}

/// Whether the first kilobyte is XML or the like with an `<svg` tag.
fn is_svg(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(1024)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('<') && text.contains("<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_signatures_whatever_follows() {
        let bitmap = [b"BM".as_slice(), &[0; 12], &[40, 0, 0, 0]].concat();
        for (bytes, format) in [
            (b"\x89PNG\r\n\x1a\n".as_slice(), Format::Png),
            (b"\xff\xd8\xff\xe0", Format::Jpeg),
            (b"RIFF\x10\0\0\0WEBPVP8L", Format::WebP),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"MM\0+\0\x08\0\0", Format::Tiff),
            (b"GIF89a", Format::Gif),
            (&bitmap, Format::Bmp),
        ] {
            assert_eq!(Format::sniff(bytes).ok(), Some(format), "{bytes:?}");
            assert_eq!(Format::sniff(&[bytes, b"and more"].concat()).ok(), Some(format), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_known_and_not_read_is_named() {
        for (bytes, named) in [
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif".as_slice(), "an AVIF image"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "a video"),
            (b"II*\0\x10\0\0\0CR\x02\0", "a camera raw file"),
            (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
            (b"8BPS\0\x01", "a Photoshop document"),
            ("\u{feff} <?xml version='1.0'?><svg>".as_bytes(), "an SVG drawing"),
        ] {
            let Err(ImageError::Unreadable { what }) = Format::sniff(bytes) else { panic!("{named} was read") };
            assert_eq!(what, named);
        }
        assert!(matches!(Format::sniff(b"BM is not a bitmap"), Err(ImageError::Unknown)));
        assert!(matches!(Format::sniff(b"RIFF\x10\0\0\0WAVE"), Err(ImageError::Unknown)));
        assert!(matches!(Format::sniff(b""), Err(ImageError::Empty)));
    }

    #[test]
    fn extensions_name_formats_in_any_case_and_each_format_knows_its_own() {
        let all = [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff, Format::Bmp, Format::Gif, Format::Avif];
        for format in all {
            assert_eq!(Format::from_extension(format.extension()), Some(format));
            assert_eq!(Format::from_extension(&format!(".{}", format.name().to_uppercase())), Some(format));
        }
        assert_eq!(Format::from_extension("jfif"), Some(Format::Jpeg));
        assert_eq!((Format::from_extension("heic"), Format::from_extension("")), (None, None));
    }
}
