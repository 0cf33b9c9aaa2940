//! Requests that are answered late: when the task that they ask about has ended.

use std::time::Duration;

use enlarger_tasks::{Scope, Task};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    app::App,
    error::{ApiError, ApiResult},
    submit::seconds_left,
};

/// How often a waiting request looks for changes made by other processes.
const LOOK: Duration = Duration::from_secs(1);

/// The task once it has ended, or as it stands when `deadline` has passed, the server is stopping, or its end is not expected `within`
/// so many seconds.
///
/// # Errors
/// 404 when there is no such task for this scope.
pub(crate) async fn until(app: &App, scope: &Scope, id: Uuid, deadline: Instant, within: f64) -> ApiResult<Task> {
    let mut changes = app.store.queue.changes();
    loop {
        let task = app.store.queue.get(id, scope).await?.ok_or_else(ApiError::no_task)?;
        let over = task.state.is_terminal() || Instant::now() >= deadline || app.stop.is_cancelled();
        if over || (within.is_finite() && seconds_left(app, &task).await? >= within) {
            return Ok(task);
        }
        let look = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK));
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
