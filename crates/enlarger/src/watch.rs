//! `enlarger watch`: enlarges what arrives in a folder.

mod arrivals;
mod journal;

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::{ErrorKind, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use enlarger_image::ImageError;
use enlarger_pipeline::{NamePattern, Outcome, PipelineError, human_seconds, numbered};
use serde_json::json;

use crate::{
    freed,
    job::{self, Job, JobArgs},
    paths::{parent, real},
    printer::{self, Batch, File, Hinted, reason, sentence},
    results::says_it_is_a_result,
    search::{Reason, search},
    signals,
    write::{cannot_write, occupied},
};
use arrivals::{Arrivals, Stamp};
use journal::{Journal, State};

/// Enlarge what arrives in a folder, until stopped.
///
/// Images that are already there come first. A file is read once it has stopped changing. Files that cannot be enlarged are
/// moved to the subfolder `rejected`, with a text file that says why. What was enlarged is remembered in the output folder, so that
/// nothing is done twice after a restart. No file is ever overwritten.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Folder to watch.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Folder for the results [default: `enlarged` in the watched folder].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Names of output files, with {stem}, {scale}, {width}, {height} and {ext}.
    #[arg(long, value_name = "PATTERN", default_value = NamePattern::DEFAULT)]
    name: NamePattern,
    /// Include subfolders.
    #[arg(short, long)]
    recursive: bool,
    /// Exit when everything that is there is done, instead of waiting for more.
    #[arg(long)]
    once: bool,
    /// How many seconds a file must stay unchanged before it is read.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, hide_short_help = true)]
    settle: Duration,
    /// How often to look for new files, in seconds, where the system does not report them, as on network drives.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, hide_short_help = true)]
    poll: Duration,
    /// Print one JSON object per image to standard output.
    #[arg(long)]
    json: bool,
    /// Print errors only.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    job: JobArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected a number of seconds from 0.01 to 86400".into())
}

/// The subfolder for what cannot be enlarged.
const REJECTED: &str = "rejected";
/// The subfolder for results, if no other folder is named.
const ENLARGED: &str = "enlarged";
/// The first pause after a failure that is not the image's fault, such as a full disk. It doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Runs the command.
pub fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    freed::goes_back();
    signals::watch().context("cannot listen for Ctrl-C")?;
    let folder = std::path::absolute(&args.folder).context("cannot find the current folder")?;
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        return Err(Hinted::error(format!("{} {what}", args.folder.display()), "create the folder, or check its name"));
    }
    let results = match &args.output {
        None => folder.join(ENLARGED),
        Some(given) => {
            std::path::absolute(given).map_err(|_| Hinted::usage("-o is empty", "specify a folder, or omit -o"))?
        }
    };
    let watch = Watch {
        job: Job::new(&args.job, args.job.format.unwrap_or_default(), args.quiet)?,
        journal: Journal::open(&results)?,
        batch: Batch::new(0, args.quiet),
        arrivals: Arrivals::new(&folder, args.recursive, args.settle),
        retries: HashMap::new(),
        told: None,
        counts: Counts::default(),
        folder,
        results,
        args: &args,
    };
    watch.run()
}

struct Watch<'a> {
    args: &'a WatchArgs,
    /// The watched folder.
    folder: PathBuf,
    /// The folder of results.
    results: PathBuf,
    job: Job<'a>,
    journal: Journal,
    arrivals: Arrivals,
    batch: Batch,
    /// When to try again what failed for a reason that may go away, and how long to wait the next time.
    retries: HashMap<PathBuf, (Instant, Duration)>,
    /// The trouble with the folder itself that was said last.
    told: Option<String>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    enlarged: usize,
    rejected: usize,
    failed: usize,
}

/// How a file was dealt with.
enum End {
    Enlarged(PathBuf, Box<Outcome>),
    /// It was, before the program was killed.
    Finished(PathBuf),
    /// It is a result itself.
    Result,
    /// It went away before it was read.
    Gone,
    /// It cannot be enlarged.
    Rejected(anyhow::Error),
    /// The machine, a disk or a model is at fault.
    Later(anyhow::Error),
}

impl Watch<'_> {
    fn run(mut self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        self.batch.line(&format!("watching {}; results go to {}", self.folder.display(), self.results.display()));
        while signals::stopped().is_none() {
            let waiting = self.round();
            if self.args.once && !waiting {
                break;
            }
            // What is expected to settle is looked at often.
            let most = if waiting { self.args.settle / 4 } else { self.args.poll };
            self.arrivals.wait(most.min(self.args.poll));
        }
        self.batch.finish();
        self.summary(started.elapsed());
        Ok(match signals::stopped() {
            // To be stopped is how it usually ends. What was interrupted is done again.
            Some(_) if !self.args.once => ExitCode::SUCCESS,
            Some(signal) => ExitCode::from(signal.exit_code()),
            None if self.counts.rejected + self.counts.failed > 0 => ExitCode::from(1),
            None => ExitCode::SUCCESS,
        })
    }

    fn summary(&self, time: Duration) {
        let Counts { enlarged, rejected, failed } = self.counts;
        let parts = [(enlarged, "enlarged"), (rejected, "rejected"), (failed, "failed")];
        let parts: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let parts = if parts.is_empty() { "nothing was enlarged".into() } else { parts.join(", ") };
        let time = human_seconds(time.as_secs_f64());
        self.batch.line(&match signals::stopped() {
            Some(_) => format!("stopped after {time}; {parts}"),
            None => format!("{parts}, {time}"),
        });
    }

    /// Looks once, and deals with what is ready. Whether something is still expected.
    fn round(&mut self) -> bool {
        let Some(found) = self.look() else { return false };
        let mut waiting = self.arrivals.see(&found);
        for (path, stamp) in found {
            if signals::stopped().is_some() {
                return true;
            }
            if !self.arrivals.is_ready(&path) {
                continue;
            }
            if self.retries.get(&path).is_some_and(|(when, _)| *when > Instant::now()) {
                // Somebody who waits for the end does not wait for a disk to be emptied.
                waiting |= !self.args.once;
                continue;
            }
            self.deal_with(&path, stamp);
        }
        waiting
    }

    /// The files that are there and not dealt with, with their stamps; nothing while the folder cannot be read, which is said once.
    fn look(&mut self) -> Option<Vec<(PathBuf, Stamp)>> {
        let findings = search(&self.folder, self.args.recursive);
        let trouble = findings.unreadable.first().map(|(folder, error)| (folder == &self.folder, folder, error));
        let told = trouble.as_ref().map(|(_, folder, error)| match error.kind() {
            ErrorKind::NotFound => format!("{} is gone; waiting for it to come back", folder.display()),
            _ => format!("cannot read {}: {}; trying again", folder.display(), reason(error)),
        });
        let whole = trouble.is_some_and(|(whole, ..)| whole);
        if told != self.told {
            match &told {
                Some(told) => self.batch.say(&format!("warning: {told}")),
                None => self.batch.line(&format!("{} can be read again", self.folder.display())),
            }
            // Its successor is another folder to the system.
            self.arrivals.listen();
            self.told = told;
        }
        if whole {
            self.counts.failed += usize::from(self.args.once);
            return None;
        }
        let unreadable = findings.passed_over.into_iter().filter(|(_, why)| matches!(why, Reason::Format(_)));
        let all = findings.images.into_iter().chain(unreadable.map(|(path, _)| path));
        let outside = Outside::of(&self.folder, &self.results);
        let mut found: Vec<_> = all
            .filter(|path| !outside.includes(path))
            .filter_map(|path| Some((path.clone(), Stamp::of(&path)?)))
            .filter(|(path, stamp)| !self.journal.is_finished(path, *stamp))
            .collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.retries.retain(|path, _| found.iter().any(|(found, _)| found == path));
        Some(found)
    }

    /// A path as messages have it.
    fn inside<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.folder).unwrap_or(path)
    }

    fn deal_with(&mut self, path: &Path, stamp: Stamp) {
        let name = self.inside(path).display().to_string();
        let end = {
            let file = self.batch.begin(0, &name);
            let end = self.enlarge_unwinding(path, stamp, &file);
            file.end();
            end
        };
        if signals::stopped().is_some() && !matches!(end, End::Enlarged(..)) {
            return;
        }
        if !matches!(end, End::Later(_)) {
            self.retries.remove(path);
        }
        match end {
            End::Enlarged(result, outcome) => {
                self.counts.enlarged += 1;
                self.batch.line(&job::sentence(&name, &result, &outcome));
                self.print(|| job::done(&name, Some(&result), &outcome));
                self.note(path, stamp, State::Done, &result);
            }
            End::Finished(result) => {
                self.batch.line(&format!("{name} -> {}: finished earlier", result.display()));
                self.note(path, stamp, State::Done, &result);
            }
            End::Result => {
                let why = "already enlarged by enlarger";
                self.batch.line(&format!("skipped {name}: {why}"));
                self.print(|| json!({ "input": name, "status": "skipped", "reason": why }));
                self.note(path, stamp, State::Skipped, Path::new(""));
            }
            End::Gone => {}
            End::Rejected(error) => self.reject(path, &name, stamp, &error),
            End::Later(error) => self.put_off(path, &name, &error),
        }
    }

    /// A panic is a bug of ours; it must not stop the rest.
    fn enlarge_unwinding(&self, path: &Path, stamp: Stamp, file: &File<'_>) -> End {
        match catch_unwind(AssertUnwindSafe(|| self.enlarge(path, stamp, file))) {
            Ok(Ok(end)) => end,
            Ok(Err(error)) if is_the_images_fault(&error) => End::Rejected(error),
            Ok(Err(error)) => End::Later(error),
            Err(_) => End::Rejected(Hinted::error("internal error", "please report it as a bug, with the image")),
        }
    }

    fn enlarge(&self, path: &Path, stamp: Stamp, file: &File<'_>) -> anyhow::Result<End> {
        if says_it_is_a_result(path) {
            return Ok(End::Result);
        }
        let limits = &self.job.limits;
        if stamp.bytes > limits.max_bytes {
            let error = ImageError::TooManyBytes { bytes: stamp.bytes, limit: limits.max_bytes };
            return Err(PipelineError::from(error).into());
        }
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(End::Gone),
            Err(error) => {
                let what = format!("cannot read the file: {}", reason(&error));
                return Err(Hinted::error(what, "check the file's permissions and its disk"));
            }
        };
        let header = enlarger_image::header(&bytes, limits).map_err(PipelineError::from)?;
        let request = self.job.request(&header);
        let size = request.size;
        let name = self.args.name.fill(
            path.file_stem().unwrap_or_default(),
            size.factor(header.width, header.height),
            size.result(header.width, header.height),
            self.args.job.format.unwrap_or_default().extension(),
        );
        let first = self.results.join(parent_inside(self.inside(path))).join(name);
        if let Some(begun) = self.journal.begun(path, stamp)?
            && occupied(&begun)?
        {
            return Ok(End::Finished(begun));
        }
        let result = match free(&first) {
            Ok(result) => result,
            Err((path, error)) if error.kind() == ErrorKind::InvalidFilename => {
                let name = path.file_name().unwrap_or_default().display();
                let hint = "rename the image, or choose shorter names with --name";
                let error = Hinted::error(format!("its result cannot be called {name}: {}", reason(&error)), hint);
                return Ok(End::Rejected(error));
            }
            Err((path, error)) => return Err(cannot_write(&path, &error)),
        };
        self.journal.write(path, stamp, State::Begun, &result)?;
        let outcome = self.job.write(&bytes, &request, &result, false, file)?;
        Ok(End::Enlarged(result, Box::new(outcome)))
    }

    /// Moves a file aside, with a text that says why.
    fn reject(&mut self, path: &Path, name: &str, stamp: Stamp, error: &anyhow::Error) {
        // Whoever is still writing it has only paused.
        if Stamp::of(path) != Some(stamp) {
            return;
        }
        self.counts.rejected += 1;
        let hint = printer::hint_of(error);
        self.print(|| job::failure(name, error));
        match move_aside(path, &self.folder.join(REJECTED).join(self.inside(path)), &explanation(name, error)) {
            Ok(place) => {
                let place = self.inside(&place).display();
                self.batch.say(&format!("error: {name}: {}; moved to {place}", sentence(error)));
            }
            Err(why) => {
                self.batch.say(&format!("error: {name}: {}", sentence(error)));
                let why = reason(&why);
                self.batch.say(&format!("warning: {name} could not be moved to {REJECTED}/ and stays: {why}"));
                self.note(path, stamp, State::Rejected, Path::new(""));
            }
        }
        if let Some(hint) = hint {
            self.batch.say(&format!("hint: {hint}"));
        }
    }

    /// Something other than the image is at fault, and may change.
    fn put_off(&mut self, path: &Path, name: &str, error: &anyhow::Error) {
        self.counts.failed += usize::from(self.args.once);
        let pause = self.retries.get(path).map_or(PAUSE, |(_, last)| (*last * 2).min(LONGEST_PAUSE));
        self.retries.insert(path.to_owned(), (Instant::now() + pause, pause));
        let next = if self.args.once {
            String::new()
        } else {
            format!("; trying again in {}", human_seconds(pause.as_secs_f64()))
        };
        self.batch.say(&format!("error: {name}: {}{next}", sentence(error)));
        if let Some(hint) = printer::hint_of(error) {
            self.batch.say(&format!("hint: {hint}"));
        }
        self.print(|| job::failure(name, error));
    }

    fn note(&self, path: &Path, stamp: Stamp, state: State, result: &Path) {
        if let Err(error) = self.journal.write(path, stamp, state, result) {
            self.batch.say(&format!("warning: {}", sentence(&error)));
        }
    }

    fn print(&self, line: impl FnOnce() -> serde_json::Value) {
        if self.args.json {
            println!("{}", line());
        }
    }
}

fn parent_inside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Whether another try could not help: the file, or what is asked of it, is at fault.
fn is_the_images_fault(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<PipelineError>() {
        Some(PipelineError::Image(ImageError::Io(_) | ImageError::OutOfMemory { .. })) => false,
        Some(PipelineError::Image(_) | PipelineError::Request { .. }) => true,
        _ => false,
    }
}

/// The path, or if something is there the first with a number where nothing is. An error comes with the path that it is about.
fn free(path: &Path) -> Result<PathBuf, (PathBuf, std::io::Error)> {
    let name = path.file_name().unwrap_or_default();
    let candidates = (2..).map(|number| path.with_file_name(numbered(name, number)));
    for candidate in std::iter::once(path.to_owned()).chain(candidates) {
        match occupied(&candidate) {
            Ok(true) => {}
            Ok(false) => return Ok(candidate),
            Err(error) => return Err((candidate, error)),
        }
    }
    unreachable!("there are more numbers than files")
}

/// Moves a file to where nothing is, and writes a text beside it. Nothing is overwritten.
fn move_aside(from: &Path, to: &Path, text: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(parent(to))?;
    let name = to.file_name().unwrap_or_default();
    let mut place = to.to_owned();
    for number in 2.. {
        if !place.try_exists()? {
            break;
        }
        place = to.with_file_name(numbered(name, number));
    }
    std::fs::rename(from, &place)?;
    // Why was said already; the text is for those who were not there.
    let beside = place.with_file_name(name_of_text(place.file_name().unwrap_or_default()));
    let _ = std::fs::File::create_new(beside).and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(place)
}

/// Most bytes of a name on common file systems.
const LONGEST_NAME: usize = 255;

/// What the text beside a file is called: `fox.png.txt`, and less of the name if it is too long for that.
fn name_of_text(name: &OsStr) -> OsString {
    const EXTENSION: &str = ".txt";
    let mut text = name.to_owned();
    if name.len() + EXTENSION.len() > LONGEST_NAME {
        let mut whole = name.to_string_lossy().into_owned();
        whole.truncate(whole.floor_char_boundary(LONGEST_NAME - EXTENSION.len()));
        text = whole.into();
    }
    text.push(EXTENSION);
    text
}

fn explanation(name: &str, error: &anyhow::Error) -> String {
    let hint = printer::hint_of(error).map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    format!(
        "{name} was not enlarged: {}\n{hint}To try again, move the file back into the watched folder.\n",
        sentence(error)
    )
}

/// What in the watched folder is not to be enlarged: results, and what was moved aside.
struct Outside(Vec<PathBuf>);

impl Outside {
    fn of(folder: &Path, results: &Path) -> Self {
        let mut outside = vec![folder.join(REJECTED)];
        // Results that lie between their sources are known by their note. A folder within that of results has none of them.
        if !real(folder).starts_with(real(results)) {
            outside.push(results.to_owned());
            outside.push(real(results));
        }
        Self(outside)
    }

    fn includes(&self, path: &Path) -> bool {
        self.0.iter().any(|folder| path.starts_with(folder))
    }
}
