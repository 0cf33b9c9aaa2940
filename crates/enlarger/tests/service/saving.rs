//! `--save-to`: each result also lands in a folder, and no task pays for it if it cannot.

use std::{fs, thread, time::Instant};

use serde_json::{Value, json};

use crate::harness::*;

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    // Files that are being written are hidden.
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn until(server: &Server, what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what}: {}", server.log());
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn fox(width: u32) -> Value {
    json!({ "image": base64(&photo(width, 24)), "name": "../fox.png", "request": { "model": "animevideo-v3", "size": { "factor": 4.0 } } })
}

#[test]
fn each_result_is_saved_under_a_name_for_people() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("results");
    let to = folder.to_str().expect("a plain path");
    let server = Server::start(&["--save-to", to, "--save-name", "{stem} {width}x{height}.{ext}"]);
    for width in [32, 40] {
        let task = server.wait_done(&server.submit("/api/tasks", &fox(width)));
        let result = server.get(task["result"]["url"].as_str().expect("a URL")).bytes;
        let saved = folder.join(format!("fox {}x96.png", 4 * width));
        until(&server, "the result is not saved", || saved.exists());
        assert_eq!(fs::read(saved).expect("it is there"), result);
    }
    assert_eq!(names(&folder), ["fox 128x96.png", "fox 160x96.png"]);
    assert_eq!(names(place.path()), ["results"]);
}

#[test]
fn a_folder_that_cannot_be_written_delays_copies_and_fails_no_task() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("results");
    // A file is in its place.
    fs::write(&folder, b"").expect("written");
    let mut server = Server::start(&["--save-to", folder.to_str().expect("a plain path")]);
    for width in [32, 40] {
        server.wait_done(&server.submit("/api/tasks", &fox(width)));
    }
    until(&server, "nothing is said", || server.log().contains("results cannot be saved to"));
    let check = || {
        let status = server.get("/api/status").json();
        let checks = status["checks"].as_array().expect("a list").clone();
        checks.into_iter().find(|check| check["name"] == "save_to").expect("it is among them")
    };
    until(&server, "the status says nothing", || check()["ok"] == false);
    server.kill();
    fs::remove_file(&folder).expect("removed");
    server.start_again();
    until(&server, "the results are not saved", || names(&folder).len() == 2);
    assert_eq!(names(&folder), ["fox_4x-2.png", "fox_4x.png"]);
    until(&server, "they are still noted", || server.files_in("unsaved").is_empty());
}
