//! Promises about processes that die or freeze, with real processes that are really killed: this binary starts itself again
//! as a worker ([`child`]) and drives it by what it says on its standard output. Outcomes are exact; only the order in
//! which things happen is the machine's. `crash!(Backend)` makes one test of each promise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use enlarger_tasks::{
    Beat, Idempotency, ListQuery, NewTask, Report, Scope, Store, StoreConfig, StoreError, Submitted, SystemClock,
    TaskError, TaskState, open_store,
};
use serde_json::json;
use uuid::Uuid;

const LEASE: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);

async fn open(url: &str, max_failures: u32) -> Store {
    let config = StoreConfig { max_failures, ..StoreConfig::default() };
    open_store(url, config, Arc::new(SystemClock)).await.unwrap()
}

fn task(kind: &str) -> NewTask {
    NewTask {
        id: Uuid::now_v7(),
        owner: None,
        kind: kind.to_owned(),
        request: json!({}),
        input: json!({}),
        webhook_url: Some("https://example.com/hook".to_owned()),
        cost: 1.0,
        polled: false,
        needs: BTreeSet::new(),
    }
}

/// Everything in the outbox: how often each status of each task is in it.
async fn outbox(store: &Store) -> BTreeMap<(Uuid, TaskState), u32> {
    let mut told = BTreeMap::new();
    loop {
        let due = store.outbox.due(100, Duration::from_secs(60)).await.unwrap();
        if due.is_empty() {
            return told;
        }
        for delivery in due {
            store.outbox.delivered(delivery.event, delivery.attempt).await.unwrap();
            *told.entry((delivery.task, delivery.status)).or_default() += 1;
        }
    }
}

// ---- the child ----

/// What the tests start as a process of its own.
pub fn child() {
    let Ok(role) = std::env::var("CRASH_ROLE") else { return };
    let directory = PathBuf::from(std::env::var_os("CRASH_DIRECTORY").unwrap());
    let url = std::env::var("CRASH_DATABASE").unwrap();
    let max_failures = std::env::var("CRASH_MAX_FAILURES").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&url, max_failures).await;
        match role.as_str() {
            "worker" => work(&store, &directory).await,
            "api" => accept(&store).await,
            "cramped" => insist(&store).await,
            other => panic!("no role {other}"),
        }
    });
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@ {words}").unwrap();
    out.flush().unwrap();
}

/// Claims until nothing is left to do, also by others: work a little, publish a file, commit.
async fn work(store: &Store, directory: &Path) {
    let worker = format!("{}-{}", std::process::id(), Uuid::new_v4());
    loop {
        let Some(task) = store.queue.claim(&worker, LEASE).await.unwrap() else {
            let counts = store.upkeep.counts().await.unwrap();
            if counts.created + counts.in_progress == 0 {
                return;
            }
            tokio::time::sleep(STEP).await;
            continue;
        };
        let lease = task.lease().unwrap();
        say(&format!("claimed {}", task.id));
        if task.kind == "bomb" {
            std::process::abort();
        }
        for step in 0..4 {
            tokio::time::sleep(STEP).await;
            let report = Report { progress: Some(json!(step)), plan: None };
            if store.queue.heartbeat(&lease, LEASE, report).await.unwrap() != Beat::Alive {
                break;
            }
        }
        let file = directory.join(format!("{}-{}-{worker}.png", task.id, task.attempt));
        std::fs::write(&file, b"pixels").unwrap();
        match store.queue.complete(&lease, json!({"file": file})).await {
            Ok(_) => say(&format!("committed {}", task.id)),
            Err(StoreError::LeaseLost(_)) => {
                std::fs::remove_file(&file).unwrap();
                say(&format!("lost {}", task.id));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Accepts submissions; the parent kills it before it could reply to any client.
async fn accept(store: &Store) {
    let from: u32 = std::env::var("CRASH_FROM").unwrap().parse().unwrap();
    for i in [from, from + 1] {
        say(&format!("accepting {i}"));
        store.queue.submit(task("creative"), Some(key(i))).await.unwrap();
        say(&format!("accepted {i}"));
    }
    std::future::pending().await
}

/// Submits until the disk is full, and then until it is not.
async fn insist(store: &Store) {
    let mut refused = false;
    loop {
        let task = task("creative");
        let id = task.id;
        match store.queue.submit(task, None).await {
            Ok(_) => say(&format!("accepted {id}")),
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                if !refused {
                    say(&format!("refused {id}"));
                }
                refused = true;
                tokio::time::sleep(STEP).await;
                continue;
            }
        }
        if refused {
            return;
        }
    }
}

fn key(i: u32) -> Idempotency {
    Idempotency { key: format!("key-{i}"), body_hash: [1; 32], reservation: None }
}

// ---- the parent ----

struct Herd {
    url: String,
    directory: PathBuf,
    max_failures: u32,
    children: HashMap<u32, Child>,
    heard: mpsc::Receiver<(u32, Option<String>)>,
    tell: mpsc::Sender<(u32, Option<String>)>,
}

impl Herd {
    fn new(url: String, directory: &Path, max_failures: u32) -> Self {
        let (tell, heard) = mpsc::channel();
        Herd { url, directory: directory.to_owned(), max_failures, children: HashMap::new(), heard, tell }
    }

    /// Starts a child and listens to it: each line it says, then `None` when it is gone.
    fn spawn(&mut self, role: &str, from: u32) -> u32 {
        // A "cramped" child may write files of 512 * 512 bytes at most; beyond that a write fails like on a full disk.
        let limits = if role == "cramped" { "trap '' XFSZ; ulimit -S -f 512;" } else { "" };
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limits} exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("CRASH_ROLE", role)
            .env("CRASH_DATABASE", &self.url)
            .env("CRASH_DIRECTORY", &self.directory)
            .env("CRASH_MAX_FAILURES", self.max_failures.to_string())
            .env("CRASH_FROM", from.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = child.id();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let tell = self.tell.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test harness prints on the same line.
                if let Some((_, words)) = line.split_once("@ ") {
                    let _ = tell.send((id, Some(words.to_owned())));
                }
            }
            let _ = tell.send((id, None));
        });
        self.children.insert(id, child);
        id
    }

    fn hear(&self, patience: Duration) -> Option<(u32, Option<String>)> {
        self.heard.recv_timeout(patience).ok()
    }

    /// kill -9
    fn kill(&mut self, id: u32) {
        let mut child = self.children.remove(&id).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether the child, which is gone, ended well.
    fn reap(&mut self, id: u32) -> Option<bool> {
        self.children.remove(&id).map(|mut child| child.wait().unwrap().success())
    }

    fn signal(&self, id: u32, signal: &str) {
        assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub async fn p1_workers_killed_and_frozen_under_load_lose_and_double_nothing(url: String) {
    const TASKS: usize = 200;
    const WORKERS: usize = 4;
    let started = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    // So many kills may well hit one task three times; poison has its own test.
    let store = open(&url, 1000).await;
    let mut ids = BTreeSet::new();
    for _ in 0..TASKS {
        let task = task("creative");
        ids.insert(task.id);
        store.queue.submit(task, None).await.unwrap();
    }

    let mut herd = Herd::new(url, directory.path(), 1000);
    for _ in 0..WORKERS {
        herd.spawn("worker", 0);
    }
    let (mut kills, mut freezes, mut claims) = (0, 0, 0);
    let mut frozen: Vec<(u32, Instant)> = Vec::new();
    let mut commits: BTreeMap<Uuid, u32> = BTreeMap::new();
    let mut lost = 0;
    // Every fourth claim its worker is killed and every twelfth it is frozen past its lease, both in the middle of the work.
    while !herd.children.is_empty() {
        frozen.retain(|&(id, since)| {
            let thaw = since.elapsed() >= LEASE + Duration::from_millis(200);
            // It may have claimed once more before it was frozen, and have been killed for that.
            if thaw && herd.children.contains_key(&id) {
                herd.signal(id, "-CONT");
            }
            !thaw
        });
        let Some((id, words)) = herd.hear(Duration::from_millis(20)) else { continue };
        if !herd.children.contains_key(&id) {
            continue;
        }
        let Some(words) = words else {
            assert_eq!(herd.reap(id), Some(true), "a worker broke by itself");
            continue;
        };
        match words.split_once(' ').unwrap() {
            ("claimed", _) => {
                claims += 1;
                if claims % 4 == 0 && kills < 40 {
                    herd.kill(id);
                    herd.spawn("worker", 0);
                    kills += 1;
                } else if claims % 12 == 2 && freezes < 10 {
                    herd.signal(id, "-STOP");
                    frozen.push((id, Instant::now()));
                    freezes += 1;
                }
            }
            ("committed", id) => *commits.entry(id.parse().unwrap()).or_default() += 1,
            ("lost", _) => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((kills, freezes), (40, 10));
    assert!(lost > 0, "no frozen worker came back to find its lease lost: the fence was not tried");
    assert!(commits.values().all(|&times| times == 1), "committed twice");

    for &id in &ids {
        let task = store.queue.get(id, &Scope::All).await.unwrap().expect("lost");
        assert_eq!(task.state, TaskState::Completed);
        let file = task.result.unwrap()["file"].as_str().unwrap().to_owned();
        assert_eq!(std::fs::read(file).unwrap(), b"pixels");
    }
    let statuses = [TaskState::InProgress, TaskState::Completed];
    let expected: BTreeMap<_, _> = ids.iter().flat_map(|&id| statuses.map(|status| ((id, status), 1))).collect();
    assert_eq!(outbox(&store).await, expected);
    println!("{claims} claims, {lost} leases found lost, {:.1} s", started.elapsed().as_secs_f64());
}

pub async fn p2_an_api_killed_between_accept_and_reply_made_one_task_per_key(url: String) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&url, 3).await;
    let mut herd = Herd::new(url, directory.path(), 3);
    // One by one the keys 0 to 99, each in a process that is killed as soon as it is known to be accepting (so before, in or
    // after the commit: up to the signal) or to have accepted, in turns.
    for i in 0..100 {
        let child = herd.spawn("api", i);
        let fatal = if i % 2 == 0 { format!("accepting {i}") } else { format!("accepted {i}") };
        loop {
            let (id, words) = herd.hear(Duration::from_secs(30)).expect("the API accepts");
            if id == child && words.expect("the API lives") == fatal {
                break;
            }
        }
        herd.kill(child);
    }
    let (mut made, mut replayed) = (BTreeSet::new(), 0);
    // The last child may have gone on to key 100 before the signal reached it.
    for i in 0..=100 {
        match store.queue.submit(task("creative"), Some(key(i))).await.unwrap() {
            Submitted::Created(task) => assert!(made.insert(task.id)),
            Submitted::Replayed(task) => {
                assert!(made.insert(task.id));
                replayed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(replayed >= 50, "what was accepted is remembered: {replayed}");
    let total = store.queue.list(&ListQuery::default(), &Scope::All).await.unwrap().total;
    assert_eq!(total, made.len() as u64, "one task per key");
}

pub async fn p4_a_task_that_aborts_its_worker_fails_after_three_and_hurts_no_other(url: String) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&url, 3).await;
    let bomb = task("bomb");
    let bomb_id = bomb.id;
    let mut others = BTreeSet::new();
    for _ in 0..5 {
        let other = task("creative");
        others.insert(other.id);
        store.queue.submit(other, None).await.unwrap();
    }
    store.queue.submit(bomb, None).await.unwrap();
    for _ in 0..5 {
        let other = task("creative");
        others.insert(other.id);
        store.queue.submit(other, None).await.unwrap();
    }
    let mut herd = Herd::new(url, directory.path(), 3);
    let mut aborted = 0;
    herd.spawn("worker", 0);
    while !herd.children.is_empty() {
        let (id, words) = herd.hear(Duration::from_secs(30)).expect("the worker works or dies");
        if words.is_none() && herd.reap(id) == Some(false) {
            aborted += 1;
            herd.spawn("worker", 0);
        }
    }
    assert_eq!(aborted, 3);
    let bomb = store.queue.get(bomb_id, &Scope::All).await.unwrap().unwrap();
    assert_eq!((bomb.state, bomb.attempt), (TaskState::Failed, 3));
    assert_eq!(bomb.error.unwrap().code, TaskError::WORKER_DIED);
    for id in others {
        let task = store.queue.get(id, &Scope::All).await.unwrap().unwrap();
        assert_eq!((task.state, task.attempt, task.failures), (TaskState::Completed, 1, 0));
    }
}

#[allow(dead_code, reason = "a test can fill only the disk that SQLite writes to")]
pub async fn p16_a_full_disk_refuses_loses_nothing_and_recovers_alone(url: String) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&url, 3).await;
    let mut herd = Herd::new(url, directory.path(), 3);
    let child = herd.spawn("cramped", 0);
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    while !herd.children.is_empty() {
        let (id, words) = herd.hear(Duration::from_secs(30)).expect("the child goes on");
        match words.as_deref().and_then(|words| words.split_once(' ')) {
            Some(("accepted", task)) => assert!(accepted.insert(task.parse::<Uuid>().unwrap())),
            Some(("refused", task)) => {
                refused.insert(task.parse::<Uuid>().unwrap());
                let more = ["--pid", &child.to_string(), "--fsize=unlimited"];
                assert!(Command::new("prlimit").args(more).status().unwrap().success());
            }
            _ => assert_eq!(herd.reap(id), Some(true), "the child recovers"),
        }
    }
    assert!(accepted.len() > 1 && refused.len() == 1, "{} accepted, {} refused", accepted.len(), refused.len());
    let query = ListQuery { per_page: 1000, ..ListQuery::default() };
    let stored = store.queue.list(&query, &Scope::All).await.unwrap().tasks;
    assert_eq!(stored.iter().map(|task| task.id).collect::<BTreeSet<_>>(), accepted);
}

/// Makes one test of every promise above, on the given backend.
#[macro_export]
macro_rules! crash {
    ($backend:ty) => {
        crash!($backend:
            p1_workers_killed_and_frozen_under_load_lose_and_double_nothing,
            p2_an_api_killed_between_accept_and_reply_made_one_task_per_key,
            p4_a_task_that_aborts_its_worker_fails_after_three_and_hurts_no_other,
        );

        /// Not a test: what the other tests start as a process of its own.
        #[test]
        #[ignore = "started by the other tests"]
        fn child() {
            crash::child();
        }
    };
    ($backend:ty: $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let backend = <$backend as conformance::Backend>::new();
            crash::$test(conformance::Backend::url(&backend)).await;
        }
    )+};
}
