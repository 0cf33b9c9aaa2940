//! When to look for work again. Every process hears of every change, and there may be a thousand of them: if each looked into
//! the store at each change, they would do little else.

use std::time::Duration;

use enlarger_tasks::{Change, Queue, TaskState};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

/// How long to wait at most, as changes may get lost.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait at least since the last time. One look finds all that changed meanwhile.
const GAP: Duration = Duration::from_millis(100);

/// What wakes one who looks for work.
pub(crate) struct Wakes {
    changes: Receiver<Change>,
    is_work: fn(TaskState) -> bool,
    last: Option<Instant>,
}

impl Wakes {
    /// By changes to such a state.
    pub fn new(queue: &dyn Queue, is_work: fn(TaskState) -> bool) -> Self {
        Self { changes: queue.changes(), is_work, last: None }
    }

    /// Returns when there may be work.
    pub async fn next(&mut self) {
        let _ = tokio::time::timeout(IDLE, self.change()).await;
        if let Some(last) = self.last {
            tokio::time::sleep_until(last + GAP).await;
        }
        self.changes = self.changes.resubscribe();
        self.last = Some(Instant::now());
    }

    async fn change(&mut self) {
        loop {
            match self.changes.recv().await {
                Ok(change) if !(self.is_work)(change.state) => {}
                // Nobody will announce anything any more.
                Err(RecvError::Closed) => std::future::pending().await,
                Ok(_) | Err(RecvError::Lagged(_)) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tasks;

    #[tokio::test]
    async fn only_work_wakes_and_many_changes_wake_once() {
        let tasks = Tasks::new().await;
        let queue = &*tasks.store.queue;
        let mut created = Wakes::new(queue, |state| state == TaskState::Created);
        let mut done = Wakes::new(queue, |state| state == TaskState::Completed);
        for _ in 0..5 {
            tasks.submit(&[]).await;
        }
        created.change().await;
        created.next().await;
        assert!(created.changes.is_empty(), "one look for all of them");
        let waited = tokio::time::timeout(GAP, done.change()).await;
        assert!(waited.is_err(), "nothing was completed");
    }
}
