//! Tasks and idempotency keys.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{
    CHUNK, Tx, milliseconds, outbox,
    query::{Connection, Dialect, Lock, Query, query},
    row::{self, Row},
};
use crate::{
    error::StoreError,
    record::{Record, after},
    state::{Refused, TaskState},
    store::{
        Beat, Cancelled, Change, Deleted, Idempotency, ListQuery, Page, QueueLimit, QueuePlace, Report, Reserved,
        Retried, Retry, Scope, StoreConfig, Submitted,
    },
    task::{Files, Lease, NewTask, Task, TaskError},
};

/// Free workers look for work at least this often, in milliseconds.
const FREE_WORKERS_LOOK: i64 = 2000;

// ---- reading ----

/// The task with this id, if this scope may see it.
pub(super) async fn get(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Option<Task>, StoreError> {
    Ok(visible(by_id(tx.conn, id, "").await?, &scope).map(|record| record.task))
}

/// The same, to change it: it stays as it is until the end of the transaction.
async fn hold(conn: &mut dyn Connection, id: Uuid, scope: &Scope) -> Result<Option<Record>, StoreError> {
    let for_update = conn.dialect().for_update;
    Ok(visible(by_id(conn, id, for_update).await?, scope))
}

fn visible(record: Option<Record>, scope: &Scope) -> Option<Record> {
    record.filter(|record| {
        let ours = match scope {
            Scope::All => true,
            Scope::Owner(owner) => record.task.owner.as_ref() == Some(owner),
        };
        ours && !record.hidden
    })
}

async fn by_id(conn: &mut dyn Connection, id: Uuid, hold: &str) -> Result<Option<Record>, StoreError> {
    let row = query("SELECT * FROM tasks WHERE id = $1").bind(id).push(hold).fetch_optional(conn).await?;
    row.as_ref().map(row::record).transpose()
}

pub(super) async fn list(tx: &mut Tx<'_>, list: ListQuery, scope: Scope) -> Result<Page, StoreError> {
    let count = filtered("SELECT count(*) AS total FROM tasks", &list, &scope);
    let total = count.fetch_one(tx.conn).await?.count("total")?;
    let per_page = list.per_page.clamp(1, 1000);
    let skip = list.page.saturating_sub(1).saturating_mul(per_page);
    let page = filtered("SELECT * FROM tasks", &list, &scope);
    let page = page.push(" ORDER BY seq DESC LIMIT ").push_bind(per_page).push(" OFFSET ").push_bind(skip);
    Ok(Page { tasks: row::tasks(&page.fetch_all(tx.conn).await?)?, total })
}

fn filtered(select: &str, list: &ListQuery, scope: &Scope) -> Query {
    let mut sql = query(select).push(" WHERE hidden = 0");
    if let Scope::Owner(owner) = scope {
        sql = sql.push(" AND owner = ").push_bind(owner.as_str());
    }
    if !list.kinds.is_empty() {
        sql = sql.push(" AND kind IN ").push_list(list.kinds.iter().map(String::as_str));
    }
    if !list.states.is_empty() {
        sql = sql.push(" AND state IN ").push_list(list.states.iter().copied());
    }
    sql
}

pub(super) async fn queue_place(tx: &mut Tx<'_>, id: Uuid) -> Result<Option<QueuePlace>, StoreError> {
    let Dialect { by_queue, .. } = tx.conn.dialect();
    // Tasks that nobody asks for come last: a comparison with NULL is not true.
    let sql = format!(
        "SELECT count(ahead.seq) AS ahead, coalesce(sum(ahead.cost), 0.0) AS cost_ahead
         FROM tasks AS own
         LEFT JOIN tasks AS ahead {by_queue}
                ON ahead.state = 'CREATED'
               AND ((ahead.polled_at <= $2) IS TRUE, ahead.due, ahead.seq)
                   < ((own.polled_at <= $2) IS TRUE, own.due, own.seq)
         WHERE own.id = $1 AND own.state = 'CREATED'
         GROUP BY own.seq"
    );
    let forgotten = forgotten(tx).await?;
    let row = query(sql).bind(id).bind(forgotten).fetch_optional(tx.conn).await?;
    let place = |row: Row| Ok(QueuePlace { ahead: row.count("ahead")?, cost_ahead: row.real("cost_ahead")? });
    row.map(place).transpose()
}

/// A task whose client must ask, and asked last at this time or before, is not asked for any more.
async fn forgotten(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    let now = tx.now().await?.as_millisecond();
    Ok(now.saturating_sub(milliseconds(tx.config().poll_patience)))
}

/// Whether a claim would find or recover anything.
pub(super) async fn claimable(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let Dialect { by_queue, by_leases, .. } = tx.conn.dialect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM tasks {by_queue} WHERE state = 'CREATED' AND not_before <= $1)
             OR EXISTS (SELECT 1 FROM tasks {by_leases} WHERE state = 'IN_PROGRESS' AND lease_until <= $1) AS claimable"
    );
    let now = tx.now().await?;
    query(sql).bind(now).fetch_one(tx.conn).await?.truth("claimable")
}

// ---- submitting ----

pub(super) async fn reserve(tx: &mut Tx<'_>, owner: String, key: Idempotency) -> Result<Reserved, StoreError> {
    match remembered(tx, &owner, &key).await? {
        Some(Known::Task(task)) => Ok(Reserved::Replayed(task)),
        Some(Known::InFlight) => Ok(Reserved::InFlight),
        Some(Known::Mismatch) => Ok(Reserved::Mismatch),
        None => {
            let token = Uuid::new_v4();
            let until = after(tx.now().await?, tx.config().reservation_ttl);
            remember(tx.conn, &owner, &key, Claim::Reservation(token), until).await?;
            Ok(Reserved::Yours(token))
        }
    }
}

pub(super) async fn unreserve(tx: &mut Tx<'_>, token: Uuid) -> Result<(), StoreError> {
    query("DELETE FROM idempotency_keys WHERE token = $1").bind(token).execute(tx.conn).await?;
    Ok(())
}

pub(super) async fn submit(
    tx: &mut Tx<'_>,
    new: NewTask,
    idempotency: Option<Idempotency>,
) -> Result<Submitted, StoreError> {
    let owner = new.owner.clone().unwrap_or_default();
    if let Some(key) = &idempotency {
        match remembered(tx, &owner, key).await? {
            Some(Known::Task(task)) => return Ok(Submitted::Replayed(task)),
            Some(Known::InFlight) => return Ok(Submitted::InFlight),
            Some(Known::Mismatch) => return Ok(Submitted::Mismatch),
            None => {}
        }
    }
    let full = queue_full(tx, new.owner.as_deref()).await?;
    let now = tx.now().await?;
    let record = Record::new(new, now, tx.config());
    if full.is_some() || !insert(tx, &record).await? {
        // A caller that heard nothing repeats itself.
        if let Some(there) = by_id(tx.conn, record.task.id, "").await? {
            return Ok(Submitted::Created(there.task));
        }
    }
    if let Some(limit) = full {
        return Ok(Submitted::QueueFull(limit));
    }
    if let Some(key) = &idempotency {
        let until = after(now, tx.config().idempotency_ttl);
        remember(tx.conn, &owner, key, Claim::Task(record.task.id), until).await?;
    }
    Ok(Submitted::Created(record.task))
}

/// What an idempotency key stands for.
#[expect(clippy::large_enum_variant, reason = "made once per request, moved once")]
enum Known {
    Task(Task),
    InFlight,
    Mismatch,
}

enum Claim {
    Task(Uuid),
    Reservation(Uuid),
}

/// What `key` stands for, or `None` when it is free for this caller (new, expired, or its own reservation). It stays so until
/// the end of the transaction.
async fn remembered(tx: &mut Tx<'_>, owner: &str, key: &Idempotency) -> Result<Option<Known>, StoreError> {
    tx.conn.lock(Lock::Key(owner, &key.key)).await?;
    let sql = "SELECT body_hash, task, token FROM idempotency_keys WHERE owner = $1 AND key = $2 AND expires_at > $3";
    let now = tx.now().await?;
    let query = query(sql).bind(owner).bind(key.key.as_str()).bind(now);
    let Some(row) = query.fetch_optional(tx.conn).await? else { return Ok(None) };
    if row.bytes("body_hash")? != key.body_hash {
        return Ok(Some(Known::Mismatch));
    }
    if row.text_opt("task")?.is_some() {
        let record = by_id(tx.conn, row.parsed("task")?, "").await?;
        return Ok(record.map(|record| Known::Task(record.task)));
    }
    let ours = key.reservation.is_some() && key.reservation == Some(row.parsed("token")?);
    Ok((!ours).then_some(Known::InFlight))
}

async fn remember(
    conn: &mut dyn Connection,
    owner: &str,
    key: &Idempotency,
    claim: Claim,
    until: Timestamp,
) -> Result<(), StoreError> {
    let (task, token) = match claim {
        Claim::Task(task) => (Some(task), None),
        Claim::Reservation(token) => (None, Some(token)),
    };
    query(
        "INSERT INTO idempotency_keys (owner, key, body_hash, task, token, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (owner, key) DO UPDATE
         SET body_hash = excluded.body_hash, task = excluded.task, token = excluded.token,
             expires_at = excluded.expires_at",
    )
    .bind(owner)
    .bind(key.key.as_str())
    .bind(key.body_hash)
    .bind(task)
    .bind(token)
    .bind(until)
    .execute(conn)
    .await?;
    Ok(())
}

/// The limit that keeps one more task of this owner out, if any. Nobody else adds one until the end of the transaction.
async fn queue_full(tx: &mut Tx<'_>, owner: Option<&str>) -> Result<Option<QueueLimit>, StoreError> {
    tx.conn.lock(Lock::Queue).await?;
    let StoreConfig { queue_limit, owner_queue_limit, .. } = *tx.config();
    let Dialect { by_queue, by_queue_owner, .. } = tx.conn.dialect();
    let all = format!("SELECT count(*) AS waiting FROM tasks {by_queue} WHERE state = 'CREATED'");
    let all: u64 = query(all).fetch_one(tx.conn).await?.count("waiting")?;
    let own: u64 = match owner {
        Some(owner) => {
            let own = "WHERE state = 'CREATED' AND owner = $1";
            let own = format!("SELECT count(*) AS waiting FROM tasks {by_queue_owner} {own}");
            query(own).bind(owner).fetch_one(tx.conn).await?.count("waiting")?
        }
        None => 0,
    };
    let (of_owner, limit) = if own >= owner_queue_limit && owner.is_some() {
        (true, owner_queue_limit)
    } else if all >= queue_limit {
        (false, queue_limit)
    } else {
        return Ok(None);
    };
    let mean = format!("SELECT coalesce(avg(cost), 0.0) AS mean FROM tasks {by_queue} WHERE state = 'CREATED'");
    let mean = query(mean).fetch_one(tx.conn).await?.real("mean")?;
    let retry_after = Duration::from_secs_f64(mean.ceil().clamp(1.0, 3600.0));
    Ok(Some(QueueLimit { of_owner, limit, retry_after }))
}

// ---- what users do to tasks ----

pub(super) async fn cancel(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Cancelled, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Cancelled::NotFound) };
    match record.cancel(tx.now().await?, tx.config()) {
        Ok(next) => Ok(Cancelled::Done(advance(tx, &record, next).await?)),
        Err(_) => Ok(Cancelled::AlreadyDone(record.task)),
    }
}

pub(super) async fn retry(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Retried, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Retried::NotFound) };
    let Ok(next) = record.retry(tx.now().await?, tx.config()) else {
        return Ok(Retried::NotRetryable(record.task));
    };
    if record.task.files != Files::Present {
        return Ok(Retried::InputGone(record.task));
    }
    if let Some(limit) = queue_full(tx, record.task.owner.as_deref()).await? {
        return Ok(Retried::QueueFull(limit));
    }
    Ok(Retried::Queued(advance(tx, &record, next).await?))
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Deleted, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Deleted::NotFound) };
    if !record.task.state.is_terminal() {
        return Ok(Deleted::StillActive(record.task));
    }
    // Back from "gone" to "deleting": the row leaves by the same door, whether its files went before or not.
    let sql = "UPDATE tasks SET hidden = 1, files = 'deleting',
                                expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END
               WHERE id = $2";
    let now = tx.now().await?;
    query(sql).bind(now).bind(id).execute(tx.conn).await?;
    // The key is free again: a replay must not answer with a task that is not there.
    query("DELETE FROM idempotency_keys WHERE task = $1").bind(id).execute(tx.conn).await?;
    tx.changes.push(Change { task: id, state: record.task.state });
    Ok(Deleted::Done)
}

pub(super) async fn polled(tx: &mut Tx<'_>, mut polls: Vec<(Uuid, Duration)>) -> Result<(), StoreError> {
    let now = tx.now().await?.as_millisecond();
    // In the same order everywhere, so that no two processes wait for each other.
    polls.sort();
    for (id, ago) in polls {
        query(
            "UPDATE tasks SET polled_at = $1
             WHERE id = $2 AND state IN ('CREATED', 'IN_PROGRESS') AND polled_at < $1",
        )
        .bind(now.saturating_sub(milliseconds(ago)))
        .bind(id)
        .execute(tx.conn)
        .await?;
    }
    Ok(())
}

// ---- what workers do to tasks ----

pub(super) async fn claim(tx: &mut Tx<'_>, worker: String, lease: Duration) -> Result<Option<Task>, StoreError> {
    recover_expired_leases(tx).await?;
    let (now, forgotten) = (tx.now().await?, forgotten(tx).await?);
    let Dialect { by_queue, skip_locked, .. } = tx.conn.dialect();
    let asked_for = query(format!(
        "SELECT * FROM tasks {by_queue}
         WHERE state = 'CREATED' AND not_before <= $1 AND (polled_at <= $2) IS NOT TRUE
         ORDER BY due, seq LIMIT 1 {skip_locked}"
    ));
    let any = query(format!(
        "SELECT * FROM tasks {by_queue}
         WHERE state = 'CREATED' AND not_before <= $1 ORDER BY due, seq LIMIT 1 {skip_locked}"
    ));
    let row = match asked_for.bind(now).bind(forgotten).fetch_optional(tx.conn).await? {
        None => any.bind(now).fetch_optional(tx.conn).await?,
        found => found,
    };
    let Some(record) = row.as_ref().map(row::record).transpose()? else { return Ok(None) };
    match record.claim(&worker, lease, now, tx.config()) {
        Ok(next) => Ok(Some(advance(tx, &record, next).await?)),
        Err(_) => Ok(None),
    }
}

pub(super) async fn heartbeat(
    tx: &mut Tx<'_>,
    held: Lease,
    lease: Duration,
    report: Report,
) -> Result<Beat, StoreError> {
    let told = report.progress.is_some() || report.plan.is_some();
    let until = after(tx.now().await?, lease);
    let beat = query(
        "UPDATE tasks SET lease_until = $1, progress = coalesce($2, progress), plan = coalesce($3, plan)
         WHERE id = $4 AND state = 'IN_PROGRESS' AND attempt = $5 AND worker = $6",
    )
    .bind(until)
    .bind(report.progress.as_ref())
    .bind(report.plan.as_ref())
    .bind(held.task)
    .bind(held.attempt)
    .bind(held.worker)
    .execute(tx.conn)
    .await?;
    if beat == 1 {
        if told {
            tx.changes.push(Change { task: held.task, state: TaskState::InProgress });
        }
        return Ok(if gives_way(tx, held.task).await? { Beat::GiveWay } else { Beat::Alive });
    }
    match by_id(tx.conn, held.task, "").await? {
        Some(Record { task, .. }) if task.state == TaskState::Cancelled && task.attempt == held.attempt => {
            Ok(Beat::Cancelled)
        }
        _ => Ok(Beat::Lost),
    }
}

/// Whether nobody asks for a running task any more while another one waits that is asked for. A worker that is free would have
/// taken the other within [`FREE_WORKERS_LOOK`].
async fn gives_way(tx: &mut Tx<'_>, running: Uuid) -> Result<bool, StoreError> {
    let Dialect { by_queue, .. } = tx.conn.dialect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE id = $1 AND polled_at <= $2)
            AND EXISTS (SELECT 1 FROM tasks {by_queue}
                        WHERE state = 'CREATED' AND not_before <= $3 AND (polled_at <= $2) IS NOT TRUE) AS way"
    );
    let waited = tx.now().await?.as_millisecond().saturating_sub(FREE_WORKERS_LOOK);
    let forgotten = forgotten(tx).await?;
    query(sql).bind(running).bind(forgotten).bind(waited).fetch_one(tx.conn).await?.truth("way")
}

/// How a worker ends an attempt.
#[derive(Clone)]
pub(super) enum Ending {
    Completed(Value),
    Failed(TaskError, Retry),
    Released,
}

/// Completes, fails or releases a task for the worker that holds it.
pub(super) async fn end_attempt(tx: &mut Tx<'_>, held: Lease, ending: Ending) -> Result<Task, StoreError> {
    let lost = || StoreError::LeaseLost(held.task);
    let for_update = tx.conn.dialect().for_update;
    let record = by_id(tx.conn, held.task, for_update).await?.ok_or_else(lost)?;
    if let Ending::Completed(result) = &ending
        && (record.task.state, record.task.attempt) == (TaskState::Completed, held.attempt)
        && record.task.result == serde_json::from_str(&result.to_string()).ok()
    {
        // Its worker did not hear of it.
        return Ok(record.task);
    }
    let (now, config) = (tx.now().await?, tx.config());
    let next: Result<Record, Refused> = match ending {
        Ending::Completed(result) => record.complete(&held, result, now, config),
        Ending::Failed(error, retry) => record.fail(&held, error, retry, now, config),
        Ending::Released => record.release(&held, now, config),
    };
    advance(tx, &record, next.map_err(|_| lost())?).await
}

pub(super) async fn recover_expired_leases(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let now = tx.now().await?;
    let Dialect { by_leases, skip_locked, .. } = tx.conn.dialect();
    let sql = format!(
        "SELECT * FROM tasks {by_leases}
         WHERE state = 'IN_PROGRESS' AND lease_until <= $1 ORDER BY lease_until LIMIT $2 {skip_locked}"
    );
    let rows = query(sql).bind(now).bind(CHUNK).fetch_all(tx.conn).await?;
    let mut recovered = 0;
    for row in &rows {
        let record = row::record(row)?;
        if let Ok(next) = record.lease_expired(now, tx.config()) {
            let task = advance(tx, &record, next).await?;
            tracing::warn!(task = %task.id, attempt = task.attempt, failures = task.failures, state = %task.state,
                "the lease ran out");
            recovered += 1;
        }
    }
    Ok(recovered)
}

// ---- what the sweeper does to tasks ----

pub(super) async fn take_expired(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Task>, StoreError> {
    let now = tx.now().await?;
    let skip_locked = tx.conn.dialect().skip_locked;
    let sql = format!(
        "UPDATE tasks SET files = 'deleting' WHERE seq IN (
             SELECT seq FROM tasks WHERE files <> 'gone' AND expires_at <= $1 ORDER BY expires_at LIMIT $2 {skip_locked})
         RETURNING *"
    );
    let rows = query(sql).bind(now).bind(limit).fetch_all(tx.conn).await?;
    going(tx, &rows)
}

pub(super) async fn evict_oldest(tx: &mut Tx<'_>, limit: u32, spare: Vec<Uuid>) -> Result<Vec<Task>, StoreError> {
    let now = tx.now().await?;
    let Dialect { by_kept, skip_locked, .. } = tx.conn.dialect();
    let mut sql = query(format!(
        "UPDATE tasks SET files = 'deleting', expires_at = $1 WHERE seq IN (
             SELECT seq FROM tasks {by_kept}
             WHERE files = 'present' AND finished_at IS NOT NULL
               AND seq <> (SELECT seq FROM tasks {by_kept} WHERE files = 'present' AND finished_at IS NOT NULL
                           ORDER BY finished_at DESC, seq DESC LIMIT 1)"
    ))
    .bind(now);
    if !spare.is_empty() {
        sql = sql.push(" AND id NOT IN ").push_list(spare);
    }
    sql = sql.push(" ORDER BY finished_at, seq LIMIT ").push_bind(limit).push(skip_locked).push(") RETURNING *");
    let rows = sql.fetch_all(tx.conn).await?;
    going(tx, &rows)
}

/// Tasks whose files are deleted now, in the order in which they ended.
fn going(tx: &mut Tx<'_>, rows: &[Row]) -> Result<Vec<Task>, StoreError> {
    let mut tasks = row::tasks(rows)?;
    // RETURNING promises no order.
    tasks.sort_by_key(|task| task.finished_at);
    tx.changes.extend(tasks.iter().map(|task| Change { task: task.id, state: task.state }));
    Ok(tasks)
}

pub(super) async fn adopt_retention(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let kept = "UPDATE tasks SET expires_at = NULL WHERE files = 'present' AND expires_at IS NOT NULL";
    let expiring =
        "UPDATE tasks SET expires_at = $1 WHERE files = 'present' AND expires_at IS NULL AND finished_at IS NOT NULL";
    let query = match tx.config().retention {
        None => query(kept),
        Some(retention) => query(expiring).bind(after(tx.now().await?, retention)),
    };
    query.execute(tx.conn).await
}

pub(super) async fn files_deleted(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM tasks WHERE id = $1 AND files = 'deleting' AND hidden = 1",
        "UPDATE tasks SET files = 'gone' WHERE id = $1 AND files = 'deleting'",
    ] {
        query(sql).bind(id).execute(tx.conn).await?;
    }
    Ok(())
}

// ---- writing a task ----

/// Whether the task is new. Leaves `input_object` of SQLite empty: only earlier versions, which may share the database, know
/// that column.
async fn insert(tx: &mut Tx<'_>, record: &Record) -> Result<bool, StoreError> {
    let task = &record.task;
    let inserted = query(
        "INSERT INTO tasks (id, owner, kind, request, input, webhook_url, cost, state, run, attempt, failures,
                            due, not_before, polled_at, created_at, files, hidden)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(task.id)
    .bind(task.owner.clone())
    .bind(task.kind.as_str())
    .bind(&task.request)
    .bind(&task.input)
    .bind(task.webhook_url.clone())
    .bind(task.cost)
    .bind(task.state)
    .bind(task.run)
    .bind(task.attempt)
    .bind(task.failures)
    .bind(record.due)
    .bind(record.not_before)
    .bind(task.polled_at)
    .bind(task.created_at)
    .bind(task.files)
    .execute(tx.conn)
    .await?;
    if inserted == 1 {
        tx.changes.push(Change { task: task.id, state: task.state });
    }
    Ok(inserted == 1)
}

/// Writes `next` over `last`, with the outbox row that the step announces, and returns the task as it is now.
async fn advance(tx: &mut Tx<'_>, last: &Record, next: Record) -> Result<Task, StoreError> {
    let task = &next.task;
    let written = query(
        "UPDATE tasks SET state = $1, run = $2, attempt = $3, failures = $4, worker = $5, lease_until = $6, due = $7,
                          not_before = $8, started_at = $9, finished_at = $10, expires_at = $11, progress = $12,
                          plan = $13, result = $14, error = $15
         WHERE id = $16 AND state = $17 AND attempt = $18",
    )
    .bind(task.state)
    .bind(task.run)
    .bind(task.attempt)
    .bind(task.failures)
    .bind(task.worker.clone())
    .bind(task.lease_until)
    .bind(next.due)
    .bind(next.not_before)
    .bind(task.started_at)
    .bind(task.finished_at)
    .bind(task.expires_at)
    .bind(task.progress.as_ref())
    .bind(task.plan.as_ref())
    .bind(task.result.as_ref())
    .bind(task.error.as_ref())
    .bind(task.id)
    .bind(last.task.state)
    .bind(last.task.attempt)
    .execute(tx.conn)
    .await?;
    // The row was locked when `last` was read, so this cannot happen; if it ever does, nothing may be lost.
    if written != 1 {
        return Err(StoreError::LeaseLost(task.id));
    }
    if let Some(status) = last.announces(&next) {
        outbox::announce(tx, task, status).await?;
    }
    tx.changes.push(Change { task: task.id, state: task.state });
    Ok(next.task)
}
