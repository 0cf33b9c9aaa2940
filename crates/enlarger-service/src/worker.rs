//! The worker: claim, fetch, decode, plan, run, encode, publish, commit. The outbox sends webhooks afterwards.
//!
//! Every write carries the lease. A worker that has lost it drops its work and files silently, because another one has
//! the task.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use enlarger_blobs::{Draft, Key, is_transient};
use enlarger_egress::{EgressError, Fetcher, Policy};
use enlarger_error::Explained;
use enlarger_image::{EncodeOptions, ImageError, Limits};
use enlarger_pipeline::{Enlarger, Extent, PipelineError};
use enlarger_tasks::{Beat, Lease, Queue, Report, Retry, Scope, StoreError, Task, TaskError, TaskState};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    apart::{self, Broken, Finished, Order, Patient},
    failure::Failure,
    files::Files,
    job::{Difference, Input, Job, Kind, Made, SourceInfo, Terms},
    metrics::Metrics,
    nodes::Presence,
    relay::{self, Relay, Unrelayed},
    saver::Unsaved,
    traces::Traces,
    wakes::Wakes,
    watching::Watching,
};

/// Pause before a claim is repeated that failed, or that this process may not make now.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a running task reports progress and checks for cancellation, besides being notified.
const BEAT: Duration = Duration::from_millis(500);
/// How much of the drain time is reserved for stopping jobs that do not finish.
const STOPPING: Duration = Duration::from_secs(5);
/// Pause before a failed attempt is repeated.
const PAUSE: Duration = Duration::from_secs(2);
/// The same after the first failure and after later ones, where others have to do something first: start ComfyUI again, free memory, or pay.
const LONG_PAUSES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Runs the tasks of a queue.
pub struct Worker {
    /// The tasks to run.
    pub queue: Arc<dyn Queue>,
    /// Where sources and results are stored.
    pub files: Files,
    /// Runs jobs.
    pub enlarger: Arc<Enlarger>,
    /// Arguments by which a process that runs a task apart finds the same models.
    pub apart: Vec<OsString>,
    /// Which hosts sources may be fetched from.
    pub policy: Policy,
    /// Most bytes of a fetched source.
    pub fetch_limit: u64,
    /// How large sources and results may be.
    pub terms: Terms,
    /// How many tasks run at once.
    pub jobs: usize,
    /// How long a worker may be silent before another one gets its task.
    pub lease: Duration,
    /// How long running tasks may go on once `stop` is cancelled.
    pub drain: Duration,
    /// The service that enlarges instead of this machine, and what it takes, if there is one.
    pub relay: Option<Relay>,
    /// Which results are to be copied to a folder, if there is one for them.
    pub unsaved: Option<Unsaved>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it is told what becomes of tasks.
    pub traces: Traces,
    /// What this process can run.
    pub presence: Presence,
    /// Cancelled when the service is to end.
    pub stop: CancellationToken,
}

impl Worker {
    /// Runs tasks until stopped; returns when none is running.
    pub async fn run(self) {
        let jobs = self.jobs;
        let worker = Arc::new(self);
        // Unique per start, so that a restarted process is never mistaken for the one that died.
        let name = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        let slots = (0..jobs).map(|slot| tokio::spawn(slot_loop(worker.clone(), format!("{name}-{slot}"))));
        for slot in slots.collect::<Vec<_>>() {
            if let Err(error) = slot.await {
                tracing::error!(%error, "a worker failed");
            }
        }
    }
}

async fn slot_loop(worker: Arc<Worker>, name: String) {
    let mut wakes = Wakes::new(&*worker.queue, |state| state == TaskState::Created);
    while !worker.stop.is_cancelled() {
        let Some(can) = worker.presence.can_claim() else {
            tokio::select! {
                () = worker.stop.cancelled() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            continue;
        };
        match worker.queue.claim_able(&name, worker.lease, Some(&can)).await {
            Ok(Some(task)) => {
                work(&worker, task).await;
                if let Err(error) = worker.files.ping().await {
                    tracing::warn!(%error, "files cannot be stored; the next task has to wait");
                    tokio::select! {
                        () = worker.stop.cancelled() => {}
                        () = worker.files.wait() => {}
                    }
                }
            }
            Ok(None) => {
                tokio::select! {
                    () = worker.stop.cancelled() => {}
                    () = wakes.next() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim a task");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// How a task ended here.
enum End {
    Done(Box<Stored>),
    Failed(TaskError, Retry),
    /// Stopping, or yielding to others: return it.
    Interrupted,
    /// Files cannot be read or stored now: continue when they can.
    Waiting,
    /// Somebody cancelled it.
    Cancelled,
    /// Taken over by another worker, or deleted.
    Lost,
}

/// What an attempt made.
struct Done {
    finished: Finished,
    result: Draft,
    map: Draft,
}

/// What an attempt made, published.
struct Stored {
    finished: Finished,
    /// Size of the result.
    bytes: u64,
}

async fn work(worker: &Arc<Worker>, task: Task) {
    let Some(held) = task.lease() else { return };
    let (started, since) = (Instant::now(), SystemTime::now());
    if task.attempt == 1 {
        worker.traces.waited(&task);
    }
    tracing::info!(task = %task.id, attempt = task.attempt, kind = task.kind, "task started");
    let watch = Arc::new(Watching::new(worker.stop.clone()));
    let end = tokio::select! {
        end = until_files_can_be_stored(worker, &task, &watch) => end,
        end = hold(worker, &held, &watch) => {
            watch.stop();
            end
        }
    };
    // A cancelled job still uses the machine until it stops.
    watch.idle().await;
    let mut over = matches!(end, End::Done(_));
    let error = match &end {
        End::Failed(error, _) => Some(error.message.clone()),
        _ => None,
    };
    let outcome = match end {
        End::Done(stored) => finish(worker, &held, *stored).await,
        End::Failed(error, retry) => {
            tracing::info!(task = %held.task, code = error.code, message = error.message, "task failed");
            let failed = persist(worker, || worker.queue.fail(&held, error.clone(), retry)).await;
            failed.map(|task| {
                over = task.state.is_terminal();
                "failed"
            })
        }
        End::Interrupted | End::Waiting => persist(worker, || worker.queue.release(&held)).await.map(|_| "released"),
        End::Cancelled => Ok("cancelled"),
        End::Lost => Err(StoreError::LeaseLost(held.task)),
    };
    let outcome = outcome.unwrap_or("lost");
    if outcome != "completed" {
        discard(worker, &held).await;
    }
    if matches!(outcome, "completed" | "failed") {
        // Leftovers of attempts that were killed.
        let _ = keep_attempt(worker, held.task, held.attempt).await;
    }
    tracing::info!(task = %held.task, outcome, seconds = started.elapsed().as_secs_f64(), "task ended");
    worker.metrics.attempt(outcome, started.elapsed().as_secs_f64());
    worker.traces.attempted(&task, since, outcome, error.as_deref());
    if over && matches!(outcome, "completed" | "failed") {
        worker.traces.ended(&task, outcome);
    }
}

/// Deletes the files of earlier attempts at a task.
async fn keep_attempt(worker: &Worker, task: Uuid, attempt: u32) -> io::Result<()> {
    for key in worker.files.blobs.list(task).await? {
        if key.attempt().is_some_and(|by| by < attempt) {
            worker.files.blobs.delete(&key).await?;
        }
    }
    Ok(())
}

/// One attempt, restarted whenever the disk is full or the store is away: that is not the task's fault. The lease is held meanwhile.
async fn until_files_can_be_stored(worker: &Arc<Worker>, task: &Task, watch: &Arc<Watching>) -> End {
    loop {
        match attempt(worker, task, watch).await {
            End::Waiting => {
                tracing::warn!(task = %task.id, "files cannot be stored now, waiting for room");
                worker.files.wait().await;
            }
            end => return end,
        }
    }
}

/// One attempt: the pixels, then the files.
async fn attempt(worker: &Arc<Worker>, task: &Task, watch: &Arc<Watching>) -> End {
    match compute(worker, task, watch).await {
        Ok(done) => publish(worker, task, done).await,
        Err(end) => end,
    }
}

/// One attempt at the pixels.
async fn compute(worker: &Arc<Worker>, task: &Task, watch: &Arc<Watching>) -> Result<Done, End> {
    let broken = |why: String| {
        tracing::error!(task = %task.id, why, "task cannot be read");
        End::Failed(Failure::Internal.error("the task could not be read"), Retry::Never)
    };
    let (job, input): (Job, Input) =
        match (serde_json::from_value(task.request.clone()), serde_json::from_value(task.input.clone())) {
            (Ok(job), Ok(input)) => (job, input),
            (job, input) => return Err(broken(format!("{:?} {:?}", job.err(), input.err()))),
        };
    if let Input::Url(url) = &input {
        fetch(worker, task, url).await?;
    }
    let source = worker.files.blobs.map(&Key::Source(task.id)).await.map_err(|error| storage("read", &error))?;
    if let Some(relay) = &worker.relay
        && let Some(kind) = Kind::of(task).filter(|kind| relay.takes(*kind))
    {
        return relayed(worker, relay, kind, task, job, source).await;
    }
    let (done, result) = oneshot::channel();
    let busy = watch.running.clone().write_owned().await;
    let (worker, task, watch) = (worker.clone(), task.clone(), watch.clone());
    let spawned = std::thread::Builder::new().name("job".into()).spawn(move || {
        // A bug in a decoder or kernel costs this attempt and nothing else.
        let end =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pixels(&worker, &task, job, &source, &watch)));
        drop(busy);
        let _ = done.send(end.unwrap_or_else(|_| Err(ended_badly(&task, apart::panicked()))));
    });
    match spawned {
        Ok(_) => result.await.unwrap_or(Err(End::Lost)),
        Err(error) => {
            let error = Failure::Busy.error(format!("cannot start a thread for the job: {}", error.kind()));
            Err(End::Failed(error, Retry::After(PAUSE)))
        }
    }
}

/// Has the relay enlarge it, and compares the result with the picture.
async fn relayed(
    worker: &Arc<Worker>,
    relay: &Relay,
    kind: Kind,
    task: &Task,
    job: Job,
    source: Bytes,
) -> Result<Done, End> {
    let started = Instant::now();
    let limits = worker.terms.limits();
    let header = enlarger_image::header(&source, &limits).map_err(|error| {
        let error = PipelineError::from(error);
        End::Failed(TaskError::of(&error), Retry::Never)
    })?;
    let asked = job.request.size.result(header.width, header.height);
    let pixels = asked.pixels();
    let Job { request, filter_nsfw, .. } = &job;
    let owner = task.owner.as_deref();
    let order = relay::Order { kind, request, filter_nsfw: *filter_nsfw, source: &source, pixels, owner };
    let file = relay.enlarge(&order).await.map_err(|why| {
        let error = Failure::Relay.error(why.to_string());
        match why {
            Unrelayed::Files(error) => storage("read or written", &error),
            Unrelayed::Away { .. } => {
                let pause = pause(&error, task.failures);
                End::Failed(
                    error.with_hint("try again later; the server's operator can see to it"),
                    Retry::After(pause),
                )
            }
            Unrelayed::Spent { .. } => {
                End::Failed(error.with_hint("wait until tomorrow (UTC), or use a smaller factor"), Retry::Never)
            }
            Unrelayed::Refused { .. } => End::Failed(error, Retry::Never),
        }
    })?;
    let network = started.elapsed().as_secs_f64();
    let timings = json!({ "decode": 0.0, "plan": 0.0, "network": network, "filters": 0.0, "encode": 0.0 });
    let (scratch, host, task) = (worker.files.scratch.clone(), relay.host().to_owned(), task.clone());
    let compared = tokio::task::spawn_blocking(move || {
        let unusable = |error: ImageError| {
            let error = Failure::Relay.error(format!("{host} made a result that cannot be used: {error}"));
            ended_badly(&task, Broken::Failed { error, again: false })
        };
        let disk = |error: io::Error| storage("written", &error);
        // A result may be as large as the vendor's limits have it.
        let made = enlarger_image::decode(&file, &Limits::for_own_files()).map_err(unusable)?;
        let whole = enlarger_image::decode(&source, &limits).map_err(unusable)?;
        let difference = enlarger_pipeline::Difference::of(&made.picture, &whole.picture, None);
        let Extent { width, height } = asked;
        let other_size = ([made.picture.width, made.picture.height] != [width, height]).then(|| {
            format!("{host} made {}x{} pixels instead of {width}x{height}", made.picture.width, made.picture.height)
        });
        let mut result = scratch.draft().map_err(disk)?;
        result.write_all(&file).map_err(disk)?;
        let mut map = scratch.draft().map_err(disk)?;
        enlarger_image::encode(&difference.map, &EncodeOptions::default(), &mut map).map_err(unusable)?;
        let finished = Finished {
            extension: made.header.format.extension().to_owned(),
            media_type: made.header.format.media_type().to_owned(),
            width: made.picture.width,
            height: made.picture.height,
            source: SourceInfo::new(&header, source.len() as u64),
            share: difference.share,
            plan: json!({}),
            device: host.clone(),
            timings,
            notes: [Some(format!("enlarged by {host}")), other_size].into_iter().flatten().collect(),
        };
        Ok(Done { finished, result, map })
    });
    compared
        .await
        .unwrap_or_else(|_| Err(End::Failed(Failure::Internal.error("the result could not be read"), Retry::Never)))
}

fn ended_badly(task: &Task, why: Broken) -> End {
    match why {
        Broken::Failed { error, again: true } => {
            let pause = pause(&error, task.failures);
            End::Failed(error, Retry::After(pause))
        }
        Broken::Failed { error, again: false } => End::Failed(error, Retry::Never),
        Broken::Died => End::Failed(TaskError::worker_died(task.failures + 1), Retry::After(PAUSE)),
        Broken::Stopped => End::Interrupted,
    }
}

/// How long to wait after a failure that may pass, by how many attempts failed before.
fn pause(error: &TaskError, failures: u32) -> Duration {
    match error.code.as_str() {
        "generator" | "memory" | "relay" => LONG_PAUSES[(failures as usize).min(1)],
        _ => PAUSE,
    }
}

fn storage(what: &str, error: &io::Error) -> End {
    tracing::warn!(%error, "an image could not be {what}");
    if is_transient(error) {
        return End::Waiting;
    }
    let failure = Failure::Storage.error(format!("the image could not be {what}: {}", error.kind()));
    End::Failed(failure.with_hint("check the server's log, and its disk or storage"), Retry::After(PAUSE))
}

/// Fetches the picture into the task's folder.
async fn fetch(worker: &Arc<Worker>, task: &Task, url: &str) -> Result<(), End> {
    let key = Key::Source(task.id);
    // An earlier attempt may have fetched it.
    let disk = |error: io::Error| storage("stored", &error);
    if worker.files.blobs.exists(&key).await.map_err(disk)? {
        return Ok(());
    }
    let draft = worker.files.scratch.draft().map_err(disk)?;
    let mut file = draft.reopen().map_err(disk)?;
    let fetcher = Fetcher::new(worker.policy.clone());
    fetcher.fetch(url, worker.fetch_limit, &mut file).await.map_err(|error| {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].map(|kind| kind.to_string());
        if matches!(&error, EgressError::Store(why) if full.contains(why)) {
            return End::Waiting;
        }
        let code = Failure::Fetch.code().to_owned();
        let message = format!("the image URL could not be fetched: {error}");
        let told = TaskError { code, message, cause: Some(error.code().to_owned()), ..TaskError::of(&error) };
        End::Failed(told, if error.is_retryable() { Retry::After(PAUSE) } else { Retry::Never })
    })?;
    worker.files.blobs.publish(draft, &key).await.map_err(disk)
}

/// From the picture to its result. Uses all cores, and blocks.
fn pixels(worker: &Worker, task: &Task, job: Job, source: &Bytes, watch: &Watching) -> Result<Done, End> {
    let drafts = worker.files.scratch.draft().and_then(|result| Ok((result, worker.files.scratch.draft()?)));
    let (mut result, mut map) = drafts.map_err(|error| storage("written", &error))?;
    let mut order = Order { drafts: None, kind: task.kind.clone(), job, terms: worker.terms };
    // It was running when a worker died.
    let suspect = task.failures > 0;
    let finished = if suspect {
        // The other process has no store to read from.
        let copied = worker.files.scratch.draft().and_then(|mut copy| copy.write_all(source).map(|()| copy));
        let copy = copied.map_err(|error| storage("read", &error))?;
        order.drafts = Some([&copy, &result, &map].map(|draft| draft.path().to_owned()));
        apart::carry_out(&worker.enlarger, &worker.apart, &order, watch)
    } else {
        let patient = |draft| Patient::new(draft, watch, Some(&worker.files.scratch));
        apart::enlarge(&worker.enlarger, &order, source, [&mut patient(&mut result), &mut patient(&mut map)], watch)
    };
    match finished {
        Ok(finished) => Ok(Done { finished, result, map }),
        Err(why) => Err(ended_badly(task, why)),
    }
}

/// Makes the files durable. They are not visible before the task is committed, and the lease is held until they are there.
async fn publish(worker: &Worker, task: &Task, Done { finished, result, map }: Done) -> End {
    let published = async {
        let bytes = result.size()?;
        worker.files.blobs.publish(result, &Key::result(task.id, task.attempt, &finished.extension)).await?;
        worker.files.blobs.publish(map, &Key::Map(task.id, task.attempt)).await?;
        Ok::<_, io::Error>(bytes)
    };
    match published.await {
        Ok(bytes) => End::Done(Box::new(Stored { finished, bytes })),
        Err(error) => storage("stored", &error),
    }
}

/// Renews the lease and reports progress until there is a reason to stop.
async fn hold(worker: &Arc<Worker>, held: &Lease, watch: &Watching) -> End {
    let mut changes = worker.queue.changes();
    let mut last_written: Option<Value> = None;
    let mut last_beat = Instant::now();
    let mut deadline = None;
    loop {
        let mut ended = false;
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            change = changes.recv() => match change {
                // Our own reports arrive here too.
                Ok(change) if change.task != held.task || change.state == TaskState::InProgress => continue,
                // It ended, or it may have: some changes were missed.
                _ => ended = true,
            },
            () = worker.stop.cancelled(), if deadline.is_none() => {
                let drain = worker.drain.saturating_sub(STOPPING);
                deadline = Some(Instant::now() + drain);
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return End::Interrupted,
        }
        let progress = watch.report();
        if !ended && progress == last_written && last_beat.elapsed() < worker.lease / 3 {
            continue;
        }
        match worker.queue.heartbeat(held, worker.lease, Report { progress: progress.clone(), plan: None }).await {
            Ok(Beat::Alive) => (last_written, last_beat) = (progress, Instant::now()),
            Ok(Beat::GiveWay) => {
                tracing::info!(task = %held.task, "no one polls this task any more; others go first");
                return End::Interrupted;
            }
            Ok(Beat::Cancelled) => return End::Cancelled,
            Ok(Beat::Lost) => return End::Lost,
            // The lease is still valid, and the next heartbeat may succeed.
            Err(error) => tracing::warn!(task = %held.task, %error, "heartbeat not stored"),
        }
    }
}

/// Commits what was published.
async fn finish(
    worker: &Arc<Worker>,
    held: &Lease,
    Stored { finished, bytes }: Stored,
) -> Result<&'static str, StoreError> {
    let made = Made {
        file: format!("result-{}.{}", held.attempt, finished.extension),
        extension: finished.extension,
        media_type: finished.media_type,
        width: finished.width,
        height: finished.height,
        bytes,
        source: finished.source,
        invention: Some(Difference { share: finished.share, attempt: held.attempt }),
        device: Some(finished.device),
        timings: finished.timings,
        notes: finished.notes,
    };
    let result = json!(made);
    let report = Report { progress: None, plan: Some(finished.plan) };
    match persist(worker, || worker.queue.heartbeat(held, worker.lease, report.clone())).await? {
        Beat::Alive | Beat::GiveWay => {
            if let Some(unsaved) = &worker.unsaved
                && let Err(error) = unsaved.note(held.task)
            {
                tracing::warn!(task = %held.task, %error, "the result will not be saved to the folder of `save_to`");
            }
            persist(worker, || worker.queue.complete(held, result.clone())).await.map(|_| "completed")
        }
        Beat::Cancelled => Ok("cancelled"),
        Beat::Lost => Err(StoreError::LeaseLost(held.task)),
    }
}

/// Deletes what an attempt published without being committed.
async fn discard(worker: &Worker, held: &Lease) {
    // It may have been committed, although the answer was lost on the way.
    let task = worker.queue.get(held.task, &Scope::All).await;
    if !task.is_ok_and(|task| task.is_none_or(|task| task.state != TaskState::Completed)) {
        return;
    }
    for key in worker.files.blobs.list(held.task).await.unwrap_or_default() {
        if key.attempt() == Some(held.attempt) {
            let _ = worker.files.blobs.delete(&key).await;
        }
    }
}

/// Repeats a write while the database is not available. A worker that took the task over meanwhile is safe from it.
/// Only a process that is stopping cannot wait forever.
async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
    worker: &Worker,
    write: impl Fn() -> F,
) -> Result<T, StoreError> {
    let deadline = Instant::now() + worker.lease;
    loop {
        match write().await {
            Err(error) if error.is_transient() && (!worker.stop.is_cancelled() || Instant::now() < deadline) => {
                tracing::warn!(%error, "cannot write to the task store, trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            other => return other,
        }
    }
}
