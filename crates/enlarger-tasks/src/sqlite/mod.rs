//! The store that needs nothing installed: one SQLite file in WAL mode, readable by several processes at once and written
//! by one at a time. Reads go to a pool of read-only connections and never wait for a write.

mod keys;
mod objects;
mod outbox;
mod queue;
mod row;
mod tasks;
mod upkeep;
mod writer;

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{
    ConnectOptions as _, Connection as _, SqlSafeStr as _,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::sync::broadcast;
use url::Url;

use self::writer::{BoxFuture, Tx, Writer};
use crate::{
    clock::Clock,
    error::StoreError,
    store::{Change, StoreConfig},
};

/// Every schema ever released, in order. Never edit one; append.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
    (2, "kept and polled", include_str!("../../migrations/sqlite/0002_kept_and_polled.sql")),
];

/// How long a statement waits for another process that holds the write lock before it is [`StoreError::Unavailable`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads are short; four at once keep both a scrape of the metrics and a burst of polls from waiting for one another.
const READERS: u32 = 4;
/// How many rows one transaction recovers or prunes at most, so that a long neglected database does not hold the write lock
/// for long.
const CHUNK: u32 = 500;
/// How many changes a slow listener may lag behind before it has to look for itself.
const CHANGES: usize = 1024;

/// A store in one SQLite file. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore {
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

/// The scheme of the URLs that name SQLite databases.
pub const SCHEME: &str = "sqlite";

/// The URL of the database at `path`, for [`open_store`](crate::open_store).
///
/// # Errors
/// If `path` is relative and the working directory is unknown, or not a path that a URL can hold (on Windows).
pub fn url_of(path: &Path) -> io::Result<String> {
    let file = Url::from_file_path(std::path::absolute(path)?);
    let file = file.map_err(|()| io::Error::new(io::ErrorKind::InvalidInput, "the path cannot be written as a URL"))?;
    Ok(format!("{SCHEME}{}", &file.as_str()["file".len()..]))
}

/// Opens the database that such a URL names.
pub(crate) async fn open(
    url: &Url,
    config: StoreConfig,
    clock: Arc<dyn Clock>,
) -> Result<Arc<SqliteStore>, StoreError> {
    // The same as the URL of a file, so that any path can be written.
    let file = Url::parse(&format!("file{}", &url.as_str()[SCHEME.len()..])).ok();
    let plain = !url.cannot_be_a_base() && url.query().is_none() && url.fragment().is_none();
    let path = file.filter(|_| plain).and_then(|file| file.to_file_path().ok());
    let path = path.ok_or_else(|| StoreError::Open {
        why: format!("{url} does not name a file"),
        hint: "use three slashes and an absolute path, such as sqlite:///var/lib/enlarger/tasks.sqlite".to_owned(),
    })?;
    SqliteStore::open(&path, config, clock).await.map(Arc::new)
}

impl SqliteStore {
    /// Opens the database at `path`, creating or upgrading it as needed. To be called inside a Tokio runtime; the directory
    /// must exist and be on a local disk (SQLite's locks do not work on network file systems).
    pub(crate) async fn open(path: &Path, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
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
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations(MIGRATIONS.map(migration).into());
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrator.run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(())
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
        hint: "the folder must exist, be writable and be on a local disk, and the file must be a database of enlarger"
            .to_owned(),
    }
}

fn cannot_migrate(path: &Path, error: &MigrateError) -> StoreError {
    let hint = match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            "this database was written by a newer version; use that version, or another data folder"
        }
        MigrateError::VersionMismatch(_) => "this database was not created by a released version",
        _ => "check that the file is writable and a database of enlarger, and that the disk is not full",
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
