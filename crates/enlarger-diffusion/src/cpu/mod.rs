//! The operations on the CPU, in 32 bits, on the threads of the rayon pool that calls them. The order of each sum does not
//! depend on the number of threads, so neither do results.

mod memory;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use enlarger_nn::dense::{self, Conv3x3, Dense, Function, Input, Matrix, PANEL};
use rayon::prelude::*;

use self::memory::{Buffer, Memory};
use crate::{
    array::Array,
    error::{Error, Result},
    ops::{Activation, Ops, Padding},
    shapes,
};

/// Floats that patches of pixels may take at a time.
const PATCHES: usize = 4 << 20;
/// Values that a thread computes before it looks for more.
const CHUNK: usize = 1 << 14;

/// The CPU. Clones share the flag that cancels, and memory.
#[derive(Debug, Clone)]
pub struct Cpu {
    cancelled: Arc<AtomicBool>,
    dense: Dense,
    memory: Memory,
}

/// A tensor in memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: [usize; 4],
    data: Arc<Buffer>,
}

/// Weights in the format of their file, in panels of outputs. The inputs of a 3x3 convolution are `[in][height][width]`, of other
/// sizes `[height][width][in]`.
#[derive(Debug)]
pub struct Packed {
    panels: Array,
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

impl Default for Cpu {
    fn default() -> Self {
        Self::cancelled_by(Arc::default())
    }
}

impl Cpu {
    /// Operations that stop with [`Error::Cancelled`] once the flag is set.
    pub fn cancelled_by(flag: Arc<AtomicBool>) -> Self {
        Self { cancelled: flag, dense: Dense::detect(), memory: Memory::default() }
    }

    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The same for kernels, which ask between their tasks.
    fn going(&self) -> impl Fn() -> bool + Sync {
        || !self.cancelled.load(Relaxed)
    }

    /// A tensor with the values that `fill` gives it, all of them.
    fn tensor(&self, shape: [usize; 4], fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Tensor> {
        self.go_on()?;
        let length = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        let mut data = self.memory.take(length.ok_or(Error::Memory { bytes: usize::MAX })?)?;
        fill(&mut data)?;
        // What a kernel left out when it was cancelled is undefined.
        self.go_on()?;
        Ok(Tensor { shape, data: Arc::new(data) })
    }
}

impl Cpu {
    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3<'_>) -> Result<Tensor> {
        let [height, width] = conv.result();
        let mut workspace = self.memory.take(conv.workspace())?;
        self.tensor([conv.size[0], height, width, conv.weights.outputs], |to| {
            Ok(self.dense.conv3x3(&x.data, conv, to, &mut workspace, &self.going())?)
        })
    }

    /// What each channel of each picture is multiplied by to be normalised in groups, and what is added: `[batch][channels]`.
    fn normalisation(&self, x: &Tensor, n: &ScaleShift, groups: usize, eps: f32) -> Result<ScaleShift> {
        let [batch, height, width, channels] = x.shape;
        shapes::group_norm(&x.shape, n.scale.len(), groups)?;
        let (area, each) = (height * width, channels / groups);
        let mut factors = ScaleShift { scale: vec![0.0; batch * channels], shift: vec![0.0; batch * channels] };
        let images = factors.scale.chunks_exact_mut(channels).zip(factors.shift.chunks_exact_mut(channels));
        for ((scale, shift), image) in images.zip(x.data.chunks_exact(area * channels)) {
            // Rows are summed alone and then in order, so that the sum does not depend on threads.
            let rows: Vec<Vec<[f64; 2]>> = image
                .par_chunks(width * channels)
                .map(|row| {
                    let mut sums = vec![[0.0; 2]; channels];
                    self.dense.sums(row, &mut sums);
                    sums
                })
                .collect();
            let count = (area * each) as f64;
            for group in (0..channels).step_by(each) {
                let all = rows.iter().flat_map(|row| &row[group..group + each]);
                let [sum, squares] = all.fold([0.0; 2], |[a, b], [sum, squares]| [a + sum, b + squares]);
                let mean = sum / count;
                // What is not a number stays so: `max` would drop it.
                let variance = squares / count - mean * mean;
                let variance = if variance < 0.0 { 0.0 } else { variance };
                let over = 1.0 / (variance + f64::from(eps)).sqrt();
                for c in group..group + each {
                    scale[c] = (f64::from(n.scale[c]) * over) as f32;
                    shift[c] = (f64::from(n.shift[c]) - mean * f64::from(n.scale[c]) * over) as f32;
                }
            }
        }
        Ok(factors)
    }
}

impl Packed {
    fn shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel[0], self.kernel[1]]
    }

    fn matrix(&self) -> Matrix<'_> {
        let Self { panels, outputs, inputs, kernel: [height, width], bias } = self;
        Matrix { outputs: *outputs, inputs: inputs * height * width, weights: panels.weights(), bias: bias.as_deref() }
    }
}

/// Values of whole pixels that a thread computes before it looks for more.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1) * channels.max(1)
}

impl Ops for Cpu {
    type Tensor = Tensor;
    type Weights = Packed;
    type Norm = ScaleShift;

    fn upload(&self, shape: [usize; 4], values: &[f32]) -> Result<Tensor> {
        self.tensor(shape, |data| {
            shapes::fit(data.len() == values.len(), "an upload", &[&shape[..], &[values.len()]])?;
            data.copy_from_slice(values);
            Ok(())
        })
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.go_on()?;
        Ok(x.data.to_vec())
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn weights(&self, weight: Array, bias: Option<&Array>) -> Result<Packed> {
        self.go_on()?;
        let (outputs, inputs, kernel) = shapes::layer(&weight.shape, bias.map(Array::len))?;
        let weight = if kernel == [3, 3] { weight } else { weight.channels_last()? };
        let bias = bias.map(Array::to_f32).transpose()?;
        Ok(Packed { panels: weight.panels(PANEL)?, outputs, inputs, kernel, bias })
    }

    fn norm(&self, scale: &Array, shift: &Array) -> Result<ScaleShift> {
        shapes::fit(scale.len() == shift.len(), "a normalisation", &[&scale.shape, &shift.shape])?;
        Ok(ScaleShift { scale: scale.to_f32()?, shift: shift.to_f32()? })
    }

    fn conv(&self, x: &Tensor, w: &Packed, stride: usize, padding: Padding) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        let [kh, kw] = w.kernel;
        if kh * kw == 1 && stride == 1 {
            return self.linear(x, w);
        }
        let (result, before) = shapes::conv(&x.shape, w.shape(), stride, padding)?;
        if w.kernel == [3, 3] {
            let offset = usize::from(padding == Padding::After);
            let (size, input) = ([batch, height, width], Input::Plain);
            return self.conv3x3(x, &Conv3x3 { weights: w.matrix(), size, input, add: None, stride, offset });
        }
        let [_, out_height, out_width, _] = result;
        let depth = kh * kw * channels;
        let rows = (PATCHES / (out_width * depth)).clamp(1, out_height);
        let mut patches = self.memory.take(rows * out_width * depth)?;
        self.tensor(result, |data| {
            let images = x.data.chunks_exact(height * width * channels);
            for (image, to) in images.zip(data.chunks_exact_mut(out_height * out_width * w.outputs)) {
                for (at, to) in to.chunks_mut(rows * out_width * w.outputs).enumerate() {
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
                    self.dense.linear(patches, &w.matrix(), to, &self.going())?;
                }
            }
            Ok(())
        })
    }

    fn norm_conv(
        &self,
        x: &Tensor,
        n: &ScaleShift,
        groups: usize,
        eps: f32,
        w: &Packed,
        add: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [batch, height, width, _] = x.shape;
        shapes::same_conv(&x.shape, w.shape(), add.map(|add| &add.shape))?;
        let ScaleShift { scale, shift } = self.normalisation(x, n, groups, eps)?;
        let (size, input) = ([batch, height, width], Input::Normed { scale: &scale, shift: &shift });
        let add = add.map(|add| &**add.data);
        self.conv3x3(x, &Conv3x3 { weights: w.matrix(), size, input, add, stride: 1, offset: 0 })
    }

    fn double_conv(&self, x: &Tensor, w: &Packed) -> Result<Tensor> {
        let [batch, height, width, _] = x.shape;
        shapes::same_conv(&x.shape, w.shape(), None)?;
        let (size, input) = ([batch, 2 * height, 2 * width], Input::Doubled);
        self.conv3x3(x, &Conv3x3 { weights: w.matrix(), size, input, add: None, stride: 1, offset: 0 })
    }

    fn linear(&self, x: &Tensor, w: &Packed) -> Result<Tensor> {
        let [batch, height, width, _] = x.shape;
        shapes::linear(&x.shape, w.shape())?;
        self.tensor([batch, height, width, w.outputs], |to| {
            Ok(self.dense.linear(&x.data, &w.matrix(), to, &self.going())?)
        })
    }

    fn group_norm(&self, x: &Tensor, n: &ScaleShift, groups: usize, eps: f32, silu: bool) -> Result<Tensor> {
        let ScaleShift { scale, shift } = self.normalisation(x, n, groups, eps)?;
        let [_, height, width, channels] = x.shape;
        let image = height * width * channels;
        self.tensor(x.shape, |data| {
            let factors = scale.chunks_exact(channels).zip(shift.chunks_exact(channels));
            let images = data.chunks_exact_mut(image).zip(x.data.chunks_exact(image));
            for ((to, image), (scale, shift)) in images.zip(factors) {
                to.par_chunks_mut(chunk(channels)).zip(image.par_chunks(chunk(channels))).for_each(|(to, image)| {
                    self.dense.scale_shift(image, scale, shift, silu, to);
                });
            }
            Ok(())
        })
    }

    fn layer_norm(&self, x: &Tensor, n: &ScaleShift, eps: f32) -> Result<Tensor> {
        let channels = x.shape[3];
        shapes::layer_norm(&x.shape, n.scale.len())?;
        self.tensor(x.shape, |data| {
            data.par_chunks_mut(chunk(channels)).zip(x.data.par_chunks(chunk(channels))).for_each(|(to, from)| {
                self.dense.layer_norm(from, &n.scale, &n.shift, eps, to);
            });
            Ok(())
        })
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        let [batch, height, width, channels] = q.shape;
        shapes::attention(&q.shape, &k.shape, &v.shape, heads)?;
        let keys = k.shape[1] * k.shape[2];
        let shape = dense::Attention { batch, queries: height * width, keys, heads, width: channels / heads, causal };
        let mut workspace = self.memory.take(shape.workspace())?;
        self.tensor(q.shape, |to| {
            Ok(self.dense.attention([&q.data, &k.data, &v.data], &shape, to, &mut workspace, &self.going())?)
        })
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let function = match activation {
            Activation::Silu => Function::Silu,
            Activation::Gelu => Function::Gelu,
            Activation::QuickGelu => Function::QuickGelu,
        };
        self.tensor(x.shape, |data| {
            let chunks = data.par_chunks_mut(CHUNK).zip(x.data.par_chunks(CHUNK));
            chunks.for_each(|(to, from)| self.dense.apply(function, from, to));
            Ok(())
        })
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        let half = channels / 2;
        shapes::gate(&x.shape)?;
        self.tensor([batch, height, width, half], |data| {
            data.par_chunks_mut(half).zip(x.data.par_chunks(channels)).for_each(|(to, from)| {
                let (values, gates) = from.split_at(half);
                self.dense.gate(values, gates, to);
            });
            Ok(())
        })
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        let shape = a.shape;
        let channels = shape[3];
        shapes::sum(&a.shape, &b.shape)?;
        let sum = |to: &mut [f32], a: &[f32], b: &[f32]| {
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                *to = a + scale * b;
            }
        };
        self.tensor(shape, |data| {
            if b.shape == shape {
                let both = a.data.par_chunks(CHUNK).zip(b.data.par_chunks(CHUNK));
                data.par_chunks_mut(CHUNK).zip(both).for_each(|(to, (a, b))| sum(to, a, b));
                return Ok(());
            }
            let at = |axis: usize, index: usize| if b.shape[axis] == 1 { 0 } else { index };
            data.par_chunks_mut(channels).zip(a.data.par_chunks(channels)).enumerate().for_each(|(pixel, (to, a))| {
                let (x, rest) = (pixel % shape[2], pixel / shape[2]);
                let row = at(0, rest / shape[1]) * b.shape[1] + at(1, rest % shape[1]);
                sum(to, a, &b.data[(row * b.shape[2] + at(2, x)) * channels..][..channels]);
            });
            Ok(())
        })
    }

    fn concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let [batch, height, width, first] = a.shape;
        let second = b.shape[3];
        shapes::concat(&a.shape, &b.shape)?;
        self.tensor([batch, height, width, first + second], |data| {
            let sources = a.data.par_chunks(first).zip(b.data.par_chunks(second));
            data.par_chunks_mut(first + second).zip(sources).for_each(|(to, (a, b))| {
                to[..first].copy_from_slice(a);
                to[first..].copy_from_slice(b);
            });
            Ok(())
        })
    }

    fn double(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, channels] = x.shape;
        shapes::double(&x.shape)?;
        self.tensor([batch, 2 * height, 2 * width, channels], |data| {
            // Rows of the whole batch lie one after the other, so row / 2 is the source's row in each picture.
            data.par_chunks_mut(2 * width * channels).enumerate().for_each(|(row, to)| {
                let from = &x.data[row / 2 * width * channels..][..width * channels];
                for (to, from) in to.chunks_exact_mut(2 * channels).zip(from.chunks_exact(channels)) {
                    to[..channels].copy_from_slice(from);
                    to[channels..].copy_from_slice(from);
                }
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::array::Values;

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
        let run = |stride, padding| {
            let sums = ops.download(&ops.conv(&x, &weights, stride, padding).unwrap()).unwrap();
            sums.into_iter().map(|v| (v * 1e4).round() / 1e4).collect::<Vec<f32>>()
        };
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
        let loading = ops.weights(Array::new(&[1, 1], vec![1.0]), None);
        assert_eq!(loading.map(|_| ()).unwrap_err(), Error::Cancelled);
    }
}
