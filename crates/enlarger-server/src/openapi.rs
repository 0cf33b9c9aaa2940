//! The specification, generated from the routes.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use utoipa::openapi::{
    OpenApi,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, comfy, console, files, magnific};

/// Routes that ask for credentials.
pub(crate) fn guarded() -> OpenApiRouter<Arc<App>> {
    let [first, second] = magnific::PREFIXES;
    OpenApiRouter::new()
        .nest(first, magnific::routes())
        .nest(second, magnific::routes())
        .nest("/v1/ai", magnific::alias_routes())
        .merge(comfy::routes())
        .merge(console::routes())
}

/// Routes that judge for themselves: the address is the right, or everybody may know.
pub(crate) fn public() -> OpenApiRouter<Arc<App>> {
    files::routes::routes().merge(console::public_routes())
}

/// The whole specification.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let mut api: OpenApi = guarded().merge(public()).into_openapi();
        api.info.title = "enlarger".into();
        api.info.version = env!("CARGO_PKG_VERSION").into();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = api.components.get_or_insert_default();
        components.security_schemes.insert("BearerAuth".into(), SecurityScheme::Http(bearer).into());
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-KEY")));
        components.security_schemes.insert("ApiKey".into(), key.into());
        let none: [&str; 0] = [];
        api.security = Some(vec![
            SecurityRequirement::new("BearerAuth", none),
            SecurityRequirement::new("ApiKey", none),
            SecurityRequirement::default(),
        ]);
        let mut value = serde_json::to_value(api).expect("a specification is plain data");
        name_operations_once(&mut value);
        value
    });
    &DOCUMENT
}

/// The routes under the second prefix are the same functions; their names must not be.
fn name_operations_once(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (_, item) in paths.iter_mut().filter(|(path, _)| path.starts_with("/v1/ai/image-upscaler")) {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            if let Some(name) = operation["operationId"].as_str().map(|name| format!("{name}V1")) {
                operation["operationId"] = name.into();
            }
        }
    }
}

/// The specification of some paths only.
pub(crate) fn only_paths(wanted: impl Fn(&str) -> bool) -> Value {
    let mut document = document().clone();
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|path, _| wanted(path));
    }
    document
}
