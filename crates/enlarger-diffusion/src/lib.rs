#![allow(missing_docs)]
pub mod array;
pub mod clip;
pub mod cpu;
mod error;
pub mod file;
pub mod layers;
pub mod lora;
pub mod names;
pub mod ops;
pub mod unet;
pub mod vae;
pub mod weights;
pub use error::{Error, Result};
