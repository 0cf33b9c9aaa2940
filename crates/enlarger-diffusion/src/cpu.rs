//! The operations on the CPU, in 32 bits, on the threads of the rayon pool that calls them. The order of each sum does not
//! depend on the number of threads, so neither do results.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rayon::prelude::*;

use crate::{
    array::{Array, Values},
    error::{Error, Result, zeros},
    ops::{Activation, Ops, Padding},
};

/// Floats that patches of pixels or widened weights may take at a time.
const BLOCK: usize = 4 << 20;
/// Queries whose scores are held at a time.
const QUERIES: usize = 64;

/// The CPU. Clones share the flag that cancels.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    cancelled: Arc<AtomicBool>,
}

/// A tensor in memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: [usize; 4],
    data: Arc<Vec<f32>>,
}

/// Weights `[out][height][width][in]` in the format of their file.
#[derive(Debug)]
pub struct Packed {
    array: Array,
    outputs: usize,
    inputs: usize,
    kernel: [usize; 2],
    bias: Option<Vec<f32>>,
}

/// Scale and shift.
#[derive(Debug)]
pub struct ScaleShift {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Cpu {
    /// Operations that stop with [`Error::Cancelled`] once the flag is set.
    pub fn cancelled_by(flag: Arc<AtomicBool>) -> Self {
        Self { cancelled: flag }
    }

    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn new_tensor(&self, shape: [usize; 4]) -> Result<(Vec<f32>, [usize; 4])> {
        self.go_on()?;
        let length = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        Ok((zeros(length.ok_or(Error::Memory { bytes: usize::MAX })?)?, shape))
    }

    /// Multiplies rows of `w.inputs * kernel` values by the weights into rows of `w.outputs`.
    fn multiply(&self, rows: &[f32], w: &Packed, to: &mut [f32]) -> Result<()> {
        let depth = w.inputs * w.kernel[0] * w.kernel[1];
        let count = rows.len() / depth;
        if let Some(bias) = &w.bias {
            to.par_chunks_mut(w.outputs).for_each(|row| row.copy_from_slice(bias));
        }
        let mut product = |from: usize, weights: &[f32]| {
            let columns = weights.len() / depth;
            let target =
                Target { data: &mut to[from..], rows: count, columns, stride: w.outputs, add: w.bias.is_some() };
            matmul(target, (rows, [depth, 1]), (weights, [1, depth]), depth, 1.0, gemm::Parallelism::Rayon(0));
        };
        if let Values::F32(weights) = &w.array.values {
            product(0, weights);
            return self.go_on();
        }
        let block = (BLOCK / depth).clamp(1, w.outputs);
        let mut wide = zeros(block * depth)?;
        for from in (0..w.outputs).step_by(block) {
            self.go_on()?;
            let wide = &mut wide[..block.min(w.outputs - from) * depth];
            let piece = 1 << 14;
            wide.par_chunks_mut(piece).enumerate().for_each(|(at, to)| w.array.widen(from * depth + at * piece, to));
            product(from, wide);
        }
        Ok(())
    }
}

/// Shapes come from files, so they are checked where they meet.
fn fit(fits: bool, what: &str, shapes: &[&[usize]]) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::Weights(format!("the shapes of {what} do not fit: {shapes:?}"))) }
}

struct Target<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    add: bool,
}

/// `target (+)= scale * a b`, `a` of rows x depth and `b` of depth x columns, with strides of rows and of columns.
fn matmul(
    target: Target<'_>,
    (a, [ar, ac]): (&[f32], [usize; 2]),
    (b, [br, bc]): (&[f32], [usize; 2]),
    depth: usize,
    scale: f32,
    threads: gemm::Parallelism,
) {
    let Target { data, rows, columns, stride, add } = target;
    if rows == 0 || columns == 0 || depth == 0 {
        return;
    }
    assert!((rows - 1) * stride + columns <= data.len() && columns <= stride);
    assert!((rows - 1) * ar + (depth - 1) * ac < a.len());
    assert!((depth - 1) * br + (columns - 1) * bc < b.len());
    // SAFETY: all elements that the sizes and strides reach are within the slices, as asserted; the target's rows do not overlap.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            data.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.as_ptr(),
            ac as isize,
            ar as isize,
            b.as_ptr(),
            bc as isize,
            br as isize,
            1.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

impl Ops for Cpu {
    type Tensor = Tensor;
    type Weights = Packed;
    type Norm = ScaleShift;

    fn upload(&self, shape: [usize; 4], values: &[f32]) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(shape)?;
        fit(data.len() == values.len(), "an upload", &[&shape[..], &[values.len()]])?;
        data.copy_from_slice(values);
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.go_on()?;
        Ok(x.data.to_vec())
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn weights(&self, weight: Array, bias: Option<&Array>) -> Result<Packed> {
        let (outputs, inputs, kernel) = match *weight.shape.as_slice() {
            [out, inputs] => (out, inputs, [1, 1]),
            [out, inputs, height, width] => (out, inputs, [height, width]),
            _ => return Err(Error::Weights(format!("a layer's weights have the shape {:?}", weight.shape))),
        };
        if weight.is_empty() || bias.is_some_and(|b| b.len() != outputs) {
            return Err(Error::Weights(format!("a layer of {outputs} outputs has weights or a bias of another size")));
        }
        Ok(Packed {
            array: weight.channels_last(),
            outputs,
            inputs,
            kernel,
            bias: bias.map(Array::to_f32).transpose()?,
        })
    }

    fn norm(&self, scale: &Array, shift: &Array) -> Result<ScaleShift> {
        fit(scale.len() == shift.len(), "a normalisation", &[&scale.shape, &shift.shape])?;
        Ok(ScaleShift { scale: scale.to_f32()?, shift: shift.to_f32()? })
    }

    fn conv(&self, x: &Tensor, w: &Packed, stride: usize, padding: Padding) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        fit(channels == w.inputs, "a convolution", &[&x.shape[..], &w.array.shape])?;
        let [kh, kw] = w.kernel;
        if kh * kw == 1 && stride == 1 {
            return self.linear(x, w);
        }
        let (before, around) = match padding {
            Padding::Around => ([(kh - 1) / 2, (kw - 1) / 2], 2),
            Padding::After => ([0, 0], 1),
        };
        fit(
            kh * kw > 0
                && height + before[0] >= kh.div_ceil(2)
                && width + before[1] >= kw.div_ceil(2)
                && kh % 2 == 1
                && kw % 2 == 1,
            "a convolution",
            &[&x.shape[..], &w.array.shape],
        )?;
        let out_height = (height + around * ((kh - 1) / 2) - kh) / stride + 1;
        let out_width = (width + around * ((kw - 1) / 2) - kw) / stride + 1;
        let (mut data, shape) = self.new_tensor([batch, out_height, out_width, w.outputs])?;
        let depth = kh * kw * channels;
        let rows = (BLOCK / (out_width * depth)).clamp(1, out_height);
        let mut patches = zeros(rows * out_width * depth)?;
        for (image, to) in x
            .data
            .chunks_exact(height * width * channels)
            .zip(data.chunks_exact_mut(out_height * out_width * w.outputs))
        {
            for (at, to) in to.chunks_mut(rows * out_width * w.outputs).enumerate() {
                self.go_on()?;
                let patches = &mut patches[..to.len() / w.outputs * depth];
                patches.par_chunks_mut(out_width * depth).enumerate().for_each(|(row, patches)| {
                    let y = (at * rows + row) * stride;
                    for (column, patch) in patches.chunks_exact_mut(depth).enumerate() {
                        for (tap, to) in patch.chunks_exact_mut(channels).enumerate() {
                            let y = (y + tap / kw).wrapping_sub(before[0]);
                            let x = (column * stride + tap % kw).wrapping_sub(before[1]);
                            if y < height && x < width {
                                to.copy_from_slice(&image[(y * width + x) * channels..][..channels]);
                            } else {
                                to.fill(0.0);
                            }
                        }
                    }
                });
                self.multiply(patches, w, to)?;
            }
        }
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn linear(&self, x: &Tensor, w: &Packed) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        fit(channels == w.inputs * w.kernel[0] * w.kernel[1], "a linear layer", &[&x.shape[..], &w.array.shape])?;
        let (mut data, shape) = self.new_tensor([batch, height, width, w.outputs])?;
        self.multiply(&x.data, w, &mut data)?;
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn group_norm(&self, x: &Tensor, n: &ScaleShift, groups: usize, eps: f32, silu: bool) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(x.shape)?;
        let [_, height, width, channels] = shape;
        let fits = n.scale.len() == channels && groups > 0 && channels % groups == 0;
        fit(fits, "a group normalisation", &[&x.shape[..], &[n.scale.len()]])?;
        let (area, each) = (height * width, channels / groups);
        let images = data.chunks_exact_mut(area * channels).zip(x.data.chunks_exact(area * channels));
        for (to, image) in images {
            // Rows are summed alone and then in order, so that the sum does not depend on threads.
            let rows: Vec<Vec<[f64; 2]>> = image
                .par_chunks(width * channels)
                .map(|row| {
                    let mut sums = vec![[0.0; 2]; groups];
                    for pixel in row.chunks_exact(channels) {
                        for (sums, values) in sums.iter_mut().zip(pixel.chunks_exact(each)) {
                            for &v in values {
                                sums[0] += f64::from(v);
                                sums[1] += f64::from(v) * f64::from(v);
                            }
                        }
                    }
                    sums
                })
                .collect();
            let count = (area * each) as f64;
            let mut scale = vec![0.0; channels];
            let mut shift = vec![0.0; channels];
            for c in 0..channels {
                let [sum, squares] =
                    rows.iter().fold([0.0; 2], |[a, b], row| [a + row[c / each][0], b + row[c / each][1]]);
                let mean = sum / count;
                let deviation = ((squares / count - mean * mean).max(0.0) + f64::from(eps)).sqrt();
                scale[c] = (f64::from(n.scale[c]) / deviation) as f32;
                shift[c] = (f64::from(n.shift[c]) - mean * f64::from(n.scale[c]) / deviation) as f32;
            }
            to.par_chunks_mut(width * channels).zip(image.par_chunks(width * channels)).for_each(|(to, image)| {
                for (to, image) in to.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
                    for c in 0..channels {
                        let v = image[c] * scale[c] + shift[c];
                        to[c] = if silu { v / (1.0 + (-v).exp()) } else { v };
                    }
                }
            });
        }
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn layer_norm(&self, x: &Tensor, n: &ScaleShift, eps: f32) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(x.shape)?;
        let channels = shape[3];
        fit(n.scale.len() == channels, "a layer normalisation", &[&x.shape[..], &[n.scale.len()]])?;
        data.par_chunks_mut(channels).zip(x.data.par_chunks(channels)).for_each(|(to, from)| {
            let mean = from.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64;
            let variance = from.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / channels as f64;
            let (mean, over) = (mean as f32, (1.0 / (variance + f64::from(eps)).sqrt()) as f32);
            for c in 0..channels {
                to[c] = (from[c] - mean) * over * n.scale[c] + n.shift[c];
            }
        });
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(q.shape)?;
        let [_, height, width, channels] = shape;
        let (queries, keys, each) = (height * width, k.shape[1] * k.shape[2], channels / heads);
        let fits = k.shape == v.shape
            && k.shape[3] == channels
            && k.shape[0] == shape[0]
            && heads > 0
            && channels % heads == 0;
        fit(fits, "an attention", &[&q.shape, &k.shape, &v.shape])?;
        let scale = 1.0 / (each as f32).sqrt();
        for (image, to) in data.chunks_exact_mut(queries * channels).enumerate() {
            let within = |length: usize| image * length * channels..(image + 1) * length * channels;
            let (q, k, v) = (&q.data[within(queries)], &k.data[within(keys)], &v.data[within(keys)]);
            to.par_chunks_mut(QUERIES * channels).enumerate().try_for_each(|(block, to)| {
                let rows = to.len() / channels;
                let mut scores = zeros(rows * keys)?;
                for head in 0..heads {
                    self.go_on()?;
                    let (q, k, v) =
                        (&q[block * QUERIES * channels + head * each..], &k[head * each..], &v[head * each..]);
                    let target = Target { data: &mut scores, rows, columns: keys, stride: keys, add: false };
                    matmul(target, (q, [channels, 1]), (k, [1, channels]), each, scale, gemm::Parallelism::None);
                    for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                        let seen = if causal { (block * QUERIES + row + 1).min(keys) } else { keys };
                        softmax(&mut scores[..seen]);
                        scores[seen..].fill(0.0);
                    }
                    let target =
                        Target { data: &mut to[head * each..], rows, columns: each, stride: channels, add: false };
                    matmul(target, (&scores, [keys, 1]), (v, [channels, 1]), keys, 1.0, gemm::Parallelism::None);
                }
                Ok(())
            })?;
        }
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(x.shape)?;
        let f = match activation {
            Activation::Silu => |v: f32| v / (1.0 + (-v).exp()),
            Activation::Gelu => gelu,
            Activation::QuickGelu => |v: f32| v / (1.0 + (-1.702 * v).exp()),
        };
        data.par_iter_mut().zip(x.data.par_iter()).for_each(|(to, &v)| *to = f(v));
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        let half = channels / 2;
        fit(channels >= 2 && channels % 2 == 0, "a gate", &[&x.shape])?;
        let (mut data, shape) = self.new_tensor([batch, height, width, half])?;
        data.par_chunks_mut(half).zip(x.data.par_chunks(channels)).for_each(|(to, from)| {
            for c in 0..half {
                to[c] = from[c] * gelu(from[half + c]);
            }
        });
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        let (mut data, shape) = self.new_tensor(a.shape)?;
        let channels = shape[3];
        let fits = |axis: usize| b.shape[axis] == shape[axis] || b.shape[axis] == 1;
        fit((0..3).all(fits) && b.shape[3] == channels, "a sum", &[&a.shape, &b.shape])?;
        let at = |axis: usize, index: usize| if b.shape[axis] == 1 { 0 } else { index };
        data.par_chunks_mut(channels).zip(a.data.par_chunks(channels)).enumerate().for_each(|(pixel, (to, a))| {
            let (x, rest) = (pixel % shape[2], pixel / shape[2]);
            let row = at(0, rest / shape[1]) * b.shape[1] + at(1, rest % shape[1]);
            let b = &b.data[(row * b.shape[2] + at(2, x)) * channels..][..channels];
            for c in 0..channels {
                to[c] = a[c] + scale * b[c];
            }
        });
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let [batch, height, width, first] = a.shape;
        let second = b.shape[3];
        fit(a.shape[..3] == b.shape[..3], "a concatenation", &[&a.shape, &b.shape])?;
        let (mut data, shape) = self.new_tensor([batch, height, width, first + second])?;
        let sources = a.data.par_chunks(first).zip(b.data.par_chunks(second));
        data.par_chunks_mut(first + second).zip(sources).for_each(|(to, (a, b))| {
            to[..first].copy_from_slice(a);
            to[first..].copy_from_slice(b);
        });
        Ok(Tensor { shape, data: Arc::new(data) })
    }

    fn double(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        let (mut data, shape) = self.new_tensor([batch, 2 * height, 2 * width, channels])?;
        // Rows of the whole batch lie one after the other, so row / 2 is the source's row in each picture.
        data.par_chunks_mut(2 * width * channels).enumerate().for_each(|(row, to)| {
            let from = &x.data[row / 2 * width * channels..][..width * channels];
            for (to, from) in to.chunks_exact_mut(2 * channels).zip(from.chunks_exact(channels)) {
                to[..channels].copy_from_slice(from);
                to[channels..].copy_from_slice(from);
            }
        });
        Ok(Tensor { shape, data: Arc::new(data) })
    }
}

fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in &mut *values {
        *v = (*v - most).exp();
        sum += f64::from(*v);
    }
    let over = (1.0 / sum) as f32;
    values.iter_mut().for_each(|v| *v *= over);
}

fn gelu(v: f32) -> f32 {
    0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn values(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// A convolution by 16-bit weights of several blocks, a normalisation and an attention.
    fn chain() -> Vec<f32> {
        let ops = Cpu::default();
        let x = ops.upload([1, 20, 30, 320], &values(20 * 30 * 320, 1)).unwrap();
        let wide = Values::F16(values(1600 * 320 * 9, 2).iter().map(|&v| f16::from_f32(v / 50.0)).collect());
        let weights = ops
            .weights(Array { shape: vec![1600, 320, 3, 3], values: wide }, Some(&Array::new(&[1600], values(1600, 3))));
        let x = ops.conv(&x, &weights.unwrap(), 1, Padding::Around).unwrap();
        let norm = ops.norm(&Array::new(&[1600], values(1600, 4)), &Array::new(&[1600], values(1600, 5))).unwrap();
        let x = ops.group_norm(&x, &norm, 32, 1e-5, true).unwrap();
        ops.download(&ops.attention(&x, &x, &x, 8, false).unwrap()).unwrap()
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(chain);
        let one = run(1);
        for threads in [2, 5] {
            assert!(run(threads).iter().zip(&one).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
        }
    }

    #[test]
    fn a_convolution_sees_zeros_beyond_its_picture() {
        let ops = Cpu::default();
        let x = ops.upload([1, 2, 3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let weights = ops.weights(Array::new(&[1, 1, 3, 3], vec![1.0; 9]), Some(&Array::new(&[1], vec![0.5]))).unwrap();
        let run = |stride, padding| ops.download(&ops.conv(&x, &weights, stride, padding).unwrap()).unwrap();
        assert_eq!(run(1, Padding::Around), [12.5, 21.5, 16.5, 12.5, 21.5, 16.5]);
        assert_eq!(run(2, Padding::Around), [12.5, 16.5]);
        assert_eq!(run(2, Padding::After), [21.5]);
    }

    #[test]
    fn a_cancelled_device_answers_so() {
        let flag = Arc::new(AtomicBool::new(false));
        let ops = Cpu::cancelled_by(flag.clone());
        let x = ops.upload([1, 1, 1, 2], &[1.0, 2.0]).unwrap();
        flag.store(true, Relaxed);
        assert_eq!(ops.double(&x).map(|_| ()).unwrap_err(), Error::Cancelled);
    }
}
