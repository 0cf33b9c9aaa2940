//! Named arrays of weights.

use std::collections::BTreeMap;

use crate::error::NnError;

/// A dense array in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, the slowest first: `[out, in, 3, 3]` for a convolution.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub data: Vec<f32>,
}

/// All arrays of a network by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateDict(pub BTreeMap<String, Tensor>);

impl StateDict {
    /// The shape of a convolution's weights: four sizes, none of them 0.
    ///
    /// # Errors
    /// [`NnError::Weights`] if there is no such array.
    pub(crate) fn conv_shape(&self, name: &str) -> Result<&[usize], NnError> {
        match self.0.get(name) {
            Some(t) if t.shape.len() == 4 && !t.shape.contains(&0) => Ok(&t.shape),
            Some(t) => {
                Err(NnError::Weights(format!("{name} has shape {:?}; a convolution needs four dimensions", t.shape)))
            }
            None => Err(NnError::Weights(format!("{name} is missing"))),
        }
    }
}

/// The largest weights file that is read: ten times the largest community network of a supported kind.
pub const MAX_BYTES: u64 = 1 << 30;

/// The number of values in a shape, `None` if it overflows or is more than any file could hold.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    let n = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))?;
    (n as u64 <= MAX_BYTES / 2).then_some(n)
}
