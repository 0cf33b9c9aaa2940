//! The dialect of Comfy: storage for uploads, and its router's catalogue and queue.

mod catalogue;
mod queue;
mod storage;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, error::ApiError};

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(storage::create_storage))
        .routes(routes!(storage::request_urls))
        .routes(routes!(catalogue::list_models))
        .routes(routes!(catalogue::model_schema))
        .routes(routes!(queue::run))
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
fn known(owner: &str, model: &str) -> Result<(), RouterError> {
    if (owner, model) == (OWNER, MODEL) {
        return Ok(());
    }
    let message = format!("there is no model {owner}/{model} here");
    let error = ApiError::new(axum::http::StatusCode::NOT_FOUND, "model_not_found", message);
    Err(error.hint(format!("the only one is {OWNER}/{MODEL}")).into())
}

/// An error as Comfy's router tells it: the usual body, and `detail` and `error_type` for its clients.
pub(crate) struct RouterError(ApiError);

impl<E: Into<ApiError>> From<E> for RouterError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for RouterError {
    fn into_response(self) -> Response {
        let detail = self.0.message.clone();
        let error_type = self.0.bucket.or(self.0.code).unwrap_or("internal_error");
        let (parts, body) = self.0.into_response().into_parts();
        // The body was made a moment ago, in memory.
        let with_detail = async move {
            let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
            let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            value["detail"] = detail.into();
            value["error_type"] = error_type.into();
            value
        };
        let value = futures_util::FutureExt::now_or_never(with_detail).unwrap_or_default();
        let mut response = (parts.status, axum::Json(value)).into_response();
        for (name, value) in &parts.headers {
            if name != axum::http::header::CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}
