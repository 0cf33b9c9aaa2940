//! Who still asks for what. Some clients learn of their task's end only by asking, and stop asking when their user gives up; they
//! never cancel. A task that nobody asks for yields to others, so the store has to know when it was last asked for.

use std::{collections::HashMap, mem, sync::Arc, sync::Mutex, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::app::App;

/// How often polls are written down, all in one go: a client may poll every second, and there may be thousands.
const EVERY: Duration = Duration::from_secs(3);

/// The last poll of each task that was asked for since the last were written down.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<HashMap<Uuid, Timestamp>>);

impl Polls {
    /// Somebody asks for this task now.
    pub fn asked(&self, task: Uuid) {
        self.0.lock().expect("no panic under it").insert(task, Timestamp::now());
    }

    fn take(&self) -> Vec<(Uuid, Timestamp)> {
        mem::take(&mut *self.0.lock().expect("no panic under it")).into_iter().collect()
    }
}

/// Writes polls down until told to stop.
pub(crate) async fn run(app: Arc<App>) {
    while !app.stop.is_cancelled() {
        tokio::select! {
            () = app.stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        let polls = app.polls.take();
        if !polls.is_empty()
            && let Err(error) = app.store.queue.polled(&polls).await
        {
            // Those who go on asking will be heard the next time.
            tracing::warn!(%error, "cannot write down who asks");
        }
    }
}
