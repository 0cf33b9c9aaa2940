//! Processes that die, by kill -9, by SIGTERM, or because a picture kills them.

use std::{thread, time::Duration};

use serde_json::json;

use crate::harness::*;

#[test]
fn a_server_killed_in_mid_task_completes_it_after_it_starts_again() {
    let mut server = Server::start(&["--lease-seconds", "2"]);
    let id = server.submit("/api/tasks", &slow());
    server.wait(&id, &["IN_PROGRESS"]);
    server.kill();
    server.start_again();
    let task = server.wait_done(&id);
    let result = server.get(task["result"]["url"].as_str().unwrap());
    assert_eq!(png_size(&result.bytes), (768, 576));
}

#[test]
fn promise_2_a_server_killed_between_accept_and_reply_made_one_task_per_key() {
    let mut server = Server::start(&[]);
    let body = json!({ "image": base64(&photo(32, 24)), "scale_factor": "2x" }).to_string();
    let rounds = 12;
    for round in 0..rounds {
        let key = format!("round-{round}");
        thread::scope(|scope| {
            let (url, body, key) = (server.url(CREATIVE), &body, &key);
            let client = scope.spawn(move || {
                let _ = ureq::post(url).header("idempotency-key", key).send(body.as_bytes());
            });
            // From before the connection to after the reply.
            thread::sleep(Duration::from_micros(1500 * round));
            server.kill();
            let _ = client.join();
        });
        server.start_again();
        // A reservation whose maker died holds for some seconds; a client is told to come again.
        let headers = [("idempotency-key", key.as_str())];
        loop {
            let answer = server.send("POST", CREATIVE, &headers, body.as_bytes());
            match answer.status {
                200 => break,
                409 => thread::sleep(Duration::from_millis(200)),
                other => panic!("{other}: {}", answer.text()),
            }
        }
    }
    assert_eq!(server.get("/api/tasks").json()["total"], rounds);
}

#[test]
fn promise_3_another_worker_picks_up_what_a_killed_one_held() {
    let api = Server::start(&["--role", "api"]);
    let mut worker = api.another(&["--role", "worker", "--lease-seconds", "2"]);
    let id = api.submit("/api/tasks", &slow());
    api.wait(&id, &["IN_PROGRESS"]);
    worker.kill();
    let _second = api.another(&["--role", "worker", "--lease-seconds", "2"]);
    let task = api.wait_done(&id);
    assert!(task["result"]["url"].as_str().unwrap().contains("result-2"), "the second attempt: {task}");
    assert!(worker.try_send("GET", "/health", &[], &[]).is_err(), "the first one is dead");
}

#[test]
fn promise_4_a_picture_that_kills_its_worker_fails_after_three_and_hurts_no_other() {
    let api = Server::start(&["--role", "api"]);
    let deadly = api.submit("/api/tasks", &endless());
    for _ in 0..3 {
        let mut worker = api.another(&["--role", "worker", "--lease-seconds", "1"]);
        api.wait(&deadly, &["IN_PROGRESS"]);
        // As the kernel does with a process that takes too much memory.
        worker.kill();
        // Out of the lease; the next worker takes it up.
        thread::sleep(Duration::from_millis(1100));
    }
    let other = api.submit("/api/tasks", &quick());
    let _worker = api.another(&["--role", "worker", "--lease-seconds", "1"]);
    let task = api.wait(&deadly, &["FAILED"]);
    assert_eq!(task["error"]["code"], "worker_died", "{task}");
    assert!(task["error"]["message"].as_str().unwrap().len() > 20);
    api.wait_done(&other);
}

#[test]
fn promise_5_sigterm_finishes_short_work_gives_back_long_work_and_burns_no_attempt() {
    let mut server = Server::start(&["--drain-seconds", "6"]);
    let id = server.submit("/api/tasks", &endless());
    let waiting = server.submit("/api/tasks", &quick());
    server.wait(&id, &["IN_PROGRESS"]);
    assert_eq!(server.terminate().code(), Some(0));
    assert!(server.log().contains("released"), "{}", server.log());
    server.start_again();
    let released = server.task(&id);
    assert_eq!(released["error"], json!(null), "{released}");
    server.wait(&id, &["IN_PROGRESS"]);
    server.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
    server.wait_done(&waiting);

    let mut patient = Server::start(&["--drain-seconds", "200"]);
    let id = patient.submit("/api/tasks", &slow());
    patient.wait(&id, &["IN_PROGRESS"]);
    assert_eq!(patient.terminate().code(), Some(0));
    patient.start_again();
    let task = patient.task(&id);
    assert_eq!(task["status"], "COMPLETED", "finished before the end: {task}");
}

#[test]
fn promise_9_what_is_completed_can_be_downloaded_whatever_was_killed() {
    let mut server = Server::start(&["--lease-seconds", "1"]);
    let ids: Vec<String> = (0..12).map(|_| server.submit("/api/tasks", &quick())).collect();
    for round in 0..6 {
        thread::sleep(Duration::from_millis(37 * round));
        server.kill();
        server.start_again();
        for id in &ids {
            let task = server.task(id);
            if task["status"] == "COMPLETED" {
                let url = task["result"]["url"].as_str().expect("a completed task has a result");
                assert_eq!(png_size(&server.get(url).bytes), (64, 48));
            }
        }
    }
    for id in &ids {
        let task = server.wait(id, &["COMPLETED", "FAILED"]);
        // Killed three times in the act is a reason to give up; having no file is not.
        if task["status"] == "COMPLETED" {
            assert_eq!(png_size(&server.get(task["result"]["url"].as_str().unwrap()).bytes), (64, 48));
        } else {
            assert_eq!(task["error"]["code"], "worker_died", "{task}");
        }
    }
}

#[test]
fn promise_11_pictures_that_break_decoders_fail_alone() {
    let server = Server::start(&[]);
    let whole = [photo(64, 48), sample("friends.jpg")];
    let mut ids = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        // xorshift64*, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    for n in 0..60 {
        let mut bytes = whole[n % 2].clone();
        for _ in 0..=random(20) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let body =
            json!({ "image": base64(&bytes), "request": { "model": "animevideo-v3", "size": { "factor": 1.5 } } });
        let answer = server.post("/api/tasks", &body);
        match answer.status {
            200 => ids.push(answer.json()["task_id"].as_str().unwrap().to_owned()),
            400 => assert!(answer.text().contains("image cannot be used"), "{}", answer.text()),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(ids.len() > 5, "some get past the header");
    for id in &ids {
        let task = server.wait(id, &["COMPLETED", "FAILED"]);
        if task["status"] == "FAILED" {
            assert!(task["error"]["message"].as_str().unwrap().len() > 10, "{task}");
            assert_ne!(task["error"]["code"], "internal", "a panic: {task}");
        }
    }
    server.wait_done(&server.submit("/api/tasks", &quick()));
}
