//! A running job seen from outside: its progress, and how to stop it.

use std::{
    process::{Child, ExitStatus},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use enlarger_pipeline::{Progress, Watch};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The job seen from outside.
pub(crate) struct Watching {
    /// Cancelled when the service is to end.
    stopping: CancellationToken,
    stopped: AtomicBool,
    progress: Mutex<Option<Value>>,
    /// The process of its own that the job runs in, if any.
    child: Mutex<Option<Child>>,
    /// Held while the job's thread is at work.
    pub running: Arc<tokio::sync::RwLock<()>>,
}

impl Watching {
    pub fn new(stopping: CancellationToken) -> Self {
        Self {
            stopping,
            stopped: AtomicBool::default(),
            progress: Mutex::default(),
            child: Mutex::default(),
            running: Arc::default(),
        }
    }

    /// Whether the service is to end.
    pub fn stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// How far the job is.
    pub fn report(&self) -> Option<Value> {
        self.progress.lock().expect("no panic under it").clone()
    }

    /// Notes how far the job is.
    pub fn note(&self, progress: Value) {
        *self.progress.lock().expect("no panic under it") = Some(progress);
    }

    /// Tells the job to stop.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(child) = &mut *self.child.lock().expect("no panic under it") {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }

    /// Notes the process that the job runs in.
    pub fn runs_in(&self, child: Child) {
        *self.child.lock().expect("no panic under it") = Some(child);
        if self.cancelled() {
            self.stop();
        }
    }

    /// Waits for that process to end; its output is complete.
    pub fn reap(&self) -> Option<std::io::Result<ExitStatus>> {
        let child = self.child.lock().expect("no panic under it").take();
        child.map(|mut child| child.wait())
    }

    /// Waits until the job's thread is not at work.
    pub async fn idle(&self) {
        drop(self.running.read().await);
    }
}

impl Watch for Watching {
    fn progress(&self, progress: &Progress) {
        self.note(json!(progress));
    }

    fn cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
