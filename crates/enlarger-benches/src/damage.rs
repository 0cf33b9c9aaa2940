//! Damages good pictures, reproducibly.

use std::io::Cursor;

use enlarger_image::{EncodeOptions, Format, LUMA, Limits, Picture, Samples};
use enlarger_pipeline::{Condition, Crop, Resampling, resize};

use crate::photos::{cut, rgb8};

/// A named way to damage a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damage {
    /// No damage but the reduction.
    Clean,
    /// JPEG at this quality.
    Jpeg(u8),
    /// The same, cropped by three and five pixels.
    Cropped(u8),
    /// The same, reduced to four fifths.
    Rescaled(u8),
    /// JPEG 40, cropped, JPEG 90: a screenshot of something shared.
    Twice,
    /// WebP at this quality.
    WebP(u8),
    /// Gaussian blur of 0.8 pixels, noise of standard deviation 10/255, JPEG 50.
    Hard,
    /// Gaussian noise of this standard deviation in 1/255, independent in each colour.
    Noise(u8),
    /// The same in all colours.
    Luminance(u8),
    /// The same in a grey picture.
    Grey(u8),
    /// Grain of 9/255, somewhat larger than a pixel, in brown tones.
    Sepia,
    /// Noise of 10/255, saved as JPEG 90.
    NoiseJpeg,
    /// A phone at night: a third of the light, noise, smoothing, sharpening, JPEG 85.
    Night,
    /// Gaussian blur of this many tenths of a pixel.
    Blur(u8),
    /// Halved, then doubled by a cubic.
    Enlarged,
    /// The same, saved as JPEG at this quality.
    EnlargedJpeg(u8),
    /// The 256 colours of a GIF.
    Palette,
}

impl Damage {
    /// All kinds that the quality and recognition tables list.
    pub const ALL: [Self; 21] = [
        Self::Clean,
        Self::Jpeg(92),
        Self::Jpeg(75),
        Self::Jpeg(50),
        Self::Jpeg(30),
        Self::Cropped(50),
        Self::Rescaled(50),
        Self::Twice,
        Self::WebP(40),
        Self::Noise(5),
        Self::Noise(10),
        Self::Luminance(10),
        Self::Grey(10),
        Self::Sepia,
        Self::NoiseJpeg,
        Self::Night,
        Self::Hard,
        Self::Blur(15),
        Self::Enlarged,
        Self::EnlargedJpeg(90),
        Self::Palette,
    ];

    /// The kinds of the table of drawings.
    pub const OF_DRAWINGS: [Self; 10] = [
        Self::Clean,
        Self::Jpeg(85),
        Self::Jpeg(60),
        Self::Cropped(60),
        Self::WebP(40),
        Self::Noise(10),
        Self::Blur(8),
        Self::Blur(12),
        Self::Enlarged,
        Self::Palette,
    ];

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Clean => "clean".into(),
            Self::Jpeg(q) => format!("JPEG {q}"),
            Self::Cropped(q) => format!("JPEG {q}, cropped"),
            Self::Rescaled(q) => format!("JPEG {q}, reduced to 0.8"),
            Self::Twice => "JPEG 40, cropped, JPEG 90".into(),
            Self::WebP(q) => format!("WebP {q}"),
            Self::Hard => "blur + noise 10 + JPEG 50".into(),
            Self::Noise(s) => format!("noise {s}"),
            Self::Luminance(s) => format!("noise {s} in luminance"),
            Self::Grey(s) => format!("gray, noise {s}"),
            Self::Sepia => "sepia, grain 9".into(),
            Self::NoiseJpeg => "noise 10, JPEG 90".into(),
            Self::Night => "phone at night".into(),
            Self::Blur(tenths) => format!("blur {:.1}", f64::from(tenths) / 10.0),
            Self::Enlarged => "enlarged 2x before".into(),
            Self::EnlargedJpeg(q) => format!("enlarged 2x before, JPEG {q}"),
            Self::Palette => "GIF".into(),
        }
    }

    /// What a classifier should say of a photo with this damage; `None` where either is fine.
    pub fn condition(self) -> Option<Condition> {
        match self {
            Self::Clean | Self::Jpeg(92..) => Some(Condition::Clean),
            Self::Jpeg(76..) => None,
            Self::Blur(_) | Self::Enlarged | Self::EnlargedJpeg(_) => Some(Condition::Soft),
            _ => Some(Condition::Damaged),
        }
    }

    /// Columns at the left and rows at the top that it cuts off.
    pub fn cropped(self) -> (u32, u32) {
        match self {
            Self::Cropped(_) => (3, 5),
            Self::Twice => (3, 2),
            _ => (0, 0),
        }
    }

    fn without_edge(self, picture: &Picture) -> Picture {
        let (x, y) = self.cropped();
        cut(picture, Crop { x, y, width: picture.width - x, height: picture.height - y })
    }

    /// An undamaged picture in the tones that it keeps.
    pub fn tone(self, picture: &Picture) -> Picture {
        match self {
            Self::Grey(_) => toned(picture, [1.0; 3]),
            Self::Sepia => toned(picture, [1.07, 0.95, 0.74]),
            Self::Night => map(picture, |v| v / 3.0),
            _ => picture.clone(),
        }
    }

    /// The damaged picture, of the same size unless it was cropped or reduced.
    pub fn apply(self, picture: &Picture) -> anyhow::Result<Picture> {
        Ok(match self {
            Self::Clean => picture.clone(),
            Self::Jpeg(quality) => saved(picture, Format::Jpeg, quality)?,
            Self::Cropped(quality) => self.without_edge(&saved(picture, Format::Jpeg, quality)?),
            Self::Rescaled(quality) => {
                let saved = saved(picture, Format::Jpeg, quality)?;
                let side = |length: u32| (f64::from(length) * 0.8).round() as u32;
                resize(&saved, side(saved.width), side(saved.height), Resampling::CatmullRom)?
            }
            Self::Twice => {
                let first = self.without_edge(&saved(picture, Format::Jpeg, 40)?);
                saved(&first, Format::Jpeg, 90)?
            }
            Self::WebP(quality) => saved(picture, Format::WebP, quality)?,
            Self::Hard => saved(&noise(&blur(picture, 0.8), 10.0), Format::Jpeg, 50)?,
            Self::Noise(sigma) => noise(picture, f64::from(sigma)),
            Self::Luminance(sigma) => grain(picture, f64::from(sigma), 0.0),
            Self::Grey(sigma) => grain(&self.tone(picture), f64::from(sigma), 0.0),
            Self::Sepia => grain(&self.tone(picture), 9.0, 0.6),
            Self::NoiseJpeg => saved(&noise(picture, 10.0), Format::Jpeg, 90)?,
            Self::Night => {
                let dark = noise(&self.tone(picture), 8.0);
                let smooth = blur(&dark, 0.7);
                let soft = blur(&smooth, 1.0);
                let Samples::U8(soft) = &soft.samples else { unreachable!("8-bit pictures only") };
                let mut soft = soft.iter();
                let sharp = map(&smooth, |v| v + 0.8 * (v - f64::from(*soft.next().expect("one value per sample"))));
                saved(&sharp, Format::Jpeg, 85)?
            }
            Self::Blur(tenths) => blur(picture, f64::from(tenths) / 10.0),
            Self::Enlarged => {
                let small = resize(picture, picture.width / 2, picture.height / 2, Resampling::Box)?;
                resize(&small, picture.width, picture.height, Resampling::CatmullRom)?
            }
            Self::EnlargedJpeg(quality) => saved(&Self::Enlarged.apply(picture)?, Format::Jpeg, quality)?,
            Self::Palette => paletted(picture),
        })
    }
}

/// Reduces by a whole factor with an antialiased cubic, as benchmarks of super-resolution do.
pub fn reduce(picture: &Picture, factor: u32) -> Picture {
    resize(picture, picture.width / factor, picture.height / factor, Resampling::CatmullRom).expect("there is room")
}

/// The picture as read back from a file of this format.
fn saved(picture: &Picture, format: Format, quality: u8) -> anyhow::Result<Picture> {
    let mut out = Cursor::new(Vec::new());
    let options = EncodeOptions { format, quality: Some(quality), ..EncodeOptions::default() };
    enlarger_image::encode(picture, &options, &mut out)?;
    Ok(rgb8(enlarger_image::decode(out.get_ref(), &Limits::default())?.picture))
}

/// The picture in the colours that an encoder of GIF chooses.
fn paletted(picture: &Picture) -> Picture {
    let Samples::U8(source) = &picture.samples else { unreachable!("8-bit pictures only") };
    let frame = gif::Frame::from_rgb(picture.width as u16, picture.height as u16, source);
    let palette = frame.palette.as_deref().unwrap_or_default();
    let mut samples = frame.buffer.iter().flat_map(|&i| palette[3 * usize::from(i)..][..3].iter().copied());
    map(picture, |_| f64::from(samples.next().expect("one value per sample")))
}

/// Luminance times these factors.
fn toned(picture: &Picture, tone: [f64; 3]) -> Picture {
    let Samples::U8(source) = &picture.samples else { unreachable!("8-bit pictures only") };
    let grey = |p: &[u8]| LUMA.iter().zip(p).map(|(weight, &v)| weight * f64::from(v)).sum::<f64>();
    let mut toned = source.chunks_exact(3).flat_map(|p| tone.map(|factor| factor * grey(p)));
    map(picture, |_| toned.next().expect("one value per sample"))
}

/// Adds the same noise to all colours, blurred by so many pixels and of this standard deviation after that.
fn grain(picture: &Picture, sigma: f64, size: f64) -> Picture {
    let even = map(picture, |_| 128.0);
    let grain = toned(&noise(&even, 20.0), [1.0; 3]);
    let grain = if size > 0.0 { blur(&grain, size) } else { grain };
    let Samples::U8(grain) = &grain.samples else { unreachable!("8-bit pictures only") };
    let deviation =
        (grain.iter().map(|v| (f64::from(*v) - 128.0).powi(2)).sum::<f64>() / grain.len() as f64).sqrt().max(1e-9);
    let mut grain = grain.iter();
    map(picture, |v| v + (f64::from(*grain.next().expect("one value per sample")) - 128.0) / deviation * sigma)
}

/// Adds Gaussian noise from a fixed seed (sum of 12 uniform numbers, SplitMix64).
fn noise(picture: &Picture, sigma: f64) -> Picture {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    map(picture, |v| v + sigma * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0))
}

fn blur(picture: &Picture, sigma: f64) -> Picture {
    let radius = (3.0 * sigma).ceil() as i64;
    let kernel: Vec<f64> = (-radius..=radius).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    let Samples::U8(source) = &picture.samples else { unreachable!("8-bit pictures only") };
    let (w, h) = (picture.width as i64, picture.height as i64);
    let mut values: Vec<f64> = source.iter().map(|&v| f64::from(v)).collect();
    for (dx, dy) in [(1, 0), (0, 1)] {
        let from = values.clone();
        for y in 0..h {
            for x in 0..w {
                for c in 0..3 {
                    values[((y * w + x) * 3 + c) as usize] = (-radius..=radius)
                        .map(|i| {
                            let (sx, sy) = ((x + i * dx).clamp(0, w - 1), (y + i * dy).clamp(0, h - 1));
                            from[((sy * w + sx) * 3 + c) as usize] * kernel[(i + radius) as usize] / sum
                        })
                        .sum();
                }
            }
        }
    }
    let mut values = values.into_iter();
    map(picture, |_| values.next().expect("one value per sample"))
}

fn map(picture: &Picture, mut f: impl FnMut(f64) -> f64) -> Picture {
    let Samples::U8(source) = &picture.samples else { unreachable!("8-bit pictures only") };
    let samples = source.iter().map(|&v| f(f64::from(v)).round().clamp(0.0, 255.0) as u8).collect();
    Picture { samples: Samples::U8(samples), ..picture.clone() }
}
