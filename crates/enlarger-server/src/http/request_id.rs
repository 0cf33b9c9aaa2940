//! Every request has an id that is returned with the response and logged, and is counted.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use enlarger_service::metrics::Metrics;
use uuid::Uuid;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that is being answered, if one is.
pub(crate) fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// Gives every request an id that is returned with the response and logged, and counts it.
pub(crate) async fn with_request_id(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = std::time::Instant::now();
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    // The path only: queries of file URLs contain signatures.
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let ms = took.as_millis() as u64;
    // Whoever asks for what is not there chooses neither how many metrics there are nor what they are called.
    metrics.request(known(&method), route.as_ref().map_or("other", MatchedPath::as_str), status, took);
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

fn known(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|name| method == name).unwrap_or("other")
}
