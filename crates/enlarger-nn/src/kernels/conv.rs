//! A convolution, ready to run.

use super::{
    element::{Element, Kernel},
    finish::{Output, Target},
    map::View,
    memory::Scratch,
    packed::{Layer, Packed},
};
use crate::error::NnError;

/// A 3x3 convolution with bias and activation, packed for a kernel.
pub struct Conv<T: Element> {
    kernel: T::Kernel,
    packed: Packed<T>,
}

impl<T: Element> Conv<T> {
    /// Packs `[out][in][3][3]` weights, a bias and a slope below zero per output (1 where there is no activation), for a kernel.
    /// `inputs` are the channels of each map that is read.
    ///
    /// # Errors
    /// [`NnError::Memory`] if there is not enough for the weights.
    pub fn new(
        kernel: T::Kernel,
        weights: &[f32],
        bias: &[f32],
        slope: &[f32],
        inputs: &[usize],
    ) -> Result<Self, NnError> {
        let layer = Layer { weights, bias, slope, inputs, multiple: T::CHANNELS };
        let (weights, scales) = kernel.pack(&layer);
        Ok(Self { kernel, packed: Packed::new(&layer, &weights, scales)? })
    }

    /// Channels of the result.
    pub fn outputs(&self) -> usize {
        self.packed.outputs
    }

    /// Memory of the weights.
    pub fn bytes(&self) -> usize {
        self.packed.weights.len() * size_of::<T>()
    }

    /// Computes the rows that the output's maps hold, in parallel. Rows that the sources do not hold count as zero.
    pub fn run(&self, sources: &[View<'_, T>], output: Output<'_, T>, scratch: &mut Scratch) {
        let conv = &self.packed;
        assert_eq!(sources.len(), conv.inputs.len());
        let target = Target::new(conv.outputs, &conv.bias, &conv.slope, output);
        for (source, &channels) in sources.iter().zip(&conv.inputs) {
            assert!(source.channels == channels && source.width == target.width);
        }
        self.kernel.convolve(conv, sources, &target, scratch);
    }
}
