//! The metadata of a picture that goes into a file.

use super::{EncodeOptions, MetadataPolicy};
use crate::{Format, Picture, Text, exif, xmp};

/// Bytes of data in a JPEG segment; its length, which counts itself, has 16 bits.
pub(super) const MOST_SEGMENT: usize = 65_533;

/// Length of `Exif\0\0`, which comes before a block of EXIF in JPEG.
pub(super) const EXIF_PREFIX: usize = 6;

/// The name of this program in files.
pub(super) const SOFTWARE: &str = concat!("enlarger ", env!("CARGO_PKG_VERSION"));

/// Metadata as it is to be written.
pub(super) struct Written<'a> {
    pub icc: Option<&'a [u8]>,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<String>,
    pub dpi: Option<(f32, f32)>,
    pub provenance: Option<&'a str>,
    pub iptc: Option<&'a [u8]>,
    /// Those that are not in `exif` by now and have a place of their own: all in PNG, the comment in JPEG.
    pub texts: Vec<&'a Text>,
    /// What the format has no place for, as in "PNG cannot store …, which was dropped".
    pub left_out: Vec<String>,
}

impl<'a> Written<'a> {
    pub fn of(picture: &'a Picture, options: &'a EncodeOptions) -> Self {
        let metadata = &picture.metadata;
        let text = |xmp: Vec<u8>| String::from_utf8(xmp).ok();
        let (exif, xmp) = match options.metadata {
            MetadataPolicy::All => (metadata.exif.clone(), metadata.xmp.clone().and_then(text)),
            MetadataPolicy::NoGps => {
                let mut exif = metadata.exif.clone();
                if let Some(exif) = &mut exif {
                    exif::remove_gps(exif);
                }
                (exif, metadata.xmp.as_deref().map(xmp::remove_gps).and_then(text))
            }
            MetadataPolicy::Strip => (None, None),
        };
        let exif = exif.map(|mut exif| {
            exif::set_size(&mut exif, picture.width, picture.height);
            // It shows the picture as it was, at a size that is useless now.
            exif::remove_thumbnail(&mut exif);
            if let Some(dpi) = options.dpi {
                exif::set_dpi(&mut exif, dpi);
            }
            exif
        });
        let mut written = Self {
            icc: metadata.icc.as_deref(),
            exif,
            xmp,
            dpi: options.dpi.map(|dpi| (dpi, dpi)).or(metadata.dpi),
            provenance: options.provenance.as_deref(),
            iptc: None,
            texts: Vec::new(),
            left_out: Vec::new(),
        };
        if options.metadata != MetadataPolicy::Strip {
            written.place_iptc(metadata.iptc.as_deref(), options.format);
            written.place_texts(&metadata.texts, options.format);
        }
        written
    }

    fn place_iptc(&mut self, records: Option<&'a [u8]>, format: Format) {
        let Some(records) = records else { return };
        let holds = match format {
            Format::Jpeg => records.len() <= MOST_IPTC_IN_JPEG,
            Format::Png | Format::Tiff => true,
            _ => false,
        };
        if holds {
            self.iptc = Some(records);
        } else {
            self.left_out.push("IPTC data".into());
        }
    }

    /// Texts go where other programs look for them.
    fn place_texts(&mut self, texts: &'a [Text], format: Format) {
        let is_ours = |text: &Text| text.keyword == "Software" && text.text.starts_with("enlarger ");
        let was_ours = texts.iter().any(is_ours);
        for text in texts {
            // Our note on an earlier enlargement is replaced by the new one.
            let is_note =
                is_ours(text) || text.keyword == "Comment" && (was_ours || text.text.starts_with("enlarger "));
            if is_note && self.provenance.is_some() {
                continue;
            }
            if !self.place(text, format) {
                self.left_out.push(format!("the text \u{201c}{}\u{201d}", text.keyword));
            }
        }
    }

    fn place(&mut self, text: &'a Text, format: Format) -> bool {
        let Text { keyword, text: value } = text;
        let fits_a_segment = value.len() <= MOST_SEGMENT;
        if format == Format::Png || format == Format::Jpeg && keyword == "Comment" && fits_a_segment {
            self.texts.push(text);
            return true;
        }
        let exif = self.exif.as_deref();
        // ComfyUI reads such names before a colon, in WebP and AVIF.
        let in_comfy = matches!(format, Format::WebP | Format::Avif);
        let with_text = match keyword.as_str() {
            // Where AUTOMATIC1111's page and those after it write and read it, in all formats but PNG.
            "parameters" => exif::with_user_comment(exif, value),
            "prompt" if in_comfy => exif::with_new_text(exif, exif::MODEL, &format!("prompt:{value}")),
            "workflow" if in_comfy => exif::with_new_text(exif, exif::MAKE, &format!("workflow:{value}")),
            "Title" | "Description" => exif::with_new_text(exif, exif::DESCRIPTION, value),
            "Author" => exif::with_new_text(exif, exif::ARTIST, value),
            "Copyright" => exif::with_new_text(exif, exif::COPYRIGHT, value),
            _ => None,
        };
        // A JPEG that cannot hold both keeps what a camera wrote.
        let with_text = with_text.filter(|exif| format != Format::Jpeg || exif.len() + EXIF_PREFIX <= MOST_SEGMENT);
        let placed = with_text.is_some();
        self.exif = with_text.or(self.exif.take());
        placed
    }

    /// EXIF with the provenance in it, for formats that have no other place for such a note.
    pub fn exif_with_note(&mut self) -> Option<Vec<u8>> {
        match self.provenance {
            Some(note) => exif::with_note(self.exif.take(), &format!("{SOFTWARE}: {note}")),
            None => self.exif.take(),
        }
    }
}

/// A segment less Photoshop's name and the head of its block.
const MOST_IPTC_IN_JPEG: usize = MOST_SEGMENT - 32;
