//! Running a model: synchronously, or as a request that is queued, polled, collected and cancelled.
//!
//! The queue has one end, COMPLETED. A failure is a completion that carries an `error_type`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use enlarger_service::{failure::Blame, follow::Follow, job::Kind, submit::Accepted, urls::Urls};
use enlarger_tasks::{Cancelled, Queue, Scope, Task, TaskState};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    errors::{RouterErrorBody, RouterReadErrors, RouterValidationErrorBody, RouterWriteErrors},
    model::known,
};
use crate::{
    client::Client,
    dialects::magnific::{
        self, PrecisionV2Request, read_v2,
        wire::{TaskData, TaskResponse},
    },
    http::{ApiError, ApiResult, Path},
    poller::Poller,
    submit::{Endpoint, Submitter},
    waiter,
};

/// How long a run is held open.
const HELD: Duration = Duration::from_secs(600);
const RUN: Endpoint = Endpoint { name: "router-run", read: read_v2, fit: None, polled: false, names: &magnific::NAMES };
const QUEUED: Endpoint =
    Endpoint { name: "router-queued", read: read_v2, fit: None, polled: false, names: &magnific::NAMES };

/// A queued request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuedRequest {
    request_id: Uuid,
    #[schema(inline)]
    status: QueueStatus,
    /// Position in the queue, only while waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queue_position: Option<u64>,
    /// The kind of failure; present only if the run failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_type: Option<&'static str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// A queued request's status.
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
    request_body(content = PrecisionV2Request, content_type = "application/json"),
    responses(
        (status = 200, description = "The result", body = TaskResponse),
        (status = 404, description = "No such model", body = RouterErrorBody),
        (status = 409, description = "The Idempotency-Key is in use, or the run was cancelled", body = RouterErrorBody),
        (status = 422, description = "Invalid fields, or an image that cannot be \
            enlarged", body = RouterValidationErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = RouterErrorBody),
        (status = 504, description = "Not finished within 10 minutes; fetch the result later with the same \
            Idempotency-Key", body = RouterErrorBody),
        RouterWriteErrors,
    ),
)]
pub(crate) async fn run(
    client: Client,
    State(submitter): State<Submitter>,
    State(poller): State<Poller>,
    State(follow): State<Follow>,
    State(urls): State<Urls>,
    Path((owner, model)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    known(&owner, &model)?;
    let accepted = submitter.submit(&client, body, RUN).await?;
    let deadline = Instant::now() + HELD;
    let id = accepted.task.id;
    let task = follow.until(&client.caller.scope(), id, deadline, f64::INFINITY).await;
    let task = task.map_err(|error| {
        waiter::meanwhile(error, &format!("GET /v2/models/{owner}/{model}/requests/{id} will have it"))
    })?;
    let response = match task.state {
        TaskState::Completed => {
            let data = TaskData::of(&urls, &task, &client.base).await?;
            Json(TaskResponse { data }).into_response()
        }
        TaskState::Failed | TaskState::Cancelled => return Err(failure(&task)),
        TaskState::Created | TaskState::InProgress => {
            let message = "the result is not ready yet; repeat the request with the same Idempotency-Key to fetch it";
            let error = ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message);
            return Err(error.retry_after(10));
        }
    };
    poller.promise(&client.headers, &Accepted { task, replayed: accepted.replayed }, response).await
}

/// How a run failed, as a type from the closed list that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailedRun {
    /// It was cancelled: among the types that clients know, the one that says who ended it.
    GivenUp,
    /// The client's picture or request.
    InvalidInput,
    /// Us.
    ProviderError,
}

impl FailedRun {
    fn of(task: &Task) -> Option<Self> {
        match (task.state, &task.error) {
            (TaskState::Cancelled, _) => Some(Self::GivenUp),
            (TaskState::Failed, Some(error)) if Blame::of(error) == Blame::Service => Some(Self::ProviderError),
            (TaskState::Failed, _) => Some(Self::InvalidInput),
            _ => None,
        }
    }

    fn error_type(self) -> &'static str {
        match self {
            Self::GivenUp => "client_disconnected",
            Self::InvalidInput => "invalid_input",
            Self::ProviderError => "provider_error",
        }
    }
}

/// A failed task as an error, with its type.
fn failure(task: &Task) -> ApiError {
    ApiError { bucket: FailedRun::of(task).map(FailedRun::error_type), ..waiter::failure(task) }
}

#[utoipa::path(
    post, path = "/v2/models/{owner}/{model}/requests", operation_id = "submitRouterRequest", tag = "Router", summary = "Queue a run",
    params(("owner" = String, Path, example = "freepik"), ("model" = String, Path, example = "ai-image-upscaler-precision-v2"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = PrecisionV2Request, content_type = "application/json"),
    responses(
        (status = 201, description = "Queued", body = QueuedRequest),
        (status = 404, description = "No such model", body = RouterErrorBody),
        (status = 409, description = "The Idempotency-Key is in use", body = RouterErrorBody),
        (status = 422, description = "Invalid fields", body = RouterValidationErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = RouterErrorBody),
        RouterWriteErrors,
    ),
)]
pub(crate) async fn submit_request(
    client: Client,
    State(submitter): State<Submitter>,
    State(poller): State<Poller>,
    State(follow): State<Follow>,
    Path((owner, model)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    known(&owner, &model)?;
    let accepted = submitter.submit(&client, body, QUEUED).await?;
    let place = follow.place(accepted.task.id).await?;
    let queued = QueuedRequest {
        request_id: accepted.task.id,
        status: QueueStatus::InQueue,
        queue_position: Some(place.map_or(0, |(ahead, _)| ahead)),
        error_type: None,
        detail: None,
    };
    poller.promise(&client.headers, &accepted, (StatusCode::CREATED, Json(queued)).into_response()).await
}

async fn find(follow: &Follow, scope: &Scope, owner: &str, model: &str, id: &str) -> ApiResult<Task> {
    known(owner, model)?;
    let id: Uuid = id.parse().map_err(|_| ApiError::no_task())?;
    let task = follow.find(id, scope).await?;
    if Kind::of(&task) == Some(Kind::PrecisionV2) { Ok(task) } else { Err(ApiError::no_task()) }
}

async fn queued(follow: &Follow, task: &Task) -> ApiResult<QueuedRequest> {
    let status = match task.state {
        TaskState::Created => QueueStatus::InQueue,
        TaskState::InProgress => QueueStatus::InProgress,
        _ => QueueStatus::Completed,
    };
    let place = if status == QueueStatus::InQueue { follow.place(task.id).await? } else { None };
    let error_type = FailedRun::of(task).map(FailedRun::error_type);
    let detail = task.error.as_ref().filter(|_| error_type.is_some()).map(|error| error.message.clone());
    Ok(QueuedRequest { request_id: task.id, status, queue_position: place.map(|(ahead, _)| ahead), error_type, detail })
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/requests/{id}/status", operation_id = "getRouterRequestStatus", tag = "Router",
    summary = "Get the status of a queued run",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The status", body = QueuedRequest),
        (status = 404, description = "No such model or run for this key", body = RouterErrorBody),
        RouterReadErrors,
    ),
)]
pub(crate) async fn status(
    client: Client,
    State(follow): State<Follow>,
    Path((owner, model, id)): Path<(String, String, String)>,
) -> ApiResult<Response> {
    let task = find(&follow, &client.caller.scope(), &owner, &model, &id).await?;
    let mut response = Json(queued(&follow, &task).await?).into_response();
    if !task.state.is_terminal() {
        let pace = (follow.seconds_left(&task).await? / 4.0).clamp(1.0, 10.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, pace.into());
    }
    Ok(response)
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/requests/{id}", operation_id = "getRouterRequestResult", tag = "Router",
    summary = "Get the result of a queued run",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The result, or the status while the run is not \
            finished", body = serde_json::Value, content_type = "application/json"),
        (status = 404, description = "No such model or run for this key", body = RouterErrorBody),
        RouterReadErrors,
    ),
)]
pub(crate) async fn result(
    client: Client,
    State(urls): State<Urls>,
    State(follow): State<Follow>,
    Path((owner, model, id)): Path<(String, String, String)>,
) -> ApiResult<Response> {
    let task = find(&follow, &client.caller.scope(), &owner, &model, &id).await?;
    if task.state == TaskState::Completed {
        let data = TaskData::of(&urls, &task, &client.base).await?;
        return Ok(Json(TaskResponse { data }).into_response());
    }
    Ok(Json(queued(&follow, &task).await?).into_response())
}

#[utoipa::path(
    put, path = "/v2/models/{owner}/{model}/requests/{id}/cancel", operation_id = "cancelRouterRequest", tag = "Router",
    summary = "Cancel a queued run",
    params(("owner" = String, Path), ("model" = String, Path), ("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Cancelled", body = QueuedRequest),
        (status = 404, description = "No such model or run for this key", body = RouterErrorBody),
        (status = 409, description = "It had already finished", body = serde_json::Value, content_type = "application/json"),
        RouterReadErrors,
    ),
)]
pub(crate) async fn cancel(
    client: Client,
    State(queue): State<Arc<dyn Queue>>,
    State(follow): State<Follow>,
    Path((owner, model, id)): Path<(String, String, String)>,
) -> ApiResult<Response> {
    let task = find(&follow, &client.caller.scope(), &owner, &model, &id).await?;
    match queue.cancel(task.id, &client.caller.scope()).await? {
        Cancelled::Done(task) => Ok(Json(queued(&follow, &task).await?).into_response()),
        Cancelled::AlreadyDone(_) => {
            let body = Json(json!({ "status": "ALREADY_COMPLETED", "message": "the run has already finished" }));
            let mut response = (StatusCode::CONFLICT, body).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        Cancelled::NotFound => Err(ApiError::no_task()),
    }
}
