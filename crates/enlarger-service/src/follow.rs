//! Following a task: when it will end, and waiting for it.

use std::{sync::Arc, time::Duration};

use enlarger_pipeline::Enlarger;
use enlarger_tasks::{ListQuery, Queue, Scope, Task, TaskState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;

/// How often a waiting request looks for changes by other processes.
const LOOK: Duration = Duration::from_secs(1);

/// Follows tasks. Cheap to clone.
#[derive(Clone)]
pub struct Follow {
    queue: Arc<dyn Queue>,
    /// How much work is done at once.
    enlarger: Arc<Enlarger>,
    stop: CancellationToken,
}

impl Follow {
    /// Follows the tasks of a queue that these devices work on, until `stop`.
    pub fn new(queue: Arc<dyn Queue>, enlarger: Arc<Enlarger>, stop: CancellationToken) -> Self {
        Self { queue, enlarger, stop }
    }

    /// The task with this id.
    ///
    /// # Errors
    /// [`Error::NoTask`] if there is none for this scope.
    pub async fn find(&self, id: Uuid, scope: &Scope) -> Result<Task, Error> {
        self.queue.get(id, scope).await?.ok_or(Error::NoTask)
    }

    /// How many tasks are ahead of a waiting one, and the seconds until it begins.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn place(&self, id: Uuid) -> Result<Option<(u64, f64)>, Error> {
        let Some(place) = self.queue.queue_place(id).await? else { return Ok(None) };
        Ok(Some((place.ahead, self.until_free().await? + place.cost_ahead / self.enlarger.pace())))
    }

    /// Seconds until one of the running tasks ends, if as many run as may.
    async fn until_free(&self) -> Result<f64, Error> {
        let running = ListQuery { states: vec![TaskState::InProgress], per_page: 1000, ..ListQuery::default() };
        let running = self.queue.list(&running, &Scope::All).await?.tasks;
        let full = running.len() >= self.enlarger.slots();
        Ok(running.iter().map(remaining).reduce(f64::min).filter(|_| full).unwrap_or(0.0))
    }

    /// Seconds until a task will be done, waiting included.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn seconds_left(&self, task: &Task) -> Result<f64, Error> {
        if task.state.is_terminal() {
            return Ok(0.0);
        }
        // What runs has no place to ask for.
        let place = if task.state == TaskState::Created { self.place(task.id).await? } else { None };
        Ok(place.map_or(0.0, |(_, seconds)| seconds) + remaining(task))
    }

    /// The task once it has ended, or its current state when `deadline` has passed, the server is stopping, or it is
    /// not expected to end `within` so many seconds.
    ///
    /// # Errors
    /// [`Error::NoTask`] if there is none for this scope.
    pub async fn until(&self, scope: &Scope, id: Uuid, deadline: Instant, within: f64) -> Result<Task, Error> {
        let mut changes = self.queue.changes();
        loop {
            let task = self.find(id, scope).await?;
            let over = task.state.is_terminal() || Instant::now() >= deadline || self.stop.is_cancelled();
            if over || (within.is_finite() && self.seconds_left(&task).await? >= within) {
                return Ok(task);
            }
            let style = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK));
            tokio::pin!(style);
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = &mut style => break,
                    change = changes.recv() => if change.map_or(true, |change| change.task == id && change.state.is_terminal()) { break },
                }
            }
        }
    }
}

/// Seconds that a task takes once it runs: as it says itself, or as was estimated.
fn remaining(task: &Task) -> f64 {
    let progress = task.progress.as_ref().filter(|_| task.state == TaskState::InProgress);
    let told = progress.and_then(|progress| progress.get("eta_seconds")?.as_f64());
    told.unwrap_or(task.cost)
}
