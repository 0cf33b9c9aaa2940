//! Named arrays of weights.

use std::collections::BTreeMap;

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
