//! What goes in and comes out of the service, whatever it keeps its tasks and files in.

use std::path::Path;

use enlarger_image::{Limits, Picture, Samples, decode};
use serde_json::json;

use crate::harness::*;

on_both! {
    #[cfg(target_os = "linux")]
    promise_14_memory_stays_the_same_over_many_tasks,
    promise_18_the_same_image_and_request_give_the_same_bytes,
    promise_19_profile_orientation_alpha_and_depth_are_kept,
}

/// Files that other programs wrote.
const FILES: [&str; 6] = [
    "jpeg_orientation6.jpg",
    "png_gray16.png",
    "png_gray_alpha8.png",
    "png_icc.png",
    "png_palette_trns.png",
    "tiff_rgb16_romm.tif",
];

fn file(name: &str) -> Vec<u8> {
    let path = root().join("crates/enlarger-image/tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn enlarged(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let request = json!({ "model": "animevideo-v3", "size": { "factor": 2.0 } });
    let id = server.submit("/api/tasks", &json!({ "image": base64(bytes), "request": request }));
    let task = server.wait_done(&id);
    server.get(task["result"]["url"].as_str().unwrap()).bytes
}

fn promise_18_the_same_image_and_request_give_the_same_bytes() {
    let (server, another) = (Server::start(&[]), Server::start(&["--threads", "1"]));
    for name in FILES {
        let bytes = file(name);
        let first = enlarged(&server, &bytes);
        assert!(first == enlarged(&server, &bytes), "{name}: again");
        assert!(first == enlarged(&another, &bytes), "{name}: on another server");
    }
}

fn promise_19_profile_orientation_alpha_and_depth_are_kept() {
    let server = Server::start(&[]);
    for name in FILES {
        let bytes = file(name);
        let [source, result] = [bytes.clone(), enlarged(&server, &bytes)]
            .map(|bytes| decode(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}")).picture);
        assert_eq!((result.width, result.height), (2 * source.width, 2 * source.height), "{name}");
        let kept = |picture: &Picture| {
            let deep = matches!(picture.samples, Samples::U16(_));
            (picture.channels, deep, picture.metadata.icc.clone())
        };
        assert!(kept(&source) == kept(&result), "{name}: {:?}", result.channels);
    }
}

#[cfg(target_os = "linux")]
fn promise_14_memory_stays_the_same_over_many_tasks() {
    let server = Server::start(&[]);
    let picture = photo(160, 120);
    let resident = || {
        let status = std::fs::read_to_string(Path::new("/proc").join(server.pid().to_string()).join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let run = |count| (0..count).for_each(|_| drop(enlarged(&server, &picture)));
    run(20);
    let before = resident();
    run(40);
    let after = resident();
    println!("{before} kB after 20, {after} kB after 60");
    assert!(after * 10 <= before * 11, "{before} kB after 20, {after} kB after 60");
}
