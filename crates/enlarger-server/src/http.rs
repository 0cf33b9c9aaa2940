//! The HTTP server itself: connections, time limits, request ids, and how a client reached us.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use uuid::Uuid;

use crate::{app::App, auth::credentials, config::Config, error::ApiError};

/// Seconds until a request's head must be complete; also how long an idle connection is kept.
const HEAD_SECONDS: u64 = 15;
/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 4096;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that is being answered.
pub(crate) fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_else(|_| Uuid::new_v4().simple().to_string())
}

/// Gives every request an id that comes back with the answer and stands in the log.
pub(crate) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    // The path only: queries of file addresses carry signatures.
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

/// Gives a request the path that routes know.
pub(crate) fn with_plain_path(config: &Config, mut request: Request) -> Request {
    let uri = request.uri();
    let path = plain_path(uri.path(), &public_path(config));
    if path != uri.path() {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(uri) = format!("{path}{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// A path without what clients and proxies add when they join addresses: doubled slashes, a slash at the end, and the prefix of the
/// public URL, which comes with every request (no proxy, or one that keeps it) or with none.
fn plain_path(path: &str, prefix: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !plain.ends_with('/') {
            plain.push(c);
        }
    }
    if let Some(rest) = plain.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        plain = rest.to_owned();
    }
    // The page about the API is a folder: its files are found by the slash.
    if !plain.starts_with("/docs/") {
        plain.truncate(plain.trim_end_matches('/').len());
    }
    if plain.is_empty() { "/".to_owned() } else { plain }
}

fn public_path(config: &Config) -> String {
    let url = url::Url::parse(&config.public_url).ok();
    url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// The address by which this client reaches us, without a slash at its end.
pub(crate) fn base_url(config: &Config, headers: &HeaderMap) -> String {
    if !config.public_url.is_empty() {
        return config.public_url.trim_end_matches('/').to_owned();
    }
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        // Proxies append; the first is what the client used.
        Some(value.split(',').next().unwrap_or_default().trim())
    };
    let forwarded = |name: &str| text(name).filter(|_| config.trust_forwarded);
    let host = forwarded("x-forwarded-host").or(text("host")).and_then(|host| host.parse::<Authority>().ok());
    let host = host.filter(|host| !host.as_str().contains('@')).map(|host| host.to_string());
    let scheme = forwarded("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
    let plain =
        |path: &&str| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
    let prefix = forwarded("x-forwarded-prefix").filter(plain).unwrap_or("").trim_end_matches('/');
    format!("{scheme}://{}{prefix}", host.unwrap_or_else(|| config.listen.to_string()))
}

/// Refuses what a web page on another site might make a browser send: anything to a server that asks for no credentials, and
/// to any other what a browser adds credentials to by itself.
pub(crate) async fn guard_browsers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let refused = if !app.auth.required() {
        foreign_host(&app.config, headers).or_else(|| foreign_origin(&app.config, headers))
    } else if credentials::is_basic(headers) {
        foreign_origin(&app.config, headers)
    } else {
        None
    };
    match refused {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

/// Lets pages of the configured sites call us from a browser. Credentials travel in headers, never in cookies.
pub(crate) fn cors(config: &Config) -> Option<CorsLayer> {
    let origins = Some(&config.cors_origin).filter(|origins| !origins.is_empty())?;
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    let told = [
        "retry-after",
        "idempotent-replayed",
        "x-comfy-estimated-duration-seconds",
        "x-comfy-estimated-duration-p90-seconds",
        "x-comfy-estimate-source",
        "x-comfy-error-type",
        "x-request-id",
    ];
    let layer = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(told.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600));
    Some(layer)
}

/// A name that an attacker's DNS points at us would make his page our own ("DNS rebinding").
fn foreign_host(config: &Config, headers: &HeaderMap) -> Option<ApiError> {
    if !config.listen.ip().is_loopback() || !config.public_url.is_empty() || config.trust_forwarded {
        return None;
    }
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = host.parse::<Authority>().ok()?.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let ours = name == "localhost"
        || name.ends_with(".localhost")
        || !name.contains('.')
        || name.parse::<std::net::IpAddr>().is_ok();
    (!ours).then(|| {
        ApiError::forbidden("this server is not known by that name")
            .hint("call it by its address, or start it with --public-url")
    })
}

/// Browsers name the page that sends a request; only our own page and configured ones may change anything.
fn foreign_origin(config: &Config, headers: &HeaderMap) -> Option<ApiError> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    let page = url::Url::parse(origin).ok();
    let authority = |url: &url::Url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", url.host_str().unwrap_or_default())
    };
    let ours = page.is_some_and(|page| {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let public = url::Url::parse(&config.public_url).ok();
        host.is_some_and(|host| host == authority(&page)) || public.is_some_and(|url| url.origin() == page.origin())
    });
    let configured = config.cors_origin.iter().any(|allowed| allowed == "*" || allowed == origin);
    (!ours && !configured).then(|| {
        ApiError::forbidden("pages of other sites may not use this server").hint("allow the site with --cors-origin")
    })
}

/// Serves until told to stop, then lets running requests end within `grace`.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Duration) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("it is never closed");
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: connections must end before there is room for new ones.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEAD_SECONDS));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::plain_path;

    #[test]
    fn paths_lose_what_joining_adds_and_nothing_else() {
        for (path, plain) in [
            ("/v1/ai/image-upscaler", "/v1/ai/image-upscaler"),
            ("/v1/ai/image-upscaler/", "/v1/ai/image-upscaler"),
            ("//v1/ai//image-upscaler//", "/v1/ai/image-upscaler"),
            ("/", "/"),
            ("//", "/"),
            ("/docs/api/", "/docs/api/"),
            ("/api/models/a%2Fb/", "/api/models/a%2Fb"),
        ] {
            assert_eq!(plain_path(path, ""), plain);
        }
        for (path, plain) in [
            ("/enlarger/health", "/health"),
            ("/enlarger//health/", "/health"),
            ("/enlarger", "/"),
            ("/enlarger/", "/"),
            ("/health", "/health"),
            ("/enlargers/health", "/enlargers/health"),
        ] {
            assert_eq!(plain_path(path, "/enlarger"), plain);
        }
    }
}
