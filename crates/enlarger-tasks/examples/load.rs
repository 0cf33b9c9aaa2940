//! How the store behaves: what each call takes when 1,000, 100,000 and 1,000,000 tasks have ended; then, with this history, 1,000
//! submissions at once with status reads and heartbeats while every core is busy, and how many tasks 1, 4 and 16 callers submit and
//! carry out per second. Prints what it measured; asserts only that nothing was lost.
//!
//! `cargo run --release -p enlarger-tasks --example load [DATABASE [ENDED...]]`, e.g. `sqlite:///tmp/load.db` or the URL of an empty
//! PostgreSQL database, and `1000 100000`.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use enlarger_tasks::{
    ListQuery, NewTask, Report, Scope, Store, StoreConfig, StoreError, Submitted, SystemClock, TaskState, open_store,
    sqlite,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

const SUBMISSIONS: usize = 1000;
const READS: usize = 5000;
const READERS: usize = 16;
/// How long each rate is measured.
const MEASURED: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), StoreError> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let ours = || sqlite::url_of(&scratch.path().join("load.db")).expect("a path");
    let url = std::env::args().nth(1).unwrap_or_else(ours);
    let config = StoreConfig { queue_limit: 1_000_000, ..StoreConfig::default() };
    let store = open_store(&url, config, Arc::new(SystemClock)).await?;

    let sizes: Vec<u64> = std::env::args().skip(2).map(|size| size.parse().expect("a number of tasks")).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 100_000, 1_000_000] } else { sizes };
    histories(&url, &store, &sizes).await?;
    burst(&store).await?;
    rates(&store).await
}

/// What each call takes after so many tasks have ended. Comes first: no other task is there.
async fn histories(url: &str, store: &Store, sizes: &[u64]) -> Result<(), StoreError> {
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for &size in sizes {
        fill(url, store, size).await;
        for (at, (what, took)) in medians(store).await?.into_iter().enumerate() {
            match rows.get_mut(at) {
                Some((_, all)) => all.push(took),
                None => rows.push((what, vec![took])),
            }
        }
    }
    let heads: Vec<String> = sizes.iter().map(|size| format!("{size} ended")).collect();
    println!("\n| median, ms | {} | most / least |\n|---|{}---|", heads.join(" | "), "---|".repeat(sizes.len()));
    for (what, took) in rows {
        let (least, most) = (took.iter().copied().fold(f64::MAX, f64::min), took.iter().copied().fold(0.0, f64::max));
        let took: Vec<String> = took.iter().map(|ms| format!("{ms:.2}")).collect();
        println!("| {what} | {} | {:.1} |", took.join(" | "), most / least);
    }
    Ok(())
}

/// Many submissions at once, and reads beside them while every core is busy.
async fn burst(store: &Store) -> Result<(), StoreError> {
    let busy = Busy::start();
    let started = Instant::now();
    let submissions: Vec<_> = (0..SUBMISSIONS).map(|_| tokio::spawn(submit(store.clone()))).collect();
    let mut times = Vec::new();
    let mut ids = Vec::new();
    for submission in submissions {
        let (id, time) = submission.await.expect("no panic")?;
        ids.push(id);
        times.push(time);
    }
    let total = started.elapsed();
    report("submit, all at once", times);
    println!("{:.0} submissions/s", SUBMISSIONS as f64 / total.as_secs_f64());

    // One worker beats its heart all the while, so reads meet writes.
    let task = store.queue.claim("load", Duration::from_secs(30)).await?.expect("tasks wait");
    let lease = task.lease().expect("claimed");
    let done = Arc::new(AtomicBool::new(false));
    let beating = tokio::spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let started = Instant::now();
                let progress = Some(json!({"tile": times.len()}));
                store.queue.heartbeat(&lease, Duration::from_secs(30), Report { progress, plan: None }).await?;
                times.push(started.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, StoreError>(times)
        }
    });
    let ids = Arc::new(ids);
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (store, ids) = (store.clone(), ids.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for i in 0..READS / READERS {
                    let started = Instant::now();
                    let id = ids[(i * 7919 + reader) % ids.len()];
                    store.queue.get(id, &Scope::All).await?.expect("nothing is lost");
                    times.push(started.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, StoreError>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.await.expect("no panic")?);
    }
    done.store(true, Ordering::Relaxed);
    report("status read", times);
    report("heartbeat", beating.await.expect("no panic")?);
    drop(busy);

    let unique: HashSet<_> = ids.iter().collect();
    let counts = store.upkeep.counts().await?;
    assert_eq!((unique.len(), counts.created + counts.in_progress), (SUBMISSIONS, SUBMISSIONS as u64));
    println!("{SUBMISSIONS} submitted, 0 lost");
    Ok(())
}

/// How many tasks callers submit and carry out per second.
async fn rates(store: &Store) -> Result<(), StoreError> {
    println!("\n| at once | submissions/s | claimed and completed/s |\n|---|---|---|");
    for callers in [1, 4, 16] {
        let submitted = per_second(store, callers, |store, _| async move { submit(store).await.map(|_| true) }).await?;
        let worked = per_second(store, callers, work).await?;
        println!("| {callers} | {submitted:.0} | {worked:.0} |");
    }
    // What is left would be measured, too.
    while work(store.clone(), 0).await? {}
    Ok(())
}

/// Adds ended tasks until there are so many: of eleven owners, each hundredth failed, with about 1.5 kB of documents. The database
/// makes them itself, because submitting and completing each would take hours.
async fn fill(url: &str, store: &Store, ended: u64) {
    const CHUNK: u64 = 10_000;
    let counts = store.upkeep.counts().await.expect("counts");
    let mut have = counts.completed + counts.failed;
    let sqlite = url.starts_with("sqlite");
    let hex = if sqlite { "printf('%012x', n)" } else { "lpad(to_hex(n), 12, '0')" };
    let plan = "x".repeat(1200);
    while have < ended {
        let (first, last) = (have + 1, (have + CHUNK).min(ended));
        let insert = format!(
            r#"WITH RECURSIVE n (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n < {last})
               INSERT INTO tasks (id, owner, kind, request, input, cost, state, run, attempt, failures, due, not_before,
                                  created_at, started_at, finished_at, expires_at, files, hidden, plan, result, error)
               SELECT '00000000-0000-7000-8000-' || {hex},
                      CASE WHEN n % 11 = 0 THEN NULL ELSE 'key-' || CAST(n % 11 AS TEXT) END, 'creative',
                      '{{"scale_factor": "2x", "prompt": "a photograph of a cat"}}', '{{"blob": 1}}', 2.0,
                      CASE WHEN n % 100 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
                      1, 1, 0, 1, 1, 1, 1, 1, 1, 'gone', 0, '{{"steps": "{plan}"}}',
                      CASE WHEN n % 100 = 0 THEN NULL ELSE '{{"file": "result-1.png"}}' END,
                      CASE WHEN n % 100 = 0 THEN '{{"code": "a", "message": "b"}}' END
               FROM n"#
        );
        execute(url, insert).await;
        have = last;
    }
    if !sqlite {
        // As autovacuum does sooner or later.
        execute(url, "VACUUM ANALYZE".to_owned()).await;
    }
}

async fn execute(url: &str, sql: String) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql));
    let done = if url.starts_with("sqlite") {
        let options: SqliteConnectOptions = url.parse().expect("the URL of a file");
        sql.execute(&mut options.connect().await.expect("it opens")).await.map(|_| ())
    } else {
        sql.execute(&mut PgConnection::connect(url).await.expect("it opens")).await.map(|_| ())
    };
    done.expect("the database carries it out");
}

/// What each call takes, in milliseconds.
async fn medians(store: &Store) -> Result<Vec<(&'static str, f64)>, StoreError> {
    const TIMES: usize = 200;
    let counts = store.upkeep.counts().await?;
    let last = (counts.completed + counts.failed) / 20;
    let list = |page, states: &[TaskState]| ListQuery { page, states: states.to_vec(), ..ListQuery::default() };
    let (all, own) = (Scope::All, Scope::Owner("key-1".to_owned()));
    let lists = [
        ("list, first page", list(1, &[]), &all),
        ("list, page 2,000 or the last", list(last.clamp(1, 2000), &[]), &all),
        ("list, first page of a key", list(1, &[]), &own),
        ("history search: failed", list(1, &[TaskState::Failed]), &all),
        ("history search: failed, last page", list((counts.failed / 20).max(1), &[TaskState::Failed]), &all),
    ];
    let mut found = Vec::new();
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..TIMES {
        times[0].push(submit(store.clone()).await?.1);
        let started = Instant::now();
        let claimed = store.queue.claim("w", Duration::from_secs(30)).await?.and_then(|task| task.lease());
        times[1].push(started.elapsed());
        let lease = claimed.expect("a task waits");
        let started = Instant::now();
        store.queue.complete(&lease, json!({ "file": "result-1.png" })).await?;
        times[2].push(started.elapsed());
    }
    for (what, times) in ["submission", "claim", "completion"].into_iter().zip(times) {
        found.push((what, median(times)));
    }
    for (what, query, scope) in lists {
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let started = Instant::now();
            store.queue.list(&query, scope).await?;
            times.push(started.elapsed());
        }
        found.push((what, median(times)));
    }
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        store.upkeep.counts().await?;
        times.push(started.elapsed());
    }
    found.push(("status: counts", median(times)));
    Ok(found)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// How often per second so many callers together do something, one time after the other, as long as there is something to
/// do.
async fn per_second<F: Future<Output = Result<bool, StoreError>> + Send>(
    store: &Store,
    callers: usize,
    action: impl Fn(Store, usize) -> F + Copy + Send + 'static,
) -> Result<f64, StoreError> {
    let started = Instant::now();
    let calling = |caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut times = 0;
            while started.elapsed() < MEASURED && action(store.clone(), caller).await? {
                times += 1;
            }
            Ok::<_, StoreError>(times)
        })
    };
    let calls: Vec<_> = (0..callers).map(calling).collect();
    let mut times = 0;
    for call in calls {
        times += call.await.expect("no panic")?;
    }
    Ok(f64::from(times) / started.elapsed().as_secs_f64())
}

async fn work(store: Store, worker: usize) -> Result<bool, StoreError> {
    let claimed = store.queue.claim(&format!("worker-{worker}"), Duration::from_secs(30)).await?;
    let Some(lease) = claimed.and_then(|task| task.lease()) else { return Ok(false) };
    store.queue.complete(&lease, json!({ "file": "result-1.png" })).await?;
    Ok(true)
}

async fn submit(store: Store) -> Result<(Uuid, Duration), StoreError> {
    let started = Instant::now();
    let task = NewTask {
        id: Uuid::now_v7(),
        owner: None,
        kind: "creative".to_owned(),
        request: json!({"scale_factor": "2x", "prompt": "a photograph of a cat", "engine": "automatic"}),
        input: json!({"blob": "inputs/1"}),
        webhook_url: None,
        cost: 2.0,
        polled: false,
        needs: BTreeSet::new(),
    };
    match store.queue.submit(task, None).await? {
        Submitted::Created(task) => Ok((task.id, started.elapsed())),
        other => panic!("not accepted: {other:?}"),
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms ({} times)", at(0.5), at(0.99), at(1.0), times.len());
}

/// Keeps every core busy until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut x = 1.0f64;
                while !stop.load(Ordering::Relaxed) {
                    x = std::hint::black_box(x.sin() + 1.0);
                }
            });
        }
        Busy(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
