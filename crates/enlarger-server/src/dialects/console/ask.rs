//! The body of our own submissions: what to do with an image, and the output file.

use enlarger_egress::Policy;
use enlarger_pipeline::{Part, Request, Style};
use enlarger_service::{job::Kind, submit::Ask};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::wire;
use crate::{
    dialects::magnific::LONGEST_PROMPT,
    http::Fields,
    submit::{FieldNames, webhook_url},
};

/// What bodies call the parts of a request.
pub(crate) const NAMES: FieldNames = FieldNames {
    size: |_| "request",
    part: |part| {
        Some(match part {
            Part::Model => "request.model",
            Part::Prompt => "request.look.prompt",
            Part::Checkpoint => "request.generative.checkpoint",
            Part::Control => "request.generative.control",
            Part::Vae => "request.generative.vae",
            Part::Loras => "request.generative.loras",
            Part::Negative => "request.generative.negative",
            Part::Steps => "request.generative.steps",
            Part::Guidance => "request.generative.guidance",
            Part::ClipSkip => "request.generative.clip_skip",
            Part::Keep => "request.generative.keep",
        })
    },
};

/// Longest name of an image in characters.
const LONGEST_NAME: usize = 255;

/// An image and what to do with it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct Submission {
    /// Base64, a `data:` URI, an http(s) URL, or a URL of this server: an upload or the source of an earlier task.
    image: String,
    /// The image's name, used in file names.
    #[schema(required = false, max_length = 255)]
    name: String,
    /// Size, style (`look`), model, seed, crop, quality (`draft`, `fast` or `best`) and generative engine, as in a task's details.
    #[schema(required = false)]
    request: wire::Request,
    /// The file to make: `format` (png, jpeg, webp, tiff, avif), `quality` (1 to 100) and `dpi`.
    #[schema(required = false)]
    output: wire::OutputFile,
    /// Receives a POST whenever the task's status changes.
    #[schema(required = false, format = Uri)]
    webhook_url: String,
}

/// Reads the body.
pub(crate) fn read(fields: &mut Fields<'_>, policy: &Policy) -> Ask {
    let output: wire::OutputFile = part(fields, "output");
    if output.quality.is_some_and(|quality| !(1..=100).contains(&quality)) {
        fields.reject("output.quality", "must be between 1 and 100");
    }
    if output.dpi.is_some_and(|dpi| !(1.0..=65_535.0).contains(&dpi)) {
        fields.reject("output.dpi", "must be between 1 and 65535");
    }
    Ask {
        kind: Kind::Console,
        request: request(fields),
        output: output.into(),
        name: fields.text("name", LONGEST_NAME),
        webhook_url: webhook_url(fields, policy),
        filter_nsfw: false,
    }
}

/// Reads the field `request`.
pub(crate) fn request(fields: &mut Fields<'_>) -> Request {
    let request = Request::from(part::<wire::Request>(fields, "request"));
    match &request.style {
        Style::Creative(knobs) => {
            fields.check_knobs("request.look", knobs);
            if knobs.prompt.as_ref().is_some_and(|prompt| prompt.chars().count() > LONGEST_PROMPT) {
                fields.reject("request.look.prompt", format!("must have at most {LONGEST_PROMPT} characters"));
            }
        }
        Style::Precision(knobs) => fields.check_knobs("request.look", knobs),
    }
    let negative = request.generative.as_ref().and_then(|generative| generative.negative.as_ref());
    if negative.is_some_and(|negative| negative.chars().count() > LONGEST_PROMPT) {
        fields.reject("request.generative.negative", format!("must have at most {LONGEST_PROMPT} characters"));
    }
    request
}

/// A field that is one of our own types, or its default.
fn part<T: DeserializeOwned + Default>(fields: &mut Fields<'_>, name: &str) -> T {
    let Some(text) = fields.raw(name) else { return T::default() };
    let read = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
    read.map(|wire::Strict(part)| part).unwrap_or_else(|error| {
        let path = error.path().to_string();
        let field = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
        fields.reject(&field, format!("is invalid: {}", plain(&error.into_inner().to_string())));
        T::default()
    })
}

/// What serde says, without its position, which is relative to the field, and without Rust's names of types.
fn plain(reason: &str) -> String {
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let Some((given, expected)) = reason.split_once(", expected ") else { return reason.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        of if of.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{given}, expected {expected}")
}
