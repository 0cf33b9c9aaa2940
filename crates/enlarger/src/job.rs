//! What to make of an image: flags, and the job that they describe.

use std::{
    ffi::OsStr,
    io::{Seek, Write},
    path::Path,
    str::FromStr,
};

use clap::{
    Arg, Args, Command,
    builder::{PossibleValue, TypedValueParser},
    error::{ContextKind, ContextValue},
};
use enlarger_error::Explained;
use enlarger_image::{Format, Header, Limits, MetadataPolicy};
use enlarger_pipeline::{
    Enlarger, EnlargerOptions, Generative, Outcome, Output, PipelineError, Progress, Quality, Request, Size, Style,
    Watch, human_seconds, to_json,
};
use serde_json::json;

use crate::{
    dirs,
    generative::GenerativeArgs,
    machine::{self, MachineArgs, warn_of_threads, whole},
    printer::{self, File, Hinted},
    signals,
    style::{StyleArgs, choice},
    write::write,
};

/// What to make of each image.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Scale factor: any number from 1 to 16, such as 2x or 3.5 [default: 4x].
    #[arg(short, long, value_name = "N", conflicts_with_all = ["width", "height"], help_heading = SIZE)]
    scale: Option<Scale>,
    /// Output width in pixels; the height keeps the aspect ratio.
    #[arg(long, value_name = "PIXELS", conflicts_with = "height", value_parser = side, help_heading = SIZE)]
    width: Option<u32>,
    /// Output height in pixels; the width keeps the aspect ratio.
    #[arg(long, value_name = "PIXELS", value_parser = side, help_heading = SIZE)]
    height: Option<u32>,
    /// Maximum number of output pixels, such as 25M; the scale is reduced to fit.
    #[arg(long, value_name = "PIXELS", help_heading = SIZE, hide_short_help = true)]
    max_pixels: Option<Count>,
    /// Output format: png, jpeg, webp, tiff or avif [default: from the output name, else png].
    #[arg(short, long, value_parser = format, help_heading = FILE)]
    pub format: Option<Format>,
    /// Quality of JPEG, WebP and AVIF files, 1 to 100.
    #[arg(short = 'q', long, value_name = "N", value_parser = whole::<u8>(1..=100), help_heading = FILE)]
    file_quality: Option<u8>,
    /// Resolution to write into the file, in pixels per inch [default: the image's own].
    #[arg(long, value_name = "N", value_parser = dpi, help_heading = FILE)]
    dpi: Option<f32>,
    /// Remove metadata such as EXIF and XMP; the color profile is kept.
    #[arg(long, help_heading = FILE, hide_short_help = true)]
    strip: bool,
    /// Remove the GPS location; other metadata is kept.
    #[arg(long, conflicts_with = "strip", help_heading = FILE)]
    no_gps: bool,
    /// Model to use (see `enlarger models list`) [default: chosen to suit the image]. A+B@0.3 blends in 30% of B; A/B
    /// cleans with A, then enlarges with B.
    #[arg(short, long, env = "ENLARGER_MODEL", help_heading = MODEL)]
    model: Option<String>,
    /// Balance between speed and quality.
    #[arg(long, default_value = "best", value_parser = qualities(), help_heading = MODEL)]
    quality: Quality,
    /// The same as --quality draft.
    #[arg(long, conflicts_with = "quality", help_heading = MODEL, hide_short_help = true)]
    draft: bool,
    /// Random seed [default: derived from the image and the options].
    #[arg(long, value_name = "N", value_parser = seed, help_heading = MODEL, hide_short_help = true)]
    seed: Option<u64>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Width, in input pixels, of the strips that large images are cut into; narrower strips need less memory.
    #[arg(long, alias = "tile", value_name = "PIXELS", value_parser = whole::<u32>(16..=4096), help_heading = machine::HEADING, hide_short_help = true)]
    strip_width: Option<u32>,
    #[command(flatten)]
    style: StyleArgs,
    #[command(flatten)]
    generative: GenerativeArgs,
}

const SIZE: &str = "Size";
const FILE: &str = "Output file";
const MODEL: &str = "Model";

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A factor, with or without its x.
#[derive(Debug, Clone, Copy)]
struct Scale(f64);

impl FromStr for Scale {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches(['x', 'X']).parse::<f64>();
        match number {
            Ok(factor) if (1.0..=16.0).contains(&factor) => Ok(Self(factor)),
            _ => Err("expected a number from 1 to 16, such as 2x or 3.5".into()),
        }
    }
}

/// A number of pixels, with K or M.
#[derive(Debug, Clone, Copy)]
struct Count(f64);

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 1e3),
            Some((at, 'm' | 'M')) => (&text[..at], 1e6),
            _ => (text, 1.0),
        };
        match number.parse::<f64>() {
            Ok(n) if n * unit >= 1.0 && n.is_finite() => Ok(Self(n * unit)),
            _ => Err("expected a number of pixels, such as 25300000 or 25.3M".into()),
        }
    }
}

fn side(text: &str) -> Result<u32, String> {
    let side = text.parse().ok().filter(|side| *side > 0);
    side.ok_or_else(|| "expected a whole number of pixels, such as 4000".into())
}

/// A JPEG has 16 bits for it (JFIF 1.02).
fn dpi(text: &str) -> Result<f32, String> {
    let dpi = text.parse::<f32>().ok().filter(|dpi| (1.0..=65_535.0).contains(dpi));
    dpi.ok_or_else(|| "expected a number of pixels per inch from 1 to 65535, such as 300".into())
}

fn format(name: &str) -> Result<Format, String> {
    Format::from_extension(name)
        .filter(|f| f.can_encode())
        .ok_or_else(|| "expected png, jpeg, webp, tiff or avif".into())
}

/// The three, and for a number a word about the flag that takes one.
fn qualities() -> impl TypedValueParser<Value = Quality> {
    #[derive(Clone)]
    struct Qualities<P>(P);
    impl<P: TypedValueParser> TypedValueParser for Qualities<P> {
        type Value = P::Value;

        fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, clap::Error> {
            self.0.parse_ref(command, arg, value).map_err(|mut error| {
                if value.to_string_lossy().starts_with(|first: char| first.is_ascii_digit()) {
                    let tip = "to set the quality of a JPEG, WebP or AVIF file, use -q N";
                    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
                }
                error
            })
        }

        fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
            self.0.possible_values()
        }
    }
    Qualities(choice(Quality::ALL, Quality::name, Quality::name, Quality::what))
}

impl JobArgs {
    fn metadata(&self) -> MetadataPolicy {
        match (self.strip, self.no_gps) {
            (true, _) => MetadataPolicy::Strip,
            (_, true) => MetadataPolicy::NoGps,
            _ => MetadataPolicy::All,
        }
    }
}

/// What the flags ask for, ready to be done to any number of images.
pub struct Job<'a> {
    args: &'a JobArgs,
    /// Does it.
    pub enlarger: Enlarger,
    /// How large an image may be.
    pub limits: Limits,
    output: Output,
    style: Style,
    generative: Option<Generative>,
}

impl<'a> Job<'a> {
    /// Checks the flags and opens the models. Warns of what has no effect, unless `quiet`.
    ///
    /// # Errors
    /// If flags do not go together, or name what is not there; most end the program with code 2.
    pub fn new(args: &'a JobArgs, format: Format, quiet: bool) -> anyhow::Result<Self> {
        if !quiet {
            warn_of_threads(args.machine.threads);
            if args.file_quality.is_some() && matches!(format, Format::Png | Format::Tiff) {
                say!("warning: --file-quality has no effect on {}, which is lossless", format.name());
            }
        }
        let style = args.style.style()?;
        let generative = args.generative.generative(&style)?;
        let enlarger = Enlarger::new(EnlargerOptions {
            threads: args.machine.threads,
            strip: args.strip_width,
            models_dir: dirs::models_dir(),
            lanes: args.machine.lanes()?,
            model_dirs: args.generative.folders(),
            own_requests: true,
            generative: None,
            generator: args.generative.remote(),
        });
        // Such as a workflow that is not there.
        let enlarger = enlarger.map_err(|error| match error {
            PipelineError::Request { .. } => misused(&error),
            other => other.into(),
        })?;
        if generative.is_some() && !quiet {
            for missing in enlarger.library().missing() {
                say!("warning: the folder {} does not exist, so nothing is searched there", missing.display());
            }
        }
        if let Some(model) = &args.model {
            // Said once, and before any image is read.
            enlarger.check_model(model).map_err(|error| misused(&error))?;
        }
        if let (Some(asked), None) = (&generative, args.generative.remote()) {
            match enlarger.check(asked, &UntilSignal) {
                Err(error) if error.part().is_some() => return Err(misused(&error)),
                // Each image says it.
                _ => {}
            }
        }
        let output =
            Output { format: Some(format), quality: args.file_quality, metadata: args.metadata(), dpi: args.dpi };
        Ok(Self { args, enlarger, limits: Limits::for_own_files(), output, style, generative })
    }

    /// What is asked for an image of this size.
    pub fn request(&self, header: &Header) -> Request {
        Request {
            size: self.size(header.width, header.height),
            model: self.args.model.clone(),
            style: self.style.clone(),
            seed: self.args.seed,
            quality: if self.args.draft { Quality::Draft } else { self.args.quality },
            generative: self.generative.clone(),
            ..Request::default()
        }
    }

    fn size(&self, width: u32, height: u32) -> Size {
        let args = self.args;
        let asked = match (args.scale, args.width, args.height) {
            (_, Some(width), _) => Size::Width(width),
            (_, _, Some(height)) => Size::Height(height),
            (scale, ..) => Size::Factor(scale.map_or(4.0, |s| s.0)),
        };
        let factor = asked.factor(width, height);
        let pixels = f64::from(width) * f64::from(height);
        match args.max_pixels {
            // Rounding to whole pixels must not lead over the limit again.
            Some(Count(most)) if factor * factor * pixels > most => {
                let w = (most * f64::from(width) / f64::from(height)).sqrt().floor();
                let fits = |w: f64| w * (w * f64::from(height) / f64::from(width)).round() <= most;
                Size::Width(if fits(w) { w } else { w - 1.0 }.max(1.0) as u32)
            }
            _ => asked,
        }
    }

    /// Enlarges an image into `out`. A signal stops it.
    pub fn run<W: Write + Seek + Send>(
        &self,
        bytes: &[u8],
        request: &Request,
        out: &mut W,
        file: &File<'_>,
    ) -> anyhow::Result<Outcome> {
        Ok(self.enlarger.job(bytes, request, &self.output, &self.limits, out, &Watching(file))?)
    }

    /// Enlarges an image into a file: see [`write`].
    pub fn write(
        &self,
        bytes: &[u8],
        request: &Request,
        path: &Path,
        replace: bool,
        file: &File<'_>,
    ) -> anyhow::Result<Outcome> {
        write(path, replace, |out| self.run(bytes, request, out, file))
    }
}

/// What is wrong with an option, whatever the image.
fn misused(error: &PipelineError) -> anyhow::Error {
    Hinted::usage(error.to_string(), error.hint().unwrap_or_default().into_owned())
}

/// Hears signals.
struct UntilSignal;

impl Watch for UntilSignal {
    fn progress(&self, _: &Progress) {}

    fn cancelled(&self) -> bool {
        signals::stopped().is_some()
    }
}

/// Shows progress, and hears signals.
pub struct Watching<'a>(pub &'a File<'a>);

impl Watch for Watching<'_> {
    fn progress(&self, progress: &Progress) {
        self.0.progress(progress);
    }

    fn cancelled(&self) -> bool {
        signals::stopped().is_some()
    }
}

/// What was done to an image, in a line, and a line for each note.
pub fn sentence(name: &str, path: &Path, outcome: &Outcome) -> String {
    let t = &outcome.timings;
    let seconds = human_seconds(t.decode + t.plan + t.network + t.filters + t.encode);
    let source = outcome.plan.source;
    let mut line = format!(
        "{name} -> {}: {}x{} to {}x{} by {} in {seconds}",
        path.display(),
        source.width,
        source.height,
        outcome.width,
        outcome.height,
        outcome.plan.means(" and "),
    );
    for note in &outcome.notes {
        line.push_str(&format!("\n      note: {note}"));
    }
    line
}

/// The same as a JSON object.
pub fn done(name: &str, path: Option<&Path>, outcome: &Outcome) -> serde_json::Value {
    let mut line = json!({ "input": name, "status": "done", "result": to_json(outcome) });
    if let Some(path) = path {
        line["output"] = path.display().to_string().into();
    }
    line
}

/// Why an image was not enlarged, as a JSON object.
pub fn failure(name: &str, error: &anyhow::Error) -> serde_json::Value {
    let error = json!({ "message": printer::sentence(error), "hint": printer::hint_of(error) });
    json!({ "input": name, "status": "failed", "error": error })
}
