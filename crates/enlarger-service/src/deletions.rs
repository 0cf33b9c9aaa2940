//! Deleted tasks, announced to event streams in this process.

use tokio::sync::broadcast;
use uuid::Uuid;

/// How many deletions a slow listener may lag behind.
const BACKLOG: usize = 256;

/// A deleted task and its owner.
pub type Deletion = (Uuid, Option<String>);

/// Announces deletions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deletions(broadcast::Sender<Deletion>);

impl Default for Deletions {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Deletions {
    /// Announces that a task was deleted.
    pub fn announce(&self, task: Uuid, owner: Option<String>) {
        // Nobody may be listening.
        let _ = self.0.send((task, owner));
    }

    /// Receives every deletion from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Deletion> {
        self.0.subscribe()
    }
}
