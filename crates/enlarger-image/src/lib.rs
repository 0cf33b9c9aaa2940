//! Bytes to pixels and back: the only door to picture codecs.
//!
//! Bytes are hostile until [`decode`] says otherwise: a small parser of our own reads the container first, and everything that
//! could cost memory or time is held against [`Limits`] before a codec is built. A [`Picture`] is always upright, grey or RGB,
//! with or without straight alpha; whatever had to be changed to get there is said in [`Decoded::notes`].

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
mod xmp;

pub use decode::{Decoded, Header, Opened, decode, decode_unless, header, open, probe};
pub use encode::{EncodeOptions, MetadataPolicy, encode, encode_notes};
pub use error::ImageError;
pub use format::Format;
pub use limits::Limits;
pub use picture::{Channels, Metadata, Picture, Samples, Text};
pub use provenance::provenance;
