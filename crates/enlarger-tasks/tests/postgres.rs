//! The conformance suite and the crashes on PostgreSQL, and what only a database server can get wrong.
#![cfg(target_os = "linux")]

mod cluster;
mod conformance;
mod crash;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cluster::Cluster;
use conformance::{Backend, LEASE, task};
use enlarger_error::Explained as _;
use enlarger_tasks::{
    Beat, Clock, ListQuery, ManualClock, NewTask, Report, Scope, Store, StoreConfig, StoreError, Submitted,
    SystemClock, Task, TaskState, open_store,
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::Connection as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

struct Postgres {
    url: String,
    _cluster: Cluster,
}

impl Backend for Postgres {
    fn new() -> Self {
        let cluster = Cluster::shared();
        Postgres { url: cluster.database(), _cluster: cluster }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

conformance!(Postgres);
crash!(Postgres);

/// Longer than anything here takes; only a test that hangs waits for it.
const HANGS: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Result<Store, StoreError> {
    open_store(url, StoreConfig::default(), Arc::new(SystemClock)).await
}

async fn all(store: &Store) -> Vec<Task> {
    let query = ListQuery { per_page: 1000, ..ListQuery::default() };
    store.queue.list(&query, &Scope::All).await.unwrap().tasks
}

/// How often each status of each task is in the outbox.
async fn outbox(store: &Store) -> BTreeMap<(Uuid, TaskState), u32> {
    let mut told = BTreeMap::new();
    loop {
        let due = store.outbox.due(100, LEASE).await.unwrap();
        if due.is_empty() {
            return told;
        }
        for delivery in due {
            store.outbox.delivered(delivery.event, delivery.attempt).await.unwrap();
            *told.entry((delivery.task, delivery.status)).or_default() += 1;
        }
    }
}

// ---- many at once ----

#[tokio::test(flavor = "multi_thread")]
async fn p1_eight_workers_at_once_claim_nothing_twice_and_lose_nothing() {
    let postgres = Postgres::new();
    let store = open(&postgres.url).await.unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..160 {
        let new = task("creative", 1.0);
        ids.insert(new.id);
        store.queue.submit(new, None).await.unwrap();
    }
    let mut workers = Vec::new();
    for worker in 0..8 {
        let store = open(&postgres.url).await.unwrap();
        workers.push(tokio::spawn(async move {
            let mut done = Vec::new();
            while let Some(task) = store.queue.claim(&format!("w{worker}"), LEASE).await.unwrap() {
                let lease = task.lease().unwrap();
                assert_eq!(store.queue.heartbeat(&lease, LEASE, Report::default()).await.unwrap(), Beat::Alive);
                store.queue.complete(&lease, json!({ "by": worker })).await.unwrap();
                done.push(task.id);
            }
            done
        }));
    }
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    assert_eq!(done.len(), ids.len(), "none was claimed twice");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), ids);
    assert!(all(&store).await.iter().all(|task| task.state == TaskState::Completed && task.attempt == 1));
    let statuses = [TaskState::InProgress, TaskState::Completed];
    let expected: BTreeMap<_, _> = ids.iter().flat_map(|&id| statuses.map(|status| ((id, status), 1))).collect();
    assert_eq!(outbox(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn p15_submissions_at_once_to_several_servers_never_exceed_the_limit() {
    let postgres = Postgres::new();
    let config = StoreConfig { queue_limit: 7, owner_queue_limit: 3, ..StoreConfig::default() };
    let mut submissions = Vec::new();
    for server in 0..4 {
        let store = open_store(&postgres.url, config.clone(), Arc::new(SystemClock)).await.unwrap();
        for i in 0..12 {
            let (store, owner) = (store.clone(), (i % 3 > 0).then(|| format!("owner-{}", (server + i) % 2)));
            let new = NewTask { owner, ..task("creative", 1.0) };
            submissions.push(tokio::spawn(async move { store.queue.submit(new, None).await.unwrap() }));
        }
    }
    let mut created: Vec<Option<String>> = Vec::new();
    for submission in submissions {
        if let Submitted::Created(task) = submission.await.unwrap() {
            created.push(task.owner);
        }
    }
    assert_eq!(created.len(), 7);
    for owner in ["owner-0", "owner-1"] {
        assert!(created.iter().filter(|of| of.as_deref() == Some(owner)).count() <= 3, "{created:?}");
    }
}

/// Far from the limit submissions do not wait for each other; near it they do, and none is one too many.
#[tokio::test(flavor = "multi_thread")]
async fn p15_submissions_that_do_not_wait_for_each_other_fill_the_queue_to_its_limit_exactly() {
    let postgres = Postgres::new();
    // The server has 300 connections (see `cluster`), so only the first few need not wait.
    let config = StoreConfig { queue_limit: 330, owner_queue_limit: 320, ..StoreConfig::default() };
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(open_store(&postgres.url, config.clone(), Arc::new(SystemClock)).await.unwrap());
    }
    let submit = |index: usize, owner: Option<&str>| {
        let store = servers[index % 4].clone();
        let new = NewTask { owner: owner.map(str::to_owned), ..task("creative", 1.0) };
        tokio::spawn(async move { matches!(store.queue.submit(new, None).await.unwrap(), Submitted::Created(_)) })
    };
    for (owner, fit) in [(Some("one"), 320), (None, 10)] {
        let submissions: Vec<_> = (0..340).map(|index| submit(index, owner)).collect();
        let mut created = 0;
        for submission in submissions {
            created += usize::from(submission.await.unwrap());
        }
        assert_eq!(created, fit, "{owner:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_senders_at_once_take_each_webhook_once_and_few_of_a_receiver() {
    let postgres = Postgres::new();
    let store = open(&postgres.url).await.unwrap();
    for host in ["a", "b", "c"] {
        for _ in 0..10 {
            let webhook_url = Some(format!("https://{host}.example/hook"));
            store.queue.submit(NewTask { webhook_url, ..task("creative", 1.0) }, None).await.unwrap();
            store.queue.claim("w", LEASE).await.unwrap();
        }
    }
    let mut senders = Vec::new();
    for _ in 0..8 {
        let store = open(&postgres.url).await.unwrap();
        senders.push(tokio::spawn(async move { store.outbox.due(30, LEASE).await.unwrap() }));
    }
    let mut taken = Vec::new();
    for sender in senders {
        taken.extend(sender.await.unwrap());
    }
    let events: BTreeSet<_> = taken.iter().map(|delivery| delivery.event).collect();
    assert_eq!((taken.len(), events.len()), (12, 12), "four of each of three receivers, none of them twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_heard_by_every_other_process() {
    let postgres = Postgres::new();
    let (here, there) = (open(&postgres.url).await.unwrap(), open(&postgres.url).await.unwrap());
    let mut changes = there.queue.changes();
    let id = task("creative", 1.0).id;
    here.queue.submit(NewTask { id, ..task("creative", 1.0) }, None).await.unwrap();
    let claimed = here.queue.claim("w", LEASE).await.unwrap().unwrap();
    here.queue.complete(&claimed.lease().unwrap(), json!({})).await.unwrap();
    for state in [TaskState::Created, TaskState::InProgress, TaskState::Completed] {
        let change = tokio::time::timeout(HANGS, changes.recv()).await.expect("it is heard").unwrap();
        assert_eq!((change.task, change.state), (id, state));
    }
}

// ---- time ----

/// The clock of a machine that is wrong by so many seconds.
#[derive(Debug)]
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(self.0)
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn p3_leases_hold_between_machines_whose_clocks_differ_by_ten_minutes() {
    let postgres = Postgres::new();
    let machine =
        async |wrong| open_store(&postgres.url, StoreConfig::default(), Arc::new(Wrong(wrong))).await.unwrap();
    let (early, late) = (machine(-600).await, machine(600).await);
    early.queue.submit(task("creative", 1.0), None).await.unwrap();
    let lease = late.queue.claim("late", LEASE).await.unwrap().expect("not before its time").lease().unwrap();
    late.queue.release(&lease).await.unwrap();
    let lease = early.queue.claim("early", LEASE).await.unwrap().expect("it is free again").lease().unwrap();
    assert_eq!(late.queue.recover_expired_leases().await.unwrap(), 0, "the lease holds");
    assert_eq!(late.queue.claim("late", LEASE).await.unwrap(), None);
    let done = early.queue.complete(&lease, json!({})).await.unwrap();
    assert_eq!(done.started_at.unwrap().duration_since(done.created_at).as_mins(), 0, "one clock");
    // Webhooks are put off by the same clock.
    let first = early.outbox.due(9, LEASE).await.unwrap();
    assert_eq!(first[0].taken_at.duration_since(first[0].created_at).as_mins(), 0, "receivers see that clock, too");
    early.outbox.delivered(first[0].event, 1).await.unwrap();
    let second = early.outbox.due(9, LEASE).await.unwrap();
    early.outbox.failed(second[0].event, 1, Duration::from_secs(300), "500").await.unwrap();
    assert_eq!(late.outbox.due(9, LEASE).await.unwrap(), []);
}

// ---- lost connections ----

/// Passes connections on to a server, and cuts one once.
struct Proxy {
    port: u16,
    /// How many more messages of clients to pass on before the cut.
    left: Arc<AtomicU64>,
}

/// Where to cut.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// The server never gets the message.
    Message,
    /// The server has answered, and the client does not hear.
    Answer,
}

const NEVER: u64 = u64::MAX / 2;

impl Proxy {
    async fn start(server: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicU64::new(NEVER));
        let counter = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(pass(client, server, counter.clone(), cut));
            }
        });
        Proxy { port, left }
    }

    /// Cuts after so many more messages.
    fn cut_after(&self, messages: u64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Whether the cut was made.
    fn is_spent(&self) -> bool {
        self.left.load(Ordering::SeqCst) > NEVER
    }
}

async fn pass(client: TcpStream, server: TcpStream, left: Arc<AtomicU64>, cut: Cut) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            biased;
            read = from_client.read(&mut asked) => {
                let Ok(size @ 1..) = read else { return };
                // One for each message; below zero it wraps around, and never comes back to 0.
                let cutting = left.fetch_sub(1, Ordering::SeqCst) == 0;
                if cutting && cut == Cut::Message {
                    return;
                }
                if to_server.write_all(&asked[..size]).await.is_err() {
                    return;
                }
                if cutting {
                    let _ = from_server.read(&mut answered).await;
                    return;
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(size @ 1..) = read else { return };
                if to_client.write_all(&answered[..size]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Claims a task that waits, as soon as the server has noticed that nobody else is about to: until then a connection that was cut
/// keeps it locked.
async fn claim(store: &Store) -> Task {
    loop {
        if let Some(task) = store.queue.claim("w", LEASE).await.unwrap() {
            return task;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every call of a task's life, with the connection cut at each of its messages, and each of its answers, in turn.
#[tokio::test(flavor = "multi_thread")]
async fn p16_a_connection_cut_at_any_point_loses_and_doubles_nothing() {
    let cluster = Cluster::shared();
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    for cut in [Cut::Message, Cut::Answer] {
        let url = cluster.database();
        let sure = open_store(&url, StoreConfig::default(), clock.clone()).await.unwrap();
        let proxy = Proxy::start(cluster.port, cut).await;
        let through = url.replace(&format!(":{}/", cluster.port), &format!(":{}/", proxy.port));
        let store = open_store(&through, StoreConfig::default(), clock.clone()).await.unwrap();
        let mut ids = BTreeSet::new();
        for call in ["submit", "claim", "heartbeat", "complete", "due", "delivered"] {
            for messages in 0.. {
                let new = task("creative", 1.0);
                ids.insert(new.id);
                let before = all(&sure).await.len();
                let on = |name| if call == name { &store } else { &sure };
                let cutting = |name| {
                    if call == name {
                        proxy.cut_after(messages);
                    }
                };
                cutting("submit");
                let id = match on("submit").queue.submit(new, None).await.unwrap() {
                    Submitted::Created(task) => task.id,
                    other => panic!("{other:?}"),
                };
                assert_eq!(all(&sure).await.len(), before + 1, "{call} {cut:?} {messages}");
                cutting("claim");
                let claimed = tokio::time::timeout(HANGS, claim(on("claim"))).await.expect("it waits");
                assert_eq!((claimed.id, claimed.attempt), (id, 1), "{call} {cut:?} {messages}");
                let lease = claimed.lease().unwrap();
                cutting("heartbeat");
                let report = Report { progress: Some(json!(1)), plan: None };
                assert_eq!(on("heartbeat").queue.heartbeat(&lease, LEASE, report).await.unwrap(), Beat::Alive);
                cutting("complete");
                let done = on("complete").queue.complete(&lease, json!({ "n": messages })).await.unwrap();
                assert_eq!(sure.queue.get(id, &Scope::All).await.unwrap().as_ref(), Some(&done));
                for status in [TaskState::InProgress, TaskState::Completed] {
                    cutting("due");
                    let due = on("due").outbox.due(10, LEASE).await.unwrap();
                    let told: Vec<_> = due.iter().map(|it| (it.task, it.status, it.attempt)).collect();
                    assert_eq!(told, [(id, status, 1)], "{call} {cut:?} {messages}");
                    cutting("delivered");
                    on("delivered").outbox.delivered(due[0].event, 1).await.unwrap();
                }
                let cut_was_made = proxy.is_spent();
                proxy.cut_after(NEVER);
                if !cut_was_made {
                    assert!(messages > 3, "{call} was cut at {messages} points");
                    break;
                }
            }
        }
        let tasks = all(&sure).await;
        assert_eq!(tasks.iter().map(|task| task.id).collect::<BTreeSet<_>>(), ids);
        assert!(tasks.iter().all(|task| task.state == TaskState::Completed && task.attempt == 1 && task.failures == 0));
        assert_eq!(sure.upkeep.counts().await.unwrap().outbox_pending, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_a_restarted_database_loses_nothing_and_the_store_recovers_alone() {
    let cluster = Cluster::own();
    let url = cluster.database();
    let store = open(&url).await.unwrap();
    let mut changes = open(&url).await.unwrap().queue.changes();
    let submitters: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut accepted = BTreeSet::new();
                while accepted.len() < 150 {
                    let new = task("creative", 1.0);
                    match store.queue.submit(new, None).await {
                        Ok(Submitted::Created(task)) => assert!(accepted.insert(task.id)),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => assert!(error.is_transient(), "{error:?}"),
                    }
                }
                accepted
            })
        })
        .collect();
    let cluster = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            cluster.restart();
        }
        cluster
    })
    .await
    .unwrap();
    let mut accepted = BTreeSet::new();
    for submitter in submitters {
        accepted.extend(submitter.await.unwrap());
    }
    let mut stored = BTreeSet::new();
    for page in 1..=6 {
        let query = ListQuery { page, per_page: 100, ..ListQuery::default() };
        stored.extend(store.queue.list(&query, &Scope::All).await.unwrap().tasks.iter().map(|task| task.id));
    }
    assert_eq!(store.upkeep.counts().await.unwrap().created, 600);
    assert_eq!(stored, accepted);
    // Changes are heard again, too: sooner or later, as nobody says when.
    while changes.try_recv().is_ok() {}
    let heard = async {
        loop {
            store.queue.submit(task("creative", 1.0), None).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(200), changes.recv()).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(HANGS, heard).await.expect("changes are heard again");
    drop(cluster);
}

// ---- opening ----

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_agree_on_the_schema() {
    let postgres = Postgres::new();
    let openings: Vec<_> = (0..8)
        .map(|_| {
            let url = postgres.url();
            tokio::spawn(async move { open(&url).await })
        })
        .collect();
    for opening in openings {
        opening.await.unwrap().unwrap().upkeep.ping().await.unwrap();
    }
}

/// The statements of the first version, which knows nothing of what was added since, go on beside this one.
#[tokio::test]
async fn p20_a_process_of_an_earlier_version_works_on_beside_this_one() {
    const FIRST: &str = include_str!("../migrations/postgres/0001_initial.sql");
    let cluster = Cluster::shared();
    let url = cluster.database();
    let name = url.rsplit('/').next().unwrap();
    let released = tempfile::tempdir().unwrap();
    std::fs::write(released.path().join("0001_initial.sql"), FIRST).unwrap();
    let mut old = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::migrate::Migrator::new(released.path()).await.unwrap().run(&mut old).await.unwrap();
    let add = |id: Uuid| {
        format!(
            "INSERT INTO tasks (id, owner, kind, request, input, cost, state, run, attempt, failures, due, not_before,
                                created_at, files, hidden)
             VALUES ('{id}', 'key', 'creative', '{{}}', '{{}}', 1, 'CREATED', 1, 0, 0, 1, 1, 1, 'present', 0)"
        )
    };
    let (before, beside) = (Uuid::now_v7(), Uuid::now_v7());
    cluster.sql(name, &add(before));
    let store = open(&url).await.unwrap();
    cluster.sql(name, &add(beside));
    let claim = "state = 'IN_PROGRESS', attempt = 1, worker = 'old', lease_until = 9000000000000";
    cluster.sql(name, &format!("UPDATE tasks SET {claim} WHERE id = '{before}'"));
    let counts = store.upkeep.counts().await.unwrap();
    assert_eq!((counts.created, counts.in_progress), (1, 1), "what the other one does is counted");
    assert_eq!(all(&store).await.iter().map(|task| task.id).collect::<Vec<_>>(), [beside, before]);
    let claimed = store.queue.claim_able("new", LEASE, Some(&BTreeSet::new())).await.unwrap();
    assert_eq!(claimed.expect("it needs nothing").id, beside);
    // A process of a version that says less of itself, and other things.
    let node = Uuid::new_v4();
    let about = r#"{"host": "old", "more": [1]}"#;
    cluster.sql(name, &format!("INSERT INTO nodes VALUES ('{node}', '{about}', 0, 1, 9000000000000)"));
    let nodes = store.nodes.nodes().await.unwrap();
    assert_eq!((nodes[0].id, nodes[0].about.host.as_str()), (node, "old"));
}

#[tokio::test]
async fn p20_a_database_of_a_newer_version_is_refused_with_a_hint() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    open(&url).await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'later', TRUE, '', 0)";
    cluster.sql(name, later);
    let refusal = open(&url).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Open { .. }), "{refusal:?}");
    assert!(refusal.hint().is_some_and(|hint| hint.contains("a newer version")), "{refusal:?}");
}

#[tokio::test]
async fn p21_a_database_that_cannot_be_opened_is_refused_with_a_hint_and_without_the_password() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.sql("postgres", "DROP ROLE IF EXISTS guest");
    let (start, name) = url.rsplit_once('/').unwrap();
    cluster.sql(name, "CREATE ROLE guest LOGIN PASSWORD 'hunter2'; REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let port = cluster.port;
    let cases = [
        (
            format!("postgres://postgres:hunter2@127.0.0.1:{port}/{name}"),
            false,
            "password authentication failed",
            "check the user and the password",
        ),
        (format!("{start}/absent"), false, "\"absent\" does not exist", "create the database"),
        (format!("postgres://u:hunter2@127.0.0.1:{closed}/x"), true, "refused", "check that PostgreSQL runs there"),
        (
            "postgres://u:hunter2@no-such-host.invalid/x".to_owned(),
            true,
            "no-such-host.invalid",
            "check that PostgreSQL runs there",
        ),
        (format!("postgres://guest:hunter2@127.0.0.1:{port}/{name}"), false, "no schema", "let the user create tables"),
        (format!("{url}?sslmode=require&password=hunter2"), false, "TLS", "sslmode"),
        (format!("{url}?passwort=hunter2"), false, "unknown parameter `passwort`", "known parameters"),
        (format!("{url}?sslmode=perhaps"), false, "invalid database URL", "sslmode=verify-full"),
    ];
    for (url, again, why, hint) in cases {
        let refusal = open(&url).await.unwrap_err();
        let (text, advice) = (refusal.to_string(), refusal.hint().expect("what to do").into_owned());
        assert_eq!(refusal.is_transient(), again, "{refusal:?}");
        assert!(text.contains(why) && advice.contains(hint), "{text}; hint: {advice}");
        assert!(!format!("{text} {advice} {refusal:?}").contains("hunter2"), "{text}");
    }
    let latin = format!("latin_{}", Uuid::new_v4().simple());
    cluster.sql("postgres", &format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"));
    let refusal = open(&cluster.url(&latin)).await.unwrap_err();
    assert!(refusal.to_string().contains("LATIN1"), "{refusal}");
}

#[tokio::test]
async fn text_that_the_database_cannot_store_is_stored_as_well_as_it_can() {
    let postgres = Postgres::new();
    let store = open(&postgres.url).await.unwrap();
    let new = NewTask { kind: "a\0b".into(), request: json!({ "prompt": "a\u{0}b" }), ..task("creative", 1.0) };
    let id = new.id;
    store.queue.submit(new, None).await.unwrap();
    let stored = store.queue.get(id, &Scope::All).await.unwrap().unwrap();
    assert_eq!((stored.kind.as_str(), stored.request), ("a\u{FFFD}b", json!({ "prompt": "a\u{0}b" })));
}
