//! What stands for `gpu` in builds without it.

use std::sync::Arc;

use super::survey::Survey;
use crate::{
    device::{Device, Precision},
    error::NnError,
};

/// There is none.
///
/// # Errors
/// [`NnError::NoGpu`], always.
pub fn named(text: &str, _: Arc<dyn Device>, _: Option<u64>, _: Precision) -> Result<Arc<dyn Device>, NnError> {
    Err(NnError::NoGpu { asked: text.to_owned(), there: Vec::new() })
}

/// The CPU.
///
/// # Errors
/// None.
pub fn faster(cpu: Arc<dyn Device>, _: Option<u64>, _: Precision) -> Result<Arc<dyn Device>, NnError> {
    Ok(cpu)
}

/// Nothing.
pub fn survey(_: &Arc<dyn Device>) -> Survey {
    Survey::default()
}
