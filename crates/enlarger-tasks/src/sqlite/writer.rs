//! The only connection that writes, and the task that owns it.
//!
//! SQLite has one writer at a time, and at `synchronous = FULL` each commit waits for the disk. So all writes of the process
//! queue up here and whatever has queued up during one commit goes into the next one together (group commit), each in its
//! own savepoint: one that fails takes none of the others with it, and nobody is answered before the disk has it.

use std::sync::Arc;

use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    error::StoreError,
    sql::{BoxFuture, Context, Operation, Tx},
    store::Change,
};

/// How many writes share a commit at most: enough to make the disk's share of each small, few enough that the first does not
/// wait long for the last.
const BATCH: usize = 64;
/// How many writes may queue up before callers wait to queue.
const BACKLOG: usize = 1024;

/// Tells the caller how it ended, after the commit.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Write = Box<dyn for<'t, 'c> FnOnce(&'t mut Tx<'c>) -> BoxFuture<'t, (bool, Answer)> + Send>;

#[derive(Debug, Clone)]
pub(super) struct Writer {
    writes: mpsc::Sender<Write>,
}

impl Writer {
    /// Takes over an open connection; `options` are to open it again after it broke.
    pub fn start(
        conn: SqliteConnection,
        options: SqliteConnectOptions,
        changes: broadcast::Sender<Change>,
        context: Arc<Context>,
    ) -> Self {
        let (writes, queue) = mpsc::channel(BACKLOG);
        tokio::spawn(run(conn, options, queue, changes, context));
        Writer { writes }
    }

    /// Runs `write` in a transaction and returns when it is on disk. An error rolls back this write alone.
    pub async fn write<A, T>(&self, with: A, write: Operation<A, T>) -> Result<T, StoreError>
    where
        A: Send + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let queued: Write = Box::new(move |tx| {
            let writing = write(tx, with);
            Box::pin(async move {
                let outcome = writing.await;
                let keep = outcome.is_ok();
                let tell: Answer = Box::new(move |committed: Result<(), StoreError>| {
                    // Nobody listens when the caller hung up; the write stands all the same.
                    let _ = answer.send(outcome.and_then(|value| committed.map(|()| value)));
                });
                (keep, tell)
            })
        });
        let dropped = || StoreError::Unavailable("the write was not carried out".to_owned());
        self.writes.send(queued).await.map_err(|_| dropped())?;
        answered.await.map_err(|_| dropped())?
    }
}

async fn run(
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    mut queue: mpsc::Receiver<Write>,
    changes: broadcast::Sender<Change>,
    context: Arc<Context>,
) {
    let mut open = Some(conn);
    let mut writes = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut writes, BATCH).await > 0 {
        let mut answers = Vec::with_capacity(writes.len());
        let mut news = Vec::new();
        let committed = match connection(&mut open, &options).await {
            Ok(conn) => commit(conn, &context, &mut writes, &mut answers, &mut news).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            tracing::warn!(%error, "task database: {} writes rolled back", answers.len() + writes.len());
            // A connection that could not commit may be in any state; the next batch starts with a fresh one.
            open = None;
        }
        // Jobs that never ran are dropped, which tells their callers the same.
        let error = committed.err().map(|error| error.to_string());
        for answer in answers {
            answer(match &error {
                None => Ok(()),
                Some(why) => Err(StoreError::Unavailable(why.clone())),
            });
        }
        writes.clear();
        if error.is_none() {
            for change in news {
                // Nobody listens: fine.
                let _ = changes.send(change);
            }
        }
    }
    if let Some(conn) = open {
        let _ = conn.close().await;
    }
}

async fn connection<'a>(
    open: &'a mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<&'a mut SqliteConnection, sqlx::Error> {
    match open {
        Some(conn) => Ok(conn),
        none => Ok(none.insert(options.connect().await?)),
    }
}

async fn commit(
    conn: &mut SqliteConnection,
    context: &Arc<Context>,
    writes: &mut Vec<Write>,
    answers: &mut Vec<Answer>,
    news: &mut Vec<Change>,
) -> Result<(), sqlx::Error> {
    // IMMEDIATE: take the write lock (waiting for other processes) before reading what the decision rests on.
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    for queued in writes.drain(..) {
        let mut savepoint = transaction.begin().await?;
        let mut tx = Tx::new(&mut *savepoint, context.clone(), Some(context.now()));
        let (keep, answer) = queued(&mut tx).await;
        let changes = tx.changes;
        answers.push(answer);
        if keep {
            savepoint.commit().await?;
            news.extend(changes);
        } else {
            savepoint.rollback().await?;
        }
    }
    transaction.commit().await
}
