//! Running operations on PostgreSQL. A connection may be lost at any moment: a read is done again, a transaction too if it
//! was not committed, and if that is not known, the database knows.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{Connection as _, Error, PgConnection, Row as _, pool::PoolConnection};
use tokio::{
    sync::{SemaphorePermit, broadcast},
    time::timeout,
};

use super::{LONGEST, PATIENCE, Postgres, failure::failed};
use crate::{
    error::StoreError,
    sql::{Context, Engine, Operation, Tx},
    store::Change,
};

impl Engine for Postgres {
    async fn read<A, T>(&self, with: A, read: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut patience = Patience::new();
        loop {
            match self.look(None, with.clone(), read).await {
                Err(error) if error.is_transient() => patience.pause(error).await?,
                ended => return ended,
            }
        }
    }

    async fn snapshot<A, T>(&self, with: A, read: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut patience = Patience::new();
        loop {
            match self.look(Some("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"), with.clone(), read).await {
                Err(error) if error.is_transient() => patience.pause(error).await?,
                ended => return ended,
            }
        }
    }

    async fn write<A, T>(&self, with: A, write: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut patience = Patience::new();
        loop {
            match self.attempt(with.clone(), write).await {
                Attempt::Undone(error) if error.is_transient() => patience.pause(error).await?,
                Attempt::Undone(error) => return Err(error),
                Attempt::Ended(result) => return result,
            }
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// How a transaction went.
enum Attempt<T> {
    /// Nothing has changed.
    Undone(StoreError),
    /// It is on disk, or nobody knows, because the database is gone.
    Ended(Result<T, StoreError>),
}

/// What a connection says of a transaction.
enum Transacted<T> {
    Committed(T, Vec<Change>),
    Undone(StoreError),
    /// It was lost in the commit of this transaction.
    Unanswered(StoreError, i64, T, Vec<Change>),
}

/// A transaction to commit.
struct Prepared<'c, T> {
    transaction: sqlx::Transaction<'c, sqlx::Postgres>,
    /// By this the database remembers what became of it.
    id: i64,
    value: T,
    changes: Vec<Change>,
}

impl Postgres {
    async fn look<A, T>(&self, begin: Option<&'static str>, with: A, read: Operation<A, T>) -> Result<T, StoreError> {
        let _turn = self.turn().await?;
        let mut conn = self.connection().await?;
        let reading = async {
            let now = (!self.context.clock.is_local()).then(|| self.context.now());
            let Some(begin) = begin else {
                return read(&mut Tx::new(&mut *conn, self.context.clone(), now), with).await;
            };
            let mut snapshot = conn.begin_with(begin).await.map_err(|error| failed(&error))?;
            let result = read(&mut Tx::new(&mut *snapshot, self.context.clone(), now), with).await;
            snapshot.rollback().await.map_err(|error| failed(&error))?;
            result
        };
        let result = timeout(LONGEST, reading).await.unwrap_or_else(|_| Err(silent()));
        match &result {
            Err(error) if error.is_transient() => conn.close_on_drop(),
            _ => self.serve(),
        }
        result
    }

    async fn attempt<A, T>(&self, with: A, write: Operation<A, T>) -> Attempt<T> {
        let acquired = async { Ok((self.turn().await?, self.connection().await?)) };
        let (_turn, mut conn) = match acquired.await {
            Ok(acquired) => acquired,
            Err(error) => return Attempt::Undone(error),
        };
        let (value, changes) = match self.transact(&mut conn, with, write).await {
            Transacted::Committed(value, changes) => (value, changes),
            Transacted::Undone(error) => {
                if error.is_transient() {
                    conn.close_on_drop();
                }
                return Attempt::Undone(error);
            }
            Transacted::Unanswered(error, id, value, changes) => {
                conn.close_on_drop();
                drop(conn);
                match self.is_committed(id).await {
                    Some(true) => (value, changes),
                    Some(false) => return Attempt::Undone(error),
                    None => return Attempt::Ended(Err(StoreError::Uncertain(error.to_string()))),
                }
            }
        };
        self.serve();
        for change in changes {
            // Nobody listens: fine.
            let _ = self.changes.send(change);
            self.announcer.announce(change);
        }
        Attempt::Ended(Ok(value))
    }

    /// Waits for a connection to be free, as long as others get done with theirs.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let mut waiting = pin!(self.turns.acquire());
        loop {
            let served = self.served.load(Ordering::Relaxed);
            match timeout(PATIENCE, &mut waiting).await {
                Ok(turn) => return turn.map_err(|_| StoreError::Unavailable("the store is closed".to_owned())),
                Err(_) if self.served.load(Ordering::Relaxed) == served => return Err(self.no_connection()),
                Err(_) => {}
            }
        }
    }

    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    async fn transact<A, T>(&self, conn: &mut PgConnection, with: A, write: Operation<A, T>) -> Transacted<T> {
        let preparing = timeout(LONGEST, prepare(conn, &self.context, with, write)).await;
        let Prepared { transaction, id, value, changes } = match preparing.unwrap_or_else(|_| Err(silent())) {
            Ok(prepared) => prepared,
            Err(error) => return Transacted::Undone(error),
        };
        match timeout(LONGEST, transaction.commit()).await {
            Ok(Ok(())) => Transacted::Committed(value, changes),
            Ok(Err(error)) => Transacted::Unanswered(failed(&error), id, value, changes),
            Err(_) => Transacted::Unanswered(silent(), id, value, changes),
        }
    }

    /// What became of a transaction whose commit was not answered; `None` if the database does not come back in time.
    async fn is_committed(&self, id: i64) -> Option<bool> {
        let mut patience = Patience::new();
        loop {
            let error = match self.status(id).await.as_ref().map(Option::as_deref) {
                Ok(Some("committed")) => return Some(true),
                Ok(Some("aborted")) => return Some(false),
                // The server has not noticed yet that we are gone.
                Ok(Some(_)) => StoreError::Unavailable("the transaction is still in progress".to_owned()),
                // It has forgotten so old a transaction.
                Ok(None) => return None,
                Err(error) => StoreError::Unavailable(error.to_string()),
            };
            patience.pause(error).await.ok()?;
        }
    }

    async fn status(&self, id: i64) -> Result<Option<String>, StoreError> {
        let mut conn = self.connection().await?;
        let asking = sqlx::query_scalar("SELECT txid_status($1)").bind(id).fetch_one(&mut *conn);
        let status = timeout(LONGEST, asking).await.map_err(|_| silent()).and_then(|it| it.map_err(|e| failed(&e)));
        if status.is_err() {
            conn.close_on_drop();
        }
        status
    }

    async fn connection(&self) -> Result<PoolConnection<sqlx::Postgres>, StoreError> {
        self.pool.acquire().await.map_err(|error| match error {
            Error::PoolTimedOut => self.no_connection(),
            error => failed(&error),
        })
    }

    fn no_connection(&self) -> StoreError {
        StoreError::Unavailable(format!("{}: no connection within {} s", self.place, PATIENCE.as_secs()))
    }
}

/// Everything of a transaction but the commit.
async fn prepare<'c, A, T>(
    conn: &'c mut PgConnection,
    context: &Arc<Context>,
    with: A,
    write: Operation<A, T>,
) -> Result<Prepared<'c, T>, StoreError> {
    let begin = conn.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE").await;
    let mut transaction = begin.map_err(|error| failed(&error))?;
    let start = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now, txid_current() AS id";
    let row = sqlx::query(start).fetch_one(&mut *transaction).await.map_err(|error| failed(&error))?;
    let (now, id): (i64, i64) = (row.get("now"), row.get("id"));
    let now = if context.clock.is_local() { Timestamp::from_millisecond(now).ok() } else { Some(context.now()) };
    let mut tx = Tx::new(&mut *transaction, context.clone(), now);
    let written = write(&mut tx, with).await;
    let changes = tx.changes;
    let value = match written {
        Ok(value) => value,
        Err(error) => {
            // Now, not when the connection is next used: nobody else can have its rows before. If it is lost, so are they.
            let _ = transaction.rollback().await;
            return Err(error);
        }
    };
    Ok(Prepared { transaction, id, value, changes })
}

fn silent() -> StoreError {
    StoreError::Unavailable(format!("the database did not answer within {} s", LONGEST.as_secs()))
}

/// How long to try again, and how often.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(500);

    fn new() -> Self {
        Patience { until: Instant::now() + PATIENCE, pause: Self::FIRST }
    }

    /// Waits before another attempt, or gives up with the error of the last one.
    async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        if Instant::now() + self.pause > self.until {
            return Err(error);
        }
        tracing::debug!(%error, "trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Self::LONGEST);
        Ok(())
    }
}
