//! A picture in memory as a network's source and sink.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Mutex,
};

use enlarger_nn::{
    Architecture, Backend, Isa, Network, NnError, Precision, RunOptions, Sink, Source, architecture, pool, upscale,
    weights,
};

/// A file of `reference/`.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// The network in a file, by the portable kernels.
///
/// # Errors
/// What is said to a user who adds the file.
pub fn load(file: &Path) -> Result<Network, NnError> {
    let (kind, dict) = weights::read(file).and_then(architecture::detect)?;
    Network::build(&kind, &dict, &Backend { isa: Isa::Portable, precision: Precision::F32 })
}

/// The network in a file computes what PyTorch does, which `reference/<expected>.expected.safetensors` has.
pub fn check(file: &Path, expected: &str) -> Architecture {
    let name = file.display();
    let network = load(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = weights::read(&reference(&format!("{expected}.expected.safetensors"))).expect("a reference");
    let (input, output) = (&expected.0["input"], &expected.0["output"]);
    let photo = Photo { width: input.shape[1] as u32, height: input.shape[0] as u32, rgb: input.data.clone() };
    let off = worst(&run(&network, &photo), &output.data);
    assert!(off < 1e-5, "{name}: off by {off}");
    *network.architecture()
}

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
