//! Tells how certain it is that a picture is sexually explicit.
//!
//! The network is the MobileNetV2 (Sandler and others 2018) of NSFWJS (Copyright (c) 2019 Infinite Red, Inc., MIT, `LICENSE.txt`): `weights.bin`
//! (SHA-256 8e7dddbb16acacc1bf1601b1b8a761e730ff934b7f2d7771312b2f000e5f5f13) and `weights.json` are the bytes and the manifest in
//! `dist/models/mobilenet_v2` of the npm package nsfwjs 4.3.0.

use std::{collections::HashMap, sync::LazyLock};

use enlarger_image::Picture;
use enlarger_nn::Tensor;
use rayon::prelude::*;

use crate::{quantized, resize::floats_at};

/// From which certainty on an image is explicit, for those who want such images filtered.
pub const EXPLICIT: f32 = 0.7;

/// Width and height of what the network sees.
const SIDE: u32 = 224;
/// Added to variances before their root is taken, as in training.
const EPSILON: f32 = 1e-3;
/// Strides of the blocks after the first.
const STRIDES: [usize; 16] = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];
/// The classes: drawings, explicit drawings, neutral pictures, pornography, and what is merely sexy.
const CLASSES: usize = 5;

/// How certain it is that a picture is pornography or an explicit drawing, 0 to 1; 0 if there is no memory to look. What is merely
/// sexy does not count. It looks at the whole picture at 224 x 224 pixels, so small parts of it are not seen.
pub fn explicit(picture: &Picture) -> f32 {
    let [_, drawn, _, photographed, _] = seen(picture).map_or([0.0; CLASSES], |map| NETWORK.run(map));
    drawn + photographed
}

/// Pixels of a square with interleaved channels.
struct Map {
    side: usize,
    channels: usize,
    values: Vec<f32>,
}

/// What the network sees: red, green and blue, 0 to 1, over white.
fn seen(picture: &Picture) -> Option<Map> {
    let channels = picture.channels;
    let values = floats_at(picture, SIDE, SIDE)?;
    let rgb = |pixel: &[f32]| {
        let alpha = if channels.has_alpha() { pixel[channels.colours()] } else { 1.0 };
        [0, 1, 2].map(|c| pixel[c.min(channels.colours() - 1)] * alpha + 1.0 - alpha)
    };
    let values = values.chunks_exact(channels.count()).flat_map(rgb).collect();
    Some(Map { side: SIDE as usize, channels: 3, values })
}

/// A convolution, its normalization included.
struct Layer {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

struct Block {
    /// To more channels; the first block has none.
    expand: Option<Layer>,
    /// Each channel alone, 3x3.
    depthwise: Layer,
    stride: usize,
    /// To fewer channels.
    project: Layer,
}

struct Network {
    first: Layer,
    blocks: Vec<Block>,
    last: Layer,
    dense: [Layer; 3],
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let arrays: HashMap<String, Tensor> =
        quantized::arrays(include_bytes!("weights.json"), include_bytes!("weights.bin")).into_iter().collect();
    let convolution = |name: &str, normalization: &str| {
        let kind = if name.ends_with("depthwise") { "depthwise_kernel" } else { "kernel" };
        let of = |name: &str| &arrays[&format!("{normalization}/{name}")].data;
        let variances = of("moving_variance").iter().map(|variance| (variance + EPSILON).sqrt());
        let scales: Vec<f32> = of("gamma").iter().zip(variances).map(|(gamma, root)| gamma / root).collect();
        // The channel that comes out is the last dimension of all kernels: those of a channel alone have one output.
        let kernel = arrays[&format!("{name}/{kind}")].data.chunks_exact(scales.len());
        let weights = kernel.flat_map(|taps| taps.iter().zip(&scales).map(|(weight, scale)| weight * scale)).collect();
        let shifts = of("moving_mean").iter().zip(&scales).map(|(mean, scale)| mean * scale);
        Layer { weights, bias: of("beta").iter().zip(shifts).map(|(beta, shift)| beta - shift).collect() }
    };
    let block = |name: &str, stride, expands: bool| {
        let layer = |part: &str| convolution(&format!("{name}_{part}"), &format!("{name}_{part}_BN"));
        let expand = expands.then(|| layer("expand"));
        Block { expand, depthwise: layer("depthwise"), stride, project: layer("project") }
    };
    let mut blocks = vec![block("expanded_conv", 1, false)];
    blocks.extend((1..).zip(STRIDES).map(|(number, stride)| block(&format!("block_{number}"), stride, true)));
    let dense = [1, 2, 3].map(|number| {
        let of = |part| arrays[&format!("dense_{number}/{part}")].data.clone();
        Layer { weights: of("kernel"), bias: of("bias") }
    });
    Network { first: convolution("Conv1", "bn_Conv1"), blocks, last: convolution("Conv_1", "Conv_1_bn"), dense }
});

impl Network {
    fn run(&self, seen: Map) -> [f32; CLASSES] {
        let mut map = self.first.squares(&seen, relu6);
        for block in &self.blocks {
            let wide = block.expand.as_ref().map(|expand| expand.pixels(&map, relu6));
            let each = block.depthwise.each(wide.as_ref().unwrap_or(&map), block.stride);
            let mut next = block.project.pixels(&each, |sum| sum);
            if block.stride == 1 && next.channels == map.channels {
                next.values.iter_mut().zip(&map.values).for_each(|(to, from)| *to += from);
            }
            map = next;
        }
        let map = self.last.pixels(&map, relu6);
        let pixels = map.values.chunks_exact(map.channels);
        let count = pixels.len() as f32;
        let mut mean = vec![0.0; map.channels];
        pixels.for_each(|pixel| mean.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value));
        mean.iter_mut().for_each(|sum| *sum /= count);
        let [first, second, third] = &self.dense;
        let scores = third.sums(&second.of(&first.of(&mean)));
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let whole: f32 = powers.iter().sum();
        std::array::from_fn(|class| powers[class] / whole)
    }
}

fn relu6(sum: f32) -> f32 {
    sum.clamp(0.0, 6.0)
}

impl Layer {
    /// Sums of inputs, weighted for each output.
    fn sums(&self, inputs: &[f32]) -> Vec<f32> {
        let mut sums = self.bias.clone();
        for (input, weights) in inputs.iter().zip(self.weights.chunks_exact(self.bias.len())) {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += input * weight);
        }
        sums
    }

    fn of(&self, inputs: &[f32]) -> Vec<f32> {
        self.sums(inputs).iter().map(|sum| sum.max(0.0)).collect()
    }

    /// Each pixel alone, to other channels.
    fn pixels(&self, from: &Map, activation: impl Fn(f32) -> f32 + Sync) -> Map {
        let channels = self.bias.len();
        let mut values = vec![0.0; from.side * from.side * channels];
        let rows = values.par_chunks_mut(from.side * channels).zip(from.values.par_chunks(from.side * from.channels));
        rows.for_each(|(to, row)| {
            for (to, pixel) in to.chunks_exact_mut(channels).zip(row.chunks_exact(from.channels)) {
                to.iter_mut().zip(self.sums(pixel)).for_each(|(to, sum)| *to = activation(sum));
            }
        });
        Map { side: from.side, channels, values }
    }

    /// Squares of 3x3 pixels to other channels, every second one in both directions; beyond the right and lower border are zeros.
    fn squares(&self, from: &Map, activation: impl Fn(f32) -> f32) -> Map {
        let (side, channels) = (from.side / 2, self.bias.len());
        let mut values = Vec::with_capacity(side * side * channels);
        let mut square = vec![0.0; 9 * from.channels];
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            for (tap, to) in square.chunks_exact_mut(from.channels).enumerate() {
                match from.pixel(2 * x + tap % 3, 2 * y + tap / 3) {
                    Some(pixel) => to.copy_from_slice(pixel),
                    None => to.fill(0.0),
                }
            }
            values.extend(self.sums(&square).into_iter().map(&activation));
        }
        Map { side, channels, values }
    }

    /// Squares of 3x3 pixels, each channel alone. Beyond the border are zeros; with a stride of 2 squares begin at their pixel, else
    /// around it.
    fn each(&self, from: &Map, stride: usize) -> Map {
        let (side, channels, before) = (from.side / stride, from.channels, usize::from(stride == 1));
        let mut values = vec![0.0; side * side * channels];
        values.par_chunks_mut(side * channels).enumerate().for_each(|(y, row)| {
            for (x, to) in row.chunks_exact_mut(channels).enumerate() {
                to.copy_from_slice(&self.bias);
                for (tap, weights) in self.weights.chunks_exact(channels).enumerate() {
                    let place = |at: usize, tap: usize| (at * stride + tap).checked_sub(before);
                    let (Some(x), Some(y)) = (place(x, tap % 3), place(y, tap / 3)) else { continue };
                    let Some(pixel) = from.pixel(x, y) else { continue };
                    to.iter_mut().zip(pixel).zip(weights).for_each(|((to, value), weight)| *to += value * weight);
                }
                to.iter_mut().for_each(|sum| *sum = relu6(*sum));
            }
        });
        Map { side, channels, values }
    }
}

impl Map {
    /// A pixel; none beyond the border.
    fn pixel(&self, x: usize, y: usize) -> Option<&[f32]> {
        let start = (y * self.side + x) * self.channels;
        (x < self.side && y < self.side).then(|| &self.values[start..start + self.channels])
    }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Limits, Samples};

    use super::*;

    /// What NSFWJS says of these, by TensorFlow.js 4 on a CPU.
    #[test]
    fn it_says_what_nsfwjs_says() {
        let square = |value: &dyn Fn(usize, usize, usize) -> usize| {
            let side = SIDE as usize;
            let places = (0..side * side * 3).map(|i| value(i / 3 % side, i / 3 / side, i % 3) as u8);
            Picture {
                width: SIDE,
                height: SIDE,
                channels: Channels::Rgb,
                samples: Samples::U8(places.collect()),
                metadata: Default::default(),
            }
        };
        let pattern = square(&|x, y, c| (x * 37 + y * 91 + c * 53 + (x * y) % 251) % 256);
        let slope = square(&|x, y, c| [x, y, 128][c]);
        for (picture, expected) in [
            (pattern, [0.877_992_5, 0.052_136_842, 0.062_013_884, 0.006_562_872, 0.001_293_923]),
            (slope, [0.908_139_47, 0.019_031_275, 0.068_778_87, 0.003_238_423, 0.000_811_974_1]),
        ] {
            let classes = NETWORK.run(seen(&picture).expect("there is memory"));
            for (class, expected) in classes.iter().zip(expected) {
                assert!((class - expected).abs() < 1e-3, "{classes:?}");
            }
        }
    }

    /// It shows nothing: its squares were chosen by descending the network's gradient, so that it must react.
    #[test]
    fn what_the_network_takes_for_pornography_is_explicit_and_photos_are_not() {
        let open = |bytes: &[u8]| enlarger_image::decode(bytes, &Limits::default()).expect("a picture").picture;
        assert!(explicit(&open(include_bytes!("../../tests/pictures/flagged.png"))) > 0.9);
        for sample in [
            &include_bytes!("../../../../samples/brushes.png")[..],
            include_bytes!("../../../../samples/friends.jpg"),
            include_bytes!("../../../../samples/stream.jpg"),
        ] {
            assert!(explicit(&open(sample)) < 0.2);
        }
    }
}
