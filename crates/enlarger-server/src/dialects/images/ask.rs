//! The form: an image and what to do with it.

use axum::http::{HeaderMap, header};
use enlarger_egress::Policy;
use enlarger_pipeline::{Creative, Part, Precision, Quality, Request, Size, Style};
use enlarger_service::{
    job::{Kind, OutputFile, OutputFormat},
    submit::Ask,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::Object},
};

use crate::{
    dialects::magnific::{creative, precision},
    http::{ApiResult, Fields, Form, with_knobs},
    submit::FieldNames,
};

/// What forms call the parts of a request.
pub(super) const NAMES: FieldNames = FieldNames {
    size: |size| match size {
        Size::Factor(_) => "scale",
        Size::Width(_) => "width",
        Size::Height(_) => "height",
    },
    part: |part| match part {
        Part::Model => Some("model"),
        Part::Prompt => Some("prompt"),
        _ => None,
    },
};

/// What models are called that the server chooses.
const AUTOMATIC: [&str; 2] = ["auto", "automatic"];
/// Longest name of an image or a model in characters.
const LONGEST_NAME: usize = 255;
const DEFAULT_SCALE: f64 = 2.0;
const FORMATS: &[OutputFormat] =
    &[OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::WebP, OutputFormat::Tiff, OutputFormat::Avif];

/// What the client wants as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The file itself.
    File,
    /// JSON with its URL.
    Url,
    /// JSON with the file in it.
    Base64,
}

impl Wanted {
    const ALL: &[Self] = &[Self::File, Self::Url, Self::Base64];

    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "url",
            Self::Base64 => "b64_json",
        }
    }
}

/// The answer that a form and these headers ask for. Clients of JSON APIs accept nothing else and say so; curl accepts everything.
pub(super) fn wanted(form: &Form, headers: &HeaderMap) -> ApiResult<Wanted> {
    let asked = Fields::parse(&form.fields)?.choice("response_format", Wanted::ALL, Wanted::name);
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    let usual = if accepted.trim().eq_ignore_ascii_case("application/json") { Wanted::Url } else { Wanted::File };
    Ok(asked.unwrap_or(usual))
}

/// Reads a form.
pub(super) fn read(fields: &mut Fields<'_>, _: &Policy) -> Ask {
    fields.choice("response_format", Wanted::ALL, Wanted::name);
    let model = fields.text("model", LONGEST_NAME).filter(|name| !AUTOMATIC.contains(&name.as_str()));
    let quality = fields.choice("quality", Quality::ALL, Quality::name).unwrap_or_default();
    let seed = fields.raw("seed").map(|_| fields.integer("seed", 0..=i64::MAX, 0).unsigned_abs());
    let request = Request { size: size(fields), style: style(fields), model, seed, quality, ..Request::default() };
    let quality = fields.raw("output_compression").map(|_| fields.integer("output_compression", 1..=100, 100));
    let output = OutputFile {
        format: fields.choice("output_format", FORMATS, OutputFormat::name),
        quality: quality.and_then(|quality| quality.try_into().ok()),
        ..OutputFile::default()
    };
    let name = fields.text("name", LONGEST_NAME);
    Ask { kind: Kind::Console, request, output, name, webhook_url: None, filter_nsfw: false }
}

fn size(fields: &mut Fields<'_>) -> Size {
    const LONGEST_SIDE: i64 = 300_000;
    const SIZES: [&str; 3] = ["scale", "width", "height"];
    let mut side = |name: &str| fields.raw(name).map(|_| fields.integer(name, 1..=LONGEST_SIDE, 1) as u32);
    let (width, height) = (side("width"), side("height"));
    let given: Vec<&str> = SIZES.into_iter().filter(|name| fields.raw(name).is_some()).collect();
    if given.len() > 1 {
        let others = given[1..].join(" and ");
        fields.reject_with(given[0], format!("cannot be combined with {others}"), Some("send one of them"));
    }
    match (width, height) {
        (Some(width), _) => Size::Width(width),
        (_, Some(height)) => Size::Height(height),
        _ => Size::Factor(fields.number("scale", 1.0..=16.0, DEFAULT_SCALE)),
    }
}

/// Any setting of Precision style selects it.
fn style(fields: &mut Fields<'_>) -> Style {
    match Style::is_precision(|name| fields.raw(name).is_some()) {
        Ok(true) => Style::Precision(precision::settings(fields)),
        Ok(false) => Style::Creative(creative::settings(fields)),
        Err((creative, precision)) => {
            fields.reject(precision, format!("(Precision) cannot be combined with {creative} (Creative)"));
            Style::default()
        }
    }
}

/// The form, for the specification.
pub(super) struct UpscaleForm;

impl ToSchema for UpscaleForm {}

impl PartialSchema for UpscaleForm {
    fn schema() -> RefOr<Schema> {
        let whole = with_knobs(with_knobs(BesideKnobs::schema(), &Creative::default()), &Precision::default());
        let RefOr::T(Schema::Object(mut whole)) = whole else { unreachable!("a struct is an object") };
        // Generated clients send defaults, and those of both styles would be refused together.
        for property in whole.properties.values_mut() {
            if let RefOr::T(Schema::Object(property)) = property {
                property.default = None;
            }
        }
        whole.into()
    }
}

/// An image and what to do with it. Settings of Creative style (creativity, hdr, resemblance, fractality, engine, optimized_for, prompt)
/// and of Precision style (sharpen, smart_grain, ultra_detail, flavor) cannot be combined.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the form is read field by field")]
struct BesideKnobs {
    /// The file. A text is read as base64, a `data:` URI or a URL.
    #[schema(format = Binary)]
    image: String,
    /// Scale factor, 1 to 16, also with a fraction. 2 if no size is given.
    #[schema(minimum = 1, maximum = 16, required = false)]
    scale: f64,
    /// Width of the result in pixels, instead of `scale`.
    #[schema(minimum = 1, maximum = 300000, required = false)]
    width: u32,
    /// Height of the result in pixels, instead of `scale`.
    #[schema(minimum = 1, maximum = 300000, required = false)]
    height: u32,
    /// A model's name, or `auto`: chosen to suit the image.
    #[schema(max_length = 255, required = false)]
    model: String,
    #[schema(schema_with = quality, required = false)]
    quality: String,
    /// Random seed. Without one, it is derived from the image and the request.
    #[schema(minimum = 0, required = false)]
    seed: i64,
    #[schema(schema_with = creative::engine, required = false)]
    engine: String,
    #[schema(schema_with = creative::optimized_for, required = false)]
    optimized_for: String,
    /// Guides the generative engine. Without one, it is used only to choose a preset.
    #[schema(required = false, max_length = 10000)]
    prompt: String,
    #[schema(schema_with = precision::flavor, required = false)]
    flavor: String,
    /// The answer: the file itself, or JSON with its URL or with the file in base64. Without it, the header Accept decides.
    #[schema(schema_with = response_format, required = false)]
    response_format: String,
    #[schema(schema_with = output_format, required = false)]
    output_format: String,
    /// Quality of lossy formats.
    #[schema(minimum = 1, maximum = 100, required = false)]
    output_compression: i64,
    /// The image's name, used in file names. Without it, that of the file.
    #[schema(required = false, max_length = 255)]
    name: String,
}

fn quality() -> Object {
    let words: Vec<&str> = Quality::ALL.iter().map(|quality| quality.name()).collect();
    creative::one_of("How much work goes into the result. `best` unless given.", &words).build()
}

fn response_format() -> Object {
    let words: Vec<&str> = Wanted::ALL.iter().map(|wanted| wanted.name()).collect();
    creative::one_of(
        "The answer: the file itself, or JSON with its URL or with the file in base64. Without it, the header \
        Accept decides.",
        &words,
    )
    .build()
}

fn output_format() -> Object {
    let words: Vec<&str> = FORMATS.iter().map(|format| format.name()).collect();
    creative::one_of("The file to make. PNG unless given.", &words).build()
}
