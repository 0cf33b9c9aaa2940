//! 3x3 convolutions, one file per instruction set, chosen at run time.

mod amx;
mod direct;

use serde::{Deserialize, Serialize};

use crate::{error::NnError, map::Map};

/// The instruction sets there are kernels for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isa {
    /// The best that this processor has and that passes the precision asked for.
    #[default]
    Auto,
    /// Plain Rust, any processor.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// Intel's matrix unit on bfloat16.
    Amx,
}

/// What values are multiplied in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bfloat16 where the processor has a matrix unit for it (at least 50 dB from f32), else 32 bits.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16 products, 32-bit sums and trunk.
    Bf16,
}

/// How networks run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The instruction set.
    pub isa: Isa,
    /// The precision.
    pub precision: Precision,
}

impl Backend {
    /// What [`Isa::Auto`] and [`Precision::Auto`] mean on this processor.
    ///
    /// # Errors
    /// [`NnError::Backend`] if a named instruction set is not there.
    pub fn resolve(self) -> Result<Self, NnError> {
        let isa = match (self.isa, self.precision) {
            (Isa::Auto, Precision::Auto | Precision::Bf16) if amx::available() => Isa::Amx,
            (Isa::Auto, Precision::Bf16) => return Err(NnError::Backend("a matrix unit for bfloat16".into())),
            // AVX-512 only when named: its registers spill today, and it is slower than AVX2 (docs/performance.md).
            (Isa::Auto, _) if direct::has_avx2() => Isa::Avx2,
            (Isa::Auto, _) => Isa::Portable,
            (isa, _) => isa,
        };
        let there = match isa {
            Isa::Auto | Isa::Portable => true,
            Isa::Avx2 => direct::has_avx2(),
            Isa::Avx512 => direct::has_avx512(),
            Isa::Amx => amx::available(),
        };
        let precision = if isa == Isa::Amx { Precision::Bf16 } else { Precision::F32 };
        if !there {
            return Err(NnError::Backend(format!("{isa:?}")));
        }
        if self.precision != Precision::Auto && self.precision != precision {
            return Err(NnError::Backend(format!("{:?} on {isa:?}", self.precision)));
        }
        Ok(Self { isa, precision })
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ok(resolved) = self.resolve() else { return write!(f, "unavailable") };
        f.write_str(match resolved.isa {
            Isa::Auto | Isa::Portable => "portable f32",
            Isa::Avx2 => "AVX2 f32",
            Isa::Avx512 => "AVX-512 f32",
            Isa::Amx => "AMX bf16",
        })
    }
}

/// A value that feature maps are stored in.
pub trait Element: Copy + Default + Send + Sync + 'static {
    fn from_f32(value: f32) -> Self;
    /// Channels of a map are padded to a multiple of this.
    const CHANNELS: usize;
    fn pack(kernel: Isa, layer: &Layer<'_>) -> Vec<Self>;
    /// One output row: sums over all sources, taps and channels, without bias. `out` is `[x][channels_out]`, with
    /// x padded to whole blocks and channels to a multiple of 32.
    fn row(isa: Isa, conv: &Conv<Self>, sources: &[&Map<Self>], y: usize, out: &mut [f32]);
}

/// A bfloat16: the upper half of an f32.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for f32 {
    const CHANNELS: usize = 1;
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    fn pack(_: Isa, layer: &Layer<'_>) -> Vec<Self> {
        direct::pack(layer)
    }
    fn row(isa: Isa, conv: &Conv<Self>, sources: &[&Map<Self>], y: usize, out: &mut [f32]) {
        direct::row(isa, conv, sources, y, out);
    }
}

impl Element for Bf16 {
    const CHANNELS: usize = 32;
    /// Rounds to nearest, ties to even.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        Self(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16)
    }
    fn pack(_: Isa, layer: &Layer<'_>) -> Vec<Self> {
        amx::pack(layer)
    }
    fn row(_: Isa, conv: &Conv<Self>, sources: &[&Map<Self>], y: usize, out: &mut [f32]) {
        amx::row(conv, sources, y, out);
    }
}

/// A convolution's weights as they come: `[out][in][3][3]`, its inputs spread over several maps.
pub struct Layer<'a> {
    pub weights: &'a [f32],
    pub outputs: usize,
    /// Channels of each source map, without padding.
    pub inputs: &'a [usize],
    /// Outputs padded to a multiple of 32.
    pub padded_outputs: usize,
}

impl Layer<'_> {
    /// One weight; 0 in the padding.
    fn at(&self, output: usize, source: usize, channel: usize, tap: usize) -> f32 {
        if output >= self.outputs || channel >= self.inputs[source] {
            return 0.0;
        }
        let all: usize = self.inputs.iter().sum();
        let input = self.inputs[..source].iter().sum::<usize>() + channel;
        self.weights[(output * all + input) * 9 + tap]
    }
}

/// A convolution ready to run.
pub struct Conv<T> {
    pub outputs: usize,
    pub padded_outputs: usize,
    /// Channels of each source map, with padding.
    pub inputs: Vec<usize>,
    pub weights: Vec<T>,
    pub bias: Vec<f32>,
    /// Slope below zero, per output; 1 is no activation.
    pub slope: Vec<f32>,
}

impl<T: Element> Conv<T> {
    pub fn new(isa: Isa, weights: &[f32], bias: &[f32], slope: &[f32], inputs: &[usize]) -> Self {
        let outputs = bias.len();
        let padded_outputs = outputs.next_multiple_of(32);
        let layer = Layer { weights, outputs, inputs, padded_outputs };
        let pad = |values: &[f32], fill: f32| {
            let mut all = values.to_vec();
            all.resize(padded_outputs, fill);
            all
        };
        Self {
            outputs,
            padded_outputs,
            inputs: inputs.iter().map(|c| c.next_multiple_of(T::CHANNELS)).collect(),
            weights: T::pack(isa, &layer),
            bias: pad(bias, 0.0),
            slope: pad(slope, 1.0),
        }
    }
}
