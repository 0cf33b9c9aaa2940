//! The durable task queue: what a task is, its states, and the store that keeps it.
//!
//! ```text
//!                 cancel
//!      ┌──────────────────────────────────────────────▶ CANCELLED ─┐
//!      │                              cancel ▲                     │
//!      │                 ┌───────────────────┘                     │
//!   CREATED ─ claim ▶ IN_PROGRESS ─── complete ───────▶ COMPLETED  │
//!    ▲ ▲                 │   │                                     │
//!    │ └─ release, broken┘   └─ fail, broken 3 times ─▶ FAILED ────┤
//!    └───────────────────────── retry ─────────────────────────────┘
//! ```
//!
//! ("Broken" is an error worth another try, or a lease that ran out because the worker died or froze.)
//!
//! * [`state`] is that diagram as a pure state machine; every store applies it and decides nothing itself.
//! * [`Queue`], [`Outbox`], [`Objects`], [`ApiKeys`], [`Nodes`] and [`Upkeep`] are the contract of a store, one for each of its users: task,
//!   idempotency key and outbox change in one transaction, and every write of a worker carries its [`Lease`] (task, attempt,
//!   worker). A worker that lost the lease gets [`StoreError::LeaseLost`] and must drop its work silently.
//! * [`open_store`] opens the store at a URL: [`sqlite`] needs no installation, [`postgres`] is for several machines, and
//!   `tests/conformance` is what each must pass.
//!
//! The crate knows nothing of HTTP or pixels: requests, plans, progress and results are opaque JSON.
//!
//! ```
//! use std::{collections::BTreeSet, sync::Arc, time::Duration};
//!
//! use enlarger_tasks::{NewTask, Scope, StoreConfig, Submitted, SystemClock, TaskState, open_store, sqlite};
//! use serde_json::json;
//! use uuid::Uuid;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let url = sqlite::url_of(&folder.path().join("tasks.sqlite"))?;
//! let store = open_store(&url, StoreConfig::default(), Arc::new(SystemClock)).await?;
//!
//! // A client submits.
//! let new = NewTask {
//!     id: Uuid::now_v7(),
//!     owner: None,
//!     kind: "console".into(),
//!     request: json!({ "factor": 2 }),
//!     input: json!("stored"),
//!     webhook_url: None,
//!     cost: 1.5,
//!     polled: false,
//!     needs: BTreeSet::new(),
//! };
//! let Submitted::Created(task) = store.queue.submit(new, None).await? else { panic!("the queue is not full") };
//!
//! // A worker claims the task, and says under its lease what became of it.
//! let claimed = store.queue.claim("worker-1", Duration::from_secs(30)).await?.expect("one task waits");
//! let lease = claimed.lease().expect("it was claimed");
//! store.queue.complete(&lease, json!({ "file": "result-1.png" })).await?;
//!
//! let done = store.queue.get(task.id, &Scope::All).await?.expect("it is still known");
//! assert_eq!(done.state, TaskState::Completed);
//! # Ok(())
//! # }
//! ```

pub mod clock;
mod error;
mod open;
pub mod postgres;
mod record;
mod sql;
pub mod sqlite;
pub mod state;
mod store;
mod task;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use open::open_store;
pub use state::TaskState;
pub use store::{
    ApiKeys, Beat, Cancelled, Change, Counts, Deleted, Idempotency, ListQuery, NODE_LIFE, Nodes, Objects, Outbox, Page,
    Pruned, Queue, QueueLimit, QueuePlace, Report, Reserved, Retried, Retry, Scope, Store, StoreConfig, Submitted,
    Upkeep,
};
pub use task::{
    About, ApiKey, Delivery, Files, Lease, NewApiKey, NewObject, NewTask, Node, Object, ObjectState, Service, Task,
    TaskError,
};
