//! The weights of a convolution, as they come and as kernels want them.

use super::{
    memory::{Aligned, aligned},
    value::Value,
};
use crate::error::NnError;

/// Outputs are packed in groups of this many.
pub const GROUP: usize = 16;

/// A convolution's weights as loaded: `[out][in][3][3]`, its inputs spread over several maps.
pub struct Layer<'a> {
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    /// Slope below zero, per output; 1 where there is no activation.
    pub slope: &'a [f32],
    /// Channels of each source map, without padding.
    pub inputs: &'a [usize],
    /// Channels of maps, and outputs, are padded to a multiple of this, with zeros.
    pub multiple: usize,
}

impl Layer<'_> {
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    pub fn padded_outputs(&self) -> usize {
        self.outputs().next_multiple_of(self.multiple)
    }

    pub fn padded_inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().map(|channels| channels.next_multiple_of(self.multiple))
    }

    /// One weight; 0 in the padding.
    pub fn at(&self, output: usize, source: usize, channel: usize, tap: usize) -> f32 {
        if output >= self.outputs() || channel >= self.inputs[source] {
            return 0.0;
        }
        let all: usize = self.inputs.iter().sum();
        let input = self.inputs[..source].iter().sum::<usize>() + channel;
        self.weights[(output * all + input) * 9 + tap]
    }

    /// `[group of 16 outputs][source][channel][tap][16]`.
    pub fn by_channel<T: Value>(&self) -> Vec<T> {
        let mut packed = Vec::with_capacity(self.padded_outputs() * self.padded_inputs().sum::<usize>() * 9);
        for group in (0..self.padded_outputs()).step_by(GROUP) {
            for (source, channels) in self.padded_inputs().enumerate() {
                for channel in 0..channels {
                    for tap in 0..9 {
                        packed.extend((group..group + GROUP).map(|o| T::from_f32(self.at(o, source, channel, tap))));
                    }
                }
            }
        }
        packed
    }
}

/// A convolution packed for its kernel.
pub struct Packed<T> {
    pub outputs: usize,
    pub padded_outputs: usize,
    /// Channels of each source map, with padding.
    pub inputs: Vec<usize>,
    /// All of them, without the padding of the last.
    pub depth: usize,
    pub weights: Aligned<T>,
    /// `[point][padded output]`: what one step of a quantised transformed weight stands for; empty if weights are not
    /// quantised.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    pub slope: Vec<f32>,
}

impl<T: Value> Packed<T> {
    /// # Errors
    /// [`NnError::Memory`] if there is not enough for the weights.
    pub fn new(layer: &Layer<'_>, weights: &[T], scales: Vec<f32>) -> Result<Self, NnError> {
        let pad = |values: &[f32], fill: f32| {
            let mut all = values.to_vec();
            all.resize(layer.padded_outputs(), fill);
            all
        };
        let mut kept = aligned(weights.len())?;
        kept.copy_from_slice(weights);
        let inputs: Vec<usize> = layer.padded_inputs().collect();
        let before_last: usize = inputs.iter().rev().skip(1).sum();
        Ok(Self {
            outputs: layer.outputs(),
            padded_outputs: layer.padded_outputs(),
            inputs,
            depth: before_last + layer.inputs.last().copied().unwrap_or_default(),
            weights: kept,
            scales,
            bias: pad(layer.bias, 0.0),
            slope: pad(layer.slope, 1.0),
        })
    }
}
