//! What ComfyUI's own nodes send when it is started with `--comfy-api-base`, byte for byte.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::harness::*;

/// Sends these bytes on a new connection and reads the answer to the end of its body.
fn exchange(port: u16, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (status, _, body) = receive(send(port, head, body));
    (status, body)
}

fn send(port: u16, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Status, head in lower case, and body.
fn receive(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut answer = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.expect("a length").parse().unwrap();
            if answer.len() >= end + length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, head, answer[end..end + length].to_vec());
            }
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the connection ended early: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn comfyuis_sequence_upscales_a_real_photo() {
    replay(&Server::start(&["--log", "debug"]), "", "");
}

/// With a key in its base address, unmodified: `--comfy-api-base http://me:KEY@HOST`. The page sends a key of Comfy's along.
#[test]
fn comfyuis_sequence_carries_a_key_by_basic_from_its_page_and_headless() {
    for comfys in ["", "X-API-KEY: comfyui-0123456789abcdef\n"] {
        let mut server = Server::start(&["--auth", "on"]);
        let made = server.keys().args(["create", "comfyui"]).output().unwrap();
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let basic = format!("Authorization: Basic {}\n", base64(format!("me:{key}").as_bytes()));
        replay(&server, &basic, comfys);
        assert_eq!(server.terminate().code(), Some(0));
        assert!(!server.log().contains(&base64(format!("me:{key}").as_bytes())) && !server.log().contains(&key));
    }
}

/// What the nodes send, with these headers on calls of the API; on addresses that they were given they send none of them.
fn replay(server: &Server, basic: &str, comfys: &str) {
    let port = server.port;
    let json = |(status, body): (u16, Vec<u8>)| -> Value {
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    };
    let post = |path: &str, key: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\nHost: 127.0.0.1:{port}\n{basic}Accept: application/json\n{comfys}Comfy-Env: local\n\
             Comfy-Usage-Source: comfyui\nIdempotency-Key: {key}\nContent-Type: application/json\n\
             Accept-Encoding: gzip, deflate\nUser-Agent: Python/3.12 aiohttp/3.11.8\nContent-Length: {}\n\n",
            body.len()
        );
        json(exchange(port, &head, body.as_bytes()))
    };
    let poll = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\nHost: 127.0.0.1:{port}\n{basic}Accept: application/json\n{comfys}Comfy-Env: local\n\
             Accept-Encoding: gzip, deflate\nUser-Agent: Python/3.12 aiohttp/3.11.8\n\n"
        );
        exchange(port, &head, &[])
    };
    let get = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nAccept: */*\nAccept-Encoding: gzip, deflate\n\
             User-Agent: Python/3.12 aiohttp/3.11.8\n\n"
        );
        exchange(port, &head, &[])
    };
    let path_of = |url: &str| url.strip_prefix(&server.url("")).expect("our own address").to_owned();

    let slot = post(
        "/customers/storage",
        "0f8fad5bd9cb469fa16570867728950e",
        r#"{"file_name": "7c9e6679-7425-40de-944b-e07fc1f90ae7.png"}"#,
    );
    let picture = photo(96, 72);
    let put = format!(
        "PUT {} HTTP/1.1\nHost: 127.0.0.1:{port}\nAccept: */*\nAccept-Encoding: gzip, deflate\n\
         User-Agent: Python/3.12 aiohttp/3.11.8\nContent-Length: {}\n\n",
        path_of(slot["upload_url"].as_str().unwrap()),
        picture.len()
    );
    assert_eq!(exchange(port, &put, &picture).0, 200);

    let submission = format!(
        r#"{{"image": "{}", "scale_factor": "2x", "optimized_for": "standard", "creativity": 0, "hdr": 0, "resemblance": 0, "fractality": 0, "engine": "automatic", "prompt": null}}"#,
        slot["download_url"].as_str().unwrap()
    );
    let created = post("/proxy/freepik/v1/ai/image-upscaler", "6ba7b8109dad11d180b400c04fd430c8", &submission);
    assert_eq!(
        (&created["data"]["status"], &created["data"]["generated"]),
        (&"CREATED".into(), &Value::Array(Vec::new()))
    );
    let id = created["data"]["task_id"].as_str().unwrap();

    // The first poll comes at once.
    let mut task = json(poll(&format!("/proxy/freepik/v1/ai/image-upscaler/{id}")));
    assert!(["CREATED", "IN_PROGRESS", "COMPLETED"].contains(&task["data"]["status"].as_str().unwrap()));
    assert!(task["data"]["generated"].is_array());
    while task["data"]["status"] != "COMPLETED" {
        assert_ne!(task["data"]["status"], "FAILED", "{task}");
        std::thread::sleep(std::time::Duration::from_millis(50));
        task = json(poll(&format!("/proxy/freepik/v1/ai/image-upscaler/{id}")));
    }
    let (status, file) = get(&path_of(task["data"]["generated"][0].as_str().unwrap()));
    assert_eq!((status, png_size(&file)), (200, (192, 144)));

    // The same for its precision node.
    let submission = format!(
        r#"{{"image": "{}", "scale_factor": 2, "flavor": "photo", "sharpen": 7, "smart_grain": 7, "ultra_detail": 30}}"#,
        slot["download_url"].as_str().unwrap()
    );
    let created =
        post("/proxy/freepik/v1/ai/image-upscaler-precision-v2", "9b2d4c1de0f34b5fa6c7d8e9f0a1b2c3", &submission);
    let id = created["data"]["task_id"].as_str().unwrap();
    let mut task = json(poll(&format!("/proxy/freepik/v1/ai/image-upscaler-precision-v2/{id}")));
    while task["data"]["status"] != "COMPLETED" {
        assert_ne!(task["data"]["status"], "FAILED", "{task}");
        task = json(poll(&format!("/proxy/freepik/v1/ai/image-upscaler-precision-v2/{id}")));
    }
}

/// A poll of a node, on its way.
fn poll(server: &Server, path: &str) -> TcpStream {
    send(server.port, &format!("GET {path} HTTP/1.1\nHost: 127.0.0.1:{}\nComfy-Env: local-git\n\n", server.port), &[])
}

fn status_of((status, _, body): &(u16, String, Vec<u8>)) -> String {
    assert_eq!(*status, 200);
    let task: Value = serde_json::from_slice(body).unwrap();
    task["data"]["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_nodes_poll_is_held_near_the_end_and_answered_at_the_end_or_when_the_server_stops() {
    // Nothing is run, so that only what the test does ends a task.
    let mut server = Server::start(&["--role", "api"]);
    let comfyui = [("comfy-env", "local-git")];
    let submit = |body: Value| {
        let answer = server.send("POST", V2, &comfyui, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let header = |name: &str| answer.header(name).parse::<u64>().expect("whole seconds");
        let estimates =
            (header("x-comfy-estimated-duration-seconds"), header("x-comfy-estimated-duration-p90-seconds"));
        assert_eq!(answer.header("x-comfy-estimate-source"), "calibration");
        (answer.json()["data"]["task_id"].as_str().unwrap().to_owned(), estimates)
    };
    let (short, (p50, p90)) = submit(serde_json::json!({ "image": base64(&photo(32, 24)) }));
    assert!((1..10).contains(&p50) && p90 >= p50, "{p50} {p90}");
    let path = format!("{V2}/{short}");
    let held = poll(&server, &path);
    // Clients of other kinds are answered at once, and this gives the node's poll the time to be.
    for _ in 0..5 {
        assert_eq!(server.get(&path).json()["data"]["status"], "CREATED");
    }
    held.set_nonblocking(true).unwrap();
    let nothing = held.peek(&mut [0]).expect_err("no answer yet");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    held.set_nonblocking(false).unwrap();
    assert_eq!(server.send("POST", &format!("/api/tasks/{short}/cancel"), &[], &[]).status, 200);
    assert_eq!(status_of(&receive(held)), "FAILED", "answered at the end, and not before");

    // A client that hangs up leaves nothing behind, and there are places for the next.
    let (short, _) = submit(serde_json::json!({ "image": base64(&photo(32, 24)) }));
    let path = format!("{V2}/{short}");
    for _ in 0..100 {
        drop(poll(&server, &path));
    }

    // Far from the end a poll is answered at once, with an estimate on the grid of polls.
    let (long, (p50, p90)) = submit(serde_json::json!({ "image": base64(&photo(600, 450)), "scale_factor": 16 }));
    assert!(p50 >= 10 && p50 % 10 == 0 && p90 % 10 == 0 && p90 >= p50, "{p50} {p90}");
    assert_eq!(status_of(&receive(poll(&server, &format!("{V2}/{long}")))), "CREATED");

    let held = poll(&server, &path);
    for _ in 0..5 {
        server.get(&path);
    }
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(status_of(&receive(held)), "CREATED", "answered because the server stops");
}
