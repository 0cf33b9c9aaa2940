//! What a device provides. The list of them is in [`crate::devices`].

use std::{
    any::Any,
    fmt::{Debug, Display, Formatter},
};

use serde::{Deserialize, Serialize};

use crate::{architecture::Architecture, error::NnError, model::Model, tensor::StateDict};

/// Something that networks run on, in one kind of arithmetic. A value is proof that it works: only its own module makes
/// one, and only where it does.
pub trait Device: Any + Debug + Send + Sync {
    /// By which it is asked for.
    fn name(&self) -> &str;

    /// By which people know it.
    fn title(&self) -> &str;

    /// What it multiplies.
    fn arithmetic(&self) -> Arithmetic;

    /// What goes on when it fails, if it may.
    fn spare(&self) -> Option<&dyn Device> {
        None
    }

    /// How a GPU does; `None` of the CPU.
    fn health(&self) -> Option<Health> {
        None
    }

    /// Loads a network on it.
    ///
    /// # Errors
    /// [`NnError::Weights`] if an array is missing or has another shape than the architecture needs,
    /// [`NnError::Memory`] if there is not enough for the weights.
    fn load(&self, network: &dyn Architecture, weights: &StateDict) -> Result<Box<dyn Model>, NnError>;

    /// The most f32 operations per second on this many threads, a multiplication and an addition each being one, if that
    /// can be measured. Takes about 0.1 s.
    fn peak_flops(&self, _threads: usize) -> Option<f64> {
        None
    }
}

/// How a GPU does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// The interface and the driver's name and version.
    pub driver: String,
    /// The kind of kernels.
    pub kernel: &'static str,
    /// Operations per second as its work has shown; `None` before the first.
    pub rate: Option<f64>,
    /// How often it was lost since the program started.
    pub losses: u64,
    /// How often the CPU took over since then.
    pub fallbacks: u64,
    /// Why the CPU took over the last time.
    pub trouble: Option<String>,
    /// Whether the next job runs on it.
    pub in_use: bool,
}

impl Display for dyn Device + '_ {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.title(), self.arithmetic().name())
    }
}

/// What values are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// 32-bit floats.
    F32,
    /// bfloat16 products, f32 sums and residuals.
    Bf16,
    /// 16-bit floats, whose products are added up in f32.
    F16,
    /// Products of 16-bit integers, quantised tile by tile; 32-bit sums, maps in 16-bit floats.
    Int16,
}

impl Arithmetic {
    /// As [`Precision`] spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int16 => "int16",
        }
    }
}

/// The arithmetic that a user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// The fastest that there is, at least 50 dB from f32: 16-bit floats on a GPU; on the CPU bfloat16 on a matrix unit, else 16-bit integers, else f32.
    #[default]
    Auto,
    /// [`Arithmetic::F32`].
    F32,
    /// [`Arithmetic::Bf16`].
    Bf16,
    /// [`Arithmetic::Int16`].
    Int16,
}

impl Precision {
    /// As it is spelled.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => Arithmetic::F32.name(),
            Self::Bf16 => Arithmetic::Bf16.name(),
            Self::Int16 => Arithmetic::Int16.name(),
        }
    }

    /// Whether it is this one, or any will do.
    pub fn allows(self, arithmetic: Arithmetic) -> bool {
        match self {
            Self::Auto => true,
            Self::F32 => arithmetic == Arithmetic::F32,
            Self::Bf16 => arithmetic == Arithmetic::Bf16,
            Self::Int16 => arithmetic == Arithmetic::Int16,
        }
    }
}
