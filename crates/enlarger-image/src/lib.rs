//! Bytes to pixels and back: the only door to picture codecs.
//!
//! Bytes are hostile until [`decode`] says otherwise: a small parser of our own reads the container first, and everything that
//! could cost memory or time is held against [`Limits`] before a codec is built. A [`Picture`] is always upright, grey or RGB,
//! with or without straight alpha; whatever had to be changed to get there is said in [`Decoded::notes`].
//!
//! ```
//! use std::io::Cursor;
//!
//! use enlarger_image::{Channels, EncodeOptions, Format, Limits, Metadata, Picture, Samples, decode, encode, header};
//!
//! # fn main() -> Result<(), enlarger_image::ImageError> {
//! // A red pixel beside one that cannot be seen.
//! let samples = Samples::from(vec![255_u8, 0, 0, 255, 0, 0, 0, 0]);
//! let metadata = Metadata { dpi: Some((300.0, 300.0)), ..Metadata::default() };
//! let picture = Picture { width: 2, height: 1, channels: Channels::Rgba, samples, metadata };
//!
//! let mut png = Cursor::new(Vec::new());
//! encode(&picture, &EncodeOptions { format: Format::Png, ..EncodeOptions::default() }, &mut png)?;
//!
//! // Only headers are read: what is too large for the limits is refused before it costs anything.
//! let found = header(png.get_ref(), &Limits::default())?;
//! assert_eq!((found.format, found.width, found.bits), (Format::Png, 2, 8));
//! let small = Limits { max_pixels: 1, ..Limits::default() };
//! assert!(header(png.get_ref(), &small).is_err());
//!
//! let decoded = decode(png.get_ref(), &Limits::default())?;
//! assert_eq!(decoded.picture.samples, picture.samples);
//! assert!(decoded.notes.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//!
//! | | |
//! |---|---|
//! | [`header`], [`decode`] | bytes to pixels; in `decode/` each format has a file with its container's parser and its codec |
//! | [`Picture`] | pixels, and the metadata that travels with them |
//! | [`Sample`], [`with_samples!`] | what is done to pixels, written once for 8 and 16 bits |
//! | [`encode`], [`encode_notes`] | pixels to bytes, and what a format cannot hold |
//! | `exif`, `xmp`, `iptc`, `ifd` | metadata, read and written as blocks |
//! | `colour` | profiles: CMYK, Lab and linear light become sRGB, all else keeps its profile |
//!
//! A new format is a file in `decode/` with `read` and `pixels`, one in `encode/` with `write`, and its variant of [`Format`].

mod colour;
mod decode;
mod encode;
mod error;
mod exif;
mod format;
mod ifd;
mod iptc;
mod limits;
mod orient;
mod picture;
mod provenance;
mod sample;
mod xmp;

pub use decode::{Decoded, Header, Opened, decode, decode_unless, header, open, probe};
pub use encode::{EncodeOptions, MetadataPolicy, encode, encode_notes};
pub use error::ImageError;
pub use format::Format;
pub use limits::Limits;
pub use picture::{Channels, Metadata, Picture, Samples, Text};
pub use provenance::provenance;
pub use sample::{LUMA, Sample, luma};
