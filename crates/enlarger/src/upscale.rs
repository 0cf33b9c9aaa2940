//! `enlarger upscale`.

use std::{
    collections::HashSet,
    io::{Cursor, IsTerminal, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use enlarger_image::{Format, Limits, MetadataPolicy};
use enlarger_pipeline::{
    Enlarger, EnlargerOptions, Explanation, Look, Outcome, Output, PipelineError, Progress, Request, Size, Watch,
};
use serde_json::json;

use crate::{
    dirs,
    inputs::{Input, Target, expand},
    look::LookArgs,
    machine::{MachineArgs, warn_of_threads},
    printer::{self, Batch, File, Hinted, human_seconds},
};

/// Make pictures larger.
///
/// Reads PNG, JPEG, WebP, TIFF, BMP and GIF (first frame). A result is written beside its picture as NAME_4x.png
/// unless -o says otherwise. One broken picture in a batch is reported, and the rest goes on.
#[derive(Debug, Args)]
pub struct UpscaleArgs {
    /// Files, folders, patterns, or - for standard input.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// The file or folder to write; - is standard output.
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<String>,
    /// How many times as wide and high: 2x, 4x, 8x, 16x, or any number from 1 to 16 [default: 4x].
    #[arg(short, long, value_name = "N", conflicts_with_all = ["width", "height"])]
    scale: Option<Scale>,
    /// Width of the result in pixels; the height follows.
    #[arg(long, value_name = "PIXELS", conflicts_with = "height")]
    width: Option<u32>,
    /// Height of the result in pixels; the width follows.
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,
    /// Reduce the scale until the result has at most this many pixels; 25M is 25 million.
    #[arg(long, value_name = "PIXELS")]
    max_pixels: Option<Count>,
    /// A model's name, see `enlarger models list`; chosen by the picture if not given. A+B@0.3 is the mean of two, with 0.3
    /// of the second; A/B cleans by the first and enlarges by the second.
    #[arg(short, long, env = "ENLARGER_MODEL")]
    model: Option<String>,
    /// Quickly rather than well, for a first look: by the smallest network, whatever --model says.
    #[arg(long)]
    draft: bool,
    /// Tell what would be done and what it would cost, and do nothing.
    #[arg(long)]
    explain: bool,
    /// png, jpeg, webp, tiff or avif.
    #[arg(short, long, value_parser = format)]
    format: Option<Format>,
    /// 1 to 100, for jpeg, webp and avif.
    #[arg(short, long, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Side of a tile in input pixels: smaller takes less memory.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    tile: Option<u32>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Look into the folders of folders.
    #[arg(short, long)]
    recursive: bool,
    /// Leave results alone that are there already.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Replace results that are there already.
    #[arg(long)]
    overwrite: bool,
    /// Drop EXIF and XMP; the colour profile stays.
    #[arg(long)]
    strip: bool,
    /// Drop where the picture was taken, keep the rest.
    #[arg(long, conflicts_with = "strip")]
    no_gps: bool,
    /// One JSON object per picture on standard output.
    #[arg(long)]
    json: bool,
    /// Only errors.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    look: LookArgs,
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
            _ => Err("a scale is a number from 1 to 16, such as 2x or 3.5".into()),
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
            _ => Err("a number of pixels, such as 25300000 or 25.3M".into()),
        }
    }
}

fn format(name: &str) -> Result<Format, String> {
    Format::from_extension(name)
        .filter(|f| f.can_encode())
        .ok_or_else(|| "the formats that can be written are png, jpeg, webp, tiff and avif".into())
}

/// What became of one input.
enum Done {
    Made(PathBuf, Box<Outcome>),
    Printed(Box<Outcome>),
    Skipped(PathBuf),
    Explained(Box<Explanation>),
}

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the command.
pub fn run(args: UpscaleArgs) -> anyhow::Result<ExitCode> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("Ctrl-C cannot be watched")?;
    let inputs = expand(&args.inputs, args.recursive)?;
    let target = Target::of(args.output.as_deref(), &inputs)?;
    check_stdout(&target, &args)?;
    let format = match args.format {
        Some(format) => format,
        None => target.format()?.unwrap_or(Format::Png),
    };
    if !args.quiet {
        warn_of_threads(args.machine.threads);
    }
    let job = Job {
        look: args.look.look()?,
        enlarger: Enlarger::new(EnlargerOptions {
            threads: args.machine.threads,
            tile: args.tile,
            models_dir: dirs::models_dir(),
            backend: args.machine.backend()?,
        })?,
        output: Output { format: Some(format), quality: args.quality, metadata: metadata(&args) },
        limits: Limits::for_own_files(),
        target,
        args: &args,
    };
    job.all(&inputs)
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
        return Err(Hinted::error("the picture and --json cannot share standard output", "add -o FILE"));
    }
    if std::io::stdout().is_terminal() {
        return Err(Hinted::error(
            "a picture cannot be shown in the terminal",
            "add -o FILE, or pipe it into a program",
        ));
    }
    Ok(())
}

struct Job<'a> {
    enlarger: Enlarger,
    output: Output,
    limits: Limits,
    target: Target,
    look: Look,
    args: &'a UpscaleArgs,
}

impl Job<'_> {
    fn all(&self, inputs: &[Input]) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let batch = Batch::new(inputs.len(), self.args.quiet || self.args.explain);
        let (mut made, mut skipped, mut failed) = (0, 0, 0);
        let mut written = HashSet::new();
        for (index, input) in inputs.iter().enumerate() {
            let file = batch.begin(index, &input.name());
            let result = self.one_unwinding(input, &file, &mut written);
            file.end();
            let interrupted = STOP.load(Ordering::SeqCst);
            self.print_json(input, &result);
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
                    batch.line(&format!("{}: kept, {} is there already", input.name(), path.display()));
                }
                Err(_) if interrupted => break,
                Err(error) => {
                    failed += 1;
                    batch.fail(&input.name(), &format!("{error:#}"), printer::hint_of(&error).as_deref());
                }
            }
        }
        batch.finish();
        let interrupted = STOP.load(Ordering::SeqCst);
        if inputs.len() > 1 || interrupted {
            let done = if self.args.explain { "explained" } else { "enlarged" };
            let parts = [(made, done), (skipped, "kept"), (failed, "failed")];
            let parts: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
            let parts = if parts.is_empty() { "nothing done".into() } else { parts.join(", ") };
            let stopped = if interrupted { ", then interrupted" } else { "" };
            batch.line(&format!("{parts}{stopped}, {}", human_seconds(started.elapsed().as_secs_f64())));
        }
        Ok(match (interrupted, failed) {
            (true, _) => ExitCode::from(130),
            (_, 0) => ExitCode::SUCCESS,
            _ => ExitCode::from(1),
        })
    }

    /// A panic is our mistake; it must not take the rest of the batch along.
    fn one_unwinding(&self, input: &Input, file: &File<'_>, written: &mut HashSet<PathBuf>) -> anyhow::Result<Done> {
        catch_unwind(AssertUnwindSafe(|| self.one(input, file, written)))
            .unwrap_or_else(|_| Err(Hinted::error("an internal error, see above", "please report it")))
    }

    fn one(&self, input: &Input, file: &File<'_>, written: &mut HashSet<PathBuf>) -> anyhow::Result<Done> {
        let bytes = read(input, &self.limits)?;
        let header = enlarger_image::probe(&bytes, &self.limits).map_err(PipelineError::from)?;
        let request = self.request(header.width, header.height);
        if self.args.explain {
            return Ok(Done::Explained(Box::new(self.enlarger.dry_run(&bytes, &request, &self.limits)?)));
        }
        let factor = (request.size.factor(header.width, header.height) * 100.0).round() / 100.0;
        let extension = self.output.format.unwrap_or(Format::Png).extension();
        let Some(path) = self.target.path(input, &format!("_{factor}x"), extension) else {
            let mut out = Cursor::new(Vec::new());
            let outcome = self.work(&bytes, &request, &mut out, file)?;
            std::io::stdout().write_all(out.get_ref()).context("standard output")?;
            return Ok(Done::Printed(Box::new(outcome)));
        };
        if let Input::File(from, _) = input
            && same_file(from, &path)
        {
            return Err(Hinted::error("the result would replace its own source", "name another file with -o"));
        }
        if !written.insert(path.clone()) {
            return Err(Hinted::error(
                format!("{} was just made from another picture of this batch", path.display()),
                "enlarge pictures of the same name into different folders",
            ));
        }
        if path.exists() && self.args.skip_existing {
            return Ok(Done::Skipped(path));
        }
        if path.exists() && !self.args.overwrite {
            return Err(Hinted::error(
                format!("{} is there already", path.display()),
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
            look: self.look.clone(),
            seed: args.look.seed,
            draft: args.draft,
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
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let told = |e: std::io::Error| {
            Hinted::error(
                format!("{} cannot be written: {e}", path.display()),
                "check the folder, its space and permissions",
            )
        };
        std::fs::create_dir_all(folder).map_err(told)?;
        let temporary = tempfile::Builder::new()
            .prefix(".enlarger-")
            .suffix(".tmp")
            .permissions(permissions())
            .tempfile_in(folder)
            .map_err(told)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, temporary.as_file());
        let outcome = make(&mut out)?;
        out.flush().map_err(told)?;
        drop(out);
        if self.args.overwrite {
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
            outcome.plan.models().join(" and "),
        );
        for note in &outcome.notes {
            line.push_str(&format!("\n      note: {note}"));
        }
        line
    }

    fn print_json(&self, input: &Input, result: &anyhow::Result<Done>) {
        if !self.args.json {
            return;
        }
        let line = match result {
            Ok(Done::Made(path, outcome)) => {
                json!({ "input": input.name(), "status": "done", "output": path.display().to_string(), "result": **outcome })
            }
            Ok(Done::Printed(outcome)) => json!({ "input": input.name(), "status": "done", "result": **outcome }),
            Ok(Done::Explained(explained)) => {
                let mut line = json!(**explained);
                line["input"] = input.name().into();
                line["status"] = "explained".into();
                line
            }
            Ok(Done::Skipped(path)) => {
                json!({ "input": input.name(), "status": "skipped", "output": path.display().to_string() })
            }
            Err(error) => json!({
                "input": input.name(),
                "status": "failed",
                "error": { "message": format!("{error:#}"), "hint": printer::hint_of(error) },
            }),
        };
        println!("{line}");
    }
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

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn read(input: &Input, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let Input::File(path, _) = input else {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(limits.max_bytes + 1).read_to_end(&mut bytes).context("standard input")?;
        return Ok(bytes);
    };
    let told = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Hinted::error("there is no such file", "check the name and the folder"),
        std::io::ErrorKind::PermissionDenied => Hinted::error("the file may not be read", "check its permissions"),
        _ => Hinted::error(format!("the file cannot be read: {e}"), "check the file and its disk"),
    };
    let file = std::fs::File::open(path).map_err(told)?;
    let length = file.metadata().map_err(told)?.len();
    if length > limits.max_bytes {
        let most = limits.max_bytes >> 20;
        return Err(Hinted::error(
            format!("the file has {} MB, and at most {most} MB are read", length >> 20),
            "is it a picture? If so, save it compressed",
        ));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limits.max_bytes).read_to_end(&mut bytes).map_err(told)?;
    Ok(bytes)
}

struct Watching<'a>(&'a File<'a>);

impl Watch for Watching<'_> {
    fn progress(&self, progress: &Progress) {
        self.0.progress(progress);
    }

    fn cancelled(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}
