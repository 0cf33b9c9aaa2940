#![allow(missing_docs)]
pub mod array;
pub mod clip;
pub mod cpu;
pub mod engine;
mod error;
pub mod file;
pub mod layers;
pub mod lora;
pub mod names;
pub mod noise;
pub mod ops;
pub mod prompt;
pub mod sampler;
pub mod unet;
pub mod vae;
pub mod weights;
pub use error::{Error, Result};
