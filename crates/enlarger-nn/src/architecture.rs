//! What an architecture provides. The list of them is in [`crate::arch`].

use std::fmt::{Debug, Display};

use crate::{cpu::CpuKernels, error::NnError, graph::Graph, model::Model, tensor::StateDict};

/// A network without its weights: an architecture with its sizes. `Display` names it with its sizes in a few words.
pub trait Architecture: Debug + Display + Send + Sync {
    /// How many times as wide and high the result is.
    fn scale(&self) -> u32;

    /// Colours that the network reads and outputs: 1 or 3.
    fn channels(&self) -> usize;

    /// Sides of strips are multiples of this.
    fn alignment(&self) -> usize {
        1
    }

    /// Pixels to the left and right of a strip that it must see for its result to equal the uncut one within 1/255.
    /// Above and below, nothing is cut.
    fn halo(&self) -> u32;

    /// What it computes, for any device.
    fn graph(&self) -> Graph;

    /// Packs weights for kernels of the CPU, which run it by code of its own: fused, in bands of rows.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture needs.
    fn on_cpu(&self, kernels: CpuKernels, weights: &StateDict) -> Result<Box<dyn Model>, NnError>;
}

/// All networks of an architecture: how their files are recognised.
pub trait Family: Sync {
    /// How messages call it.
    fn name(&self) -> &'static str;

    /// The name of the first array, under each naming: where one of these is, a network begins.
    fn first_arrays(&self) -> &'static [&'static str];

    /// Whether a file's arrays are those of such a network, under any naming.
    fn recognises(&self, weights: &StateDict) -> bool;

    /// Gives arrays their canonical names.
    ///
    /// # Errors
    /// [`NnError::Weights`] if arrays are missing, or there are two of one name.
    fn canonical(&self, weights: StateDict) -> Result<StateDict, NnError> {
        Ok(weights)
    }

    /// Reads the sizes from the shapes of arrays with canonical names.
    ///
    /// # Errors
    /// [`NnError::Weights`] if arrays are missing, [`NnError::Architecture`] if the sizes are not supported.
    fn sizes(&self, weights: &StateDict) -> Result<Box<dyn Architecture>, NnError>;

    /// Reads the sizes from the graph of a file whose arrays have no names; `None` if it clearly belongs to another
    /// network. Comparing it with [`Architecture::graph`] shows whether it is this one, layer by layer.
    ///
    /// # Errors
    /// [`NnError::Architecture`] if the sizes are not supported.
    fn sizes_of_graph(&self, _graph: &Graph) -> Result<Option<Box<dyn Architecture>>, NnError> {
        Ok(None)
    }
}
