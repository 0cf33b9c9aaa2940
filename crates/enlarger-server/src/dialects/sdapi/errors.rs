//! Errors as FastAPI words them, with which A1111 is built: `detail`, and the usual body beside it.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{ApiError, ErrorBody, common_errors, reworded};

/// Prefix of all routes of this API.
pub(super) const ROUTES: &str = "/sdapi/";

common_errors!(SdapiErrorBody, SdapiCallerErrors, SdapiReadErrors, SdapiWriteErrors);

/// An error of A1111's API.
#[derive(Serialize, ToSchema)]
pub(crate) struct SdapiErrorBody {
    /// Human-readable message, with what to do about it.
    detail: String,
    #[serde(flatten)]
    usual: ErrorBody,
}

/// Rewrites an error of these routes in FastAPI's form, wherever in this server it arose.
pub(super) fn in_fastapis_form(path: &str, response: Response) -> Response {
    reworded(ROUTES, path, response, body)
}

fn body(error: &ApiError) -> SdapiErrorBody {
    let hint = error.hint.as_ref().map(|hint| format!(". Hint: {hint}")).unwrap_or_default();
    SdapiErrorBody { detail: format!("{}{hint}", error.message), usual: error.body() }
}
