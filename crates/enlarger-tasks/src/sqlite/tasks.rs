//! Tasks and idempotency keys.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{
    QueryBuilder, Row as _,
    sqlite::{Sqlite, SqliteConnection, SqliteRow},
};
use uuid::Uuid;

use super::{CHUNK, Context, outbox, row, writer::Tx};
use crate::{
    error::StoreError,
    record::{Record, after},
    state::{Refused, TaskState},
    store::{
        Beat, Cancelled, Change, Deleted, Idempotency, ListQuery, Page, QueueLimit, QueuePlace, Report, Reserved,
        Retried, Scope, Submitted,
    },
    task::{Files, Lease, NewTask, Task},
};

/// Free workers look for work at least this often, in milliseconds.
const FREE_WORKERS_LOOK: i64 = 2000;

// ---- reading ----

/// The task with this id, if this scope may see it.
pub(super) async fn visible(
    conn: &mut SqliteConnection,
    id: Uuid,
    scope: &Scope,
) -> Result<Option<Record>, StoreError> {
    let Some(record) = by_id(conn, id).await? else { return Ok(None) };
    let ours = match scope {
        Scope::All => true,
        Scope::Owner(owner) => record.task.owner.as_ref() == Some(owner),
    };
    Ok((ours && !record.hidden).then_some(record))
}

async fn by_id(conn: &mut SqliteConnection, id: Uuid) -> Result<Option<Record>, StoreError> {
    let row = sqlx::query("SELECT * FROM tasks WHERE id = ?").bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(row::record).transpose()
}

pub(super) async fn list(conn: &mut SqliteConnection, query: &ListQuery, scope: &Scope) -> Result<Page, StoreError> {
    let mut count = QueryBuilder::new("SELECT count(*) FROM tasks");
    filter(&mut count, query, scope);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *conn).await?;

    let per_page = query.per_page.clamp(1, 1000);
    let skip = query.page.saturating_sub(1).saturating_mul(per_page);
    let mut page = QueryBuilder::new("SELECT * FROM tasks");
    filter(&mut page, query, scope);
    page.push(" ORDER BY seq DESC LIMIT ").push_bind(integer(per_page));
    page.push(" OFFSET ").push_bind(integer(skip));
    let tasks = tasks(&page.build().fetch_all(conn).await?)?;
    Ok(Page { tasks, total: total.unsigned_abs() })
}

fn filter(sql: &mut QueryBuilder<Sqlite>, query: &ListQuery, scope: &Scope) {
    sql.push(" WHERE hidden = 0");
    if let Scope::Owner(owner) = scope {
        sql.push(" AND owner = ").push_bind(owner.clone());
    }
    if !query.kinds.is_empty() {
        sql.push(" AND kind IN (");
        let mut kinds = sql.separated(", ");
        for kind in &query.kinds {
            kinds.push_bind(kind.clone());
        }
        sql.push(")");
    }
    if !query.states.is_empty() {
        sql.push(" AND state IN (");
        let mut states = sql.separated(", ");
        for state in &query.states {
            states.push_bind(state.as_str());
        }
        sql.push(")");
    }
}

pub(super) async fn queue_place(
    conn: &mut SqliteConnection,
    context: &Context,
    id: Uuid,
) -> Result<Option<QueuePlace>, StoreError> {
    // Tasks that nobody asks for come last: a comparison with NULL is not true.
    let sql = "SELECT count(ahead.seq) AS ahead, total(ahead.cost) AS cost_ahead
               FROM tasks AS own
               LEFT JOIN tasks AS ahead INDEXED BY tasks_queue
                      ON ahead.state = 'CREATED'
                     AND (ahead.polled_at <= ?2 IS TRUE, ahead.due, ahead.seq)
                         < (own.polled_at <= ?2 IS TRUE, own.due, own.seq)
               WHERE own.id = ?1 AND own.state = 'CREATED'
               GROUP BY own.seq";
    let query = sqlx::query(sql).bind(id.to_string()).bind(forgotten(context));
    let row = query.fetch_optional(conn).await?;
    let place = |row: SqliteRow| {
        Ok(QueuePlace { ahead: row.try_get::<i64, _>("ahead")?.unsigned_abs(), cost_ahead: row.try_get("cost_ahead")? })
    };
    row.map(place).transpose()
}

/// A task whose client must ask, and asked last at this time or before, is not asked for any more.
fn forgotten(context: &Context) -> i64 {
    let patience = i64::try_from(context.config.poll_patience.as_millis()).unwrap_or(i64::MAX);
    context.now().as_millisecond().saturating_sub(patience)
}

/// Whether a claim would find or recover anything.
pub(super) async fn claimable(conn: &mut SqliteConnection, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_queue
                              WHERE state = 'CREATED' AND not_before <= ?1)
                   OR EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_leases
                              WHERE state = 'IN_PROGRESS' AND lease_until <= ?1)";
    Ok(sqlx::query_scalar::<_, i64>(sql).bind(now.as_millisecond()).fetch_one(conn).await? != 0)
}

// ---- submitting ----

pub(super) async fn reserve(
    tx: &mut Tx<'_>,
    context: &Context,
    owner: Option<String>,
    key: Idempotency,
) -> Result<Reserved, StoreError> {
    let owner = owner.unwrap_or_default();
    match remembered(tx.conn, context.now(), &owner, &key).await? {
        Some(Known::Task(task)) => Ok(Reserved::Replayed(task)),
        Some(Known::InFlight) => Ok(Reserved::InFlight),
        Some(Known::Mismatch) => Ok(Reserved::Mismatch),
        None => {
            let token = Uuid::new_v4();
            let until = after(context.now(), context.config.reservation_ttl);
            remember(tx.conn, &owner, &key, Claim::Reservation(token), until).await?;
            Ok(Reserved::Yours(token))
        }
    }
}

pub(super) async fn unreserve(tx: &mut Tx<'_>, token: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE token = ?").bind(token.to_string()).execute(&mut *tx.conn).await?;
    Ok(())
}

pub(super) async fn submit(
    tx: &mut Tx<'_>,
    context: &Context,
    new: NewTask,
    idempotency: Option<Idempotency>,
) -> Result<Submitted, StoreError> {
    let now = context.now();
    let owner = new.owner.clone().unwrap_or_default();
    if let Some(key) = &idempotency {
        match remembered(tx.conn, now, &owner, key).await? {
            Some(Known::Task(task)) => return Ok(Submitted::Replayed(task)),
            Some(Known::InFlight) => return Ok(Submitted::InFlight),
            Some(Known::Mismatch) => return Ok(Submitted::Mismatch),
            None => {}
        }
    }
    if let Some(limit) = queue_full(tx.conn, context, new.owner.as_deref()).await? {
        return Ok(Submitted::QueueFull(limit));
    }
    let record = Record::new(new, now, &context.config);
    insert(tx, &record).await?;
    if let Some(key) = &idempotency {
        let until = after(now, context.config.idempotency_ttl);
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

/// What `key` stands for, or `None` when it is free for this caller (new, expired, or its own reservation).
async fn remembered(
    conn: &mut SqliteConnection,
    now: Timestamp,
    owner: &str,
    key: &Idempotency,
) -> Result<Option<Known>, StoreError> {
    let sql = "SELECT body_hash, task, token FROM idempotency_keys WHERE owner = ? AND key = ? AND expires_at > ?";
    let query = sqlx::query(sql).bind(owner).bind(&key.key).bind(now.as_millisecond());
    let Some(row) = query.fetch_optional(&mut *conn).await? else { return Ok(None) };
    if row.try_get::<&[u8], _>("body_hash")? != key.body_hash {
        return Ok(Some(Known::Mismatch));
    }
    if row.try_get::<Option<&str>, _>("task")?.is_some() {
        return Ok(by_id(conn, row::parsed(&row, "task")?).await?.map(|record| Known::Task(record.task)));
    }
    let ours = key.reservation.is_some() && key.reservation == Some(row::parsed(&row, "token")?);
    Ok((!ours).then_some(Known::InFlight))
}

async fn remember(
    conn: &mut SqliteConnection,
    owner: &str,
    key: &Idempotency,
    claim: Claim,
    until: Timestamp,
) -> Result<(), StoreError> {
    let (task, token) = match claim {
        Claim::Task(task) => (Some(task.to_string()), None),
        Claim::Reservation(token) => (None, Some(token.to_string())),
    };
    sqlx::query(
        "INSERT OR REPLACE INTO idempotency_keys (owner, key, body_hash, task, token, expires_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(owner)
    .bind(&key.key)
    .bind(&key.body_hash[..])
    .bind(task)
    .bind(token)
    .bind(until.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// The limit that keeps one more task of this owner out, if any.
async fn queue_full(
    conn: &mut SqliteConnection,
    context: &Context,
    owner: Option<&str>,
) -> Result<Option<QueueLimit>, StoreError> {
    let config = &context.config;
    let all = "SELECT count(*) FROM tasks INDEXED BY tasks_queue WHERE state = 'CREATED'";
    let all: i64 = sqlx::query_scalar(all).fetch_one(&mut *conn).await?;
    let own = match owner {
        Some(owner) => {
            let own = "SELECT count(*) FROM tasks INDEXED BY tasks_queue_owner WHERE state = 'CREATED' AND owner = ?";
            sqlx::query_scalar::<_, i64>(own).bind(owner).fetch_one(&mut *conn).await?
        }
        None => 0,
    };
    let (of_owner, limit) = if own.unsigned_abs() >= config.owner_queue_limit && owner.is_some() {
        (true, config.owner_queue_limit)
    } else if all.unsigned_abs() >= config.queue_limit {
        (false, config.queue_limit)
    } else {
        return Ok(None);
    };
    let mean = "SELECT coalesce(avg(cost), 0.0) FROM tasks INDEXED BY tasks_queue WHERE state = 'CREATED'";
    let mean: f64 = sqlx::query_scalar(mean).fetch_one(conn).await?;
    Ok(Some(QueueLimit { of_owner, limit, retry_after: Duration::from_secs_f64(mean.ceil().clamp(1.0, 3600.0)) }))
}

// ---- what users do to tasks ----

pub(super) async fn cancel(
    tx: &mut Tx<'_>,
    context: &Context,
    id: Uuid,
    scope: &Scope,
) -> Result<Cancelled, StoreError> {
    let Some(record) = visible(tx.conn, id, scope).await? else { return Ok(Cancelled::NotFound) };
    match record.cancel(context.now(), &context.config) {
        Ok(next) => Ok(Cancelled::Done(advance(tx, context, &record, next).await?)),
        Err(_) => Ok(Cancelled::AlreadyDone(record.task)),
    }
}

pub(super) async fn retry(tx: &mut Tx<'_>, context: &Context, id: Uuid, scope: &Scope) -> Result<Retried, StoreError> {
    let Some(record) = visible(tx.conn, id, scope).await? else { return Ok(Retried::NotFound) };
    let Ok(next) = record.retry(context.now(), &context.config) else {
        return Ok(Retried::NotRetryable(record.task));
    };
    if record.task.files != Files::Present {
        return Ok(Retried::InputGone(record.task));
    }
    if let Some(limit) = queue_full(tx.conn, context, record.task.owner.as_deref()).await? {
        return Ok(Retried::QueueFull(limit));
    }
    Ok(Retried::Queued(advance(tx, context, &record, next).await?))
}

pub(super) async fn delete(tx: &mut Tx<'_>, context: &Context, id: Uuid, scope: &Scope) -> Result<Deleted, StoreError> {
    let Some(record) = visible(tx.conn, id, scope).await? else { return Ok(Deleted::NotFound) };
    if !record.task.state.is_terminal() {
        return Ok(Deleted::StillActive(record.task));
    }
    // Back from "gone" to "deleting": the row leaves by the same door, whether its files went before or not.
    let sql =
        "UPDATE tasks SET hidden = 1, files = 'deleting', expires_at = min(coalesce(expires_at, ?1), ?1) WHERE id = ?2";
    sqlx::query(sql).bind(context.now().as_millisecond()).bind(id.to_string()).execute(&mut *tx.conn).await?;
    // The key is free again: a replay must not answer with a task that is not there.
    sqlx::query("DELETE FROM idempotency_keys WHERE task = ?").bind(id.to_string()).execute(&mut *tx.conn).await?;
    tx.changes.push(Change { task: id, state: record.task.state });
    Ok(Deleted::Done)
}

pub(super) async fn polled(tx: &mut Tx<'_>, polls: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
    for (id, at) in polls {
        sqlx::query(
            "UPDATE tasks SET polled_at = max(polled_at, ?)
             WHERE id = ? AND state IN ('CREATED', 'IN_PROGRESS') AND polled_at IS NOT NULL",
        )
        .bind(at.as_millisecond())
        .bind(id.to_string())
        .execute(&mut *tx.conn)
        .await?;
    }
    Ok(())
}

// ---- what workers do to tasks ----

pub(super) async fn claim(
    tx: &mut Tx<'_>,
    context: &Context,
    worker: &str,
    lease: Duration,
) -> Result<Option<Task>, StoreError> {
    recover_expired_leases(tx, context).await?;
    let now = context.now();
    let asked_for = "SELECT * FROM tasks INDEXED BY tasks_queue
                     WHERE state = 'CREATED' AND not_before <= ?1 AND polled_at <= ?2 IS NOT TRUE
                     ORDER BY due, seq LIMIT 1";
    let any = "SELECT * FROM tasks INDEXED BY tasks_queue
               WHERE state = 'CREATED' AND not_before <= ?1 ORDER BY due, seq LIMIT 1";
    let mut row = None;
    for sql in [asked_for, any] {
        if row.is_none() {
            let query = sqlx::query(sql).bind(now.as_millisecond()).bind(forgotten(context));
            row = query.fetch_optional(&mut *tx.conn).await?;
        }
    }
    let Some(record) = row.as_ref().map(row::record).transpose()? else { return Ok(None) };
    match record.claim(worker, lease, now, &context.config) {
        Ok(next) => Ok(Some(advance(tx, context, &record, next).await?)),
        Err(_) => Ok(None),
    }
}

pub(super) async fn heartbeat(
    tx: &mut Tx<'_>,
    context: &Context,
    held: &Lease,
    lease: Duration,
    report: Report,
) -> Result<Beat, StoreError> {
    let told = report.progress.is_some() || report.plan.is_some();
    let beat = sqlx::query(
        "UPDATE tasks SET lease_until = ?, progress = coalesce(?, progress), plan = coalesce(?, plan)
         WHERE id = ? AND state = 'IN_PROGRESS' AND attempt = ? AND worker = ?",
    )
    .bind(after(context.now(), lease).as_millisecond())
    .bind(report.progress.as_ref().map(row::to_json))
    .bind(report.plan.as_ref().map(row::to_json))
    .bind(held.task.to_string())
    .bind(held.attempt)
    .bind(&held.worker)
    .execute(&mut *tx.conn)
    .await?;
    if beat.rows_affected() == 1 {
        if told {
            tx.changes.push(Change { task: held.task, state: TaskState::InProgress });
        }
        return Ok(if gives_way(tx.conn, context, held.task).await? { Beat::GiveWay } else { Beat::Alive });
    }
    match by_id(tx.conn, held.task).await? {
        Some(Record { task, .. }) if task.state == TaskState::Cancelled && task.attempt == held.attempt => {
            Ok(Beat::Cancelled)
        }
        _ => Ok(Beat::Lost),
    }
}

/// Whether nobody asks for a running task any more while another one waits that is asked for. A worker that is free would have
/// taken the other within [`FREE_WORKERS_LOOK`].
async fn gives_way(conn: &mut SqliteConnection, context: &Context, running: Uuid) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND polled_at <= ?2)
                  AND EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_queue
                              WHERE state = 'CREATED' AND not_before <= ?3 AND polled_at <= ?2 IS NOT TRUE)";
    let waited = context.now().as_millisecond().saturating_sub(FREE_WORKERS_LOOK);
    let query = sqlx::query_scalar::<_, i64>(sql).bind(running.to_string()).bind(forgotten(context)).bind(waited);
    Ok(query.fetch_one(conn).await? != 0)
}

/// Completes, fails or releases a task for the worker that holds it.
pub(super) async fn end_attempt(
    tx: &mut Tx<'_>,
    context: &Context,
    held: &Lease,
    step: impl FnOnce(&Record, Timestamp) -> Result<Record, Refused> + Send,
) -> Result<Task, StoreError> {
    let lost = || StoreError::LeaseLost(held.task);
    let record = by_id(tx.conn, held.task).await?.ok_or_else(lost)?;
    let next = step(&record, context.now()).map_err(|_| lost())?;
    advance(tx, context, &record, next).await
}

pub(super) async fn recover_expired_leases(tx: &mut Tx<'_>, context: &Context) -> Result<u64, StoreError> {
    let now = context.now();
    let sql = "SELECT * FROM tasks INDEXED BY tasks_leases
               WHERE state = 'IN_PROGRESS' AND lease_until <= ? ORDER BY lease_until LIMIT ?";
    let rows = sqlx::query(sql).bind(now.as_millisecond()).bind(CHUNK).fetch_all(&mut *tx.conn).await?;
    let mut recovered = 0;
    for row in &rows {
        let record = row::record(row)?;
        if let Ok(next) = record.lease_expired(now, &context.config) {
            let task = advance(tx, context, &record, next).await?;
            tracing::warn!(task = %task.id, attempt = task.attempt, failures = task.failures, state = %task.state,
                "the lease ran out");
            recovered += 1;
        }
    }
    Ok(recovered)
}

// ---- what the sweeper does to tasks ----

pub(super) async fn take_expired(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError> {
    let rows = sqlx::query(
        "UPDATE tasks SET files = 'deleting' WHERE seq IN (
             SELECT seq FROM tasks WHERE files <> 'gone' AND expires_at <= ? ORDER BY expires_at LIMIT ?)
         RETURNING *",
    )
    .bind(now.as_millisecond())
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    let tasks = tasks(&rows)?;
    tx.changes.extend(tasks.iter().map(|task| Change { task: task.id, state: task.state }));
    Ok(tasks)
}

pub(super) async fn evict_oldest(
    tx: &mut Tx<'_>,
    now: Timestamp,
    limit: u32,
    spare: &[Uuid],
) -> Result<Vec<Task>, StoreError> {
    let spare: Vec<String> = spare.iter().map(Uuid::to_string).collect();
    let rows = sqlx::query(
        "UPDATE tasks SET files = 'deleting', expires_at = ?1 WHERE seq IN (
             SELECT seq FROM tasks INDEXED BY tasks_kept
             WHERE files = 'present' AND finished_at IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?2))
               AND seq <> (SELECT seq FROM tasks INDEXED BY tasks_kept WHERE files = 'present' AND finished_at IS NOT NULL
                           ORDER BY finished_at DESC, seq DESC LIMIT 1)
             ORDER BY finished_at, seq LIMIT ?3)
         RETURNING *",
    )
    .bind(now.as_millisecond())
    .bind(row::to_json(&spare))
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    let tasks = tasks(&rows)?;
    tx.changes.extend(tasks.iter().map(|task| Change { task: task.id, state: task.state }));
    Ok(tasks)
}

pub(super) async fn adopt_retention(tx: &mut Tx<'_>, context: &Context) -> Result<u64, StoreError> {
    let sql = match context.config.retention {
        None => "UPDATE tasks SET expires_at = NULL WHERE files = 'present' AND expires_at IS NOT NULL",
        Some(_) => {
            "UPDATE tasks SET expires_at = ? WHERE files = 'present' AND expires_at IS NULL AND finished_at IS NOT NULL"
        }
    };
    let until = context.config.retention.map(|retention| after(context.now(), retention).as_millisecond());
    let query = sqlx::query(sql);
    let query = if let Some(until) = until { query.bind(until) } else { query };
    Ok(query.execute(&mut *tx.conn).await?.rows_affected())
}

pub(super) async fn files_deleted(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM tasks WHERE id = ? AND files = 'deleting' AND hidden = 1",
        "UPDATE tasks SET files = 'gone' WHERE id = ? AND files = 'deleting'",
    ] {
        sqlx::query(sql).bind(id.to_string()).execute(&mut *tx.conn).await?;
    }
    Ok(())
}

// ---- writing a task ----

/// Leaves `input_object` empty: only earlier versions, which may share the database, know that column.
async fn insert(tx: &mut Tx<'_>, record: &Record) -> Result<(), StoreError> {
    let task = &record.task;
    sqlx::query(
        "INSERT INTO tasks (id, owner, kind, request, input, webhook_url, cost, state, run, attempt, failures,
                            due, not_before, polled_at, created_at, files, hidden)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(task.id.to_string())
    .bind(&task.owner)
    .bind(&task.kind)
    .bind(row::to_json(&task.request))
    .bind(row::to_json(&task.input))
    .bind(&task.webhook_url)
    .bind(task.cost)
    .bind(task.state.as_str())
    .bind(task.run)
    .bind(task.attempt)
    .bind(task.failures)
    .bind(record.due)
    .bind(record.not_before.as_millisecond())
    .bind(milliseconds(task.polled_at))
    .bind(task.created_at.as_millisecond())
    .bind(row::files_str(task.files))
    .bind(record.hidden)
    .execute(&mut *tx.conn)
    .await?;
    tx.changes.push(Change { task: task.id, state: task.state });
    Ok(())
}

/// Writes `next` over `last`, with the outbox row that the step announces, and returns the task as it is now.
async fn advance(tx: &mut Tx<'_>, context: &Context, last: &Record, next: Record) -> Result<Task, StoreError> {
    let task = &next.task;
    let written = sqlx::query(
        "UPDATE tasks SET state = ?, run = ?, attempt = ?, failures = ?, worker = ?, lease_until = ?, due = ?,
                          not_before = ?, started_at = ?, finished_at = ?, expires_at = ?, progress = ?, plan = ?,
                          result = ?, error = ?
         WHERE id = ? AND state = ? AND attempt = ?",
    )
    .bind(task.state.as_str())
    .bind(task.run)
    .bind(task.attempt)
    .bind(task.failures)
    .bind(&task.worker)
    .bind(milliseconds(task.lease_until))
    .bind(next.due)
    .bind(next.not_before.as_millisecond())
    .bind(milliseconds(task.started_at))
    .bind(milliseconds(task.finished_at))
    .bind(milliseconds(task.expires_at))
    .bind(task.progress.as_ref().map(row::to_json))
    .bind(task.plan.as_ref().map(row::to_json))
    .bind(task.result.as_ref().map(row::to_json))
    .bind(task.error.as_ref().map(row::to_json))
    .bind(task.id.to_string())
    .bind(last.task.state.as_str())
    .bind(last.task.attempt)
    .execute(&mut *tx.conn)
    .await?;
    // The write lock was taken before `last` was read, so this cannot happen; if it ever does, nothing may be lost.
    if written.rows_affected() != 1 {
        return Err(StoreError::LeaseLost(task.id));
    }
    if let Some(status) = last.announces(&next) {
        outbox::announce(tx.conn, context.now(), task, status).await?;
    }
    tx.changes.push(Change { task: task.id, state: task.state });
    Ok(next.task)
}

fn tasks(rows: &[SqliteRow]) -> Result<Vec<Task>, StoreError> {
    rows.iter().map(|row| row::record(row).map(|record| record.task)).collect()
}

fn milliseconds(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.as_millisecond())
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
