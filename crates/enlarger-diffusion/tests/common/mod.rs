//! Weights by the formula of `reference/make.py`, files of them, and the references that it wrote.

// Each test binary uses some of this.
#![allow(dead_code)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use enlarger_diffusion::{file::Safetensors, ops::Ops};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};

/// -1..1: splitmix64 of a hash of the name and the place.
pub fn uniform(name: &str, count: usize) -> Vec<f32> {
    let seed = u64::from_le_bytes(*Sha256::digest(name).first_chunk().unwrap());
    (1..=count as u64)
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// An array of a network, rounded to 16 bits.
pub fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let values = uniform(name, shape.iter().product());
    let scale = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
    let value = |u: f32| match (shape.len(), name.ends_with(".weight")) {
        (1, true) => 1.0 + 0.1 * u,
        (1, false) => 0.1 * u,
        _ => u * scale,
    };
    values.into_iter().map(|u| f16::from_f32(value(u)).to_f32()).collect()
}

/// Values of unit variance.
pub fn signal(name: &str, count: usize, scale: f32) -> Vec<f32> {
    uniform(name, count).into_iter().map(|u| u * 3f64.sqrt() as f32 * scale).collect()
}

/// A picture with channels first as a tensor with channels last.
pub fn upload<O: Ops>(ops: &O, values: &[f32], [channels, height, width]: [usize; 3]) -> O::Tensor {
    let area = height * width;
    let last: Vec<f32> = (0..values.len())
        .map(|i| {
            let (image, i) = (i / (area * channels), i % (area * channels));
            values[image * area * channels + i % channels * area + i / channels]
        })
        .collect();
    ops.upload([values.len() / area / channels, height, width, channels], &last).unwrap()
}

/// A tensor with channels last as values with channels first.
pub fn download<O: Ops>(ops: &O, x: &O::Tensor) -> Vec<f32> {
    let [_, height, width, channels] = ops.shape(x);
    let (area, values) = (height * width, ops.download(x).unwrap());
    let first = |i: usize| i / (area * channels) * area * channels + i % area * channels + i / area % channels;
    (0..values.len()).map(|i| values[first(i)]).collect()
}

pub fn reference_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Results of the reference, by name.
pub fn reference(kind: &str) -> HashMap<String, Vec<f32>> {
    let bytes = std::fs::read(reference_file(&format!("{kind}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: TensorView<'_>| view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    file.tensors().into_iter().map(|(name, view)| (name, values(view))).collect()
}

/// Names and shapes of the arrays of a kind of checkpoint that begin with one of the prefixes.
pub fn keys(kind: &str, prefixes: &[&str]) -> Vec<(String, Vec<usize>)> {
    let text = std::fs::read_to_string(reference_file(&format!("{kind}.keys"))).unwrap();
    text.lines()
        .filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| {
            let (name, shape) = line.split_once(' ').unwrap();
            (name.to_owned(), shape.split('x').map(|l| l.parse().unwrap()).collect())
        })
        .collect()
}

/// Writes arrays, in 16 or 32 bits.
pub fn write(path: &Path, arrays: &[(String, Vec<usize>, Vec<f32>)], dtype: Dtype) {
    let bytes: Vec<Vec<u8>> = arrays
        .iter()
        .map(|(_, _, values)| match dtype {
            Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        })
        .collect();
    let views = arrays.iter().zip(&bytes);
    let views = views.map(|((name, shape, _), bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A file with the arrays of a kind that begin with one of the prefixes, by the formula.
pub fn file(folder: &Path, kind: &str, prefixes: &[&str], dtype: Dtype) -> Arc<Safetensors> {
    let arrays: Vec<_> = keys(kind, prefixes)
        .into_iter()
        .map(|(name, shape)| (name.clone(), shape.clone(), weight(&name, &shape)))
        .collect();
    let path = folder.join(format!("{kind}-{}.safetensors", prefixes.join("-").replace('.', "_")));
    write(&path, &arrays, dtype);
    Arc::new(Safetensors::open(&path).unwrap())
}

/// The largest difference, relative to the largest value of the reference.
pub fn difference(got: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(got.len(), reference.len());
    let most = reference.iter().fold(0f32, |a, b| a.max(b.abs()));
    got.iter().zip(reference).fold(0f32, |a, (g, r)| if (g - r).is_nan() { f32::NAN } else { a.max((g - r).abs()) })
        / most
}

/// Fails above the bound, and names what differs.
pub fn close(what: &str, got: &[f32], reference: &[f32], bound: f32) {
    let difference = difference(got, reference);
    println!("{what}: {difference:.1e}");
    assert!(difference <= bound, "{what} differs by {difference:.1e}, more than {bound:.0e}");
}
