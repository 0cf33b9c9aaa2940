//! The dialect of Comfy: storage for uploads, and its router's catalogue and queue.

mod catalogue;
mod errors;
mod queue;
mod storage;

use std::sync::Arc;

use axum::http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    error::{ApiError, ApiResult},
};
pub(crate) use errors::in_routers_form;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(storage::create_storage))
        .routes(routes!(storage::request_urls))
        .routes(routes!(storage::list_uploads))
        .routes(routes!(catalogue::list_models))
        .routes(routes!(catalogue::get_model, queue::run))
        .routes(routes!(catalogue::model_schema))
        .routes(routes!(queue::submit_request))
        .routes(routes!(queue::status))
        .routes(routes!(queue::result))
        .routes(routes!(queue::cancel))
}

/// The one model of the catalogue.
const OWNER: &str = "freepik";
const MODEL: &str = "ai-image-upscaler-precision-v2";

/// # Errors
/// 404 for any other model.
fn known(owner: &str, model: &str) -> ApiResult<()> {
    if (owner, model) == (OWNER, MODEL) {
        return Ok(());
    }
    let message = format!("there is no model {owner}/{model} here; the only one is {OWNER}/{MODEL}");
    Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message))
}
