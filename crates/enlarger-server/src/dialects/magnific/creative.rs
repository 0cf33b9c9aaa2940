//! The creative endpoint: may add detail.

use std::borrow::Cow;

use enlarger_egress::Policy;
use enlarger_pipeline::{Creative, Engine, OptimizedFor, Request, Size, Style};
use enlarger_service::{
    job::{Kind, OutputFile},
    submit::Ask,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::Object},
};

use crate::{
    http::{Fields, with_knobs},
    submit::webhook_url,
};

/// Longest prompt in characters.
pub(crate) const LONGEST_PROMPT: usize = 10_000;

/// Reads the body.
pub(crate) fn read(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let factor = fields.scale_factor(|n| matches!(n, 2 | 4 | 8 | 16), "must be one of 2x, 4x, 8x, 16x");
    let style = Style::Creative(settings(fields));
    Ask {
        kind: Kind::Creative,
        request: Request { size: Size::Factor(factor.into()), style, ..Request::default() },
        output: OutputFile::default(),
        name: None,
        webhook_url: webhook_url(fields, policy),
        filter_nsfw: fields.flag("filter_nsfw"),
    }
}

/// Reads the settings of the style.
pub(crate) fn settings(fields: &mut Fields<'_>) -> Creative {
    Creative {
        engine: fields.choice("engine", Engine::ALL, Engine::name).unwrap_or_default(),
        optimized_for: fields.choice("optimized_for", OptimizedFor::ALL, OptimizedFor::name).unwrap_or_default(),
        prompt: fields.text("prompt", LONGEST_PROMPT),
        ..fields.knobs(Creative::default())
    }
}

/// The body, for the specification. The server accepts more than it says.
pub(crate) struct CreativeRequest;

impl ToSchema for CreativeRequest {
    fn name() -> Cow<'static, str> {
        "FreepikMagnificUpscalerCreativeRequest".into()
    }
}

impl PartialSchema for CreativeRequest {
    fn schema() -> RefOr<Schema> {
        with_knobs(BesideKnobs::schema(), &Creative::default())
    }
}

/// An image to enlarge in Creative style, which may add detail. The server is more lenient than this schema.
// The knobs come to it from their table.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
struct BesideKnobs {
    /// The image, in Base64 or as a URL. The result may have at most 25.3 million pixels.
    image: String,
    /// Scale factor. Larger factors take longer.
    #[schema(schema_with = scale_factor, required = false)]
    scale_factor: String,
    /// Magnific model engines.
    #[schema(schema_with = engine, required = false)]
    engine: String,
    /// What the image shows.
    #[schema(schema_with = optimized_for, required = false)]
    optimized_for: String,
    /// Optional text. Guides the generative engine. Without one, it is used only to choose a preset.
    #[schema(required = false, max_length = 10000)]
    prompt: String,
    /// Optional callback URL that will receive asynchronous notifications whenever the task changes status.
    #[schema(required = false, format = Uri, example = "https://www.example.com/webhook")]
    webhook_url: String,
    /// Whether the task fails if the image looks sexually explicit to a small classifier.
    #[schema(default = false, required = false)]
    filter_nsfw: bool,
}

fn scale_factor() -> Object {
    words("Scale factor. Larger factors take longer.", ["2x", "4x", "8x", "16x"])
}

pub(crate) fn engine() -> Object {
    words("Magnific model engines.", Engine::ALL.iter().map(|engine| engine.name()))
}

pub(crate) fn optimized_for() -> Object {
    words("What the image shows.", OptimizedFor::ALL.iter().map(|preset| preset.name()))
}

/// A string schema with these values, the first being the default.
fn words(description: &str, words: impl IntoIterator<Item = &'static str>) -> Object {
    let words: Vec<&str> = words.into_iter().collect();
    one_of(description, &words).default(words.first().map(|word| (*word).into())).build()
}

/// A string schema with these values.
pub(crate) fn one_of(description: &str, words: &[&'static str]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).enum_values(Some(words.to_vec()))
}
