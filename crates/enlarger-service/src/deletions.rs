//! Who deleted what, told to those who follow tasks in this process.

use tokio::sync::broadcast;
use uuid::Uuid;

/// How many deletions a slow listener may lag behind.
const BACKLOG: usize = 256;

/// A task that was deleted, and whose it was.
pub type Deletion = (Uuid, Option<String>);

/// Tells of deletions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deletions(broadcast::Sender<Deletion>);

impl Default for Deletions {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Deletions {
    /// Tells that a task was deleted.
    pub fn tell(&self, task: Uuid, owner: Option<String>) {
        // Nobody may be listening.
        let _ = self.0.send((task, owner));
    }

    /// Hears of every deletion from now on.
    pub fn hear(&self) -> broadcast::Receiver<Deletion> {
        self.0.subscribe()
    }
}
