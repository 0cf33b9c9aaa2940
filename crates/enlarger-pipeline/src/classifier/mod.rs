//! A small convolutional network that classifies pictures: damaged, soft, drawn.
//!
//! Trained by `training/classifier`, which also says on what, and how often it is right. Its sums have the same order
//! on every machine, so that a picture gets the same verdict everywhere.

use std::sync::LazyLock;

use enlarger_image::luma;
use enlarger_nn::weights::safetensors;

use crate::layers::{Convolution, Map};

/// Side in pixels of the cells that a verdict is given for.
pub(crate) const CELL: usize = 8;
/// The classes, in the order of the network's outputs.
pub(crate) const KINDS: usize = 3;

/// Of one cell, or the mean of many: logits of damaged (compressed or noisy), soft (out of focus, or enlarged before) and
/// drawn (flat art, lines, text, screens).
pub(crate) type Logits = [f32; KINDS];

/// Strides of the convolutions, of 3x3 but for the last, whose outputs are the logits.
const STRIDES: [usize; 6] = [1, 2, 1, 2, 1, 1];
const WEIGHTS: &[u8] = include_bytes!("weights.safetensors");

static LAYERS: LazyLock<Vec<Convolution>> = LazyLock::new(|| {
    let weights = safetensors::read(WEIGHTS).expect("the bundled weights are whole").0;
    let layer = |(i, &stride): (usize, &usize)| {
        Convolution::new(&weights[&format!("{i}.weight")], &weights[&format!("{i}.bias")], stride)
    };
    STRIDES.iter().enumerate().map(layer).collect()
});

/// The logits of each cell of a window, row by row. `rgb` are interleaved values, 0..=1; `width` is a multiple of [`CELL`],
/// and so is the height.
pub(crate) fn classify(rgb: &[f32], width: usize) -> Vec<Logits> {
    let (last, hidden) = LAYERS.split_last().expect("there are layers");
    let mut map = features(rgb, width);
    for layer in hidden {
        map = layer.run(&map, |sum| sum.max(0.0));
    }
    let cells = last.run(&map, |sum| sum);
    cells.pixels().map(|cell| [cell[0], cell[1], cell[2]]).collect()
}

/// A difference of this many levels in 255 becomes a half: damage is only a few levels, and would vanish beside a
/// picture's own contrast.
const HALF: f32 = 4.0;

/// What the network sees, at half the size: of each square of 2x2 pixels how much neighbours differ, across, down and along
/// the diagonal in luminance, along the diagonal in red less green, then the mean colour. Scaled as in training.
fn features(rgb: &[f32], width: usize) -> Map {
    let height = rgb.len() / 3 / width;
    let pixel = |x: usize, y: usize| {
        let at = (y.min(height - 1) * width + x.min(width - 1)) * 3;
        [rgb[at], rgb[at + 1], rgb[at + 2]].map(|value| value * 255.0)
    };
    let mut map = Map::new(width / 2, height / 2, 19);
    for y in 0..height {
        for x in 0..width {
            let square = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let [here, right, below, across] = square.map(luma);
            let [a, b, c, d] = square.map(|[r, g, _]| r - g);
            let differences =
                [right - here, below - here, (here - right - below + across) / 2.0, (a - b - c + d) / 2.0];
            let to = map.pixel_mut(x / 2, y / 2);
            for (c, difference) in differences.into_iter().map(f32::abs).enumerate() {
                to[c * 4 + y % 2 * 2 + x % 2] = difference / (difference + HALF) * 2.0;
            }
            for (to, value) in to[16..].iter_mut().zip(square[0]) {
                *to += value / 4.0;
            }
        }
    }
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            map.pixel_mut(x, y)[16..].iter_mut().for_each(|mean| *mean = *mean / 64.0 - 2.0);
        }
    }
    map
}
