//! The worker: claim, fetch, decode, plan, run, encode, publish, commit. The outbox tells the world afterwards.
//!
//! Every write carries the lease. Whoever has lost it drops the work and its files silently: somebody else has the task.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use enlarger_egress::Fetcher;
use enlarger_image::{EncodeOptions, Header, MetadataPolicy};
use enlarger_pipeline::{Outcome, Output, PipelineError, Progress, Watch};
use enlarger_tasks::{Beat, Lease, Report, Retry, StoreError, Task, TaskError, TaskState};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use crate::{
    app::App,
    files::{Draft, Files, Key},
    job::{Input, Invented, Job, Made, SourceFacts, check_result, limits},
};

/// How often an idle worker looks, besides being told.
const IDLE: Duration = Duration::from_secs(1);
/// How often a running task reports progress and hears of cancellation, besides being told.
const BEAT: Duration = Duration::from_millis(500);
/// Of the time to drain, how much is kept for stopping jobs that do not finish. A job stops within one tile.
const STOPPING: Duration = Duration::from_secs(5);
/// Pause before an attempt that broke is repeated.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs jobs until told to stop; returns when none is running.
pub(crate) async fn run(app: Arc<App>) {
    // Unique per start, so that a restarted process is never taken for the one that died.
    let worker = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
    let slots = (0..app.config.jobs).map(|slot| tokio::spawn(slot_loop(app.clone(), format!("{worker}-{slot}"))));
    for slot in slots.collect::<Vec<_>>() {
        if let Err(error) = slot.await {
            tracing::error!(%error, "a worker broke");
        }
    }
}

async fn slot_loop(app: Arc<App>, worker: String) {
    let mut changes = app.store.changes();
    while !app.stop.is_cancelled() {
        match app.store.claim(&worker, lease(&app)).await {
            Ok(Some(task)) => work(&app, task).await,
            Ok(None) => {
                tokio::select! {
                    () = app.stop.cancelled() => {}
                    _ = changes.recv() => {}
                    () = tokio::time::sleep(IDLE) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim a task");
                tokio::time::sleep(IDLE).await;
            }
        }
    }
}

fn lease(app: &App) -> Duration {
    Duration::from_secs(app.config.lease_seconds)
}

/// How a task ended here.
enum End {
    Done(Box<Done>),
    Failed(TaskError, Retry),
    /// Told to stop: give it back.
    Interrupted,
    /// Cancelled, or taken over by another worker.
    Lost,
}

/// What an attempt made.
struct Done {
    outcome: Outcome,
    header: Header,
    result: Draft,
    map: Draft,
}

async fn work(app: &Arc<App>, task: Task) {
    let Some(held) = task.lease() else { return };
    let started = Instant::now();
    tracing::info!(task = %task.id, attempt = task.attempt, kind = task.kind, "task started");
    let watch = Arc::new(Watching::default());
    let end = tokio::select! {
        end = attempt(app, &task, &watch) => end,
        end = hold(app, &held, &watch) => {
            watch.stop.store(true, Ordering::Relaxed);
            end
        }
    };
    // A job that was told to stop still uses the machine until it does.
    watch.idle().await;
    let outcome = match end {
        End::Done(done) => finish(app, &held, *done).await,
        End::Failed(error, retry) => {
            tracing::info!(task = %held.task, code = error.code, message = error.message, "task failed");
            persist(app, || app.store.fail(&held, error.clone(), retry)).await.map(|_| "failed")
        }
        End::Interrupted => persist(app, || app.store.release(&held)).await.map(|_| "released"),
        End::Lost => Err(StoreError::LeaseLost(held.task)),
    };
    let outcome = outcome.unwrap_or("lost");
    tracing::info!(task = %held.task, outcome, seconds = started.elapsed().as_secs_f64(), "task ended");
    metrics::counter!("enlarger_attempts_total", "outcome" => outcome).increment(1);
    metrics::histogram!("enlarger_attempt_seconds").record(started.elapsed().as_secs_f64());
}

/// One attempt at the pixels.
async fn attempt(app: &Arc<App>, task: &Task, watch: &Arc<Watching>) -> End {
    let broken = |why: String| {
        tracing::error!(task = %task.id, why, "task cannot be read");
        End::Failed(TaskError::new("internal", "the task could not be read"), Retry::Never)
    };
    let (job, input): (Job, Input) =
        match (serde_json::from_value(task.request.clone()), serde_json::from_value(task.input.clone())) {
            (Ok(job), Ok(input)) => (job, input),
            (job, input) => return broken(format!("{:?} {:?}", job.err(), input.err())),
        };
    if let Input::Url(url) = &input
        && let Err(end) = fetch(app, task, url).await
    {
        return end;
    }
    let (done, result) = oneshot::channel();
    let busy = watch.running.clone().write_owned().await;
    let (app, task, watch) = (app.clone(), task.id, watch.clone());
    let spawned = std::thread::Builder::new().name("job".into()).spawn(move || {
        // A mistake in a decoder or kernel costs this attempt and nothing else.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pixels(&app, task, &job, &watch)));
        drop(busy);
        let _ = done.send(end.unwrap_or_else(|_| panicked()));
    });
    match spawned {
        Ok(_) => result.await.unwrap_or_else(|_| panicked()),
        Err(error) => {
            End::Failed(TaskError::new("busy", format!("no thread for the job: {}", error.kind())), Retry::After(PAUSE))
        }
    }
}

fn panicked() -> End {
    let error = TaskError::new("internal", "the picture could not be processed because of a mistake in this program");
    End::Failed(
        error.with_hint("try another picture format or another model, and please report it"),
        Retry::After(PAUSE),
    )
}

/// Fetches the picture into the task's folder.
async fn fetch(app: &Arc<App>, task: &Task, url: &str) -> Result<(), End> {
    let key = Key::Source(task.id);
    // An earlier attempt may have fetched it.
    if app.files.path(&key).exists() {
        return Ok(());
    }
    let disk = |error: std::io::Error| {
        End::Failed(
            TaskError::new("storage", format!("the picture could not be stored: {}", error.kind())),
            Retry::After(PAUSE),
        )
    };
    let draft = app.files.draft().map_err(disk)?;
    let mut file = draft.reopen().map_err(disk)?;
    let fetcher = Fetcher::new(app.policy.clone());
    fetcher.fetch(url, app.config.max_body_mb << 20, &mut file).await.map_err(|error| {
        let told = TaskError::new("fetch", format!("the image URL could not be fetched: {error}"));
        let told = error.hint().map_or(told.clone(), |hint| told.with_hint(hint));
        End::Failed(told, if error.is_retryable() { Retry::After(PAUSE) } else { Retry::Never })
    })?;
    let files = app.files.clone();
    let published = tokio::task::spawn_blocking(move || files.publish(draft, &key)).await;
    published.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())).map_err(disk)
}

/// Decode, plan, run, encode. Uses all cores, and blocks.
fn pixels(app: &App, task: Uuid, job: &Job, watch: &Watching) -> End {
    let disk = |error: std::io::Error| {
        let message = format!("the picture could not be read or written: {}", error.kind());
        End::Failed(TaskError::new("storage", message), Retry::After(PAUSE))
    };
    let bytes = match app.files.map(&Key::Source(task)) {
        Ok(bytes) => bytes,
        Err(error) => return disk(error),
    };
    let (mut result, mut map) = match app.files.draft().and_then(|result| Ok((result, app.files.draft()?))) {
        Ok(drafts) => drafts,
        Err(error) => return disk(error),
    };
    let limits = limits(&app.config);
    let header = match enlarger_image::probe(&bytes, &limits) {
        Ok(header) => header,
        Err(error) => return failed(&error.into()),
    };
    // Pictures from elsewhere were not looked at when the task was accepted.
    if job.source.is_none() {
        match app.enlarger.estimate(header.width, header.height, &job.request) {
            Ok(estimate) => {
                let result = (estimate.output_width, estimate.output_height);
                let from = job.request.crop.map_or((header.width, header.height), |crop| (crop.width, crop.height));
                if let Err(large) = check_result(&job.request.look, from, result) {
                    let error = TaskError::new("too_large", format!("the scale factor {}", large.reason));
                    return End::Failed(error.with_hint(large.hint), Retry::Never);
                }
            }
            Err(error) => return failed(&error),
        }
    }
    // Results travel to others: where the picture was taken is nobody's business.
    let output = Output {
        format: job.output.format.map(Into::into),
        quality: job.output.quality,
        metadata: MetadataPolicy::NoGps,
    };
    let made = app.enlarger.job(&bytes, &job.request, &output, &limits, &mut result, watch).and_then(|outcome| {
        enlarger_image::encode(&outcome.invention.map, &EncodeOptions::default(), &mut map)?;
        Ok(outcome)
    });
    match made {
        Ok(outcome) => End::Done(Box::new(Done { outcome, header, result, map })),
        Err(error) => failed(&error),
    }
}

fn failed(error: &PipelineError) -> End {
    if error.is_cancelled() {
        return End::Lost;
    }
    let told = TaskError::new(error.code(), error.to_string());
    let told = error.hint().map_or(told.clone(), |hint| told.with_hint(hint));
    End::Failed(told, if error.is_retryable() { Retry::After(PAUSE) } else { Retry::Never })
}

/// Keeps the lease and reports progress, until there is a reason to stop.
async fn hold(app: &Arc<App>, held: &Lease, watch: &Watching) -> End {
    let mut changes = app.store.changes();
    let mut last_written: Option<Value> = None;
    let mut last_beat = Instant::now();
    let mut deadline = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            change = changes.recv() => {
                // Only what ends our work is news; our own reports come back here, too.
                if !change.is_ok_and(|change| change.task == held.task && change.state != TaskState::InProgress) {
                    continue;
                }
            }
            () = app.stop.cancelled(), if deadline.is_none() => {
                let drain = Duration::from_secs(app.config.drain_seconds).saturating_sub(STOPPING);
                deadline = Some(Instant::now() + drain);
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return End::Interrupted,
        }
        let progress = watch.report();
        if progress == last_written && last_beat.elapsed() < lease(app) / 3 {
            continue;
        }
        match app.store.heartbeat(held, lease(app), Report { progress: progress.clone(), plan: None }).await {
            Ok(Beat::Alive) => (last_written, last_beat) = (progress, Instant::now()),
            Ok(Beat::Cancelled | Beat::Lost) => return End::Lost,
            // The lease runs on; the next beat may be heard.
            Err(error) => tracing::warn!(task = %held.task, %error, "heartbeat not stored"),
        }
    }
}

/// Publish, then commit. In between the file is there and nobody knows.
async fn finish(
    app: &Arc<App>,
    held: &Lease,
    Done { outcome, header, result, map }: Done,
) -> Result<&'static str, StoreError> {
    let file = format!("result-{}.{}", held.attempt, outcome.extension);
    let keys = [Key::Result(held.task, file.clone()), Key::Map(held.task, held.attempt)];
    let sizes = (|| {
        Ok::<_, std::io::Error>((
            result.map()?.len() as u64,
            std::fs::metadata(app.files.path(&Key::Source(held.task)))?.len(),
        ))
    })();
    let files = app.files.clone();
    let names = keys.clone();
    let written = tokio::task::spawn_blocking(move || {
        files.publish(result, &names[0])?;
        files.publish(map, &names[1])
    })
    .await;
    let (bytes, source_bytes) = match (sizes, written) {
        (Ok(sizes), Ok(Ok(()))) => sizes,
        (sizes, written) => {
            tracing::error!(task = %held.task, ?sizes, ?written, "the result could not be stored");
            discard(&app.files, &keys).await;
            let error =
                TaskError::new("storage", "the result could not be stored").with_hint("check the server's disk");
            return persist(app, || app.store.fail(held, error.clone(), Retry::After(PAUSE))).await.map(|_| "failed");
        }
    };
    let plan = json!({ "steps": outcome.plan, "facts": outcome.facts });
    let made = Made {
        file,
        extension: outcome.extension.to_owned(),
        media_type: outcome.media_type.to_owned(),
        width: outcome.width,
        height: outcome.height,
        bytes,
        source: SourceFacts::new(&header, source_bytes),
        invention: Some(Invented { share: outcome.invention.share, attempt: held.attempt }),
        timings: json!(outcome.timings),
        notes: outcome.plan.notes.iter().chain(&outcome.notes).cloned().collect(),
    };
    let result = json!(made);
    let committed = async {
        let report = Report { progress: None, plan: Some(plan) };
        match persist(app, || app.store.heartbeat(held, lease(app), report.clone())).await? {
            Beat::Alive => persist(app, || app.store.complete(held, result.clone())).await,
            Beat::Cancelled | Beat::Lost => Err(StoreError::LeaseLost(held.task)),
        }
    };
    let committed = committed.await;
    if committed.is_err() {
        discard(&app.files, &keys).await;
    }
    committed.map(|_| "completed")
}

async fn discard(files: &Files, keys: &[Key]) {
    let (files, keys) = (files.clone(), keys.to_vec());
    let _ = tokio::task::spawn_blocking(move || keys.iter().try_for_each(|key| files.remove(key))).await;
}

/// Repeats a write while the database is not available, for as long as the lease could last.
async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
    app: &App,
    write: impl Fn() -> F,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + lease(app);
    loop {
        match write().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::warn!(%error, "cannot write to the task store, trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            other => return other,
        }
    }
}

/// The job seen from outside.
#[derive(Default)]
struct Watching {
    stop: AtomicBool,
    progress: Mutex<Option<Progress>>,
    /// Held while the job's thread is at work.
    running: Arc<tokio::sync::RwLock<()>>,
}

impl Watching {
    fn report(&self) -> Option<Value> {
        self.progress.lock().expect("no panic under it").map(|progress| json!(progress))
    }

    /// Waits until the job's thread is not at work.
    async fn idle(&self) {
        drop(self.running.read().await);
    }
}

impl Watch for Watching {
    fn progress(&self, progress: &Progress) {
        *self.progress.lock().expect("no panic under it") = Some(*progress);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
