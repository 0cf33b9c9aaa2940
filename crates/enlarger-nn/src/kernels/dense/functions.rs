//! Functions of single values, and normalisations.

use super::{
    dispatch::{Dense, Task},
    math::{Math, exp, gelu, load_some, silu, store_some},
};
use crate::kernels::vector::Vector;

/// Functions of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// e^x.
    Exp,
    /// x sigmoid(x).
    Silu,
    /// x sigmoid(1.702 x).
    QuickGelu,
    /// x Phi(x).
    Gelu,
}

/// Vector by vector, from where `f` is told to where.
#[inline(always)]
fn each<V: Vector>(count: usize, mut f: impl FnMut(usize, usize)) {
    for at in (0..count).step_by(V::LANES) {
        f(at, V::LANES.min(count - at));
    }
}

struct Apply<'a> {
    function: Function,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Task for Apply<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { from, to, function } = self;
        macro_rules! all {
            ($f:expr) => {
                each::<V>(to.len(), |at, count| {
                    // SAFETY: the slices are equally long; the caller has V's instructions.
                    unsafe {
                        store_some::<V>(
                            $f(load_some::<V>(from.as_ptr().add(at), count)),
                            to.as_mut_ptr().add(at),
                            count,
                        )
                    }
                })
            };
        }
        match function {
            Function::Exp => all!(|x| exp(x)),
            Function::Silu => all!(|x| silu(x, 1.0)),
            Function::QuickGelu => all!(|x| silu(x, 1.702)),
            Function::Gelu => all!(|x| gelu(x)),
        }
    }
}

struct Gate<'a> {
    values: &'a [f32],
    gates: &'a [f32],
    to: &'a mut [f32],
}

impl Task for Gate<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        each::<V>(self.to.len(), |at, count| {
            // SAFETY: the slices are equally long; the caller has V's instructions.
            unsafe {
                let value = load_some::<V>(self.values.as_ptr().add(at), count);
                let gate = load_some::<V>(self.gates.as_ptr().add(at), count);
                store_some(value.mul(gelu(gate)), self.to.as_mut_ptr().add(at), count);
            }
        });
    }
}

struct Sums<'a> {
    pixels: &'a [f32],
    sums: &'a mut [[f64; 2]],
}

impl Task for Sums<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        // Side by side, as the compiler makes vectors of them.
        let channels = self.sums.len();
        let (mut sums, mut squares) = (vec![0f64; channels], vec![0f64; channels]);
        for pixel in self.pixels.chunks_exact(channels) {
            for ((sum, square), &v) in sums.iter_mut().zip(&mut squares).zip(pixel) {
                let v = f64::from(v);
                *sum += v;
                *square += v * v;
            }
        }
        for (to, (sum, square)) in self.sums.iter_mut().zip(sums.into_iter().zip(squares)) {
            *to = [sum, square];
        }
    }
}

struct ScaleShift<'a> {
    from: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    silu: bool,
    to: &'a mut [f32],
}

impl Task for ScaleShift<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { from, scale, shift, .. } = self;
        let channels = scale.len();
        for (to, from) in self.to.chunks_exact_mut(channels).zip(from.chunks_exact(channels)) {
            each::<V>(channels, |at, count| {
                // SAFETY: all have as many channels; the caller has V's instructions.
                unsafe {
                    let x = load_some::<V>(from.as_ptr().add(at), count);
                    let scale = load_some::<V>(scale.as_ptr().add(at), count);
                    let y = load_some::<V>(shift.as_ptr().add(at), count).fma(x, scale);
                    store_some(if self.silu { silu(y, 1.0) } else { y }, to.as_mut_ptr().add(at), count);
                }
            });
        }
    }
}

struct LayerNorm<'a> {
    from: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    eps: f32,
    to: &'a mut [f32],
}

impl Task for LayerNorm<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        /// Sums side by side, as the compiler makes vectors of them.
        const LANES: usize = 16;
        let channels = self.scale.len();
        for (to, from) in self.to.chunks_exact_mut(channels).zip(self.from.chunks_exact(channels)) {
            let mut sums = [0f64; LANES];
            for piece in from.chunks(LANES) {
                for (sum, &v) in sums.iter_mut().zip(piece) {
                    *sum += f64::from(v);
                }
            }
            let mean = sums.iter().sum::<f64>() / channels as f64;
            let mut squares = [0f64; LANES];
            for piece in from.chunks(LANES) {
                for (square, &v) in squares.iter_mut().zip(piece) {
                    let v = f64::from(v) - mean;
                    *square += v * v;
                }
            }
            let variance = squares.iter().sum::<f64>() / channels as f64;
            let (mean, over) = (mean as f32, (1.0 / (variance + f64::from(self.eps)).sqrt()) as f32);
            for (((to, &v), &scale), &shift) in to.iter_mut().zip(from).zip(self.scale).zip(self.shift) {
                *to = (v - mean) * over * scale + shift;
            }
        }
    }
}

impl Dense {
    /// A function of each value.
    ///
    /// # Panics
    /// If the slices are not equally long, here and below.
    pub fn apply(self, function: Function, from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len(), to.len());
        self.run(Apply { function, from, to });
    }

    /// `values` times GELU of `gates`.
    pub fn gate(self, values: &[f32], gates: &[f32], to: &mut [f32]) {
        assert!(values.len() == to.len() && gates.len() == to.len());
        self.run(Gate { values, gates, to });
    }

    /// The sum of each channel's values, and of their squares.
    pub fn sums(self, pixels: &[f32], sums: &mut [[f64; 2]]) {
        assert!(!sums.is_empty() && pixels.len().is_multiple_of(sums.len()));
        self.run(Sums { pixels, sums });
    }

    /// `x * scale + shift` for each channel, and SiLU of it if asked for.
    pub fn scale_shift(self, from: &[f32], scale: &[f32], shift: &[f32], silu: bool, to: &mut [f32]) {
        assert!(from.len() == to.len() && scale.len() == shift.len() && !scale.is_empty());
        self.run(ScaleShift { from, scale, shift, silu, to });
    }

    /// Normalises the channels of each pixel: `(x - mean) / sqrt(variance + eps) * scale + shift`.
    pub fn layer_norm(self, from: &[f32], scale: &[f32], shift: &[f32], eps: f32, to: &mut [f32]) {
        assert!(from.len() == to.len() && scale.len() == shift.len() && !scale.is_empty());
        self.run(LayerNorm { from, scale, shift, eps, to });
    }
}
