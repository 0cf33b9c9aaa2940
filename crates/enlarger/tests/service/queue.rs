//! The queue: order, cancellation, idempotency, backpressure, events, deletion and retention.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::*;

#[test]
fn promise_6_cancelling_is_final_and_leaves_no_result() {
    let server = Server::start(&[]);
    let running = server.submit("/api/tasks", &endless());
    let waiting = server.submit("/api/tasks", &quick());
    server.wait(&running, &["IN_PROGRESS"]);
    let cancel = |id: &str| server.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
    let next = server.submit("/api/tasks", &quick());
    assert_eq!(cancel(&waiting).json()["status"], "CANCELLED", "at once");
    assert_eq!(cancel(&running).json()["status"], "CANCELLED");
    server.wait_done(&next);
    for id in [&running, &waiting] {
        let task = server.task(id);
        assert_eq!((&task["status"], &task["result"]), (&json!("CANCELLED"), &Value::Null));
        let wire = server.get(&format!("/api/tasks/{id}")).json();
        assert_eq!(wire["error"]["code"], "cancelled");
        assert_eq!(cancel(id).status, 409);
    }
    assert_eq!(cancel(&next).status, 409, "it was done");
    assert_eq!(server.task(&next)["status"], "COMPLETED");
    let files = std::fs::read_dir(server.dir().join("files/tasks").join(&running[34..]).join(&running)).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["source"], "the source alone is left, to be tried again with");
    let again = server.post(&format!("/api/tasks/{waiting}/retry"), &json!({}));
    assert_eq!(again.status, 200);
    server.wait_done(&waiting);
}

#[test]
fn promise_7_one_key_is_one_task_however_often_it_is_sent() {
    let server = Server::start(&[]);
    let body = json!({ "image": base64(&photo(32, 24)) }).to_string();
    let send = |key: &str, body: &str| server.send("POST", CREATIVE, &[("Idempotency-Key", key)], body.as_bytes());
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| send("k1", &body))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut ids = HashSet::new();
    for answer in &answers {
        match answer.status {
            200 => drop(ids.insert(answer.json()["data"]["task_id"].to_string())),
            409 => assert_eq!(answer.header("x-comfy-error-type"), "idempotency_in_flight"),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(ids.len(), 1);
    let id = ids.into_iter().next().unwrap();
    server.wait_done(id.trim_matches('"'));
    let replay = send("k1", &body);
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(replay.json()["data"]["task_id"].to_string(), id);
    assert_eq!(replay.json()["data"]["status"], "CREATED", "as the first time");
    let other = send("k1", &json!({ "image": base64(&photo(24, 32)) }).to_string());
    assert_eq!((other.status, other.header("x-comfy-error-type")), (409, "idempotency_mismatch"));
    assert_eq!(send("k2", &body).status, 200);
    assert_eq!(server.get("/api/tasks").json()["total"], 2);
    assert_eq!(send(&"k".repeat(256), &body).status, 400);
    // A refused request does not use its key up.
    assert_eq!(send("k3", "{}").status, 400);
    assert_eq!(send("k3", &body).status, 200);
}

#[test]
fn promise_15_a_full_queue_says_when_to_come_again() {
    let server = Server::start(&["--queue-limit", "3"]);
    let running = server.submit("/api/tasks", &endless());
    server.wait(&running, &["IN_PROGRESS"]);
    for _ in 0..3 {
        server.submit("/api/tasks", &quick());
    }
    let answer = server.post("/api/tasks", &quick());
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    assert_eq!(server.get("/api/tasks").json()["total"], 4, "nothing of it is kept");
}

#[test]
fn a_thumbnail_does_not_wait_behind_a_poster() {
    let server = Server::start(&[]);
    let running = server.submit("/api/tasks", &endless());
    server.wait(&running, &["IN_PROGRESS"]);
    let poster = server.submit("/api/tasks", &endless());
    let thumbnail = server.submit("/api/tasks", &quick());
    assert_eq!(server.task(&thumbnail)["position"], 0);
    assert_eq!(server.task(&poster)["position"], 1);
    server.post(&format!("/api/tasks/{running}/cancel"), &json!({}));
    server.wait_done(&thumbnail);
    server.wait(&poster, &["IN_PROGRESS"]);
}

#[test]
fn events_tell_a_task_from_its_place_in_the_queue_to_its_end() {
    let server = Server::start(&[]);
    let follow = |id: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(stream, "GET /api/tasks/{id}/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
    };
    let first = server.submit("/api/tasks", &endless());
    let second = server.submit("/api/tasks", &quick());
    let mut waiting = follow(&second);
    assert_eq!(waiting.next().expect("at once")["status"], "CREATED");
    let mut told = follow(&first);
    let mut fractions = Vec::new();
    while fractions.len() < 3 {
        let task = told.next().expect("it is still running");
        assert_eq!(task["task_id"], first.as_str());
        let progress = &task["progress"];
        if progress["total"].as_u64().is_some_and(|tiles| tiles > 0) {
            fractions.push(progress["fraction"].as_f64().unwrap());
        }
    }
    assert!(fractions.is_sorted() && fractions[0] < fractions[2], "{fractions:?}");
    server.post(&format!("/api/tasks/{first}/cancel"), &json!({}));
    // Both streams end with their tasks.
    assert_eq!(told.last().unwrap()["status"], "CANCELLED");
    assert_eq!(waiting.last().unwrap()["status"], "COMPLETED");
}

#[test]
fn deleting_takes_the_files_and_the_task_away() {
    let server = Server::start(&[]);
    let id = server.submit("/api/tasks", &quick());
    let done = server.wait_done(&id);
    let urls =
        [&done["result"]["url"], &done["invention"]["map_url"], &done["thumb_url"]].map(|url| url.as_str().unwrap());
    assert_eq!(urls.map(|url| server.get(url).status), [200; 3]);
    assert_eq!(server.send("DELETE", &format!("/api/tasks/{id}"), &[], &[]).status, 204);
    assert_eq!(urls.map(|url| server.get(url).status), [404; 3]);
    assert!(!server.dir().join("files/tasks").join(&id[34..]).join(&id).exists());
    assert_eq!(server.get(&format!("/api/tasks/{id}")).status, 404);
    let running = server.submit("/api/tasks", &endless());
    assert_eq!(server.send("DELETE", &format!("/api/tasks/{running}"), &[], &[]).status, 409);
}

#[test]
fn a_finished_task_tells_what_was_invented_and_where() {
    let server = Server::start(&[]);
    let invention = |creativity: i8| {
        let request = json!({ "model": "animevideo-v3", "look": { "mode": "creative", "creativity": creativity } });
        let task = json!({ "image": base64(&photo(96, 72)), "request": request });
        let waiting = server.submit("/api/tasks", &task);
        let done = server.wait_done(&waiting);
        let map = server.get(done["invention"]["map_url"].as_str().expect("an address"));
        assert_eq!((map.status, map.header("content-type")), (200, "image/png"));
        assert_eq!(png_size(&map.bytes), (96, 72), "as large as the source");
        done["invention"]["share"].as_f64().expect("a number")
    };
    let (plain, inventive) = (invention(0), invention(10));
    assert!(0.0 < plain && plain < inventive && inventive < 0.2, "{plain} {inventive}");
    let running = server.submit("/api/tasks", &endless());
    assert_eq!(server.task(&running)["invention"], Value::Null);
}

#[test]
fn promise_17_expired_files_go_the_task_says_so_and_a_running_task_keeps_its_own() {
    let mut server = Server::start(&["--lease-seconds", "3"]);
    let done = server.submit(CREATIVE, &json!({ "image": base64(&photo(32, 24)) }));
    server.wait_done(&done);
    let urls = ["/result/url", "/invention/map_url"].map(|at| server.task(&done).pointer(at).unwrap().to_string());
    let urls = urls.each_ref().map(|url| url.trim_matches('"'));
    let running = server.submit("/api/tasks", &endless());
    server.wait(&running, &["IN_PROGRESS"]);
    server.kill();
    // Nobody waits a day for a test: the calendar in the database is turned instead.
    let turn = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1]); \
        print(db.execute('UPDATE tasks SET expires_at = expires_at - 90000000 WHERE expires_at IS NOT NULL').rowcount); db.commit()";
    let turned = Command::new("python3").args(["-c", turn]).arg(server.dir().join("tasks.sqlite")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&turned.stdout).trim(), "1", "{turned:?}");
    server.start_again();
    let patience = std::time::Instant::now() + PATIENCE;
    while server.task(&done)["files"] == "present" || urls.iter().any(|url| server.get(url).status == 200) {
        assert!(std::time::Instant::now() < patience, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let invention = &server.task(&done)["invention"];
    assert!(invention["share"].is_number() && invention["map_url"].is_null(), "the number stays: {invention}");
    let wire = server.get(&format!("{CREATIVE}/{done}")).json();
    assert_eq!(wire["data"]["status"], "COMPLETED");
    assert!(wire["data"]["message"].as_str().unwrap().contains("expired"), "{wire}");
    server.wait(&running, &["IN_PROGRESS"]);
    let source = server.task(&running)["source"]["url"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&source).status, 200);
}
