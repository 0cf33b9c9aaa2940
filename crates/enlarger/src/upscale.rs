//! `enlarger upscale`.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io::{Cursor, IsTerminal, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use enlarger_pipeline::{Explanation, NamePattern, Outcome, PipelineError, human_seconds, to_json};
use serde_json::json;

use crate::{
    inputs::{Input, Inputs},
    job::{self, Job, JobArgs, Watching},
    paths::{parent, real},
    printer::{Batch, File, Hinted},
    read::read,
    results::pass_over_results,
    search::{Reason, special},
    signals,
    target::{FileId, Names, Target},
    write::{cannot_write, occupied},
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
    /// Names of output files, with {stem}, {scale}, {width}, {height} and {ext} [default: {stem}_{scale}x.{ext}].
    #[arg(long, value_name = "PATTERN")]
    name: Option<NamePattern>,
    /// Include subfolders.
    #[arg(short, long)]
    recursive: bool,
    /// Skip images whose output already exists.
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Overwrite existing output files, but never an image that is being enlarged.
    #[arg(long)]
    overwrite: bool,
    /// Show the plan with its estimated time and memory, then exit.
    #[arg(long, visible_alias = "dry-run")]
    explain: bool,
    /// Print one JSON object per image to standard output.
    #[arg(long)]
    json: bool,
    /// Print errors only.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    job: JobArgs,
}

/// The outcome of one input.
enum Done {
    Made(PathBuf, Box<Outcome>),
    Printed(Box<Outcome>),
    Skipped(PathBuf),
    Explained(Box<Explanation>),
}

/// What became of a batch so far.
#[derive(Default)]
struct Tally {
    made: usize,
    skipped: usize,
    failed: usize,
    /// Settings without effect that were mentioned.
    told: HashSet<String>,
}

/// The results of a batch, by their full paths.
type Written = Mutex<HashSet<PathBuf>>;

/// Runs the command.
pub fn run(args: UpscaleArgs) -> anyhow::Result<ExitCode> {
    signals::watch().context("cannot listen for Ctrl-C")?;
    let mut inputs = Inputs::expand(&args.inputs, args.recursive);
    let target = Target::of(args.output.as_deref(), &inputs)?;
    let format = target.format(args.job.format)?;
    check_stdout(&target, &args)?;
    if args.name.is_some() && matches!(target, Target::File(_) | Target::Stdout) {
        return Err(Hinted::usage("--name has no effect on a single output", "give -o a folder, or omit --name"));
    }
    let given = Originals::of(&inputs);
    pass_over_results(&mut inputs, &target);
    let pattern = args.name.clone().unwrap_or_default();
    let upscale = Upscale {
        job: Job::new(&args.job, format, args.quiet)?,
        names: Names::new(&target, &pattern, &inputs.list, format),
        originals: given.and(&inputs),
        args: &args,
    };
    upscale.all(&inputs)
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
    job: Job<'a>,
    names: Names<'a>,
    originals: Originals,
    args: &'a UpscaleArgs,
}

impl Upscale<'_> {
    fn all(&self, inputs: &Inputs) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let total = inputs.list.len();
        let batch = Batch::new(total, self.args.quiet || self.args.explain);
        self.tell_of_the_rest(inputs, &batch);
        let tally = Mutex::new(Tally { failed: inputs.failed.len(), ..Tally::default() });
        let (next, written) = (AtomicUsize::default(), Mutex::default());
        let work = || {
            while signals::stopped().is_none() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(input) = inputs.list.get(index) else { break };
                let file = batch.begin(index, &input.name());
                let result = self.one_unwinding(input, &file, &written);
                file.end();
                self.tell(input, result, &batch, &mut tally.lock().expect("printing does not panic"));
            }
        };
        // As many at once as there is room for on GPUs; on the CPU, one.
        let at_once = if self.args.explain { 1 } else { self.job.enlarger.slots().min(total) };
        thread::scope(|scope| {
            (1..at_once).for_each(|_| _ = scope.spawn(work));
            work();
        });
        let Tally { made, skipped, failed, .. } = tally.into_inner().expect("printing does not panic");
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

    /// Says what became of an image, and counts it.
    fn tell(&self, input: &Input, result: anyhow::Result<Done>, batch: &Batch, tally: &mut Tally) {
        self.print_json(&input.name(), &result);
        if let Ok(Done::Made(_, outcome) | Done::Printed(outcome)) = &result {
            // Once for all images.
            let idle = outcome.plan.idle.iter().filter(|setting| tally.told.insert((*setting).clone()));
            idle.for_each(|setting| batch.line(&format!("note: {setting}")));
        }
        match result {
            Ok(Done::Made(path, outcome)) => {
                tally.made += 1;
                batch.line(&job::sentence(&input.name(), &path, &outcome));
            }
            Ok(Done::Printed(_)) => tally.made += 1,
            Ok(Done::Explained(explained)) => {
                tally.made += 1;
                if !self.args.json {
                    println!("{}\n{explained}", input.name());
                }
            }
            Ok(Done::Skipped(path)) => {
                tally.skipped += 1;
                batch.line(&format!("{}: skipped, {} exists", input.name(), path.display()));
            }
            Err(_) if signals::stopped().is_some() => {}
            Err(error) => {
                tally.failed += 1;
                batch.fail(&input.name(), &error);
            }
        }
    }

    /// Says what will not be enlarged, and why.
    fn tell_of_the_rest(&self, inputs: &Inputs, batch: &Batch) {
        // No bar is drawn yet, and what would be done is shown without one.
        if !self.args.quiet {
            inputs.passed_over_lines().iter().for_each(|line| say!("{line}"));
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
                println!("{}", job::failure(name, error));
            }
        }
    }

    /// A panic is a bug of ours; it must not stop the rest of the batch.
    fn one_unwinding(&self, input: &Input, file: &File<'_>, written: &Written) -> anyhow::Result<Done> {
        catch_unwind(AssertUnwindSafe(|| self.one(input, file, written)))
            .unwrap_or_else(|_| Err(Hinted::error("internal error (see above)", "please report it as a bug")))
    }

    fn one(&self, input: &Input, file: &File<'_>, written: &Written) -> anyhow::Result<Done> {
        let Job { enlarger, limits, .. } = &self.job;
        let bytes = read(input, limits)?;
        let header = enlarger_image::header(&bytes, limits).map_err(PipelineError::from)?;
        let request = self.job.request(&header);
        if self.args.explain {
            return Ok(Done::Explained(Box::new(enlarger.dry_run(&bytes, &request, limits, &Watching(file))?)));
        }
        let size = request.size;
        let factor = size.factor(header.width, header.height);
        let Some(path) = self.names.of(input, factor, size.result(header.width, header.height)) else {
            let mut out = Cursor::new(Vec::new());
            let outcome = self.job.run(&bytes, &request, &mut out, file)?;
            std::io::stdout().write_all(out.get_ref()).context("standard output")?;
            return Ok(Done::Printed(Box::new(outcome)));
        };
        if let Some(source) = input.source()
            && FileId::of(&source.path).is_some_and(|id| FileId::of(&path) == Some(id))
        {
            return Err(Hinted::error("the result would overwrite its own source", "choose another file with -o"));
        }
        let in_full = real(parent(&path)).join(path.file_name().unwrap_or_default());
        if !written.lock().expect("no panic under it").insert(in_full) {
            return Err(Hinted::error(
                format!("{} was already written for another image of this batch", path.display()),
                "enlarge images with the same name into different folders",
            ));
        }
        // Of a name that is too long this is said before the work, not after it.
        let exists = occupied(&path).map_err(|e| cannot_write(&path, &e))?;
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
        let outcome = self.job.write(&bytes, &request, &path, self.args.overwrite, file)?;
        Ok(Done::Made(path, Box::new(outcome)))
    }

    fn print_json(&self, name: &str, result: &anyhow::Result<Done>) {
        if !self.args.json {
            return;
        }
        let line = match result {
            Ok(Done::Made(path, outcome)) => job::done(name, Some(path), outcome),
            Ok(Done::Printed(outcome)) => job::done(name, None, outcome),
            Ok(Done::Explained(explained)) => {
                let mut line = to_json(&**explained);
                line["input"] = name.into();
                line["status"] = "explained".into();
                line
            }
            Ok(Done::Skipped(path)) => {
                let output = path.display().to_string();
                json!({ "input": name, "status": "skipped", "output": output, "reason": "the output already exists" })
            }
            Err(error) => job::failure(name, error),
        };
        println!("{line}");
    }
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
