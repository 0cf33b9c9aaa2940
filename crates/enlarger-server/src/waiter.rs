//! Requests that are answered when their task has ended.

use std::{sync::Arc, time::Duration};

use axum::{extract::FromRef, http::StatusCode};
use enlarger_service::{Error, failure::Blame, follow::Follow, submit::Accepted};
use enlarger_tasks::{Queue, Scope, Task, TaskState};
use tokio::{runtime::Handle, time::Instant};
use uuid::Uuid;

use crate::{
    app::App,
    client::Client,
    http::{ApiError, ApiResult},
    submit::IDEMPOTENCY_KEY,
};

/// How long a request is held open. Clients and the servers between give up much earlier if they are told to.
const LONGEST: Duration = Duration::from_secs(3600);

/// Waits for tasks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Waiter {
    follow: Follow,
    queue: Arc<dyn Queue>,
}

impl FromRef<App> for Waiter {
    fn from_ref(app: &App) -> Self {
        Self { follow: app.follow.clone(), queue: app.queue.clone() }
    }
}

impl Waiter {
    /// Waits until a task is completed, and returns it as it is then. If the client disconnects before, nobody would ever fetch the result, so the task is cancelled;
    /// with an `Idempotency-Key` it goes on, because the same request can fetch it later.
    ///
    /// # Errors
    /// Why it failed; 504 after an hour and 503 when the server stops, with the task going on.
    pub async fn completed(&self, client: &Client, accepted: Accepted) -> ApiResult<Accepted> {
        let (id, scope) = (accepted.task.id, client.caller.scope());
        let kept = client.headers.contains_key(IDEMPOTENCY_KEY);
        let mut abandoned = Abandoned((!kept).then(|| (self.queue.clone(), id, scope.clone())));
        let deadline = Instant::now() + LONGEST;
        let task = self.follow.until(&scope, id, deadline, f64::INFINITY).await;
        abandoned.0 = None;
        let later = format!("GET /api/tasks/{id} will have it");
        let task = task.map_err(|error| meanwhile(error, &later))?;
        match task.state {
            TaskState::Completed => Ok(Accepted { task, ..accepted }),
            TaskState::Failed | TaskState::Cancelled => Err(failure(&task)),
            TaskState::Created | TaskState::InProgress => Err(match Instant::now() >= deadline {
                true => {
                    let message = "the result is not ready yet";
                    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message).hint(later)
                }
                false => {
                    ApiError::unavailable("the server is stopping, and finishes the job when it runs again").hint(later)
                }
            }),
        }
    }
}

/// What went wrong while a task was waited for, which goes on: says where its result will be, also when nobody can look for it now.
pub(crate) fn meanwhile(error: Error, later: &str) -> ApiError {
    let error = ApiError::from(error);
    if error.status == StatusCode::SERVICE_UNAVAILABLE { error.hint(later) } else { error }
}

/// A task that did not give a result, as an error of the request that asked for it.
pub(crate) fn failure(task: &Task) -> ApiError {
    let message = task.error.as_ref().map_or("the task failed", |error| error.message.as_str());
    let error = match (task.state, &task.error) {
        (TaskState::Cancelled, _) => ApiError::conflict("cancelled", "the task was cancelled"),
        (_, Some(error)) if Blame::of(error) == Blame::Service => ApiError::internal(message),
        _ => ApiError::field("image", format!("cannot be enlarged: {message}")),
    };
    let hint = task.error.as_ref().and_then(|error| error.hint.clone());
    ApiError { hint, ..error }
}

/// Cancels its task when it is dropped while somebody waits, which is what happens when a client disconnects.
struct Abandoned(Option<(Arc<dyn Queue>, Uuid, Scope)>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        let Some((queue, id, scope)) = self.0.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = queue.cancel(id, &scope).await {
                tracing::warn!(%error, %id, "a task that nobody waits for any more was not cancelled");
            }
        });
    }
}
