//! Traces of tasks, as a collector of OpenTelemetry gets them.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::*;

/// What the collector got, read by OpenTelemetry's own package.
fn spans(collector: &Receiver) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(root().join("tests/clients/otlp_spans.py"));
    for (n, received) in collector.got().into_iter().enumerate() {
        assert_eq!(received.header("content-type"), "application/x-protobuf");
        let path = folder.path().join(n.to_string());
        std::fs::write(&path, received.body).unwrap();
        command.arg(path);
    }
    let out = command.output().expect("python3; `make test` installs what the tests need");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

#[test]
fn a_trace_follows_a_task_from_the_api_to_the_worker_and_its_receiver() {
    let (collector, receiver) = (Receiver::start(|_| 200), Receiver::start(|_| 200));
    let otlp = collector.url.trim_end_matches("/hook").to_owned();
    let settings = ["--allow-net", "127.0.0.0/8", "--otlp", &otlp, "--role"];
    let mut api = Server::start(&[&settings[..], &["api"]].concat());
    let mut worker = api.another(&[&settings[..], &["worker"]].concat());
    let body = json!({ "image": base64(&photo(32, 24)), "webhook_url": receiver.url });
    let id = api.submit(CREATIVE, &body);
    api.wait_done(&id);
    receiver.wait(2);
    let mut torn = photo(32, 24);
    let middle = torn.len() / 2;
    torn[middle..middle + 8].fill(0);
    let failing = api.submit(CREATIVE, &json!({ "image": base64(&torn) }));
    api.wait(&failing, &["FAILED"]);
    // What they have not sent yet, they send now.
    assert!(worker.terminate().success() && api.terminate().success(), "{}", api.log());

    let all = spans(&collector);
    let trace = id.replace('-', "");
    let of = |name: &str| -> Vec<&Value> {
        all.iter().filter(|span| span["trace"] == trace.as_str() && span["name"] == name).collect()
    };
    let [root] = of("task")[..] else { panic!("{all:?}") };
    assert_eq!((root["parent"].as_str(), &root["attributes"]["enlarger.outcome"]), (Some(""), &json!("completed")));
    for (name, kind, role, count) in
        [("submit", 2, "api", 1), ("wait", 1, "worker", 1), ("attempt", 5, "worker", 1), ("webhook", 3, "worker", 2)]
    {
        let parts = of(name);
        assert_eq!(parts.len(), count, "{name}: {all:?}");
        for part in parts {
            assert_eq!((&part["parent"], part["kind"].as_u64()), (&root["id"], Some(kind)), "{part}");
            assert_eq!((&part["about"]["enlarger.role"], &part["error"]), (&json!(role), &json!("")), "{part}");
            assert!(part["from"].as_u64() <= part["to"].as_u64() && part["attributes"]["enlarger.task"] == id.as_str());
        }
    }
    let failed = failing.replace('-', "");
    let of_failed = |name: &str| all.iter().find(|span| span["trace"] == failed.as_str() && span["name"] == name);
    let why = of_failed("attempt").expect("it was tried")["error"].as_str().expect("a text");
    assert!(why.contains("damaged") || why.contains("decode") || why.contains("read"), "{why}");
    assert_eq!(of_failed("task").expect("it ended")["error"], "the task failed");
}

#[test]
fn a_collector_that_is_away_is_said_once_and_delays_nothing() {
    let mut server = Server::start(&["--otlp", "http://127.0.0.1:9"]);
    for _ in 0..2 {
        let id = server.submit("/api/tasks", &quick());
        server.wait_done(&id);
    }
    assert!(server.terminate().success());
    let log = server.log();
    assert_eq!(log.matches("traces cannot be sent to the collector").count(), 1, "{log}");
}
