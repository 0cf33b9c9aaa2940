//! The tools: what they are called, take and do.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use enlarger_image::{Format, Limits, MetadataPolicy};
use enlarger_pipeline::{
    Creative, Engine, Enlarger, Flavor, Knob, Knobs, OptimizedFor, Outcome, Output, PipelineError, Precision, Quality,
    Request, Size, Style, Unwatched, Watch, human_seconds, to_json,
};
use rmcp::model::{self, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use crate::{
    inputs::{Input, Source},
    printer::Hinted,
    read::read_now,
    target::FileId,
    write::{occupied, write},
};

/// What came of a call: for people, and for programs.
pub struct Done {
    pub text: String,
    pub data: Value,
}

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Upscale,
    Explain,
    ListModels,
}

const DEFAULT_SCALE: f64 = 4.0;
const LONGEST_SIDE: i64 = 300_000;
const FORMATS: &[Format] = &[Format::Png, Format::Jpeg, Format::WebP, Format::Tiff, Format::Avif];

impl Tool {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Upscale, Self::Explain, Self::ListModels];

    /// The name to call it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upscale => "upscale",
            Self::Explain => "explain",
            Self::ListModels => "list_models",
        }
    }

    /// The tool of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|tool| tool.name() == name)
    }

    /// As clients list it.
    pub fn described(self) -> model::Tool {
        let about = match self {
            Self::Upscale => {
                "Enlarge an image file and write the result as a new file. Takes seconds for a small image, and minutes to hours for a \
                 large one: explain estimates it."
            }
            Self::Explain => {
                "Show how an image would be enlarged, with the estimated time and memory, without running it."
            }
            Self::ListModels => "List the models that can be chosen, with what each is good at.",
        };
        let schema = json!({ "type": "object", "properties": self.properties(), "additionalProperties": false });
        let schema = schema.as_object().cloned().unwrap_or_default();
        let read_only = ToolAnnotations::new().read_only(self != Self::Upscale);
        model::Tool::new(self.name(), about, Arc::new(schema)).with_annotations(read_only)
    }

    fn properties(self) -> Map<String, Value> {
        let mut all = Map::new();
        if self == Self::ListModels {
            return all;
        }
        let mut add = |name: &str, schema: Value| all.insert(name.to_owned(), schema);
        let text = |about: &str| json!({ "type": "string", "description": about });
        add("image", text("Path of the image file: PNG, JPEG, WebP, TIFF, BMP or GIF."));
        add("image_base64", text("The image itself in base64, instead of a path."));
        add(
            "scale",
            json!({ "type": "number", "minimum": 1, "maximum": 16, "default": DEFAULT_SCALE, "description": "Scale factor." }),
        );
        for (name, other) in [("width", "height"), ("height", "width")] {
            let about =
                format!("The {name} of the result in pixels, instead of a scale; the {other} keeps the aspect ratio.");
            add(name, json!({ "type": "integer", "minimum": 1, "maximum": LONGEST_SIDE, "description": about }));
        }
        add("model", text("A model's name (see list_models). Left out: chosen to suit the image."));
        add("quality", choices("How much work goes into the result.", Quality::ALL, Quality::name, Quality::what));
        let seed = "Random seed. Left out: derived from the image and the request.";
        add("seed", json!({ "type": "integer", "minimum": 0, "description": seed }));
        Creative::KNOBS.iter().for_each(|knob| drop(add(knob.name, number(knob, "Creative style: "))));
        add("engine", choices("Creative style: models and filters.", Engine::ALL, Engine::name, Engine::what));
        add(
            "optimized_for",
            choices("What the image shows.", OptimizedFor::ALL, OptimizedFor::name, OptimizedFor::what),
        );
        add("prompt", text("Creative style: words about the image, which select a preset."));
        let faithful = "Precision style, which adds no detail: ";
        Precision::KNOBS.iter().for_each(|knob| drop(add(knob.name, number(knob, faithful))));
        add("flavor", choices("Precision style: the kind of image.", Flavor::ALL, Flavor::name, Flavor::what));
        if self == Self::Upscale {
            add(
                "output",
                text(
                    "Path of the file to write; its extension is the format. Left out: NAME_4x.png beside the image. Required with \
                     image_base64.",
                ),
            );
            add("format", choices("File format, if output does not say it.", FORMATS, word, Format::name));
            let quality = "Quality of JPEG, WebP and AVIF files.";
            add("file_quality", json!({ "type": "integer", "minimum": 1, "maximum": 100, "description": quality }));
            add(
                "overwrite",
                json!({ "type": "boolean", "default": false, "description": "Whether a file that exists may be replaced." }),
            );
        }
        all
    }

    /// Does it. Blocks.
    ///
    /// # Errors
    /// What is wrong with the arguments or the image, or why it failed.
    pub fn run(self, enlarger: &Enlarger, given: Map<String, Value>, watch: &dyn Watch) -> anyhow::Result<Done> {
        let arguments = Arguments::new(given, &self.properties())?;
        match self {
            Self::Upscale => {
                let picture = Picture::read(&arguments)?;
                let request = request(&arguments)?;
                let file = File::read(&arguments, &picture, &request)?;
                upscale(enlarger, &picture, &request, &file, watch)
            }
            Self::Explain => {
                let picture = Picture::read(&arguments)?;
                let request = request(&arguments)?;
                let explained = enlarger.dry_run(&picture.bytes, &request, &Limits::for_own_files(), &Unwatched)?;
                Ok(Done { text: explained.to_string(), data: to_json(&explained) })
            }
            Self::ListModels => {
                let models = enlarger.models().list();
                let lines = models.iter().map(|model| format!("{} ({}x): {}", model.name, model.scale, model.good_at));
                Ok(Done { text: lines.collect::<Vec<_>>().join("\n"), data: json!({ "models": models }) })
            }
        }
    }
}

fn choices<T: Copy>(about: &str, all: &[T], name: fn(T) -> &'static str, what: fn(T) -> &'static str) -> Value {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    let each: Vec<String> = all.iter().map(|one| format!("{}: {}", name(*one), what(*one))).collect();
    json!({ "type": "string", "enum": names, "description": format!("{about} {}.", each.join("; ")) })
}

fn number<F>(knob: &Knob<F>, style: &str) -> Value {
    let (least, most) = (knob.range.start(), knob.range.end());
    json!({
        "type": "integer", "minimum": least, "maximum": most, "default": knob.default,
        "description": format!("{style}{}", knob.help),
    })
}

/// The image to enlarge.
struct Picture {
    bytes: Vec<u8>,
    path: Option<PathBuf>,
    width: u32,
    height: u32,
}

impl Picture {
    fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let (path, base64) = (arguments.text("image")?.map(PathBuf::from), arguments.text("image_base64")?);
        let limits = Limits::for_own_files();
        let bytes = match (&path, base64) {
            (Some(path), None) => {
                let source = Source { path: path.clone(), root: None, named: true };
                read_now(&Input::File(source), &limits).map_err(|error| error.context(path.display().to_string()))?
            }
            (None, Some(base64)) => BASE64_STANDARD.decode(base64.trim()).map_err(|_| {
                Hinted::error("image_base64 is not base64", "send the file's bytes in base64, without a prefix")
            })?,
            (None, None) => return Err(Hinted::error("there is no image", "send its path as image")),
            (Some(_), Some(_)) => {
                return Err(Hinted::error("image and image_base64 cannot be combined", "leave one of them out"));
            }
        };
        let header = enlarger_image::header(&bytes, &limits).map_err(PipelineError::from)?;
        Ok(Self { bytes, path, width: header.width, height: header.height })
    }
}

fn request(arguments: &Arguments) -> anyhow::Result<Request> {
    let scale = arguments.number("scale", 1.0..=16.0)?;
    let width = arguments.integer("width", 1..=LONGEST_SIDE)?;
    let height = arguments.integer("height", 1..=LONGEST_SIDE)?;
    let size = match (scale, width, height) {
        (None, Some(width), None) => Size::Width(width as u32),
        (None, None, Some(height)) => Size::Height(height as u32),
        (scale, None, None) => Size::Factor(scale.unwrap_or(DEFAULT_SCALE)),
        _ => return Err(Hinted::error("scale, width and height cannot be combined", "keep one of them")),
    };
    Ok(Request {
        size,
        style: style(arguments)?,
        model: arguments.text("model")?,
        seed: arguments.integer("seed", 0..=i64::MAX)?.map(i64::unsigned_abs),
        quality: arguments.choice("quality", Quality::ALL, Quality::name)?.unwrap_or_default(),
        ..Request::default()
    })
}

fn style(arguments: &Arguments) -> anyhow::Result<Style> {
    match Style::is_precision(|name| arguments.has(name)) {
        Ok(true) => {
            let flavor = arguments.choice("flavor", Flavor::ALL, Flavor::name)?;
            Ok(Style::Precision(Precision { flavor, ..knobs(arguments)? }))
        }
        Ok(false) => Ok(Style::Creative(Creative {
            engine: arguments.choice("engine", Engine::ALL, Engine::name)?.unwrap_or_default(),
            optimized_for: arguments
                .choice("optimized_for", OptimizedFor::ALL, OptimizedFor::name)?
                .unwrap_or_default(),
            prompt: arguments.text("prompt")?,
            ..knobs(arguments)?
        })),
        Err((creative, precision)) => Err(Hinted::error(
            format!("{creative} (Creative) and {precision} (Precision) cannot be combined"),
            "leave one of them out",
        )),
    }
}

fn knobs<F: Knobs>(arguments: &Arguments) -> anyhow::Result<F> {
    let mut family = F::default();
    for knob in F::KNOBS {
        if let Some(value) = arguments.integer(knob.name, knob.range.clone())? {
            (knob.set)(&mut family, value);
        }
    }
    Ok(family)
}

/// The file to write.
struct File {
    path: PathBuf,
    output: Output,
    overwrite: bool,
}

impl File {
    fn read(arguments: &Arguments, picture: &Picture, request: &Request) -> anyhow::Result<Self> {
        let asked = arguments.choice("format", FORMATS, word)?;
        let output = arguments.text("output")?.map(PathBuf::from);
        let named = output.as_ref().and_then(|path| Format::from_extension(path.extension()?.to_str()?));
        let format = match (named, asked) {
            (Some(named), Some(asked)) if named != asked => {
                let what = format!("format is {}, but output has the extension of {}", word(asked), word(named));
                return Err(Hinted::error(what, "leave format out"));
            }
            (named, asked) => named.or(asked).unwrap_or_default(),
        };
        if !format.can_encode() || (output.is_some() && named.is_none() && asked.is_none()) {
            return Err(Hinted::error(
                "output has no extension that can be written",
                "use .png, .jpg, .webp, .tif or .avif",
            ));
        }
        let path = match (output, &picture.path) {
            (Some(path), _) => path,
            (None, Some(source)) => beside(source, request.size.factor(picture.width, picture.height), format),
            (None, None) => return Err(Hinted::error("output is missing", "send the path of the file to write")),
        };
        let quality = arguments.integer("file_quality", 1..=100)?.and_then(|quality| quality.try_into().ok());
        let overwrite = arguments.flag("overwrite")?;
        let source = picture.path.as_deref().and_then(FileId::of);
        if source.is_some() && source == FileId::of(&path) {
            return Err(Hinted::error("the result would overwrite its own source", "choose another output"));
        }
        if path.is_dir() {
            return Err(Hinted::error(format!("{} is a folder", path.display()), "add a file name to output"));
        }
        if !overwrite && occupied(&path)? {
            return Err(Hinted::error(
                format!("{} already exists", path.display()),
                "set overwrite, or choose another output",
            ));
        }
        Ok(Self {
            path,
            output: Output { format: Some(format), quality, metadata: MetadataPolicy::All, dpi: None },
            overwrite,
        })
    }
}

/// A format as people write it.
fn word(format: Format) -> &'static str {
    format.media_type().trim_start_matches("image/")
}

/// `fox_4x.png` of `fox.jpg`, as on the command line.
fn beside(source: &Path, factor: f64, format: Format) -> PathBuf {
    let factor = (factor * 100.0).round() / 100.0;
    let mut name = source.file_stem().unwrap_or_default().to_owned();
    name.push(format!("_{factor}x.{}", format.extension()));
    source.with_file_name(name)
}

fn upscale(
    enlarger: &Enlarger,
    picture: &Picture,
    request: &Request,
    file: &File,
    watch: &dyn Watch,
) -> anyhow::Result<Done> {
    let limits = Limits::for_own_files();
    let Outcome { width, height, plan, difference, timings: t, notes, .. } =
        write(&file.path, file.overwrite, |out| {
            let outcome = enlarger.job(&picture.bytes, request, &file.output, &limits, out, watch)?;
            out.flush()?;
            Ok(outcome)
        })?;
    let path = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()).display().to_string();
    let seconds = t.decode + t.plan + t.network + t.filters + t.encode;
    let (from, by) = (format!("{}x{}", picture.width, picture.height), plan.means(" and "));
    let mut text = format!("{path}: {from} to {width}x{height} by {by} in {}", human_seconds(seconds));
    notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
    let data = json!({
        "output": path, "width": width, "height": height, "seconds": seconds, "notes": notes, "invention": to_json(&difference),
    });
    Ok(Done { text, data })
}
