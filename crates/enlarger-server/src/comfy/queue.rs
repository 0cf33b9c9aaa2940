//! Running a model: held open until it is done, or as a request that is queued, looked at, collected and cancelled.
//!
//! The queue has one end, COMPLETED. A failure is a completion that carries an `error_type`.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use enlarger_tasks::{Cancelled, Task, TaskState};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{RouterError, known};
use crate::{
    app::App,
    auth::Caller,
    error::{ApiError, ApiResult, ErrorBody},
    extract::Path,
    job::kind,
    magnific::{
        read_v2,
        wire::{TaskData, TaskResponse},
    },
    submit::{self, submit},
};

/// How long a run is held open.
const HELD: Duration = Duration::from_secs(600);
/// How often a waiting request looks for changes made by other processes.
const LOOK: Duration = Duration::from_secs(1);
/// Which of its endpoints a body was sent to: a key is good for one of them.
const RUN: &str = "router-run";
const QUEUED: &str = "router-queued";

/// A queued request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuedRequest {
    request_id: Uuid,
    #[schema(inline)]
    status: QueueStatus,
    /// How many are ahead; only while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queue_position: Option<u64>,
    /// What kind of failure it was; only after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_type: Option<&'static str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// Where a queued request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum QueueStatus {
    InQueue,
    InProgress,
    Completed,
}

#[utoipa::path(
    post, path = "/v2/models/{owner}/{model}", operation_id = "runRouterModel", tag = "Router", summary = "Run a model and wait for the result",
    params(("owner" = String, Path, example = "freepik"), ("model" = String, Path, example = "ai-image-upscaler-precision-v2"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = crate::magnific::PrecisionV2Request, content_type = "application/json"),
    responses(
        (status = 200, description = "The result", body = TaskResponse),
        (status = 400, description = "Bad Request", body = ErrorBody),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 409, description = "The Idempotency-Key is in use, or the run was cancelled", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 422, description = "The picture could not be enlarged", body = ErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = ErrorBody),
        (status = 500, description = "Internal Server Error", body = ErrorBody),
        (status = 503, description = "Nothing can be stored at the moment", body = ErrorBody),
        (status = 504, description = "Not done within 10 minutes. The same Idempotency-Key collects it later", body = ErrorBody),
    ),
)]
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((owner, model)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, RouterError> {
    known(&owner, &model)?;
    let accepted = submit(&app, &caller, &headers, body, read_v2, RUN).await?;
    let task = wait(&app, &caller, accepted.task.id).await?;
    let response = match task.state {
        TaskState::Completed => {
            let data = TaskData::of(&app, &task, &app.base(&headers))?;
            Json(TaskResponse { data }).into_response()
        }
        TaskState::Failed | TaskState::Cancelled => return Err(failure(&task).into()),
        TaskState::Created | TaskState::InProgress => {
            let message =
                "the result is not ready yet; send the same request with the same Idempotency-Key to collect it";
            let error = ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message);
            return Err(error.retry_after(10).into());
        }
    };
    Ok(submit::headers(&app, &submit::Accepted { task, replayed: accepted.replayed }, response).await?)
}

/// Waits until a task ends, or for [`HELD`].
async fn wait(app: &App, caller: &Caller, id: Uuid) -> ApiResult<Task> {
    let deadline = Instant::now() + HELD;
    let mut changes = app.store.changes();
    loop {
        let task = app.store.get(id, &caller.scope()).await?.ok_or_else(ApiError::no_task)?;
        if task.state.is_terminal() || Instant::now() >= deadline || app.stop.is_cancelled() {
            return Ok(task);
        }
        let look = tokio::time::sleep(LOOK);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = app.stop.cancelled() => break,
                () = &mut look => break,
                change = changes.recv() => if change.map_or(true, |change| change.task == id && change.state.is_terminal()) { break },
            }
        }
    }
}

/// A failed task as an error of its own.
fn failure(task: &Task) -> ApiError {
    let error_type = error_type(task).unwrap_or("provider_error");
    let message = task.error.as_ref().map_or("the task failed", |error| error.message.as_str());
    let status = match error_type {
        "cancelled" => StatusCode::CONFLICT,
        "invalid_input" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => return ApiError { bucket: Some("provider_error"), ..ApiError::internal(message) },
    };
    let error = ApiError::new(status, error_type, message);
    ApiError { hint: task.error.as_ref().and_then(|error| error.hint.clone()), ..error }
}

/// The bucket of a failure: the client's picture, the client's wish, or us.
fn error_type(task: &Task) -> Option<&'static str> {
    match (task.state, task.error.as_ref().map(|error| error.code.as_str())) {
        (TaskState::Cancelled, _) => Some("cancelled"),
        (TaskState::Failed, Some("internal" | "worker_died" | "storage" | "busy" | "network" | "model" | "memory")) => {
            Some("provider_error")
        }
        (TaskState::Failed, _) => Some("invalid_input"),
        _ => None,
    }
}

#[utoipa::path(
    post, path = "/v2/models/{owner}/{model}/requests", operation_id = "submitRouterRequest", tag = "Router", summary = "Queue a run",
    params(("owner" = String, Path, example = "freepik"), ("model" = String, Path, example = "ai-image-upscaler-precision-v2"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = crate::magnific::PrecisionV2Request, content_type = "application/json"),
    responses(
        (status = 201, description = "Queued", body = QueuedRequest),
        (status = 400, description = "Bad Request", body = ErrorBody),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 409, description = "The Idempotency-Key is in use", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = ErrorBody),
        (status = 500, description = "Internal Server Error", body = ErrorBody),
        (status = 503, description = "Nothing can be stored at the moment", body = ErrorBody),
    ),
)]
pub(crate) async fn submit_request(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((owner, model)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, RouterError> {
    known(&owner, &model)?;
    let accepted = submit(&app, &caller, &headers, body, read_v2, QUEUED).await?;
    let place = app.store.queue_place(accepted.task.id).await?;
    let queued = QueuedRequest {
        request_id: accepted.task.id,
        status: QueueStatus::InQueue,
        queue_position: Some(place.map_or(0, |place| place.ahead)),
        error_type: None,
        detail: None,
    };
    Ok(submit::headers(&app, &accepted, (StatusCode::CREATED, Json(queued)).into_response()).await?)
}

async fn find(app: &App, caller: &Caller, owner: &str, model: &str, id: &str) -> Result<Task, RouterError> {
    known(owner, model)?;
    let id: Uuid = id.parse().map_err(|_| ApiError::no_task())?;
    let task = app.store.get(id, &caller.scope()).await?.filter(|task| task.kind == kind::PRECISION_V2);
    Ok(task.ok_or_else(ApiError::no_task)?)
}

async fn queued(app: &App, task: &Task) -> ApiResult<QueuedRequest> {
    let status = match task.state {
        TaskState::Created => QueueStatus::InQueue,
        TaskState::InProgress => QueueStatus::InProgress,
        _ => QueueStatus::Completed,
    };
    let place = if status == QueueStatus::InQueue { app.store.queue_place(task.id).await? } else { None };
    let error_type = error_type(task);
    let detail = task.error.as_ref().filter(|_| error_type.is_some()).map(|error| error.message.clone());
    Ok(QueuedRequest {
        request_id: task.id,
        status,
        queue_position: place.map(|place| place.ahead),
        error_type,
        detail,
    })
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/requests/{id}/status", operation_id = "getRouterRequestStatus", tag = "Router",
    summary = "Get where a queued run stands",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Where it stands", body = QueuedRequest),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model or run, for this key", body = ErrorBody),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
        (status = 500, description = "Internal Server Error", body = ErrorBody),
        (status = 503, description = "The store is not available", body = ErrorBody),
    ),
)]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((owner, model, id)): Path<(String, String, String)>,
) -> Result<Response, RouterError> {
    let task = find(&app, &caller, &owner, &model, &id).await?;
    let mut response = Json(queued(&app, &task).await?).into_response();
    if !task.state.is_terminal() {
        let pace = (submit::seconds_left(&app, &task).await? / 4.0).clamp(1.0, 10.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, pace.into());
    }
    Ok(response)
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/requests/{id}", operation_id = "getRouterRequestResult", tag = "Router",
    summary = "Collect the result of a queued run",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The result; or where it stands, while it is not done", body = serde_json::Value, content_type = "application/json"),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model or run, for this key", body = ErrorBody),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
        (status = 500, description = "Internal Server Error", body = ErrorBody),
        (status = 503, description = "The store is not available", body = ErrorBody),
    ),
)]
pub(crate) async fn result(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((owner, model, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, RouterError> {
    let task = find(&app, &caller, &owner, &model, &id).await?;
    if task.state == TaskState::Completed {
        let data = TaskData::of(&app, &task, &app.base(&headers))?;
        return Ok(Json(TaskResponse { data }).into_response());
    }
    Ok(Json(queued(&app, &task).await?).into_response())
}

#[utoipa::path(
    put, path = "/v2/models/{owner}/{model}/requests/{id}/cancel", operation_id = "cancelRouterRequest", tag = "Router",
    summary = "Cancel a queued run",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Cancelled", body = QueuedRequest),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model or run, for this key", body = ErrorBody),
        (status = 409, description = "It was done before", body = serde_json::Value, content_type = "application/json"),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
        (status = 500, description = "Internal Server Error", body = ErrorBody),
        (status = 503, description = "The store is not available", body = ErrorBody),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((owner, model, id)): Path<(String, String, String)>,
) -> Result<Response, RouterError> {
    let task = find(&app, &caller, &owner, &model, &id).await?;
    match app.store.cancel(task.id, &caller.scope()).await? {
        Cancelled::Done(task) => Ok(Json(queued(&app, &task).await?).into_response()),
        Cancelled::AlreadyDone(_) => {
            let body = Json(json!({ "status": "ALREADY_COMPLETED", "message": "the run was done before" }));
            let mut response = (StatusCode::CONFLICT, body).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        Cancelled::NotFound => Err(ApiError::no_task().into()),
    }
}
