//! What of a picture's metadata goes into a file.

use super::{EncodeOptions, MetadataPolicy};
use crate::{Picture, exif, xmp};

/// This program, as files name it.
pub(super) const SOFTWARE: &str = concat!("enlarger ", env!("CARGO_PKG_VERSION"));

/// Metadata as it is to be written.
pub(super) struct Written<'a> {
    pub icc: Option<&'a [u8]>,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<String>,
    pub dpi: Option<(f32, f32)>,
    pub provenance: Option<&'a str>,
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
            // It shows the picture as it was, in a size that nobody needs any more.
            exif::remove_thumbnail(&mut exif);
            exif
        });
        let provenance = options.provenance.as_deref();
        Self { icc: metadata.icc.as_deref(), exif, xmp, dpi: metadata.dpi, provenance }
    }

    /// EXIF with the provenance in it, for formats that have no other place for such a note.
    pub fn exif_with_note(&mut self) -> Option<Vec<u8>> {
        match self.provenance {
            Some(note) => exif::with_note(self.exif.take(), &format!("{SOFTWARE}: {note}")),
            None => self.exif.take(),
        }
    }
}
