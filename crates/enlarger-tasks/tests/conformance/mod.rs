//! What every [`Store`] must do. A backend implements [`Backend`] and calls `conformance!(ItsType)`; each promise is then
//! a test of its own. Time stands still unless a test moves it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use enlarger_tasks::{
    About, Beat, Cancelled, Clock, Deleted, Delivery, Files, Idempotency, Lease, ListQuery, ManualClock, NewApiKey,
    NewObject, NewTask, Node, Object, ObjectState, Report, Reserved, Retried, Retry, Scope, Store, StoreConfig,
    StoreError, Submitted, Task, TaskError, TaskState, open_store,
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};
use uuid::Uuid;

/// One fresh database, which goes when this does.
pub trait Backend: Send + Sync + 'static {
    fn new() -> Self
    where
        Self: Sized;
    /// Where it is, for [`open_store`].
    fn url(&self) -> String;
}

/// A database, a clock, and a store opened on both.
pub struct Bench {
    backend: Box<dyn Backend>,
    pub clock: Arc<ManualClock>,
    pub config: StoreConfig,
    pub store: Store,
}

pub const LEASE: Duration = Duration::from_secs(30);
/// Not long ago at all.
const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const OWNER: &str = "key-1";

impl Bench {
    pub async fn new(backend: Box<dyn Backend>, config: StoreConfig) -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let store = open_store(&backend.url(), config.clone(), clock.clone()).await.unwrap();
        Bench { backend, clock, config, store }
    }

    /// The same database after the process was started again.
    pub async fn restart(&mut self) {
        self.store = self.another().await;
    }

    /// The same database in another process.
    pub async fn another(&self) -> Store {
        open_store(&self.backend.url(), self.config.clone(), self.clock.clone()).await.unwrap()
    }

    /// Numbers the next tasks from `seq` on, as if all before had been and gone.
    async fn leap(&self, seq: i64) {
        let url = self.backend.url();
        let leapt = if url.starts_with("sqlite") {
            let mut conn = SqliteConnection::connect(&url).await.unwrap();
            conn.execute(AssertSqlSafe(format!("UPDATE sqlite_sequence SET seq = {seq} WHERE name = 'tasks'")))
                .await
                .map(|_| ())
        } else {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            conn.execute(AssertSqlSafe(format!("ALTER TABLE tasks ALTER COLUMN seq RESTART WITH {seq}")))
                .await
                .map(|_| ())
        };
        leapt.unwrap();
    }

    async fn submit(&self, task: NewTask) -> Task {
        created(self.store.queue.submit(task, None).await.unwrap())
    }

    async fn claim(&self, worker: &str) -> (Task, Lease) {
        let task = self.store.queue.claim(worker, LEASE).await.unwrap().expect("a task waits");
        let lease = task.lease().expect("claimed");
        (task, lease)
    }

    async fn get(&self, id: Uuid) -> Task {
        self.store.queue.get(id, &Scope::All).await.unwrap().expect("the task is there")
    }

    /// Everything in the outbox that is due, as it would be sent.
    async fn deliver_all(&self) -> Vec<Delivery> {
        let mut sent = Vec::new();
        loop {
            let due = self.store.outbox.due(100, SECOND).await.unwrap();
            if due.is_empty() {
                return sent;
            }
            for delivery in due {
                self.store.outbox.delivered(delivery.event, delivery.attempt).await.unwrap();
                sent.push(delivery);
            }
        }
    }

    async fn finish(&self, task: NewTask) -> Task {
        let id = self.submit(task).await.id;
        let (claimed, lease) = self.claim("w").await;
        assert_eq!(claimed.id, id);
        self.store.queue.complete(&lease, json!({"files": ["a.png"]})).await.unwrap()
    }
}

/// A task of this kind and cost (seconds), with a webhook.
pub fn task(kind: &str, cost: f64) -> NewTask {
    NewTask {
        id: Uuid::now_v7(),
        owner: None,
        kind: kind.to_owned(),
        request: json!({"scale_factor": "2x", "prompt": "é \u{1F600} \"quoted\""}),
        input: json!({"blob": "inputs/1"}),
        webhook_url: Some("https://example.com/hook".to_owned()),
        cost,
        polled: false,
        needs: BTreeSet::new(),
    }
}

fn owned(owner: &str) -> NewTask {
    NewTask { owner: Some(owner.to_owned()), ..task("creative", 1.0) }
}

fn created(submitted: Submitted) -> Task {
    match submitted {
        Submitted::Created(task) => task,
        other => panic!("not created: {other:?}"),
    }
}

fn key(key: &str, body: u8) -> Idempotency {
    Idempotency { key: key.to_owned(), body_hash: [body; 32], reservation: None }
}

fn error() -> TaskError {
    TaskError::new("decode", "the picture is truncated").with_hint("send it again")
}

// ---- promise 2 ----

pub async fn p2_crash_between_accept_and_reply_makes_one_task_per_key(mut bench: Bench) {
    let mut replayed = HashSet::new();
    for i in 0..100 {
        let name = format!("key-{i}");
        // Polled once, then dropped: the write may or may not have been carried out when the process is gone.
        tokio::select! {
            biased;
            _ = bench.store.queue.submit(task("creative", 1.0), Some(key(&name, 1))) => {}
            () = std::future::ready(()) => {}
        }
        if i % 10 == 0 {
            bench.restart().await;
        }
        let retried = bench.store.queue.submit(task("creative", 1.0), Some(key(&name, 1))).await.unwrap();
        let (Submitted::Created(made) | Submitted::Replayed(made)) = retried else { panic!("{retried:?}") };
        replayed.insert(made.id);
        let again = bench.store.queue.submit(task("creative", 1.0), Some(key(&name, 1))).await.unwrap();
        assert!(matches!(again, Submitted::Replayed(again) if again.id == made.id));
    }
    let page = bench.store.queue.list(&ListQuery::default(), &Scope::All).await.unwrap();
    assert_eq!((replayed.len(), page.total), (100, 100));
}

// ---- promise 3 ----

pub async fn p3_an_orphan_is_picked_up_when_its_lease_ends(bench: Bench) {
    let id = bench.submit(task("creative", 1.0)).await.id;
    let (_, dead) = bench.claim("dead").await;
    bench.clock.advance(LEASE - SECOND);
    assert_eq!(bench.store.queue.claim("b", LEASE).await.unwrap(), None, "the lease still holds");
    assert_eq!(bench.store.queue.heartbeat(&dead, LEASE, Report::default()).await.unwrap(), Beat::Alive);
    bench.clock.advance(LEASE - SECOND);
    assert_eq!(bench.store.queue.claim("b", LEASE).await.unwrap(), None, "a heartbeat prolongs it");
    bench.clock.advance(SECOND);
    let (task, lease) = bench.claim("b").await;
    assert_eq!((task.id, task.attempt, task.failures), (id, 2, 1));

    // The first worker was only frozen. Whatever it tries now changes nothing.
    let before = bench.get(id).await;
    let beat =
        bench.store.queue.heartbeat(&dead, LEASE, Report { progress: Some(json!(1)), plan: None }).await.unwrap();
    assert_eq!(beat, Beat::Lost);
    for outcome in [
        bench.store.queue.complete(&dead, json!({"files": ["stale.png"]})).await,
        bench.store.queue.fail(&dead, error(), Retry::Never).await,
        bench.store.queue.release(&dead).await,
        // The right attempt by the wrong worker is not accepted either.
        bench.store.queue.complete(&Lease { attempt: 2, ..dead }, json!({})).await,
    ] {
        assert!(matches!(outcome, Err(StoreError::LeaseLost(lost)) if lost == id), "{outcome:?}");
    }
    assert_eq!(bench.get(id).await, before);
    bench.store.queue.complete(&lease, json!({"files": ["b.png"]})).await.unwrap();
    assert_eq!(bench.get(id).await.result, Some(json!({"files": ["b.png"]})));
}

// ---- promise 4 ----

pub async fn p4_a_task_that_kills_its_workers_fails_after_three_attempts(bench: Bench) {
    let bomb = bench.submit(task("creative", 1.0)).await.id;
    let other = bench.submit(task("creative", 2.0)).await.id;
    for attempt in 1..=3 {
        let (claimed, _) = bench.claim(&format!("w{attempt}")).await;
        assert_eq!((claimed.id, claimed.attempt), (bomb, attempt), "a broken attempt keeps its place");
        bench.clock.advance(LEASE);
        assert_eq!(bench.store.queue.recover_expired_leases().await.unwrap(), 1);
    }
    let bomb = bench.get(bomb).await;
    assert_eq!((bomb.state, bomb.failures), (TaskState::Failed, 3));
    let error = bomb.error.unwrap();
    assert_eq!(error.code, TaskError::WORKER_DIED);
    assert_eq!(error.message, "the worker stopped 3 times while working on this task");
    assert!(error.hint.is_some());
    let (claimed, _) = bench.claim("w4").await;
    assert_eq!((claimed.id, claimed.attempt, claimed.failures), (other, 1, 0), "others are unaffected");
}

pub async fn p4_lost_leases_alone_fail_no_task_where_suspects_run_apart(bench: Bench) {
    let healthy = bench.submit(task("creative", 1.0)).await.id;
    for attempt in 1..=5 {
        let (claimed, _) = bench.claim(&format!("w{attempt}")).await;
        assert_eq!((claimed.id, claimed.attempt, claimed.failures), (healthy, attempt, u32::from(attempt > 1)));
        bench.clock.advance(LEASE);
        assert_eq!(bench.store.queue.recover_expired_leases().await.unwrap(), 1);
    }
    let (_, lease) = bench.claim("w").await;
    assert_eq!(bench.store.queue.complete(&lease, json!({})).await.unwrap().state, TaskState::Completed);

    // What is seen to kill two processes of its own after that is poison, whatever else was lost in between.
    let bomb = bench.submit(task("creative", 1.0)).await.id;
    let died = |times| TaskError::worker_died(times);
    for (lost, failures) in [(true, 1), (false, 2), (true, 2), (false, 3)] {
        let (_, lease) = bench.claim("w").await;
        if lost {
            bench.clock.advance(LEASE);
            bench.store.queue.recover_expired_leases().await.unwrap();
        } else {
            bench.store.queue.fail(&lease, died(failures), Retry::After(Duration::ZERO)).await.unwrap();
        }
        assert_eq!(bench.get(bomb).await.failures, failures);
    }
    let bomb = bench.get(bomb).await;
    assert_eq!((bomb.state, bomb.error), (TaskState::Failed, Some(died(3))));
}

pub async fn p4_of_tasks_lost_together_only_the_one_that_kills_its_own_process_fails(bench: Bench) {
    let healthy = bench.submit(task("creative", 1.0)).await.id;
    let bomb = bench.submit(task("creative", 2.0)).await.id;
    // It killed its process before any worker was lost, and between such losses.
    for died in [true, false, true, false, true] {
        let (first, _) = bench.claim("w").await;
        let (second, lease) = bench.claim("w").await;
        assert_eq!((first.id, second.id), (healthy, bomb));
        if died {
            let error = TaskError::worker_died(second.failures + 1);
            bench.store.queue.fail(&lease, error, Retry::After(Duration::ZERO)).await.unwrap();
        }
        bench.clock.advance(LEASE);
        assert_eq!(bench.store.queue.recover_expired_leases().await.unwrap(), if died { 1 } else { 2 });
    }
    let bomb = bench.get(bomb).await;
    assert_eq!((bomb.state, bomb.failures), (TaskState::Failed, 3));
    let (claimed, lease) = bench.claim("w").await;
    assert_eq!((claimed.id, claimed.failures), (healthy, 1));
    assert_eq!(bench.store.queue.complete(&lease, json!({})).await.unwrap().state, TaskState::Completed);
}

pub async fn p4_errors_worth_another_try_wait_and_count(bench: Bench) {
    let id = bench.submit(task("creative", 1.0)).await.id;
    for failures in 1..=2 {
        let (_, lease) = bench.claim("w").await;
        let queued = bench.store.queue.fail(&lease, error(), Retry::After(SECOND)).await.unwrap();
        assert_eq!((queued.state, queued.failures, queued.error), (TaskState::Created, failures, Some(error())));
        assert_eq!(bench.store.queue.claim("w", LEASE).await.unwrap(), None, "not before its pause is over");
        bench.clock.advance(SECOND);
    }
    let (_, lease) = bench.claim("w").await;
    let failed = bench.store.queue.fail(&lease, error(), Retry::After(SECOND)).await.unwrap();
    assert_eq!((failed.id, failed.state, failed.error), (id, TaskState::Failed, Some(error())));

    bench.submit(task("creative", 1.0)).await;
    let (_, lease) = bench.claim("w").await;
    let failed = bench.store.queue.fail(&lease, error(), Retry::Never).await.unwrap();
    assert_eq!((failed.state, failed.failures), (TaskState::Failed, 1), "a bad input is not tried again");
}

// ---- promise 5 ----

pub async fn p5_a_released_task_burns_no_attempt_and_keeps_its_place(bench: Bench) {
    let first = bench.submit(task("creative", 1.0)).await.id;
    bench.submit(task("creative", 1.0)).await;
    for attempt in 1..=10 {
        let (claimed, lease) = bench.claim("w").await;
        assert_eq!((claimed.id, claimed.attempt), (first, attempt));
        let released = bench.store.queue.release(&lease).await.unwrap();
        assert_eq!((released.state, released.failures, released.worker), (TaskState::Created, 0, None));
        let stale = bench.store.queue.complete(&lease, json!({})).await;
        assert!(matches!(stale, Err(StoreError::LeaseLost(_))), "a released lease is worth nothing");
    }
    let (_, lease) = bench.claim("w").await;
    assert_eq!(bench.store.queue.complete(&lease, json!({})).await.unwrap().state, TaskState::Completed);
    let statuses: Vec<_> = bench.deliver_all().await.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [TaskState::InProgress, TaskState::Completed], "announced once, not once per attempt");
}

// ---- promise 6 ----

pub async fn p6_cancel_is_terminal_at_once_and_never_has_a_result(bench: Bench) {
    let queued = bench.submit(task("creative", 1.0)).await.id;
    let Cancelled::Done(task_now) = bench.store.queue.cancel(queued, &Scope::All).await.unwrap() else { panic!() };
    assert_eq!(task_now.state, TaskState::Cancelled);
    assert_eq!(task_now.error.unwrap().code, TaskError::CANCELLED);
    assert_eq!(bench.store.queue.claim("w", LEASE).await.unwrap(), None);

    let running = bench.submit(task("creative", 1.0)).await.id;
    let (_, lease) = bench.claim("w").await;
    assert!(matches!(bench.store.queue.cancel(running, &Scope::All).await.unwrap(), Cancelled::Done(_)));
    assert_eq!(bench.store.queue.heartbeat(&lease, LEASE, Report::default()).await.unwrap(), Beat::Cancelled);
    let late = bench.store.queue.complete(&lease, json!({"files": ["late.png"]})).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))));
    let cancelled = bench.get(running).await;
    assert_eq!((cancelled.state, cancelled.result), (TaskState::Cancelled, None));

    let done = bench.finish(task("creative", 1.0)).await;
    for id in [done.id, running, queued] {
        assert!(matches!(bench.store.queue.cancel(id, &Scope::All).await.unwrap(), Cancelled::AlreadyDone(_)));
    }
    assert_eq!(bench.get(done.id).await.state, TaskState::Completed);
    assert_eq!(bench.store.queue.cancel(Uuid::now_v7(), &Scope::All).await.unwrap(), Cancelled::NotFound);
}

// ---- promise 7 ----

pub async fn p7_fifty_concurrent_submissions_with_one_key_make_one_task(bench: Bench) {
    // Half of them in another process.
    let stores = [bench.store.clone(), bench.another().await];
    let submissions: Vec<_> = (0..50)
        .map(|i| {
            let store = stores[i % 2].clone();
            tokio::spawn(async move { store.queue.submit(task("creative", 1.0), Some(key("k", 1))).await.unwrap() })
        })
        .collect();
    let (mut made, mut ids) = (0, HashSet::new());
    for submission in submissions {
        match submission.await.unwrap() {
            Submitted::Created(task) => {
                made += 1;
                ids.insert(task.id);
            }
            Submitted::Replayed(task) => {
                ids.insert(task.id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made, ids.len()), (1, 1));
    assert_eq!(bench.store.upkeep.counts().await.unwrap().created, 1);
}

pub async fn p7_a_submission_repeated_by_a_caller_that_heard_nothing_is_the_same_task(bench: Bench) {
    let new = task("creative", 1.0);
    let made = created(bench.store.queue.submit(new.clone(), None).await.unwrap());
    assert_eq!(created(bench.store.queue.submit(new, None).await.unwrap()), made);
    assert_eq!(bench.store.upkeep.counts().await.unwrap().created, 1);
}

pub async fn p7_a_key_means_one_body_of_one_owner_for_24_hours(mut bench: Bench) {
    let first = created(bench.store.queue.submit(owned("a"), Some(key("k", 1))).await.unwrap());
    let mismatch = bench.store.queue.submit(owned("a"), Some(key("k", 2))).await.unwrap();
    assert_eq!(mismatch, Submitted::Mismatch);
    let foreign = created(bench.store.queue.submit(owned("b"), Some(key("k", 2))).await.unwrap());
    assert_ne!(foreign.id, first.id, "keys are scoped to their owner");

    let (_, lease) = bench.claim("w").await;
    assert_eq!(lease.task, first.id);
    bench.clock.advance(SECOND);
    bench.store.queue.complete(&lease, json!({"files": ["a.png"]})).await.unwrap();
    bench.restart().await;
    bench.clock.advance(24 * HOUR - 2 * SECOND);
    bench.store.upkeep.prune().await.unwrap();
    let replay = bench.store.queue.submit(owned("a"), Some(key("k", 1))).await.unwrap();
    assert_eq!(replay, Submitted::Replayed(bench.get(first.id).await), "as it stands now, also when it is done");
    bench.clock.advance(SECOND);
    let fresh = created(bench.store.queue.submit(owned("a"), Some(key("k", 2))).await.unwrap());
    assert_ne!(fresh.id, first.id, "after 24 h the key is free");
}

pub async fn p7_a_reserved_key_is_in_flight_until_submitted_given_back_or_forgotten(bench: Bench) {
    let Reserved::Yours(token) = bench.store.queue.reserve(None, &key("k", 1)).await.unwrap() else { panic!() };
    assert_eq!(bench.store.queue.reserve(None, &key("k", 1)).await.unwrap(), Reserved::InFlight);
    assert_eq!(bench.store.queue.reserve(None, &key("k", 2)).await.unwrap(), Reserved::Mismatch);
    assert_eq!(bench.store.queue.submit(task("c", 1.0), Some(key("k", 1))).await.unwrap(), Submitted::InFlight);
    let mine = Idempotency { reservation: Some(token), ..key("k", 1) };
    let made = created(bench.store.queue.submit(task("c", 1.0), Some(mine)).await.unwrap());
    assert_eq!(bench.store.queue.reserve(None, &key("k", 1)).await.unwrap(), Reserved::Replayed(made));

    let Reserved::Yours(token) = bench.store.queue.reserve(None, &key("refused", 1)).await.unwrap() else { panic!() };
    bench.store.queue.unreserve(token).await.unwrap();
    assert!(matches!(bench.store.queue.reserve(None, &key("refused", 2)).await.unwrap(), Reserved::Yours(_)));

    bench.clock.advance(bench.config.reservation_ttl);
    assert!(
        matches!(bench.store.queue.reserve(None, &key("refused", 1)).await.unwrap(), Reserved::Yours(_)),
        "crashed"
    );
}

// ---- promise 8, the store's part ----

pub async fn p8_each_status_of_a_run_is_one_event_whatever_happens_to_its_workers(bench: Bench) {
    let id = bench.submit(task("creative", 1.0)).await.id;
    bench.claim("dies").await;
    bench.clock.advance(LEASE);
    let (_, lease) = bench.claim("releases").await;
    bench.store.queue.release(&lease).await.unwrap();
    let (_, lease) = bench.claim("fails").await;
    bench.store.queue.fail(&lease, error(), Retry::Never).await.unwrap();
    let sent: Vec<_> = bench.deliver_all().await;
    assert_eq!(sent.iter().map(|it| it.status).collect::<Vec<_>>(), [TaskState::InProgress, TaskState::Failed]);
    assert!(sent.iter().all(|it| it.task == id && it.attempt == 1 && it.url == "https://example.com/hook"));

    // Another run, asked for by the user, is news again.
    assert!(matches!(bench.store.queue.retry(id, &Scope::All).await.unwrap(), Retried::Queued(_)));
    let (_, lease) = bench.claim("w").await;
    bench.store.queue.complete(&lease, json!({})).await.unwrap();
    let news: Vec<_> = bench.deliver_all().await;
    assert_eq!(news.iter().map(|it| it.status).collect::<Vec<_>>(), [TaskState::InProgress, TaskState::Completed]);
    let events: HashSet<_> = sent.iter().chain(&news).map(|it| it.event).collect();
    assert_eq!(events.len(), 4, "every event has an id of its own");

    let silent = NewTask { webhook_url: None, ..task("creative", 1.0) };
    bench.finish(silent).await;
    assert_eq!(bench.deliver_all().await, []);
}

pub async fn p8_deliveries_keep_their_id_survive_crashes_and_end_once(mut bench: Bench) {
    bench.submit(task("creative", 1.0)).await;
    bench.claim("w").await;
    let first = bench.store.outbox.due(10, 20 * SECOND).await.unwrap();
    assert_eq!((first.len(), first[0].attempt, first[0].status), (1, 1, TaskState::InProgress));
    assert_eq!(bench.store.outbox.due(10, SECOND).await.unwrap(), [], "not twice at once");

    // The sender dies; its lease runs out and another one takes over.
    bench.restart().await;
    bench.clock.advance(20 * SECOND);
    let second = bench.store.outbox.due(10, 20 * SECOND).await.unwrap();
    let taken_at = bench.clock.now();
    assert_eq!(second, [Delivery { attempt: 2, taken_at, ..first[0].clone() }], "same id");
    // The worker was only slow, not dead: its writes are ignored now.
    bench.store.outbox.give_up(first[0].event, 1, "timeout").await.unwrap();
    bench.store.outbox.failed(second[0].event, 2, 300 * SECOND, "500").await.unwrap();

    bench.clock.advance(299 * SECOND);
    assert_eq!(bench.store.outbox.due(10, SECOND).await.unwrap(), []);
    bench.clock.advance(SECOND);
    let third = bench.store.outbox.due(10, SECOND).await.unwrap();
    assert_eq!(third, [Delivery { attempt: 3, taken_at: bench.clock.now(), ..first[0].clone() }]);
    bench.store.outbox.give_up(third[0].event, 3, "410").await.unwrap();
    assert_eq!(bench.store.upkeep.counts().await.unwrap().outbox_pending, 0);
    bench.clock.advance(HOUR);
    assert_eq!(bench.store.outbox.due(10, SECOND).await.unwrap(), []);
    assert_eq!(bench.store.upkeep.counts().await.unwrap().outbox_pending, 0);
}

pub async fn p8_no_older_status_is_told_after_a_newer_one(bench: Bench) {
    let statuses = |due: &[Delivery]| due.iter().map(|it| it.status).collect::<Vec<_>>();
    let due = async || bench.store.outbox.due(10, 20 * SECOND).await.unwrap();
    let (running, done) = (vec![TaskState::InProgress], vec![TaskState::Completed]);
    for older in ["refused", "refused before there was a newer one", "lost with its sender", "slow"] {
        bench.submit(task(older, 1.0)).await;
        let (_, lease) = bench.claim("w").await;
        let later = 5 * SECOND;
        let first = due().await;
        assert_eq!(statuses(&first), running, "{older}");
        if older == "refused before there was a newer one" {
            bench.store.outbox.failed(first[0].event, 1, later, "500").await.unwrap();
        }
        bench.store.queue.complete(&lease, json!({})).await.unwrap();
        match older {
            "refused" => bench.store.outbox.failed(first[0].event, 1, later, "500").await.unwrap(),
            "lost with its sender" => bench.clock.advance(20 * SECOND),
            "slow" => {
                assert_eq!(due().await, [], "one at a time");
                bench.store.outbox.delivered(first[0].event, 1).await.unwrap();
            }
            _ => {}
        }
        let second = due().await;
        assert_eq!(statuses(&second), done, "{older}");
        assert_eq!(due().await, [], "{older}");
        // The newer one may be sent again, the older one never.
        bench.store.outbox.failed(second[0].event, 1, later, "500").await.unwrap();
        bench.clock.advance(HOUR);
        let third = due().await;
        assert_eq!((third[0].event, third.len()), (second[0].event, 1), "{older}");
        bench.store.outbox.delivered(third[0].event, 2).await.unwrap();
        assert_eq!(bench.store.upkeep.counts().await.unwrap().outbox_pending, 0, "{older}");
    }

    // A run asked for anew is newer than all of the last one.
    let id = bench.submit(task("again", 1.0)).await.id;
    let (_, lease) = bench.claim("w").await;
    bench.store.queue.fail(&lease, error(), Retry::Never).await.unwrap();
    let first = due().await;
    bench.store.outbox.delivered(first[0].event, 1).await.unwrap();
    let failed = due().await;
    assert_eq!(statuses(&failed), [TaskState::Failed]);
    bench.store.outbox.failed(failed[0].event, 1, SECOND, "500").await.unwrap();
    bench.store.queue.retry(id, &Scope::All).await.unwrap();
    bench.claim("w").await;
    bench.clock.advance(HOUR);
    assert_eq!(statuses(&due().await), running, "not that it failed");
}

pub async fn p8_a_slow_receiver_does_not_take_every_sender(bench: Bench) {
    for _ in 0..30 {
        bench.submit(NewTask { webhook_url: Some("https://SLOW.example/a?b".into()), ..task("c", 1.0) }).await;
    }
    bench.submit(NewTask { webhook_url: Some("https://user@quick.example".into()), ..task("c", 1.0) }).await;
    for _ in 0..31 {
        bench.claim("w").await;
    }
    let due = bench.store.outbox.due(10, 20 * SECOND).await.unwrap();
    let to = |host: &str| due.iter().filter(|it| it.url.to_lowercase().contains(host)).count();
    assert_eq!((to("slow"), to("quick")), (4, 1));
    assert_eq!(bench.store.outbox.due(10, SECOND).await.unwrap(), [], "while those hang, the receiver gets no more");
    bench.store.outbox.delivered(due[0].event, 1).await.unwrap();
    assert_eq!(bench.store.outbox.due(10, SECOND).await.unwrap().len(), 1);
}

// ---- promise 9, the store's part ----

pub async fn p9_a_result_is_there_exactly_when_the_task_is_completed(mut bench: Bench) {
    let id = bench.submit(task("creative", 1.0)).await.id;
    let (_, lease) = bench.claim("w").await;
    let plan = Some(json!({"passes": [2]}));
    let report = Report { progress: Some(json!({"tile": 1, "tiles": 4})), plan: plan.clone() };
    bench.store.queue.heartbeat(&lease, LEASE, report).await.unwrap();
    bench.store.queue.heartbeat(&lease, LEASE, Report::default()).await.unwrap();
    let running = bench.get(id).await;
    assert_eq!((running.progress, running.plan, running.result), (Some(json!({"tile": 1, "tiles": 4})), plan, None));
    let result = json!({"files": [{"name": "a.png", "bytes": 7}], "seconds": 1.5});
    let completed = bench.store.queue.complete(&lease, result.clone()).await.unwrap();
    assert_eq!((completed.state, &completed.result), (TaskState::Completed, &Some(result)));
    assert_eq!(completed.finished_at, Some(bench.clock.now()));
    assert_eq!(completed.expires_at, bench.config.retention.map(|retention| bench.clock.now() + retention));
    bench.restart().await;
    assert_eq!(bench.get(id).await, completed, "on disk as answered");
    assert_eq!(bench.get(id).await.request, task("creative", 1.0).request);
    let result = completed.result.clone().unwrap();
    assert_eq!(bench.store.queue.complete(&lease, result).await.unwrap(), completed, "a worker that heard nothing");
    let again = bench.store.queue.complete(&lease, json!({})).await;
    assert!(matches!(again, Err(StoreError::LeaseLost(_))), "once");
}

// ---- promise 15, the store's part ----

pub async fn p15_a_full_queue_says_when_to_come_back(bench: Bench) {
    // Limits of the suite: 5 in all, 3 per owner.
    for _ in 0..3 {
        bench.submit(NewTask { cost: 40.0, ..owned(OWNER) }).await;
    }
    let Submitted::QueueFull(limit) = bench.store.queue.submit(owned(OWNER), None).await.unwrap() else { panic!() };
    assert_eq!((limit.of_owner, limit.limit, limit.retry_after), (true, 3, 40 * SECOND));
    bench.submit(owned("key-2")).await;
    bench.submit(task("creative", 1.0)).await;
    let full = bench.store.queue.submit(owned("key-3"), Some(key("k", 1))).await.unwrap();
    let Submitted::QueueFull(limit) = full else { panic!("{full:?}") };
    assert_eq!((limit.of_owner, limit.limit), (false, 5));
    bench.claim("w").await;
    created(bench.store.queue.submit(owned("key-3"), Some(key("k", 1))).await.unwrap());
}

pub async fn p15_a_thousand_concurrent_submissions_lose_none(bench: Bench) {
    let submissions: Vec<_> = (0..1000)
        .map(|_| {
            let store = bench.store.clone();
            tokio::spawn(async move { created(store.queue.submit(task("creative", 1.0), None).await.unwrap()).id })
        })
        .collect();
    let mut accepted = HashSet::new();
    for submission in submissions {
        accepted.insert(submission.await.unwrap());
    }
    let mut listed = HashSet::new();
    for page in 1..=11 {
        let query = ListQuery { page, per_page: 100, ..ListQuery::default() };
        let page = bench.store.queue.list(&query, &Scope::All).await.unwrap();
        assert_eq!(page.total, 1000);
        listed.extend(page.tasks.iter().map(|task| task.id));
    }
    assert_eq!(listed, accepted);
    let mut claimed = HashSet::new();
    while let Some(task) = bench.store.queue.claim("w", LEASE).await.unwrap() {
        assert!(claimed.insert(task.id), "claimed twice");
    }
    assert_eq!(claimed, accepted);
}

// ---- promise 17 ----

pub async fn p17_files_go_at_their_expiry_and_never_while_the_task_is_alive(mut bench: Bench) {
    let done = bench.finish(task("creative", 1.0)).await;
    let waiting = bench.submit(task("creative", 1.0)).await;
    let (_, lease) = bench.claim("w").await;
    bench.submit(task("creative", 1.0)).await;
    bench.clock.advance(bench.config.retention.unwrap() - SECOND);
    let year = 365 * 24 * HOUR;
    bench.store.queue.heartbeat(&lease, year, Report::default()).await.unwrap();
    assert_eq!(bench.store.queue.take_expired(10).await.unwrap(), []);
    bench.clock.advance(SECOND);
    let taken = |tasks: Vec<Task>| tasks.iter().map(|task| (task.id, task.files)).collect::<Vec<_>>();
    assert_eq!(taken(bench.store.queue.take_expired(10).await.unwrap()), [(done.id, Files::Deleting)]);
    assert_eq!(bench.get(done.id).await.files, Files::Deleting, "the task says so before they go");
    // The sweeper dies before it has deleted them.
    bench.restart().await;
    assert_eq!(taken(bench.store.queue.take_expired(10).await.unwrap()), [(done.id, Files::Deleting)]);
    bench.store.queue.files_deleted(done.id).await.unwrap();
    assert_eq!(taken(bench.store.queue.take_expired(10).await.unwrap()), []);
    let gone = bench.get(done.id).await;
    assert_eq!((gone.state, gone.files, gone.result), (TaskState::Completed, Files::Gone, done.result));

    bench.clock.advance(bench.config.history / 2);
    assert_eq!(taken(bench.store.queue.take_expired(10).await.unwrap()), [], "waiting and running tasks never expire");
    bench.store.queue.files_deleted(waiting.id).await.unwrap();
    assert_eq!(bench.get(waiting.id).await.files, Files::Present);
    assert_eq!(bench.store.upkeep.prune().await.unwrap().tasks, 0);
    bench.clock.advance(bench.config.history / 2);
    assert_eq!(bench.store.upkeep.prune().await.unwrap().tasks, 1);
    assert_eq!(bench.store.queue.get(done.id, &Scope::All).await.unwrap(), None);
    assert_eq!(bench.store.upkeep.prune().await.unwrap().tasks, 0);
}

pub async fn p17_kept_files_go_when_they_are_deleted_or_room_is_needed(mut bench: Bench) {
    let mut done = Vec::new();
    for _ in 0..4 {
        done.push(bench.finish(task("creative", 1.0)).await);
        bench.clock.advance(SECOND);
    }
    assert!(done.iter().all(|task| task.expires_at.is_none()), "kept");
    let waiting = bench.submit(task("creative", 1.0)).await.id;
    bench.clock.advance(10 * 365 * 24 * HOUR);
    assert_eq!(bench.store.queue.take_expired(10).await.unwrap(), []);
    assert_eq!(bench.store.upkeep.prune().await.unwrap().tasks, 0);

    let ids = |tasks: Vec<Task>| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    let gone = bench.store.queue.evict_oldest(1, &[done[0].id]).await.unwrap();
    assert_eq!((gone[0].files, gone[0].expires_at), (Files::Deleting, Some(bench.clock.now())), "from now on");
    assert_eq!(ids(gone), [done[1].id], "the oldest but the one that is spared");
    assert_eq!(bench.store.queue.delete(done[2].id, &Scope::All).await.unwrap(), Deleted::Done);
    assert_eq!(ids(bench.store.queue.evict_oldest(10, &[]).await.unwrap()), [done[0].id], "the last one always stays");
    assert_eq!(bench.store.queue.evict_oldest(10, &[]).await.unwrap(), []);
    assert_eq!(bench.store.queue.take_expired(10).await.unwrap().len(), 3, "until they are deleted");
    assert_eq!(bench.get(waiting).await.files, Files::Present);

    // Another setting holds for what is there: a day from now, not from when it finished.
    bench.config.retention = Some(24 * HOUR);
    bench.restart().await;
    assert_eq!(bench.store.queue.adopt_retention().await.unwrap(), 1);
    assert_eq!(bench.get(done[3].id).await.expires_at, Some(bench.clock.now() + 24 * HOUR));
    bench.config.retention = None;
    bench.restart().await;
    assert_eq!(bench.store.queue.adopt_retention().await.unwrap(), 1);
    assert_eq!(bench.get(done[3].id).await.expires_at, None);
}

pub async fn p17_an_upload_is_listed_until_it_expires_and_then_until_it_is_deleted(mut bench: Bench) {
    let upload = |expires_at| NewObject {
        id: Uuid::new_v4(),
        owner: Some(OWNER.to_owned()),
        file_name: "cat.png".to_owned(),
        content_type: None,
        expires_at,
    };
    let listed = async |bench: &Bench, owner: &str| {
        bench.store.objects.list(1, 10, &Scope::Owner(owner.to_owned())).await.unwrap()
    };
    let made = bench.store.objects.create(upload(bench.clock.now() + HOUR)).await.unwrap();
    assert_eq!((made.state, made.size), (ObjectState::Pending, None));
    assert_eq!(listed(&bench, OWNER).await, std::slice::from_ref(&made), "no bytes yet");
    let ready = bench.store.objects.finish(made.id, 7, Some("image/png")).await.unwrap().unwrap();
    let expected = Object { size: Some(7), state: ObjectState::Ready, content_type: Some("image/png".into()), ..made };
    assert_eq!(ready, expected);
    bench.restart().await;
    assert_eq!(listed(&bench, OWNER).await, std::slice::from_ref(&ready));
    assert_eq!(listed(&bench, "another").await, []);

    bench.clock.advance(HOUR - SECOND);
    assert_eq!(bench.store.objects.take_expired(10).await.unwrap(), []);
    let again = bench.store.objects.finish(ready.id, 8, None).await.unwrap();
    let ready = Object { size: Some(8), ..ready };
    assert_eq!(again, Some(ready.clone()), "a client may upload again");
    bench.clock.advance(SECOND);
    assert_eq!(listed(&bench, OWNER).await, []);
    for _ in 0..2 {
        let expired = bench.store.objects.take_expired(10).await.unwrap();
        assert_eq!(expired, [Object { state: ObjectState::Deleting, ..ready.clone() }], "until it is deleted");
    }
    assert_eq!(bench.store.objects.finish(ready.id, 8, None).await.unwrap(), None);
    bench.store.objects.deleted(ready.id).await.unwrap();
    assert_eq!(bench.store.objects.take_expired(10).await.unwrap(), []);
}

pub async fn p17_a_deleted_task_is_out_of_sight_at_once_and_its_files_follow(bench: Bench) {
    let id = created(bench.store.queue.submit(owned(OWNER), Some(key("k", 1))).await.unwrap()).id;
    let scope = Scope::Owner(OWNER.to_owned());
    assert!(matches!(bench.store.queue.delete(id, &scope).await.unwrap(), Deleted::StillActive(_)));
    let (_, lease) = bench.claim("w").await;
    assert!(matches!(bench.store.queue.delete(id, &scope).await.unwrap(), Deleted::StillActive(_)));
    bench.store.queue.complete(&lease, json!({"files": ["a.png"]})).await.unwrap();
    assert_eq!(bench.store.queue.delete(id, &Scope::Owner("another".into())).await.unwrap(), Deleted::NotFound);
    assert_eq!(bench.store.queue.delete(id, &scope).await.unwrap(), Deleted::Done);
    assert_eq!(bench.store.queue.delete(id, &scope).await.unwrap(), Deleted::NotFound);
    assert_eq!(bench.store.queue.get(id, &Scope::All).await.unwrap(), None);
    assert_eq!(bench.store.queue.list(&ListQuery::default(), &Scope::All).await.unwrap().total, 0);
    let expired = bench.store.queue.take_expired(10).await.unwrap();
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].result, Some(json!({"files": ["a.png"]})), "the sweeper learns which files");
    bench.store.queue.files_deleted(id).await.unwrap();
    assert_eq!(bench.store.queue.take_expired(10).await.unwrap(), []);
    assert_eq!(bench.store.upkeep.counts().await.unwrap().completed, 0, "nothing is left");
    created(bench.store.queue.submit(owned(OWNER), Some(key("k", 1))).await.unwrap());
}

// ---- order ----

pub async fn short_tasks_overtake_long_ones_but_nobody_starves(bench: Bench) {
    // Patience is 4: a poster of 300 s may be overtaken by thumbnails of 2 s for 4 * 298 s = 1192 s.
    let poster = bench.submit(task("poster", 300.0)).await.id;
    let mut served = Vec::new();
    for second in 0..2000 {
        bench.submit(task("thumbnail", 2.0)).await;
        let (claimed, lease) = bench.claim("w").await;
        bench.store.queue.complete(&lease, json!({})).await.unwrap();
        if claimed.id == poster {
            served.push(second);
        }
        bench.clock.advance(SECOND);
    }
    assert_eq!(served, [1192]);
}

pub async fn a_waiting_task_knows_its_place(bench: Bench) {
    let poster = bench.submit(task("poster", 300.0)).await.id;
    let thumbnail = bench.submit(task("thumbnail", 2.0)).await.id;
    let second = bench.submit(task("thumbnail", 2.0)).await.id;
    for (id, ahead, cost) in [(poster, 2, 4.0), (thumbnail, 0, 0.0), (second, 1, 2.0)] {
        let place = bench.store.queue.queue_place(id).await.unwrap().unwrap();
        assert_eq!((place.ahead, place.cost_ahead), (ahead, cost));
    }
    bench.claim("w").await;
    assert_eq!(bench.store.queue.queue_place(thumbnail).await.unwrap(), None);
    let counts = bench.store.upkeep.counts().await.unwrap();
    assert_eq!((counts.created, counts.in_progress, counts.queued_cost), (2, 1, 302.0));
    // An estimate gone wild neither breaks the order nor puts a task off for days.
    let wild = bench.submit(task("wild", f64::NAN)).await;
    assert_eq!(wild.cost, 0.0);
    bench.submit(task("wild", 1e30)).await;
    bench.clock.advance(4 * HOUR);
    let late = bench.submit(task("late", 1.0)).await.id;
    assert_eq!(bench.store.queue.queue_place(late).await.unwrap().unwrap().ahead, 4);
}

/// Told of by its client, who polls every 10 s.
fn polled(cost: f64) -> NewTask {
    NewTask { webhook_url: None, polled: true, ..task("creative", cost) }
}

pub async fn a_waiting_task_that_nobody_asks_for_yields_and_is_not_lost(bench: Bench) {
    let abandoned = bench.submit(polled(1.0)).await.id;
    let asked = bench.submit(polled(2.0)).await.id;
    let told = bench.submit(task("creative", 300.0)).await.id;
    bench.clock.advance(10 * SECOND);
    assert_eq!(bench.store.queue.queue_place(abandoned).await.unwrap().unwrap().ahead, 0, "it may yet be asked for");
    bench.clock.advance(10 * SECOND);
    bench.store.queue.polled(&[(asked, NOW), (told, NOW)]).await.unwrap();
    bench.clock.advance(5 * SECOND);
    let ahead = async |id| bench.store.queue.queue_place(id).await.unwrap().unwrap().ahead;
    assert_eq!([ahead(asked).await, ahead(told).await, ahead(abandoned).await], [0, 1, 2]);
    for id in [asked, told, abandoned] {
        let (claimed, lease) = bench.claim("w").await;
        assert_eq!(claimed.id, id);
        bench.store.queue.complete(&lease, json!({})).await.unwrap();
    }

    // Asked for again, it has its place again; what came late does not count.
    let first = bench.submit(polled(1.0)).await.id;
    let second = bench.submit(polled(2.0)).await.id;
    bench.clock.advance(30 * SECOND);
    bench.store.queue.polled(&[(second, NOW)]).await.unwrap();
    assert_eq!([ahead(first).await, ahead(second).await], [1, 0]);
    bench.store.queue.polled(&[(first, NOW), (second, HOUR)]).await.unwrap();
    assert_eq!([ahead(first).await, ahead(second).await], [0, 1]);
    assert_eq!(bench.get(told).await.polled_at, None, "whoever need not ask never yields");
}

pub async fn a_running_task_that_nobody_asks_for_gives_way_to_others_only(bench: Bench) {
    let abandoned = bench.submit(polled(240.0)).await.id;
    let (_, lease) = bench.claim("w").await;
    let beat = async || bench.store.queue.heartbeat(&lease, HOUR, Report::default()).await.unwrap();
    bench.clock.advance(60 * SECOND);
    assert_eq!(beat().await, Beat::Alive, "nobody waits");
    let also = bench.submit(polled(1.0)).await.id;
    bench.clock.advance(SECOND);
    assert_eq!(beat().await, Beat::Alive, "a free worker may take it");
    bench.clock.advance(SECOND);
    assert_eq!(beat().await, Beat::GiveWay);
    bench.store.queue.polled(&[(abandoned, NOW)]).await.unwrap();
    assert_eq!(beat().await, Beat::Alive, "asked for again");
    bench.clock.advance(25 * SECOND);
    assert_eq!(beat().await, Beat::Alive, "nobody asks for the other one either");
    bench.submit(task("told", 1.0)).await;
    bench.clock.advance(2 * SECOND);
    assert_eq!(beat().await, Beat::GiveWay);
    let released = bench.store.queue.release(&lease).await.unwrap();
    assert_eq!((released.state, released.failures), (TaskState::Created, 0));
    for (kind, id) in [("told", None), ("creative", Some(also)), ("creative", Some(abandoned))] {
        let (claimed, _) = bench.claim("w").await;
        assert_eq!(claimed.kind, kind);
        assert!(id.is_none_or(|id| id == claimed.id));
    }
}

// ---- what users see ----

pub async fn another_owner_sees_nothing(bench: Bench) {
    let id = bench.submit(owned(OWNER)).await.id;
    let anonymous = bench.submit(task("creative", 1.0)).await.id;
    let own = Scope::Owner(OWNER.to_owned());
    let other = Scope::Owner("key-2".to_owned());
    assert!(bench.store.queue.get(id, &own).await.unwrap().is_some());
    assert!(bench.store.queue.get(id, &Scope::All).await.unwrap().is_some());
    assert_eq!(bench.store.queue.get(anonymous, &own).await.unwrap(), None);
    assert_eq!(bench.store.queue.get(id, &other).await.unwrap(), None);
    assert_eq!(bench.store.queue.list(&ListQuery::default(), &other).await.unwrap().total, 0);
    assert_eq!(bench.store.queue.list(&ListQuery::default(), &own).await.unwrap().total, 1);
    assert_eq!(bench.store.queue.cancel(id, &other).await.unwrap(), Cancelled::NotFound);
    assert_eq!(bench.store.queue.retry(id, &other).await.unwrap(), Retried::NotFound);
    assert_eq!(bench.get(id).await.state, TaskState::Created);
}

pub async fn lists_are_newest_first_in_pages_by_kind_and_state(bench: Bench) {
    let mut ids = Vec::new();
    for i in 0..7 {
        ids.push(bench.submit(task(if i % 2 == 0 { "creative" } else { "precision" }, 1.0)).await.id);
    }
    ids.reverse();
    bench.claim("w").await;
    let list = async |query: ListQuery| {
        let page = bench.store.queue.list(&query, &Scope::All).await.unwrap();
        (page.total, page.tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    };
    let all = ListQuery::default();
    assert_eq!(list(all.clone()).await, (7, ids.clone()));
    assert_eq!(list(ListQuery { per_page: 3, ..all.clone() }).await, (7, ids[..3].to_vec()));
    assert_eq!(list(ListQuery { page: 3, per_page: 3, ..all.clone() }).await, (7, ids[6..].to_vec()));
    assert_eq!(list(ListQuery { page: u64::MAX, per_page: u64::MAX, ..all.clone() }).await, (7, vec![]));
    let precision = ListQuery { kinds: vec!["precision".into(), "' OR 1 --".into()], ..all.clone() };
    assert_eq!(list(precision).await, (3, vec![ids[1], ids[3], ids[5]]));
    let running = ListQuery { states: vec![TaskState::InProgress, TaskState::Failed], ..all };
    assert_eq!(list(running).await, (1, vec![ids[6]]));
}

/// Every page of every filter is what one would get by looking at all tasks, after all that can happen to them.
pub async fn any_page_of_any_list_is_right_whatever_happened_to_the_tasks(bench: Bench) {
    // A linear congruential generator (Knuth's MMIX constants): the same choices in every run.
    let mut seed = 1u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let all = Scope::All;
    let mut ids = Vec::new();
    // Far apart, so that they lie in few of many blocks of each size.
    let leaps = BTreeMap::from([(40, 1_000), (120, 10_000), (200, 300_000), (280, 5_000_000), (360, 1 << 40)]);
    for i in 0..400 {
        if let Some(&seq) = leaps.get(&i) {
            bench.leap(seq).await;
        }
        let owner = [None, Some("a".to_owned()), Some("b".to_owned())][next(3) as usize].clone();
        let kind = if next(40) == 0 { "rare" } else { ["creative", "precision"][next(2) as usize] };
        ids.push(bench.submit(NewTask { owner, ..task(kind, 1.0) }).await.id);
    }
    for _ in 0..300 {
        let (task, lease) = bench.claim("w").await;
        match next(8) {
            0 => drop(bench.store.queue.release(&lease).await.unwrap()),
            1 => drop(bench.store.queue.fail(&lease, error(), Retry::Never).await.unwrap()),
            2 => drop(bench.store.queue.cancel(task.id, &all).await.unwrap()),
            3 => {
                bench.store.queue.complete(&lease, json!({})).await.unwrap();
                assert_eq!(bench.store.queue.delete(task.id, &all).await.unwrap(), Deleted::Done);
                if next(2) == 0 {
                    bench.store.queue.files_deleted(task.id).await.unwrap();
                }
            }
            _ => drop(bench.store.queue.complete(&lease, json!({})).await.unwrap()),
        }
        bench.store.queue.retry(ids[next(400) as usize], &all).await.unwrap();
    }
    // What nobody deleted, as the rows say.
    let mut there = Vec::new();
    for id in ids.iter().rev() {
        there.extend(bench.store.queue.get(*id, &all).await.unwrap());
    }
    let counts = bench.store.upkeep.counts().await.unwrap();
    let count = |state| there.iter().filter(|task| task.state == state).count() as u64;
    for (state, counted) in [
        (TaskState::Created, counts.created),
        (TaskState::InProgress, counts.in_progress),
        (TaskState::Completed, counts.completed),
        (TaskState::Failed, counts.failed),
        (TaskState::Cancelled, counts.cancelled),
    ] {
        assert_eq!(count(state), counted, "{state}");
    }
    assert!(there.len() < 400 && counts.failed > 0 && counts.cancelled > 0, "{counts:?}");
    bench.store.upkeep.prune().await.unwrap();
    let states = [vec![], vec![TaskState::Failed], vec![TaskState::Created, TaskState::Cancelled]];
    for owner in [None, Some("a"), Some("nobody")] {
        let scope = owner.map_or(Scope::All, |owner| Scope::Owner(owner.to_owned()));
        for kinds in [vec![], vec!["rare".to_owned()], vec!["creative".to_owned(), "rare".to_owned()]] {
            for states in &states {
                let expected: Vec<Uuid> = there
                    .iter()
                    .filter(|task| owner.is_none() || task.owner.as_deref() == owner)
                    .filter(|task| kinds.is_empty() || kinds.contains(&task.kind))
                    .filter(|task| states.is_empty() || states.contains(&task.state))
                    .map(|task| task.id)
                    .collect();
                for per_page in [1, 7, 100, 1000] {
                    let pages = expected.len() as u64 / per_page + 2;
                    for page in (1..=pages).step_by(if per_page == 1 { 37 } else { 1 }) {
                        let query = ListQuery { kinds: kinds.clone(), states: states.clone(), page, per_page };
                        let got = bench.store.queue.list(&query, &scope).await.unwrap();
                        let from = ((page - 1) * per_page).min(expected.len() as u64) as usize;
                        let to = (from + per_page as usize).min(expected.len());
                        let ids: Vec<_> = got.tasks.iter().map(|task| task.id).collect();
                        assert_eq!(got.total, expected.len() as u64, "{query:?} {scope:?}");
                        assert_eq!(ids, expected[from..to], "{query:?} {scope:?}");
                    }
                }
            }
        }
    }
}

// ---- fairness, and what workers can run ----

pub async fn owners_take_turns_however_many_tasks_one_of_them_has(bench: Bench) {
    for _ in 0..50 {
        bench.submit(owned("greedy")).await;
    }
    for _ in 0..5 {
        bench.claim("w").await;
    }
    bench.clock.advance(HOUR);
    let modest = bench.submit(owned("modest")).await.id;
    let other = [bench.submit(task("creative", 1.0)).await.id, bench.submit(task("creative", 1.0)).await.id];
    let ahead = async |id| bench.store.queue.queue_place(id).await.unwrap().unwrap().ahead;
    assert_eq!((ahead(modest).await, ahead(other[1]).await), (2, 4), "45 others wait, but not in front");
    let mut served = Vec::new();
    for _ in 0..7 {
        let (task, _) = bench.claim("w").await;
        served.push(task.owner.unwrap_or_default());
    }
    // Those who were never served are, then everybody in turn.
    assert_eq!(served, ["", "modest", "greedy", "", "greedy", "greedy", "greedy"]);
    // It was not forgotten meanwhile whose turn it is.
    bench.submit(owned("modest")).await;
    assert_eq!(bench.claim("w").await.0.owner.as_deref(), Some("modest"));
    assert_eq!(bench.claim("w").await.0.owner.as_deref(), Some("greedy"));
}

pub async fn a_task_is_claimed_only_by_a_worker_that_has_all_that_it_needs(bench: Bench) {
    let set = |words: &[&str]| words.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let needing = |words: &[&str]| NewTask { needs: set(words), ..task("creative", 1.0) };
    let both = bench.submit(needing(&["model b", "model a"])).await;
    assert_eq!(both.needs, set(&["model a", "model b"]));
    let one = bench.submit(needing(&["model a"])).await.id;
    let none = bench.submit(task("creative", 1.0)).await.id;
    let claim = async |can: &[&str]| {
        let claimed = bench.store.queue.claim_able("w", LEASE, Some(&set(can))).await.unwrap();
        claimed.map(|task| task.id)
    };
    assert_eq!(claim(&["model b"]).await, Some(none), "others were due before it");
    assert_eq!(claim(&["model b", "model c"]).await, None);
    assert_eq!(claim(&["model a"]).await, Some(one));
    assert_eq!(claim(&["model c", "model b", "model a"]).await, Some(both.id));
    // Whoever does not say what it has, as earlier versions do not, is asked to run anything.
    let last = bench.submit(needing(&["model z"])).await.id;
    assert_eq!(bench.claim("w").await.0.id, last);
}

// ---- processes ----

pub async fn a_process_is_known_while_it_says_that_it_lives(bench: Bench) {
    let nodes = &bench.store.nodes;
    let about = About { host: "one".into(), works: true, can: BTreeSet::from(["a".into()]), ..About::default() };
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let first = nodes.beat(one, &about).await.unwrap();
    assert_eq!((&first.about, first.draining, first.started_at), (&about, false, bench.clock.now()));
    bench.clock.advance(10 * SECOND);
    nodes.beat(two, &About::default()).await.unwrap();
    assert!(nodes.drain(one, true).await.unwrap().unwrap().draining);
    let beat = nodes.beat(one, &about).await.unwrap();
    assert!(beat.draining && beat.started_at == first.started_at && beat.seen_at > first.seen_at);
    let ids = async || nodes.nodes().await.unwrap().iter().map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(ids().await, [one, two]);
    bench.clock.advance(15 * SECOND);
    nodes.beat(two, &About::default()).await.unwrap();
    bench.clock.advance(5 * SECOND);
    assert_eq!(ids().await, [two], "the other one was not heard of for 20 s");
    nodes.leave(two).await.unwrap();
    assert_eq!(ids().await, Vec::<Uuid>::new());
    assert_eq!(nodes.drain(two, true).await.unwrap(), None);
    let needy = bench.submit(NewTask { needs: BTreeSet::from(["a".into()]), ..task("creative", 1.0) }).await;
    assert!(beat.can_run(&needy));
    assert!(!Node { about: About { works: false, ..about }, ..beat }.can_run(&needy));
}

pub async fn a_database_belongs_to_the_first_storage_that_it_is_used_with(mut bench: Bench) {
    let fresh = bench.store.nodes.service().await.unwrap();
    assert_eq!(fresh.storage, None);
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let used = bench.store.nodes.use_storage(first, "s3://a").await.unwrap();
    assert_eq!((used.database, used.storage.clone()), (fresh.database, Some((first, "s3://a".to_owned()))));
    bench.restart().await;
    assert_eq!(bench.store.nodes.use_storage(second, "s3://b").await.unwrap(), used);
    assert_eq!(bench.store.nodes.service().await.unwrap(), used);
}

pub async fn old_tasks_can_be_forgotten_and_younger_and_living_ones_stay(bench: Bench) {
    let old = bench.finish(task("creative", 1.0)).await.id;
    let waiting = bench.submit(task("creative", 1.0)).await.id;
    bench.clock.advance(HOUR);
    let (claimed, lease) = bench.claim("w").await;
    assert_eq!(claimed.id, waiting);
    let young = bench.finish(task("creative", 1.0)).await.id;
    assert_eq!(bench.store.upkeep.forget(HOUR, 10).await.unwrap(), 1);
    assert_eq!(bench.store.upkeep.forget(HOUR, 10).await.unwrap(), 0);
    assert_eq!(bench.store.queue.get(old, &Scope::All).await.unwrap(), None);
    let expired = bench.store.queue.take_expired(10).await.unwrap();
    assert_eq!(expired.iter().map(|task| task.id).collect::<Vec<_>>(), [old], "its files are to be deleted");
    bench.get(young).await;
    bench.store.queue.complete(&lease, json!({})).await.unwrap();
}

pub async fn failed_and_cancelled_tasks_can_be_retried_as_a_new_run(bench: Bench) {
    let id = bench.submit(task("creative", 1.0)).await.id;
    let scope = Scope::All;
    assert!(matches!(bench.store.queue.retry(id, &scope).await.unwrap(), Retried::NotRetryable(_)));
    let (_, lease) = bench.claim("w").await;
    bench.store.queue.fail(&lease, error(), Retry::Never).await.unwrap();
    let Retried::Queued(queued) = bench.store.queue.retry(id, &scope).await.unwrap() else { panic!() };
    assert_eq!((queued.state, queued.run, queued.failures), (TaskState::Created, 2, 0));
    assert_eq!((&queued.error, queued.finished_at, queued.expires_at), (&None, None, None));
    assert_eq!(bench.get(id).await, queued);
    let (second, new_lease) = bench.claim("w").await;
    assert_eq!(second.attempt, 2, "the old lease fits no attempt of the new run");
    assert!(bench.store.queue.complete(&lease, json!({})).await.is_err());
    bench.store.queue.complete(&new_lease, json!({})).await.unwrap();
    assert!(matches!(bench.store.queue.retry(id, &scope).await.unwrap(), Retried::NotRetryable(_)));

    let id = bench.submit(task("creative", 1.0)).await.id;
    bench.store.queue.cancel(id, &scope).await.unwrap();
    bench.clock.advance(bench.config.retention.unwrap());
    assert_eq!(bench.store.queue.take_expired(10).await.unwrap().len(), 2);
    assert!(matches!(bench.store.queue.retry(id, &scope).await.unwrap(), Retried::InputGone(_)), "its files are going");
}

pub async fn listeners_hear_of_every_change(bench: Bench) {
    let mut changes = bench.store.queue.changes();
    let id = bench.submit(task("creative", 1.0)).await.id;
    let (_, lease) = bench.claim("w").await;
    bench.store.queue.heartbeat(&lease, LEASE, Report { progress: Some(json!(0.5)), plan: None }).await.unwrap();
    bench.store.queue.heartbeat(&lease, LEASE, Report::default()).await.unwrap();
    bench.store.queue.complete(&lease, json!({})).await.unwrap();
    let _ = bench.store.queue.complete(&lease, json!({})).await;
    use TaskState::*;
    for state in [Created, InProgress, InProgress, Completed] {
        let change = changes.try_recv().unwrap();
        assert_eq!((change.task, change.state), (id, state));
    }
    assert!(changes.try_recv().is_err(), "and of nothing else");
}

// ---- API keys ----

pub async fn api_keys_are_found_listed_and_revoked(mut bench: Bench) {
    let new = |prefix: &str| NewApiKey { name: "laptop".into(), prefix: prefix.into(), hash: [7; 32] };
    let made = bench.store.api_keys.create(new("enl_abc")).await.unwrap().unwrap();
    assert_eq!(bench.store.api_keys.create(new("enl_abc")).await.unwrap(), None, "taken");
    bench.clock.advance(SECOND);
    let second = bench.store.api_keys.create(new("enl_xyz")).await.unwrap().unwrap();
    bench.restart().await;
    assert_eq!(bench.store.api_keys.find("enl_abc").await.unwrap(), Some(made.clone()));
    assert_eq!(bench.store.api_keys.find("enl").await.unwrap(), None, "whole prefixes only");
    assert_eq!(bench.store.api_keys.list().await.unwrap(), [made.clone(), second]);
    bench.store.api_keys.used(made.id).await.unwrap();
    let revoked = bench.store.api_keys.revoke("enl_abc").await.unwrap().unwrap();
    let now: Timestamp = bench.clock.now();
    assert_eq!((revoked.last_used_at, revoked.revoked_at), (Some(now), Some(now)));
    bench.clock.advance(SECOND);
    assert_eq!(bench.store.api_keys.revoke("enl_abc").await.unwrap(), Some(revoked.clone()));
    assert_eq!(bench.store.api_keys.find("enl_abc").await.unwrap(), Some(revoked));
    assert_eq!(bench.store.api_keys.revoke("none").await.unwrap(), None);
}

// ---- everything at once ----

/// Several processes claim, heartbeat, fail, release, cancel and complete at random; then the books must balance.
pub async fn many_workers_at_once_leave_every_task_with_one_end(bench: Bench) {
    let mut ids = Vec::new();
    for i in 0..60 {
        ids.push(bench.submit(task("creative", f64::from(i % 7))).await.id);
    }
    let mut workers = Vec::new();
    for w in 0..6u64 {
        let store = bench.another().await;
        let ids = ids.clone();
        workers.push(tokio::spawn(async move {
            let name = format!("w{w}");
            // A linear congruential generator (Knuth's MMIX constants): the same choices in every run.
            let mut seed = w;
            let mut ended: BTreeMap<Uuid, u32> = BTreeMap::new();
            while let Some(task) = store.queue.claim(&name, LEASE).await.unwrap() {
                let lease = task.lease().unwrap();
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let ending = match (seed >> 33) % 10 {
                    0 => store.queue.release(&lease).await,
                    1 => store.queue.fail(&lease, error(), Retry::After(Duration::ZERO)).await,
                    2 => {
                        store.queue.cancel(ids[(seed >> 40) as usize % ids.len()], &Scope::All).await.unwrap();
                        store.queue.complete(&lease, json!({"by": name})).await
                    }
                    _ => store.queue.complete(&lease, json!({"by": name})).await,
                };
                match ending {
                    Ok(task) if task.state == TaskState::Completed => *ended.entry(task.id).or_default() += 1,
                    Ok(_) | Err(StoreError::LeaseLost(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            ended
        }));
    }
    let mut commits: BTreeMap<Uuid, u32> = BTreeMap::new();
    for worker in workers {
        for (id, times) in worker.await.unwrap() {
            *commits.entry(id).or_default() += times;
        }
    }
    let mut told: BTreeMap<(Uuid, TaskState), u32> = BTreeMap::new();
    for delivery in bench.deliver_all().await {
        *told.entry((delivery.task, delivery.status)).or_default() += 1;
    }
    assert!(told.values().all(|&times| times == 1), "one event per status");
    for id in ids {
        let task = bench.get(id).await;
        assert!(task.state.is_terminal(), "{task:?}");
        let completed = task.state == TaskState::Completed;
        assert_eq!(commits.get(&id).copied().unwrap_or(0), u32::from(completed));
        assert_eq!(task.result.is_some(), completed);
        let ends: Vec<_> = told.keys().filter(|(of, status)| *of == id && status.is_terminal()).collect();
        assert_eq!(ends, [&(id, task.state)]);
    }
}

/// The limits each test runs with; most need none.
pub fn config(test: &str) -> StoreConfig {
    match test {
        "p15_a_full_queue_says_when_to_come_back" => {
            StoreConfig { queue_limit: 5, owner_queue_limit: 3, ..StoreConfig::default() }
        }
        "p4_lost_leases_alone_fail_no_task_where_suspects_run_apart"
        | "p4_of_tasks_lost_together_only_the_one_that_kills_its_own_process_fails" => {
            StoreConfig { suspects_run_apart: true, ..StoreConfig::default() }
        }
        "p17_kept_files_go_when_they_are_deleted_or_room_is_needed" => {
            StoreConfig { retention: None, ..StoreConfig::default() }
        }
        _ => StoreConfig::default(),
    }
}

/// Makes one test of every promise above, on the given backend.
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        conformance!($backend:
            p2_crash_between_accept_and_reply_makes_one_task_per_key,
            p3_an_orphan_is_picked_up_when_its_lease_ends,
            p4_a_task_that_kills_its_workers_fails_after_three_attempts,
            p4_lost_leases_alone_fail_no_task_where_suspects_run_apart,
            p4_of_tasks_lost_together_only_the_one_that_kills_its_own_process_fails,
            p4_errors_worth_another_try_wait_and_count,
            p5_a_released_task_burns_no_attempt_and_keeps_its_place,
            p6_cancel_is_terminal_at_once_and_never_has_a_result,
            p7_fifty_concurrent_submissions_with_one_key_make_one_task,
            p7_a_key_means_one_body_of_one_owner_for_24_hours,
            p7_a_submission_repeated_by_a_caller_that_heard_nothing_is_the_same_task,
            p7_a_reserved_key_is_in_flight_until_submitted_given_back_or_forgotten,
            p8_each_status_of_a_run_is_one_event_whatever_happens_to_its_workers,
            p8_deliveries_keep_their_id_survive_crashes_and_end_once,
            p8_no_older_status_is_told_after_a_newer_one,
            p8_a_slow_receiver_does_not_take_every_sender,
            p9_a_result_is_there_exactly_when_the_task_is_completed,
            p15_a_full_queue_says_when_to_come_back,
            p15_a_thousand_concurrent_submissions_lose_none,
            p17_files_go_at_their_expiry_and_never_while_the_task_is_alive,
            p17_kept_files_go_when_they_are_deleted_or_room_is_needed,
            p17_an_upload_is_listed_until_it_expires_and_then_until_it_is_deleted,
            p17_a_deleted_task_is_out_of_sight_at_once_and_its_files_follow,
            short_tasks_overtake_long_ones_but_nobody_starves,
            a_waiting_task_knows_its_place,
            a_waiting_task_that_nobody_asks_for_yields_and_is_not_lost,
            a_running_task_that_nobody_asks_for_gives_way_to_others_only,
            another_owner_sees_nothing,
            lists_are_newest_first_in_pages_by_kind_and_state,
            any_page_of_any_list_is_right_whatever_happened_to_the_tasks,
            owners_take_turns_however_many_tasks_one_of_them_has,
            a_task_is_claimed_only_by_a_worker_that_has_all_that_it_needs,
            a_process_is_known_while_it_says_that_it_lives,
            a_database_belongs_to_the_first_storage_that_it_is_used_with,
            old_tasks_can_be_forgotten_and_younger_and_living_ones_stay,
            failed_and_cancelled_tasks_can_be_retried_as_a_new_run,
            listeners_hear_of_every_change,
            api_keys_are_found_listed_and_revoked,
            many_workers_at_once_leave_every_task_with_one_end,
        );
    };
    ($backend:ty: $($test:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let backend: Box<dyn conformance::Backend> = Box::new(<$backend as conformance::Backend>::new());
            let bench = conformance::Bench::new(backend, conformance::config(stringify!($test))).await;
            conformance::$test(bench).await;
        }
    )+};
}
