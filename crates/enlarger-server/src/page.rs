//! The web page and the page about the API. Both are inside the binary and ask no other host for anything.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};
use tower_http::{compression::CompressionLayer, set_header::SetResponseHeaderLayer};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    app::App,
    http::{ApiError, ApiResult, Path},
};

/// What `npm run build` made of `web/`. Empty when the binary was built without it.
#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Dist;

/// Scripts, styles and requests are our own; a picture may also come from memory. Nothing may frame the page.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    font-src 'self'; connect-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";
/// The page about the API is not ours, and writes styles into itself.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
/// Names of files under `assets/` change with what is in them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The routes.
pub(crate) fn routes() -> Router<App> {
    let page = Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/icon.svg", get(|| async { file("icon.svg") }))
        .route("/assets/{file}", get(|Path(name): Path<String>| async move { file(&format!("assets/{name}")) }))
        .route("/samples/{file}", get(|Path(name): Path<String>| async move { file(&format!("samples/{name}")) }))
        .layer(header(header::CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .layer(header(header::HeaderName::from_static("permissions-policy"), "camera=(self), clipboard-write=(self)"));
    // Relative, because the service may be reached under a path.
    let docs = SwaggerUi::new("/docs/api").config(Config::new(["../../openapi.json"]).try_it_out_enabled(true));
    let docs = Router::from(docs).layer(header(header::CONTENT_SECURITY_POLICY, DOCS_POLICY));
    page.merge(docs)
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "same-origin"))
        .layer(CompressionLayer::new())
}

fn header(name: header::HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

fn file(name: &str) -> ApiResult<Response> {
    let missing = || match name {
        "index.html" => ApiError::not_found().hint("this binary was built without the page; run `make build`"),
        _ => ApiError::not_found(),
    };
    let EmbeddedFile { data, .. } = Dist::get(name).ok_or_else(missing)?;
    let caching = if name.starts_with("assets/") { FOR_EVER } else { "no-cache" };
    Ok(([(header::CONTENT_TYPE, media_type(name)), (header::CACHE_CONTROL, caching.to_owned())], data).into_response())
}

fn media_type(name: &str) -> String {
    let media_type = mime_guess::from_path(name).first_or_octet_stream();
    if media_type.type_() == mime_guess::mime::TEXT {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_page_are_what_their_names_say() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("assets/index-3f.js", "text/javascript; charset=utf-8"),
            ("assets/index-3f.css", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
            ("samples/a.webp", "image/webp"),
            ("assets/a.woff2", "font/woff2"),
            ("manifest.json", "application/json"),
            ("LICENSE", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name), expected, "{name}");
        }
    }
}
