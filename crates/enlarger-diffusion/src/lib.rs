//! Stable Diffusion, image to image: checkpoints that people have on disk, run without Python.
//!
//! This is a library only. The networks compute what diffusers computes with the same weights
//! (`tests/`); how results of real checkpoints look, nobody has judged here.
//!
//! # The way of a picture
//!
//! The [VAE](vae) makes latents of pixels, an eighth as wide and high, of four channels. Noise is added, as much as the schedule
//! of the [sampler] begins with: the *denoising strength*. Then the [UNet](unet) is asked a few times what part of the
//! latents is noise, told by a text what the picture shows, and the sampler takes it away bit by bit. It is asked twice at each
//! step, with the prompt and with the negative prompt; *guidance* says how far to go from one to the other. A
//! [ControlNet](unet::ControlNet) looks at the original and corrects the UNet from inside, so that the result keeps to it. The VAE
//! makes pixels of the clean latents. [`engine`] does all this.
//!
//! The text is cut by [`prompt`] into weighted pieces and chunks of 75 tokens, which [`clip`] encodes. [LoRAs](lora) are added to
//! weights when those are read.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path, sync::Arc};
//!
//! use enlarger_diffusion::{
//!     clip::{Clip, END},
//!     cpu::Cpu,
//!     engine::{Conditioning, Model, Prompted, Request, control_weights, run},
//!     family::Checkpoint,
//!     file::Safetensors,
//!     layers::Heads,
//!     noise::Noise,
//!     ops::Activation,
//!     prompt::{Tokenizer, encode},
//!     sampler::{Sampler, Schedule, evaluations},
//!     tiles::{Tiles, Whole},
//!     unet::{ControlNet, Unet, heads},
//!     vae::Vae,
//!     weights::{Part, Weights},
//! };
//!
//! # fn main() -> enlarger_diffusion::Result<()> {
//! let ops = Cpu::default();
//! let checkpoint = Checkpoint::open(Path::new("sd15.safetensors"))?;
//! let control = Arc::new(Safetensors::open(Path::new("control_v11f1e_sd15_tile.safetensors"))?);
//! let control = Weights::new(&control, "", Part::Unet);
//!
//! let clip = Clip::load(&ops, &checkpoint.text, Activation::QuickGelu, Heads::Width(64))?;
//! let tokenizer = Tokenizer::default();
//! let text = |prompt: &str| -> enlarger_diffusion::Result<Conditioning> {
//!     let chunks = tokenizer.chunks(prompt, clip.width(), END)?;
//!     let encoded = encode(&ops, &clip, &chunks, 0, true)?;
//!     Ok(Conditioning { hidden: encoded.hidden, width: clip.width(), added: None })
//! };
//! let model = Model {
//!     unet: Unet::load(&ops, &checkpoint.unet, heads(&checkpoint.unet))?,
//!     prediction: checkpoint.prediction,
//!     vae: Vae::load(&ops, &checkpoint.vae, checkpoint.family.latent_scale())?,
//!     control: Some(ControlNet::load(&ops, &control, heads(&control))?),
//! };
//! let pixels = vec![0.5; 512 * 512 * 3];
//! let picture = Whole { pixels: &pixels, width: 512 };
//! let request = Request {
//!     pixels: &picture,
//!     width: 512,
//!     height: 512,
//!     prompt: &text("a stone wall, (moss:1.2)")?,
//!     negative: &text("blurry")?,
//!     guidance: 6.0,
//!     sampler: Sampler::Dpmpp2m,
//!     schedule: &Schedule::karras(18, evaluations(18, 0.35)?)?,
//!     noise: &Noise::new(1337).latents(64, 64),
//!     step_seed: 1338,
//!     control: Some((&picture, &control_weights(13, 0.6, 0.825))),
//!     tiles: &Tiles { side: 64, overlap: 16, shifts: Vec::new(), wrap: false },
//! };
//! let networks = Prompted::new(&model, ops, &request)?;
//! let result = run(&networks, &request, &mut |_| ControlFlow::Continue(()))?;
//! # assert_eq!(result.len(), pixels.len());
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! | | knows |
//! |---|---|
//! | [`file`](mod@file), [`array`](mod@array) | safetensors: a header that is checked, arrays in their own number format |
//! | [`family`] | what a file is, by its header; where the parts of a checkpoint are |
//! | [`names`] | LDM, OpenCLIP and old diffusers names, to one naming inside |
//! | [`weights`], [`lora`] | arrays of one network, by name, with LoRAs added |
//! | [`ops`] | sixteen operations that a device has; [`cpu`] has them on the CPU, `gpu` on a graphics card |
//! | [`layers`], [`unet`], [`vae`], [`clip`] | networks over any [`ops::Ops`] |
//! | [`prompt`], [`sampler`], [`noise`] | text, schedules and noise: no network |
//! | [`tiles`] | large pictures, tile by tile |
//! | [`engine`] | image to image |
//! | [`ladder`] | a device that goes on where another fails |
//! | [`bundle`] | files that make a model together: whether they fit, what they cost, loading them |
//! | [`cost`] | operations and bytes, from shapes |
//!
//! # What is not here
//!
//! Inpainting, `.ckpt` and `.pt` files, and 16-bit arithmetic on the CPU (weights stay in 16 or 8 bits and are widened
//! when they are used).
//!
//! `benches/diffusion.py` compares speed and memory with onnxruntime and torch; see docs/reference/performance.md.
//!
//! # To add a device
//!
//! A type that implements [`ops::Ops`]. The networks are generic over it; `tests/` name the CPU, and say what to reach. Networks are told of cancelling
//! by the device, which answers [`Error::Cancelled`] from its next operation on.

// Kernels index several arrays by one variable; iterators would hide which values belong together.
#![allow(clippy::needless_range_loop)]

pub mod array;
pub mod bundle;
pub mod clip;
pub mod cost;
pub mod cpu;
mod delta;
pub mod engine;
mod error;
pub mod family;
pub mod file;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod ladder;
pub mod layers;
pub mod lora;
pub mod names;
mod needs;
pub mod noise;
pub mod ops;
pub mod prompt;
pub mod sampler;
mod shapes;
pub mod tiles;
pub mod unet;
mod union;
pub mod vae;
pub mod weights;

pub use error::{Error, Result};
