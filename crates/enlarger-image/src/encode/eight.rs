//! Eight bits and three or four channels, for encoders that take nothing else.

use std::borrow::Cow;

use crate::{Channels, ImageError, Picture, Sample, Samples, colour, picture::zeroed};

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
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] if there is no room for a copy that is needed.
    pub fn of(picture: &'a Picture, icc: Option<&'a [u8]>, keep_icc: bool) -> Result<Self, ImageError> {
        let alpha = picture.channels.has_alpha();
        let samples = match &picture.samples {
            Samples::U8(samples) => Cow::Borrowed(samples.as_slice()),
            Samples::U16(samples) => Cow::Owned(each(samples, 1, 1, |from, to| to[0] = from[0].to_u8())?),
        };
        if let Some(profile) = icc
            && (!keep_icc || picture.channels.is_gray())
            && let Some(samples) = colour::to_srgb(&samples, picture.channels, profile)?
        {
            return Ok(Self { samples: Cow::Owned(samples), alpha, icc: None });
        }
        let samples = match picture.channels {
            Channels::Gray => Cow::Owned(each(&samples, 1, 3, |from, to| to.fill(from[0]))?),
            Channels::GrayAlpha => Cow::Owned(each(&samples, 2, 4, |from, to| {
                to[..3].fill(from[0]);
                to[3] = from[1];
            })?),
            Channels::Rgb | Channels::Rgba => samples,
        };
        Ok(Self { samples, alpha, icc: icc.filter(|_| keep_icc && !picture.channels.is_gray()) })
    }
}

/// Makes `m` samples of each `n`.
fn each<T>(from: &[T], n: usize, m: usize, make: impl Fn(&[T], &mut [u8])) -> Result<Vec<u8>, ImageError> {
    let mut to = zeroed((from.len() / n * m) as u64)?;
    from.chunks_exact(n).zip(to.chunks_exact_mut(m)).for_each(|(from, to)| make(from, to));
    Ok(to)
}
