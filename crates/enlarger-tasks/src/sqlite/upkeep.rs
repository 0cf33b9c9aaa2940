//! The database itself: its health, its numbers, and what it may forget.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Row as _, sqlite::SqliteConnection};

use super::{CHUNK, Context, SqliteStore, outbox, row, writer::Tx};
use crate::{
    error::StoreError,
    state::TaskState,
    store::{Counts, Pruned, Upkeep},
};

#[async_trait]
impl Upkeep for SqliteStore {
    async fn counts(&self) -> Result<Counts, StoreError> {
        let mut snapshot = self.readers.begin().await?;
        counts(&mut snapshot).await
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

    async fn prune(&self) -> Result<Pruned, StoreError> {
        self.write(|tx, context| Box::pin(async move { prune(tx, &context).await })).await
    }
}

async fn counts(conn: &mut SqliteConnection) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for row in sqlx::query("SELECT state, count(*) AS n FROM tasks GROUP BY state").fetch_all(&mut *conn).await? {
        let n = row.try_get::<i64, _>("n")?.unsigned_abs();
        match row::parsed(&row, "state")? {
            TaskState::Created => counts.created = n,
            TaskState::InProgress => counts.in_progress = n,
            TaskState::Completed => counts.completed = n,
            TaskState::Failed => counts.failed = n,
            TaskState::Cancelled => counts.cancelled = n,
        }
    }
    let waiting = "SELECT total(cost) FROM tasks INDEXED BY tasks_queue WHERE state = 'CREATED'";
    counts.queued_cost = sqlx::query_scalar(waiting).fetch_one(&mut *conn).await?;
    counts.outbox_pending = outbox::pending(conn).await?;
    Ok(counts)
}

async fn prune(tx: &mut Tx<'_>, context: &Context) -> Result<Pruned, StoreError> {
    let now = context.now().as_millisecond();
    let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let tasks = "DELETE FROM tasks WHERE seq IN (
                     SELECT seq FROM tasks WHERE files = 'gone' AND expires_at <= ? LIMIT ?)";
    let keys = "DELETE FROM idempotency_keys WHERE (owner, key) IN (
                    SELECT owner, key FROM idempotency_keys WHERE expires_at <= ? LIMIT ?)";
    let outbox = "DELETE FROM outbox WHERE seq IN (
                      SELECT seq FROM outbox WHERE state <> 'pending' AND ended_at <= ? LIMIT ?)";
    let mut removed = [0; 3];
    let steps = [(tasks, before(context.config.history)), (keys, now), (outbox, before(context.config.outbox_history))];
    for (removed, (sql, before)) in removed.iter_mut().zip(steps) {
        *removed = sqlx::query(sql).bind(before).bind(CHUNK).execute(&mut *tx.conn).await?.rows_affected();
    }
    let [tasks, idempotency_keys, outbox] = removed;
    Ok(Pruned { tasks, idempotency_keys, outbox })
}
