//! The store on an SQL database: rows, statements and transactions that all our databases share. What each has of its own
//! (connections, commits, errors, clauses) is an [`Engine`].

mod keys;
mod list;
mod nodes;
mod objects;
mod outbox;
pub(crate) mod query;
mod queue;
pub(crate) mod row;
mod tasks;
mod upkeep;

use std::{fmt::Debug, future::Future, pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::{
    SqlSafeStr as _,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use tokio::sync::broadcast;

use self::query::{Connection, query};
use crate::{
    clock::Clock,
    error::StoreError,
    store::{Change, StoreConfig},
};

/// How many rows one transaction recovers or prunes at most, so that a long neglected database is not locked for long.
const CHUNK: u32 = 500;
/// How many changes a slow listener may lag behind before it has to look for itself.
pub(crate) const CHANGES: usize = 1024;

/// A store on the database behind an engine.
#[derive(Debug)]
pub(crate) struct SqlStore<E> {
    engine: E,
}

impl<E: Engine> SqlStore<E> {
    pub fn new(engine: E) -> Self {
        SqlStore { engine }
    }
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What to do in one transaction, or to read. An engine may have to do it again from the start, so the arguments are cloned.
pub(crate) type Operation<A, T> = for<'t, 'c> fn(&'t mut Tx<'c>, A) -> BoxFuture<'t, Result<T, StoreError>>;

/// A database that operations run on.
pub(crate) trait Engine: Debug + Send + Sync + 'static {
    /// Runs one statement that only reads.
    fn read<A, T>(&self, with: A, read: Operation<A, T>) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        A: Clone + Send + 'static,
        T: Send + 'static;

    /// Runs statements that only read, all of the same moment.
    fn snapshot<A, T>(&self, with: A, read: Operation<A, T>) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        A: Clone + Send + 'static,
        T: Send + 'static;

    /// Runs `write` in a transaction and returns when it is on disk. An error rolls it back.
    fn write<A, T>(&self, with: A, write: Operation<A, T>) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        A: Clone + Send + 'static,
        T: Send + 'static;

    /// Every change from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// The limits and the clock of a store.
#[derive(Debug)]
pub(crate) struct Context {
    pub config: StoreConfig,
    pub clock: Arc<dyn Clock>,
}

impl Context {
    /// Now, as it will read back from the database.
    pub fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// One transaction, or one read.
pub(crate) struct Tx<'c> {
    pub conn: &'c mut dyn Connection,
    pub context: Arc<Context>,
    /// The changes to announce once it is on disk.
    pub changes: Vec<Change>,
    now: Option<Timestamp>,
}

impl<'c> Tx<'c> {
    /// `now` is `None` if the database has to be asked for the time.
    pub fn new(conn: &'c mut dyn Connection, context: Arc<Context>, now: Option<Timestamp>) -> Self {
        Tx { conn, context, changes: Vec::new(), now }
    }

    /// The present time, the same throughout.
    async fn now(&mut self) -> Result<Timestamp, StoreError> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let row = query(self.conn.dialect().clock).fetch_one(self.conn).await?;
        Ok(*self.now.insert(row.time("now")?))
    }

    fn config(&self) -> &StoreConfig {
        &self.context.config
    }
}

/// Migrations as they are applied, of `(version, name, statements)`.
pub(crate) fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(migrations.iter().map(migration).collect())
}

/// Why a database at `place` cannot be upgraded; `otherwise` is the hint if it is not its version.
pub(crate) fn cannot_migrate(place: &str, error: &MigrateError, otherwise: &str) -> StoreError {
    let hint = match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            "this database was written by a newer version; use that version, or another database"
        }
        MigrateError::VersionMismatch(_) => "this database was not created by a released version",
        _ => otherwise,
    };
    StoreError::Open { why: format!("{place}: {error}"), hint: hint.to_owned() }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
