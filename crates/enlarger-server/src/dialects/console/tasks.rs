//! Submitting, listing, cancelling, retrying and deleting tasks.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use enlarger_service::{Error, deletions::Deletions, favorites::Favorites, files::Files, follow::Follow};
use enlarger_tasks::{Cancelled, Deleted, Queue, Retried, Scope, Task, TaskState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ask::{self, Submission},
    detail::{Details, TaskDetail},
};
use crate::{
    client::Client,
    http::{AnyError, ApiError, ApiResult, ErrorBody, Paging, Path, Query},
    poller::Poller,
    submit::{Endpoint, Submitter},
};

const ENDPOINT: Endpoint = Endpoint { name: "console", read: ask::read, fit: None, polled: false, names: &ask::NAMES };

/// A page of tasks, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskPage {
    tasks: Vec<TaskDetail>,
    /// Total number on all pages.
    total: u64,
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only tasks with one of these statuses, separated by commas.
    #[param(
        pattern = "^(CREATED|IN_PROGRESS|COMPLETED|FAILED|CANCELLED)(,(CREATED|IN_PROGRESS|COMPLETED|FAILED|CANCELLED))*$"
    )]
    status: Option<String>,
}

#[utoipa::path(
    post, path = "/api/tasks", operation_id = "createTask", tag = "Console", summary = "Enlarge an image",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = Submission, content_type = "application/json"),
    responses(
        (status = 200, description = "The task, new or from an earlier request with the same \
            Idempotency-Key", body = TaskDetail),
        AnyError,
    ),
)]
pub(crate) async fn create(
    client: Client,
    State(submitter): State<Submitter>,
    State(poller): State<Poller>,
    State(details): State<Details>,
    body: Body,
) -> ApiResult<Response> {
    let accepted = submitter.submit(&client, body, ENDPOINT).await?;
    let detail = details.of(&accepted.task, &client.base).await?;
    poller.promise(&client.headers, &accepted, Json(detail).into_response()).await
}

#[utoipa::path(
    get, path = "/api/tasks", operation_id = "listTasks", tag = "Console", summary = "List tasks of all kinds, \
        newest first",
    params(Paging, Filter),
    responses(
        (status = 200, description = "A page", body = TaskPage),
        AnyError,
    ),
)]
pub(crate) async fn list(
    client: Client,
    State(queue): State<Arc<dyn Queue>>,
    State(details): State<Details>,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> ApiResult<Json<TaskPage>> {
    let mut query = paging.query(Vec::new())?;
    query.states = states(filter.status.as_deref())?;
    let page = queue.list(&query, &client.caller.scope()).await?;
    let mut tasks = Vec::with_capacity(page.tasks.len());
    for task in &page.tasks {
        tasks.push(details.of(task, &client.base).await?);
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
        _ => Err(ApiError::field(
            "status",
            "must be a comma-separated list of CREATED, IN_PROGRESS, COMPLETED, \
            FAILED, CANCELLED",
        )),
    };
    words.into_iter().flat_map(|words| words.split(',')).map(state).collect()
}

/// The task with this id, if this scope may see it.
pub(super) async fn find(follow: &Follow, scope: &Scope, id: &str) -> ApiResult<Task> {
    let id = id.parse().map_err(|_| Error::NoTask)?;
    Ok(follow.find(id, scope).await?)
}

#[utoipa::path(
    get, path = "/api/tasks/{id}", operation_id = "getTask", tag = "Console", summary = "Get a task's details",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The task", body = TaskDetail),
        AnyError,
    ),
)]
pub(crate) async fn get(
    client: Client,
    State(follow): State<Follow>,
    State(details): State<Details>,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&follow, &client.caller.scope(), &id).await?;
    Ok(Json(details.of(&task, &client.base).await?))
}

#[utoipa::path(
    post, path = "/api/tasks/{id}/cancel", operation_id = "cancelTask", tag = "Console", summary = "Cancel a task",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Cancelled", body = TaskDetail),
        (status = 409, description = "It had already finished", body = ErrorBody),
        AnyError,
    ),
)]
pub(crate) async fn cancel(
    client: Client,
    State(queue): State<Arc<dyn Queue>>,
    State(follow): State<Follow>,
    State(details): State<Details>,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&follow, &client.caller.scope(), &id).await?;
    match queue.cancel(task.id, &client.caller.scope()).await? {
        Cancelled::Done(task) => Ok(Json(details.of(&task, &client.base).await?)),
        Cancelled::AlreadyDone(_) => Err(ApiError::conflict("already_done", "the task has already finished")),
        Cancelled::NotFound => Err(ApiError::no_task()),
    }
}

#[utoipa::path(
    post, path = "/api/tasks/{id}/retry", operation_id = "retryTask", tag = "Console",
    summary = "Run a failed or cancelled task again",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "Queued again", body = TaskDetail),
        (status = 409, description = "The task cannot be run again", body = ErrorBody),
        AnyError,
    ),
)]
pub(crate) async fn retry(
    client: Client,
    State(queue): State<Arc<dyn Queue>>,
    State(follow): State<Follow>,
    State(details): State<Details>,
    Path(id): Path<String>,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&follow, &client.caller.scope(), &id).await?;
    match queue.retry(task.id, &client.caller.scope()).await? {
        Retried::Queued(task) => Ok(Json(details.of(&task, &client.base).await?)),
        Retried::NotRetryable(_) => {
            Err(ApiError::conflict("not_retryable", "only failed and cancelled tasks can be run again"))
        }
        Retried::InputGone(_) => {
            let error = ApiError::conflict("input_gone", "the task's image has expired and was deleted");
            Err(error.hint("send the image again"))
        }
        Retried::QueueFull(limit) => Err(Error::QueueFull(limit).into()),
        Retried::NotFound => Err(ApiError::no_task()),
    }
}

#[utoipa::path(
    put, path = "/api/tasks/{id}/favorite", operation_id = "favorTask", tag = "Console",
    summary = "Make a task a favorite, which the disk budget spares",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The task", body = TaskDetail),
        AnyError,
    ),
)]
pub(crate) async fn favor(task: Marked) -> ApiResult<Json<TaskDetail>> {
    mark(task, true).await
}

#[utoipa::path(
    delete, path = "/api/tasks/{id}/favorite", operation_id = "disfavorTask", tag = "Console",
    summary = "Make a task no favorite",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The task", body = TaskDetail),
        AnyError,
    ),
)]
pub(crate) async fn disfavor(task: Marked) -> ApiResult<Json<TaskDetail>> {
    mark(task, false).await
}

/// The task that a request marks, and what that takes.
type Marked = (Client, State<Follow>, State<Favorites>, State<Details>, Path<String>);

async fn mark(
    (client, State(follow), State(favorites), State(details), Path(id)): Marked,
    favorite: bool,
) -> ApiResult<Json<TaskDetail>> {
    let task = find(&follow, &client.caller.scope(), &id).await?;
    favorites.set(task.id, favorite)?;
    Ok(Json(details.of(&task, &client.base).await?))
}

#[utoipa::path(
    delete, path = "/api/tasks/{id}", operation_id = "deleteTask", tag = "Console", summary = "Delete a task and its files",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "The task is waiting or running; cancel it first", body = ErrorBody),
        AnyError,
    ),
)]
pub(crate) async fn delete(
    client: Client,
    State(queue): State<Arc<dyn Queue>>,
    State(follow): State<Follow>,
    State(files): State<Files>,
    State(deletions): State<Deletions>,
    State(favorites): State<Favorites>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let task = find(&follow, &client.caller.scope(), &id).await?;
    match queue.delete(task.id, &client.caller.scope()).await? {
        Deleted::Done => {}
        Deleted::StillActive(_) => {
            let error = ApiError::conflict("still_active", "the task is waiting or running");
            return Err(error.hint("cancel it first"));
        }
        Deleted::NotFound => return Err(ApiError::no_task()),
    }
    deletions.announce(task.id, task.owner);
    favorites.set(task.id, false)?;
    // The sweeper would delete the files later; a user who deletes an image wants it gone now.
    files.blobs.delete_task(task.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
