//! What a browser may be made to send by pages of other sites, and what those may read.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, header, uri},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::{authority::Authority, credentials};
use crate::{config::Config, http::ApiError};

/// Refuses what a web page on another site might make a browser send: any request to a server without credentials, and
/// otherwise requests to which a browser adds credentials by itself.
pub(crate) async fn guard_browsers(
    State(auth): State<Arc<Authority>>,
    State(config): State<Arc<Config>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let refused = if !auth.required() {
        foreign_host(&config, headers).or_else(|| foreign_origin(&config, headers))
    } else if credentials::is_basic(headers) {
        foreign_origin(&config, headers)
    } else {
        None
    };
    match refused {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

/// Allows pages of the configured sites to call us from a browser. Credentials travel in headers, never in cookies.
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

/// A name that an attacker's DNS points at us would make the attacker's page same-origin ("DNS rebinding").
fn foreign_host(config: &Config, headers: &HeaderMap) -> Option<ApiError> {
    if !config.listen.ip().is_loopback() || !config.public_url.is_empty() || config.trust_forwarded {
        return None;
    }
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = host.parse::<uri::Authority>().ok()?.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let ours = name == "localhost"
        || name.ends_with(".localhost")
        || !name.contains('.')
        || name.parse::<std::net::IpAddr>().is_ok();
    (!ours).then(|| {
        ApiError::forbidden("this server is not configured for that host name")
            .hint("use its IP address, or start the server with --public-url")
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
        ApiError::forbidden("pages on other sites may not use this server").hint(
            "allow the site with \
            --cors-origin",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_name_that_is_not_ours_does_not_lead_to_a_local_server() {
        let local = Config::default();
        for (host, foreign) in [
            ("127.0.0.1:7788", false),
            ("[::1]:7788", false),
            ("localhost", false),
            ("a.localhost:1", false),
            ("mybox", false),
            ("evil.example", true),
            ("127.0.0.1.evil.example:7788", true),
        ] {
            assert_eq!(foreign_host(&local, &headers(&[(header::HOST, host)])).is_some(), foreign, "{host}");
        }
        let behind_proxy = Config { trust_forwarded: true, ..Config::default() };
        assert!(foreign_host(&behind_proxy, &headers(&[(header::HOST, "evil.example")])).is_none());
    }

    #[test]
    fn only_our_own_page_and_configured_ones_may_change_anything() {
        let config = Config {
            public_url: "https://a.example/x".into(),
            cors_origin: vec!["https://friend.example".into()],
            ..Config::default()
        };
        for (origin, foreign) in [
            ("http://inner:7788", false),
            ("https://a.example", false),
            ("https://friend.example", false),
            ("http://inner:7789", true),
            ("http://a.example", true),
            ("https://friend.example.evil", true),
            ("null", true),
        ] {
            let sent = headers(&[(header::HOST, "inner:7788"), (header::ORIGIN, origin)]);
            assert_eq!(foreign_origin(&config, &sent).is_some(), foreign, "{origin}");
        }
        assert!(
            foreign_origin(&config, &headers(&[(header::HOST, "inner:7788")])).is_none(),
            "programs send no origin"
        );
    }
}
