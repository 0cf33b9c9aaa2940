//! Finds faces, without recognising anyone: a face is only a place.
//!
//! The network is the "tiny face detector" of face-api.js (Copyright (c) 2018 Vincent Mühler, MIT, `LICENSE.txt`), a small relative of
//! YOLOv2 (Redmon and Farhadi 2017). `weights.bin` (SHA-256 b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871) and
//! `weights.json` are `model/tiny_face_detector_model*` of the npm package @vladmandic/face-api 1.7.15, as they are. Detectors in Rust
//! were looked at: rustface copies windows that a regression has moved by raw pointers, which no picture from outside may reach.

use std::sync::LazyLock;

use enlarger_image::Picture;
use enlarger_nn::Tensor;

use crate::{
    layers::{Convolution, Map},
    quantized,
    request::Crop,
    resize::floats_at,
};

/// Lengths of the longer side at which the picture is searched. Faces that fill a picture are found in the small one,
/// faces in a crowd in the large one.
const SIDES: [u32; 2] = [320, 640];
/// Sides of the larger one's pictures, from which on there is more to see in it.
const CROWDED: u32 = 480;
/// A cell of the last map is this many pixels wide.
const CELL: usize = 32;
/// Score above which something is a face. One of 41 pictures without a face reaches it: a retina.
const FACE: f32 = 0.5;
/// Two boxes are of one face if they share more than this much of what both cover.
const SAME: f32 = 0.3;
/// More are not looked at.
const MOST: usize = 64;

/// Of the mean picture that the network was trained on, in 0..=255.
const MEAN: [f32; 3] = [117.001, 114.697, 97.404];
/// Anchor boxes that the network's outputs refine, in cells.
const ANCHORS: [[f32; 2]; 5] =
    [[1.603231, 2.094468], [6.041143, 7.080126], [2.882459, 3.518061], [4.266906, 5.178857], [9.041765, 10.66308]];
/// What the network says of a cell and an anchor: place, size, score.
const NUMBERS: usize = 5;

/// The boxes of faces, from the brows to the chin, in pixels of the picture, the most certain first. The same on every
/// machine.
pub(crate) fn find(picture: &Picture) -> Vec<Crop> {
    let longest = picture.width.max(picture.height);
    let looks = if longest < CROWDED { &SIDES[..1] } else { &SIDES };
    let mut found: Vec<Found> = looks.iter().flat_map(|&side| look(picture, side as f32 / longest as f32)).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut faces: Vec<Found> = Vec::new();
    for face in found {
        if faces.len() < MOST && faces.iter().all(|other| face.shared(other) < SAME) {
            faces.push(face);
        }
    }
    faces.iter().filter_map(|face| face.within(picture)).collect()
}

/// A box with real sides, in pixels.
struct Found {
    score: f32,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

impl Found {
    /// Intersection over union of two boxes.
    fn shared(&self, other: &Self) -> f32 {
        let side =
            |a: f32, a_length: f32, b: f32, b_length: f32| ((a + a_length).min(b + b_length) - a.max(b)).max(0.0);
        let both = side(self.x, self.width, other.x, other.width) * side(self.y, self.height, other.y, other.height);
        both / (self.width * self.height + other.width * other.height - both).max(f32::MIN_POSITIVE)
    }

    /// In whole pixels, as far as it lies in a picture.
    fn within(&self, picture: &Picture) -> Option<Crop> {
        let side = |start: f32, length: f32, whole: u32| {
            let whole = whole as f32;
            let (first, end) = (start.round().clamp(0.0, whole), (start + length).round().clamp(0.0, whole));
            (first as u32, (end - first) as u32)
        };
        let ((x, width), (y, height)) =
            (side(self.x, self.width, picture.width), side(self.y, self.height, picture.height));
        (width > 0 && height > 0).then_some(Crop { x, y, width, height })
    }
}

/// Looks for faces in a picture that is `scale` times as large.
fn look(picture: &Picture, scale: f32) -> Vec<Found> {
    let side = |length: u32| ((length as f32 * scale).round() as u32).max(1);
    let (width, height) = (side(picture.width), side(picture.height));
    let Some(map) = seen(picture, width, height) else { return Vec::new() };
    let cells = NETWORK.run(map);
    let across = (width as usize).div_ceil(CELL);
    let mut found = Vec::new();
    for (i, cell) in cells.pixels().enumerate() {
        for (numbers, anchor) in cell.chunks_exact(NUMBERS).zip(ANCHORS) {
            let &[x, y, w, h, score] = numbers else { unreachable!("chunks of five") };
            let score = sigmoid(score);
            if score > FACE {
                let middle = |cell: usize, offset: f32| (cell as f32 + sigmoid(offset)) * CELL as f32 / scale;
                // A box is at most e^3 anchors large, so numbers always stay finite.
                let length = |anchor: f32, log: f32| anchor * log.min(3.0).exp() * CELL as f32 / scale;
                let (width, height) = (length(anchor[0], w), length(anchor[1], h));
                let (x, y) = (middle(i % across, x) - width / 2.0, middle(i / across, y) - height / 2.0);
                found.push(Found { score, x, y, width, height });
            }
        }
    }
    found
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// What the network sees of a picture at this size, in a frame whose sides are whole cells; `None` if there is no room for it.
fn seen(picture: &Picture, width: u32, height: u32) -> Option<Map> {
    let n = picture.channels.count();
    let values = floats_at(picture, width, height)?;
    let whole = |side: u32| (side as usize).next_multiple_of(CELL);
    let mut map = Map::new(whole(width), whole(height), 3);
    for (i, pixel) in values.chunks_exact(n).enumerate() {
        let to = map.pixel_mut(i % width as usize, i / width as usize);
        for (c, (to, mean)) in to.iter_mut().zip(MEAN).enumerate() {
            *to = pixel[if picture.channels.colours() == 1 { 0 } else { c }] - mean / 255.0;
        }
    }
    Some(map)
}

struct Network {
    hidden: Vec<Convolution>,
    last: Convolution,
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let mut arrays = quantized::arrays(include_bytes!("weights.json"), include_bytes!("weights.bin")).into_iter();
    let mut next = || arrays.next().expect("the bundled weights are whole").1;
    let mut hidden = vec![Convolution::new(&ordered(&next()), &next(), 1)];
    for _ in 0..5 {
        let weights = joined(&next(), &next());
        hidden.push(Convolution::new(&weights, &next(), 1));
    }
    let last = Convolution::new(&ordered(&next()), &next(), 1);
    Network { hidden, last }
});

impl Network {
    fn run(&self, seen: Map) -> Map {
        let leaky = |sum: f32| sum.max(0.1 * sum);
        let (last, halving) = self.hidden.split_last().expect("there are layers");
        let map = halving.iter().fold(seen, |map, layer| layer.run(&map, leaky).pooled());
        self.last.run(&last.run(&map, leaky).dilated(), |sum| sum)
    }
}

/// Weights of shape `[rows, columns, inputs, outputs]` as `[outputs, inputs, rows, columns]`.
fn ordered(weights: &Tensor) -> Tensor {
    let [rows, columns, inputs, outputs] = weights.shape[..] else { unreachable!("a convolution has four sizes") };
    let at = |i: usize| {
        let (tap, input, output) = (i % (rows * columns), i / (rows * columns) % inputs, i / (rows * columns * inputs));
        weights.data[(tap * inputs + input) * outputs + output]
    };
    Tensor { shape: vec![outputs, inputs, rows, columns], data: (0..weights.data.len()).map(at).collect() }
}

/// One convolution that does what a convolution of each input alone and then one of single pixels do, whose shapes are `[3, 3, inputs, 1]`
/// and `[1, 1, inputs, outputs]`.
fn joined(each: &Tensor, pixels: &Tensor) -> Tensor {
    let [rows, columns, inputs, _] = each.shape[..] else { unreachable!("a convolution has four sizes") };
    let outputs = pixels.shape[3];
    let data = (0..outputs * inputs * rows * columns).map(|i| {
        let (tap, input, output) = (i % (rows * columns), i / (rows * columns) % inputs, i / (rows * columns * inputs));
        each.data[tap * inputs + input] * pixels.data[input * outputs + output]
    });
    Tensor { shape: vec![outputs, inputs, rows, columns], data: data.collect() }
}
