//! Tasks and idempotency keys.

use std::{collections::BTreeSet, time::Duration};

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
        Beat, Cancelled, Change, Deleted, Idempotency, QueueLimit, QueuePlace, Report, Reserved, Retried, Retry, Scope,
        StoreConfig, Submitted,
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

/// Of its owner's tasks those that are due before, and of each other owner's so many that everybody has had as many turns.
pub(super) async fn queue_place(tx: &mut Tx<'_>, id: Uuid) -> Result<Option<QueuePlace>, StoreError> {
    let Dialect { by_turns, .. } = tx.conn.dialect();
    // Tasks that nobody asks for come last: a comparison with NULL is not true.
    let own = format!(
        "SELECT coalesce(own.owner, '') AS owner, (own.polled_at <= $2) IS TRUE AS forgotten,
                count(ahead.seq) AS ahead, coalesce(sum(ahead.cost), 0.0) AS cost_ahead
         FROM tasks AS own
         LEFT JOIN tasks AS ahead {by_turns}
                ON ahead.state = 'CREATED' AND coalesce(ahead.owner, '') = coalesce(own.owner, '')
               AND ((ahead.polled_at <= $2) IS TRUE, ahead.due, ahead.seq)
                   < ((own.polled_at <= $2) IS TRUE, own.due, own.seq)
         WHERE own.id = $1 AND own.state = 'CREATED'
         GROUP BY own.seq"
    );
    let since = forgotten(tx).await?;
    let Some(own) = query(own).bind(id).bind(since).fetch_optional(tx.conn).await? else { return Ok(None) };
    let mut place = QueuePlace { ahead: own.count("ahead")?, cost_ahead: own.real("cost_ahead")? };
    let turns = place.ahead + 1;
    let others = query(format!(
        "SELECT count(*) AS waiting, coalesce(sum(cost), 0.0) AS cost FROM tasks {by_turns}
         WHERE state = 'CREATED' AND coalesce(owner, '') <> $1"
    ));
    let mut others = others.bind(own.text("owner")?);
    if !own.truth("forgotten")? {
        others = others.push(" AND (polled_at <= ").push_bind(since).push(") IS NOT TRUE");
    }
    for row in others.push(" GROUP BY coalesce(owner, '')").fetch_all(tx.conn).await? {
        let waiting: u64 = row.count("waiting")?;
        let before = waiting.min(turns);
        place.ahead += before;
        place.cost_ahead += row.real("cost")? * before as f64 / waiting as f64;
    }
    Ok(Some(place))
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

/// What a transaction that adds a task to the queue found there.
pub(super) enum Room<T> {
    Enough(T),
    /// So little that others must not add any meanwhile: again, with [`Crowd::Alone`].
    Scarce,
}

/// Who may add tasks at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Crowd {
    /// Others, too: while the queue is so far from its limit that all connections together cannot reach it.
    Together,
    /// Nobody else.
    Alone,
}

pub(super) async fn submit(
    tx: &mut Tx<'_>,
    new: NewTask,
    idempotency: Option<Idempotency>,
    crowd: Crowd,
) -> Result<Room<Submitted>, StoreError> {
    let owner = new.owner.clone().unwrap_or_default();
    if let Some(key) = &idempotency {
        match remembered(tx, &owner, key).await? {
            Some(Known::Task(task)) => return Ok(Room::Enough(Submitted::Replayed(task))),
            Some(Known::InFlight) => return Ok(Room::Enough(Submitted::InFlight)),
            Some(Known::Mismatch) => return Ok(Room::Enough(Submitted::Mismatch)),
            None => {}
        }
    }
    let Room::Enough(full) = queue_full(tx, new.owner.as_deref(), crowd).await? else { return Ok(Room::Scarce) };
    let now = tx.now().await?;
    let record = Record::new(new, now, tx.config());
    if full.is_some() || !insert(tx, &record).await? {
        // A caller that heard nothing repeats itself.
        if let Some(there) = by_id(tx.conn, record.task.id, "").await? {
            return Ok(Room::Enough(Submitted::Created(there.task)));
        }
    }
    if let Some(limit) = full {
        return Ok(Room::Enough(Submitted::QueueFull(limit)));
    }
    if let Some(key) = &idempotency {
        let until = after(now, tx.config().idempotency_ttl);
        remember(tx.conn, &owner, key, Claim::Task(record.task.id), until).await?;
    }
    Ok(Room::Enough(Submitted::Created(record.task)))
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

/// The limit that keeps one more task of this owner out, if any. Until the end of the transaction nobody else adds so many that
/// it would be exceeded.
///
/// Those who add together do so only if the committed tasks they count leave room for one more by each connection that the
/// server allows. Whoever has not committed when the last of them counts has a connection of its own, so the limit is not exceeded.
async fn queue_full(
    tx: &mut Tx<'_>,
    owner: Option<&str>,
    crowd: Crowd,
) -> Result<Room<Option<QueueLimit>>, StoreError> {
    tx.conn.lock(if crowd == Crowd::Alone { Lock::Queue } else { Lock::QueueShared }).await?;
    let StoreConfig { queue_limit, owner_queue_limit, .. } = *tx.config();
    let Dialect { by_queue, by_queue_owner, at_once, .. } = tx.conn.dialect();
    let count = format!(
        "SELECT (SELECT count(*) FROM tasks {by_queue} WHERE state = 'CREATED') AS waiting,
                (SELECT count(*) FROM tasks {by_queue_owner} WHERE state = 'CREATED' AND owner = $1) AS own,
                {at_once} AS at_once"
    );
    let count = query(count).bind(owner.map(str::to_owned)).fetch_one(tx.conn).await?;
    let (all, own, at_once): (u64, u64, u64) = (count.count("waiting")?, count.count("own")?, count.count("at_once")?);
    let scarce = all + at_once > queue_limit || (owner.is_some() && own + at_once > owner_queue_limit);
    if scarce && crowd == Crowd::Together {
        return Ok(Room::Scarce);
    }
    let (of_owner, limit) = if own >= owner_queue_limit && owner.is_some() {
        (true, owner_queue_limit)
    } else if all >= queue_limit {
        (false, queue_limit)
    } else {
        return Ok(Room::Enough(None));
    };
    let mean = format!("SELECT coalesce(avg(cost), 0.0) AS mean FROM tasks {by_queue} WHERE state = 'CREATED'");
    let mean = query(mean).fetch_one(tx.conn).await?.real("mean")?;
    let retry_after = Duration::from_secs_f64(mean.ceil().clamp(1.0, 3600.0));
    Ok(Room::Enough(Some(QueueLimit { of_owner, limit, retry_after })))
}

// ---- what users do to tasks ----

pub(super) async fn cancel(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Cancelled, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Cancelled::NotFound) };
    match record.cancel(tx.now().await?, tx.config()) {
        Ok(next) => Ok(Cancelled::Done(advance(tx, &record, next).await?)),
        Err(_) => Ok(Cancelled::AlreadyDone(record.task)),
    }
}

pub(super) async fn retry(tx: &mut Tx<'_>, id: Uuid, scope: Scope, crowd: Crowd) -> Result<Room<Retried>, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Room::Enough(Retried::NotFound)) };
    let Ok(next) = record.retry(tx.now().await?, tx.config()) else {
        return Ok(Room::Enough(Retried::NotRetryable(record.task)));
    };
    if record.task.files != Files::Present {
        return Ok(Room::Enough(Retried::InputGone(record.task)));
    }
    match queue_full(tx, record.task.owner.as_deref(), crowd).await? {
        Room::Scarce => Ok(Room::Scarce),
        Room::Enough(Some(limit)) => Ok(Room::Enough(Retried::QueueFull(limit))),
        Room::Enough(None) => Ok(Room::Enough(Retried::Queued(advance(tx, &record, next).await?))),
    }
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: Uuid, scope: Scope) -> Result<Deleted, StoreError> {
    let Some(record) = hold(tx.conn, id, &scope).await? else { return Ok(Deleted::NotFound) };
    if !record.task.state.is_terminal() {
        return Ok(Deleted::StillActive(record.task));
    }
    let now = tx.now().await?;
    hide(tx, id, now).await?;
    tx.changes.push(Change { task: id, state: record.task.state });
    Ok(Deleted::Done)
}

/// Deletes a task that has ended: the sweeper deletes its files, and then its row.
pub(super) async fn hide(tx: &mut Tx<'_>, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    // Back from "gone" to "deleting": the row leaves by the same door, whether its files went before or not.
    let sql = "UPDATE tasks SET hidden = 1, files = 'deleting',
                                expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END
               WHERE id = $2";
    query(sql).bind(now).bind(id).execute(tx.conn).await?;
    // The key is free again: a replay must not answer with a task that is not there.
    query("DELETE FROM idempotency_keys WHERE task = $1").bind(id).execute(tx.conn).await?;
    Ok(())
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

pub(super) async fn claim(
    tx: &mut Tx<'_>,
    worker: String,
    lease: Duration,
    can: Option<BTreeSet<String>>,
) -> Result<Option<Task>, StoreError> {
    recover_expired_leases(tx).await?;
    let now = tx.now().await?;
    let mut eligible = Eligible { now, forgotten: Some(forgotten(tx).await?), able: able(tx, can).await? };
    loop {
        for owner in waiting_owners(tx, &eligible).await? {
            let Dialect { by_turns, skip_locked, .. } = tx.conn.dialect();
            let next = format!("SELECT * FROM tasks {by_turns} WHERE state = 'CREATED' AND coalesce(owner, '') = ");
            let next = eligible.add_to(query(next).push_bind(owner.as_str()));
            let next = next.push(" ORDER BY due, seq LIMIT 1").push(skip_locked);
            // Others may have taken the last one meanwhile.
            let Some(row) = next.fetch_optional(tx.conn).await? else { continue };
            let record = row::record(&row)?;
            let Ok(next) = record.claim(&worker, lease, now, tx.config()) else { continue };
            take_turn(tx, &owner).await?;
            return Ok(Some(advance(tx, &record, next).await?));
        }
        // Tasks that nobody asks for come last.
        if eligible.forgotten.take().is_none() {
            return Ok(None);
        }
    }
}

/// Which of the waiting tasks may be claimed.
struct Eligible {
    now: Timestamp,
    /// Only those that were asked for since then.
    forgotten: Option<i64>,
    /// Only those that need nothing, or one of these sets. `None`: any.
    able: Option<Vec<String>>,
}

impl Eligible {
    fn add_to(&self, mut sql: Query) -> Query {
        sql = sql.push(" AND not_before <= ").push_bind(self.now);
        if let Some(forgotten) = self.forgotten {
            sql = sql.push(" AND (polled_at <= ").push_bind(forgotten).push(") IS NOT TRUE");
        }
        match &self.able {
            None => sql,
            Some(able) if able.is_empty() => sql.push(" AND needs IS NULL"),
            Some(able) => {
                sql.push(" AND (needs IS NULL OR needs IN ").push_list(able.iter().map(String::as_str)).push(")")
            }
        }
    }
}

/// What waiting tasks need, as it is stored, of which a worker has all. `None` if it can run any.
async fn able(tx: &mut Tx<'_>, can: Option<BTreeSet<String>>) -> Result<Option<Vec<String>>, StoreError> {
    let Some(can) = can else { return Ok(None) };
    let needed = "SELECT DISTINCT needs FROM tasks WHERE state = 'CREATED' AND needs IS NOT NULL";
    let mut able = Vec::new();
    for row in query(needed).fetch_all(tx.conn).await? {
        let needs = row.text("needs")?;
        if row::needs(Some(needs)).is_subset(&can) {
            able.push(needs.to_owned());
        }
    }
    Ok(Some(able))
}

/// Whose tasks may be claimed, whoever waited longest for a turn first. Nothing is locked by it.
async fn waiting_owners(tx: &mut Tx<'_>, eligible: &Eligible) -> Result<Vec<String>, StoreError> {
    /// Some of those at the front may be taken before we get there.
    const FRONT: u32 = 16;
    let Dialect { by_turns, .. } = tx.conn.dialect();
    // From each owner to the next by the index, however many tasks they have.
    let owners = query(format!(
        "WITH RECURSIVE waiting (owner) AS (
             SELECT (SELECT coalesce(owner, '') FROM tasks {by_turns} WHERE state = 'CREATED'
                     ORDER BY coalesce(owner, '') LIMIT 1)
             UNION ALL
             SELECT (SELECT coalesce(tasks.owner, '') FROM tasks {by_turns}
                     WHERE state = 'CREATED' AND coalesce(tasks.owner, '') > waiting.owner
                     ORDER BY coalesce(tasks.owner, '') LIMIT 1)
             FROM waiting WHERE waiting.owner IS NOT NULL)
         SELECT waiting.owner AS owner
         FROM waiting LEFT JOIN turns ON turns.owner = waiting.owner
         WHERE waiting.owner IS NOT NULL
           AND EXISTS (SELECT 1 FROM tasks {by_turns}
                       WHERE state = 'CREATED' AND coalesce(tasks.owner, '') = waiting.owner"
    ));
    let owners = eligible.add_to(owners).push(
        ")
         ORDER BY coalesce(turns.turn, 0), waiting.owner LIMIT ",
    );
    let rows = owners.push_bind(FRONT).fetch_all(tx.conn).await?;
    rows.iter().map(|row| Ok(row.text("owner")?.to_owned())).collect()
}

/// Notes that it was an owner's turn.
async fn take_turn(tx: &mut Tx<'_>, owner: &str) -> Result<(), StoreError> {
    let skip_locked = tx.conn.dialect().skip_locked;
    // Whoever is taking another task of this owner at the moment notes nearly the same, and is not waited for.
    let noted = format!(
        "UPDATE turns SET turn = (SELECT max(turn) FROM turns) + 1
         WHERE owner = (SELECT owner FROM turns WHERE owner = $1{skip_locked})"
    );
    if query(noted).bind(owner).execute(tx.conn).await? == 0 {
        query(
            "INSERT INTO turns (owner, turn) SELECT $1, coalesce(max(turn), 0) + 1 FROM turns WHERE true
             ON CONFLICT (owner) DO NOTHING",
        )
        .bind(owner)
        .execute(tx.conn)
        .await?;
    }
    Ok(())
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
                            due, not_before, polled_at, created_at, files, needs, hidden)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0)
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
    .bind(stored(&task.needs))
    .execute(tx.conn)
    .await?;
    if inserted == 1 {
        tx.changes.push(Change { task: task.id, state: task.state });
    }
    Ok(inserted == 1)
}

/// What a task needs, as it is stored: equal for tasks that need the same.
fn stored(needs: &BTreeSet<String>) -> Option<String> {
    (!needs.is_empty()).then(|| needs.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))
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
