//! Number formats with the kernels that compute in them.

use half::{bf16, f16};

use super::{
    amx,
    finish::Target,
    isa::AmxBf16,
    map::View,
    memory::Scratch,
    packed::{Layer, Packed},
    value::{Float, Value},
    winograd::Winograd,
};

/// A [`Value`] for which there are kernels.
pub trait Element: Value {
    /// Channels of a map are padded to a multiple of this, with zeros.
    const CHANNELS: usize;
    /// Pixels of a band of rows that networks run best in (measured with 64 channels): enough for threads to share the
    /// work well, and few enough for its maps to stay in large second-level or in last-level caches.
    const BAND: usize;
    /// Whether kernels read [`View::upsampled`] views.
    const READS_UPSAMPLED: bool;
    /// A kernel that this CPU can run.
    type Kernel: Kernel<Self>;
}

impl Element for f32 {
    const CHANNELS: usize = 16;
    const BAND: usize = 32 << 10;
    const READS_UPSAMPLED: bool = true;
    type Kernel = Winograd<Self>;
}

impl Element for f16 {
    const CHANNELS: usize = 32;
    const BAND: usize = 16 << 10;
    const READS_UPSAMPLED: bool = true;
    type Kernel = Winograd<Self>;
}

impl Element for bf16 {
    const CHANNELS: usize = 32;
    const BAND: usize = 16 << 10;
    const READS_UPSAMPLED: bool = false;
    type Kernel = AmxBf16;
}

/// Computes convolutions.
pub trait Kernel<T>: Copy + Send + Sync {
    /// Weights as it wants them, and their scales: see [`Packed::scales`].
    fn pack(self, layer: &Layer<'_>) -> (Vec<T>, Vec<f32>);
    /// Computes the target's rows, in parallel.
    fn convolve(self, conv: &Packed<T>, sources: &[View<'_, T>], target: &Target<'_, T>, scratch: &mut Scratch)
    where
        T: Value;
}

impl<T: Float> Kernel<T> for Winograd<T> {
    fn pack(self, layer: &Layer<'_>) -> (Vec<T>, Vec<f32>) {
        let packed = layer.by_channel();
        let scales = self.scales(layer, &packed);
        (packed, scales)
    }

    fn convolve(self, conv: &Packed<T>, sources: &[View<'_, T>], target: &Target<'_, T>, scratch: &mut Scratch) {
        self.run(conv, sources, target, scratch);
    }
}

impl Kernel<bf16> for AmxBf16 {
    fn pack(self, layer: &Layer<'_>) -> (Vec<bf16>, Vec<f32>) {
        (amx::pack(layer), Vec::new())
    }

    fn convolve(self, conv: &Packed<bf16>, sources: &[View<'_, bf16>], target: &Target<'_, bf16>, _: &mut Scratch) {
        amx::convolve(self, conv, sources, target);
    }
}
