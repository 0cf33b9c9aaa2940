//! The outbox: one row per (task, run, status), written with the status itself and worked off by the webhook sender.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Engine, SqlStore, Tx,
    query::{Lock, query},
    row,
};
use crate::{
    error::StoreError,
    record::{after, receiver},
    state::TaskState,
    store::Outbox,
    task::{Delivery, Task},
};

/// How many deliveries to one receiver are under way at most: a receiver that hangs until the timeout holds up no more than
/// this many senders.
const PER_RECEIVER: u32 = 4;

#[async_trait]
impl<E: Engine> Outbox for SqlStore<E> {
    async fn due(&self, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
        if !self.engine.read((), |tx, ()| Box::pin(any_due(tx))).await? {
            return Ok(Vec::new());
        }
        self.engine.write((limit, lease), |tx, (limit, lease)| Box::pin(take_due(tx, limit, lease))).await
    }

    async fn delivered(&self, event: Uuid, attempt: u32) -> Result<(), StoreError> {
        self.engine.write((event, attempt), |tx, (event, n)| Box::pin(end(tx, event, n, "delivered", None))).await
    }

    async fn failed(&self, event: Uuid, attempt: u32, pause: Duration, why: &str) -> Result<(), StoreError> {
        let with = (event, attempt, pause, why.to_owned());
        self.engine.write(with, |tx, (event, n, pause, why)| Box::pin(again(tx, event, n, pause, why))).await
    }

    async fn give_up(&self, event: Uuid, attempt: u32, why: &str) -> Result<(), StoreError> {
        let with = (event, attempt, why.to_owned());
        self.engine.write(with, |tx, (event, n, why)| Box::pin(end(tx, event, n, "given_up", Some(why)))).await
    }
}

/// Enqueues a webhook for this status, if the task has a receiver that has not got it yet in this run.
pub(super) async fn announce(tx: &mut Tx<'_>, task: &Task, status: TaskState) -> Result<(), StoreError> {
    let Some(url) = &task.webhook_url else { return Ok(()) };
    let now = tx.now().await?;
    query(
        "INSERT INTO outbox (event, task, run, status, url, receiver, state, attempts, sending, due_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'pending', 0, 0, $7, $7)
         ON CONFLICT (task, run, status) DO NOTHING",
    )
    .bind(Uuid::new_v4())
    .bind(task.id)
    .bind(task.run)
    .bind(status)
    .bind(url.as_str())
    .bind(receiver(url))
    .bind(now)
    .execute(tx.conn)
    .await?;
    Ok(())
}

async fn any_due(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let now = tx.now().await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE state = 'pending' AND due_at <= $1) AS due";
    query(sql).bind(now).fetch_one(tx.conn).await?.truth("due")
}

async fn take_due(tx: &mut Tx<'_>, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
    tx.conn.lock(Lock::Outbox).await?;
    let now = tx.now().await?;
    // What was tried in vain, or by a sender that died, is old news once there is newer.
    query(
        "UPDATE outbox SET state = 'given_up', sending = 0, ended_at = $1,
                           last_error = 'a newer status came first; ' || coalesce(last_error, 'the sender died')
         WHERE state = 'pending' AND attempts > 0 AND NOT (sending = 1 AND due_at > $1)
           AND EXISTS (SELECT 1 FROM outbox AS newer WHERE newer.task = outbox.task AND newer.seq > outbox.seq)",
    )
    .bind(now)
    .execute(tx.conn)
    .await?;
    // Of each task the oldest row only, also while that is under way; of each receiver so many that no more than PER_RECEIVER
    // are under way. A row whose sender died (sending, but due again) is due like any other.
    let skip_locked = tx.conn.dialect().skip_locked;
    let rows = query(format!(
        "WITH first AS (
             SELECT seq, receiver, due_at FROM outbox AS oldest
             WHERE state = 'pending' AND due_at <= $1
               AND NOT EXISTS (
                   SELECT 1 FROM outbox AS other
                   WHERE other.task = oldest.task AND other.state = 'pending' AND other.seq <> oldest.seq
                     AND (other.seq < oldest.seq OR other.sending = 1 AND other.due_at > $1))),
         ranked AS (
             SELECT seq, due_at,
                    row_number() OVER (PARTITION BY receiver ORDER BY due_at, seq)
                    + (SELECT count(*) FROM outbox AS busy
                       WHERE busy.state = 'pending' AND busy.sending = 1
                         AND busy.receiver = first.receiver AND busy.due_at > $1) AS place
             FROM first)
         UPDATE outbox SET sending = 1, attempts = attempts + 1, due_at = $2
         WHERE seq IN (
             SELECT seq FROM outbox
             WHERE state = 'pending' AND due_at <= $1
               AND seq IN (SELECT seq FROM ranked WHERE place <= $3 ORDER BY due_at, seq LIMIT $4){skip_locked})
         RETURNING *"
    ));
    let rows = rows.bind(now).bind(after(now, lease)).bind(PER_RECEIVER).bind(limit).fetch_all(tx.conn).await?;
    // RETURNING promises no order.
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in &rows {
        deliveries.push((row.integer("seq")?, row::delivery(row, now)?));
    }
    deliveries.sort_by_key(|(seq, _)| *seq);
    Ok(deliveries.into_iter().map(|(_, delivery)| delivery).collect())
}

/// Ends a delivery as `delivered` or `given_up`. A sender whose lease ran out and whose row was taken again changes nothing.
async fn end(
    tx: &mut Tx<'_>,
    event: Uuid,
    attempt: u32,
    state: &'static str,
    why: Option<String>,
) -> Result<(), StoreError> {
    let now = tx.now().await?;
    query(
        "UPDATE outbox SET state = $1, sending = 0, ended_at = $2, last_error = coalesce($3, last_error)
         WHERE event = $4 AND attempts = $5 AND state = 'pending'",
    )
    .bind(state)
    .bind(now)
    .bind(why)
    .bind(event)
    .bind(attempt)
    .execute(tx.conn)
    .await?;
    Ok(())
}

/// Puts a delivery off.
async fn again(tx: &mut Tx<'_>, event: Uuid, attempt: u32, pause: Duration, why: String) -> Result<(), StoreError> {
    let next_at = after(tx.now().await?, pause);
    query(
        "UPDATE outbox SET sending = 0, due_at = $1, last_error = $2
         WHERE event = $3 AND attempts = $4 AND state = 'pending'",
    )
    .bind(next_at)
    .bind(why)
    .bind(event)
    .bind(attempt)
    .execute(tx.conn)
    .await?;
    Ok(())
}

pub(super) async fn pending(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    query("SELECT count(*) AS pending FROM outbox WHERE state = 'pending'").fetch_one(tx.conn).await?.count("pending")
}
