//! The database itself: its health, its numbers, and what it may forget.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    CHUNK, Engine, SqlStore, Tx, list, milliseconds, outbox,
    query::{Dialect, query},
    tasks,
};
use crate::{
    error::StoreError,
    state::TaskState,
    store::{Counts, Pruned, Upkeep},
};

/// How long processes that ended without saying so are remembered.
const DEAD_NODES: Duration = Duration::from_secs(3600);

#[async_trait]
impl<E: Engine> Upkeep for SqlStore<E> {
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.engine.snapshot((), |tx, ()| Box::pin(counts(tx))).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.engine.write((), |tx, ()| Box::pin(ping(tx))).await
    }

    async fn prune(&self) -> Result<Pruned, StoreError> {
        self.engine.write((), |tx, ()| Box::pin(prune(tx))).await
    }

    async fn forget(&self, ended: Duration, limit: u32) -> Result<u64, StoreError> {
        self.engine.write((ended, limit), |tx, (ended, limit)| Box::pin(forget(tx, ended, limit))).await
    }
}

async fn counts(tx: &mut Tx<'_>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let tally = "SELECT state, CAST(sum(n) AS BIGINT) AS n FROM tallied WHERE whose = '*' AND size = $1 GROUP BY state";
    for row in query(tally).bind(list::ALL).fetch_all(tx.conn).await? {
        let n = row.count("n")?;
        match row.parsed("state")? {
            TaskState::Created => counts.created = n,
            TaskState::InProgress => counts.in_progress = n,
            TaskState::Completed => counts.completed = n,
            TaskState::Failed => counts.failed = n,
            TaskState::Cancelled => counts.cancelled = n,
        }
    }
    let Dialect { by_queue, .. } = tx.conn.dialect();
    // What the index of the queue contains is enough but for one row.
    let waiting = format!(
        "WITH waiting AS (SELECT sum(cost) AS cost, min(seq) AS first FROM tasks {by_queue} WHERE state = 'CREATED')
         SELECT coalesce(cost, 0.0) AS cost, (SELECT created_at FROM tasks WHERE seq = first) AS oldest FROM waiting"
    );
    let waiting = query(waiting).fetch_one(tx.conn).await?;
    counts.queued_cost = waiting.real("cost")?;
    if let Some(oldest) = waiting.time_opt("oldest")? {
        counts.oldest = tx.now().await?.duration_since(oldest).try_into().unwrap_or_default();
    }
    counts.outbox_pending = outbox::pending(tx).await?;
    Ok(counts)
}

async fn ping(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let now = tx.now().await?;
    let sql = "INSERT INTO pulse (one, at) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET at = excluded.at";
    query(sql).bind(now).execute(tx.conn).await?;
    Ok(())
}

async fn prune(tx: &mut Tx<'_>) -> Result<Pruned, StoreError> {
    let now = tx.now().await?.as_millisecond();
    let before = |age| now.saturating_sub(milliseconds(age));
    let skip_locked = tx.conn.dialect().skip_locked;
    let tasks = "DELETE FROM tasks WHERE seq IN (
                     SELECT seq FROM tasks WHERE files = 'gone' AND expires_at <= $1 LIMIT $2";
    let keys = "DELETE FROM idempotency_keys WHERE (owner, key) IN (
                    SELECT owner, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2";
    let outbox = "DELETE FROM outbox WHERE seq IN (
                      SELECT seq FROM outbox WHERE state <> 'pending' AND ended_at <= $1 LIMIT $2";
    let (history, outbox_history) = (tx.config().history, tx.config().outbox_history);
    let mut removed = [0; 3];
    let steps = [(tasks, before(history)), (keys, now), (outbox, before(outbox_history))];
    for (removed, (sql, before)) in removed.iter_mut().zip(steps) {
        let query = query(sql).push(skip_locked).push(")").bind(before).bind(CHUNK);
        *removed = query.execute(tx.conn).await?;
    }
    query(tx.conn.dialect().tidy_tally).execute(tx.conn).await?;
    query("DELETE FROM nodes WHERE seen_at <= $1").bind(before(DEAD_NODES)).execute(tx.conn).await?;
    let [tasks, idempotency_keys, outbox] = removed;
    Ok(Pruned { tasks, idempotency_keys, outbox })
}

/// As a user deletes a task: out of sight at once, its files follow, and its key is free again.
async fn forget(tx: &mut Tx<'_>, ended: Duration, limit: u32) -> Result<u64, StoreError> {
    let now = tx.now().await?;
    let skip_locked = tx.conn.dialect().skip_locked;
    let old = query(format!(
        "SELECT id FROM tasks WHERE hidden = 0 AND finished_at <= $1 ORDER BY seq LIMIT $2{skip_locked}"
    ))
    .bind(now.as_millisecond().saturating_sub(milliseconds(ended)))
    .bind(limit)
    .fetch_all(tx.conn)
    .await?;
    for row in &old {
        tasks::hide(tx, row.parsed("id")?, now).await?;
    }
    Ok(old.len() as u64)
}
