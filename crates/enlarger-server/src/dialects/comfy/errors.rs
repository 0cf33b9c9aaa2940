//! Errors in the form of Comfy's router: `detail` and `error_type` for what concerns the request, and a list
//! of `detail`s with status 422 for fields of the model's input. The usual body surrounds them.

use axum::{
    http::{HeaderValue, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{ApiError, ERROR_TYPE, ErrorBody, InvalidParam, common_errors, with_json};

/// The types of error that clients know; the list is closed.
const TYPES: [&str; 15] = [
    "invalid_input",
    "content_policy_violation",
    "provider_error",
    "provider_timeout",
    "insufficient_credits",
    "model_not_found",
    "unauthorized",
    "forbidden",
    "concurrency_limit_exceeded",
    "client_disconnected",
    "internal_error",
    "deadline_exceeded",
    "not_enabled",
    "service_unavailable",
    "rate_limited",
];
/// Prefix of all routes of the router.
const ROUTES: &str = "/v2/";

common_errors!(RouterErrorBody, RouterCallerErrors, RouterReadErrors, RouterWriteErrors);

/// An error of the router's routes that concerns the whole request.
#[derive(Serialize, ToSchema)]
pub(crate) struct RouterErrorBody {
    /// Human-readable message.
    detail: String,
    /// Machine-readable code from a closed list; also in the header `X-Comfy-Error-Type`.
    error_type: &'static str,
    #[serde(flatten)]
    usual: ErrorBody,
}

/// Invalid fields of the model's input.
#[derive(Serialize, ToSchema)]
pub(crate) struct RouterValidationErrorBody {
    detail: Vec<FieldError>,
    #[serde(flatten)]
    usual: ErrorBody,
}

/// An invalid field.
#[derive(Serialize, ToSchema)]
struct FieldError {
    /// Location: `body` and the field's name.
    loc: Vec<String>,
    /// Human-readable message.
    msg: String,
    /// `missing` or `value_error`.
    r#type: &'static str,
}

/// Rewrites an error of the router's routes in its own form, wherever in this server it arose.
pub(super) fn in_routers_form(path: &str, response: Response) -> Response {
    match response.extensions().get::<ApiError>().cloned() {
        Some(error) if path.starts_with(ROUTES) => reworded(response, &error),
        _ => response,
    }
}

fn reworded(response: Response, error: &ApiError) -> Response {
    let error_type = error_type(error);
    let fields = fields(error);
    let (status, mut response) = if fields.is_empty() {
        let body = RouterErrorBody { detail: error.message.clone(), error_type, usual: error.body() };
        (error.status, with_json(response, &body))
    } else {
        let detail = fields.into_iter().map(field_error).collect();
        let body = RouterValidationErrorBody { detail, usual: error.body() };
        (StatusCode::UNPROCESSABLE_ENTITY, with_json(response, &body))
    };
    *response.status_mut() = status;
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error_type));
    response
}

/// The fields of the model's input among the invalid ones.
fn fields(error: &ApiError) -> Vec<&InvalidParam> {
    let elsewhere = ["Idempotency-Key", "cursor", "limit"];
    error.invalid.iter().filter(|param| !elsewhere.contains(&param.name.as_str())).collect()
}

fn field_error(param: &InvalidParam) -> FieldError {
    let InvalidParam { name, reason } = param;
    let r#type = if reason == "is required" { "missing" } else { "value_error" };
    FieldError { loc: vec!["body".into(), name.clone()], msg: format!("{name} {reason}"), r#type }
}

/// The type of an error: its own name if clients know it, else what its status says.
fn error_type(error: &ApiError) -> &'static str {
    let known = |name: &str| TYPES.into_iter().find(|known| *known == name);
    if let Some(named) = error.bucket.and_then(known).or(error.code.and_then(known)) {
        return named;
    }
    match error.status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::REQUEST_TIMEOUT => "client_disconnected",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::SERVICE_UNAVAILABLE => "service_unavailable",
        StatusCode::GATEWAY_TIMEOUT => "deadline_exceeded",
        // Waiting and repeating the request with the same key collects the result.
        StatusCode::CONFLICT if error.code == Some("idempotency_in_flight") => "concurrency_limit_exceeded",
        status if status.is_client_error() => "invalid_input",
        _ => "internal_error",
    }
}
