//! A picture in memory as a network's source and sink.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{ops::ControlFlow, sync::Mutex};

use enlarger_nn::{Network, RunOptions, Sink, Source, pool, upscale};

/// Interleaved RGB floats.
pub struct Photo {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<f32>,
}

impl Source for Photo {
    fn width(&self) -> u32 {
        self.width
    }
    fn height(&self) -> u32 {
        self.height
    }
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
        for row in 0..h {
            let start = (((y + row) * self.width + x) * 3) as usize;
            let n = w as usize * 3;
            rgb[row as usize * n..][..n].copy_from_slice(&self.rgb[start..start + n]);
        }
    }
}

/// NaN where nothing was written.
pub struct Canvas {
    pub width: u32,
    pub rgb: Mutex<Vec<f32>>,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, rgb: Mutex::new(vec![f32::NAN; (width * height * 3) as usize]) }
    }
}

impl Sink for Canvas {
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        let mut all = self.rgb.lock().expect("no panic under it");
        for row in 0..h {
            let start = (((y + row) * self.width + x) * 3) as usize;
            let n = w as usize * 3;
            let to = &mut all[start..start + n];
            assert!(to.iter().all(|v| v.is_nan()), "no pixel is written twice");
            to.copy_from_slice(&rgb[row as usize * n..][..n]);
        }
    }
}

/// The whole result.
pub fn run(network: &Network, photo: &Photo) -> Vec<f32> {
    let canvas = Canvas::new(photo.width * network.scale(), photo.height * network.scale());
    let options = RunOptions::default();
    let upscale = || upscale(network, photo, &canvas, &options, &|_| ControlFlow::Continue(()));
    pool(2).and_then(|pool| pool.install(upscale)).expect("it runs");
    let rgb = canvas.rgb.into_inner().expect("no panic under it");
    assert!(rgb.iter().all(|v| v.is_finite()), "every pixel is written, and finite");
    rgb
}

pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mse = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64;
    -10.0 * mse.max(1e-20).log10()
}
