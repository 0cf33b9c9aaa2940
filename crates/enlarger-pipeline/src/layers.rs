//! Convolutions of small maps, without fused multiplication: every CPU gives the same bits.

use enlarger_nn::Tensor;
use multiversion::multiversion;

/// Outputs that are summed together: the lanes of a 256-bit vector.
const LANES: usize = 8;
/// Pixels that are summed together, so that weights are read once for all of them.
const PIXELS: usize = 4;

/// A map of pixels with interleaved channels, within a border of zeros.
pub(crate) struct Map {
    width: usize,
    height: usize,
    channels: usize,
    /// Rows of `width + 2` pixels and some more, which a convolution reads but discards.
    values: Vec<f32>,
}

impl Map {
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        let spare = 2 * PIXELS * channels;
        Self { width, height, channels, values: vec![0.0; (width + 2) * (height + 2) * channels + spare] }
    }

    pub fn pixel_mut(&mut self, x: usize, y: usize) -> &mut [f32] {
        let start = self.start(x + 1, y + 1);
        &mut self.values[start..start + self.channels]
    }

    /// All pixels within the border, row by row.
    pub fn pixels(&self) -> impl Iterator<Item = &[f32]> {
        let places = (0..self.height).flat_map(move |y| (0..self.width).map(move |x| self.start(x + 1, y + 1)));
        places.map(|start| &self.values[start..start + self.channels])
    }

    /// The largest values of squares of 2x2 pixels; of what is left over at the right and below, none.
    pub fn pooled(&self) -> Self {
        let mut to = Self::new(self.width / 2, self.height / 2, self.channels);
        for y in 0..to.height {
            for x in 0..to.width {
                let corners =
                    [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.start(2 * x + dx + 1, 2 * y + dy + 1));
                for (c, most) in to.pixel_mut(x, y).iter_mut().enumerate() {
                    *most = corners.map(|start| self.values[start + c]).into_iter().fold(f32::MIN, f32::max);
                }
            }
        }
        to
    }

    /// The largest values of each pixel and those to the right of it and below.
    pub fn dilated(&self) -> Self {
        let mut to = Self::new(self.width, self.height, self.channels);
        for y in 0..self.height {
            for x in 0..self.width {
                let (right, below) = ((x + 1).min(self.width - 1), (y + 1).min(self.height - 1));
                let corners = [(x, y), (right, y), (x, below), (right, below)].map(|(x, y)| self.start(x + 1, y + 1));
                for (c, most) in to.pixel_mut(x, y).iter_mut().enumerate() {
                    *most = corners.map(|start| self.values[start + c]).into_iter().fold(f32::MIN, f32::max);
                }
            }
        }
        to
    }

    /// Where a pixel starts, counted from the border's corner.
    fn start(&self, x: usize, y: usize) -> usize {
        (y * (self.width + 2) + x) * self.channels
    }
}

/// A convolution of 3x3 or 1x1, with zeros around.
pub(crate) struct Convolution {
    stride: usize,
    side: usize,
    inputs: usize,
    outputs: usize,
    /// In this order: groups of outputs, rows, columns, inputs, outputs of a group. Missing outputs are zero.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Convolution {
    /// Weights of shape `[outputs, inputs, side, side]`, bias of `[outputs]`.
    pub fn new(weights: &Tensor, bias: &Tensor, stride: usize) -> Self {
        let [outputs, inputs, side, _] = weights.shape[..] else { unreachable!("a convolution has four sizes") };
        let groups = outputs.div_ceil(LANES);
        let mut ordered = Vec::with_capacity(groups * side * side * inputs * LANES);
        for group in 0..groups {
            for tap in 0..side * side {
                for input in 0..inputs {
                    for output in group * LANES..(group + 1) * LANES {
                        let at = (output * inputs + input) * side * side + tap;
                        ordered.push(if output < outputs { weights.data[at] } else { 0.0 });
                    }
                }
            }
        }
        let mut bias = bias.data.clone();
        bias.resize(groups * LANES, 0.0);
        Self { stride, side, inputs, outputs, weights: ordered, bias }
    }

    /// Sides are divided by the stride; `activation` makes values of sums.
    pub fn run(&self, from: &Map, activation: impl Fn(f32) -> f32) -> Map {
        let mut to = Map::new(from.width / self.stride, from.height / self.stride, self.outputs);
        // The first pixel that the first output reads: of 3x3 that of the border.
        let edge = usize::from(self.side == 1);
        for y in 0..to.height {
            for x in (0..to.width).step_by(PIXELS) {
                let start = from.start(x * self.stride + edge, y * self.stride + edge);
                for group in 0..self.bias.len() / LANES {
                    let sums = self.sums(&from.values[start..], from.width + 2, group);
                    let lanes = group * LANES..((group + 1) * LANES).min(self.outputs);
                    for (x, sums) in (x..to.width).zip(sums) {
                        let outputs = &mut to.pixel_mut(x, y)[lanes.clone()];
                        outputs.iter_mut().zip(sums).for_each(|(output, sum)| *output = activation(sum));
                    }
                }
            }
        }
        to
    }

    /// A group of outputs of neighbouring pixels, of which the first reads what `from` starts with.
    fn sums(&self, from: &[f32], width: usize, group: usize) -> [[f32; LANES]; PIXELS] {
        let size = self.side * self.side * self.inputs * LANES;
        let weights = &self.weights[group * size..][..size];
        let bias = self.bias[group * LANES..][..LANES].try_into().expect("as many as lanes");
        sums(from, weights, bias, [self.side, self.inputs, width, self.stride])
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn sums(
    from: &[f32],
    weights: &[f32],
    bias: [f32; LANES],
    [side, inputs, width, stride]: [usize; 4],
) -> [[f32; LANES]; PIXELS] {
    let mut sums = [bias; PIXELS];
    let step = stride * inputs;
    let lanes = side * inputs;
    for (row, weights) in weights.chunks_exact(lanes * LANES).enumerate() {
        // The columns of a row lie behind each other, and so do their weights.
        let from = &from[row * width * inputs..][..(PIXELS - 1) * step + lanes];
        for (i, weights) in weights.chunks_exact(LANES).enumerate() {
            for (pixel, sums) in sums.iter_mut().enumerate() {
                let value = from[pixel * step + i];
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_squares_are_kept() {
        let mut map = Map::new(5, 4, 2);
        for (x, y) in (0..4).flat_map(|y| (0..5).map(move |x| (x, y))) {
            map.pixel_mut(x, y).copy_from_slice(&[(10 * y + x) as f32, -((10 * y + x) as f32)]);
        }
        let all = |map: &Map| map.pixels().map(<[f32]>::to_vec).collect::<Vec<_>>();
        assert_eq!(all(&map.pooled()), [[11.0, 0.0], [13.0, -2.0], [31.0, -20.0], [33.0, -22.0]]);
        let dilated = all(&map.dilated());
        assert_eq!((&dilated[0], &dilated[19]), (&vec![11.0, 0.0], &vec![34.0, -34.0]));
    }

    #[test]
    fn a_convolution_sums_what_lies_around_each_pixel() {
        for (side, stride) in [(3, 1), (3, 2), (1, 1)] {
            let (width, height, inputs, outputs) = (6, 4, 3, 10);
            let random = |seed: usize| ((seed * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
            let mut from = Map::new(width, height, inputs);
            for y in 0..height {
                for x in 0..width {
                    let pixel = from.pixel_mut(x, y);
                    (0..inputs).for_each(|c| pixel[c] = random((y * width + x) * inputs + c));
                }
            }
            let data: Vec<f32> = (0..outputs * inputs * side * side).map(|i| random(3 * i + 1)).collect();
            let weights = Tensor { shape: vec![outputs, inputs, side, side], data };
            let bias = Tensor { shape: vec![outputs], data: (0..outputs).map(random).collect() };
            let got = Convolution::new(&weights, &bias, stride).run(&from, |sum| sum);
            let reach = side as i64 / 2;
            for (i, pixel) in got.pixels().enumerate() {
                let (x, y) = ((i % (width / stride) * stride) as i64, (i / (width / stride) * stride) as i64);
                for (o, value) in pixel.iter().enumerate() {
                    let mut sum = f64::from(bias.data[o]);
                    for dy in -reach..=reach {
                        for dx in -reach..=reach {
                            let (x, y) = (x + dx, y + dy);
                            if (0..width as i64).contains(&x) && (0..height as i64).contains(&y) {
                                for c in 0..inputs {
                                    let at = (y as usize * width + x as usize) * inputs + c;
                                    let tap = ((dy + reach) * side as i64 + dx + reach) as usize;
                                    let weight = weights.data[(o * inputs + c) * side * side + tap];
                                    sum += f64::from(random(at)) * f64::from(weight);
                                }
                            }
                        }
                    }
                    assert!((sum - f64::from(*value)).abs() < 1e-4, "{side} {stride}: {sum} {value}");
                }
            }
        }
    }
}
