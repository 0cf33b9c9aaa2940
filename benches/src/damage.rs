//! How good pictures become bad ones, reproducibly.

use std::io::Cursor;

use enlarger_image::{EncodeOptions, Format, Limits, Picture, Samples};
use enlarger_pipeline::{Kernel, resize};

use crate::photos::rgb8;

/// A named way to damage a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damage {
    /// None but the reduction.
    Clean,
    /// JPEG at this quality.
    Jpeg(u8),
    /// Gaussian blur of 0.8 pixels, noise of standard deviation 10/255, JPEG 50.
    Hard,
    /// Gaussian noise of this standard deviation in 1/255.
    Noise(u8),
}

impl Damage {
    /// How tables call it.
    pub fn name(self) -> String {
        match self {
            Self::Clean => "clean".into(),
            Self::Jpeg(q) => format!("JPEG {q}"),
            Self::Hard => "blur + noise 10 + JPEG 50".into(),
            Self::Noise(s) => format!("noise {s}"),
        }
    }

    /// The damaged picture, of the same size.
    pub fn apply(self, picture: &Picture) -> anyhow::Result<Picture> {
        match self {
            Self::Clean => Ok(picture.clone()),
            Self::Jpeg(quality) => jpeg(picture, quality),
            Self::Hard => jpeg(&noise(&blur(picture, 0.8), 10.0), 50),
            Self::Noise(sigma) => Ok(noise(picture, f64::from(sigma))),
        }
    }
}

/// Reduces by a whole factor with an antialiased cubic, as benchmarks of super-resolution do.
pub fn reduce(picture: &Picture, factor: u32) -> Picture {
    resize(picture, picture.width / factor, picture.height / factor, Kernel::CatmullRom).expect("there is room")
}

fn jpeg(picture: &Picture, quality: u8) -> anyhow::Result<Picture> {
    let mut out = Cursor::new(Vec::new());
    let options = EncodeOptions { format: Format::Jpeg, quality: Some(quality), ..EncodeOptions::default() };
    enlarger_image::encode(picture, &options, &mut out)?;
    Ok(rgb8(enlarger_image::decode(out.get_ref(), &Limits::default())?.picture))
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
