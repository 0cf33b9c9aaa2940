//! The devices that networks run on: one line each.

mod choice;
mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "no_gpu.rs"]
pub mod gpu;
mod memory;
mod survey;

use std::sync::Arc;

pub use choice::GpuChoice;
pub use memory::Memory;
pub use survey::{Survey, Surveyed};

use crate::{
    device::{Device, Precision},
    error::NnError,
};

/// The name of a kind of device, and a function that finds those of this machine.
type Kind = (&'static str, fn() -> Vec<Arc<dyn Device>>);

/// The fastest first. The portable one is always there, so what comes after it is used only where it is named.
const DEVICES: &[Kind] = &[
    ("amx", cpu::amx_bf16),
    ("avx512", cpu::avx512_int16),
    ("avx2", cpu::avx2_int16),
    ("avx512", cpu::avx512_f32),
    ("avx2", cpu::avx2_f32),
    ("portable", cpu::portable_f32),
];

/// What this machine's CPU can run networks on, the fastest first.
pub fn available() -> impl Iterator<Item = Arc<dyn Device>> {
    DEVICES.iter().flat_map(|(_, find)| find())
}

/// The device that a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    /// A CPU device by name, see [`Backend::names`]; `None` is the fastest.
    pub device: Option<String>,
    /// The arithmetic.
    pub precision: Precision,
    /// A GPU to use instead; the CPU then is what goes on if it fails.
    pub gpu: GpuChoice,
    /// Bytes of a GPU's memory that may be used; `None` is a share of what it has.
    pub gpu_memory: Option<u64>,
}

impl Backend {
    /// The names of all kinds of CPU devices, whether this machine has them or not.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in DEVICES {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    }

    /// The fastest device that satisfies the request. Loads drivers if it may be a GPU.
    ///
    /// # Errors
    /// As [`Self::find_all`].
    pub fn find(&self) -> Result<Arc<dyn Device>, NnError> {
        Ok(self.find_all()?.swap_remove(0))
    }

    /// All devices that satisfy the request: the GPUs, or the CPU if there is none to use. Loads drivers if it may be GPUs.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn find_all(&self) -> Result<Vec<Arc<dyn Device>>, NnError> {
        let survey = match &self.gpu {
            GpuChoice::None => Survey::default(),
            GpuChoice::Named(_) => gpu::list(),
            GpuChoice::Auto | GpuChoice::All => gpu::survey(&self.cpu(self.precision)?, &Survey::default()),
        };
        self.open(&survey, Arc::default())
    }

    /// Opens the GPUs of a survey that satisfy the request, the fastest first, or the CPU if there is none to use. What they learn
    /// of themselves is remembered.
    ///
    /// # Errors
    /// [`NnError::Backend`] if this machine has no such device, [`NnError::NoGpu`] and [`NnError::ManyGpus`] if a name is not one
    /// GPU's, [`NnError::Device`] if a GPU does not open.
    pub fn open(&self, survey: &Survey, memory: Arc<Memory>) -> Result<Vec<Arc<dyn Device>>, NnError> {
        let cpu = self.cpu(self.precision)?;
        let chosen = match &self.gpu {
            GpuChoice::Auto | GpuChoice::All if !self.may_choose_gpu() => Vec::new(),
            GpuChoice::Named(text) if !on_gpu(self.precision) => {
                return Err(NnError::Backend(format!("{text} with {}", self.precision.name())));
            }
            choice => survey.choose(choice)?,
        };
        if chosen.is_empty() {
            return Ok(vec![cpu]);
        }
        gpu::open(survey, &chosen, &cpu, self.gpu_memory, self.precision, &memory)
    }

    /// Whether the choice of a GPU is left to the program and it may choose one: who names an instruction set, or arithmetic that only
    /// CPUs have, asks for the CPU.
    pub fn may_choose_gpu(&self) -> bool {
        self.device.is_none() && on_gpu(self.precision)
    }

    fn cpu(&self, precision: Precision) -> Result<Arc<dyn Device>, NnError> {
        let asked = |name: &str| self.device.as_ref().is_none_or(|asked| asked == name);
        let named = DEVICES.iter().filter(|(name, _)| asked(name)).flat_map(|(_, find)| find());
        named.into_iter().find(|device| precision.allows(device.arithmetic())).ok_or_else(|| {
            let precision = (precision != Precision::Auto).then(|| precision.name());
            NnError::Backend(match (&self.device, precision) {
                (Some(device), Some(precision)) => format!("{device} with {precision}"),
                (Some(device), None) => device.clone(),
                (None, precision) => precision.unwrap_or("any device").to_owned(),
            })
        })
    }
}

/// Whether GPUs have such arithmetic.
fn on_gpu(precision: Precision) -> bool {
    matches!(precision, Precision::Auto | Precision::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Arithmetic;

    #[test]
    fn what_is_available_is_found_by_its_name_and_precision() {
        for device in available() {
            let precision = match device.arithmetic() {
                Arithmetic::F32 => Precision::F32,
                Arithmetic::Bf16 => Precision::Bf16,
                Arithmetic::Int16 => Precision::Int16,
                Arithmetic::F16 => panic!("only GPUs have it"),
            };
            let asked = Backend { device: Some(device.name().to_owned()), precision, ..Backend::default() };
            let found = asked.find().expect("available");
            assert_eq!((found.name(), found.arithmetic()), (device.name(), device.arithmetic()));
            assert!(Backend::names().contains(&device.name()));
        }
    }

    #[test]
    fn the_fastest_comes_first_and_the_portable_one_is_always_there() {
        let fastest = available().next().expect("the portable one");
        assert_eq!(Backend::default().find().expect("the fastest").to_string(), fastest.to_string());
        let portable = Backend { device: Some("portable".into()), ..Backend::default() }.find().expect("always there");
        assert_eq!(portable.to_string(), "portable f32");
    }

    #[test]
    fn what_is_not_there_is_named_in_the_error() {
        let asked = |device: &str, precision| {
            Backend { device: Some(device.into()), precision, ..Backend::default() }
                .find()
                .expect_err("not there")
                .to_string()
        };
        assert_eq!(asked("abacus", Precision::Auto), "this machine does not support abacus");
        assert_eq!(asked("portable", Precision::Bf16), "this machine does not support portable with bf16");
        assert_eq!(asked("amx", Precision::Int16), "this machine does not support amx with int16");
    }
}
