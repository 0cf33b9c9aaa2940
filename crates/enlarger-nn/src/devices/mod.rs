//! The devices that networks run on: one line each.

mod cpu;

use std::sync::Arc;

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

/// What this machine can run networks on, the fastest first.
pub fn available() -> impl Iterator<Item = Arc<dyn Device>> {
    DEVICES.iter().flat_map(|(_, find)| find())
}

/// The device that a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    /// A device by name, see [`Backend::names`]; `None` is the fastest.
    pub device: Option<String>,
    /// The arithmetic.
    pub precision: Precision,
}

impl Backend {
    /// The names of all kinds of devices, whether this machine has them or not.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in DEVICES {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    }

    /// The fastest device that satisfies the request.
    ///
    /// # Errors
    /// [`NnError::Backend`] if this machine has none.
    pub fn find(&self) -> Result<Arc<dyn Device>, NnError> {
        let asked = |name: &str| self.device.as_ref().is_none_or(|asked| asked == name);
        let named = DEVICES.iter().filter(|(name, _)| asked(name)).flat_map(|(_, find)| find());
        named.into_iter().find(|device| self.precision.allows(device.arithmetic())).ok_or_else(|| {
            let precision = match self.precision {
                Precision::Auto => None,
                Precision::F32 => Some("f32"),
                Precision::Bf16 => Some("bf16"),
                Precision::Int16 => Some("int16"),
            };
            NnError::Backend(match (&self.device, precision) {
                (Some(device), Some(precision)) => format!("{device} with {precision}"),
                (Some(device), None) => device.clone(),
                (None, precision) => precision.unwrap_or("any device").to_owned(),
            })
        })
    }
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
            };
            let found = Backend { device: Some(device.name().to_owned()), precision }.find().expect("available");
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
            Backend { device: Some(device.into()), precision }.find().expect_err("not there").to_string()
        };
        assert_eq!(asked("abacus", Precision::Auto), "this machine does not support abacus");
        assert_eq!(asked("portable", Precision::Bf16), "this machine does not support portable with bf16");
        assert_eq!(asked("amx", Precision::Int16), "this machine does not support amx with int16");
    }
}
