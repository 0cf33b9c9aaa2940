//! 3x3 convolutions, one file per instruction set, chosen at run time.

mod amx;
mod finish;
mod peak;
mod vector;
mod winograd;

use half::f16;
use serde::{Deserialize, Serialize};

use finish::{Finish, Row};
pub use finish::{Output, Target};
pub use peak::peak_flops;
use vector::Vector;

use crate::{aligned::Aligned, error::NnError, map::View};

/// The instruction sets there are kernels for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isa {
    /// The best that this processor has and that passes the precision asked for.
    #[default]
    Auto,
    /// Plain Rust, any processor; the compiler finds its vectors.
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
    /// The fastest that the processor has, at least 50 dB from f32: bfloat16 on a matrix unit, else 16-bit integers, else
    /// 32 bits.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16 products, 32-bit sums and trunk.
    Bf16,
    /// Products of 16-bit integers, scaled tile by tile; 32-bit sums, maps in 16-bit floats.
    Int16,
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
    /// What this processor can run, the fastest first; the portable one is always there.
    pub fn available() -> impl Iterator<Item = Self> {
        KERNELS.into_iter().filter(|kernel| kernel.is_there())
    }

    /// What [`Isa::Auto`] and [`Precision::Auto`] mean on this processor.
    ///
    /// # Errors
    /// [`NnError::Backend`] if there is no kernel for what was named, or the processor cannot run it.
    pub fn resolve(self) -> Result<Self, NnError> {
        let fits = |kernel: &Self| {
            (self.isa == Isa::Auto || self.isa == kernel.isa)
                && (self.precision == Precision::Auto || self.precision == kernel.precision)
        };
        Self::available().find(fits).ok_or_else(|| {
            NnError::Backend(match (self.isa, self.precision) {
                (isa, Precision::Auto) => format!("{isa:?}"),
                (Isa::Auto, precision) => format!("{precision:?}"),
                (isa, precision) => format!("{isa:?} with {precision:?}"),
            })
        })
    }

    fn is_there(self) -> bool {
        match (self.isa, self.precision) {
            (Isa::Amx, _) => amx::available(),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, precision) => {
                use std::arch::is_x86_feature_detected as has;
                let integers = has!("avx512bw") && has!("avx512dq") && has!("avx512vnni") && has!("f16c");
                has!("avx2") && has!("fma") && has!("avx512f") && (precision == Precision::F32 || integers)
            }
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, precision) => {
                use std::arch::is_x86_feature_detected as has;
                has!("avx2") && has!("fma") && (precision == Precision::F32 || has!("f16c"))
            }
            (isa, _) => isa == Isa::Portable,
        }
    }
}

/// What there are kernels for, the fastest first.
const KERNELS: [Backend; 6] = [
    Backend { isa: Isa::Amx, precision: Precision::Bf16 },
    Backend { isa: Isa::Avx512, precision: Precision::Int16 },
    Backend { isa: Isa::Avx2, precision: Precision::Int16 },
    Backend { isa: Isa::Avx512, precision: Precision::F32 },
    Backend { isa: Isa::Avx2, precision: Precision::F32 },
    Backend { isa: Isa::Portable, precision: Precision::F32 },
];

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ok(resolved) = self.resolve() else { return write!(f, "unavailable") };
        let isa = match resolved.isa {
            Isa::Auto | Isa::Portable => "portable",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512",
            Isa::Amx => "AMX",
        };
        let precision = match resolved.precision {
            Precision::Auto | Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int16 => "int16",
        };
        write!(f, "{isa} {precision}")
    }
}

/// A value that feature maps are stored in.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Channels of a map are padded to a multiple of this, with zeros.
    const CHANNELS: usize;
    /// Pixels of a band of rows that networks are best run in (measured with 64 channels): so many that threads share
    /// them well, and so few that its maps stay in large second-level or in last-level caches.
    const BAND: usize;
    /// Whether kernels read [`View::doubled`] ones.
    const DOUBLED: bool;
    /// What residuals are kept in.
    type Wide: Float;
    /// Whether that is the same.
    const WIDE: bool;
    /// A map as residuals are read from it: itself, or what was stored beside it in full precision.
    fn wide<'a>(map: View<'a, Self>, full: Option<View<'a, f32>>) -> View<'a, Self::Wide>;
    fn from_f32(value: f32) -> Self;
    /// # Safety
    /// As [`Vector::store`].
    unsafe fn store<V: Vector>(values: V, to: *mut Self);
    /// Weights as the kernels want them, and what else they want to know of them: see [`Conv::scales`].
    fn pack(layer: &Layer<'_>) -> (Vec<Self>, Vec<f32>);
    fn convolve(
        isa: Isa,
        conv: &Conv<Self>,
        sources: &[View<'_, Self>],
        target: &Target<'_, Self>,
        memory: &mut Memory,
    );
}

/// An [`Element`] that kernels compute with in f32.
pub trait Float: Element {
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
}

impl Float for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
}

impl Float for f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(from) }
    }
}

/// A bfloat16: the upper half of an f32.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Bf16 {
    /// Rounds to nearest, ties to even.
    #[inline(always)]
    pub fn nearest(value: f32) -> Self {
        let bits = value.to_bits();
        Self(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16)
    }
}

/// A cache line: the unit of scratch memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Line(#[allow(dead_code, reason = "read through pointers")] [f32; Self::FLOATS]);

impl Line {
    pub const FLOATS: usize = 16;
    pub const ZERO: Self = Self([0.0; Self::FLOATS]);
}

/// Scratch memory that convolutions share, one after the other.
pub type Memory = Vec<Line>;

impl Element for f32 {
    const CHANNELS: usize = 16;
    const BAND: usize = 32 << 10;
    const DOUBLED: bool = true;
    type Wide = Self;
    const WIDE: bool = true;
    fn wide<'a>(map: View<'a, Self>, _: Option<View<'a, f32>>) -> View<'a, Self> {
        map
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(values: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { values.store(to) }
    }
    fn pack(layer: &Layer<'_>) -> (Vec<Self>, Vec<f32>) {
        (layer.by_channel(), Vec::new())
    }
    fn convolve(
        isa: Isa,
        conv: &Conv<Self>,
        sources: &[View<'_, Self>],
        target: &Target<'_, Self>,
        memory: &mut Memory,
    ) {
        let kernel = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &winograd::floats::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &winograd::floats::AVX2,
            _ => &winograd::floats::PORTABLE,
        };
        // SAFETY: a backend is resolved only if the processor has its instruction set.
        unsafe { winograd::convolve(kernel, conv, sources, target, memory) }
    }
}

impl Element for f16 {
    const CHANNELS: usize = 32;
    const BAND: usize = 16 << 10;
    const DOUBLED: bool = true;
    type Wide = Self;
    const WIDE: bool = true;
    fn wide<'a>(map: View<'a, Self>, _: Option<View<'a, f32>>) -> View<'a, Self> {
        map
    }
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(values: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { values.store_f16(to) }
    }
    fn pack(layer: &Layer<'_>) -> (Vec<Self>, Vec<f32>) {
        let packed = layer.by_channel();
        let scales = winograd::integers::scales(layer, &packed);
        (packed, scales)
    }
    fn convolve(
        isa: Isa,
        conv: &Conv<Self>,
        sources: &[View<'_, Self>],
        target: &Target<'_, Self>,
        memory: &mut Memory,
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            let kernel = if isa == Isa::Avx512 { &winograd::integers::AVX512 } else { &winograd::integers::AVX2 };
            // SAFETY: a backend is resolved only if the processor has its instruction set.
            unsafe { winograd::convolve(kernel, conv, sources, target, memory) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (isa, conv, sources, target, memory);
            unreachable!("the backend is resolved only where it is available")
        }
    }
}

impl Element for Bf16 {
    const CHANNELS: usize = 32;
    const BAND: usize = 16 << 10;
    const DOUBLED: bool = false;
    type Wide = f32;
    const WIDE: bool = false;
    fn wide<'a>(_: View<'a, Self>, full: Option<View<'a, f32>>) -> View<'a, f32> {
        full.expect("kept beside each map of bfloat16 that is a residual")
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::nearest(value)
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(values: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { values.store_bf16(to) }
    }
    fn pack(layer: &Layer<'_>) -> (Vec<Self>, Vec<f32>) {
        (amx::pack(layer), Vec::new())
    }
    fn convolve(_: Isa, conv: &Conv<Self>, sources: &[View<'_, Self>], target: &Target<'_, Self>, _: &mut Memory) {
        amx::convolve(conv, sources, target);
    }
}

/// A convolution's weights as they come: `[out][in][3][3]`, its inputs spread over several maps.
pub struct Layer<'a> {
    pub weights: &'a [f32],
    pub outputs: usize,
    /// Channels of each source map, without padding.
    pub inputs: &'a [usize],
    /// The same, with padding.
    pub padded_inputs: &'a [usize],
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

    /// `[group of 16 outputs][source][channel][tap][16]`.
    fn by_channel<T: Element>(&self) -> Vec<T> {
        let mut packed = Vec::with_capacity(self.padded_outputs * self.padded_inputs.iter().sum::<usize>() * 9);
        for group in (0..self.padded_outputs).step_by(16) {
            for (source, &channels) in self.padded_inputs.iter().enumerate() {
                for channel in 0..channels {
                    for tap in 0..9 {
                        packed.extend((group..group + 16).map(|o| T::from_f32(self.at(o, source, channel, tap))));
                    }
                }
            }
        }
        packed
    }
}

/// A convolution ready to run.
pub struct Conv<T> {
    pub outputs: usize,
    /// Outputs in the weights, a multiple of [`Element::CHANNELS`].
    pub padded_outputs: usize,
    /// Channels of each source map, with padding.
    pub inputs: Vec<usize>,
    /// All of them, without the padding of the last.
    pub depth: usize,
    pub weights: Aligned<T>,
    /// `[point][padded output]`: what an integer of a transformed weight is worth, if those are integers.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// Slope below zero, per output; 1 is no activation.
    pub slope: Vec<f32>,
}

impl<T: Element> Conv<T> {
    pub fn new(weights: &[f32], bias: &[f32], slope: &[f32], inputs: &[usize]) -> Result<Self, NnError> {
        let outputs = bias.len();
        let padded_outputs = outputs.next_multiple_of(T::CHANNELS);
        let padded_inputs: Vec<usize> = inputs.iter().map(|c| c.next_multiple_of(T::CHANNELS)).collect();
        let layer = Layer { weights, outputs, inputs, padded_inputs: &padded_inputs, padded_outputs };
        let pad = |values: &[f32], fill: f32| {
            let mut all = values.to_vec();
            all.resize(padded_outputs, fill);
            all
        };
        let (weights, scales) = T::pack(&layer);
        let before_last: usize = padded_inputs.iter().rev().skip(1).sum();
        Ok(Self {
            outputs,
            padded_outputs,
            depth: before_last + inputs.last().copied().unwrap_or_default(),
            weights: Aligned::copy(&weights)?,
            scales,
            bias: pad(bias, 0.0),
            slope: pad(slope, 1.0),
            inputs: padded_inputs,
        })
    }

    /// Computes the rows that the output's maps hold, in parallel. Rows of the sources that are not held count as
    /// zero.
    pub fn run(&self, isa: Isa, sources: &[View<'_, T>], output: Output<'_, T>, memory: &mut Memory) {
        assert_eq!(sources.len(), self.inputs.len());
        let target = Target::new(self, output);
        for (source, &channels) in sources.iter().zip(&self.inputs) {
            assert!(source.channels == channels && source.width == target.width);
        }
        T::convolve(isa, self, sources, &target, memory);
    }
}

/// Which of the instruction sets that kernels make use of this processor has.
pub fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512_vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512_bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ("amx_bf16", amx::available()),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}
