//! `enlarger upscale`.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io::{Cursor, IsTerminal, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{
    Arg, Args, Command,
    builder::{PossibleValue, TypedValueParser},
    error::{ContextKind, ContextValue},
};
use enlarger_image::{Format, Limits, MetadataPolicy};
use enlarger_pipeline::{
    Enlarger, EnlargerOptions, Explanation, Generative, Outcome, Output, PipelineError, Progress, Quality, Request,
    Size, Style, Watch, human_seconds,
};
use serde_json::json;

use crate::{
    dirs,
    generative::GenerativeArgs,
    inputs::{Input, Inputs},
    machine::{MachineArgs, warn_of_threads, whole},
    paths::{parent, real},
    printer::{self, Batch, File, Hinted, reason, sentence},
    results::pass_over_results,
    search::{Reason, special},
    signals,
    style::{StyleArgs, choice},
    target::{FileId, Names, Target},
};

/// Enlarge images.
///
/// Reads PNG, JPEG, WebP, TIFF, BMP and GIF (first frame). Each result is written next to its image as NAME_4x.png
/// unless -o says otherwise. A broken image is reported and the rest of the batch goes on. Results of earlier runs in a
/// folder are skipped.
#[derive(Debug, Args)]
pub struct UpscaleArgs {
    /// Files, folders, patterns, or `-` for standard input.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<OsString>,
    /// Output file or folder; `-` for standard output.
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<OsString>,
    /// Scale factor: any number from 1 to 16, such as 2x or 3.5 [default: 4x].
    #[arg(short, long, value_name = "N", conflicts_with_all = ["width", "height"])]
    scale: Option<Scale>,
    /// Output width in pixels; the height keeps the aspect ratio.
    #[arg(long, value_name = "PIXELS", conflicts_with = "height", value_parser = side)]
    width: Option<u32>,
    /// Output height in pixels; the width keeps the aspect ratio.
    #[arg(long, value_name = "PIXELS", value_parser = side)]
    height: Option<u32>,
    /// Maximum number of output pixels, such as 25M; the scale is reduced to fit.
    #[arg(long, value_name = "PIXELS")]
    max_pixels: Option<Count>,
    /// Model to use (see `enlarger models list`) [default: chosen to suit the image]. A+B@0.3 blends in 30% of B; A/B
    /// cleans with A, then enlarges with B.
    #[arg(short, long, env = "ENLARGER_MODEL")]
    model: Option<String>,
    /// Random seed [default: derived from the image and the options].
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,
    /// Balance between speed and quality.
    #[arg(long, default_value = "best", value_parser = qualities())]
    quality: Quality,
    /// The same as --quality draft.
    #[arg(long, conflicts_with = "quality")]
    draft: bool,
    /// Show the plan with its estimated time and memory, then exit.
    #[arg(long, visible_alias = "dry-run")]
    explain: bool,
    /// Output format: png, jpeg, webp, tiff or avif [default: from the output name, else png].
    #[arg(short, long, value_parser = format)]
    format: Option<Format>,
    /// Quality of JPEG, WebP and AVIF files, 1 to 100.
    #[arg(short = 'q', long, value_name = "N", value_parser = whole::<u8>(1..=100))]
    file_quality: Option<u8>,
    /// Width, in input pixels, of the strips that large images are cut into; narrower strips need less memory.
    #[arg(long, alias = "tile", value_name = "PIXELS", value_parser = whole::<u32>(16..=4096))]
    strip_width: Option<u32>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Include subfolders.
    #[arg(short, long)]
    recursive: bool,
    /// Skip images whose output already exists.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Overwrite existing output files, but never an image that is being enlarged.
    #[arg(long)]
    overwrite: bool,
    /// Remove metadata such as EXIF and XMP; the color profile is kept.
    #[arg(long)]
    strip: bool,
    /// Remove the GPS location; other metadata is kept.
    #[arg(long, conflicts_with = "strip")]
    no_gps: bool,
    /// Print one JSON object per image to standard output.
    #[arg(long)]
    json: bool,
    /// Print errors only.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    style: StyleArgs,
    #[command(flatten)]
    generative: GenerativeArgs,
}

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

/// The outcome of one input.
enum Done {
    Made(PathBuf, Box<Outcome>),
    Printed(Box<Outcome>),
    Skipped(PathBuf),
    Explained(Box<Explanation>),
}

/// Runs the command.
pub fn run(args: UpscaleArgs) -> anyhow::Result<ExitCode> {
    signals::watch().context("cannot listen for Ctrl-C")?;
    let mut inputs = Inputs::expand(&args.inputs, args.recursive);
    let target = Target::of(args.output.as_deref(), &inputs)?;
    let format = target.format(args.format)?;
    check_stdout(&target, &args)?;
    let given = Originals::of(&inputs);
    pass_over_results(&mut inputs, &target);
    if !args.quiet {
        warn_of_threads(args.machine.threads);
        if args.file_quality.is_some() && matches!(format, Format::Png | Format::Tiff) {
            eprintln!("warning: --file-quality has no effect on {}, which is lossless", format.name());
        }
    }
    let style = args.style.style()?;
    let upscale = Upscale {
        generative: args.generative.generative(&style)?,
        style,
        enlarger: Enlarger::new(EnlargerOptions {
            threads: args.machine.threads,
            strip: args.strip_width,
            models_dir: dirs::models_dir(),
            device: Some(args.machine.device()?),
            model_dirs: args.generative.folders(),
            own_requests: true,
            generative: None,
            generator: args.generative.remote(),
        })?,
        output: Output { format: Some(format), quality: args.file_quality, metadata: metadata(&args) },
        limits: Limits::for_own_files(),
        names: Names::new(&target, &inputs.list, format),
        originals: given.and(&inputs),
        args: &args,
    };
    if upscale.generative.is_some() && !args.quiet {
        for missing in upscale.enlarger.library().missing() {
            eprintln!("warning: the folder {} does not exist, so nothing is searched there", missing.display());
        }
    }
    upscale.all(&inputs)
}

fn metadata(args: &UpscaleArgs) -> MetadataPolicy {
    match (args.strip, args.no_gps) {
        (true, _) => MetadataPolicy::Strip,
        (_, true) => MetadataPolicy::NoGps,
        _ => MetadataPolicy::All,
    }
}

fn check_stdout(target: &Target, args: &UpscaleArgs) -> anyhow::Result<()> {
    if *target != Target::Stdout || args.explain {
        return Ok(());
    }
    if args.json {
        return Err(Hinted::usage("the image and --json cannot both go to standard output", "add -o FILE"));
    }
    if std::io::stdout().is_terminal() {
        return Err(Hinted::usage(
            "refusing to write image data to a terminal",
            "add -o FILE, or pipe the output into a program",
        ));
    }
    Ok(())
}

struct Upscale<'a> {
    enlarger: Enlarger,
    output: Output,
    limits: Limits,
    names: Names<'a>,
    originals: Originals,
    style: Style,
    generative: Option<Generative>,
    args: &'a UpscaleArgs,
}

impl Upscale<'_> {
    fn all(&self, inputs: &Inputs) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let total = inputs.list.len();
        let batch = Batch::new(total, self.args.quiet || self.args.explain);
        let (mut made, mut skipped, mut failed) = (0, 0, inputs.failed.len());
        self.tell_of_the_rest(inputs, &batch);
        let (mut written, mut told) = (HashSet::new(), HashSet::new());
        for (index, input) in inputs.list.iter().enumerate() {
            if signals::stopped().is_some() {
                break;
            }
            let file = batch.begin(index, &input.name());
            let result = self.one_unwinding(input, &file, &mut written);
            file.end();
            self.print_json(&input.name(), &result);
            if let Ok(Done::Made(_, outcome) | Done::Printed(outcome)) = &result {
                // Once for all images.
                let idle = outcome.plan.idle.iter().filter(|setting| told.insert((*setting).clone()));
                idle.for_each(|setting| batch.line(&format!("note: {setting}")));
            }
            match result {
                Ok(Done::Made(path, outcome)) => {
                    made += 1;
                    batch.line(&self.sentence(input, &path, &outcome));
                }
                Ok(Done::Printed(_)) => made += 1,
                Ok(Done::Explained(explained)) => {
                    made += 1;
                    if !self.args.json {
                        println!("{}\n{explained}", input.name());
                    }
                }
                Ok(Done::Skipped(path)) => {
                    skipped += 1;
                    batch.line(&format!("{}: skipped, {} exists", input.name(), path.display()));
                }
                Err(_) if signals::stopped().is_some() => break,
                Err(error) => {
                    failed += 1;
                    batch.fail(&input.name(), &error);
                }
            }
        }
        batch.finish();
        let stopped = signals::stopped();
        if total == 0 && inputs.failed.is_empty() {
            return Err(Hinted::error("nothing to enlarge", "specify the files to enlarge"));
        }
        if total > 1 || stopped.is_some() {
            let done = if self.args.explain { "explained" } else { "enlarged" };
            let parts = [(made, done), (skipped, "skipped"), (failed, "failed")];
            let parts: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
            let parts = if parts.is_empty() { "nothing was written".into() } else { parts.join(", ") };
            let time = human_seconds(started.elapsed().as_secs_f64());
            batch.line(&match stopped {
                Some(_) => format!("interrupted after {time}; {parts}"),
                None => format!("{parts}, {time}"),
            });
        }
        Ok(match (stopped, failed) {
            (Some(signal), _) => ExitCode::from(signal.exit_code()),
            (None, 0) => ExitCode::SUCCESS,
            (None, _) => ExitCode::from(1),
        })
    }

    /// Says what will not be enlarged, and why.
    fn tell_of_the_rest(&self, inputs: &Inputs, batch: &Batch) {
        // No bar is drawn yet, and what would be done is shown without one.
        if !self.args.quiet {
            inputs.passed_over_lines().iter().for_each(|line| eprintln!("{line}"));
        }
        for (name, error) in &inputs.failed {
            batch.fail(name, error);
        }
        if self.args.json {
            for (path, reason) in &inputs.passed_over {
                let reason = match reason {
                    Reason::Result => "already enlarged by enlarger".into(),
                    Reason::NamedAsResult => "named like a result".into(),
                    Reason::Format(format) => format!("{format} cannot be read"),
                    Reason::NotAFile(what) => format!("{what}, not a file"),
                    Reason::Hidden => "hidden".into(),
                };
                println!("{}", json!({ "input": path.display().to_string(), "status": "skipped", "reason": reason }));
            }
            for (name, error) in &inputs.failed {
                println!("{}", failure(name, error));
            }
        }
    }

    /// A panic is a bug of ours; it must not stop the rest of the batch.
    fn one_unwinding(&self, input: &Input, file: &File<'_>, written: &mut HashSet<PathBuf>) -> anyhow::Result<Done> {
        catch_unwind(AssertUnwindSafe(|| self.one(input, file, written)))
            .unwrap_or_else(|_| Err(Hinted::error("internal error (see above)", "please report it as a bug")))
    }

    fn one(&self, input: &Input, file: &File<'_>, written: &mut HashSet<PathBuf>) -> anyhow::Result<Done> {
        let bytes = read(input, &self.limits)?;
        let header = enlarger_image::header(&bytes, &self.limits).map_err(PipelineError::from)?;
        let request = self.request(header.width, header.height);
        if self.args.explain {
            return Ok(Done::Explained(Box::new(self.enlarger.dry_run(
                &bytes,
                &request,
                &self.limits,
                &Watching(file),
            )?)));
        }
        let factor = (request.size.factor(header.width, header.height) * 100.0).round() / 100.0;
        let Some(path) = self.names.of(input, factor) else {
            let mut out = Cursor::new(Vec::new());
            let outcome = self.work(&bytes, &request, &mut out, file)?;
            std::io::stdout().write_all(out.get_ref()).context("standard output")?;
            return Ok(Done::Printed(Box::new(outcome)));
        };
        if let Some(source) = input.source()
            && FileId::of(&source.path).is_some_and(|id| FileId::of(&path) == Some(id))
        {
            return Err(Hinted::error("the result would overwrite its own source", "choose another file with -o"));
        }
        let in_full = real(parent(&path)).join(path.file_name().unwrap_or_default());
        if !written.insert(in_full) {
            return Err(Hinted::error(
                format!("{} was already written for another image of this batch", path.display()),
                "enlarge images with the same name into different folders",
            ));
        }
        // Of a name that is too long this is said before the work, not after it.
        let exists = occupied(&path).map_err(|e| told(&path, &e))?;
        if exists && self.args.skip_existing {
            return Ok(Done::Skipped(path));
        }
        if let Some(what) = path.metadata().ok().and_then(|file| special(file.file_type())).filter(|_| !path.is_dir()) {
            let hint = "specify a file with -o, or use -o - for standard output";
            return Err(Hinted::error(format!("{} is {what}, not a file", path.display()), hint));
        }
        if let Some(why) = self.originals.why(&path) {
            return Err(Hinted::error(
                format!("the result would overwrite {}, which {why}", path.display()),
                "choose another folder with -o, or rename that image",
            ));
        }
        if exists && !self.args.overwrite {
            return Err(Hinted::error(
                format!("{} already exists", path.display()),
                "add --overwrite to replace it, or --skip-existing to keep it",
            ));
        }
        let outcome = self.write(&path, |out| self.work(&bytes, &request, out, file))?;
        Ok(Done::Made(path, Box::new(outcome)))
    }

    fn request(&self, width: u32, height: u32) -> Request {
        let args = self.args;
        let asked = match (args.scale, args.width, args.height) {
            (_, Some(width), _) => Size::Width(width),
            (_, _, Some(height)) => Size::Height(height),
            (scale, ..) => Size::Factor(scale.map_or(4.0, |s| s.0)),
        };
        let factor = asked.factor(width, height);
        let pixels = f64::from(width) * f64::from(height);
        let size = match args.max_pixels {
            // Rounding to whole pixels must not lead over the limit again.
            Some(Count(most)) if factor * factor * pixels > most => {
                let w = (most * f64::from(width) / f64::from(height)).sqrt().floor();
                let fits = |w: f64| w * (w * f64::from(height) / f64::from(width)).round() <= most;
                Size::Width(if fits(w) { w } else { w - 1.0 }.max(1.0) as u32)
            }
            _ => asked,
        };
        Request {
            size,
            model: args.model.clone(),
            style: self.style.clone(),
            seed: args.seed,
            quality: if args.draft { Quality::Draft } else { args.quality },
            generative: self.generative.clone(),
            ..Request::default()
        }
    }

    fn work<W: Write + std::io::Seek + Send>(
        &self,
        bytes: &[u8],
        request: &Request,
        out: &mut W,
        file: &File<'_>,
    ) -> anyhow::Result<Outcome> {
        Ok(self.enlarger.job(bytes, request, &self.output, &self.limits, out, &Watching(file))?)
    }

    /// Writes through a temporary file in the same folder, so that a half-written result never has the final name.
    fn write(
        &self,
        path: &Path,
        make: impl FnOnce(&mut std::io::BufWriter<&std::fs::File>) -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<Outcome> {
        let told = |error: std::io::Error| told(path, &error);
        let folder = parent(path);
        std::fs::create_dir_all(folder).map_err(told)?;
        let temporary = tempfile::Builder::new()
            .prefix(".enlarger-")
            .suffix(".tmp")
            .permissions(permissions())
            .tempfile_in(folder)
            .map_err(told)?;
        let _unfinished = Unfinished::new(temporary.path());
        let mut out = std::io::BufWriter::with_capacity(1 << 20, temporary.as_file());
        let outcome = make(&mut out)?;
        out.flush().map_err(told)?;
        drop(out);
        if self.args.overwrite || !occupied(path).map_err(told)? {
            temporary.persist(path).map_err(|e| told(e.error))?;
        } else {
            temporary.persist_noclobber(path).map_err(|e| told(e.error))?;
        }
        Ok(outcome)
    }

    fn sentence(&self, input: &Input, path: &Path, outcome: &Outcome) -> String {
        let t = &outcome.timings;
        let seconds = human_seconds(t.decode + t.plan + t.network + t.filters + t.encode);
        let source = outcome.plan.source;
        let mut line = format!(
            "{} -> {}: {}x{} to {}x{} by {} in {seconds}",
            input.name(),
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

    fn print_json(&self, name: &str, result: &anyhow::Result<Done>) {
        if !self.args.json {
            return;
        }
        let line = match result {
            Ok(Done::Made(path, outcome)) => {
                json!({ "input": name, "status": "done", "output": path.display().to_string(), "result": **outcome })
            }
            Ok(Done::Printed(outcome)) => json!({ "input": name, "status": "done", "result": **outcome }),
            Ok(Done::Explained(explained)) => {
                let mut line = json!(**explained);
                line["input"] = name.into();
                line["status"] = "explained".into();
                line
            }
            Ok(Done::Skipped(path)) => {
                let output = path.display().to_string();
                json!({ "input": name, "status": "skipped", "output": output, "reason": "the output already exists" })
            }
            Err(error) => failure(name, error),
        };
        println!("{line}");
    }
}

fn failure(name: &str, error: &anyhow::Error) -> serde_json::Value {
    let error = json!({ "message": sentence(error), "hint": printer::hint_of(error) });
    json!({ "input": name, "status": "failed", "error": error })
}

/// The images that no result may replace, whatever flags say, and why. Results of earlier runs are among them only if they
/// were named.
struct Originals(HashMap<FileId, &'static str>);

impl Originals {
    const GIVEN: &str = "is one of the images given";
    const UNSIGNED: &str = "is not marked as made by enlarger";

    /// Those that were named.
    fn of(inputs: &Inputs) -> Self {
        let mut originals = Self(HashMap::new());
        let named = inputs.list.iter().filter_map(Input::source).filter(|source| source.named);
        named.for_each(|source| originals.add(&source.path, Self::GIVEN));
        originals
    }

    /// And those that were found.
    fn and(mut self, inputs: &Inputs) -> Self {
        inputs.list.iter().filter_map(Input::source).for_each(|source| self.add(&source.path, Self::GIVEN));
        let passed_over = inputs.passed_over.iter().filter(|(_, reason)| *reason != Reason::Result);
        // There is nothing to lose in an empty file.
        let passed_over = passed_over.filter(|(path, _)| path.metadata().is_ok_and(|file| file.len() > 0));
        passed_over.for_each(|(path, _)| self.add(path, Self::UNSIGNED));
        self
    }

    fn add(&mut self, path: &Path, why: &'static str) {
        if let Some(id) = FileId::of(path) {
            self.0.entry(id).or_insert(why);
        }
    }

    fn why(&self, path: &Path) -> Option<&'static str> {
        self.0.get(&FileId::of(path)?).copied()
    }
}

/// While it lives, its temporary file is removed if the program is stopped.
struct Unfinished;

impl Unfinished {
    fn new(path: &Path) -> Self {
        // Absolute, should the folder have been named relatively; if that fails it is as it was.
        signals::set_unfinished(Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())));
        Self
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        signals::set_unfinished(None);
    }
}

/// Whether something is in a result's place. An empty file does not count: an interrupted program left it there.
fn occupied(path: &Path) -> std::io::Result<bool> {
    match path.symlink_metadata() {
        Ok(there) => Ok(!there.is_file() || there.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn told(path: &Path, error: &std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::InvalidFilename => "choose a shorter name with -o FILE",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, or choose another disk with -o",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "choose another folder with -o",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a file has the same name as the output folder; choose another with -o"
        }
        _ => "check the folder, its space and permissions",
    };
    Hinted::error(format!("cannot write {}: {}", path.display(), reason(error)), hint)
}

/// New files get the mode that the person's umask gives, as from any program; a temporary file's own is 0600.
#[cfg(unix)]
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

#[cfg(not(unix))]
fn permissions() -> std::fs::Permissions {
    std::fs::metadata(std::env::temp_dir()).map(|m| m.permissions()).expect("the temporary folder is there")
}

/// The bytes of an input. A signal ends the wait for them.
fn read(input: &Input, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let (sender, receiver) = channel();
    let (input, limits) = (input.clone(), *limits);
    // It may wait for ever, and no signal interrupts it: then it goes down with the program.
    std::thread::Builder::new().name("read".into()).spawn(move || sender.send(read_now(&input, &limits)))?;
    loop {
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(bytes) => return bytes,
            Err(RecvTimeoutError::Timeout) if signals::stopped().is_none() => {}
            Err(_) => return Err(Hinted::error("reading was interrupted", "try again")),
        }
    }
}

fn read_now(input: &Input, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let Input::File(source) = input else {
        return read_picture(std::io::stdin().lock(), "standard input", limits.max_bytes);
    };
    let path = &source.path;
    let told = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(to) => Hinted::error(format!("it links to {}, which does not exist", to.display()), "fix the link"),
            Err(_) => Hinted::error("no such file", "check the name and the folder"),
        },
        std::io::ErrorKind::PermissionDenied => Hinted::error("permission denied", "check the file's permissions"),
        _ => Hinted::error(format!("cannot read the file: {}", reason(&e)), "check the file and its disk"),
    };
    // Before it is opened: that alone would wait for somebody who writes to a pipe.
    let metadata = path.metadata().map_err(told)?;
    if let Some(what) = special(metadata.file_type()) {
        let hint = "give a file, or pipe the image in and use - for standard input";
        return Err(Hinted::error(format!("this is {what}, not a file"), hint));
    }
    if metadata.len() > limits.max_bytes {
        return Err(too_long("the file", limits.max_bytes));
    }
    read_picture(std::fs::File::open(path).map_err(told)?, "the file", limits.max_bytes)
}

/// Bytes that identify an image format; the start of an SVG drawing needs by far the most.
const SIGNATURE: u64 = 1024;

/// Reads to the end, but stops at the limit, and early in what cannot be an image: it may never end.
fn read_picture(mut from: impl Read, what: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
    let told =
        |e: std::io::Error| Hinted::error(format!("cannot read {what}: {}", reason(&e)), "check the file and its disk");
    let mut bytes = Vec::new();
    from.by_ref().take(SIGNATURE).read_to_end(&mut bytes).map_err(told)?;
    if bytes.is_empty() {
        return Err(Hinted::error(format!("{what} is empty"), "check the program that should have written it"));
    }
    Format::sniff(&bytes).map_err(PipelineError::from)?;
    let rest = (limit + 1).saturating_sub(bytes.len() as u64);
    from.take(rest).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > limit { Err(too_long(what, limit)) } else { Ok(bytes) }
}

fn too_long(what: &str, limit: u64) -> anyhow::Error {
    let most = limit / 1_000_000;
    Hinted::error(
        format!("{what} is larger than the limit of {most} MB"),
        "if it is an image, save it with compression",
    )
}

struct Watching<'a>(&'a File<'a>);

impl Watch for Watching<'_> {
    fn progress(&self, progress: &Progress) {
        self.0.progress(progress);
    }

    fn cancelled(&self) -> bool {
        signals::stopped().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io::repeat;

    use super::*;

    #[test]
    fn reading_ends_at_the_limit_and_at_what_is_not_a_picture() {
        let signature = b"\x89PNG\r\n\x1a\n";
        let said = |from: &mut dyn Read| read_picture(from, "standard input", 3_000_000).map_err(|e| e.to_string());
        let endless = said(&mut signature.chain(repeat(0)));
        assert_eq!(endless, Err("standard input is larger than the limit of 3 MB".into()));
        // Without a limit's worth of bytes being kept: this would never end.
        let nothing = read_picture(repeat(0), "the file", u64::MAX - 1).map_err(|e| e.to_string());
        assert!(nothing.is_err_and(|said| said.contains("not an image")));
        assert_eq!(said(&mut &b""[..]), Err("standard input is empty".into()));
        assert_eq!(said(&mut signature.chain(repeat(0).take(2_999_992))).map(|bytes| bytes.len()), Ok(3_000_000));
        assert!(said(&mut signature.chain(repeat(0).take(2_999_993))).is_err());
    }
}
