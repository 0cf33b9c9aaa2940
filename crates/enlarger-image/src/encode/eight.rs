//! Eight bits and three or four channels, for encoders that take nothing else.

use std::borrow::Cow;

use crate::{Channels, Picture, Samples, colour};

/// A whole picture as RGB or RGBA of 8 bits. Borrowed where it is that already; else a copy, since the encoders in question want
/// the whole picture at once.
pub(super) struct Eight<'a> {
    pub samples: Cow<'a, [u8]>,
    pub alpha: bool,
    /// The profile of these samples; `None` is sRGB.
    pub icc: Option<&'a [u8]>,
}

impl<'a> Eight<'a> {
    /// With `keep_icc` RGB keeps its profile; without, and always if grey has one, colours are converted to sRGB.
    pub fn of(picture: &'a Picture, icc: Option<&'a [u8]>, keep_icc: bool) -> Self {
        let alpha = picture.channels.has_alpha();
        let samples = match &picture.samples {
            Samples::U8(samples) => Cow::Borrowed(samples.as_slice()),
            Samples::U16(samples) => Cow::Owned(samples.iter().map(|&s| rounded(s)).collect()),
        };
        if let Some(profile) = icc
            && (!keep_icc || picture.channels.is_gray())
            && let Some(samples) = colour::to_srgb(&samples, picture.channels, profile)
        {
            return Self { samples: Cow::Owned(samples), alpha, icc: None };
        }
        let samples = match picture.channels {
            Channels::Gray => Cow::Owned(samples.iter().flat_map(|&v| [v; 3]).collect()),
            Channels::GrayAlpha => Cow::Owned(samples.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect()),
            Channels::Rgb | Channels::Rgba => samples,
        };
        Self { samples, alpha, icc: icc.filter(|_| keep_icc && !picture.channels.is_gray()) }
    }
}

/// 65535 is 255 * 257, so this is the nearest.
fn rounded(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}
