//! Pixels in memory.

use rayon::prelude::*;
use serde::Serialize;

use crate::{ImageError, Sample, with_samples};

/// A picture in memory: upright, one frame, in the colour space that `metadata.icc` names (sRGB if none).
#[derive(Debug, Clone)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// What the samples of a pixel mean.
    pub channels: Channels,
    /// `width * height * channels.count()` samples, row by row from the top, interleaved.
    pub samples: Samples,
    /// What travels along.
    pub metadata: Metadata,
}

impl Picture {
    /// A black picture with the channels and metadata of this one.
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] if there is no room for it.
    pub fn blank(&self, width: u32, height: u32, bits: u8) -> Result<Self, ImageError> {
        let count = u64::from(width) * u64::from(height) * self.channels.count() as u64;
        let samples = Samples::zeroed(bits, count)?;
        Ok(Self { width, height, channels: self.channels, samples, metadata: self.metadata.clone() })
    }

    /// A copy, where `clone` would end the process if there is no room for it.
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] if there is no room for it.
    pub fn try_clone(&self) -> Result<Self, ImageError> {
        let mut copy = self.blank(self.width, self.height, self.samples.bits())?;
        with_samples!(&mut copy.samples, to => to.copy_from_slice(self.samples.of_depth()));
        Ok(copy)
    }

    /// The same pixels with 8 or 16 bits per sample, rounded to the nearest.
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] if there is no room for the result.
    pub fn into_depth(self, bits: u8) -> Result<Self, ImageError> {
        if self.samples.bits() == bits {
            return Ok(self);
        }
        let mut result = self.blank(self.width, self.height, bits)?;
        with_samples!(&self.samples, from => match &mut result.samples {
            Samples::U8(to) => convert(from, to, Sample::to_u8),
            Samples::U16(to) => convert(from, to, Sample::to_u16),
        });
        Ok(result)
    }
}

fn convert<T: Sample, U: Sample>(from: &[T], to: &mut [U], change: impl Fn(T) -> U + Sync) {
    const PIECE: usize = 1 << 16;
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = change(from));
    });
}

/// The samples of one pixel, in order. Alpha is straight, not premultiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Luminance.
    Gray,
    /// Luminance and alpha.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
}

impl Channels {
    /// Samples per pixel, 1..=4.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Samples of colour per pixel: 1 or 3.
    pub fn colours(self) -> usize {
        if self.is_gray() { 1 } else { 3 }
    }

    /// Whether the last sample is alpha.
    pub fn has_alpha(self) -> bool {
        matches!(self, Self::GrayAlpha | Self::Rgba)
    }

    /// Whether colour is one sample.
    pub fn is_gray(self) -> bool {
        matches!(self, Self::Gray | Self::GrayAlpha)
    }
}

/// Interleaved samples over the full range of their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// 0..=255.
    U8(Vec<u8>),
    /// 0..=65535.
    U16(Vec<u16>),
}

impl Samples {
    /// Bits per sample: 8 or 16.
    pub fn bits(&self) -> u8 {
        match self {
            Self::U8(_) => 8,
            Self::U16(_) => 16,
        }
    }

    /// How many samples there are, over all pixels and channels.
    pub fn len(&self) -> usize {
        with_samples!(self, samples => samples.len())
    }

    /// `count` zeros.
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] where `vec!` would end the process.
    pub fn zeroed(bits: u8, count: u64) -> Result<Self, ImageError> {
        Ok(match bits {
            8 => Self::U8(zeroed(count)?),
            _ => Self::U16(zeroed(count)?),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A buffer of zeros, or an error where `vec!` would end the process. Its pages are touched only when they are written.
pub(crate) fn zeroed<T: bytemuck::Zeroable>(len: u64) -> Result<Vec<T>, ImageError> {
    let refused = || ImageError::OutOfMemory { bytes: len.saturating_mul(size_of::<T>() as u64) };
    let len = usize::try_from(len).map_err(|_| refused())?;
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| refused())
}

/// What a file says besides its pixels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The ICC profile of the samples, as it was in the file.
    pub icc: Option<Vec<u8>>,
    /// EXIF as a raw TIFF structure, without any container's prefix. Its orientation is 1, since the pixels are upright.
    pub exif: Option<Vec<u8>>,
    /// The XMP packet, UTF-8.
    pub xmp: Option<Vec<u8>>,
    /// Pixels per inch, across and down.
    pub dpi: Option<(f32, f32)>,
    /// The quality that the file was saved with as JPEG, 1..=100 on the scale of the Independent JPEG Group's library, estimated from its
    /// quantization.
    pub jpeg_quality: Option<u8>,
    /// What the file says of its colours by code points (ITU-T H.273): primaries, transfer, matrix, full range. `icc` then
    /// has a profile of the same meaning.
    pub cicp: Option<[u8; 4]>,
    /// IPTC-IIM records, without a container's blocks around them.
    pub iptc: Option<Vec<u8>>,
    /// Texts under keywords, such as programs that generate pictures write.
    pub texts: Vec<Text>,
}

/// A text under a keyword, as in PNG; a JPEG's comment has the keyword `Comment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What the text is about, 1 to 79 characters.
    pub keyword: String,
    /// The text, with line feeds between lines.
    pub text: String,
}
