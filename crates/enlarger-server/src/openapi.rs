//! The specification, generated from the routes.

use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::openapi::{
    ContactBuilder, Info, InfoBuilder, LicenseBuilder, OpenApi, ServerBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, dialects::DIALECTS, files};

/// The groups of routes, and what each is.
const TAGS: [(&str, &str); 6] = [
    ("Console", "enlarger's own API, which the page uses."),
    ("Freepik", "The upscaler API of Freepik and Magnific, directly and as Comfy's proxy offers it."),
    ("Router", "Comfy's router: models, run directly or queued."),
    ("Images", "OpenAI's image API with LocalAI's upscaling: a form in, the enlarged image out."),
    ("Sdapi", "The upscaling of A1111's API."),
    ("Files", "Uploads and downloads."),
];

/// Routes that require credentials.
pub(crate) fn guarded() -> OpenApiRouter<App> {
    DIALECTS.iter().fold(OpenApiRouter::new(), |routes, dialect| routes.merge(dialect.routes()))
}

/// Routes that judge for themselves: the address is the right, or everybody may know.
pub(crate) fn public() -> OpenApiRouter<App> {
    DIALECTS.iter().fold(files::routes(), |routes, dialect| routes.merge(dialect.public_routes()))
}

/// The whole specification.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let mut api: OpenApi = guarded().merge(public()).into_openapi();
        api.info = info();
        // First where the document came from, so that pages that show it can try it out.
        let servers = [(".", "This server"), ("http://127.0.0.1:7788", "`enlarger serve`")];
        let server = |(url, about)| ServerBuilder::new().url(url).description(Some(about)).build();
        api.servers = Some(servers.map(server).into());
        let tag = |(name, about)| TagBuilder::new().name(name).description(Some(about)).build();
        api.tags = Some(TAGS.map(tag).into());
        let components = api.components.get_or_insert_default();
        let schemes = [
            (
                "BearerAuth",
                SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build()),
            ),
            ("ApiKey", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-KEY")))),
            ("BasicAuth", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build())),
        ];
        let none: [&str; 0] = [];
        let mut security: Vec<_> = schemes.iter().map(|(name, _)| SecurityRequirement::new(*name, none)).collect();
        security.push(SecurityRequirement::default());
        api.security = Some(security);
        components.security_schemes.extend(schemes.map(|(name, scheme)| (name.to_owned(), scheme.into())));
        let mut value = serde_json::to_value(api).expect("a specification is plain data");
        for operation in operations(&mut value) {
            bytes_are_binary(operation);
            refusals_have_a_status(operation);
        }
        value
    });
    &DOCUMENT
}

fn info() -> Info {
    let repository = env!("CARGO_PKG_REPOSITORY");
    let license =
        LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE"))).build();
    InfoBuilder::new()
        .title("enlarger")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Enlarge images up to 16x on your own machine. The routes under `/v1/ai` and `/proxy/freepik/v1/ai` answer clients of \
             Magnific, Freepik and ComfyUI, those under `/v2` clients of Comfy's router, `/v1/images` those of OpenAI and LocalAI, \
             `/sdapi` those of A1111, and those under `/api` are enlarger's own.",
        ))
        .contact(Some(ContactBuilder::new().name(Some("enlarger")).url(Some(repository)).build()))
        .license(Some(license))
        .build()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    paths.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut())
}

/// Files have no schema of their own, and generators want one: a string of bytes.
fn bytes_are_binary(operation: &mut Value) {
    if let Some(body) = operation.get_mut("requestBody") {
        describe_bytes(body);
    }
    for response in operation["responses"].as_object_mut().into_iter().flat_map(|responses| responses.values_mut()) {
        describe_bytes(response);
    }
}

fn describe_bytes(body: &mut Value) {
    for (media_type, content) in body.get_mut("content").and_then(Value::as_object_mut).into_iter().flatten() {
        if media_type == "application/octet-stream" || media_type.starts_with("image/") {
            content["schema"] = json!({ "type": "string", "format": "binary" });
        }
    }
}

/// Where only `default` says what a refusal looks like, generators and linters miss the statuses.
fn refusals_have_a_status(operation: &mut Value) {
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    if let Some(any) = responses.get("default").cloned()
        && !responses.keys().any(|status| status.starts_with('4'))
    {
        responses.insert("4XX".to_owned(), any);
    }
}
