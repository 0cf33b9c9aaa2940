//! The queue: order, cancellation, idempotency, backpressure, events, deletion and retention.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::harness::*;

on_both! {
    promise_6_cancelling_is_final_and_leaves_no_result,
    promise_7_one_key_is_one_task_however_often_it_is_sent,
    promise_15_a_full_queue_says_when_to_come_again,
    promise_17_expired_files_go_the_task_says_so_and_a_running_task_keeps_its_own,
}

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
    assert_eq!(server.stored(&running), ["source"], "the source alone is left, to be tried again with");
    let again = server.post(&format!("/api/tasks/{waiting}/retry"), &json!({}));
    assert_eq!(again.status, 200);
    server.wait_done(&waiting);
}

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
    let first = server.task(&thumbnail);
    assert_eq!(first["position"], 0);
    assert!(first["wait_seconds"].as_f64() > Some(10.0), "what runs is waited for: {first}");
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
    assert_eq!(server.stored(&id), [""; 0]);
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

fn promise_17_expired_files_go_the_task_says_so_and_a_running_task_keeps_its_own() {
    let mut server = Server::start(&["--lease-seconds", "3", "--retention-hours", "24"]);
    let done = server.submit(CREATIVE, &json!({ "image": base64(&photo(32, 24)) }));
    server.wait_done(&done);
    let urls = ["/result/url", "/invention/map_url"].map(|at| server.task(&done).pointer(at).unwrap().to_string());
    let urls = urls.each_ref().map(|url| url.trim_matches('"'));
    let running = server.submit("/api/tasks", &endless());
    server.wait(&running, &["IN_PROGRESS"]);
    server.kill();
    let turned = server.turn("UPDATE tasks SET expires_at = expires_at - 90000000 WHERE expires_at IS NOT NULL");
    assert_eq!(turned, 1);
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

#[test]
fn results_stay_on_a_machine_of_ones_own_until_the_disk_budget_is_reached() {
    let server = Server::start(&["--disk-budget-mb", "1"]);
    let status = server.get("/api/status").json();
    assert_eq!((&status["retention_seconds"], &status["disk_budget_bytes"]), (&Value::Null, &json!(1 << 20)));
    // About half a megabyte each.
    let task = json!({ "image": base64(&photo(256, 192)), "request": { "model": "animevideo-v3" } });
    let ids: Vec<String> = (0..5).map(|_| server.submit("/api/tasks", &task)).collect();
    let favor = |method, id: &str| server.send(method, &format!("/api/tasks/{id}/favorite"), &[], &[]).json();
    assert_eq!(favor("PUT", &ids[1])["favorite"], true);
    assert_eq!(
        (&favor("PUT", &ids[2])["favorite"], &favor("DELETE", &ids[2])["favorite"]),
        (&json!(true), &json!(false))
    );
    let running = server.submit("/api/tasks", &endless());
    let done: Vec<Value> = ids.iter().map(|id| server.wait_done(id)).collect();
    assert!(done.iter().all(|task| task["files"] == "gone" || task["expires_at"].is_null()), "{done:?}");
    let patience = std::time::Instant::now() + PATIENCE;
    while server.task(&ids[0])["files"] == "present" {
        assert!(std::time::Instant::now() < patience, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let present = |id: &String| server.task(id)["files"] == "present";
    let left: Vec<bool> = ids.iter().map(present).collect();
    assert!(left[1], "a favorite stays: {left:?}");
    assert!([left[0], left[2], left[3], left[4]].is_sorted(), "the longest finished went first: {left:?}");
    assert!(left[4], "the last one stays");
    let url = server.task(&ids[4])["result"]["url"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&url).status, 200);
    let source = server.task(&running)["source"]["url"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&source).status, 200, "what is needed stays");
    assert_eq!(server.task(&ids[0])["status"], "COMPLETED", "the task is remembered");

    let elsewhere = Server::start(&["--retention-hours", "5"]);
    let done = elsewhere.wait_done(&elsewhere.submit("/api/tasks", &quick()));
    assert!(done["expires_at"].is_string(), "{done}");
    let status = elsewhere.get("/api/status").json();
    assert_eq!((&status["retention_seconds"], &status["disk_budget_bytes"]), (&json!(5 * 3600), &Value::Null));
}

#[test]
fn a_job_that_nobody_asks_for_gives_way_and_is_not_lost() {
    let server = Server::start(&[]);
    let comfy = |body: &Value| {
        let answer = server.send("POST", CREATIVE, &[("Comfy-Env", "local")], body.to_string().as_bytes());
        answer.json()["data"]["task_id"].as_str().unwrap().to_owned()
    };
    let abandoned = comfy(&json!({ "image": base64(&photo(1200, 900)), "scale_factor": "4x" }));
    server.wait(&abandoned, &["IN_PROGRESS"]);
    // One with a webhook, or from another client, is never considered abandoned.
    let next = comfy(&json!({ "image": base64(&photo(32, 24)), "scale_factor": "2x" }));
    assert_eq!(server.turn("UPDATE tasks SET polled_at = polled_at - 30000 WHERE state = 'IN_PROGRESS'"), 1);
    server.wait_done(&next);
    let task = server.wait(&abandoned, &["IN_PROGRESS"]);
    assert!(task["error"].is_null(), "no attempt is burnt: {task}");

    // Asked for, it stays.
    let waiting = server.submit("/api/tasks", &quick());
    assert_eq!(server.turn("UPDATE tasks SET polled_at = polled_at - 30000 WHERE polled_at IS NOT NULL"), 2);
    server.wait_done(&waiting);
    server.wait(&abandoned, &["IN_PROGRESS"]);
}

#[test]
fn our_own_api_has_its_own_limit_of_a_results_size() {
    let large = json!({ "image": base64(&photo(2000, 1600)), "request": { "size": { "factor": 4.0 } } });
    let free = Server::start(&[]);
    assert_eq!(free.get("/api/status").json()["limits"]["max_result_megapixels"], Value::Null);
    // Running, or it would not be accepted at all.
    let id = free.submit("/api/tasks", &large);
    free.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
    let estimate = |server: &Server, width: u32| {
        server
            .post("/api/estimate", &json!({ "width": width, "height": 1600, "request": { "size": { "factor": 4.0 } } }))
    };
    let answer = estimate(&free, 20_000);
    assert!(answer.status == 200 || answer.text().contains("MB of memory"), "{}", answer.text());

    let limited = Server::start(&["--max-result-megapixels", "30"]);
    assert_eq!(limited.get("/api/status").json()["limits"]["max_result_megapixels"], 30);
    for answer in [limited.post("/api/tasks", &large), estimate(&limited, 2000)] {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("8000 x 6400 pixels, more than the limit of 30 million"), "{}", answer.text());
    }
    assert_eq!(estimate(&limited, 1000).status, 200);
    let vendor = limited.post(CREATIVE, &json!({ "image": base64(&photo(2000, 1600)), "scale_factor": "4x" }));
    assert!(vendor.text().contains("25.3 million pixels"), "{}", vendor.text());
}
