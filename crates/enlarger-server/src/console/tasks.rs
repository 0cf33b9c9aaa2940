//! Submitting, listing, cancelling, repeating and deleting tasks.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use enlarger_tasks::{Cancelled, Deleted, Retried, Task, TaskState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    ask::{self, Submission},
    detail::TaskDetail,
};
use crate::{
    app::App,
    auth::Caller,
    error::{ApiError, ApiResult, ErrorBody},
    extract::{Path, Query},
    magnific::{Paging, Parts},
    submit::{self, submit},
};

/// Which of its endpoints a body was sent to: a key is good for one of them.
const ENDPOINT: &str = "console";

/// A page of tasks, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskPage {
    tasks: Vec<TaskDetail>,
    /// How many there are on all pages.
    total: u64,
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only those that stand there; several, separated by commas.
    #[param(
        pattern = "^(CREATED|IN_PROGRESS|COMPLETED|FAILED|CANCELLED)(,(CREATED|IN_PROGRESS|COMPLETED|FAILED|CANCELLED))*$"
    )]
    status: Option<String>,
}

#[utoipa::path(
    post, path = "/api/tasks", operation_id = "createTask", tag = "Console", summary = "Enlarge a picture",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = Submission, content_type = "application/json"),
    responses(
        (status = 200, description = "The task, now or when an earlier request made it", body = TaskDetail),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn create(parts: Parts, body: Body) -> ApiResult<Response> {
    let (State(app), axum::Extension(caller), headers) = parts;
    let accepted = submit(&app, &caller, &headers, body, ask::read, ENDPOINT).await?;
    let detail = TaskDetail::of(&app, &accepted.task, &app.base(&headers)).await?;
    submit::headers(&app, &headers, &accepted, Json(detail).into_response()).await
}

#[utoipa::path(
    get, path = "/api/tasks", operation_id = "listTasks", tag = "Console", summary = "List tasks of every kind, newest first",
    params(Paging, Filter),
    responses(
        (status = 200, description = "A page", body = TaskPage),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn list(
    (State(app), axum::Extension(caller), headers): Parts,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<TaskPage>> {
    let mut query = paging.query(Vec::new())?;
    query.states = states(filter.status.as_deref())?;
    let page = app.store.queue.list(&query, &caller.scope()).await?;
    let base = app.base(&headers);
    let mut tasks = Vec::with_capacity(page.tasks.len());
    for task in &page.tasks {
        tasks.push(TaskDetail::of(&app, task, &base).await?);
    }
    Ok(Json(TaskPage { tasks, total: page.total }))
}

fn states(words: Option<&str>) -> ApiResult<Vec<TaskState>> {
    let state = |word: &str| match word {
        "CREATED" => Ok(TaskState::Created),
        "IN_PROGRESS" => Ok(TaskState::InProgress),
        "COMPLETED" => Ok(TaskState::Completed),
        "FAILED" => Ok(TaskState::Failed),
        "CANCELLED" => Ok(TaskState::Cancelled),
        _ => Err(ApiError::field("status", "must be some of CREATED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED")),
    };
    words.into_iter().flat_map(|words| words.split(',')).map(state).collect()
}

/// The task with this id, if the caller may see it.
pub(crate) async fn find(app: &App, caller: &Caller, id: &str) -> ApiResult<Task> {
    let id: Uuid = id.parse().map_err(|_| ApiError::no_task())?;
    app.store.queue.get(id, &caller.scope()).await?.ok_or_else(ApiError::no_task)
}

#[utoipa::path(
    get, path = "/api/tasks/{id}", operation_id = "getTask", tag = "Console", summary = "Get all that is known of a task",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The task", body = TaskDetail),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn get(
    (State(app), axum::Extension(caller), headers): Parts,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&app, &caller, &id).await?;
    Ok(Json(TaskDetail::of(&app, &task, &app.base(&headers)).await?))
}

#[utoipa::path(
    post, path = "/api/tasks/{id}/cancel", operation_id = "cancelTask", tag = "Console", summary = "Cancel a task",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is cancelled", body = TaskDetail),
        (status = 409, description = "It was done before", body = ErrorBody),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn cancel(
    (State(app), axum::Extension(caller), headers): Parts,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&app, &caller, &id).await?;
    match app.store.queue.cancel(task.id, &caller.scope()).await? {
        Cancelled::Done(task) => Ok(Json(TaskDetail::of(&app, &task, &app.base(&headers)).await?)),
        Cancelled::AlreadyDone(_) => Err(ApiError::conflict("already_done", "the task was done before")),
        Cancelled::NotFound => Err(ApiError::no_task()),
    }
}

#[utoipa::path(
    post, path = "/api/tasks/{id}/retry", operation_id = "retryTask", tag = "Console",
    summary = "Run a failed or cancelled task again",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It waits again", body = TaskDetail),
        (status = 409, description = "It cannot be run again", body = ErrorBody),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn retry(
    (State(app), axum::Extension(caller), headers): Parts,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&app, &caller, &id).await?;
    match app.store.queue.retry(task.id, &caller.scope()).await? {
        Retried::Queued(task) => Ok(Json(TaskDetail::of(&app, &task, &app.base(&headers)).await?)),
        Retried::NotRetryable(_) => {
            Err(ApiError::conflict("not_retryable", "only failed and cancelled tasks can be run again"))
        }
        Retried::InputGone(_) => {
            let error = ApiError::conflict("input_gone", "the task's picture has expired and is deleted");
            Err(error.hint("send the picture again"))
        }
        Retried::QueueFull(limit) => Err(limit.into()),
        Retried::NotFound => Err(ApiError::no_task()),
    }
}

#[utoipa::path(
    delete, path = "/api/tasks/{id}", operation_id = "deleteTask", tag = "Console", summary = "Delete a task and its files",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is waiting or running: cancel it first", body = ErrorBody),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn delete(
    (State(app), axum::Extension(caller), _): Parts,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let task = find(&app, &caller, &id).await?;
    match app.store.queue.delete(task.id, &caller.scope()).await? {
        Deleted::Done => {}
        Deleted::StillActive(_) => {
            let error = ApiError::conflict("still_active", "the task is waiting or running");
            return Err(error.hint("cancel it first"));
        }
        Deleted::NotFound => return Err(ApiError::no_task()),
    }
    // Nobody may be listening.
    let _ = app.deleted.send((task.id, task.owner));
    // The sweeper would come for the files; whoever deletes a picture wants it gone now.
    app.blobs.delete_task(task.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
