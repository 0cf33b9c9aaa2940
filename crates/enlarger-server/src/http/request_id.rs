//! Every request has an id that is returned with the response and logged.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that is being answered, if one is.
pub(crate) fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// Gives every request an id that is returned with the response and logged.
pub(crate) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    // The path only: queries of file URLs contain signatures.
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    if method == Method::GET && response.status().is_success() {
        // Clients poll.
        tracing::debug!(%method, path, status, ms, id);
    } else {
        tracing::info!(%method, path, status, ms, id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        for name in ["x-request-id", "x-comfy-request-id"] {
            response.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    response
}
