//! The JSON of our own API, apart from the types that are stored and worked with, so that each can change alone.
//!
//! Styles, knobs and choices are the exception: their tables in `enlarger-pipeline` are the wire's, too.

use std::{collections::HashMap, fmt, marker::PhantomData};

use enlarger_models::ModelInfo;
use enlarger_pipeline::{self as pipeline, Engine, Flavor, OptimizedFor, Quality, Sampler, Style};
use enlarger_service::job;
use enlarger_tasks::TaskError;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::Object},
};

use crate::http::with_knobs;

/// A type that is read strictly, from objects alone. Derived types also take arrays, as their fields in order, so that `[]` would be all defaults.
pub(crate) struct Strict<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Strict::deserialize(deserializer).map(|strict| strict.0)
}

fn object_or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Strict<T>>::deserialize(deserializer)?.map(|strict| strict.0))
}

fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Strict<T>>::deserialize(deserializer)?.into_iter().map(|strict| strict.0).collect())
}

/// What to do with an image.
// Named as what it becomes: the names of these types are in the messages of what cannot be read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = UpscaleRequest)]
#[serde(default)]
pub(crate) struct Request {
    /// The size of the result.
    #[schema(default = json!({ "factor": 2.0 }))]
    pub size: Size,
    /// The style, with its knobs.
    #[schema(value_type = Look)]
    #[serde(deserialize_with = "object")]
    pub look: Style,
    /// A model's name; null: chosen to suit the image.
    pub model: Option<String>,
    /// Random seed; null: derived from the image and the request.
    pub seed: Option<u64>,
    /// The part of the source to use; null: all of it.
    #[serde(deserialize_with = "object_or_null")]
    pub crop: Option<Crop>,
    #[serde(alias = "draft", deserialize_with = "quality_or_draft", skip_serializing_if = "is_best")]
    #[schema(schema_with = quality)]
    pub quality: Quality,
    /// The generative engine. Null: as the server is configured, for creative requests with a prompt or creativity above 0.
    #[serde(deserialize_with = "object_or_null", skip_serializing_if = "Option::is_none")]
    pub generative: Option<Generative>,
}

/// What the generative engine draws with. `GET /api/checkpoints` lists the names. Fields that are not listed here are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Generative {
    /// The checkpoint. Null: as the server is configured, with its `control`, `vae` and `loras` where these are null or empty; else the
    /// only one there is. `none`: the engine is not used.
    #[schema(max_length = 255)]
    checkpoint: Option<String>,
    /// The ControlNet that keeps the result close to the source. Null: a tile ControlNet of the checkpoint's family, if there is one;
    /// `none`: no ControlNet.
    control: Option<String>,
    /// A VAE to use instead of the checkpoint's.
    vae: Option<String>,
    /// LoRAs to add.
    #[serde(deserialize_with = "objects")]
    loras: Vec<Lora>,
    /// What the result must not show. Null: a list of common faults.
    #[schema(max_length = 10000)]
    pub negative: Option<String>,
    /// Steps of a full schedule; creativity decides how many of them run. Null: 18, or 8 for LCM.
    #[schema(minimum = 1, maximum = 150)]
    steps: Option<u32>,
    /// How noise is removed.
    #[schema(schema_with = sampler)]
    sampler: Sampler,
    /// Classifier-free guidance. Null: chosen by `hdr`; 1: none, for distilled checkpoints.
    #[schema(minimum = 1, maximum = 30)]
    guidance: Option<f32>,
    /// Layers of the text encoder to skip, counted as A1111 does: 1 skips none.
    #[schema(minimum = 1, maximum = 12)]
    clip_skip: Option<u32>,
    /// Whether the result repeats without a seam.
    seamless: bool,
    /// Areas of the source that are left unchanged, such as faces. They fade into the rest around themselves.
    #[serde(deserialize_with = "objects")]
    keep: Vec<Crop>,
}

/// A LoRA.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lora {
    /// Its name.
    name: String,
    /// How strongly it is added; 1 is as trained.
    #[serde(default = "as_trained")]
    #[schema(default = 1.0, minimum = -10, maximum = 10)]
    strength: f32,
}

fn as_trained() -> f32 {
    1.0
}

fn sampler() -> Object {
    let named = words(Sampler::ALL.iter().map(|sampler| sampler.name()));
    named.description(Some("How noise is removed.")).default(Some(Sampler::default().name().into())).build()
}

impl From<pipeline::Generative> for Generative {
    fn from(of: pipeline::Generative) -> Self {
        let pipeline::Generative {
            checkpoint,
            control,
            vae,
            loras,
            negative,
            steps,
            sampler,
            guidance,
            clip_skip,
            seamless,
            keep,
        } = of;
        let loras = loras.into_iter().map(|pipeline::Lora { name, strength }| Lora { name, strength }).collect();
        let keep = keep.into_iter().map(Crop::from).collect();
        Self { checkpoint, control, vae, loras, negative, steps, sampler, guidance, clip_skip, seamless, keep }
    }
}

impl From<Generative> for pipeline::Generative {
    fn from(of: Generative) -> Self {
        let Generative {
            checkpoint,
            control,
            vae,
            loras,
            negative,
            steps,
            sampler,
            guidance,
            clip_skip,
            seamless,
            keep,
        } = of;
        let loras = loras.into_iter().map(|Lora { name, strength }| pipeline::Lora { name, strength }).collect();
        let keep = keep.into_iter().map(Into::into).collect();
        Self { checkpoint, control, vae, loras, negative, steps, sampler, guidance, clip_skip, seamless, keep }
    }
}

impl From<pipeline::Crop> for Crop {
    fn from(pipeline::Crop { x, y, width, height }: pipeline::Crop) -> Self {
        Self { x, y, width, height }
    }
}

impl From<Crop> for pipeline::Crop {
    fn from(Crop { x, y, width, height }: Crop) -> Self {
        Self { x, y, width, height }
    }
}

/// A quality, in all the forms in which it is stored: earlier versions of this API knew drafts only.
fn quality_or_draft<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Quality, D::Error> {
    let quality = Value::deserialize(deserializer)?;
    let stored: pipeline::Request = serde_json::from_value(json!({ "quality": quality })).map_err(Error::custom)?;
    Ok(stored.quality)
}

fn is_best(quality: &Quality) -> bool {
    *quality == Quality::Best
}

impl Default for Request {
    fn default() -> Self {
        pipeline::Request::default().into()
    }
}

impl From<pipeline::Request> for Request {
    fn from(request: pipeline::Request) -> Self {
        let pipeline::Request { size, style, model, seed, crop, quality, generative } = request;
        let size = match size {
            pipeline::Size::Factor(factor) => Size::Factor(factor),
            pipeline::Size::Width(width) => Size::Width(width),
            pipeline::Size::Height(height) => Size::Height(height),
        };
        let (crop, generative) = (crop.map(Into::into), generative.map(Into::into));
        Self { size, look: style, model, seed, crop, quality, generative }
    }
}

impl From<Request> for pipeline::Request {
    fn from(request: Request) -> Self {
        let Request { size, look, model, seed, crop, quality, generative } = request;
        let size = match size {
            Size::Factor(factor) => pipeline::Size::Factor(factor),
            Size::Width(width) => pipeline::Size::Width(width),
            Size::Height(height) => pipeline::Size::Height(height),
        };
        let (crop, generative) = (crop.map(Into::into), generative.map(Into::into));
        Self { size, style: look, model, seed, crop, quality, generative }
    }
}

/// The size of a result. The aspect ratio of the source is always kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Size {
    /// Enlargement factor.
    Factor(f64),
    /// Width in pixels.
    Width(u32),
    /// Height in pixels.
    Height(u32),
}

/// A part of the upright source, in its pixels. Fields that are not listed here are refused.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Crop {
    x: u32,
    y: u32,
    #[schema(minimum = 1)]
    width: u32,
    #[schema(minimum = 1)]
    height: u32,
}

/// The style of a result.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used: styles are read as the table of knobs declares them")]
pub(crate) enum Look {
    Creative(CreativeLook),
    Precision(PrecisionLook),
}

/// Detail may be invented.
pub(crate) struct CreativeLook;

impl ToSchema for CreativeLook {}

impl PartialSchema for CreativeLook {
    fn schema() -> RefOr<Schema> {
        with_knobs(BesideCreativeKnobs::schema(), &pipeline::Creative::default())
    }
}

/// Detail may be invented.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct BesideCreativeKnobs {
    #[schema(schema_with = creative)]
    mode: String,
    #[schema(schema_with = engine, required = false)]
    engine: String,
    #[schema(schema_with = optimized_for, required = false)]
    optimized_for: String,
    /// Guides the generative engine. Without one, it is used only to choose a preset.
    #[schema(max_length = 10000)]
    prompt: Option<String>,
}

/// Detail is sharpened, not invented.
pub(crate) struct PrecisionLook;

impl ToSchema for PrecisionLook {}

impl PartialSchema for PrecisionLook {
    fn schema() -> RefOr<Schema> {
        with_knobs(BesidePrecisionKnobs::schema(), &pipeline::Precision::default())
    }
}

/// Detail is sharpened, not invented.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct BesidePrecisionKnobs {
    #[schema(schema_with = precision)]
    mode: String,
    #[schema(schema_with = flavor)]
    flavor: Option<String>,
}

fn creative() -> Object {
    words(["creative"]).build()
}

fn precision() -> Object {
    words(["precision"]).build()
}

fn engine() -> Object {
    words(Engine::ALL.iter().map(|engine| engine.name())).default(Some(Engine::default().name().into())).build()
}

fn optimized_for() -> Object {
    let usual = OptimizedFor::default().name();
    words(OptimizedFor::ALL.iter().map(|preset| preset.name())).default(Some(usual.into())).build()
}

fn quality() -> Object {
    words(Quality::ALL.iter().map(|quality| quality.name()))
        .description(Some("How much work goes into the result. A task's details leave out the default."))
        .default(Some(Quality::default().name().into()))
        .build()
}

/// A flavour, or null.
fn flavor() -> Object {
    let words = Flavor::ALL.iter().map(|flavor| Value::from(flavor.name())).chain([Value::Null]);
    let types = utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]);
    ObjectBuilder::new().schema_type(types).enum_values(Some(words.collect::<Vec<_>>())).build()
}

/// A text that is one of some words.
fn words(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.into_iter().collect::<Vec<_>>()))
}

/// The file to make.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[schema(as = Output)]
pub(crate) struct OutputFile {
    /// PNG unless given.
    #[schema(inline)]
    format: Option<OutputFormat>,
    /// For lossy formats.
    #[schema(minimum = 1, maximum = 100)]
    pub quality: Option<u8>,
    /// Pixels per inch. Null: the source's.
    #[schema(minimum = 1, maximum = 65535)]
    pub dpi: Option<f32>,
}

/// The formats that are written.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OutputFormat {
    Png,
    Jpeg,
    WebP,
    Tiff,
    Avif,
}

impl From<OutputFile> for job::OutputFile {
    fn from(file: OutputFile) -> Self {
        let format = file.format.map(|format| match format {
            OutputFormat::Png => job::OutputFormat::Png,
            OutputFormat::Jpeg => job::OutputFormat::Jpeg,
            OutputFormat::WebP => job::OutputFormat::WebP,
            OutputFormat::Tiff => job::OutputFormat::Tiff,
            OutputFormat::Avif => job::OutputFormat::Avif,
        });
        Self { format, quality: file.quality, dpi: file.dpi }
    }
}

/// How far along a running task is.
// As the worker reported it, perhaps one of another version: passed on as stored.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the stored report is passed on")]
pub(crate) struct TaskProgress {
    #[schema(inline)]
    stage: Stage,
    /// Parts completed in the current pass.
    done: u64,
    /// Parts in the current pass; 0 while unknown.
    total: u64,
    /// Share of the task that is done.
    #[schema(minimum = 0, maximum = 1)]
    fraction: f64,
    /// Seconds left; null while unknown.
    #[schema(required)]
    eta_seconds: Option<f64>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum Stage {
    Decode,
    Plan,
    Enlarge,
    Encode,
}

/// What was done, for people and bug reports. Its structure changes between versions.
// As the worker stored it, perhaps one of another version.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the stored plan is passed on")]
pub(crate) struct TaskPlan {
    /// What was measured of the image.
    #[schema(required = false)]
    facts: HashMap<String, Value>,
    /// The plan, as `enlarger upscale --explain --json` prints it.
    #[schema(required = false)]
    steps: HashMap<String, Value>,
    /// Sentences about the image and the choices made.
    #[schema(required = false)]
    notes: Vec<String>,
}

/// Seconds by stage.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the stored seconds are passed on")]
pub(crate) struct TaskTimings {
    /// Bytes to pixels.
    decode: f64,
    /// Measuring and planning.
    plan: f64,
    /// Networks.
    network: f64,
    /// Filters and resampling.
    filters: f64,
    /// Pixels to bytes.
    encode: f64,
}

/// Why a task failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskError)]
pub(crate) struct Failed {
    /// Stable, for programs.
    code: String,
    /// What went wrong and why, in a sentence.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hint: Option<String>,
    /// The exact error, where `code` only names a family.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cause: Option<String>,
}

impl From<TaskError> for Failed {
    fn from(error: TaskError) -> Self {
        let TaskError { code, message, hint, cause } = error;
        Self { code, message, hint, cause }
    }
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    /// The name to choose it by.
    name: String,
    /// Display name.
    title: String,
    #[schema(inline)]
    kind: ModelKind,
    /// The architecture in words, with its sizes.
    architecture: String,
    /// Enlargement factor.
    scale: u32,
    /// How many weights it has.
    parameters: u64,
    /// Size of the file.
    bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    sha256: String,
    /// An SPDX expression; "unknown" for added models.
    license: String,
    copyright: String,
    /// The package or file it was made from.
    source: String,
    /// Where its authors publish it.
    upstream: String,
    /// What it is good at, in a sentence.
    good_at: String,
    /// Whether it comes with enlarger.
    bundled: bool,
}

/// What a model was made for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ModelKind {
    Photo,
    CleanPhoto,
    Art,
    Fast,
    Added,
}

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Self {
        use enlarger_models::Kind;

        let kind = match info.kind {
            Kind::Photo => ModelKind::Photo,
            Kind::CleanPhoto => ModelKind::CleanPhoto,
            Kind::Art => ModelKind::Art,
            Kind::Fast => ModelKind::Fast,
            Kind::Added => ModelKind::Added,
        };
        Self {
            name: info.name,
            title: info.title,
            kind,
            architecture: info.architecture,
            scale: info.scale,
            parameters: info.parameters,
            bytes: info.bytes,
            sha256: info.sha256,
            license: info.license,
            copyright: info.copyright,
            source: info.source,
            upstream: info.upstream,
            good_at: info.good_at,
            bundled: info.bundled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_they_always_were() {
        for (request, json) in [
            (
                json!({}),
                r#"{"size":{"factor":2.0},"look":{"mode":"creative","creativity":0,"hdr":0,"resemblance":0,"fractality":0,"engine":"automatic","optimized_for":"standard","prompt":null},"model":null,"seed":null,"crop":null}"#,
            ),
            (
                json!({ "size": { "height": 900 }, "look": { "mode": "precision", "sharpen": 3 }, "draft": true, "seed": 7,
                    "crop": { "x": 1, "y": 2, "width": 3, "height": 4 } }),
                r#"{"size":{"height":900},"look":{"mode":"precision","sharpen":3,"smart_grain":7,"ultra_detail":30,"flavor":null},"model":null,"seed":7,"crop":{"x":1,"y":2,"width":3,"height":4},"quality":"draft"}"#,
            ),
        ] {
            let read: Request = serde_json::from_value(request).expect("a request");
            let stored = pipeline::Request::from(read.clone());
            assert_eq!(serde_json::to_string(&read).expect("plain data"), json);
            assert_eq!(serde_json::to_string(&stored).expect("plain data"), json, "today both are the same");
            assert_eq!(serde_json::to_string(&Request::from(stored)).expect("plain data"), json);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_the_words_of_the_domain() {
        for wrong in [
            json!(7),
            json!({ "size": 2 }),
            json!({ "size": { "depth": 2 } }),
            json!({ "size": { "width": -1 } }),
            json!({ "look": { "mode": "other" } }),
            json!({ "look": { "mode": "creative", "engine": "steam" } }),
            json!({ "crop": { "x": 1 } }),
            json!({ "quality": "good" }),
        ] {
            let here = serde_json::from_value::<Request>(wrong.clone()).map(|_| ()).expect_err("refused").to_string();
            let domain = serde_json::from_value::<pipeline::Request>(wrong.clone()).expect_err("refused").to_string();
            assert_eq!(here, domain, "{wrong}");
        }
        for wrong in [json!({ "look": "creative" }), json!({ "crop": [1] })] {
            let here = serde_json::from_value::<Request>(wrong.clone()).map(|_| ()).expect_err("refused").to_string();
            assert!(here.ends_with("expected an object"), "{wrong}: {here}");
        }
        for wrong in [json!("png"), json!({ "format": "gif" }), json!({ "quality": 256 })] {
            let here = serde_json::from_value::<OutputFile>(wrong.clone()).expect_err("refused").to_string();
            let domain = serde_json::from_value::<job::OutputFile>(wrong.clone()).expect_err("refused").to_string();
            assert_eq!(here, domain, "{wrong}");
        }
    }

    #[test]
    fn models_are_written_as_the_command_line_writes_them() {
        for info in enlarger_models::Catalogue::open(None).expect("the bundled ones").list() {
            let (here, there) = (serde_json::to_string(&Model::from(info.clone())), serde_json::to_string(&info));
            assert_eq!(here.expect("plain data"), there.expect("plain data"));
        }
    }
}
