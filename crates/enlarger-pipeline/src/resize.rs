//! Classic resampling, for reductions, for exact sizes and as the yardstick.

use enlarger_image::{Channels, Picture, Samples};
use fast_image_resize as fir;

use crate::plan::Kernel;

/// Resamples to `width` x `height` pixels. Colour is weighted by alpha, so that transparent pixels do not bleed.
pub fn resize(picture: &Picture, width: u32, height: u32, kernel: Kernel) -> Picture {
    if (picture.width, picture.height) == (width, height) {
        return picture.clone();
    }
    let algorithm = fir::ResizeAlg::Convolution(match kernel {
        Kernel::Box => fir::FilterType::Box,
        Kernel::CatmullRom => fir::FilterType::CatmullRom,
        Kernel::Mitchell => fir::FilterType::Mitchell,
        Kernel::Lanczos3 => fir::FilterType::Lanczos3,
    });
    let options = fir::ResizeOptions::new().resize_alg(algorithm);
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
    let count = width as usize * height as usize * picture.channels.count();
    let mut samples = match &picture.samples {
        Samples::U8(_) => Samples::U8(vec![0; count]),
        Samples::U16(_) => Samples::U16(vec![0; count]),
    };
    {
        let source = fir::images::ImageRef::new(picture.width, picture.height, bytes(&picture.samples), pixel_type)
            .expect("a picture's buffer has its picture's size");
        let mut target = fir::images::Image::from_slice_u8(width, height, bytes_mut(&mut samples), pixel_type)
            .expect("the buffer was made for this size");
        fir::Resizer::new().resize(&source, &mut target, Some(&options)).expect("both sides have the same pixel type");
    }
    Picture { width, height, channels: picture.channels, samples, metadata: picture.metadata.clone() }
}

/// The same pixels at another depth, rounded to the nearest.
pub fn to_depth(picture: Picture, bits: u8) -> Picture {
    let samples = match (picture.samples, bits) {
        (Samples::U8(s), 16) => Samples::U16(s.into_iter().map(|v| u16::from(v) * 257).collect()),
        (Samples::U16(s), 8) => Samples::U8(s.into_iter().map(|v| ((u32::from(v) + 128) / 257) as u8).collect()),
        (same, _) => same,
    };
    Picture { samples, ..picture }
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
