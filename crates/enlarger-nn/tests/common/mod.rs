//! An image in memory as a network's source and sink.

#![allow(dead_code, reason = "each test binary uses a part of it")]

mod lavapipe;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use enlarger_nn::{
    Architecture, Backend, Device, GpuChoice, Network, NnError, Node, Precision, RunOptions, Sink, Source, StateDict,
    Tensor, arch::detect, pool, upscale, weights,
};

/// A file of `reference/`.
pub fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// The kernels that any CPU runs.
pub fn portable() -> Arc<dyn Device> {
    let asked = Backend { device: Some("portable".into()), precision: Precision::F32, ..Backend::default() };
    asked.find().expect("always there")
}

/// A GPU that every machine has: Mesa's software renderer, which is named, since it is never chosen.
pub fn gpu(precision: Precision) -> Arc<dyn Device> {
    load_gpu_driver();
    let asked = Backend { gpu: GpuChoice::Named("llvmpipe".into()), precision, ..Backend::default() };
    asked.find().expect("it was just loaded")
}

pub use lavapipe::load as load_gpu_driver;

/// The network in a file, by the portable kernels, and what it is.
///
/// # Errors
/// What is said to a user who adds the file.
pub fn load(file: &Path) -> Result<(Network, String), NnError> {
    let (architecture, dict) = weights::read(file).and_then(detect)?;
    let name = architecture.to_string();
    Ok((Network::build(architecture, &dict, &*portable())?, name))
}

/// The network in a file computes what PyTorch does, which `reference/<expected>.expected.safetensors` has; returns what
/// it is.
pub fn check(file: &Path, expected: &str) -> String {
    let name = file.display();
    let (network, architecture) = load(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = weights::read(&reference(&format!("{expected}.expected.safetensors"))).expect("a reference");
    let (input, output) = (&expected.0["input"], &expected.0["output"]);
    let photo = Photo { width: input.shape[1] as u32, height: input.shape[0] as u32, rgb: input.data.clone() };
    let off = worst(&run(&network, &photo), &output.data);
    assert!(off < 1e-5, "{name}: off by {off}");
    architecture
}

/// SplitMix64, as numbers in -1..1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Interleaved RGB floats.
pub struct Photo {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<f32>,
}

impl Photo {
    /// Smooth waves with an edge and fine noise: all that a network reacts to.
    pub fn waves(width: u32, height: u32) -> Self {
        let mut random = Random(7);
        let rgb = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))))
            .map(|(x, y, c)| {
                let wave = 0.5 + 0.25 * ((x as f32 * 0.13 + c as f32).sin() + (y as f32 * 0.21 - c as f32).cos());
                let edge = if (x + 2 * y) % 37 < 9 { 0.2 } else { 0.0 };
                (wave * 0.8 + edge + 0.05 * random.next()).clamp(0.0, 1.0)
            })
            .collect();
        Self { width, height, rgb }
    }
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

/// A result; NaN where nothing was written.
pub struct Canvas {
    pub width: u32,
    scale: u32,
    pub rgb: Mutex<Vec<f32>>,
}

impl Canvas {
    /// For a photo of this size and a network of this scale.
    pub fn new(photo: &Photo, scale: u32) -> Self {
        let width = photo.width * scale;
        Self { width, scale, rgb: Mutex::new(vec![f32::NAN; (width * photo.height * scale * 3) as usize]) }
    }
}

impl Sink for Canvas {
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]) {
        assert!([x, y, w, h].iter().all(|v| v % self.scale == 0), "{x} {y} {w} {h} in multiples of {}", self.scale);
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
    run_in_strips(network, photo, 2, None)
}

/// The whole result, by so many threads and in strips of this width.
pub fn run_in_strips(network: &Network, photo: &Photo, threads: usize, strip: Option<u32>) -> Vec<f32> {
    let canvas = Canvas::new(photo, network.scale());
    let options = RunOptions { strip, halo: None };
    let upscale = || upscale(network, photo, &canvas, &options, &|_| ControlFlow::Continue(()));
    let notes = pool(threads).and_then(|pool| pool.install(upscale)).expect("it runs");
    assert!(notes.is_empty(), "nothing fails: {notes:?}");
    let rgb = canvas.rgb.into_inner().expect("no panic under it");
    assert!(rgb.iter().all(|v| v.is_finite()), "every pixel is written, and finite");
    rgb
}

/// Weights of the shapes that a network has, scaled so that signals neither die nor explode.
pub fn random_weights(network: &dyn Architecture) -> StateDict {
    let graph = network.graph();
    let mut random = Random(1);
    let mut dict = StateDict::default();
    for conv in graph.convs() {
        let gain = 1.5 / (9.0 * conv.inputs as f32).sqrt();
        let data = (0..conv.outputs * conv.inputs * 9).map(|_| random.next() * gain).collect();
        dict.0.insert(format!("{}.weight", conv.name), Tensor { shape: vec![conv.outputs, conv.inputs, 3, 3], data });
        let data = (0..conv.outputs).map(|_| random.next() * 0.05).collect();
        dict.0.insert(format!("{}.bias", conv.name), Tensor { shape: vec![conv.outputs], data });
    }
    for node in graph.nodes() {
        let Node::Prelu(of, at) = *node else { continue };
        let Node::Conv(conv) = graph.nodes()[of] else { panic!("a slope follows a convolution") };
        let features = graph.convs()[conv].outputs;
        let data = (0..features).map(|c| 0.1 + 0.01 * (c % 7) as f32).collect();
        dict.0.insert(format!("{}.weight", graph.prelus()[at]), Tensor { shape: vec![features], data });
    }
    dict
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
