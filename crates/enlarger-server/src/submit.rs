//! The one way into the queue, whatever dialect a task comes by.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header::HeaderName},
    response::Response,
};
use enlarger_blobs::Key;
use enlarger_pipeline::{PipelineError, Request};
use enlarger_tasks::{Idempotency, NewTask, Reserved, Submitted, Task};
use uuid::Uuid;

use crate::{
    app::App,
    auth::Caller,
    error::{ApiError, ApiResult},
    fields::Fields,
    image::{self, Picture},
    job::{self, Input, Job, OutputFile, SourceFacts, Terms, check_size, kind},
    poller::{COMFYUI, Promise},
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;
/// The endpoints whose clients may learn of a task's end by polling only.
const POLLED: [&str; 3] = [kind::CREATIVE, kind::PRECISION_V1, kind::PRECISION_V2];
/// Work expected of a picture that is still to be fetched, in seconds: that of about a megapixel.
const UNKNOWN_COST: f64 = 30.0;

/// What a request asks for, besides its picture.
pub(crate) struct Ask {
    pub kind: &'static str,
    pub request: Request,
    pub output: OutputFile,
    pub name: Option<String>,
    pub webhook_url: Option<String>,
    pub filter_nsfw: bool,
}

/// Reads a body's fields, noting all that is wrong.
pub(crate) type Read = fn(&mut Fields<'_>, &App) -> Ask;

/// A task that was accepted, now or before.
pub(crate) struct Accepted {
    pub task: Task,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// Puts a task into the queue, or finds the one that the same request made before.
///
/// # Errors
/// All that is wrong with the request; nothing is kept of it then.
pub(crate) async fn submit(
    app: &Arc<App>,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    read: Read,
    endpoint: &'static str,
) -> ApiResult<Accepted> {
    let body = app.bodies.spool(body, app.config.max_body_mb, &app.scratch).await?;
    let mut idempotency = idempotency(headers, endpoint, &body.hash)?;
    let owner = caller.owner.as_deref();
    if let Some(key) = &mut idempotency {
        match app.store.queue.reserve(owner, key).await? {
            Reserved::Yours(token) => key.reservation = Some(token),
            Reserved::Replayed(task) => return Ok(Accepted { task, replayed: true }),
            Reserved::InFlight => return Err(in_flight()),
            Reserved::Mismatch => return Err(mismatch()),
        }
    }
    // In a task of its own: a client that hangs up now must not leave a half-made task or a reserved key behind.
    let polled = headers.contains_key(COMFYUI) && POLLED.contains(&endpoint);
    let accepting = accept(app.clone(), caller.owner.clone(), app.base(headers), body, read, idempotency, polled);
    tokio::spawn(accepting).await.map_err(ApiError::internal)?
}

async fn accept(
    app: Arc<App>,
    owner: Option<String>,
    base: String,
    body: crate::body::Spooled,
    read: Read,
    idempotency: Option<Idempotency>,
    polled: bool,
) -> ApiResult<Accepted> {
    let id = Uuid::now_v7();
    let reservation = idempotency.as_ref().and_then(|key| key.reservation);
    let prepared = app.reading(move |app| prepare(app, id, owner, base, &body, read)).await;
    let accepted = match prepared {
        Ok((new, picture)) => {
            let polled = polled && new.webhook_url.is_none();
            match keep(&app, id, picture).await {
                Ok(()) => enqueue(&app, NewTask { polled, ..new }, idempotency).await,
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    if !matches!(&accepted, Ok(accepted) if accepted.task.id == id) {
        let _ = app.blobs.delete_task(id).await;
    }
    if let (Err(_), Some(token)) = (&accepted, reservation) {
        app.store.queue.unreserve(token).await?;
    }
    accepted
}

async fn enqueue(app: &App, new: NewTask, idempotency: Option<Idempotency>) -> ApiResult<Accepted> {
    match app.store.queue.submit(new, idempotency).await? {
        Submitted::Created(task) => {
            metrics::counter!("enlarger_tasks_submitted_total", "kind" => task.kind.clone()).increment(1);
            Ok(Accepted { task, replayed: false })
        }
        Submitted::Replayed(task) => Ok(Accepted { task, replayed: true }),
        Submitted::InFlight => Err(in_flight()),
        Submitted::Mismatch => Err(mismatch()),
        Submitted::QueueFull(limit) => Err(limit.into()),
    }
}

/// Keeps the picture under the task's name.
async fn keep(app: &App, id: Uuid, picture: Picture) -> ApiResult<()> {
    match picture {
        Picture::Sent(draft, _) => app.blobs.publish(draft, &Key::Source(id)).await?,
        Picture::Ours { key, .. } => app.blobs.copy(&key, &Key::Source(id)).await?,
        Picture::Remote(_) => {}
    }
    Ok(())
}

/// Validates everything that needs no pixels.
fn prepare(
    app: &App,
    id: Uuid,
    owner: Option<String>,
    base: String,
    body: &[u8],
    read: Read,
) -> ApiResult<(NewTask, Picture)> {
    let mut fields = Fields::parse(body)?;
    let ask = read(&mut fields, app);
    let picture = image::read(&mut fields, app, &base)?;
    let source = match &picture {
        Some(Picture::Sent(_, facts) | Picture::Ours { facts, .. }) => Some(facts.clone()),
        _ => None,
    };
    let cost = source.as_ref().map_or(UNKNOWN_COST, |source| cost(&mut fields, app, &ask, source));
    fields.done()?;
    let picture = picture.ok_or_else(|| ApiError::internal("a picture that was not read was not rejected"))?;
    let input = match &picture {
        Picture::Sent(..) | Picture::Ours { .. } => Input::Stored,
        Picture::Remote(url) => Input::Url(url.clone()),
    };
    let job = Job {
        request: ask.request,
        output: ask.output,
        base,
        name: ask.name,
        source,
        estimate_seconds: cost,
        filter_nsfw: ask.filter_nsfw,
    };
    let new = NewTask {
        id,
        owner,
        kind: ask.kind.to_owned(),
        request: serde_json::to_value(&job).map_err(ApiError::internal)?,
        input: serde_json::to_value(&input).map_err(ApiError::internal)?,
        webhook_url: ask.webhook_url,
        cost,
        polled: false,
    };
    Ok((new, picture))
}

/// Expected seconds; a result that would be too large is noted.
fn cost(fields: &mut Fields<'_>, app: &App, ask: &Ask, source: &SourceFacts) -> f64 {
    let request = &ask.request;
    let field = if request.crop.is_some() { "request" } else { "scale_factor" };
    match app.enlarger.estimate(source.width, source.height, request) {
        Ok(estimate) => {
            if let Err(too_large) =
                check_size(&Terms::of(&app.config), ask.kind, request, (source.width, source.height), &estimate)
            {
                fields.reject_with(field, too_large.reason, Some(too_large.hint));
            }
            estimate.seconds
        }
        Err(error) => {
            let field = if matches!(error, PipelineError::Model(_)) { "model" } else { field };
            fields.reject_with(field, format!("cannot be done: {error}"), error.hint());
            0.0
        }
    }
}

fn idempotency(headers: &HeaderMap, endpoint: &str, body: &[u8; 32]) -> ApiResult<Option<Idempotency>> {
    use sha2::{Digest, Sha256};
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let reason = format!("must have 1 to {LONGEST_KEY} printable characters");
    let key = key.ok_or_else(|| ApiError::field("Idempotency-Key", reason))?.to_owned();
    let body_hash = Sha256::new().chain_update(endpoint).chain_update([0]).chain_update(body).finalize().into();
    Ok(Some(Idempotency { key, body_hash, reservation: None }))
}

fn in_flight() -> ApiError {
    let message = "a request with this Idempotency-Key is still being answered";
    ApiError::conflict("idempotency_in_flight", message).retry_after(1)
}

fn mismatch() -> ApiError {
    ApiError::conflict("idempotency_mismatch", "this Idempotency-Key was used before with another request")
        .hint("use a new key for a new request")
}

/// Reads `webhook_url`, as far as it can be judged without the network.
pub(crate) fn webhook_url(fields: &mut Fields<'_>, app: &App) -> Option<String> {
    let url = fields.text("webhook_url", 2048)?;
    match enlarger_egress::check_url(&url, &app.policy) {
        Ok(()) => Some(url),
        Err(error) => {
            fields.reject_with("webhook_url", format!("cannot be used: {error}"), error.hint());
            None
        }
    }
}

/// Seconds until a task will be done, waiting included.
pub(crate) async fn seconds_left(app: &App, task: &Task) -> ApiResult<f64> {
    if task.state.is_terminal() {
        return Ok(0.0);
    }
    if let Some(eta) = task.progress.as_ref().and_then(|progress| progress.get("eta_seconds")?.as_f64()) {
        return Ok(eta);
    }
    let place = app.store.queue.queue_place(task.id).await?;
    let wait = place.map_or(0.0, |place| place.cost_ahead) / app.config.jobs as f64;
    Ok(wait + task.cost)
}

/// Adds what clients want to know of a task that they wait for.
pub(crate) async fn headers(
    app: &App,
    asked: &HeaderMap,
    accepted: &Accepted,
    mut response: Response,
) -> ApiResult<Response> {
    Promise::of(app, &accepted.task).await?.write(asked, response.headers_mut());
    if accepted.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The stored request of a task.
pub(crate) fn job_of(task: &Task) -> ApiResult<Job> {
    serde_json::from_value(task.request.clone()).map_err(ApiError::internal)
}

/// What came out of a task, once something has.
pub(crate) fn made_of(task: &Task) -> ApiResult<Option<job::Made>> {
    task.result.clone().map(serde_json::from_value).transpose().map_err(ApiError::internal)
}
