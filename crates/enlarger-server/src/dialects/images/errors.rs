//! Errors in OpenAI's form: an object `error`. The rest of the usual body stands beside it.

use axum::{http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{ApiError, InvalidParam, common_errors, reworded};

/// Prefix of all routes of this API.
pub(super) const ROUTES: &str = "/v1/images/";

common_errors!(ImagesErrorBody, ImagesCallerErrors, ImagesReadErrors, ImagesWriteErrors);

/// An error of the image API.
#[derive(Serialize, ToSchema)]
pub(crate) struct ImagesErrorBody {
    error: ImagesError,
    /// Human-readable message.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
    /// All invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    invalid_params: Vec<InvalidParam>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ImagesError {
    /// Human-readable message, with what to do about it.
    message: String,
    /// The kind of error.
    r#type: &'static str,
    /// The first invalid field.
    #[schema(required)]
    param: Option<String>,
    /// Machine-readable code.
    #[schema(required)]
    code: Option<&'static str>,
}

/// Rewrites an error of these routes in OpenAI's form, wherever in this server it arose.
pub(super) fn in_openais_form(path: &str, response: Response) -> Response {
    reworded(ROUTES, path, response, body)
}

fn body(error: &ApiError) -> ImagesErrorBody {
    let ApiError { message, hint, invalid, .. } = error.clone();
    let hinted = hint.as_ref().map_or_else(|| message.clone(), |hint| format!("{message}. Hint: {hint}"));
    let param = invalid.first().map(|param| param.name.clone());
    let code = error.exact.or(error.code);
    let error = ImagesError { message: hinted, r#type: kind(error.status), param, code };
    ImagesErrorBody { error, message, hint, invalid_params: invalid }
}

/// The types that OpenAI's clients know.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}
