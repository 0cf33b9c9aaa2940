//! A small cluster to which everything happens that can happen: API nodes and workers, each a process of its own, on one
//! PostgreSQL server and one bucket, behind proxies that are bad lines. [`plan`] says what happens and when, [`nodes`] does it,
//! [`clients`] meanwhile use the cluster, and [`verdict`] decides, after everything is healed and at rest, whether a promise
//! was broken. The verdict does not depend on how fast anything was.
//!
//! To run another plan, or the same with another seed:
//! `CHAOS_PLAN=file.toml CHAOS_SEED=7 cargo nextest run --workspace --test service --run-ignored all soak`.

mod clients;
mod nodes;
mod plan;
mod verdict;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use standardwebhooks::Webhook;

use self::{
    clients::{Clients, PATIENCE},
    nodes::{Nodes, SECRET},
    plan::{Plan, Saboteur},
    verdict::{Evidence, Told, violations},
};
use crate::{
    harness::{Receiver, ask, signed_headers},
    moto::{BUCKET, Moto},
};

/// Carries out a plan: what was seen, and what is wrong with it.
fn run(plan: &Plan) -> (Evidence, Vec<String>) {
    println!("seed {}", plan.seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut nodes = runtime.block_on(Nodes::start(plan));
    let webhooks = Arc::new(Mutex::new(Vec::new()));
    let receiver = receiver(webhooks.clone());
    let ports = nodes.ports();
    wait_ready(&ports);
    let clients = Clients::new(plan, &ports[..plan.apis], &receiver.url);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..plan.workload.clients {
            scope.spawn(|| clients.work());
        }
        for step in plan.schedule() {
            thread::sleep(Duration::from_secs_f64(step.at).saturating_sub(started.elapsed()));
            let verb = if step.begins { "begins" } else { "ends" };
            println!("{:7.2} s  {:?} {verb} on {}", step.at, step.what, nodes.name(step.node));
            nodes.step(step.node, step.what, step.begins);
        }
        nodes.heal();
        println!("{:7.2} s  all is healed", started.elapsed().as_secs_f64());
        clients.over.store(true, Ordering::Relaxed);
    });
    clients.wait_for_rest();
    println!("{:7.2} s  all is at rest", started.elapsed().as_secs_f64());
    if plan.saboteurs.contains(&Saboteur::ForgetfulStorage) {
        forget_a_result(&nodes.storage);
    }
    let mut evidence = clients.evidence();
    evidence.complaints.extend(nodes.ended());
    evidence.webhooks = std::mem::take(&mut webhooks.lock().unwrap());
    let wrong = violations(&evidence);
    let folder = nodes.folder.clone();
    drop(nodes);
    println!("{} tasks, {} webhooks", evidence.tasks.len(), evidence.webhooks.len());
    if wrong.is_empty() {
        let _ = std::fs::remove_dir_all(folder);
    } else {
        println!("the logs are in {}", folder.display());
    }
    (evidence, wrong)
}

fn wait_ready(ports: &[u16]) {
    let patience = Instant::now() + PATIENCE;
    for port in ports {
        let url = format!("http://127.0.0.1:{port}/readyz");
        while !ask("GET", &url, &[], &[], PATIENCE).is_ok_and(|answer| answer.status == 200) {
            assert!(Instant::now() < patience, "{url} never gets ready");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Refuses each seventh webhook, but none twice: the third try would come minutes later.
fn receiver(webhooks: Arc<Mutex<Vec<Told>>>) -> Receiver {
    let refused = Mutex::new(HashSet::new());
    Receiver::answering(move |n, got| {
        let (body, event) = (got.json(), got.header("webhook-id").to_owned());
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let webhook = Webhook::new(SECRET).expect("a secret");
        let signed = webhook.verify(&got.body, &signed_headers(got)).is_ok();
        let told = Told { event: event.clone(), task: text("task_id"), status: text("status"), signed };
        webhooks.lock().unwrap().push(told);
        if n % 7 == 3 && refused.lock().unwrap().insert(event) { 500 } else { 200 }
    })
}

fn forget_a_result(storage: &Moto) {
    let listed = storage.ask("GET", &format!("/{BUCKET}?list-type=2"));
    let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    let key = keys.into_iter().find(|key| key.contains("/result-")).expect("a result");
    // Any name and signature do.
    let authorization = "AWS4-HMAC-SHA256 Credential=a/20260101/a/s3/aws4_request, SignedHeaders=host, Signature=a";
    let url = format!("http://127.0.0.1:{}/{BUCKET}/{key}", storage.port);
    let deleted = ask("DELETE", &url, &[("authorization", authorization)], &[], PATIENCE).expect("an answer");
    assert_eq!(deleted.status, 204, "{}", deleted.text());
}

#[test]
fn three_apis_and_four_workers_lose_and_double_nothing_whatever_breaks() {
    let plan = Plan::read(include_str!("short.toml"));
    let (evidence, wrong) = run(&plan);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(evidence.tasks.len() >= plan.workload.at_least);
}

#[test]
#[ignore = "takes a quarter of an hour: make soak runs it"]
fn soak() {
    let own = std::env::var("CHAOS_PLAN").map(|path| std::fs::read_to_string(path).expect("the plan can be read"));
    let mut plan = Plan::read(own.as_deref().unwrap_or(include_str!("soak.toml")));
    if let Ok(seed) = std::env::var("CHAOS_SEED") {
        plan.seed = seed.parse().expect("a seed is a number");
    }
    let (_, wrong) = run(&plan);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A runner that never finds anything proves nothing.
#[test]
fn the_runner_finds_what_a_broken_cluster_loses_doubles_and_leaves_unsigned() {
    let plan = Plan::read(
        r#"
        seed = 1
        apis = 2
        workers = 2
        seconds = 0
        clocks = [0]
        lease = 30
        disk = 48
        workload = { clients = 4, at_least = 16 }
        saboteurs = ["api_of_its_own", "worker_with_another_secret", "forgetful_storage"]
        "#,
    );
    let (_, wrong) = run(&plan);
    for expected in ["doubled: task-", "lost: ", "not signed: ", "completed without its result: "] {
        assert!(wrong.iter().any(|sentence| sentence.starts_with(expected)), "{expected}: {wrong:#?}");
    }
}
