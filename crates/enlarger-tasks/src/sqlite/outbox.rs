//! The outbox: one row per (task, run, status), written with the status itself and worked off by the webhook sender.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, row, writer::Tx};
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
impl Outbox for SqliteStore {
    async fn due(&self, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
        if !any_due(&mut *self.readers.acquire().await?, self.context.now()).await? {
            return Ok(Vec::new());
        }
        self.write(move |tx, context| Box::pin(async move { take_due(tx, context.now(), limit, lease).await })).await
    }

    async fn delivered(&self, event: Uuid, attempt: u32) -> Result<(), StoreError> {
        self.write(move |tx, context| {
            Box::pin(async move { end(tx, context.now(), event, attempt, "delivered", None).await })
        })
        .await
    }

    async fn failed(&self, event: Uuid, attempt: u32, next_at: Timestamp, why: &str) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx, _| Box::pin(async move { again(tx, event, attempt, next_at, &why).await })).await
    }

    async fn give_up(&self, event: Uuid, attempt: u32, why: &str) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx, context| {
            Box::pin(async move { end(tx, context.now(), event, attempt, "given_up", Some(&why)).await })
        })
        .await
    }
}

/// Enqueues a webhook for this status, if the task has a receiver that has not got it yet in this run.
pub(super) async fn announce(
    conn: &mut SqliteConnection,
    now: Timestamp,
    task: &Task,
    status: TaskState,
) -> Result<(), StoreError> {
    let Some(url) = &task.webhook_url else { return Ok(()) };
    sqlx::query(
        "INSERT INTO outbox (event, task, run, status, url, receiver, state, attempts, sending, due_at, created_at)
         VALUES (?, ?, ?, ?, ?, ?, 'pending', 0, 0, ?, ?)
         ON CONFLICT (task, run, status) DO NOTHING",
    )
    .bind(Uuid::new_v4().to_string())
    .bind(task.id.to_string())
    .bind(task.run)
    .bind(status.as_str())
    .bind(url)
    .bind(receiver(url))
    .bind(now.as_millisecond())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

async fn any_due(conn: &mut SqliteConnection, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE state = 'pending' AND due_at <= ?)";
    Ok(sqlx::query_scalar::<_, i64>(sql).bind(now.as_millisecond()).fetch_one(conn).await? != 0)
}

async fn take_due(tx: &mut Tx<'_>, now: Timestamp, limit: u32, lease: Duration) -> Result<Vec<Delivery>, StoreError> {
    // What was tried in vain, or by a sender that died, is old news once there is newer.
    sqlx::query(
        "UPDATE outbox SET state = 'given_up', sending = 0, ended_at = ?1,
                           last_error = 'a newer status came first; ' || coalesce(last_error, 'the sender died')
         WHERE state = 'pending' AND attempts > 0 AND NOT (sending = 1 AND due_at > ?1)
           AND EXISTS (SELECT 1 FROM outbox AS newer WHERE newer.task = outbox.task AND newer.seq > outbox.seq)",
    )
    .bind(now.as_millisecond())
    .execute(&mut *tx.conn)
    .await?;
    // Of each task the oldest row only, also while that is under way; of each receiver so many that no more than PER_RECEIVER
    // are under way. A row whose sender died (sending, but due again) is due like any other.
    let mut rows = sqlx::query(
        "WITH first AS (
             SELECT seq, receiver, due_at FROM outbox AS row
             WHERE state = 'pending' AND due_at <= ?1
               AND NOT EXISTS (
                   SELECT 1 FROM outbox AS other
                   WHERE other.task = row.task AND other.state = 'pending' AND other.seq <> row.seq
                     AND (other.seq < row.seq OR other.sending = 1 AND other.due_at > ?1))),
         ranked AS (
             SELECT seq, due_at,
                    row_number() OVER (PARTITION BY receiver ORDER BY due_at, seq)
                    + (SELECT count(*) FROM outbox AS busy
                       WHERE busy.state = 'pending' AND busy.sending = 1
                         AND busy.receiver = first.receiver AND busy.due_at > ?1) AS place
             FROM first)
         UPDATE outbox SET sending = 1, attempts = attempts + 1, due_at = ?2
         WHERE seq IN (SELECT seq FROM ranked WHERE place <= ?3 ORDER BY due_at, seq LIMIT ?4)
         RETURNING *",
    )
    .bind(now.as_millisecond())
    .bind(after(now, lease).as_millisecond())
    .bind(PER_RECEIVER)
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    // RETURNING promises no order.
    rows.sort_by_key(|row| row.get::<i64, _>("seq"));
    rows.iter().map(row::delivery).collect()
}

/// Ends a delivery as `delivered` or `given_up`. A sender whose lease ran out and whose row was taken again changes nothing.
async fn end(
    tx: &mut Tx<'_>,
    now: Timestamp,
    event: Uuid,
    attempt: u32,
    state: &str,
    why: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET state = ?, sending = 0, ended_at = ?, last_error = coalesce(?, last_error)
         WHERE event = ? AND attempts = ? AND state = 'pending'",
    )
    .bind(state)
    .bind(now.as_millisecond())
    .bind(why)
    .bind(event.to_string())
    .bind(attempt)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Puts a delivery off.
async fn again(tx: &mut Tx<'_>, event: Uuid, attempt: u32, next_at: Timestamp, why: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET sending = 0, due_at = ?, last_error = ?
         WHERE event = ? AND attempts = ? AND state = 'pending'",
    )
    .bind(next_at.as_millisecond())
    .bind(why)
    .bind(event.to_string())
    .bind(attempt)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

pub(super) async fn pending(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE state = 'pending'").fetch_one(conn).await?;
    Ok(n.unsigned_abs())
}
