//! How the store behaves under load: 1,000 submissions at once, then status reads and heartbeats while every core is
//! busy; then how many tasks 1, 4 and 16 callers submit and carry out per second. Prints what it measured; asserts only that
//! nothing was lost.
//!
//! `cargo run --release -p enlarger-tasks --example load [DATABASE]`, e.g. `sqlite:///tmp/load.db` or the URL of an empty
//! PostgreSQL database.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use enlarger_tasks::{
    NewTask, Report, Scope, Store, StoreConfig, StoreError, Submitted, SystemClock, open_store, sqlite,
};
use serde_json::json;
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
    for callers in [1, 4, 16] {
        let submitted =
            per_second(&store, callers, |store, _| async move { submit(store).await.map(|_| true) }).await?;
        let worked = per_second(&store, callers, work).await?;
        println!("{callers} at once: {submitted:.0} submissions/s, {worked:.0} tasks claimed and completed/s");
    }
    Ok(())
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
