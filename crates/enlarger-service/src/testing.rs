//! What tests of this crate start from.

use std::sync::Arc;

use enlarger_tasks::{NewTask, Store, StoreConfig, Submitted, SystemClock, Task, open_store, sqlite};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// A store of tasks, in a file that goes when this does.
pub struct Tasks {
    pub store: Store,
    _folder: TempDir,
}

impl Tasks {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = sqlite::url_of(&folder.path().join("tasks.sqlite")).unwrap();
        let store = open_store(&url, StoreConfig::default(), Arc::new(SystemClock)).await.unwrap();
        Tasks { store, _folder: folder }
    }

    /// A task that only a worker with all of these can run.
    pub async fn submit(&self, needs: &[&str]) -> Task {
        let new = NewTask {
            id: Uuid::now_v7(),
            owner: None,
            kind: "console".into(),
            request: json!({}),
            input: json!({}),
            webhook_url: None,
            cost: 1.0,
            polled: false,
            needs: needs.iter().map(ToString::to_string).collect(),
        };
        match self.store.queue.submit(new, None).await.unwrap() {
            Submitted::Created(task) => task,
            other => panic!("not accepted: {other:?}"),
        }
    }
}
