//! The store that needs nothing installed: one SQLite file in WAL mode, readable by several processes at once and written
//! by one at a time. Reads go to a pool of read-only connections and never wait for a write.

mod writer;

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _,
    migrate::MigrateError,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use tokio::sync::broadcast;
use url::Url;

use self::writer::Writer;
use crate::{
    clock::Clock,
    error::StoreError,
    sql::{
        CHANGES, Context, Engine, Operation, SqlStore, Tx, cannot_migrate, migrator,
        query::{Connection, Dialect, Lock, Query, Value},
        row::Row,
    },
    store::{Change, Store, StoreConfig},
};

/// Every schema ever released, in order. Never edit one; append.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
    (2, "kept and polled", include_str!("../../migrations/sqlite/0002_kept_and_polled.sql")),
    (3, "many machines", include_str!("../../migrations/sqlite/0003_many_machines.sql")),
];

/// How long a statement waits for another process that holds the write lock before it is [`StoreError::Unavailable`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads are short; four at once keep both a scrape of the metrics and a burst of polls from waiting for one another.
const READERS: u32 = 4;

/// The planner has no statistics here, so hot statements name their index: they fail in every test rather than fall back to a
/// scan of the history. A write has the whole database to itself, so it needs no locks.
const DIALECT: Dialect = Dialect {
    clock: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now",
    by_queue: " INDEXED BY tasks_queue",
    by_queue_owner: " INDEXED BY tasks_queue_owner",
    by_leases: " INDEXED BY tasks_leases",
    by_kept: " INDEXED BY tasks_kept",
    by_turns: " INDEXED BY tasks_turns",
    at_once: "0",
    tidy_tally: "DELETE FROM tally WHERE n = 0",
    for_update: "",
    skip_locked: "",
};

/// One SQLite file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    readers: SqlitePool,
    writer: Writer,
    changes: broadcast::Sender<Change>,
    context: Arc<Context>,
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

/// Opens the database that such a URL names, creating or upgrading it as needed. To be called inside a Tokio runtime; the
/// directory must exist and be on a local disk (SQLite's locks do not work on network file systems).
pub(crate) async fn open(url: &Url, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
    // The same as the URL of a file, so that any path can be written.
    let file = Url::parse(&format!("file{}", &url.as_str()[SCHEME.len()..])).ok();
    let plain = !url.cannot_be_a_base() && url.query().is_none() && url.fragment().is_none();
    let path = file.filter(|_| plain).and_then(|file| file.to_file_path().ok());
    let path = path.ok_or_else(|| StoreError::Open {
        why: format!("{url} does not name a file"),
        hint: "use three slashes and an absolute path, such as sqlite:///var/lib/enlarger/tasks.sqlite".to_owned(),
    })?;
    let engine = Sqlite::open(&path, Context { config, clock }).await?;
    Ok(Store::new(Arc::new(SqlStore::new(engine))))
}

impl Sqlite {
    async fn open(path: &Path, context: Context) -> Result<Self, StoreError> {
        #[cfg(target_os = "linux")]
        if let Some(kind) = path.parent().and_then(network_file_system) {
            tracing::warn!(
                "{} is on a network file system ({kind}), where SQLite may lose jobs; use a local disk, or PostgreSQL",
                path.display()
            );
        }
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
        migrate(&mut conn).await.map_err(|error| {
            let hint = "check that the file is writable and a database of enlarger, and that the disk is not full";
            cannot_migrate(&path.display().to_string(), &error, hint)
        })?;
        conn.close().await.map_err(|error| cannot_open(path, &error))?;
        let conn = connect(&options).await.map_err(|error| cannot_open(path, &error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(|error| cannot_open(path, &error))?;
        let (changes, _) = broadcast::channel(CHANGES);
        let context = Arc::new(context);
        let writer = Writer::start(conn, options, changes.clone(), context.clone());
        Ok(Sqlite { readers, writer, changes, context })
    }

    fn tx<'c>(&self, conn: &'c mut SqliteConnection) -> Tx<'c> {
        Tx::new(conn, self.context.clone(), Some(self.context.now()))
    }
}

impl Engine for Sqlite {
    async fn read<A, T>(&self, with: A, read: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut conn = self.readers.acquire().await.map_err(|error| failed(&error))?;
        read(&mut self.tx(&mut conn), with).await
    }

    async fn snapshot<A, T>(&self, with: A, read: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut conn = self.readers.begin().await.map_err(|error| failed(&error))?;
        read(&mut self.tx(&mut conn), with).await
    }

    async fn write<A, T>(&self, with: A, write: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        self.writer.write(with, write).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[async_trait]
impl Connection for SqliteConnection {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    async fn execute(&mut self, query: Query) -> Result<u64, StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(query.sql), arguments(query.values)?);
        Ok(query.execute(self).await.map_err(|error| failed(&error))?.rows_affected())
    }

    async fn fetch(&mut self, query: Query) -> Result<Vec<Row>, StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(query.sql), arguments(query.values)?);
        let rows = query.fetch_all(self).await.map_err(|error| failed(&error))?;
        Ok(rows.into_iter().map(Row::Sqlite).collect())
    }

    /// The only one that writes has locked everything.
    async fn lock(&mut self, _: Lock<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}

fn arguments(values: Vec<Value>) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Integer(number) => arguments.add(number),
            Value::Real(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(|error| StoreError::Database(error.to_string()))?;
    }
    Ok(arguments)
}

/// Upgrades the schema while holding the write lock, so that processes starting together do not race.
async fn migrate(conn: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrator(&MIGRATIONS).run_direct(None, &mut *tx, false).await?;
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

/// The network file system that a folder is on.
#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    // linux/magic.h; CIFS and SMB2 as in fs/smb/client/cifsfs.c.
    match rustix::fs::statfs(folder).ok()?.f_type as u64 & 0xFFFF_FFFF {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x5346_414F => Some("AFS"),
        0x00C3_6400 => Some("Ceph"),
        0x0102_1997 => Some("9P"),
        _ => None,
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

fn failed(error: &sqlx::Error) -> StoreError {
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
