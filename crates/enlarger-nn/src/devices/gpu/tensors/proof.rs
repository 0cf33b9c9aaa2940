//! The self-test of a kernel on tensors: before its first use it computes something small, and textbook formulas in f64 tell what
//! that has to be.

use half::f16;

use super::{Affine, Filters, Function, Store, Tensor, Tensors, Walk, Width, text::Kind};
use crate::error::NnError;

/// What may be off: the result's rounding in 16 bits, or that of sums in f32.
const OFF_HALF: f64 = 3e-3;
const OFF_FULL: f64 = 1e-4;

/// Numbers in -1..1 (xorshift), as a tensor of this width keeps them.
fn noise(mut seed: u32, count: usize, width: Width) -> Vec<f32> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    let values = (0..count).map(|_| next());
    match width {
        Width::Half => values.map(|value| f16::from_f32(value).to_f32()).collect(),
        Width::Full => values.collect(),
    }
}

/// A tensor and what it holds.
struct Known {
    tensor: Tensor,
    values: Vec<f32>,
}

impl Known {
    fn new(on: &Tensors, shape: [usize; 4], seed: u32, width: Width) -> Result<Self, NnError> {
        let values = noise(seed, shape.iter().product(), width);
        Ok(Self { tensor: on.upload(shape, &values, width)?, values })
    }

    fn at(&self, picture: usize, y: usize, x: usize, c: usize) -> f64 {
        let [_, height, width, channels] = self.tensor.shape;
        f64::from(self.values[((picture * height + y) * width + x) * channels + c])
    }
}

/// Compares a result with what `expected` says of each picture, row, column and channel.
fn compare(on: &Tensors, result: &Tensor, expected: impl Fn(usize, usize, usize, usize) -> f64) -> Result<(), NnError> {
    let got = on.download(result)?;
    let off = if result.width == Width::Half { OFF_HALF } else { OFF_FULL };
    let [_, height, width, channels] = result.shape;
    for (at, &got) in got.iter().enumerate() {
        let (pixel, c) = (at / channels, at % channels);
        let expected = expected(pixel / width / height, pixel / width % height, pixel % width, c);
        // What is not a number is not near anything.
        let near = (f64::from(got) - expected).abs() <= off * expected.abs().max(1.0);
        if !near {
            return Err(NnError::Device(format!("its self-test gave {got:.4} instead of {expected:.4}")));
        }
    }
    Ok(())
}

/// Runs the operation of a kernel and compares.
///
/// # Errors
/// [`NnError::Device`] if the card fails, or computes something else.
pub fn prove(on: &Tensors, kind: Kind) -> Result<(), NnError> {
    let width = |store| if store == Store::F16 { Width::Half } else { Width::Full };
    match kind {
        Kind::Conv { wide, store, weights } => conv(on, if wide { 70 } else { 7 }, width(store), width(weights)),
        Kind::Moments(store) | Kind::Normalize(store) => group_norm(on, width(store)),
        Kind::Factors => group_norm(on, on.width()),
        Kind::LayerNorm(store) => layer_norm(on, width(store)),
        Kind::Attention { width: head, store } => attention(on, 4 * head as usize, width(store)),
        Kind::Activate(store) => {
            let x = Known::new(on, [1, 3, 5, 6], 1, width(store))?;
            let functions: [(Function, Curve); 3] = [
                (Function::Silu, |v| v / (1.0 + (-v).exp())),
                (Function::Gelu, gelu),
                (Function::QuickGelu, |v| v / (1.0 + (-1.702 * v).exp())),
            ];
            functions.into_iter().try_for_each(|(function, expected)| {
                let result = on.activate(&x.tensor, function)?;
                compare(on, &result, |n, y, across, c| expected(x.at(n, y, across, c)))
            })
        }
        Kind::Gate(store) => {
            let x = Known::new(on, [2, 3, 5, 24], 1, width(store))?;
            let result = on.gate(&x.tensor)?;
            compare(on, &result, |n, y, across, c| x.at(n, y, across, c) * gelu(x.at(n, y, across, c + 12)))
        }
        Kind::Add(store) => {
            let a = Known::new(on, [2, 3, 5, 6], 1, width(store))?;
            [[2, 3, 5, 6], [1, 3, 5, 6], [2, 1, 1, 6], [1, 3, 1, 6]].into_iter().try_for_each(|shape| {
                let b = Known::new(on, shape, 2, width(store))?;
                let result = on.add(&a.tensor, &b.tensor, -0.5)?;
                let seen = |axis: usize, at: usize| if shape[axis] == 1 { 0 } else { at };
                compare(on, &result, |n, y, x, c| a.at(n, y, x, c) - 0.5 * b.at(seen(0, n), seen(1, y), seen(2, x), c))
            })
        }
        Kind::Concat(store) => {
            let a = Known::new(on, [2, 3, 5, 8], 1, width(store))?;
            let b = Known::new(on, [2, 3, 5, 6], 2, width(store))?;
            let result = on.concat(&a.tensor, &b.tensor)?;
            compare(on, &result, |n, y, x, c| if c < 8 { a.at(n, y, x, c) } else { b.at(n, y, x, c - 8) })
        }
        Kind::Double(store) => {
            let a = Known::new(on, [2, 3, 5, 6], 1, width(store))?;
            let result = on.double(&a.tensor)?;
            compare(on, &result, |n, y, x, c| a.at(n, y / 2, x / 2, c))
        }
    }
}

/// x Phi(x), by the series of the error function.
/// A function of single values.
type Curve = fn(f64) -> f64;

fn gelu(x: f64) -> f64 {
    let t = x / 2f64.sqrt();
    let (mut term, mut sum) = (t, t);
    for n in 1..30 {
        term *= -t * t / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * sum)
}

const INPUTS: usize = 22;

fn conv(on: &Tensors, outputs: usize, width: Width, of_weights: Width) -> Result<(), NnError> {
    let x = Known::new(on, [2, 6, 7, INPUTS], 1, width)?;
    for (kernel, walk) in [
        (1, Walk::around(1)),
        (3, Walk::around(3)),
        (3, Walk { stride: 2, ..Walk::around(3) }),
        (3, Walk { stride: 2, before: 0, around: 1, doubled: false }),
        (3, Walk { doubled: true, ..Walk::around(3) }),
    ] {
        let weights: Vec<f32> = noise(2, outputs * INPUTS * kernel * kernel, of_weights);
        let weights: Vec<f32> = weights.iter().map(|weight| weight / 8.0).collect();
        let bias = noise(3, outputs, Width::Full);
        let widen = |from: usize, to: &mut [f32]| to.copy_from_slice(&weights[from..from + to.len()]);
        let filters: Filters = on.filters([outputs, INPUTS, kernel], of_weights, &widen, Some(&bias))?;
        let plain = on.conv(&x.tensor, &filters, walk, None)?;
        let add = Known::new(on, plain.shape, 4, width)?;
        let result = on.conv(&x.tensor, &filters, walk, Some(&add.tensor))?;
        let sum = |n: usize, y: usize, across: usize, output: usize| {
            let mut sum = f64::from(bias[output]);
            let times = 1 + usize::from(walk.doubled);
            for tap in 0..kernel * kernel {
                let sy = (y * walk.stride + tap / kernel).wrapping_sub(walk.before);
                let sx = (across * walk.stride + tap % kernel).wrapping_sub(walk.before);
                if sy < 6 * times && sx < 7 * times {
                    for c in 0..INPUTS {
                        let weight = f64::from(weights[(output * INPUTS + c) * kernel * kernel + tap]);
                        sum += weight * x.at(n, sy / times, sx / times, c);
                    }
                }
            }
            sum
        };
        compare(on, &plain, sum)?;
        compare(on, &result, |n, y, across, c| sum(n, y, across, c) + add.at(n, y, across, c))?;
    }
    Ok(())
}

fn affine(on: &Tensors, channels: usize) -> Result<(Affine, Vec<f32>, Vec<f32>), NnError> {
    let (scale, shift) = (noise(5, channels, Width::Full), noise(6, channels, Width::Full));
    Ok((on.affine(&scale, &shift)?, scale, shift))
}

/// Mean and variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|v| (v - mean).powi(2)).sum::<f64>() / count)
}

fn group_norm(on: &Tensors, width: Width) -> Result<(), NnError> {
    const EACH: usize = 6;
    let (x, (norm, scale, shift)) = (Known::new(on, [2, 9, 11, 4 * EACH], 1, width)?, affine(on, 4 * EACH)?);
    for silu in [false, true] {
        let result = on.group_norm(&x.tensor, &norm, 4, 1e-5, silu)?;
        let all: Vec<(f64, f64)> = (0..8)
            .map(|at| {
                let (n, first) = (at / 4, at % 4 * EACH);
                let pixels = (0..9).flat_map(|y| (0..11).map(move |across| (y, across)));
                let x = &x;
                moments(pixels.flat_map(move |(y, across)| (first..first + EACH).map(move |c| x.at(n, y, across, c))))
            })
            .collect();
        compare(on, &result, |n, y, across, c| {
            let (mean, variance) = all[n * 4 + c / EACH];
            let v =
                (x.at(n, y, across, c) - mean) / (variance + 1e-5).sqrt() * f64::from(scale[c]) + f64::from(shift[c]);
            if silu { v / (1.0 + (-v).exp()) } else { v }
        })?;
    }
    Ok(())
}

fn layer_norm(on: &Tensors, width: Width) -> Result<(), NnError> {
    const CHANNELS: usize = 268;
    let (x, (norm, scale, shift)) = (Known::new(on, [1, 2, 3, CHANNELS], 1, width)?, affine(on, CHANNELS)?);
    let result = on.layer_norm(&x.tensor, &norm, 1e-5)?;
    compare(on, &result, |n, y, across, c| {
        let (mean, variance) = moments((0..CHANNELS).map(|c| x.at(n, y, across, c)));
        (x.at(n, y, across, c) - mean) / (variance + 1e-5).sqrt() * f64::from(scale[c]) + f64::from(shift[c])
    })
}

fn attention(on: &Tensors, head: usize, width: Width) -> Result<(), NnError> {
    const HEADS: usize = 2;
    for (queries, keys, causal) in [(35, 70, false), (40, 40, true)] {
        let q = Known::new(on, [2, 1, queries, HEADS * head], 1, width)?;
        let k = Known::new(on, [2, 1, keys, HEADS * head], 2, width)?;
        let v = Known::new(on, [2, 1, keys, HEADS * head], 3, width)?;
        let result = on.attention([&q.tensor, &k.tensor, &v.tensor], HEADS, causal)?;
        let weights: Vec<Vec<f64>> = (0..2 * HEADS * queries)
            .map(|at| {
                let (n, h, query) = (at / queries / HEADS, at / queries % HEADS, at % queries);
                let seen = if causal { query + 1 } else { keys };
                let score = |key| {
                    let products = (h * head..(h + 1) * head).map(|c| q.at(n, 0, query, c) * k.at(n, 0, key, c));
                    (products.sum::<f64>() / (head as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = (0..seen).map(score).collect();
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / sum).collect()
            })
            .collect();
        compare(on, &result, |n, _, query, c| {
            let weights = &weights[(n * HEADS + c / head) * queries + query];
            weights.iter().enumerate().map(|(key, weight)| weight * v.at(n, 0, key, c)).sum()
        })?;
    }
    Ok(())
}
