//! The store for several machines: a PostgreSQL database. Transactions run at once, so rows are locked before they change.
//! Leases go by the clock of the database.

mod attempt;
mod failure;
mod listener;
mod url;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    migrate::MigrateError,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;

use self::{
    failure::{cannot_connect, cannot_upgrade, failed},
    listener::{Announcer, Listener},
};
use crate::{
    clock::Clock,
    error::StoreError,
    sql::{
        CHANGES, Context, SqlStore, migrator,
        query::{Connection, Dialect, Lock, Query, Value},
        row::Row,
    },
    store::{Change, Store, StoreConfig},
};

/// The schemes of the URLs that name PostgreSQL databases.
pub const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// Every schema ever released, in order. Never edit one; append.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "initial", include_str!("../../migrations/postgres/0001_initial.sql")),
    (2, "many machines", include_str!("../../migrations/postgres/0002_many_machines.sql")),
];

/// Statements are short, so a few connections keep a whole process busy; a server has 100 by default.
const CONNECTIONS: u32 = 8;
/// How long a call tries again, or waits for a connection, before it is [`StoreError::Unavailable`]. As in SQLite.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any statement takes.
const LONGEST: Duration = Duration::from_secs(10);
/// A process that is frozen while it holds locks loses them after this long: those who wait for them outlast it.
const FROZEN: Duration = Duration::from_secs(4);

/// The planner has statistics, so statements name no index.
const DIALECT: Dialect = Dialect {
    clock: "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
    by_queue: "",
    by_queue_owner: "",
    by_leases: "",
    by_kept: "",
    by_turns: "",
    at_once: "current_setting('max_connections')::bigint",
    tidy_tally: "SELECT tidy_tally()",
    for_update: " FOR UPDATE",
    skip_locked: " FOR UPDATE SKIP LOCKED",
};

/// The first of the two numbers of our advisory locks, which other programs in the same database should not use.
const LOCKS: i32 = i32::from_be_bytes(*b"enlr");

/// A PostgreSQL database.
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: PgPool,
    /// One for each connection; callers wait here, not in the pool, whose patience is for a server that is gone.
    turns: Semaphore,
    /// How many turns ended well.
    served: AtomicU64,
    /// Host, port and database, for messages.
    place: String,
    changes: broadcast::Sender<Change>,
    announcer: Announcer,
    context: Arc<Context>,
    _listener: Listener,
}

/// Opens the database that such a URL names, creating or upgrading its tables as needed. To be called inside a Tokio
/// runtime.
pub(crate) async fn open(url: &::url::Url, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
    let options = url::options(url)?;
    let place = url::place(&options);
    migrate(&options, &place).await?;
    let (changes, _) = broadcast::channel(CHANGES);
    // Names this store in the notifications that it sends.
    let origin = Uuid::new_v4();
    let listening = Listener::start(&options, origin, changes.clone()).await;
    let listener = listening.map_err(|error| cannot_connect(&place, &error))?;
    let limits =
        [("lock_timeout", PATIENCE), ("statement_timeout", LONGEST), ("idle_in_transaction_session_timeout", FROZEN)];
    let limits = limits.map(|(name, limit)| (name, format!("{}s", limit.as_secs())));
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        // A broken one is found out by its use, which is then tried again.
        .test_before_acquire(false)
        .connect_lazy_with(options.clone().options(limits));
    let context = Arc::new(Context { config, clock });
    let turns = Semaphore::new(CONNECTIONS as usize);
    let served = AtomicU64::new(0);
    let announcer = Announcer::start(&options, origin);
    let engine = Postgres { pool, turns, served, place, changes, announcer, context, _listener: listener };
    Ok(Store::new(Arc::new(SqlStore::new(engine))))
}

/// Upgrades the schema under a lock, so that processes starting together do not race.
async fn migrate(options: &PgConnectOptions, place: &str) -> Result<(), StoreError> {
    let connecting = tokio::time::timeout(PATIENCE, options.connect()).await;
    let connected = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let mut conn = connected.map_err(|error| cannot_connect(place, &error))?;
    let encoding: Result<String, _> = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut conn).await;
    let encoding = encoding.map_err(|error| cannot_connect(place, &error))?;
    if encoding != "UTF8" {
        return Err(StoreError::Open {
            why: format!("{place} stores text as {encoding}, which lacks some characters"),
            hint: "create the database with ENCODING 'UTF8' TEMPLATE template0".to_owned(),
        });
    }
    upgrade(&mut conn).await.map_err(|error| cannot_upgrade(place, &error))?;
    // It was only there for this; if it does not end well, nothing is lost.
    let _ = conn.close().await;
    Ok(())
}

async fn upgrade(conn: &mut PgConnection) -> Result<(), MigrateError> {
    const UPGRADE: i32 = 0;
    let mut tx = conn.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCKS).bind(UPGRADE).execute(&mut *tx).await?;
    // Its own lock would outlive a failure.
    migrator(&MIGRATIONS).set_locking(false).run_direct(None, &mut *tx, false).await?;
    tx.commit().await?;
    Ok(())
}

#[async_trait]
impl Connection for PgConnection {
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
        Ok(rows.into_iter().map(Row::Postgres).collect())
    }

    async fn lock(&mut self, lock: Lock<'_>) -> Result<(), StoreError> {
        let whole = |number: i32| sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCKS).bind(number);
        let query = match lock {
            Lock::Queue => whole(1),
            Lock::QueueShared => sqlx::query("SELECT pg_advisory_xact_lock_shared($1, $2)").bind(LOCKS).bind(1),
            Lock::Outbox => whole(2),
            // Keys with the same hash only wait for each other.
            Lock::Key(owner, key) => sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(storable(format!("{owner}\u{1F}{key}"))),
        };
        query.execute(self).await.map_err(|error| failed(&error))?;
        Ok(())
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Integer(number) => arguments.add(number),
            Value::Real(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text.map(storable)),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(|error| StoreError::Database(error.to_string()))?;
    }
    Ok(arguments)
}

/// PostgreSQL stores any text but U+0000, which a client may have put into the name of a file.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}
