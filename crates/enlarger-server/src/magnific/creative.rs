//! The creative endpoint: detail may be invented.

use enlarger_pipeline::{Creative, Engine, Look, OptimizedFor, Request, Size};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    app::App,
    fields::Fields,
    job::{OutputFile, kind},
    submit::{Ask, webhook_url},
};

/// Longest prompt in characters.
pub(crate) const LONGEST_PROMPT: usize = 10_000;

const ENGINES: [(&str, Engine); 4] = [
    ("automatic", Engine::Automatic),
    ("magnific_illusio", Engine::MagnificIllusio),
    ("magnific_sharpy", Engine::MagnificSharpy),
    ("magnific_sparkle", Engine::MagnificSparkle),
];

const OPTIMIZED_FOR: [(&str, OptimizedFor); 9] = [
    ("standard", OptimizedFor::Standard),
    ("soft_portraits", OptimizedFor::SoftPortraits),
    ("hard_portraits", OptimizedFor::HardPortraits),
    ("art_n_illustration", OptimizedFor::ArtNIllustration),
    ("videogame_assets", OptimizedFor::VideogameAssets),
    ("nature_n_landscapes", OptimizedFor::NatureNLandscapes),
    ("films_n_photography", OptimizedFor::FilmsNPhotography),
    ("3d_renders", OptimizedFor::ThreeDRenders),
    ("science_fiction_n_horror", OptimizedFor::ScienceFictionNHorror),
];

/// Reads the body.
pub(crate) fn read(fields: &mut Fields<'_>, app: &App) -> Ask {
    let factor = fields.scale_factor(|n| matches!(n, 2 | 4 | 8 | 16), "must be one of 2x, 4x, 8x, 16x");
    let mut knob = |name| i8::try_from(fields.integer(name, -10..=10, 0)).unwrap_or_default();
    let creative = Creative {
        creativity: knob("creativity"),
        hdr: knob("hdr"),
        resemblance: knob("resemblance"),
        fractality: knob("fractality"),
        engine: fields.word("engine", &ENGINES, Engine::Automatic),
        optimized_for: fields.word("optimized_for", &OPTIMIZED_FOR, OptimizedFor::Standard),
        prompt: fields.text("prompt", LONGEST_PROMPT).filter(|prompt| !prompt.is_empty()),
    };
    Ask {
        kind: kind::CREATIVE,
        request: Request { size: Size::Factor(factor.into()), look: Look::Creative(creative), ..Request::default() },
        output: OutputFile::default(),
        name: None,
        webhook_url: webhook_url(fields, app),
        filter_nsfw: fields.flag("filter_nsfw"),
    }
}

/// The body, for the specification. Reading is more liberal than it says.
#[derive(ToSchema)]
#[schema(as = FreepikMagnificUpscalerCreativeRequest)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct CreativeRequest {
    /// Base64 image or URL to upscale. The resulted image can't exceed maximum allowed size of 25.3 million pixels.
    image: String,
    /// Configure scale factor of the image. For higher scales, the image will take longer to process.
    #[schema(schema_with = scale_factor, required = false)]
    scale_factor: String,
    /// Increase or decrease AI's creativity. Valid values range [-10, 10].
    #[schema(default = 0, minimum = -10, maximum = 10, value_type = i64, required = false)]
    creativity: i64,
    /// Increase or decrease the level of definition and detail. Valid values range [-10, 10].
    #[schema(default = 0, minimum = -10, maximum = 10, value_type = i64, required = false)]
    hdr: i64,
    /// Adjust the level of resemblance to the original image. Valid values range [-10, 10].
    #[schema(default = 0, minimum = -10, maximum = 10, value_type = i64, required = false)]
    resemblance: i64,
    /// Control the strength of the prompt and intricacy per square pixel. Valid values range [-10, 10].
    #[schema(default = 0, minimum = -10, maximum = 10, value_type = i64, required = false)]
    fractality: i64,
    /// Magnific model engines.
    #[schema(schema_with = engine, required = false)]
    engine: String,
    /// Styles to optimize the upscale process.
    #[schema(schema_with = optimized_for, required = false)]
    optimized_for: String,
    /// Prompt to guide the upscale process. Reusing the same prompt for AI-generated images will improve the results.
    #[schema(required = false, max_length = 10000)]
    prompt: String,
    /// Optional callback URL that will receive asynchronous notifications whenever the task changes status.
    #[schema(required = false, format = Uri, example = "https://www.example.com/webhook")]
    webhook_url: String,
    /// Accepted for compatibility. There is no classifier here: nothing is filtered.
    #[schema(default = false, required = false)]
    filter_nsfw: bool,
}

fn scale_factor() -> utoipa::openapi::schema::Object {
    words(
        "Configure scale factor of the image. For higher scales, the image will take longer to process.",
        &["2x", "4x", "8x", "16x"],
    )
}

fn engine() -> utoipa::openapi::schema::Object {
    words("Magnific model engines.", &ENGINES.map(|(word, _)| word))
}

fn optimized_for() -> utoipa::openapi::schema::Object {
    words("Styles to optimize the upscale process.", &OPTIMIZED_FOR.map(|(word, _)| word))
}

/// A text that is one of some words, the first being the default.
pub(crate) fn words(description: &str, words: &[&str]) -> utoipa::openapi::schema::Object {
    use utoipa::openapi::{ObjectBuilder, Type};
    let values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    let object = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    object.default(values.first().cloned()).enum_values(Some(values)).build()
}
