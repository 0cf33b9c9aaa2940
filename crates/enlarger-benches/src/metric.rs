//! Full-reference metrics on 8-bit RGB pictures of equal size.

use anyhow::anyhow;
use butteraugli::{ButteraugliParams, butteraugli};
use enlarger_image::Picture;
use ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};

/// Scores of one result.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// 100 is identical, 70 high quality, below 10 very bad; may be negative. Higher is better.
    pub ssimulacra2: f64,
    /// 3-norm of the difference map; 1 is just noticeable. Lower is better.
    pub butteraugli: f64,
    /// Decibels. Higher is better.
    pub psnr: f64,
}

/// Compares a result with the truth.
pub fn scores(truth: &Picture, result: &Picture) -> anyhow::Result<Scores> {
    let ssimulacra2 = compute_frame_ssimulacra2(linear(truth)?, linear(result)?).map_err(|e| anyhow!("{e}"))?;
    let (w, h) = (truth.width as usize, truth.height as usize);
    let (a, b) = (pixels(truth), pixels(result));
    let image = |p| butteraugli::Img::new(p, w, h);
    let (a, b): (butteraugli::Img<&[_]>, _) = (image(&a[..]), image(&b[..]));
    let butteraugli = butteraugli(a, b, &ButteraugliParams::new()).map_err(|e| anyhow!("{e}"))?.pnorm_3;
    Ok(Scores { ssimulacra2, butteraugli, psnr: psnr(truth, result) })
}

/// Peak signal to noise ratio over all samples.
pub fn psnr(truth: &Picture, result: &Picture) -> f64 {
    let (a, b) = (bytes(truth), bytes(result));
    let sum: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / sum.max(1e-9)).log10()
}

fn bytes(picture: &Picture) -> &[u8] {
    picture.samples.as_slice().expect("8-bit pictures only")
}

fn pixels(picture: &Picture) -> Vec<butteraugli::RGB8> {
    bytes(picture).chunks_exact(3).map(|p| butteraugli::RGB8::new(p[0], p[1], p[2])).collect()
}

fn linear(picture: &Picture) -> anyhow::Result<Rgb> {
    let data = bytes(picture).chunks_exact(3).map(|p| [0, 1, 2].map(|c| f32::from(p[c]) / 255.0)).collect();
    let (w, h) = (picture.width as usize, picture.height as usize);
    Rgb::new(data, w, h, TransferCharacteristic::SRGB, ColorPrimaries::BT709).map_err(|e| anyhow!("{e}"))
}
