//! From a picture to its result, in this process or in one of its own.
//!
//! A task whose worker died may be to blame, or may have been there when somebody killed the worker. So from then on it runs apart: in
//! a process whose death is its own doing and hurts nobody else. The order is read from standard input, progress and
//! outcome are written to standard output, one JSON document per line. The process ends when its standard input does,
//! so it never outlives the worker.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Seek, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
};

use enlarger_blobs::{Cramped, LOOK_FOR_ROOM, Scratch, no_room};
use enlarger_image::{EncodeOptions, Limits, MetadataPolicy};
use enlarger_pipeline::{Enlarger, Output, PipelineError, Progress, Watch, to_json};
use enlarger_tasks::TaskError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    job::{Job, Kind, SourceInfo, Terms, check_size},
    watching::Watching,
};

/// The subcommand of the binary that calls [`run`].
pub const COMMAND: &str = "run-apart";

/// A picture to be enlarged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// For a process of its own: the drafts with the picture, for the result and for the map.
    pub drafts: Option<[PathBuf; 3]>,
    /// The endpoint that the task came by.
    pub kind: String,
    pub job: Job,
    pub terms: Terms,
}

/// What came out, besides the files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub extension: String,
    pub media_type: String,
    pub width: u32,
    pub height: u32,
    pub source: SourceInfo,
    /// See [`crate::job::Difference`].
    pub share: f64,
    /// Steps and facts.
    pub plan: Value,
    /// What networks ran on.
    pub device: String,
    pub timings: Value,
    pub notes: Vec<String>,
}

/// Why nothing came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Broken {
    /// The picture, the request or the machine is at fault.
    Failed {
        error: TaskError,
        /// Whether another attempt may go better.
        again: bool,
    },
    /// Told to stop.
    Stopped,
    /// The process that it ran in died.
    Died,
}

/// What a process that runs apart says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Progress(Value),
    Done(Box<Finished>),
    Broken(Broken),
}

/// Decode, plan, run, encode. Uses all cores, and blocks.
pub(crate) fn enlarge<W: Write + Seek + Send>(
    enlarger: &Enlarger,
    order: &Order,
    bytes: &[u8],
    [result, map]: [&mut W; 2],
    watch: &dyn Watch,
) -> Result<Finished, Broken> {
    let Order { job, terms, .. } = order;
    let kind = Kind::parse(&order.kind).ok_or_else(panicked)?;
    let limits = terms.limits();
    if job.filter_nsfw {
        filter(bytes, &limits, watch)?;
    }
    let source = enlarger_image::open(bytes, &limits).map_err(|error| broken(&error.into()))?;
    let header = source.header();
    // Pictures from elsewhere were not looked at when the task was accepted.
    if job.source.is_none() {
        let estimate = enlarger.estimate(header.width, header.height, &job.request, watch);
        let estimate = estimate.map_err(|error| broken(&error))?;
        let whole = (header.width, header.height);
        if let Err(large) = check_size(terms, kind, &job.request, whole, &estimate) {
            let error = Failure::TooLarge.error(format!("the scale factor {}", large.reason));
            return Err(Broken::Failed { error: error.with_hint(large.hint), again: false });
        }
    }
    // Results are shared with others, so the location is removed.
    let output = Output {
        format: job.output.format.map(Into::into),
        quality: job.output.quality,
        metadata: MetadataPolicy::NoGps,
        dpi: job.output.dpi,
    };
    let outcome = enlarger.job_of(source, &job.request, &output, result, watch).and_then(|outcome| {
        enlarger_image::encode(&outcome.difference.map, &EncodeOptions::default(), map)?;
        Ok(outcome)
    });
    let outcome = outcome.map_err(|error| broken(&error))?;
    let notes = [&outcome.plan.notes[..], &outcome.plan.idle, &outcome.notes].concat();
    Ok(Finished {
        extension: outcome.extension.to_owned(),
        media_type: outcome.media_type.to_owned(),
        width: outcome.width,
        height: outcome.height,
        source: SourceInfo::new(&header, bytes.len() as u64),
        share: outcome.difference.share,
        plan: json!({ "steps": to_json(&outcome.plan), "facts": to_json(&outcome.statistics) }),
        device: outcome.device,
        timings: json!(outcome.timings),
        notes,
    })
}

/// Refuses an image that is sexually explicit.
fn filter(bytes: &[u8], limits: &Limits, watch: &dyn Watch) -> Result<(), Broken> {
    let decoded = enlarger_image::decode_unless(bytes, limits, &|| watch.cancelled());
    let certainty = enlarger_pipeline::explicit(&decoded.map_err(|error| broken(&error.into()))?.picture);
    if certainty < enlarger_pipeline::EXPLICIT {
        return Ok(());
    }
    let percent = (certainty * 100.0).round();
    let error = Failure::Explicit
        .error(format!("the image looks sexually explicit ({percent}% certain), and filter_nsfw is set"));
    Err(Broken::Failed { error: error.with_hint("if it is not, leave filter_nsfw out"), again: false })
}

fn broken(error: &PipelineError) -> Broken {
    if error.is_cancelled() {
        return Broken::Stopped;
    }
    Broken::Failed { error: TaskError::of(error), again: error.is_retryable() }
}

/// The failure for a bug in this program, which costs the attempt and nothing else.
pub(crate) fn panicked() -> Broken {
    let error = Failure::Internal.error("the image could not be processed because of a bug in enlarger");
    let error = error.with_hint("try another image format or another model, and please report the bug");
    Broken::Failed { error, again: true }
}

/// Writes, and waits while the disk is full: the pixels are computed, and should not have to be computed again.
pub(crate) struct Patient<'a, W> {
    out: W,
    watch: &'a dyn Watch,
    /// Told of the waiting.
    scratch: Option<&'a Scratch>,
}

impl<'a, W> Patient<'a, W> {
    pub fn new(out: W, watch: &'a dyn Watch, scratch: Option<&'a Scratch>) -> Self {
        Self { out, watch, scratch }
    }
}

impl<W: Write> Write for Patient<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting: Option<Cramped> = None;
        let mut told = false;
        loop {
            match self.out.write(bytes) {
                Err(error) if no_room(&error) && !self.watch.cancelled() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("the disk is full, waiting for room");
                    }
                    waiting = waiting.or_else(|| self.scratch.map(Scratch::cramped));
                    std::thread::sleep(LOOK_FOR_ROOM);
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Seek> Seek for Patient<'_, W> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

/// Has a process of its own carry an order out.
pub(crate) fn carry_out(
    enlarger: &Enlarger,
    arguments: &[OsString],
    order: &Order,
    watch: &Watching,
) -> Result<Finished, Broken> {
    match talk(enlarger, arguments, order, watch) {
        Ok(said) => said,
        Err(error) => {
            let message = format!("cannot start a process for the job: {}", error.kind());
            Err(Broken::Failed { error: Failure::Busy.error(message), again: true })
        }
    }
}

fn talk(
    enlarger: &Enlarger,
    arguments: &[OsString],
    order: &Order,
    watch: &Watching,
) -> io::Result<Result<Finished, Broken>> {
    // Under this name Linux finds the binary even after an upgrade has replaced it.
    let program = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    // A task that may have killed a worker runs without a GPU, whose driver may be to blame.
    let device = enlarger.device().spare().unwrap_or(enlarger.device());
    let mut command = Command::new(program);
    command.args([COMMAND, "--threads", &enlarger.threads().to_string()]);
    command.args(["--gpu", "none", "--isa", device.name(), "--precision", device.arithmetic().name()]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Ctrl-C is meant for the worker, which then returns the task.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    watch.runs_in(child);
    // The process may be dead already; then it says nothing.
    let mut stdin = stdin.ok_or(io::ErrorKind::BrokenPipe)?;
    let _ = writeln!(stdin, "{}", serde_json::to_string(order)?);
    let mut end = None;
    for line in BufReader::new(stdout.ok_or(io::ErrorKind::BrokenPipe)?).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Said::Progress(progress)) => watch.note(progress),
            Ok(Said::Done(finished)) => end = Some(Ok(*finished)),
            Ok(Said::Broken(why)) => end = Some(Err(why)),
            Err(error) => tracing::warn!(%error, "cannot parse the output of an isolated process"),
        }
    }
    drop(stdin);
    let status = watch.reap();
    if end.is_none() {
        tracing::warn!(?status, "an isolated process died");
    }
    Ok(end.unwrap_or(Err(if watch.cancelled() || watch.stopping() { Broken::Stopped } else { Broken::Died })))
}

/// Carries out the order on standard input.
///
/// # Errors
/// If there is no order, or nobody reads the output.
pub fn run(enlarger: &Enlarger) -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        // The worker is gone, or has cancelled the task.
        std::process::exit(1);
    });
    let teller = Teller::default();
    let made = catch_unwind(AssertUnwindSafe(|| {
        let [source, result, map] =
            order.drafts.as_ref().ok_or_else(|| storage(&io::ErrorKind::InvalidInput.into()))?;
        let bytes = enlarger_blobs::map_draft(source).map_err(|error| storage(&error))?;
        let open = |path| std::fs::OpenOptions::new().read(true).write(true).open(path);
        let [result, map] = [open(result), open(map)];
        let mut result = Patient::new(result.map_err(|error| storage(&error))?, &teller, None);
        let mut map = Patient::new(map.map_err(|error| storage(&error))?, &teller, None);
        enlarge(enlarger, &order, &bytes, [&mut result, &mut map], &teller)
    }));
    teller.tell(&match made.unwrap_or_else(|_| Err(panicked())) {
        Ok(finished) => Said::Done(Box::new(finished)),
        Err(why) => Said::Broken(why),
    })
}

fn storage(error: &io::Error) -> Broken {
    let message = format!("the image could not be read or written: {}", error.kind());
    Broken::Failed { error: Failure::Storage.error(message), again: true }
}

/// Reports progress on standard output.
#[derive(Default)]
struct Teller(Mutex<Option<Value>>);

impl Teller {
    fn tell(&self, said: &Said) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(said)?)?;
        out.flush()
    }
}

impl Watch for Teller {
    fn progress(&self, progress: &Progress) {
        let progress = json!(progress);
        let mut last = self.0.lock().expect("no panic under it");
        if last.as_ref() != Some(&progress) {
            // If nobody reads this, the worker is about to end the process.
            let _ = self.tell(&Said::Progress(progress.clone()));
            *last = Some(progress);
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}
