//! Convolutions from named arrays.

use crate::{
    error::NnError,
    kernels::{Conv, Element},
    tensor::{StateDict, Tensor},
};

/// The slope below zero: one for all outputs, or one for each.
pub enum Slope {
    Same(f32),
    Each(Vec<f32>),
}

/// An array by name.
///
/// # Errors
/// [`NnError::Weights`] if it is missing.
pub fn tensor<'a>(weights: &'a StateDict, name: &str) -> Result<&'a Tensor, NnError> {
    weights.0.get(name).ok_or_else(|| NnError::Weights(format!("{name} is missing")))
}

/// Packs the convolution `name` for a kernel; `inputs` are the channels of each map that it reads.
///
/// # Errors
/// [`NnError::Weights`] if an array is missing or has another shape.
pub fn conv<T: Element>(
    kernel: T::Kernel,
    weights: &StateDict,
    name: &str,
    inputs: &[usize],
    slope: Slope,
) -> Result<Conv<T>, NnError> {
    let filters = tensor(weights, &format!("{name}.weight"))?;
    let bias = tensor(weights, &format!("{name}.bias"))?;
    let (all, outputs) = (inputs.iter().sum::<usize>(), bias.data.len());
    if filters.shape != [outputs, all, 3, 3] || filters.data.len() != outputs * all * 9 || outputs == 0 || outputs > 256
    {
        return Err(NnError::Weights(format!(
            "{name} has shape {:?} and {outputs} biases; expected [1 to 256, {all}, 3, 3]",
            filters.shape
        )));
    }
    let slope = match slope {
        Slope::Same(slope) => vec![slope; outputs],
        Slope::Each(slopes) if slopes.len() == outputs => slopes,
        Slope::Each(slopes) => {
            return Err(NnError::Weights(format!("{name} has {outputs} outputs and {} slopes", slopes.len())));
        }
    };
    Conv::new(kernel, &filters.data, &bias.data, &slope, inputs)
}
