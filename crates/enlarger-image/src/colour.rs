//! From whatever colours a file holds to grey or RGB that its profile describes.
//!
//! Grey and RGB keep their values and their profile, to the bit: an enlarger has no business in changing either. What has no
//! place in a [`crate::Picture`] (CMYK, Lab) becomes sRGB, and so does RGB proportional to light, on which networks trained on
//! display values would ring and lose the shadows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformExecutor, TransformOptions};

use crate::{Channels, Format, ImageError, Metadata, Samples, picture::zeroed};

/// What stored samples mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Grey or RGB, as the channels say.
    Display,
    /// Four samples per pixel; 0 is no ink.
    Cmyk,
    /// Three samples per pixel, coded as TIFF 6.0, section 23, has it: a and b are signed.
    TiffLab,
    /// Three samples per pixel, coded as in ICC profiles: a and b are offset by half the range.
    IccLab,
}

/// A transfer curve that maps one half to more than this is near linear. Linear light maps it to 0.5, the lowest gamma in use on
/// displays, 1.8, to 0.29.
const NEAR_LINEAR: f32 = 0.4;

/// Pixels that are converted at a time.
const CHUNK: usize = 4096;

/// A sample of either depth.
trait Sample: bytemuck::Pod + Default {
    const MOST: f32;
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
    fn signed(self) -> f32;
    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: Layout,
    ) -> Result<std::sync::Arc<dyn TransformExecutor<Self> + Send + Sync>, moxcms::CmsError>;
}

impl Sample for u8 {
    const MOST: f32 = 255.0;
    fn of(value: f32) -> Self {
        (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
    }
    fn value(self) -> f32 {
        self.into()
    }
    fn signed(self) -> f32 {
        self.cast_signed().into()
    }
    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: Layout,
    ) -> Result<std::sync::Arc<dyn TransformExecutor<Self> + Send + Sync>, moxcms::CmsError> {
        from.create_transform_8bit(layout, &ColorProfile::new_srgb(), to, TransformOptions::default())
    }
}

impl Sample for u16 {
    const MOST: f32 = 65535.0;
    fn of(value: f32) -> Self {
        (value.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16
    }
    fn value(self) -> f32 {
        self.into()
    }
    fn signed(self) -> f32 {
        f32::from(self.cast_signed()) / 256.0
    }
    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: Layout,
    ) -> Result<std::sync::Arc<dyn TransformExecutor<Self> + Send + Sync>, moxcms::CmsError> {
        from.create_transform_16bit(layout, &ColorProfile::new_srgb(), to, TransformOptions::default())
    }
}

/// Brings decoded samples to grey or RGB. `samples` come back with `channels.count()` to a pixel.
pub(crate) fn settle(
    format: Format,
    samples: Samples,
    space: Space,
    channels: Channels,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Samples, ImageError> {
    let expected = match (space, channels.is_gray()) {
        (Space::Display, true) => DataColorSpace::Gray,
        (Space::Display, false) => DataColorSpace::Rgb,
        (Space::Cmyk, _) => DataColorSpace::Cmyk,
        (Space::TiffLab | Space::IccLab, _) => DataColorSpace::Lab,
    };
    let profile = profile(metadata.icc.as_deref(), expected, notes);
    if profile.is_none() {
        metadata.icc = None;
    }
    let unusable = || ImageError::Broken { format, reason: "its colour profile cannot be used".into() };
    match (space, profile) {
        (Space::Display, Some(profile)) if is_near_linear(&profile) => {
            let layout = if channels.has_alpha() { Layout::Rgba } else { Layout::Rgb };
            let samples = by_profile(samples, &profile, layout, layout).ok_or_else(unusable)?;
            metadata.icc = None;
            notes.push("the colours were proportional to light and were converted to sRGB".into());
            Ok(samples)
        }
        (Space::Display, _) => Ok(samples),
        (Space::Cmyk, Some(profile)) => {
            let samples = by_profile(samples, &profile, Layout::Rgba, Layout::Rgb).ok_or_else(unusable)?;
            metadata.icc = None;
            notes.push("the CMYK colours were converted to sRGB by the file's profile".into());
            Ok(samples)
        }
        (Space::Cmyk, None) => {
            notes.push("the CMYK colours have no profile: they were converted to sRGB as if inks were ideal".into());
            Ok(match samples {
                Samples::U8(s) => Samples::U8(in_place(s, 4, 3, ideal_inks)),
                Samples::U16(s) => Samples::U16(in_place(s, 4, 3, ideal_inks)),
            })
        }
        (Space::TiffLab | Space::IccLab, _) => {
            metadata.icc = None;
            notes.push("the Lab colours were converted to sRGB".into());
            Ok(match samples {
                Samples::U8(s) => Samples::U8(in_place(s, 3, 3, |from, to| lab(space, from, to))),
                Samples::U16(s) => Samples::U16(in_place(s, 3, 3, |from, to| lab(space, from, to))),
            })
        }
    }
}

/// Grey or RGB of 8 bits as sRGB, RGB in any case. `None` if the profile does not fit or cannot be used.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is no room for the result.
pub(crate) fn to_srgb(samples: &[u8], channels: Channels, icc: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    let (from, to) = match channels {
        Channels::Gray => (Layout::Gray, Layout::Rgb),
        Channels::GrayAlpha => (Layout::GrayAlpha, Layout::Rgba),
        Channels::Rgb => (Layout::Rgb, Layout::Rgb),
        Channels::Rgba => (Layout::Rgba, Layout::Rgba),
    };
    let mut converted = zeroed((samples.len() / from.channels() * to.channels()) as u64)?;
    Ok(guarded(|| {
        let profile = ColorProfile::new_from_slice(icc).ok()?;
        let transform = u8::transform(&profile, from, to).ok()?;
        let chunks = samples.chunks(CHUNK * from.channels()).zip(converted.chunks_mut(CHUNK * to.channels()));
        for (from, to) in chunks {
            transform.transform(from, to).ok()?;
        }
        Some(converted)
    }))
}

/// A profile is bytes from outside: should the library panic on a crooked one, that counts as "cannot be used".
fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// The profile, if there is one and it is about such colours.
fn profile(icc: Option<&[u8]>, expected: DataColorSpace, notes: &mut Vec<String>) -> Option<ColorProfile> {
    let icc = icc?;
    match guarded(|| ColorProfile::new_from_slice(icc).ok()) {
        Some(profile) if profile.color_space == expected => Some(profile),
        Some(_) => {
            notes.push("the colour profile is for other colours than the picture's and was left out".into());
            None
        }
        None => {
            notes.push("the colour profile is damaged and was left out".into());
            None
        }
    }
}

fn is_near_linear(profile: &ColorProfile) -> bool {
    let half =
        |curve: &moxcms::ToneReprCurve| guarded(|| Some(curve.make_linear_evaluator().ok()?.evaluate_value(0.5)));
    profile.color_space == DataColorSpace::Rgb
        && profile.green_trc.as_ref().and_then(half).is_some_and(|v| v > NEAR_LINEAR)
}

fn by_profile(samples: Samples, from: &ColorProfile, layout: Layout, to: Layout) -> Option<Samples> {
    guarded(|| {
        Some(match samples {
            Samples::U8(s) => Samples::U8(transformed(s, from, layout, to)?),
            Samples::U16(s) => Samples::U16(transformed(s, from, layout, to)?),
        })
    })
}

fn transformed<T: Sample>(samples: Vec<T>, from: &ColorProfile, layout: Layout, to: Layout) -> Option<Vec<T>> {
    let transform = T::transform(from, layout, to).ok()?;
    let mut sound = true;
    let samples = in_place(samples, layout.channels(), to.channels(), |from, to| {
        sound &= transform.transform(from, to).is_ok();
    });
    sound.then_some(samples)
}

/// Converts a buffer of `n` samples per pixel into one of `m <= n`, without a second buffer.
fn in_place<T: Sample>(mut samples: Vec<T>, n: usize, m: usize, mut convert: impl FnMut(&[T], &mut [T])) -> Vec<T> {
    let mut converted = vec![T::default(); CHUNK * m];
    let pixels = samples.len() / n;
    for start in (0..pixels).step_by(CHUNK) {
        let count = CHUNK.min(pixels - start);
        let out = &mut converted[..count * m];
        convert(&samples[start * n..(start + count) * n], out);
        samples[start * m..(start + count) * m].copy_from_slice(out);
    }
    samples.truncate(pixels * m);
    samples.shrink_to_fit();
    samples
}

/// Each ink takes its light away and black takes some of all: R = (1 - C)(1 - K).
fn ideal_inks<T: Sample>(cmyk: &[T], rgb: &mut [T]) {
    for (ink, out) in cmyk.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        let white = 1.0 - ink[3].value() / T::MOST;
        for (light, ink) in out.iter_mut().zip(ink) {
            *light = T::of((1.0 - ink.value() / T::MOST) * white);
        }
    }
}

/// CIE 1976 L*a*b* under D50, as the ICC and TIFF have it, to sRGB.
fn lab<T: Sample>(space: Space, from: &[T], to: &mut [T]) {
    for (lab, rgb) in from.chunks_exact(3).zip(to.chunks_exact_mut(3)) {
        let (l, a, b) = if space == Space::TiffLab {
            (lab[0].value() / T::MOST * 100.0, lab[1].signed(), lab[2].signed())
        } else {
            // 8 bits: 255 is 100. 16 bits: 0xFF00 is 100, and 0x8000 is no colour (ICC.1:2001, annex A).
            let (most, unit) = if T::MOST > 255.0 { (65280.0, 256.0) } else { (255.0, 1.0) };
            (lab[0].value() / most * 100.0, lab[1].value() / unit - 128.0, lab[2].value() / unit - 128.0)
        };
        let y = (l + 16.0) / 116.0;
        let [x, y, z] = [y + a / 500.0, y, y - b / 200.0].map(uncurved);
        // The D50 white of the profile connection space.
        let (x, z) = (x * 0.9642, z * 0.8249);
        // XYZ under D50 to linear sRGB, Bradford-adapted: the inverse of the matrix in the sRGB profile of the ICC.
        let linear = [
            3.134_136 * x - 1.617_386 * y - 0.490_663 * z,
            -0.978_795 * x + 1.916_254 * y + 0.033_443 * z,
            0.071_955 * x - 0.228_977 * y + 1.405_386 * z,
        ];
        for (out, v) in rgb.iter_mut().zip(linear) {
            *out = T::of(srgb_curve(v));
        }
    }
}

/// The inverse of CIE Lab's cube root with its straight start.
fn uncurved(f: f32) -> f32 {
    if f > 6.0 / 29.0 { f * f * f } else { 3.0 * (6.0f32 / 29.0).powi(2) * (f - 4.0 / 29.0) }
}

/// IEC 61966-2-1.
fn srgb_curve(v: f32) -> f32 {
    if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 }
}
