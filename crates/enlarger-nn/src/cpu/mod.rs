//! What architectures share when they run on the CPU: bands of rows, their input, and loading of layers.

mod bands;
mod input;
mod layers;

use half::{bf16, f16};

pub use bands::Bands;
pub use input::Input;
pub use layers::{Slope, conv, tensor};

use crate::{
    error::NnError,
    kernels::{AmxBf16, Element, Winograd},
    model::Model,
    tensor::StateDict,
};

/// Kernels that this CPU can run, in one kind of arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct CpuKernels(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    F32(Winograd<f32>),
    Int16(Winograd<f16>),
    Bf16(AmxBf16),
}

/// A network whose code is written once for all number formats of maps.
pub trait OnCpu {
    /// Packs weights for a kernel.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture needs.
    fn load<T: Element>(&self, kernel: T::Kernel, weights: &StateDict) -> Result<Box<dyn Model>, NnError>;
}

impl CpuKernels {
    pub(crate) fn f32(kernel: Winograd<f32>) -> Self {
        Self(Kind::F32(kernel))
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn int16(kernel: Winograd<f16>) -> Self {
        Self(Kind::Int16(kernel))
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn bf16(kernel: AmxBf16) -> Self {
        Self(Kind::Bf16(kernel))
    }

    /// Packs a network's weights for these kernels.
    pub(crate) fn load(self, network: &impl OnCpu, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        match self.0 {
            Kind::F32(kernel) => network.load::<f32>(kernel, weights),
            Kind::Int16(kernel) => network.load::<f16>(kernel, weights),
            Kind::Bf16(kernel) => network.load::<bf16>(kernel, weights),
        }
    }
}

/// Bytes that a network's weights, its feature maps and its history of rows may take. With all else that a process needs,
/// 400 MB are not exceeded.
const MEMORY: usize = 310 << 20;
/// Columns that a strip always has, whatever the memory: narrower ones would be mostly halo.
const LEAST: usize = 256;

/// The widest strip for a network that takes `fixed` bytes and so many more for each column of its feature maps, each of
/// which is `alignment` pixels of the image.
pub fn widest(fixed: usize, bytes_per_column: usize, alignment: usize) -> u32 {
    let columns = MEMORY.saturating_sub(fixed) / bytes_per_column;
    (columns.max(LEAST) * alignment).min(u32::MAX as usize) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_is_as_wide_as_memory_allows_and_never_too_narrow() {
        assert_eq!(widest(0, 1 << 20, 1), 310);
        assert_eq!(widest(10 << 20, 1 << 20, 4), 1200);
        assert_eq!(widest(400 << 20, 1 << 20, 2), 512, "the least, whatever the weights take");
        assert_eq!(widest(0, 100 << 20, 1), 256);
    }
}
