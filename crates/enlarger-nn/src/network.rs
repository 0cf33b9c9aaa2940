//! Networks ready to run: layers in the kernels' own packing, and their way through a tile.

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::{
    error::NnError,
    finish::{self, Finish, Row},
    kernels::{Backend, Bf16, Conv, Element, Isa, Precision},
    map::Map,
    spec::{Activation, Architecture},
    tensor::{StateDict, Tensor},
};

/// A network with its weights packed for a backend.
pub struct Network {
    architecture: Architecture,
    backend: Backend,
    layers: Precise,
}

enum Precise {
    F32(Layers<f32>),
    Bf16(Layers<Bf16>),
}

/// Interleaved RGB floats of a part of a picture.
pub(crate) struct Tile {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<f32>,
}

/// Takes finished rows of a tile's result: first row, and `[rows][width * scale][3]`.
pub(crate) type Emit<'a> = dyn FnMut(usize, &[f32]) + 'a;

/// Hears the share of a tile that is done, many times per tile, and may end the run.
pub(crate) type Step<'a> = dyn Fn(f64) -> ControlFlow<()> + 'a;

impl Network {
    /// Packs weights for a backend.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture says,
    /// [`NnError::Backend`] if the processor lacks what was asked for.
    pub fn build(architecture: &Architecture, weights: &StateDict, backend: &Backend) -> Result<Self, NnError> {
        let backend = backend.resolve()?;
        let layers = match backend.precision {
            Precision::Bf16 => Precise::Bf16(Layers::build(architecture, weights, backend.isa)?),
            _ => Precise::F32(Layers::build(architecture, weights, backend.isa)?),
        };
        Ok(Self { architecture: *architecture, backend, layers })
    }

    /// How many times as wide and high the result is.
    pub fn scale(&self) -> u32 {
        self.architecture.scale()
    }

    /// What it is.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What it runs on, resolved.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Source pixels around a tile that it must see for its result to equal the untiled one within 1/255.
    ///
    /// A Compact network's receptive field is small and taken whole. RRDBNet's is some 350 pixels. Measured with x4plus
    /// on samples/stream.jpg in f32, the largest difference from the untiled result is 36/255 with a halo of 32 and
    /// 2/255 with 64, where 99.99 % of the samples are within 1/255.
    pub fn halo(&self) -> u32 {
        match self.architecture {
            Architecture::RrdbNet { .. } => 64 * self.unshuffle() as u32,
            Architecture::Compact { convs, .. } => convs as u32 + 2,
        }
    }

    /// Sides of tiles are multiples of this.
    pub(crate) fn unshuffle(&self) -> usize {
        match &self.layers {
            Precise::F32(layers) => layers.unshuffle(),
            Precise::Bf16(layers) => layers.unshuffle(),
        }
    }

    /// Source pixels that a tile may see, halo included: large enough that the halo is a small part, small enough that
    /// all of a tile's feature maps take less than 300 MB.
    pub(crate) fn tile_pixels(&self) -> u64 {
        let square = (self.unshuffle() * self.unshuffle()) as u64;
        match (self.architecture, self.backend.precision) {
            (Architecture::RrdbNet { .. }, Precision::Bf16) => square * (190 << 10),
            (Architecture::RrdbNet { .. }, _) => square * (130 << 10),
            (Architecture::Compact { .. }, Precision::Bf16) => 256 << 10,
            (Architecture::Compact { .. }, _) => 160 << 10,
        }
    }

    pub(crate) fn run(&self, tile: &Tile, step: &Step<'_>, emit: &mut Emit<'_>) -> ControlFlow<()> {
        let channels = match self.architecture {
            Architecture::RrdbNet { channels_in, .. } | Architecture::Compact { channels_in, .. } => channels_in,
        };
        match &self.layers {
            Precise::F32(layers) => layers.run(self.backend.isa, tile, channels, step, emit),
            Precise::Bf16(layers) => layers.run(self.backend.isa, tile, channels, step, emit),
        }
    }
}

enum Layers<T> {
    Rrdb(Box<Rrdb<T>>),
    Compact(Compact<T>),
}

impl<T: Element> Layers<T> {
    fn build(architecture: &Architecture, weights: &StateDict, isa: Isa) -> Result<Self, NnError> {
        Ok(match architecture {
            Architecture::RrdbNet { .. } => Self::Rrdb(Box::new(Rrdb::build(architecture, weights, isa)?)),
            Architecture::Compact { .. } => Self::Compact(Compact::build(architecture, weights, isa)?),
        })
    }

    fn unshuffle(&self) -> usize {
        match self {
            Self::Rrdb(net) => net.unshuffle,
            Self::Compact(_) => 1,
        }
    }

    fn run(&self, isa: Isa, tile: &Tile, channels: usize, step: &Step<'_>, emit: &mut Emit<'_>) -> ControlFlow<()> {
        match self {
            Self::Rrdb(net) => net.run(isa, tile, channels, step, emit),
            Self::Compact(net) => net.run(isa, tile, channels, step, emit),
        }
    }
}

/// Slope below zero of ESRGAN's activations, and the gain of its residuals (Wang et al. 2018, section 3.1).
const SLOPE: f32 = 0.2;
const RESIDUAL: f32 = 0.2;
/// Rows of features that the upsampling tail takes at once: small, since it works at 16 times the pixels.
const BAND: usize = 16;
/// Rows of features that a band's result depends on, above and below: one pixel for the first upsampled convolution
/// at twice the size, three at four times.
const BAND_HALO: usize = 2;

struct Rrdb<T> {
    unshuffle: usize,
    features: usize,
    growth: usize,
    first: Conv<T>,
    /// Three dense blocks of five convolutions each.
    blocks: Vec<[[Conv<T>; 5]; 3]>,
    body: Conv<T>,
    /// One per doubling.
    ups: Vec<Conv<T>>,
    high: Conv<T>,
    last: Conv<T>,
}

impl<T: Element> Rrdb<T> {
    fn build(architecture: &Architecture, weights: &StateDict, isa: Isa) -> Result<Self, NnError> {
        let Architecture::RrdbNet { channels_in, blocks, growth, features, .. } = *architecture else {
            unreachable!("called for this architecture only");
        };
        let conv = |name: &str, inputs: &[usize], slope: f32| load(weights, isa, name, inputs, Slope::Same(slope));
        let seen = tensor(weights, "conv_first.weight")?.shape.get(1).copied().unwrap_or_default();
        let unshuffle = (1..=4)
            .find(|r| channels_in * r * r == seen)
            .ok_or_else(|| NnError::Weights(format!("conv_first reads {seen} channels")))?;
        let dense = |block: usize, dense: usize, k: usize| {
            let mut inputs = vec![features];
            inputs.resize(k, growth);
            let slope = if k < 5 { SLOPE } else { 1.0 };
            conv(&format!("body.{block}.rdb{dense}.conv{k}"), &inputs, slope)
        };
        let five = |block, d| -> Result<[Conv<T>; 5], NnError> {
            Ok([
                dense(block, d, 1)?,
                dense(block, d, 2)?,
                dense(block, d, 3)?,
                dense(block, d, 4)?,
                dense(block, d, 5)?,
            ])
        };
        let blocks: Result<Vec<_>, NnError> =
            (0..blocks).map(|b| Ok([five(b, 1)?, five(b, 2)?, five(b, 3)?])).collect();
        let ups: Result<Vec<_>, NnError> = (1..=4)
            .map(|i| format!("conv_up{i}"))
            .take_while(|name| weights.0.contains_key(&format!("{name}.weight")))
            .map(|name| conv(&name, &[features], SLOPE))
            .collect();
        Ok(Self {
            unshuffle,
            features,
            growth,
            first: conv("conv_first", &[seen], 1.0)?,
            blocks: blocks?,
            body: conv("conv_body", &[features], 1.0)?,
            ups: ups?,
            high: conv("conv_hr", &[features], SLOPE)?,
            last: conv("conv_last", &[features], 1.0)?,
        })
    }

    fn run(&self, isa: Isa, tile: &Tile, channels: usize, step: &Step<'_>, emit: &mut Emit<'_>) -> ControlFlow<()> {
        let input = unshuffled::<T>(tile, channels, self.unshuffle);
        let (w, h) = (input.width, input.height);
        let map = |channels: usize| Map::<T>::new(w, h, channels.next_multiple_of(T::CHANNELS));
        let mut features = map(self.features);
        let mut shallow = vec![0.0; w * h * self.features];
        apply(isa, &self.first, &[&input], Some(&mut features), Some(&mut shallow), Finish::PLAIN);
        drop(input);

        let mut trunk = shallow.clone();
        let mut outer = shallow.clone();
        let mut grown: [Map<T>; 4] = std::array::from_fn(|_| map(self.growth));
        // The tail costs about as much as two blocks.
        let total = self.blocks.len() as f64 + 2.0;
        for (b, block) in self.blocks.iter().enumerate() {
            for (d, dense) in block.iter().enumerate() {
                for k in 0..4 {
                    let (before, rest) = grown.split_at_mut(k);
                    let mut sources = vec![&features];
                    sources.extend(before.iter());
                    apply(isa, &dense[k], &sources, Some(&mut rest[0]), None, Finish::PLAIN);
                }
                let last_of_block = d == 2;
                let finish =
                    Finish { gain: RESIDUAL, accumulate: true, outer: last_of_block.then_some(outer.as_slice()) };
                // The convolution reads the features that it replaces, so its output goes into the trunk first.
                {
                    let mut sources = vec![&features];
                    sources.extend(grown.iter());
                    apply(isa, &dense[4], &sources, None, Some(&mut trunk), finish);
                }
                copy_into(&trunk, self.features, &mut features);
                if last_of_block {
                    outer.copy_from_slice(&trunk);
                }
            }
            step((b + 1) as f64 / total)?;
        }
        drop((grown, outer, trunk));
        let finish = Finish { accumulate: true, ..Finish::PLAIN };
        apply(isa, &self.body, &[&features], None, Some(&mut shallow), finish);
        copy_into(&shallow, self.features, &mut features);
        drop(shallow);

        for start in (0..h).step_by(BAND) {
            let end = (start + BAND).min(h);
            self.tail(isa, &features, start, end, emit);
            step((total - 2.0 + 2.0 * end as f64 / h as f64) / total)?;
        }
        ControlFlow::Continue(())
    }

    /// Upsamples feature rows `start..end` and everything after, seeing a halo of rows around them.
    fn tail(&self, isa: Isa, features: &Map<T>, start: usize, end: usize, emit: &mut Emit<'_>) {
        let (from, to) = (start.saturating_sub(BAND_HALO), (end + BAND_HALO).min(features.height));
        let mut current = Map::<T>::new(features.width, to - from, features.channels);
        let stride = features.stride;
        current.rows_mut().copy_from_slice(&features.data[(from + 1) * stride..(to + 1) * stride]);
        for up in &self.ups {
            let doubled = doubled(&current);
            let mut next = Map::new(doubled.width, doubled.height, features.channels);
            apply(isa, up, &[&doubled], Some(&mut next), None, Finish::PLAIN);
            current = next;
        }
        let mut high = Map::new(current.width, current.height, features.channels);
        apply(isa, &self.high, &[&current], Some(&mut high), None, Finish::PLAIN);
        let colours = self.last.outputs;
        let mut result = vec![0.0; high.width * high.height * colours];
        apply(isa, &self.last, &[&high], None, Some(&mut result), Finish::PLAIN);
        let factor = 1 << self.ups.len();
        let row = high.width * colours;
        let rows = &result[(start - from) * factor * row..(end - from) * factor * row];
        emit(start * factor, &as_rgb(rows, colours));
    }
}

struct Compact<T> {
    scale: usize,
    features: usize,
    /// All but the last, each with its activation.
    convs: Vec<Conv<T>>,
    last: Conv<T>,
}

impl<T: Element> Compact<T> {
    fn build(architecture: &Architecture, weights: &StateDict, isa: Isa) -> Result<Self, NnError> {
        let Architecture::Compact { scale, channels_in, features, convs, activation, .. } = *architecture else {
            unreachable!("called for this architecture only");
        };
        let slope = |at: usize| match activation {
            Activation::Relu => Ok(Slope::Same(0.0)),
            Activation::LeakyRelu => Ok(Slope::Same(0.1)),
            Activation::Prelu => Ok(Slope::Each(tensor(weights, &format!("body.{at}.weight"))?.data.clone())),
        };
        // body.0 is a convolution, body.1 its activation, and so on; the last convolution has none.
        let layers: Result<Vec<_>, NnError> = (0..=convs)
            .map(|i| {
                let inputs = [if i == 0 { channels_in } else { features }];
                load(weights, isa, &format!("body.{}", 2 * i), &inputs, slope(2 * i + 1)?)
            })
            .collect();
        let last = load(weights, isa, &format!("body.{}", 2 * (convs + 1)), &[features], Slope::Same(1.0))?;
        Ok(Self { scale: scale as usize, features, convs: layers?, last })
    }

    fn run(&self, isa: Isa, tile: &Tile, channels: usize, step: &Step<'_>, emit: &mut Emit<'_>) -> ControlFlow<()> {
        let (w, h, s) = (tile.width, tile.height, self.scale);
        let mut current = unshuffled::<T>(tile, channels, 1);
        let mut spare = Map::new(w, h, self.features.next_multiple_of(T::CHANNELS));
        let total = self.convs.len() as f64 + 2.0;
        for (i, conv) in self.convs.iter().enumerate() {
            step(i as f64 / total)?;
            apply(isa, conv, &[&current], Some(&mut spare), None, Finish::PLAIN);
            if current.channels == spare.channels {
                std::mem::swap(&mut current, &mut spare);
            } else {
                let channels = spare.channels;
                current = std::mem::replace(&mut spare, Map::new(w, h, channels));
            }
        }
        drop(spare);
        let n = self.last.outputs;
        let colours = n / (s * s);
        let mut shuffled = vec![0.0; w * h * n];
        apply(isa, &self.last, &[&current], None, Some(&mut shuffled), Finish::PLAIN);
        // Pixel shuffle, plus the input enlarged by repetition.
        let mut result = vec![0.0; w * h * n];
        result.par_chunks_mut(w * s * colours).enumerate().for_each(|(row, out)| {
            let (y, dy) = (row / s, row % s);
            for x in 0..w {
                let values = &shuffled[(y * w + x) * n..][..n];
                let base = &tile.rgb[(y * w + x) * 3..][..3];
                for dx in 0..s {
                    for c in 0..colours {
                        let base = if colours == 3 { base[c] } else { (base[0] + base[1] + base[2]) / 3.0 };
                        out[(x * s + dx) * colours + c] = values[c * s * s + dy * s + dx] + base;
                    }
                }
            }
        });
        emit(0, &as_rgb(&result, colours));
        step(1.0)
    }
}

/// The slope below zero: one for all outputs, or one for each.
enum Slope {
    Same(f32),
    Each(Vec<f32>),
}

fn tensor<'a>(weights: &'a StateDict, name: &str) -> Result<&'a Tensor, NnError> {
    weights.0.get(name).ok_or_else(|| NnError::Weights(format!("{name} is missing")))
}

fn load<T: Element>(
    weights: &StateDict,
    isa: Isa,
    name: &str,
    inputs: &[usize],
    slope: Slope,
) -> Result<Conv<T>, NnError> {
    let kernel = tensor(weights, &format!("{name}.weight"))?;
    let bias = tensor(weights, &format!("{name}.bias"))?;
    let (all, outputs) = (inputs.iter().sum::<usize>(), bias.data.len());
    if kernel.shape != [outputs, all, 3, 3] || kernel.data.len() != outputs * all * 9 || outputs == 0 || outputs > 256 {
        return Err(NnError::Weights(format!(
            "{name} has shape {:?} and {outputs} biases, where [1 to 256, {all}, 3, 3] is needed",
            kernel.shape
        )));
    }
    let slope = match slope {
        Slope::Same(slope) => vec![slope; outputs],
        Slope::Each(slopes) if slopes.len() == outputs => slopes,
        Slope::Each(slopes) => {
            return Err(NnError::Weights(format!("{name} has {outputs} outputs and {} slopes", slopes.len())));
        }
    };
    Ok(Conv::new(isa, &kernel.data, &bias.data, &slope, inputs))
}

/// Consecutive rows of what a convolution writes: of a map, and of the trunk.
type Strip<'a, T> = (Option<&'a mut [T]>, Option<&'a mut [f32]>);

/// Runs a convolution over all rows, in parallel, into a map, the trunk, or both.
fn apply<T: Element>(
    isa: Isa,
    conv: &Conv<T>,
    sources: &[&Map<T>],
    map: Option<&mut Map<T>>,
    trunk: Option<&mut [f32]>,
    finish: Finish<'_>,
) {
    let (w, h, n) = (sources[0].width, sources[0].height, conv.outputs);
    // A few strips per thread keep all busy to the end without paying for a task per row.
    let rows = h.div_ceil(rayon::current_num_threads() * 4).max(1);
    let (map_channels, map_stride) = map.as_ref().map_or((0, 0), |m| (m.channels, m.stride));
    let mut strips: Vec<Strip<'_, T>> = (0..h.div_ceil(rows)).map(|_| (None, None)).collect();
    if let Some(map) = map {
        for (strip, chunk) in strips.iter_mut().zip(map.rows_mut().chunks_mut(rows * map_stride)) {
            strip.0 = Some(chunk);
        }
    }
    if let Some(trunk) = trunk {
        for (strip, chunk) in strips.iter_mut().zip(trunk.chunks_mut(rows * w * n)) {
            strip.1 = Some(chunk);
        }
    }
    strips.into_par_iter().enumerate().for_each(|(s, (mut map, mut trunk))| {
        let mut sums = vec![0.0; w.next_multiple_of(crate::map::BLOCK) * conv.padded_outputs];
        for i in 0..rows.min(h - s * rows) {
            let y = s * rows + i;
            T::row(isa, conv, sources, y, &mut sums);
            let row = Row {
                sums: &sums,
                // The first pixel of a row is the border's.
                map: map.as_deref_mut().map(|m| &mut m[i * map_stride + map_channels..(i + 1) * map_stride]),
                map_channels,
                trunk: trunk.as_deref_mut().map(|t| &mut t[i * w * n..(i + 1) * w * n]),
                outer: finish.outer.map(|o| &o[y * w * n..(y + 1) * w * n]),
            };
            finish::row(isa, conv, &finish, w, row);
        }
    });
}

/// `[y][x][channels]` floats into a map.
fn copy_into<T: Element>(values: &[f32], channels: usize, map: &mut Map<T>) {
    let (w, stride, c) = (map.width, map.stride, map.channels);
    map.rows_mut().par_chunks_mut(stride).zip(values.par_chunks(w * channels)).for_each(|(row, values)| {
        for (pixel, values) in row[c..].chunks_exact_mut(c).zip(values.chunks_exact(channels)) {
            for (to, &value) in pixel.iter_mut().zip(values) {
                *to = T::from_f32(value);
            }
        }
    });
}

/// Twice the size by repetition.
fn doubled<T: Element>(map: &Map<T>) -> Map<T> {
    let mut out = Map::new(map.width * 2, map.height * 2, map.channels);
    let (c, stride) = (map.channels, out.stride);
    out.rows_mut().par_chunks_mut(stride).enumerate().for_each(|(y, row)| {
        let source = &map.data[(y / 2 + 1) * map.stride + c..][..map.width * c];
        for (pair, pixel) in row[c..].chunks_exact_mut(2 * c).zip(source.chunks_exact(c)) {
            pair[..c].copy_from_slice(pixel);
            pair[c..].copy_from_slice(pixel);
        }
    });
    out
}

/// A tile as a network's input; with `r` > 1, blocks of `r` x `r` pixels become channels (`c * r * r + dy * r + dx`).
/// The tile's sides are multiples of `r`.
fn unshuffled<T: Element>(tile: &Tile, channels: usize, r: usize) -> Map<T> {
    let (w, h) = (tile.width / r, tile.height / r);
    let mut map = Map::<T>::new(w, h, (channels * r * r).next_multiple_of(T::CHANNELS));
    let (c, stride) = (map.channels, map.stride);
    for (y, row) in map.rows_mut().chunks_exact_mut(stride).enumerate() {
        for (x, pixel) in row[c..].chunks_exact_mut(c).take(w).enumerate() {
            for dy in 0..r {
                for dx in 0..r {
                    let rgb = &tile.rgb[((y * r + dy) * tile.width + x * r + dx) * 3..][..3];
                    for colour in 0..channels {
                        let value = if channels == 1 { (rgb[0] + rgb[1] + rgb[2]) / 3.0 } else { rgb[colour] };
                        pixel[colour * r * r + dy * r + dx] = T::from_f32(value);
                    }
                }
            }
        }
    }
    map
}

fn as_rgb(values: &[f32], colours: usize) -> std::borrow::Cow<'_, [f32]> {
    match colours {
        3 => values.into(),
        _ => values.chunks_exact(colours).flat_map(|p| [p[0]; 3]).collect(),
    }
}
