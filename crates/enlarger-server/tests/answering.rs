//! Files are never read on the threads that answer, so no file can keep other requests waiting.
//!
//! Told by memory, not by time: to read the file below takes megabytes at once, to answer a request never does.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{Arc, mpsc},
    thread,
};

use base64::Engine as _;
use enlarger_image::Limits;
use enlarger_pipeline::{Enlarger, EnlargerOptions};
use enlarger_server::{Config, config::Role, serve};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Bytes that whatever answers requests never asks for at once. Bodies of over 256 KB go to the disk piece by piece, and the largest
/// piece that tokio writes or reads at once has 2 MiB.
const MUCH: usize = 3 << 20;

#[global_allocator]
static MEMORY: Noting = Noting;

/// The system's memory, with a note of each thread's largest piece.
struct Noting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has no notes any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: all is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs something on a thread of its own, and returns the largest piece of memory that it asked for.
fn largest_in(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        work();
        LARGEST.get()
    })
}

/// A TIFF of 250,000 JPEG tiles that overlap: the longest header that a server takes.
fn overlapping() -> Vec<u8> {
    const SIDE: u32 = 8000;
    const TILE: u32 = 16;
    const DATA: u32 = 500_000;
    let tiles = (SIDE / TILE).pow(2);
    let tables = 8 + 2 + 10 * 12 + 4;
    let data = tables + 2 * 4 * tiles;
    // Tag, count, and the value or where the values are. All are of type LONG.
    let fields = [
        (256, 1, SIDE),
        (257, 1, SIDE),
        (258, 1, 8),
        (259, 1, 7),
        (262, 1, 1),
        (277, 1, 1),
        (322, 1, TILE),
        (323, 1, TILE),
        (324, tiles, tables),
        (325, tiles, tables + 4 * tiles),
    ];
    let mut file = b"II*\0\x08\0\0\0\x0A\0".to_vec();
    for (tag, count, value) in fields {
        file.extend([tag as u8, (tag >> 8) as u8, 4, 0]);
        file.extend([u32::to_le_bytes(count), u32::to_le_bytes(value)].concat());
    }
    file.extend([0; 4]);
    file.extend((0..tiles).flat_map(|i| (data + i).to_le_bytes()));
    file.extend((0..tiles).flat_map(|_| (DATA - tiles).to_le_bytes()));
    file.resize((data + DATA) as usize, 0);
    file
}

#[tokio::test]
async fn files_are_never_read_on_the_threads_that_answer() {
    const REFUSAL: &str = "its strips or tiles overlap";
    let file = overlapping();
    let sent = file.clone();
    let reading = largest_in(move || {
        let error = enlarger_image::header(&sent, &Limits::default()).expect_err("it is refused");
        assert!(error.to_string().contains(REFUSAL), "{error}");
    });
    let reading = reading.join().unwrap();
    assert!(reading > MUCH, "to read it takes {reading} bytes at once, so that it would be noticed");

    let dir = tempfile::tempdir().unwrap();
    let config = Config { data_dir: dir.path().to_owned(), role: Role::Api, ..Config::default() };
    let stop = CancellationToken::new();
    let (ready, stopped, (told, address)) = (|_: &str| (), stop.clone(), mpsc::channel());
    // All that answers is this one thread.
    let answering = largest_in(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let enlarger = Arc::new(Enlarger::new(EnlargerOptions::default()).unwrap());
            serve(config, enlarger, listener, ready, stopped).await.unwrap();
        });
    });
    let base = format!("http://{}", address.recv().unwrap());
    let http = common::http_client();
    let ask = async |method: Method, path: &str, body: Vec<u8>| {
        let url = if path.starts_with('/') { format!("{base}{path}") } else { path.to_owned() };
        http.request(method, url).body(body).send().await.unwrap()
    };

    let slot = ask(Method::POST, "/customers/storage", br#"{ "file_name": "a.tif" }"#.to_vec()).await;
    let slot: Value = slot.json().await.unwrap();
    let [upload, download] = ["upload_url", "download_url"].map(|field| slot[field].as_str().unwrap());
    assert_eq!(ask(Method::PUT, upload, file.clone()).await.status(), StatusCode::OK);

    for image in [base64::prelude::BASE64_STANDARD.encode(&file), download.to_owned()] {
        let crop = json!({ "x": 0, "y": 0, "width": 16, "height": 16 });
        let body = json!({ "image": image, "request": { "crop": crop } }).to_string();
        for path in ["/v1/ai/image-upscaler", "/v1/ai/image-upscaler-precision-v2", "/api/tasks", "/api/preview"] {
            let answer = ask(Method::POST, path, body.clone().into_bytes()).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
            let text = answer.text().await.unwrap();
            assert!(text.contains(REFUSAL), "{path}: {text}");
        }
    }
    let view = ask(Method::GET, &format!("{download}&view=1"), Vec::new()).await;
    assert_eq!(view.status(), StatusCode::BAD_REQUEST);
    assert!(view.text().await.unwrap().contains(REFUSAL));
    let plain = ask(Method::GET, download, Vec::new()).await;
    assert_eq!(
        (plain.status(), &plain.headers()["content-type"]),
        (StatusCode::OK, &"application/octet-stream".parse().unwrap())
    );
    assert_eq!(plain.bytes().await.unwrap(), file);

    stop.cancel();
    let answering = answering.join().unwrap();
    assert!(answering < MUCH, "the thread that answers asked for {answering} bytes at once");
}
