//! Who still asks for what. Some clients learn of their task's end only by asking, and stop asking when their user gives up; they
//! never cancel. A task that nobody asks for yields to others, so the store has to know when it was last asked for.

use std::{collections::HashMap, mem, sync::Arc, sync::Mutex, time::Duration};

use enlarger_tasks::Queue;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often polls are written down, all in one go: a client may poll every second, and there may be thousands.
const EVERY: Duration = Duration::from_secs(3);

/// The last poll of each task that was asked for since the last were written down.
#[derive(Debug, Clone, Default)]
pub struct Polls(Arc<Mutex<HashMap<Uuid, Timestamp>>>);

impl Polls {
    /// Somebody asks for this task now.
    pub fn asked(&self, task: Uuid) {
        self.0.lock().expect("no panic under it").insert(task, Timestamp::now());
    }

    fn take(&self) -> Vec<(Uuid, Timestamp)> {
        mem::take(&mut *self.0.lock().expect("no panic under it")).into_iter().collect()
    }

    /// Writes polls down until told to stop.
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
                // Those who go on asking will be heard the next time.
                tracing::warn!(%error, "cannot store the time of the last poll");
            }
        }
    }
}
