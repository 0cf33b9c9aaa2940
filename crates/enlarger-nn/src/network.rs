//! Networks ready to run.

use std::ops::{ControlFlow, Range};

use half::f16;
use rayon::prelude::*;

use crate::{
    aligned::zeroed,
    compact::Compact,
    error::NnError,
    kernels::{Backend, Bf16, Conv, Element, Isa, Precision},
    map::{Map, View},
    rrdb::Rrdb,
    spec::Architecture,
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
    Int16(Layers<f16>),
}

/// A part of a picture as wide as its feature maps can be, and as high as the picture: a network runs down it in
/// bands of rows.
pub(crate) struct Strip<'a> {
    pub width: usize,
    pub height: usize,
    /// Rows of a band; `None` lets the network choose.
    pub band: Option<usize>,
    /// Fills a slice with rows of interleaved RGB in 0..=1.
    pub read: &'a (dyn Fn(Range<usize>, &mut [f32]) + Sync),
}

/// Takes finished rows of a strip's result: which of them is the first, and `[rows][width * scale][3]`.
pub(crate) type Emit<'a> = dyn FnMut(usize, &[f32]) + 'a;

/// Hears the share of a strip that is done, many times per band, and may end the run.
pub(crate) type Step<'a> = dyn Fn(f64) -> ControlFlow<()> + 'a;

/// What a run of a network needs.
pub(crate) struct Job<'a> {
    pub isa: Isa,
    /// Colours that the network reads.
    pub colours: usize,
    pub strip: &'a Strip<'a>,
    pub step: &'a Step<'a>,
}

impl Job<'_> {
    /// # Errors
    /// [`NnError::Cancelled`] if the run is to end.
    pub fn step(&self, share: f64) -> Result<(), NnError> {
        if (self.step)(share).is_break() { Err(NnError::Cancelled) } else { Ok(()) }
    }
}

impl Network {
    /// Packs weights for a backend.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture says,
    /// [`NnError::Backend`] if the processor lacks what was asked for.
    pub fn build(architecture: &Architecture, weights: &StateDict, backend: &Backend) -> Result<Self, NnError> {
        let backend = backend.resolve()?;
        let layers = match backend.precision {
            Precision::Bf16 => Precise::Bf16(Layers::build(architecture, weights)?),
            Precision::Int16 => Precise::Int16(Layers::build(architecture, weights)?),
            Precision::Auto | Precision::F32 => Precise::F32(Layers::build(architecture, weights)?),
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

    /// Source pixels to the left and right of a strip that it must see for its result to equal the uncut one within
    /// 1/255. Above and below, nothing is cut.
    ///
    /// A Compact network's receptive field is small and taken whole. RRDBNet's is some 350 pixels. Measured with x4plus
    /// on samples/stream.jpg in f32, cut in both directions, the largest difference from the uncut result is 36/255
    /// with a halo of 32 and 2/255 with 64, where 99.99 % of the samples are within 1/255.
    pub fn halo(&self) -> u32 {
        match self.architecture {
            Architecture::RrdbNet { .. } => 64 * self.unshuffle() as u32,
            Architecture::Compact { convs, .. } => convs as u32 + 2,
        }
    }

    /// Operations per source pixel if all convolutions were computed directly, a multiplication and an addition each
    /// being one. Biases, activations and sums of residuals do not count.
    pub fn flops_per_pixel(&self) -> f64 {
        let conv = |inputs: usize, outputs: usize| (2 * 9 * inputs * outputs) as f64;
        match self.architecture {
            Architecture::Compact { scale, channels_in, channels_out, features, convs, .. } => {
                let last = conv(features, channels_out * (scale * scale) as usize);
                conv(channels_in, features) + convs as f64 * conv(features, features) + last
            }
            Architecture::RrdbNet { scale, channels_in, channels_out, features, blocks, growth } => {
                let unshuffle = self.unshuffle();
                let grown: f64 = (0..4).map(|k| conv(features + k * growth, growth)).sum();
                let dense = grown + conv(features + 4 * growth, features);
                let trunk = conv(channels_in * unshuffle * unshuffle, features)
                    + (3 * blocks) as f64 * dense
                    + conv(features, features);
                // One convolution after each doubling, then two more.
                let doublings = (scale as usize * unshuffle).ilog2();
                let ups: f64 = (1..=doublings).map(|d| f64::from(1 << (2 * d)) * conv(features, features)).sum();
                let end = f64::from(1 << (2 * doublings)) * (conv(features, features) + conv(features, channels_out));
                (trunk + ups + end) / (unshuffle * unshuffle) as f64
            }
        }
    }

    /// Sides of strips are multiples of this.
    pub(crate) fn unshuffle(&self) -> usize {
        match &self.layers {
            Precise::F32(layers) => layers.unshuffle(),
            Precise::Bf16(layers) => layers.unshuffle(),
            Precise::Int16(layers) => layers.unshuffle(),
        }
    }

    /// The widest strip, in source pixels with its halo, whose feature maps fit the memory that a run may take.
    pub(crate) fn widest(&self) -> u32 {
        match &self.layers {
            Precise::F32(layers) => layers.widest(),
            Precise::Bf16(layers) => layers.widest(),
            Precise::Int16(layers) => layers.widest(),
        }
    }

    /// # Errors
    /// [`NnError::Cancelled`] if `step` breaks, [`NnError::Memory`] if feature maps find no room.
    pub(crate) fn run(&self, strip: &Strip<'_>, step: &Step<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let colours = match self.architecture {
            Architecture::RrdbNet { channels_in, .. } | Architecture::Compact { channels_in, .. } => channels_in,
        };
        let job = Job { isa: self.backend.isa, colours, strip, step };
        match &self.layers {
            Precise::F32(layers) => layers.run(&job, emit),
            Precise::Bf16(layers) => layers.run(&job, emit),
            Precise::Int16(layers) => layers.run(&job, emit),
        }
    }
}

enum Layers<T> {
    Rrdb(Box<Rrdb<T>>),
    Compact(Compact<T>),
}

impl<T: Element> Layers<T> {
    fn build(architecture: &Architecture, weights: &StateDict) -> Result<Self, NnError> {
        Ok(match architecture {
            Architecture::RrdbNet { .. } => Self::Rrdb(Box::new(Rrdb::build(architecture, weights)?)),
            Architecture::Compact { .. } => Self::Compact(Compact::build(architecture, weights)?),
        })
    }

    fn unshuffle(&self) -> usize {
        match self {
            Self::Rrdb(net) => net.unshuffle,
            Self::Compact(_) => 1,
        }
    }

    fn widest(&self) -> u32 {
        let (bytes_per_column, weights) = match self {
            Self::Rrdb(net) => (net.bytes_per_column(), net.weights()),
            Self::Compact(net) => (net.bytes_per_column(), 0),
        };
        let columns = MEMORY.saturating_sub(weights) / bytes_per_column;
        (columns.max(256) * self.unshuffle()).min(u32::MAX as usize) as u32
    }

    fn run(&self, job: &Job<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        match self {
            Self::Rrdb(net) => net.run(job, emit),
            Self::Compact(net) => net.run(job, emit),
        }
    }
}

/// Bytes that a network's weights, its feature maps and its history of rows may take. With all else that a process needs,
/// 400 MB are not exceeded.
const MEMORY: usize = 310 << 20;

/// How a strip is cut into bands of rows. Each convolution looks one row ahead, so it is one row behind its source:
/// at a step, the one at depth d computes rows `step * band - d` and the following, and remembers the last rows of
/// its source for the next step. So no row is computed twice, and none is approximate.
pub(crate) struct Schedule {
    height: usize,
    band: usize,
    /// 0 if the whole height is one band, so that nothing need be remembered.
    skew: usize,
}

impl Schedule {
    /// Rows of a band at least: fewer would mostly shuffle memory.
    pub const LEAST: usize = 16;

    /// Bands of the strip's choice, or of about `pixels` pixels; `unshuffle` source pixels are one.
    pub fn new(strip: &Strip<'_>, unshuffle: usize, pixels: usize) -> Self {
        let (width, height) = (strip.width / unshuffle, strip.height / unshuffle);
        // Winograd works on four rows at once.
        let band = strip.band.map_or(usize::MAX, |band| band / unshuffle).min(pixels / width);
        let band = band.next_multiple_of(4).max(Self::LEAST);
        // What does not fill two bands is done in one.
        if height < 2 * band { Self { height, band: height, skew: 0 } } else { Self { height, band, skew: 1 } }
    }

    /// Rows that a map holds at most.
    pub fn room(&self) -> usize {
        self.band
    }

    /// Steps until the result of depth `last` is complete.
    pub fn steps(&self, last: usize) -> usize {
        (self.height + last * self.skew).div_ceil(self.band)
    }

    /// Rows that a convolution at a depth computes at a step.
    pub fn rows(&self, step: usize, depth: usize) -> Range<usize> {
        let row = |edge: usize| edge.saturating_sub(depth * self.skew).min(self.height);
        row(step * self.band)..row((step + 1) * self.band)
    }

    /// How many rows must be remembered of what is read `rows` rows behind.
    pub fn keep(&self, rows: usize) -> usize {
        rows * self.skew
    }
}

/// The slope below zero: one for all outputs, or one for each.
pub(crate) enum Slope {
    Same(f32),
    Each(Vec<f32>),
}

pub(crate) fn tensor<'a>(weights: &'a StateDict, name: &str) -> Result<&'a Tensor, NnError> {
    weights.0.get(name).ok_or_else(|| NnError::Weights(format!("{name} is missing")))
}

pub(crate) fn load<T: Element>(
    weights: &StateDict,
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
    Conv::new(&kernel.data, &bias.data, &slope, inputs)
}

/// The network's input; with `r` > 1, blocks of `r` x `r` pixels become channels (`c * r * r + dy * r + dx`). The
/// strip's sides are multiples of `r`.
pub(crate) struct Input<T> {
    r: usize,
    map: Map<T>,
    rgb: Vec<f32>,
}

impl<T: Element> Input<T> {
    pub fn new(job: &Job<'_>, r: usize, schedule: &Schedule) -> Result<Self, NnError> {
        // One more row above, and one below.
        let rows = schedule.room() + 2;
        Ok(Self {
            r,
            map: Map::new(job.strip.width / r, rows, (job.colours * r * r).next_multiple_of(T::CHANNELS))?,
            rgb: zeroed(rows * r * job.strip.width * 3)?,
        })
    }

    /// What a convolution that computes some rows reads.
    pub fn read(&mut self, job: &Job<'_>, rows: &Range<usize>) -> View<'_, T> {
        let Strip { width, height, read, .. } = *job.strip;
        let (r, colours) = (self.r, job.colours);
        let rows = rows.start.saturating_sub(1)..(rows.end + 1).min(height / r);
        let rgb = &mut self.rgb[..rows.len() * r * width * 3];
        read(rows.start * r..rows.end * r, rgb);
        self.map.hold(rows);
        let (w, c, stride) = (self.map.width, self.map.channels, self.map.stride());
        let rows = self.map.rows_mut().par_chunks_exact_mut(stride);
        rows.zip(rgb.par_chunks_exact(r * width * 3)).for_each(|(row, rgb)| {
            for (x, pixel) in row[c..].chunks_exact_mut(c).take(w).enumerate() {
                for dy in 0..r {
                    for dx in 0..r {
                        let rgb = &rgb[(dy * width + x * r + dx) * 3..][..3];
                        for colour in 0..colours {
                            let value = if colours == 1 { (rgb[0] + rgb[1] + rgb[2]) / 3.0 } else { rgb[colour] };
                            pixel[colour * r * r + dy * r + dx] = T::from_f32(value);
                        }
                    }
                }
            }
        });
        self.map.alone()
    }
}
