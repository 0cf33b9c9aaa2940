//! Converts whatever colours a file holds to grey or RGB that its profile describes.
//!
//! Grey and RGB keep their values and their profile, to the bit: an enlarger must not change either. What a
//! [`crate::Picture`] cannot hold (CMYK, Lab) becomes sRGB. So does linear RGB, on which networks trained on display
//! values would ring and lose the shadows.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, CmsError, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    LocalizableString, MatrixCoefficients, ProfileText, ToneReprCurve, TransferCharacteristics, TransformExecutor,
    TransformOptions,
};

use crate::{Channels, Format, ImageError, Metadata, Sample, Samples, picture::zeroed, with_samples};

/// What stored samples mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Grey or RGB, as the channels say.
    Display,
    /// Four samples per pixel; 0 means no ink.
    Cmyk,
    /// Three samples per pixel, coded as in TIFF 6.0, section 23: a and b are signed.
    TiffLab,
    /// Three samples per pixel, coded as in ICC profiles: a and b are offset by half the range.
    IccLab,
}

/// What a PNG declares about its colours besides a profile (PNG, third edition, 4.3), in order of precedence; a profile
/// overrides all but the first.
#[derive(Default)]
pub(crate) struct Described {
    /// Code points of ITU-T H.273: primaries, transfer, matrix, full range.
    pub cicp: Option<[u8; 4]>,
    /// Whether colours are sRGB.
    pub srgb: bool,
    /// The exponent from light to samples, times 100,000.
    pub gamma: Option<u32>,
    /// x and y of white, red, green and blue, times 100,000.
    pub chromaticities: Option<[u32; 8]>,
}

/// The primaries of sRGB as in [`Described::chromaticities`].
const SRGB_CHROMATICITIES: [u32; 8] = [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];
/// The exponent that files use for sRGB's curve: 1 / 2.2.
const SRGB_GAMMA: u32 = 45_455;
/// Numbers this close to sRGB's mean sRGB, because programs round differently.
const NEAR_SRGB: u32 = 300;

impl Described {
    /// Gives the picture an equivalent profile, or none if that is sRGB.
    pub fn settle(self, channels: Channels, metadata: &mut Metadata, notes: &mut Vec<String>) {
        if let Some(cicp) = self.cicp {
            // PNG allows only matrix 0.
            if let Some(icc) = by_code_points(cicp, channels) {
                let [_, transfer, _, full_range] = cicp;
                if let Some(hdr) = hdr_name(transfer) {
                    notes.push(format!(
                        "the image is HDR ({hdr}): its values are kept, with a color profile that describes them"
                    ));
                }
                if full_range == 0 {
                    notes.push("the image declares narrow (video) range: its values were kept unchanged".into());
                }
                metadata.icc = icc;
                metadata.cicp = metadata.icc.is_some().then_some(cicp);
                return;
            }
        }
        if metadata.icc.is_some() || self.srgb {
            return;
        }
        let near = |a: u32, b: u32| a.abs_diff(b) <= NEAR_SRGB;
        let gamma = self.gamma.filter(|g| (10_000..=1_000_000).contains(g)).unwrap_or(SRGB_GAMMA);
        let chromaticities = self.chromaticities.unwrap_or(SRGB_CHROMATICITIES);
        let usual_primaries =
            channels.is_gray() || chromaticities.iter().zip(SRGB_CHROMATICITIES).all(|(&a, b)| near(a, b));
        if !(near(gamma, SRGB_GAMMA) && usual_primaries) {
            metadata.icc = guarded(|| by_numbers(gamma, chromaticities, channels));
        }
    }
}

/// PQ and HLG: transfers for more light than paper white.
fn hdr_name(transfer: u8) -> Option<&'static str> {
    match transfer {
        16 => Some("PQ"),
        18 => Some("HLG"),
        _ => None,
    }
}

/// A profile for code points; `Some(None)` is sRGB, which needs none. `None` if they name no colours.
fn by_code_points(cicp: [u8; 4], channels: Channels) -> Option<Option<Vec<u8>>> {
    let [primaries, transfer, matrix, full_range] = cicp;
    if matrix != 0 {
        return None;
    }
    if transfer == 13 && (primaries == 1 || channels.is_gray()) {
        return Some(None);
    }
    guarded(|| {
        let transfer = TransferCharacteristics::try_from(transfer).ok()?;
        let curve = ToneReprCurve::try_from(transfer).ok()?;
        if channels.is_gray() {
            return Some(Some(gray(Some(curve)).encode().ok()?));
        }
        let color_primaries = CicpColorPrimaries::try_from(primaries).ok()?;
        ColorPrimaries::try_from(color_primaries).ok()?;
        let profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries,
            transfer_characteristics: transfer,
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: full_range != 0,
        });
        profile.green_trc.is_some().then_some(())?;
        Some(Some(named(profile).encode().ok()?))
    })
}

/// A profile for a plain exponent and primaries.
fn by_numbers(gamma: u32, chromaticities: [u32; 8], channels: Channels) -> Option<Vec<u8>> {
    // sRGB's own curve is not a plain exponent.
    let curve = if gamma.abs_diff(SRGB_GAMMA) <= NEAR_SRGB {
        ColorProfile::new_srgb().green_trc?
    } else {
        ToneReprCurve::Parametric(vec![100_000.0 / gamma as f32])
    };
    if channels.is_gray() {
        return gray(Some(curve)).encode().ok();
    }
    let [xw, yw, xr, yr, xg, yg, xb, yb] = chromaticities.map(|v| v as f32 / 100_000.0);
    // A colour without light, or three on a line, cannot be primaries.
    let area = (xg - xr) * (yb - yr) - (xb - xr) * (yg - yr);
    if [yw, yr, yg, yb].iter().any(|&y| y <= 0.0) || area.abs() < 0.01 || chromaticities.iter().any(|&v| v > 100_000) {
        return None;
    }
    let mut profile = named(ColorProfile::new_srgb());
    let primaries = ColorPrimaries {
        red: Chromaticity::new(xr, yr),
        green: Chromaticity::new(xg, yg),
        blue: Chromaticity::new(xb, yb),
    };
    profile.update_rgb_colorimetry(Chromaticity::new(xw, yw).to_xyyb(), primaries);
    (profile.red_trc, profile.green_trc, profile.blue_trc) = (Some(curve.clone()), Some(curve.clone()), Some(curve));
    profile.encode().ok()
}

/// Grey with a curve.
fn gray(curve: Option<ToneReprCurve>) -> ColorProfile {
    let mut profile = ColorProfile::new_gray_with_gamma(1.0);
    profile.gray_trc = curve;
    profile
}

/// The profile under a name of its own.
fn named(mut profile: ColorProfile) -> ColorProfile {
    let name = LocalizableString::new("en".into(), "US".into(), "RGB as described in the image".into());
    profile.description = Some(ProfileText::Localizable(vec![name]));
    profile
}

/// A transfer curve that maps one half to more than this is near linear. Linear light maps it to 0.5, the lowest gamma in use on
/// displays, 1.8, to 0.29.
const NEAR_LINEAR: f32 = 0.4;

/// Pixels that are converted at a time.
const CHUNK: usize = 4096;

/// A conversion between layouts of samples.
type Transform<T> = Arc<dyn TransformExecutor<T> + Send + Sync>;

/// A depth that profiles convert.
trait Convert: Sample {
    /// From a profile's colours to sRGB.
    fn transform(from: &ColorProfile, layout: Layout, to: Layout) -> Result<Transform<Self>, CmsError>;
}

impl Convert for u8 {
    fn transform(from: &ColorProfile, layout: Layout, to: Layout) -> Result<Transform<Self>, CmsError> {
        from.create_transform_8bit(layout, &srgb(to), to, TransformOptions::default())
    }
}

impl Convert for u16 {
    fn transform(from: &ColorProfile, layout: Layout, to: Layout) -> Result<Transform<Self>, CmsError> {
        from.create_transform_16bit(layout, &srgb(to), to, TransformOptions::default())
    }
}

/// sRGB, or grey with its curve.
fn srgb(layout: Layout) -> ColorProfile {
    let rgb = ColorProfile::new_srgb();
    match layout {
        Layout::Gray | Layout::GrayAlpha => gray(rgb.green_trc),
        _ => rgb,
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
        metadata.cicp = None;
    }
    let unusable = || ImageError::Broken { format, reason: "its color profile cannot be used".into() };
    match (space, profile) {
        (Space::Display, Some(profile)) if is_near_linear(&profile) => {
            let (from, to) = match channels {
                Channels::Gray => (Layout::Gray, Layout::Gray),
                Channels::GrayAlpha => (Layout::GrayAlpha, Layout::GrayAlpha),
                Channels::Rgb => (Layout::Rgb, Layout::Rgb),
                Channels::Rgba => (Layout::Rgba, Layout::Rgba),
            };
            let samples = by_profile(samples, &profile, from, to).ok_or_else(unusable)?;
            metadata.icc = None;
            metadata.cicp = None;
            notes.push("the linear colors were converted to sRGB".into());
            Ok(samples)
        }
        (Space::Display, _) => Ok(samples),
        (Space::Cmyk, Some(profile)) => {
            let samples = by_profile(samples, &profile, Layout::Rgba, Layout::Rgb).ok_or_else(unusable)?;
            metadata.icc = None;
            notes.push("the CMYK colors were converted to sRGB with the file's profile".into());
            Ok(samples)
        }
        (Space::Cmyk, None) => {
            notes.push("the CMYK colors have no profile: they were converted to sRGB with a generic formula".into());
            Ok(with_samples!(samples, s => in_place(s, 4, 3, ideal_inks).into()))
        }
        (Space::TiffLab | Space::IccLab, _) => {
            metadata.icc = None;
            notes.push("the Lab colors were converted to sRGB".into());
            Ok(with_samples!(samples, s => in_place(s, 3, 3, |from, to| lab(space, from, to)).into()))
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

/// A profile is untrusted: if the library panics on it, it counts as unusable.
fn guarded<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// The profile, if there is one for such colours.
fn profile(icc: Option<&[u8]>, expected: DataColorSpace, notes: &mut Vec<String>) -> Option<ColorProfile> {
    let icc = icc?;
    match guarded(|| ColorProfile::new_from_slice(icc).ok()) {
        Some(profile) if profile.color_space == expected => Some(profile),
        Some(_) => {
            notes.push("the color profile does not match the image's color space and was left out".into());
            None
        }
        None => {
            notes.push("the color profile is damaged and was left out".into());
            None
        }
    }
}

fn is_near_linear(profile: &ColorProfile) -> bool {
    let half =
        |curve: &moxcms::ToneReprCurve| guarded(|| Some(curve.make_linear_evaluator().ok()?.evaluate_value(0.5)));
    let curve = match profile.color_space {
        DataColorSpace::Gray => profile.gray_trc.as_ref(),
        DataColorSpace::Rgb => profile.green_trc.as_ref(),
        _ => None,
    };
    curve.and_then(half).is_some_and(|v| v > NEAR_LINEAR)
}

fn by_profile(samples: Samples, from: &ColorProfile, layout: Layout, to: Layout) -> Option<Samples> {
    guarded(|| Some(with_samples!(samples, s => transformed(s, from, layout, to)?.into())))
}

fn transformed<T: Convert>(samples: Vec<T>, from: &ColorProfile, layout: Layout, to: Layout) -> Option<Vec<T>> {
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

/// Each ink absorbs its light and black absorbs all: R = (1 - C)(1 - K).
fn ideal_inks<T: Sample>(cmyk: &[T], rgb: &mut [T]) {
    for (ink, out) in cmyk.chunks_exact(4).zip(rgb.chunks_exact_mut(3)) {
        let light = |ink: T| 1.0 - ink.to_f64() as f32;
        let white = light(ink[3]);
        out.iter_mut().zip(ink).for_each(|(out, &ink)| *out = T::from_float(light(ink) * white));
    }
}

/// CIE 1976 L*a*b* under D50, as the ICC and TIFF have it, to sRGB.
fn lab<T: Sample>(space: Space, from: &[T], to: &mut [T]) {
    let most = T::MAX.value() as f32;
    let unit = if T::BITS == 8 { 1.0 } else { 256.0 };
    // Of 16 bits in a profile's coding 0xFF00 is a lightness of 100, and 0x8000 is grey (ICC.1:2001, annex A).
    let white = if space == Space::TiffLab { most } else { 255.0 * unit };
    for (lab, rgb) in from.chunks_exact(3).zip(to.chunks_exact_mut(3)) {
        let [l, a, b] = [lab[0], lab[1], lab[2]].map(|v| v.value() as f32);
        let l = l / white * 100.0;
        let [a, b] = [a, b].map(|v| match space {
            // Two's complement.
            Space::TiffLab => (if v > most / 2.0 { v - most - 1.0 } else { v }) / unit,
            _ => v / unit - 128.0,
        });
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
            *out = T::from_float(srgb_curve(v));
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
