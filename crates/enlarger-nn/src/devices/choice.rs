//! Which GPU to use.

use std::{convert::Infallible, str::FromStr};

/// Which GPU a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// None; no driver is loaded.
    #[default]
    None,
    /// The fastest one, if it is measured to be faster than the CPU, and never a software renderer.
    Auto,
    /// All that are measured to be faster than the CPU, and no software renderers.
    All,
    /// `pci:` and the end of an address, or part of a name; or several of them with commas.
    Named(String),
}

impl FromStr for GpuChoice {
    type Err = Infallible;

    /// `auto`, `all`, `none`, or what [`Self::Named`] has.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "all" => Self::All,
            "none" | "" => Self::None,
            name => Self::Named(name.to_owned()),
        })
    }
}
