//! What stands for `gpu` in builds without it.

use std::sync::Arc;

use super::{Memory, Survey, Surveyed};
use crate::{
    device::{Device, Precision},
    error::NnError,
};

/// There is none.
///
/// # Errors
/// [`NnError::Device`], always: no survey has cards.
pub fn open(
    _: &Survey,
    _: &[&Surveyed],
    _: &Arc<dyn Device>,
    _: Option<u64>,
    _: Precision,
    _: &Arc<Memory>,
) -> Result<Vec<Arc<dyn Device>>, NnError> {
    Err(NnError::Device("this build has no support for GPUs".into()))
}

/// Nothing.
pub fn list() -> Survey {
    Survey::default()
}

/// Nothing.
pub fn survey(_: &Arc<dyn Device>, _: &Survey) -> Survey {
    Survey::default()
}

/// Nothing.
pub fn took_over(_: &dyn Device, _: &str) {}
