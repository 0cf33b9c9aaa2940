//! Processes that die, by kill -9, by SIGTERM, or because a picture kills them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use crate::harness::*;

on_both! {
    promise_2_a_server_killed_between_accept_and_reply_made_one_task_per_key,
    promise_3_another_worker_picks_up_what_a_killed_one_held,
    #[cfg(target_os = "linux")]
    promise_4_a_picture_that_kills_its_worker_fails_after_three_and_hurts_no_other,
    promise_5_sigterm_finishes_short_work_gives_back_long_work_and_burns_no_attempt,
    promise_9_what_is_completed_can_be_downloaded_whatever_was_killed,
    promise_11_pictures_that_break_decoders_fail_alone,
    #[cfg(target_os = "linux")]
    promise_16_a_disk_that_fills_fails_no_task_and_is_told,
    #[cfg(target_os = "linux")]
    promise_16_a_fetched_picture_and_an_upload_find_room_later,
}

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
        // A reservation whose process died lasts some seconds; clients are asked to retry.
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

/// The process in which a server runs a suspect. Only Linux lists it.
#[cfg(target_os = "linux")]
fn process_of_its_own(server: &Server) -> u32 {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let [child] = server.children()[..] {
            return child;
        }
        assert!(Instant::now() < patience, "{}", server.log());
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
fn promise_4_a_picture_that_kills_its_worker_fails_after_three_and_hurts_no_other() {
    // Killed as the kernel kills a process that takes too much memory: once the worker, and after that what runs the picture.
    let mut server = Server::start(&["--lease-seconds", "1"]);
    let deadly = server.submit("/api/tasks", &endless());
    server.wait(&deadly, &["IN_PROGRESS"]);
    server.kill();
    server.start_again();
    let pid = server.pid();
    let mut last = 0;
    for _ in 0..2 {
        let child = loop {
            let child = process_of_its_own(&server);
            if child != last {
                break child;
            }
        };
        let killed = Command::new("kill").args(["-9", &child.to_string()]).status().unwrap();
        assert!(killed.success());
        last = child;
    }
    let task = server.wait(&deadly, &["FAILED"]);
    assert_eq!(task["error"]["code"], "worker_died", "{task}");
    assert_eq!(task["error"]["message"], "the worker stopped 3 times while working on this task");
    assert!(task["error"]["hint"].is_string());
    server.wait_done(&server.submit("/api/tasks", &quick()));
    assert_eq!(server.pid(), pid, "the server lives");
}

#[cfg(target_os = "linux")]
#[test]
fn a_healthy_task_outlives_any_number_of_kills() {
    let mut server = Server::start(&["--lease-seconds", "1"]);
    let task =
        json!({ "image": base64(&photo(192, 144)), "request": { "model": "x4plus", "size": { "factor": 8.0 } } });
    let id = server.submit("/api/tasks", &task);
    let mut started = serde_json::Value::Null;
    for kill in 0..4 {
        let task = loop {
            let task = server.wait(&id, &["IN_PROGRESS"]);
            if task["started_at"] != started {
                break task;
            }
            thread::sleep(Duration::from_millis(5));
        };
        started = task["started_at"].clone();
        let child = if kill > 0 { Some(process_of_its_own(&server)) } else { None };
        server.kill();
        // What ran the picture ends with the server that started it.
        let patience = Instant::now() + PATIENCE;
        while child
            .is_some_and(|child| std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty()))
        {
            assert!(Instant::now() < patience, "an orphan computes on");
            thread::sleep(Duration::from_millis(5));
        }
        server.start_again();
    }
    let done = server.wait_done(&id);
    assert_eq!(png_size(&server.get(done["result"]["url"].as_str().unwrap()).bytes), (1536, 1152));
    assert!(done["invention"]["share"].as_f64().is_some_and(|share| share > 0.0), "told by the other process: {done}");
    assert!(done["plan"]["steps"].is_object() && done["timings"]["network"].is_number(), "{done}");
}

#[test]
fn what_a_killed_server_left_unfinished_is_gone_when_it_starts_again() {
    let mut server = Server::start(&[]);
    // In the middle of a job and of an upload.
    let id = server.submit("/api/tasks", &endless());
    server.wait(&id, &["IN_PROGRESS"]);
    let upload = server.post("/customers/storage", &json!({ "file_name": "a.png" })).json()["upload_url"].clone();
    let path = upload.as_str().unwrap().split_once(&server.port.to_string()).unwrap().1.to_owned();
    let mut half = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    write!(half, "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n").unwrap();
    half.write_all(&[7; 300_000]).unwrap();
    let unfinished = |server: &Server| {
        let files = server.files_in("files/tmp");
        files.iter().filter(|path| !path.ends_with("lock")).count()
    };
    let patience = Instant::now() + PATIENCE;
    while unfinished(&server) < 3 {
        assert!(Instant::now() < patience, "{}", unfinished(&server));
        thread::sleep(Duration::from_millis(5));
    }
    server.kill();
    // Another process that lives keeps what it is writing.
    let other = server.another(&["--role", "api"]);
    assert_eq!(unfinished(&server), 0);
    server.start_again();
    let folders = std::fs::read_dir(server.dir().join("files/tmp")).unwrap().flatten();
    assert_eq!(folders.filter(|entry| entry.path().is_dir()).count(), 2, "one for each process that lives");
    drop(other);
}

#[test]
fn unfinished_files_without_a_lock_go_when_they_are_old() {
    let mut server = Server::start(&[]);
    server.kill();
    let put = |name: &str, days: u64| {
        let path = server.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
        path
    };
    // Of a model that was being added, and of a version that knew no locks.
    let old = ["models/.tmpAbCdEf", "files/tmp/.tmpAbCdEf"].map(|name| put(name, 2));
    let kept = [put("models/.tmpGhIjKl", 0), put("files/tmp/.tmpGhIjKl", 0), put("models/own.txt", 2)];
    server.start_again();
    let patience = Instant::now() + PATIENCE;
    while old.iter().any(|path| path.exists()) {
        assert!(Instant::now() < patience, "{old:?}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(kept.iter().all(|path| path.exists()), "somebody may be writing them");
}

#[cfg(target_os = "linux")]
fn promise_16_a_disk_that_fills_fails_no_task_and_is_told() {
    let Some(server) = Server::start_on_small_disk(32, &[]) else {
        eprintln!("not tried: nobody may mount a disk here");
        return;
    };
    let id = server.submit("/api/tasks", &slow());
    server.wait(&id, &["IN_PROGRESS"]);
    let filler = Filler::of(&server);
    wait_ready(&server, 503);
    assert_eq!(server.post("/api/tasks", &slow()).status, 503, "and nothing of it is kept");
    wait_logged(&server, "waiting for room");
    assert!(["IN_PROGRESS", "CREATED"].contains(&server.task(&id)["status"].as_str().unwrap()));
    drop(filler);
    server.wait_done(&id);
    wait_ready(&server, 200);
    assert_eq!(server.get("/api/tasks").json()["total"], 1);
}

#[cfg(target_os = "linux")]
fn promise_16_a_fetched_picture_and_an_upload_find_room_later() {
    let Some(server) = Server::start_on_small_disk(32, &["--allow-net", "127.0.0.0/8"]) else {
        eprintln!("not tried: nobody may mount a disk here");
        return;
    };
    let picture = photo(32, 24);
    let slot = server.post("/customers/storage", &json!({ "file_name": "a.png" })).json();
    let [upload, download] = ["upload_url", "download_url"].map(|field| slot[field].as_str().unwrap());

    // The picture's host answers the first time once the disk is full.
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.png", host.local_addr().unwrap());
    let ((asked, is_asked), (full, is_full)) = (mpsc::channel(), mpsc::channel());
    let body = picture.clone();
    thread::spawn(move || {
        for mut stream in host.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = asked.send(());
            // No second signal is sent.
            let _ = is_full.recv();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&body);
        }
    });
    let request = json!({ "model": "animevideo-v3", "size": { "factor": 2.0 } });
    let id = server.submit("/api/tasks", &json!({ "image": url, "request": request }));
    is_asked.recv_timeout(PATIENCE).expect("the server asks for the picture");
    let filler = Filler::of(&server);
    wait_ready(&server, 503);
    let refused = server.send("PUT", upload, &[], &picture);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(server.get(download).status, 404, "nothing of it is kept");
    full.send(()).unwrap();
    drop(full);
    wait_logged(&server, "waiting for room");
    assert!(["IN_PROGRESS", "CREATED"].contains(&server.task(&id)["status"].as_str().unwrap()));

    drop(filler);
    server.wait_done(&id);
    wait_ready(&server, 200);
    assert_eq!(server.send("PUT", upload, &[], &picture).status, 200);
    assert_eq!(server.get(download).bytes, picture);
}

/// Takes all the room on a server's disk, until it is dropped.
#[cfg(target_os = "linux")]
struct Filler(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Filler {
    fn of(server: &Server) -> Self {
        let path = server.dir_inside().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        Self(path)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(target_os = "linux")]
fn wait_ready(server: &Server, status: u16) {
    let patience = Instant::now() + PATIENCE;
    while server.get("/readyz").status != status {
        assert!(Instant::now() < patience, "{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
fn wait_logged(server: &Server, words: &str) {
    let patience = Instant::now() + PATIENCE;
    while !server.log().contains(words) {
        assert!(Instant::now() < patience, "{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

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
