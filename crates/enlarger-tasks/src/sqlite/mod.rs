//! The store that needs nothing installed: one SQLite file in WAL mode, readable by several processes at once and written
//! by one at a time. Reads go to a pool of read-only connections and never wait for a write.

mod keys;
mod objects;
mod outbox;
mod row;
mod tasks;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};
use tokio::sync::broadcast;
use uuid::Uuid;

use self::writer::{BoxFuture, Tx, Writer};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::{
    Beat, Cancelled, Change, Counts, Deleted, Idempotency, ListQuery, Page, Pruned, QueuePlace, Report, Reserved,
    Retried, Retry, Scope, StoreConfig, Submitted, TaskStore,
};
use crate::task::{ApiKey, Delivery, Lease, NewApiKey, NewObject, NewTask, Object, Task, TaskError};

/// Every schema ever released, in order. Never edit one; append.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
    (2, "kept and polled", include_str!("../../migrations/sqlite/0002_kept_and_polled.sql")),
];

/// How long a statement waits for another process that holds the write lock before it is [`StoreError::Unavailable`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads are short; four at once keep both a scrape of the metrics and a burst of polls from waiting for one another.
const READERS: u32 = 4;
/// How many changes a slow listener may lag behind before it has to look for itself.
const CHANGES: usize = 1024;

/// A [`TaskStore`] in one SQLite file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: Writer,
    changes: broadcast::Sender<Change>,
    context: Arc<Context>,
}

/// What every operation needs to know.
#[derive(Debug)]
struct Context {
    config: StoreConfig,
    clock: Arc<dyn Clock>,
}

impl Context {
    /// Now, as it will read back from the database.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

impl SqliteStore {
    /// Opens the database at `path`, creating or upgrading it as needed. To be called inside a Tokio runtime; the directory
    /// must exist and be on a local disk (SQLite's locks do not work on network file systems).
    pub async fn open(path: &Path, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        // A table that is made anew must not take with it what refers to it.
        let mut conn =
            connect(&options.clone().foreign_keys(false)).await.map_err(|error| cannot_open(path, &error))?;
        migrate(&mut conn).await.map_err(|error| cannot_migrate(path, &error))?;
        conn.close().await.map_err(|error| cannot_open(path, &error))?;
        let conn = connect(&options).await.map_err(|error| cannot_open(path, &error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(|error| cannot_open(path, &error))?;
        let (changes, _) = broadcast::channel(CHANGES);
        let writer = Writer::start(conn, options, changes.clone());
        Ok(SqliteStore { readers, writer, changes, context: Arc::new(Context { config, clock }) })
    }

    async fn write<T, F>(&self, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t, 'c> FnOnce(&'t mut Tx<'c>, Arc<Context>) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let context = self.context.clone();
        self.writer.write(move |tx| write(tx, context)).await
    }
}

/// Upgrades the schema while holding the write lock, so that processes starting together do not race.
async fn migrate(conn: &mut SqliteConnection) -> Result<(), MigrateError> {
    let migrator = Migrator::new(Embedded).await?;
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrator.run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(())
}

#[derive(Debug)]
struct Embedded;

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, sqlx::error::BoxDynError>> {
        let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        Box::pin(async move { Ok(MIGRATIONS.into_iter().map(migration).collect()) })
    }
}

/// Connects, waiting while another process turns the same new file into a WAL database: SQLite answers "locked" at once
/// then, without the busy timeout (its documentation of `sqlite3_busy_handler` calls this the avoidance of a deadlock).
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    const PAUSE: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// SQLITE_BUSY with any of its extensions: the low byte is the primary code.
fn is_busy(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xFF == 5)
}

fn cannot_open(path: &Path, error: &sqlx::Error) -> StoreError {
    StoreError::Open {
        why: format!("{}: {error}", path.display()),
        hint: "the directory must exist, be writable and be on a local disk, and the file must be a database of this \
               program"
            .to_owned(),
    }
}

fn cannot_migrate(path: &Path, error: &MigrateError) -> StoreError {
    let hint = match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            "a newer version has written this database; use that version, or another data directory"
        }
        MigrateError::VersionMismatch(_) => "this database was not made by a released version",
        _ => "check that the file is writable and a database of this program, and that the disk is not full",
    };
    StoreError::Open { why: format!("{}: {error}", path.display()), hint: hint.to_owned() }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // Primary result codes of SQLite that come from the world around it: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL,
        // CANTOPEN, PROTOCOL (https://www.sqlite.org/rescode.html).
        const TRANSIENT: [i32; 8] = [5, 6, 7, 8, 10, 13, 14, 15];
        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
        let transient = match code {
            Some(code) => TRANSIENT.contains(&(code & 0xff)),
            None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed),
        };
        if transient { StoreError::Unavailable(error.to_string()) } else { StoreError::Database(error.to_string()) }
    }
}

#[async_trait]
impl TaskStore for SqliteStore {
    async fn reserve(&self, owner: Option<&str>, key: &Idempotency) -> Result<Reserved, StoreError> {
        let (owner, key) = (owner.map(str::to_owned), key.clone());
        self.write(move |tx, context| Box::pin(async move { tasks::reserve(tx, &context, owner, key).await })).await
    }

    async fn unreserve(&self, token: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { tasks::unreserve(tx, token).await })).await
    }

    async fn submit(&self, task: NewTask, idempotency: Option<Idempotency>) -> Result<Submitted, StoreError> {
        self.write(move |tx, context| Box::pin(async move { tasks::submit(tx, &context, task, idempotency).await }))
            .await
    }

    async fn get(&self, id: Uuid, scope: &Scope) -> Result<Option<Task>, StoreError> {
        let mut conn = self.readers.acquire().await?;
        Ok(tasks::visible(&mut conn, id, scope).await?.map(|record| record.task))
    }

    async fn list(&self, query: &ListQuery, scope: &Scope) -> Result<Page, StoreError> {
        // One read transaction, so that the total and the page speak of the same moment.
        let mut snapshot = self.readers.begin().await?;
        tasks::list(&mut snapshot, query, scope).await
    }

    async fn polled(&self, polls: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let polls = polls.to_vec();
        self.write(move |tx, _| Box::pin(async move { tasks::polled(tx, &polls).await })).await
    }

    async fn queue_place(&self, id: Uuid) -> Result<Option<QueuePlace>, StoreError> {
        tasks::queue_place(&mut *self.readers.acquire().await?, &self.context, id).await
    }

    async fn cancel(&self, id: Uuid, scope: &Scope) -> Result<Cancelled, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::cancel(tx, &context, id, &scope).await })).await
    }

    async fn retry(&self, id: Uuid, scope: &Scope) -> Result<Retried, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::retry(tx, &context, id, &scope).await })).await
    }

    async fn delete(&self, id: Uuid, scope: &Scope) -> Result<Deleted, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::delete(tx, &context, id, &scope).await })).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    async fn claim(&self, worker: &str, lease: Duration) -> Result<Option<Task>, StoreError> {
        // Idle workers look without taking the write lock.
        if !tasks::claimable(&mut *self.readers.acquire().await?, self.context.now()).await? {
            return Ok(None);
        }
        let worker = worker.to_owned();
        self.write(move |tx, context| Box::pin(async move { tasks::claim(tx, &context, &worker, lease).await })).await
    }

    async fn heartbeat(&self, held: &Lease, lease: Duration, report: Report) -> Result<Beat, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move { tasks::heartbeat(tx, &context, &held, lease, report).await })
        })
        .await
    }

    async fn complete(&self, held: &Lease, result: Value) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step =
                    |record: &_, now| crate::record::Record::complete(record, &held, result, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn fail(&self, held: &Lease, error: TaskError, retry: Retry) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step =
                    |record: &_, now| crate::record::Record::fail(record, &held, error, retry, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn release(&self, held: &Lease) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step = |record: &_, now| crate::record::Record::release(record, &held, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn recover_expired_leases(&self) -> Result<u64, StoreError> {
        self.write(|tx, context| Box::pin(async move { tasks::recover_expired_leases(tx, &context).await })).await
    }

    async fn outbox_due(&self, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
        if !outbox::any_due(&mut *self.readers.acquire().await?, self.context.now()).await? {
            return Ok(Vec::new());
        }
        self.write(move |tx, context| Box::pin(async move { outbox::take_due(tx, context.now(), limit, lease).await }))
            .await
    }

    async fn outbox_delivered(&self, event: Uuid, attempt: u32) -> Result<(), StoreError> {
        self.write(move |tx, context| {
            Box::pin(async move { outbox::end(tx, context.now(), event, attempt, "delivered", None).await })
        })
        .await
    }

    async fn outbox_failed(&self, event: Uuid, attempt: u32, next_at: Timestamp, why: &str) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx, _| Box::pin(async move { outbox::again(tx, event, attempt, next_at, &why).await })).await
    }

    async fn outbox_give_up(&self, event: Uuid, attempt: u32, why: &str) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx, context| {
            Box::pin(async move { outbox::end(tx, context.now(), event, attempt, "given_up", Some(&why)).await })
        })
        .await
    }

    async fn take_expired(&self, limit: u32) -> Result<Vec<Task>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { tasks::take_expired(tx, context.now(), limit).await }))
            .await
    }

    async fn files_deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { tasks::files_deleted(tx, id).await })).await
    }

    async fn evict_oldest(&self, limit: u32, spare: &[Uuid]) -> Result<Vec<Task>, StoreError> {
        let spare = spare.to_vec();
        self.write(move |tx, context| {
            Box::pin(async move { tasks::evict_oldest(tx, context.now(), limit, &spare).await })
        })
        .await
    }

    async fn adopt_retention(&self) -> Result<u64, StoreError> {
        self.write(|tx, context| Box::pin(async move { tasks::adopt_retention(tx, &context).await })).await
    }

    async fn prune(&self) -> Result<Pruned, StoreError> {
        self.write(|tx, context| Box::pin(async move { tasks::prune(tx, &context).await })).await
    }

    async fn object_create(&self, object: NewObject) -> Result<Object, StoreError> {
        self.write(move |tx, context| Box::pin(async move { objects::create(tx, context.now(), object).await })).await
    }

    async fn object_finish(
        &self,
        id: Uuid,
        size: u64,
        content_type: Option<&str>,
    ) -> Result<Option<Object>, StoreError> {
        let content_type = content_type.map(str::to_owned);
        self.write(move |tx, context| {
            Box::pin(async move { objects::finish(tx, context.now(), id, size, content_type).await })
        })
        .await
    }

    async fn object_get(&self, id: Uuid) -> Result<Option<Object>, StoreError> {
        let mut conn = self.readers.acquire().await?;
        objects::get(&mut conn, self.context.now(), id).await
    }

    async fn object_list(&self, page: u64, per_page: u64, scope: &Scope) -> Result<Vec<Object>, StoreError> {
        let mut conn = self.readers.acquire().await?;
        objects::list(&mut conn, self.context.now(), page, per_page, scope).await
    }

    async fn objects_take_expired(&self, limit: u32) -> Result<Vec<Object>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { objects::take_expired(tx, context.now(), limit).await }))
            .await
    }

    async fn object_deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { objects::deleted(tx, id).await })).await
    }

    async fn key_create(&self, key: NewApiKey) -> Result<Option<ApiKey>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { keys::create(tx, context.now(), key).await })).await
    }

    async fn key_list(&self) -> Result<Vec<ApiKey>, StoreError> {
        keys::list(&mut *self.readers.acquire().await?).await
    }

    async fn key_find(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        keys::find(&mut *self.readers.acquire().await?, prefix).await
    }

    async fn key_used(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, context| Box::pin(async move { keys::used(tx, context.now(), id).await })).await
    }

    async fn key_revoke(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        let prefix = prefix.to_owned();
        self.write(move |tx, context| Box::pin(async move { keys::revoke(tx, context.now(), &prefix).await })).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let mut snapshot = self.readers.begin().await?;
        tasks::counts(&mut snapshot).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.write(|tx, context| {
            Box::pin(async move {
                sqlx::query("INSERT OR REPLACE INTO pulse (one, at) VALUES (1, ?)")
                    .bind(context.now().as_millisecond())
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
