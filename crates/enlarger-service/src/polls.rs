//! Which tasks are still polled. Some clients learn of their task's end only by polling, and stop polling when their
//! user gives up; they never cancel. A task that nobody polls yields to others, so the store has to know when it was
//! last polled.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use enlarger_tasks::Queue;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often polls are stored, all at once: a client may poll every second, and there may be thousands.
const EVERY: Duration = Duration::from_secs(3);

/// The last poll of each task that was polled since the last write.
#[derive(Debug, Clone, Default)]
pub struct Polls(Arc<Mutex<HashMap<Uuid, Instant>>>);

impl Polls {
    /// A client polls this task now.
    pub fn asked(&self, task: Uuid) {
        self.0.lock().expect("no panic under it").insert(task, Instant::now());
    }

    /// How long ago each was.
    fn take(&self) -> Vec<(Uuid, Duration)> {
        let polls = mem::take(&mut *self.0.lock().expect("no panic under it"));
        polls.into_iter().map(|(task, at)| (task, at.elapsed())).collect()
    }

    /// Stores polls until stopped.
    pub async fn run(self, queue: Arc<dyn Queue>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            let polls = self.take();
            if !polls.is_empty()
                && let Err(error) = queue.polled(&polls).await
            {
                // Clients that keep polling are stored the next time.
                tracing::warn!(%error, "cannot store the time of the last poll");
            }
        }
    }
}
