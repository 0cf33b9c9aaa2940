//! The one model that the router runs.

use axum::http::StatusCode;

use crate::http::{ApiError, ApiResult};

pub(super) const OWNER: &str = "freepik";
pub(super) const MODEL: &str = "ai-image-upscaler-precision-v2";

/// # Errors
/// 404 for any other model.
pub(super) fn known(owner: &str, model: &str) -> ApiResult<()> {
    if (owner, model) == (OWNER, MODEL) {
        return Ok(());
    }
    let message = format!("there is no model {owner}/{model}; this server has only {OWNER}/{MODEL}");
    Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message))
}
