//! Super-resolution networks: architectures, the devices they run on, and enlarging an image of any size.
//!
//! ```
//! use std::{ops::ControlFlow, path::Path, sync::Mutex};
//!
//! use enlarger_nn::{Backend, Network, RunOptions, Sink, Source, arch::detect, pool, upscale, weights};
//!
//! /// Eight grey pixels square.
//! struct Grey;
//!
//! impl Source for Grey {
//!     fn width(&self) -> u32 {
//!         8
//!     }
//!     fn height(&self) -> u32 {
//!         8
//!     }
//!     fn read(&self, _x: u32, _y: u32, _w: u32, _h: u32, rgb: &mut [f32]) {
//!         rgb.fill(0.5);
//!     }
//! }
//!
//! /// Counts the pixels of the result.
//! struct Count(Mutex<u32>);
//!
//! impl Sink for Count {
//!     fn write(&self, _x: u32, _y: u32, w: u32, h: u32, _rgb: &[f32]) {
//!         *self.0.lock().unwrap() += w * h;
//!     }
//! }
//!
//! # fn main() -> Result<(), enlarger_nn::NnError> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/weights/animevideo-v3.safetensors");
//! let (architecture, weights) = weights::read(Path::new(file)).and_then(detect)?;
//! assert_eq!(architecture.to_string(), "Compact 4x, 16 convolutions, 64 features");
//! let device = Backend::default().find()?;
//! let network = Network::build(architecture, &weights, &*device)?;
//!
//! let result = Count(Mutex::default());
//! let progress = |_| ControlFlow::Continue(());
//! pool(2)?.install(|| upscale(&network, &Grey, &result, &RunOptions::default(), &progress))?;
//! assert_eq!(*result.0.lock().unwrap(), 32 * 32);
//! # Ok(())
//! # }
//! ```
//!
//! # The words
//!
//! An image is cut into **strips** (columns as high as the image) where it is too wide for the feature maps to fit in memory.
//! A strip sees a **halo** of pixels to its left and right, which its neighbours compute too. Most images are one strip.
//!
//! A network runs down a strip in **bands** of rows. A convolution looks one row ahead, so in each band it computes rows that
//! are one higher up than those of the layer before it: the **skew**. It remembers the last rows of its source for the next
//! band (a **history**), so no row is computed twice, and nothing is cut between bands: there are no seams, and the result is
//! that of the whole strip. Memory grows with the width of a strip and not with its height.
//!
//! # The parts
//!
//! | | knows |
//! |---|---|
//! | [`weights`] | files: safetensors, PyTorch, ncnn |
//! | [`arch`] | the architectures, one line each: how their files are recognised, and their layers |
//! | [`devices`] | the devices, one line each: what this machine can run networks on |
//! | [`Model`] | one network on one device |
//! | `cpu` | what all architectures share on the CPU: bands, input, loading of layers |
//! | `kernels` | convolutions on the CPU; no network |
//! | `devices::gpu` | graphics cards, which run the graph of any architecture |
//!
//! What is true of a network anywhere (scale, halo, layers) is its [`Architecture`]. What a [`Device`] adds (how wide a strip
//! may be, and running) is a [`Model`]. A [`Network`] is both. What a user asks for is a [`Backend`]; a [`Device`] is
//! found, and is proof that it works: the instruction sets of the CPU are tokens that exist only where it has them.
//!
//! # To add an architecture
//!
//! A file or folder in `arch/` with a [`Family`], and its line in the list of `arch/mod.rs`. The family recognises files and
//! reads sizes from the shapes of their arrays. The sizes are an [`Architecture`], which describes its layers by a [`Graph`].
//! Names of arrays, the number of operations and graphs of ncnn are read from that. For the CPU it has code of its own, which is
//! why it is fast: `arch/compact.rs` is the model to follow.
//!
//! # To add a device
//!
//! A file or folder in `devices/` that implements [`Device`], and its line in the list of `devices/mod.rs`. A device other than
//! the CPU runs the [`Graph`] of an architecture, so that each new architecture runs on it without further work. Where that is
//! too slow for one, it recognises the graph's parts (a dense block is a [`Node::Concat`] that grows) rather than the architecture.

// Kernels index several arrays by one variable; iterators would hide which values belong together.
#![allow(clippy::needless_range_loop)]

pub mod arch;
mod architecture;
mod cpu;
mod device;
pub mod devices;
mod error;
mod graph;
mod kernels;
mod model;
mod network;
mod probe;
mod strips;
mod tensor;
pub mod weights;

pub use architecture::{Architecture, Family};
pub use cpu::CpuKernels;
pub use device::{Arithmetic, Device, Health, Precision};
pub use devices::{Backend, GpuChoice};
pub use error::NnError;
pub use graph::{ConvLayer, Graph, Id, Millionths, Node};
pub use kernels::{dense, isa::cpu_features};
pub use model::{Emit, Model, Report, Strip};
pub use network::Network;
pub use probe::grey;
pub use strips::{RunOptions, RunProgress, Sink, Source, pool, upscale};
pub use tensor::{StateDict, Tensor};
