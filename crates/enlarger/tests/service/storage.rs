//! Files in a bucket, on moto's server.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    harness::*,
    moto::{BUCKET, Moto},
    proxy::{Mood, Proxy},
};

/// The URL of the bucket behind a proxy.
fn storage(proxy: &Proxy) -> String {
    format!("s3://{BUCKET}/files?endpoint=http://127.0.0.1:{}", proxy.port)
}

fn until(what: &str, server: &Server, mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < patience, "{what}: {}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn files_in_a_bucket_are_served_by_us_or_by_it_and_vanish_when_they_expire() {
    let moto = Moto::start();
    let stored = || moto.ask("GET", &format!("/{BUCKET}?list-type=2"));
    let storage = moto.storage();
    let server = Server::start(&["--storage", &storage, "--retention-hours", "1"]);

    let upload = server.post("/customers/storage", &json!({ "file_name": "a.png" })).json();
    let put = server.send("PUT", upload["upload_url"].as_str().unwrap(), &[], &photo(32, 24));
    assert_eq!(put.status, 200, "{}", put.text());
    let request = json!({ "image": upload["download_url"], "request": { "model": "animevideo-v3" } });
    let id = server.submit("/api/tasks", &request);
    let task = server.wait_done(&id);
    for name in ["source", "result-1.png", "map-1.png"] {
        assert!(stored().contains(&format!("<Key>some/where/tasks/{id}/{name}</Key>")), "{name}: {}", stored());
    }
    let kept: Vec<_> = server.files_in("files").into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert_eq!(kept, Vec::<std::path::PathBuf>::new(), "nothing stays on the local disk");

    let url = task["result"]["url"].as_str().unwrap();
    let ours = server.get(url);
    assert_eq!((ours.status, ours.header("content-type"), png_size(&ours.bytes)), (200, "image/png", (64, 48)));
    assert!(ours.header("content-disposition").contains(".png"), "{:?}", ours.headers);
    let part = server.send("GET", url, &[("range", "bytes=1-3")], &[]);
    assert_eq!((part.status, &part.bytes[..]), (206, &b"PNG"[..]));
    for file in [&task["source"]["url"], &task["thumb_url"], &task["invention"]["map_url"]] {
        assert_eq!(server.get(file.as_str().unwrap()).status, 200, "{file}");
    }

    let redirecting = server.another(&["--storage", &storage, "--retention-hours", "1", "--storage-redirect"]);
    let path = &url[url.find("/files/").unwrap()..];
    let theirs = redirecting.get(path);
    assert!(theirs.header("server").starts_with("Werkzeug"), "the bucket's server answers: {:?}", theirs.headers);
    assert_eq!((theirs.status, theirs.header("content-type")), (200, "image/png"));
    assert!(theirs.bytes == ours.bytes);
    let page = redirecting.send("GET", path, &[("sec-fetch-site", "same-origin")], &[]);
    assert!(page.bytes == ours.bytes && page.header("server").is_empty(), "the page may load images from us only");
    drop(redirecting);

    assert!(server.turn("UPDATE tasks SET expires_at = expires_at - 90000000 WHERE expires_at IS NOT NULL") > 0);
    until("the files do not vanish", &server, || !stored().contains(&format!("tasks/{id}")));
}

#[test]
fn promise_16_while_the_bucket_is_away_nothing_is_lost_and_the_server_recovers_alone() {
    let moto = Moto::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = runtime.block_on(Proxy::before(moto.port, Mood::Pass));
    let mut server = Server::start(&["--storage", &storage(&proxy), "--lease-seconds", "2"]);
    let id = server.submit("/api/tasks", &slow());
    server.wait(&id, &["IN_PROGRESS"]);
    proxy.turn(Mood::Closed);
    until("the worker waits", &server, || server.log().contains("waiting for room"));
    assert_eq!(server.get("/readyz").status, 503);
    let refused = server.post("/api/tasks", &quick());
    assert_eq!((refused.status, refused.header("retry-after").is_empty()), (503, false), "{}", refused.text());
    proxy.turn(Mood::Pass);
    let task = server.wait_done(&id);
    assert!(task["result"]["url"].as_str().unwrap().contains("result-1"), "it was not the task's fault: {task}");

    server.kill();
    proxy.turn(Mood::Closed);
    let opened = thread::scope(|scope| {
        let opening = scope.spawn(|| {
            // Longer than the server looks for its storage before it says so.
            thread::sleep(Duration::from_secs(12));
            proxy.turn(Mood::Pass);
        });
        server.start_again();
        opening.join()
    });
    opened.unwrap();
    assert!(server.log().contains("not ready: cannot reach the storage"), "{}", server.log());
    let id = server.submit("/api/tasks", &quick());
    server.wait_done(&id);
}

#[test]
fn a_bucket_that_does_not_exist_and_settings_that_cannot_be_right_are_refused_with_a_hint() {
    let moto = Moto::start();
    let missing = format!("s3://elsewhere?endpoint=http://127.0.0.1:{}", moto.port);
    for (args, sentence) in [
        (&["--storage", &missing][..], "`storage` cannot be used: the bucket does not exist"),
        (&["--storage", "s3://a?regoin=eu"], "unknown option `regoin`"),
        (&["--storage", "/srv/files"], "`storage` is not a URL of a bucket"),
        (&["--storage-redirect"], "`storage_redirect` is set without `storage`"),
        (&["--signing-secret", "hunter2"], "`signing_secret` has fewer than 32 characters"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let said =
            binary().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path()).args(args).output();
        let said = said.unwrap();
        let told = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && told.contains(sentence) && told.contains("hint:"), "{args:?}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
