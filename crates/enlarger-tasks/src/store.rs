//! The contract of a store, one trait for each of its users. Callers hold the traits that they need and never know
//! which database is behind them.
//!
//! In every trait each method is one transaction: when it returns `Ok` the change is on disk, when it returns `Err` nothing
//! changed. If a caller is dropped midway (a client disconnected), the change is either done or not done; so it is after
//! [`StoreError::Uncertain`]. Errors for which [`StoreError::is_transient`] holds are worth retrying.
//!
//! Times are the store's: those that a caller hands in are durations from now, since its clock may differ.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{
    error::StoreError,
    state::TaskState,
    task::{About, ApiKey, Delivery, Lease, NewApiKey, NewObject, NewTask, Node, Object, Service, Task, TaskError},
};

/// The limits of a store. Every process that opens the same database should use the same ones.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreConfig {
    /// Maximum number of waiting tasks in total.
    pub queue_limit: u64,
    /// How many tasks of one owner may wait.
    pub owner_queue_limit: u64,
    /// After how many broken attempts of a run the task fails for good.
    pub max_failures: u32,
    /// How many seconds of waiting one second of estimated work is worth. Tasks are claimed by
    /// `due = queued_at + patience * min(cost, 1 hour)`, earliest first: a short task overtakes a long one, but only
    /// one that arrives less than `patience * (difference of cost)` after it, so nobody starves.
    pub patience: f64,
    /// How long an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// How long a reservation of an idempotency key lasts if its process never comes back.
    pub reservation_ttl: Duration,
    /// Whether workers run a task whose worker was lost before in a process of its own, and report the death of that process
    /// ([`Queue::fail`]). A lost lease is then not held against the task and never fails it. Otherwise every lost
    /// lease counts as a broken attempt.
    pub suspects_run_apart: bool,
    /// A task of a client that must poll ([`NewTask::polled`]) and has not polled for this long yields to all others:
    /// it is claimed after them, and gives way to them while it runs ([`Beat::GiveWay`]).
    pub poll_patience: Duration,
    /// How long the files of a finished task are kept; `None`: until they are deleted, or evicted for room.
    pub retention: Option<Duration>,
    /// How long the row of a finished task is kept after its files are gone.
    pub history: Duration,
    /// How long sent and given-up webhooks are remembered.
    pub outbox_history: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        StoreConfig {
            queue_limit: 10_000,
            owner_queue_limit: 10_000,
            max_failures: 3,
            suspects_run_apart: false,
            poll_patience: Duration::from_secs(25),
            patience: 4.0,
            idempotency_ttl: 24 * HOUR,
            reservation_ttl: Duration::from_secs(120),
            retention: Some(24 * HOUR),
            history: 30 * 24 * HOUR,
            outbox_history: 7 * 24 * HOUR,
        }
    }
}

/// Whose tasks a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All tasks: credentials are off, or the caller is the worker or an administrator.
    All,
    /// Only those of this owner. Others look as if they did not exist.
    Owner(String),
}

/// The idempotency key that came with a submission. It is scoped to the owner of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key the client chose.
    pub key: String,
    /// SHA-256 of whatever must be equal for a replay (endpoint and body).
    pub body_hash: [u8; 32],
    /// The token of [`Reserved::Yours`] when the key was reserved before.
    pub reservation: Option<Uuid>,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// A new task waits in the queue.
    Created(Task),
    /// The key was used before with the same body: this is the task it made, as it stands now.
    Replayed(Task),
    /// The key is reserved by a submission that has not ended.
    InFlight,
    /// The key was used before with another body.
    Mismatch,
    /// Too many tasks wait.
    QueueFull(QueueLimit),
}

/// The outcome of a reservation.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "made once per request, moved once")]
pub enum Reserved {
    /// Go on, and hand the token in with the submission, or give it back with [`Queue::unreserve`].
    Yours(Uuid),
    /// As in [`Submitted`].
    Replayed(Task),
    /// As in [`Submitted`].
    InFlight,
    /// As in [`Submitted`].
    Mismatch,
}

/// Which limit of the queue is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimit {
    /// Whether it is the owner's own limit, not everybody's.
    pub of_owner: bool,
    /// The limit.
    pub limit: u64,
    /// When to try again: the mean estimated work of a waiting task, 1 s to 1 h.
    pub retry_after: Duration,
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only these kinds; empty for all.
    pub kinds: Vec<String>,
    /// Only these states; empty for all.
    pub states: Vec<TaskState>,
    /// Page number, starting at 1.
    pub page: u64,
    /// 1..=1000.
    pub per_page: u64,
}

impl Default for ListQuery {
    fn default() -> Self {
        ListQuery { kinds: Vec::new(), states: Vec::new(), page: 1, per_page: 20 }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The tasks of this page, newest first.
    pub tasks: Vec<Task>,
    /// Total number on all pages.
    pub total: u64,
}

/// What a worker says with its heartbeat. `None` leaves what was said before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// How far it is.
    pub progress: Option<Value>,
    /// What it is going to do.
    pub plan: Option<Value>,
}

/// What a worker hears back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Alive,
    /// Continue, or better return the task with [`Queue::release`]: nobody polls it any more, and another task is
    /// waiting that no worker takes.
    GiveWay,
    /// A user cancelled the task: stop, delete what was published.
    Cancelled,
    /// Another worker has the task, or it is gone: stop, delete what was published under this attempt.
    Lost,
}

/// What to do after an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The input is at fault: fail for good.
    Never,
    /// Try again after this long, unless this was the last attempt allowed.
    After(Duration),
}

/// The outcome of a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancelled {
    /// The task is CANCELLED; a worker that was busy with it learns so with its next heartbeat.
    Done(Task),
    /// It was terminal before.
    AlreadyDone(Task),
    /// No such task, for this scope.
    NotFound,
}

/// The outcome of a retry by a user.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    /// The task waits in the queue again, as its next run.
    Queued(Task),
    /// Only failed and cancelled tasks can be retried.
    NotRetryable(Task),
    /// Its input has been deleted.
    InputGone(Task),
    /// Too many tasks wait.
    QueueFull(QueueLimit),
    /// No such task, for this scope.
    NotFound,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "made once per request, moved once")]
pub enum Deleted {
    /// It is out of sight, and its files are due for [`Queue::take_expired`] now.
    Done,
    /// It is waiting or in progress: cancel it first.
    StillActive(Task),
    /// No such task, for this scope.
    NotFound,
}

/// Where a waiting task stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueuePlace {
    /// How many waiting tasks are ahead of it now, if owners take turns (shorter ones may yet overtake).
    pub ahead: u64,
    /// Their estimated work, in seconds.
    pub cost_ahead: f64,
}

/// How many of what there are, for metrics and readiness.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Tasks waiting.
    pub created: u64,
    /// Tasks held by a worker.
    pub in_progress: u64,
    /// Tasks in the history, by how they ended; those that their users deleted are not.
    pub completed: u64,
    /// See `completed`.
    pub failed: u64,
    /// See `completed`.
    pub cancelled: u64,
    /// Estimated work of the waiting tasks, in seconds.
    pub queued_cost: f64,
    /// How long the oldest of the waiting tasks has existed; zero if none waits.
    pub oldest: Duration,
    /// Webhooks not delivered yet.
    pub outbox_pending: u64,
}

/// How many rows [`Upkeep::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Tasks whose history has run out.
    pub tasks: u64,
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Webhooks sent or given up long ago.
    pub outbox: u64,
}

/// A task changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub task: Uuid,
    /// Its state now. The same state again means new progress.
    pub state: TaskState,
}

/// One store, as each of its users sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// Tasks.
    pub queue: Arc<dyn Queue>,
    /// Webhooks to send.
    pub outbox: Arc<dyn Outbox>,
    /// Uploaded objects.
    pub objects: Arc<dyn Objects>,
    /// API keys.
    pub api_keys: Arc<dyn ApiKeys>,
    /// The processes that share it.
    pub nodes: Arc<dyn Nodes>,
    /// The store itself.
    pub upkeep: Arc<dyn Upkeep>,
}

impl Store {
    /// A store that is all of these things.
    pub fn new<S: Queue + Outbox + Objects + ApiKeys + Nodes + Upkeep + 'static>(store: Arc<S>) -> Self {
        Store {
            queue: store.clone(),
            outbox: store.clone(),
            objects: store.clone(),
            api_keys: store.clone(),
            nodes: store.clone(),
            upkeep: store,
        }
    }
}

/// A durable task queue: what the API, the workers and the sweeper do to tasks.
#[async_trait]
pub trait Queue: std::fmt::Debug + Send + Sync {
    // ---- what the API calls ----

    /// Reserves an idempotency key before costly work (storing an input), so that duplicates of the request see
    /// immediately that the first is in flight. Optional: [`Queue::submit`] alone already makes one task per key.
    async fn reserve(&self, owner: Option<&str>, key: &Idempotency) -> Result<Reserved, StoreError>;

    /// Cancels a reservation because the submission was refused. Unknown tokens are ignored.
    async fn unreserve(&self, token: Uuid) -> Result<(), StoreError>;

    /// Puts a task into the queue. Files it needs must be stored before; on anything but [`Submitted::Created`] and
    /// [`StoreError::Uncertain`] the caller deletes them again. May be repeated with the same id by a caller that got no
    /// answer.
    async fn submit(&self, task: NewTask, idempotency: Option<Idempotency>) -> Result<Submitted, StoreError>;

    /// The task, or `None` when there is none for this scope.
    async fn get(&self, id: Uuid, scope: &Scope) -> Result<Option<Task>, StoreError>;

    /// The tasks of this scope, newest first. Any page takes as long as the first, however many tasks there are.
    async fn list(&self, query: &ListQuery, scope: &Scope) -> Result<Page, StoreError>;

    /// The clients of these tasks polled so long ago. Call it every few seconds with all polls since, not for every
    /// poll. Has no effect on tasks that are done or whose clients need not poll.
    async fn polled(&self, polls: &[(Uuid, Duration)]) -> Result<(), StoreError>;

    /// The position of a waiting task; `None` if it is not waiting.
    async fn queue_place(&self, id: Uuid) -> Result<Option<QueuePlace>, StoreError>;

    /// Cancels a task that is not terminal. It is CANCELLED when this returns, also if a worker is busy with it.
    async fn cancel(&self, id: Uuid, scope: &Scope) -> Result<Cancelled, StoreError>;

    /// Puts a failed or cancelled task into the queue again, as a new run with all its attempts.
    async fn retry(&self, id: Uuid, scope: &Scope) -> Result<Retried, StoreError>;

    /// Hides a terminal task for good and makes its files due for deletion.
    async fn delete(&self, id: Uuid, scope: &Scope) -> Result<Deleted, StoreError>;

    /// Receives every change made through this store object. Of changes by other processes it hears at best: callers poll at
    /// least every second or two, and also after `RecvError::Lagged`.
    fn changes(&self) -> broadcast::Receiver<Change>;

    // ---- what the worker calls ----

    /// As [`Queue::claim_able`], for a worker that can run anything.
    async fn claim(&self, worker: &str, lease: Duration) -> Result<Option<Task>, StoreError> {
        self.claim_able(worker, lease, None).await
    }

    /// Takes a task of which `can` has all that it needs, and leases it to `worker` for `lease`; `None` if none waits. Tasks
    /// that are still polled go before others, owners take turns, and of an owner's tasks the one that is due first is taken. Expired
    /// leases are recovered on the way, so a single worker that keeps claiming is enough to pick up orphans. `worker` must be
    /// unique per process start (host, pid, random).
    async fn claim_able(
        &self,
        worker: &str,
        lease: Duration,
        can: Option<&BTreeSet<String>>,
    ) -> Result<Option<Task>, StoreError>;

    /// Extends the lease to `lease` from now and stores the worker's report. Call it every third of the lease, and
    /// often enough (once a second) for live progress and prompt cancellation.
    async fn heartbeat(&self, held: &Lease, lease: Duration, report: Report) -> Result<Beat, StoreError>;

    /// Ends the task as COMPLETED. The files named in `result` must be durable under names that only this attempt uses.
    /// May be repeated with the same result, by a worker that got no answer.
    async fn complete(&self, held: &Lease, result: Value) -> Result<Task, StoreError>;

    /// Ends the attempt with an error. The task comes back FAILED, or CREATED when it is to be tried again.
    async fn fail(&self, held: &Lease, error: TaskError, retry: Retry) -> Result<Task, StoreError>;

    /// Returns the task untouched (shutdown): it keeps its place in the queue and uses up no attempt.
    async fn release(&self, held: &Lease) -> Result<Task, StoreError>;

    /// Puts tasks whose lease ran out back into the queue, or fails them after [`StoreConfig::max_failures`]. Returns how
    /// many there were.
    async fn recover_expired_leases(&self) -> Result<u64, StoreError>;

    // ---- what the sweeper calls ----

    /// Up to `limit` terminal tasks whose files are to be deleted now. They are marked first, so that no URL is issued
    /// for a file about to be deleted; a task stays on this list until [`Queue::files_deleted`] is called for it.
    async fn take_expired(&self, limit: u32) -> Result<Vec<Task>, StoreError>;

    /// The files of a task are gone (they are also gone if they were never there).
    async fn files_deleted(&self, id: Uuid) -> Result<(), StoreError>;

    /// Takes up to `limit` finished tasks whose files are to be deleted to make room: the longest finished first, but never
    /// those in `spare` and never the one that finished last. From then on as in [`Queue::take_expired`].
    async fn evict_oldest(&self, limit: u32, spare: &[Uuid]) -> Result<Vec<Task>, StoreError>;

    /// Applies [`StoreConfig::retention`] to what finished while it was another: files that had an expiry lose it, or those
    /// that had none get one counted from now. Called once, by the process that sweeps.
    async fn adopt_retention(&self) -> Result<u64, StoreError>;
}

/// Webhooks to send. A row is written with the change of a task that it announces: see [`Queue`].
#[async_trait]
pub trait Outbox: std::fmt::Debug + Send + Sync {
    /// Takes up to `limit` deliveries that are due and leases them for `lease` (longer than the delivery may take). One of a task
    /// at a time, oldest first; one that failed is given up once there is a newer status. So a receiver never gets an
    /// older status after a newer one.
    async fn due(&self, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError>;

    /// It was delivered.
    async fn delivered(&self, event: Uuid, attempt: u32) -> Result<(), StoreError>;

    /// It was not delivered: try again after `pause`.
    async fn failed(&self, event: Uuid, attempt: u32, pause: Duration, why: &str) -> Result<(), StoreError>;

    /// It was not delivered and never will be.
    async fn give_up(&self, event: Uuid, attempt: u32, why: &str) -> Result<(), StoreError>;
}

/// Uploaded objects. Their bytes live elsewhere.
#[async_trait]
pub trait Objects: std::fmt::Debug + Send + Sync {
    /// Makes an upload slot.
    async fn create(&self, object: NewObject) -> Result<Object, StoreError>;

    /// The bytes are stored. May be repeated (a client that uploads again); `None` when the object has expired.
    async fn finish(&self, id: Uuid, size: u64, content_type: Option<&str>) -> Result<Option<Object>, StoreError>;

    /// The objects of this scope that have not expired, newest first, pending ones too. `page` counts from 1.
    async fn list(&self, page: u64, per_page: u64, scope: &Scope) -> Result<Vec<Object>, StoreError>;

    /// Up to `limit` expired objects whose bytes are to be deleted now. An object stays on this list until [`Objects::deleted`] is called for it.
    async fn take_expired(&self, limit: u32) -> Result<Vec<Object>, StoreError>;

    /// The bytes are gone: forgets the object.
    async fn deleted(&self, id: Uuid) -> Result<(), StoreError>;
}

/// API keys. Only hashes are stored.
#[async_trait]
pub trait ApiKeys: std::fmt::Debug + Send + Sync {
    /// Stores a key; `None` when the prefix is taken.
    async fn create(&self, key: NewApiKey) -> Result<Option<ApiKey>, StoreError>;

    /// All keys, oldest first, including revoked ones.
    async fn list(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// The key with this prefix, revoked or not.
    async fn find(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError>;

    /// Notes that a key was used now. Call it at most once a minute per key.
    async fn used(&self, id: Uuid) -> Result<(), StoreError>;

    /// Revokes a key; `None` when there is none with this prefix. Revoking twice keeps the first date.
    async fn revoke(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError>;
}

/// The processes of a service, which share a database and a storage.
#[async_trait]
pub trait Nodes: std::fmt::Debug + Send + Sync {
    /// Which database this is.
    async fn service(&self) -> Result<Service, StoreError>;

    /// Notes that the database is used with this storage, unless it was used with another before.
    async fn use_storage(&self, storage: Uuid, place: &str) -> Result<Service, StoreError>;

    /// Says that a process is alive. Call it well before [`NODE_LIFE`] has passed since the last time.
    async fn beat(&self, id: Uuid, about: &About) -> Result<Node, StoreError>;

    /// A process ends.
    async fn leave(&self, id: Uuid) -> Result<(), StoreError>;

    /// All processes that are alive, the longest running first.
    async fn nodes(&self) -> Result<Vec<Node>, StoreError>;

    /// Tells a process to claim no more tasks, or to go on; `None` if there is none with this id.
    async fn drain(&self, id: Uuid, draining: bool) -> Result<Option<Node>, StoreError>;
}

/// A process that was not heard of for so long is taken for dead.
pub const NODE_LIFE: Duration = Duration::from_secs(20);

/// The store itself: health, metrics and pruning.
#[async_trait]
pub trait Upkeep: std::fmt::Debug + Send + Sync {
    /// How many of what there are. Takes as long however many tasks have ended.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Checks that the database can be written now (disk full, locked, gone: [`StoreError::Unavailable`]).
    async fn ping(&self) -> Result<(), StoreError>;

    /// Deletes expired rows, some hundreds of each kind per call; call it every minute.
    async fn prune(&self) -> Result<Pruned, StoreError>;

    /// Deletes up to `limit` tasks that ended at least so long ago, as [`Queue::delete`] does. Returns how many there were.
    async fn forget(&self, ended: Duration, limit: u32) -> Result<u64, StoreError>;
}
