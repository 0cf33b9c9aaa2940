//! Weights as TensorFlow.js stores them: a manifest in JSON, and bytes, of which each stands for `scale * byte + min`.

use enlarger_nn::Tensor;
use serde::Deserialize;

#[derive(Deserialize)]
struct Manifest {
    weights: Vec<Array>,
}

#[derive(Deserialize)]
struct Array {
    name: String,
    shape: Vec<usize>,
    quantization: Quantization,
}

#[derive(Deserialize)]
struct Quantization {
    scale: f32,
    min: f32,
}

/// The arrays of a bundled network by name, in the order of its manifest.
///
/// # Panics
/// If the manifest cannot be read.
pub(crate) fn arrays(manifest: &[u8], bytes: &[u8]) -> Vec<(String, Tensor)> {
    let [Manifest { weights }]: [Manifest; 1] = serde_json::from_slice(manifest).expect("bundled");
    let mut bytes = bytes.iter();
    let array = |Array { name, shape, quantization: Quantization { scale, min } }: Array| {
        let count = shape.iter().product();
        let data = bytes.by_ref().take(count).map(|&byte| scale * f32::from(byte) + min).collect();
        (name, Tensor { shape, data })
    };
    weights.into_iter().map(array).collect()
}
