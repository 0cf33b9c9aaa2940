//! The rows: tasks, webhook deliveries, uploaded objects and API keys.

use std::collections::BTreeSet;

use enlarger_error::Explained;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::state::TaskState;

/// A task to create.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Chosen by the caller (`Uuid::now_v7()`), so that files can be stored under it before the task exists.
    pub id: Uuid,
    /// The API key the task belongs to; `None` when credentials are off.
    pub owner: Option<String>,
    /// Which dialect and endpoint it came by, e.g. `creative`; lists filter on it.
    pub kind: String,
    /// The request, opaque to the store.
    pub request: Value,
    /// Where the input is (an upload, a stored blob, an address), opaque to the store.
    pub input: Value,
    /// Where status changes are sent; `None` writes no outbox rows.
    pub webhook_url: Option<String>,
    /// Estimated work in seconds on this machine, >= 0. Ranks the queue; see [`crate::StoreConfig::patience`].
    pub cost: f64,
    /// Whether its client only learns of the end by polling. Such a task yields to others once nobody polls it any
    /// more; see [`crate::StoreConfig::poll_patience`].
    pub polled: bool,
    /// What a worker must have to run it, opaque to the store and without line breaks: it is claimed only by those that
    /// have all of it ([`crate::Queue::claim_able`]).
    pub needs: BTreeSet<String>,
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name on the wire.
    pub id: Uuid,
    /// The API key it belongs to; `None` when credentials were off.
    pub owner: Option<String>,
    /// Which dialect and endpoint it came by.
    pub kind: String,
    /// The request, as submitted.
    pub request: Value,
    /// Where the input is, as submitted.
    pub input: Value,
    /// Where status changes are sent.
    pub webhook_url: Option<String>,
    /// Estimated work in seconds.
    pub cost: f64,
    /// Where it stands.
    pub state: TaskState,
    /// How often a user asked for it: 1, then one more with every retry by the user. Webhooks go out once per run and status.
    pub run: u32,
    /// How often it was claimed, ever. Only grows; together with the worker it fences writes.
    pub attempt: u32,
    /// How many attempts of this run broke (crash, lost lease, error worth another try). Releases do not count.
    pub failures: u32,
    /// Who holds the lease, while in progress.
    pub worker: Option<String>,
    /// Until when, while in progress.
    pub lease_until: Option<Timestamp>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When the present attempt (or the last one) was claimed.
    pub started_at: Option<Timestamp>,
    /// When it came to its end: set exactly when the state is terminal.
    pub finished_at: Option<Timestamp>,
    /// When its files will be deleted, once it is terminal; then `None` if they are kept until a user deletes them or
    /// space is needed ([`crate::Queue::evict_oldest`]).
    pub expires_at: Option<Timestamp>,
    /// When its client last polled; `None` if the client need not poll.
    pub polled_at: Option<Timestamp>,
    /// What a worker must have to run it.
    pub needs: BTreeSet<String>,
    /// Whether its files still exist. Issue URLs only while [`Files::Present`].
    pub files: Files,
    /// The last progress a worker reported; gone when the attempt ends without a result.
    pub progress: Option<Value>,
    /// The plan the worker made.
    pub plan: Option<Value>,
    /// The result (files, sizes, timings): set exactly when COMPLETED.
    pub result: Option<Value>,
    /// Why it failed or was cancelled; while queued, why the last attempt failed.
    pub error: Option<TaskError>,
}

/// Whether the files of a task still exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// They do (once the task has any).
    Present,
    /// The sweeper is deleting them.
    Deleting,
    /// They are gone.
    Gone,
}

/// Why a task failed, to be shown to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// Stable, for programs: `cancelled`, `worker_died`, or one of the caller's own.
    pub code: String,
    /// One clear sentence: what and why.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where `code` names a family of errors, which of them it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl TaskError {
    /// The code of a task that a user cancelled.
    pub const CANCELLED: &'static str = "cancelled";
    /// The code of a task whose workers kept dying.
    pub const WORKER_DIED: &'static str = "worker_died";

    /// The failure of a task whose workers died `times` times while running it.
    pub fn worker_died(times: u32) -> Self {
        let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        TaskError::new(TaskError::WORKER_DIED, format!("the worker stopped {times} while working on this task"))
            .with_hint("the image may need more memory than the server has; try a smaller image or scale factor")
    }

    /// All that an error says of itself.
    pub fn of(error: &dyn Explained) -> Self {
        let cause = Some(error.exact_code()).filter(|exact| *exact != error.code()).map(str::to_owned);
        let hint = error.hint().map(Into::into);
        TaskError { code: error.code().to_owned(), message: error.to_string(), hint, cause }
    }

    /// An error without a hint.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        TaskError { code: code.into(), message: message.into(), hint: None, cause: None }
    }

    /// The same error with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The right to work on a task: the fence that every write of a worker carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub task: Uuid,
    /// Which attempt at it.
    pub attempt: u32,
    /// By whom.
    pub worker: String,
}

impl Task {
    /// The lease of the worker that holds the task now, if any.
    pub fn lease(&self) -> Option<Lease> {
        let worker = self.worker.clone()?;
        Some(Lease { task: self.id, attempt: self.attempt, worker })
    }
}

/// One webhook to send: an outbox row, claimed for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The event, stable across retries: the `webhook-id`.
    pub event: Uuid,
    /// The task it speaks of.
    pub task: Uuid,
    /// The status it announces: IN_PROGRESS, COMPLETED, FAILED or CANCELLED. The body says this even when the task
    /// has moved on since.
    pub status: TaskState,
    /// Where to.
    pub url: String,
    /// Which try this is: 1 for the first. It fences the answer.
    pub attempt: u32,
    /// When the status changed.
    pub created_at: Timestamp,
    /// When it was taken to be sent, by the clock of the store: receivers refuse a time that is minutes off, as a machine's
    /// own may be.
    pub taken_at: Timestamp,
}

/// An upload slot to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Chosen by the caller; an unguessable one when it appears in a URL.
    pub id: Uuid,
    /// The API key it belongs to; `None` when credentials are off.
    pub owner: Option<String>,
    /// The name the client gave it.
    pub file_name: String,
    /// What the client says it is.
    pub content_type: Option<String>,
    /// When it is to be deleted.
    pub expires_at: Timestamp,
}

/// An uploaded object. The bytes live elsewhere, under the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name on the wire.
    pub id: Uuid,
    /// The API key it belongs to.
    pub owner: Option<String>,
    /// The name the client gave it.
    pub file_name: String,
    /// What the client says it is.
    pub content_type: Option<String>,
    /// Bytes, once uploaded.
    pub size: Option<u64>,
    /// Where it stands.
    pub state: ObjectState,
    /// When the slot was made.
    pub created_at: Timestamp,
    /// When it is to be deleted.
    pub expires_at: Timestamp,
}

/// Where an uploaded object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    /// Announced, no bytes yet.
    Pending,
    /// The bytes are stored.
    Ready,
    /// Expired; the sweeper is deleting the bytes.
    Deleting,
}

/// An API key to store. The key itself never gets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// The name a person gave it.
    pub name: String,
    /// The public beginning of the key, by which it is found; unique.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
}

/// A stored API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Stable id, recorded as the owner of tasks.
    pub id: Uuid,
    /// The name a person gave it.
    pub name: String,
    /// The public beginning of the key.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used, to the precision the caller reports it.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked; a revoked key is not accepted.
    pub revoked_at: Option<Timestamp>,
}

/// A process of a service, as it describes itself. Readers ignore what they do not know, and do without what an earlier version
/// leaves out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The name of its machine.
    pub host: String,
    /// Its process id there.
    pub process: u32,
    /// Its version.
    pub version: String,
    /// What it does: `all`, `api` or `worker`.
    pub role: String,
    /// Whether it runs tasks.
    pub works: bool,
    /// What it has that tasks may need ([`NewTask::needs`]).
    pub can: BTreeSet<String>,
    /// Which secret signs its URLs: a fingerprint.
    pub signing: String,
    /// More about it, for people: opaque to the store.
    pub details: Value,
}

/// A process of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its own id, new at each start.
    pub id: Uuid,
    /// What it said of itself.
    pub about: About,
    /// Whether it was told to claim no more tasks.
    pub draining: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

impl Node {
    /// Whether it runs tasks, and has all that this one needs.
    pub fn can_run(&self, task: &Task) -> bool {
        self.about.works && task.needs.is_subset(&self.about.can)
    }
}

/// Which database this is, and the storage that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Random, as old as the database.
    pub database: Uuid,
    /// The storage that it was first used with: its random id, and where it is, for messages.
    pub storage: Option<(Uuid, String)>,
}
