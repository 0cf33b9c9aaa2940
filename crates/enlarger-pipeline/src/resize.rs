//! Classic resampling, for reductions, for exact sizes and as the yardstick.

use enlarger_image::{Channels, ImageError, Picture, Samples};
use fast_image_resize as fir;
use rayon::prelude::*;

use crate::plan::Kernel;

/// Resamples to `width` x `height` pixels. Colour is weighted by alpha, so that transparent pixels do not bleed.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is no room for the result.
pub fn resize(picture: &Picture, width: u32, height: u32, kernel: Kernel) -> Result<Picture, ImageError> {
    resized(picture, width, height, kernel, true)
}

/// The same, where colour under transparency is like what is near: it stays so.
pub(crate) fn resample(picture: &Picture, width: u32, height: u32, kernel: Kernel) -> Result<Picture, ImageError> {
    resized(picture, width, height, kernel, false)
}

fn resized(picture: &Picture, width: u32, height: u32, kernel: Kernel, weigh: bool) -> Result<Picture, ImageError> {
    if (picture.width, picture.height) == (width, height) {
        return copy(picture);
    }
    let algorithm = fir::ResizeAlg::Convolution(match kernel {
        Kernel::Box => fir::FilterType::Box,
        Kernel::CatmullRom => fir::FilterType::CatmullRom,
        Kernel::Mitchell => fir::FilterType::Mitchell,
        Kernel::Lanczos3 => fir::FilterType::Lanczos3,
    });
    let options = fir::ResizeOptions::new().resize_alg(algorithm).use_alpha(weigh);
    let pixel_type = match (&picture.samples, picture.channels) {
        (Samples::U8(_), Channels::Gray) => fir::PixelType::U8,
        (Samples::U8(_), Channels::GrayAlpha) => fir::PixelType::U8x2,
        (Samples::U8(_), Channels::Rgb) => fir::PixelType::U8x3,
        (Samples::U8(_), Channels::Rgba) => fir::PixelType::U8x4,
        (Samples::U16(_), Channels::Gray) => fir::PixelType::U16,
        (Samples::U16(_), Channels::GrayAlpha) => fir::PixelType::U16x2,
        (Samples::U16(_), Channels::Rgb) => fir::PixelType::U16x3,
        (Samples::U16(_), Channels::Rgba) => fir::PixelType::U16x4,
    };
    let mut result = blank(width, height, picture, picture.samples.bits())?;
    {
        let source = fir::images::ImageRef::new(picture.width, picture.height, bytes(&picture.samples), pixel_type)
            .expect("a picture's buffer has its picture's size");
        let mut target = fir::images::Image::from_slice_u8(width, height, bytes_mut(&mut result.samples), pixel_type)
            .expect("the buffer was made for this size");
        fir::Resizer::new().resize(&source, &mut target, Some(&options)).expect("both sides have the same pixel type");
    }
    Ok(result)
}

/// The same pixels at another depth, rounded to the nearest.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is no room for the result.
pub fn to_depth(picture: Picture, bits: u8) -> Result<Picture, ImageError> {
    if picture.samples.bits() == bits {
        return Ok(picture);
    }
    let mut result = blank(picture.width, picture.height, &picture, bits)?;
    match (&picture.samples, &mut result.samples) {
        (Samples::U8(from), Samples::U16(to)) => convert(from, to, |v| u16::from(v) * 257),
        (Samples::U16(from), Samples::U8(to)) => convert(from, to, |v| ((u32::from(v) + 128) / 257) as u8),
        _ => unreachable!("the depths differ"),
    }
    Ok(result)
}

fn convert<T: Copy + Sync, U: Send>(from: &[T], to: &mut [U], change: impl Fn(T) -> U + Sync) {
    const PIECE: usize = 1 << 16;
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = change(from));
    });
}

/// A black picture with the channels and metadata of another.
pub(crate) fn blank(width: u32, height: u32, like: &Picture, bits: u8) -> Result<Picture, ImageError> {
    let count = u64::from(width) * u64::from(height) * like.channels.count() as u64;
    let samples = Samples::zeroed(bits, count)?;
    Ok(Picture { width, height, channels: like.channels, samples, metadata: like.metadata.clone() })
}

/// A copy, where `clone` would end the process if there is no room for it.
pub(crate) fn copy(picture: &Picture) -> Result<Picture, ImageError> {
    let mut result = blank(picture.width, picture.height, picture, picture.samples.bits())?;
    bytes_mut(&mut result.samples).copy_from_slice(bytes(&picture.samples));
    Ok(result)
}

fn bytes(samples: &Samples) -> &[u8] {
    match samples {
        Samples::U8(s) => s,
        Samples::U16(s) => bytemuck::cast_slice(s),
    }
}

fn bytes_mut(samples: &mut Samples) -> &mut [u8] {
    match samples {
        Samples::U8(s) => s,
        Samples::U16(s) => bytemuck::cast_slice_mut(s),
    }
}
