//! How a client reached us, and which path it requested.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, uri::Authority},
};

use crate::config::Config;

/// How clients reach this server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BaseUrl {
    /// The configured URL; empty to use each request's headers.
    public: Arc<str>,
    trust_forwarded: bool,
    /// For requests without a Host header.
    listen: SocketAddr,
}

impl BaseUrl {
    pub fn new(config: &Config) -> Self {
        Self {
            public: config.public_url.trim_end_matches('/').into(),
            trust_forwarded: config.trust_forwarded,
            listen: *config.listen,
        }
    }

    /// The path prefix of this server, if configured.
    pub fn path(&self) -> String {
        let url = url::Url::parse(&self.public).ok();
        url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
    }

    /// The URL by which this client reaches us, without a slash at its end.
    pub fn of(&self, headers: &HeaderMap) -> String {
        if !self.public.is_empty() {
            return self.public.to_string();
        }
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            // Proxies append; the first value is what the client used.
            Some(value.split(',').next().unwrap_or_default().trim())
        };
        let forwarded = |name: &str| text(name).filter(|_| self.trust_forwarded);
        let host = forwarded("x-forwarded-host").or(text("host")).and_then(|host| host.parse::<Authority>().ok());
        let host = host.filter(|host| !host.as_str().contains('@')).map(|host| host.to_string());
        let scheme =
            forwarded("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
        let plain = |path: &&str| {
            path.starts_with('/') && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b))
        };
        let prefix = forwarded("x-forwarded-prefix").filter(plain).unwrap_or("").trim_end_matches('/');
        format!("{scheme}://{}{prefix}", host.unwrap_or_else(|| self.listen.to_string()))
    }
}

/// Rewrites a request's path to the one that routes know.
pub(crate) fn with_plain_path(base: &BaseUrl, mut request: Request) -> Request {
    let uri = request.uri();
    let path = plain_path(uri.path(), &base.path());
    if path != uri.path() {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(uri) = format!("{path}{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// A path without what clients and proxies add when they join URLs: doubled slashes, a trailing slash, and the prefix
/// of the public URL, which proxies keep or remove.
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
    // The API documentation page is a folder: its files need the slash.
    if !plain.starts_with("/docs/") {
        plain.truncate(plain.trim_end_matches('/').len());
    }
    if plain.is_empty() { "/".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

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

    /// The URLs for a client that sent these headers.
    fn told(public_url: &str, trust_forwarded: bool, headers: &[(&'static str, &str)]) -> String {
        let config = Config { public_url: public_url.into(), trust_forwarded, ..Config::default() };
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        BaseUrl::new(&config).of(&headers.collect())
    }

    #[test]
    fn urls_begin_as_the_client_reached_us() {
        assert_eq!(told("", false, &[]), "http://127.0.0.1:7788");
        assert_eq!(told("", false, &[("host", "box.local:80")]), "http://box.local:80");
        assert_eq!(told("", false, &[("host", "user@box.local")]), "http://127.0.0.1:7788", "not a host alone");
        let host = ("host", "inner:7788");
        assert_eq!(told("https://a.example/x/", false, &[host]), "https://a.example/x", "the operator knows best");
    }

    #[test]
    fn proxies_are_believed_where_the_operator_says_so() {
        let sent = [
            ("host", "inner:7788"),
            ("x-forwarded-host", "a.example, inner"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/up/"),
        ];
        assert_eq!(told("", true, &sent), "https://a.example/up");
        assert_eq!(told("", false, &sent), "http://inner:7788");
        for (name, value, expected) in [
            ("x-forwarded-proto", "javascript", "http://inner:7788"),
            ("x-forwarded-prefix", "//evil.example/%0a", "http://inner:7788"),
            ("x-forwarded-prefix", "up", "http://inner:7788"),
        ] {
            assert_eq!(told("", true, &[("host", "inner:7788"), (name, value)]), expected, "{name}: {value}");
        }
    }
}
