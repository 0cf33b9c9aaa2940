//! Errors on the wire: a superset of what known clients read, so that each of them shows a message.

use axum::{
    Json,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use enlarger_error::Explained;
use enlarger_image::ImageError;
use enlarger_pipeline::PipelineError;
use enlarger_service::Error as ServiceError;
use enlarger_tasks::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// The error's bucket, for clients of the queue dialect.
pub(crate) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-comfy-error-type");

/// An invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvalidParam {
    /// The field.
    pub name: String,
    /// Why, without the field's name: "must be between -10 and 10".
    pub reason: String,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FreepikErrorResponse)]
pub struct ErrorBody {
    /// Machine-readable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// The exact error, such as `image_truncated`, where `error` only names a family. If there are several, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<&'static str>,
    /// Human-readable message.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
    /// All invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub invalid_params: Vec<InvalidParam>,
    /// The same error, where some clients expect it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<Problem>,
    /// Quote this when contacting the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
}

/// The same error again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Human-readable message.
    pub message: String,
    /// All invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub invalid_params: Vec<InvalidParam>,
}

/// Why a request failed.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    /// `None` for the internal error, whose body is only a message.
    pub(crate) code: Option<&'static str>,
    /// Where that names a family of errors, which of them it is.
    pub(crate) exact: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) invalid: Vec<InvalidParam>,
    pub(crate) retry_after: Option<u64>,
    /// The bucket, if it differs from the code.
    pub(crate) bucket: Option<&'static str>,
}

/// The result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (message, code) = (message.into(), Some(code));
        Self { status, code, exact: None, message, hint: None, invalid: Vec::new(), retry_after: None, bucket: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With hint and exact code of what is behind it.
    fn explained(self, error: &dyn Explained) -> Self {
        let exact = Some(error.exact_code()).filter(|exact| self.code.is_some_and(|code| code != *exact));
        Self { hint: error.hint().map(Into::into), exact, ..self }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    /// All invalid fields at once. There must be at least one.
    pub(crate) fn invalid(invalid: Vec<InvalidParam>) -> Self {
        let sentences: Vec<String> = invalid.iter().map(|param| format!("{} {}", param.name, param.reason)).collect();
        let mut error = Self::new(StatusCode::BAD_REQUEST, "invalid_params", sentences.join("; "));
        error.invalid = invalid;
        error.bucket = Some("invalid_input");
        error
    }

    pub(crate) fn field(name: &str, reason: impl Into<String>) -> Self {
        Self::invalid(vec![InvalidParam { name: name.into(), reason: reason.into() }])
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { bucket: Some("invalid_input"), ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not Found")
    }

    pub(crate) fn no_task() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Task not found")
    }

    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message).hint(
            "create a key with `enlarger keys create NAME` and send it as X-API-KEY, as a Bearer token or as the \
             password of HTTP Basic",
        )
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(crate) fn too_large(megabytes: u64) -> Self {
        let message = format!("the body is larger than {megabytes} MB");
        Self { bucket: Some("invalid_input"), ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message) }
            .hint("send a smaller file, or upload it first and send its URL")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message);
        error.retry_after(5)
    }

    /// An unusable picture, as an error of the field `image`.
    pub(crate) fn picture(error: &ImageError) -> Self {
        Self::field("image", format!("cannot be used: {error}")).explained(error)
    }

    /// Hides the details from the client and logs them.
    #[track_caller]
    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        let place = std::panic::Location::caller();
        tracing::error!(%why, %place, "internal error");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { code: None, bucket: Some("internal_error"), ..Self::new(status, "", "Internal Server Error") }
    }
}

impl ApiError {
    /// The body of the response.
    pub(crate) fn body(&self) -> ErrorBody {
        let problem =
            self.code.map(|_| Problem { message: self.message.clone(), invalid_params: self.invalid.clone() });
        ErrorBody {
            error: self.code.map(str::to_owned),
            code: self.exact,
            message: self.message.clone(),
            hint: self.hint.clone(),
            invalid_params: self.invalid.clone(),
            problem,
            request_id: (self.status == StatusCode::INTERNAL_SERVER_ERROR)
                .then(super::request_id::request_id)
                .flatten(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(bucket) = self.bucket.or(self.code) {
            response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(bucket));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Basic is accepted but not requested: a browser would open its own dialog over the page.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // A dialect with another form of errors builds it from this.
        response.extensions_mut().insert(self);
        response
    }
}

/// An error that arose on routes with this prefix, wherever in this server, with the body that their API has for it.
pub(crate) fn reworded<B: Serialize>(
    prefix: &str,
    path: &str,
    response: Response,
    body: impl Fn(&ApiError) -> B,
) -> Response {
    let error = response.extensions().get::<ApiError>().filter(|_| path.starts_with(prefix));
    match error.map(body) {
        Some(body) => with_json(response, &body),
        None => response,
    }
}

/// A response with another body, of JSON.
pub(crate) fn with_json(response: Response, body: &impl Serialize) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(serde_json::to_vec(body).unwrap_or_default()))
}

impl From<StoreError> for ApiError {
    #[track_caller]
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "the task database is not available");
            return Self::unavailable("the server cannot use its database at the moment");
        }
        Self::internal(error)
    }
}

impl From<std::io::Error> for ApiError {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        // The last two: somebody has taken away the storage, or this service's rights to it.
        let refused = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied);
        if enlarger_blobs::is_transient(&error) || refused {
            tracing::error!(%error, "files cannot be read or stored now");
            return Self::unavailable("the server cannot read or store files at the moment");
        }
        Self::internal(error)
    }
}

impl From<ServiceError> for ApiError {
    #[track_caller]
    fn from(error: ServiceError) -> Self {
        let code = error.code();
        let refused = match error {
            ServiceError::NoTask => return Self::no_task(),
            ServiceError::Store(error) => return error.into(),
            ServiceError::Files(error) => return error.into(),
            ServiceError::Internal(why) => return Self::internal(why),
            ServiceError::QueueFull(limit) => {
                let bucket = Some(if limit.of_owner { "concurrency_limit_exceeded" } else { "rate_limited" });
                Self { bucket, ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, error.to_string()) }
            }
            ServiceError::IdempotencyInFlight | ServiceError::IdempotencyMismatch => {
                Self::conflict(code, error.to_string())
            }
        };
        let retry_after = error.retry_after().map(|pause| pause.as_secs().max(1));
        Self { retry_after, ..refused.explained(&error) }
    }
}

impl From<PipelineError> for ApiError {
    fn from(error: PipelineError) -> Self {
        if !error.is_the_generators() {
            return Self::bad_request(error.code(), error.to_string()).explained(&error);
        }
        let told = Self::unavailable(error.to_string()).explained(&error);
        // Trying again does not help until somebody changes something.
        if error.is_retryable() { told } else { Self { retry_after: None, ..told } }
    }
}
