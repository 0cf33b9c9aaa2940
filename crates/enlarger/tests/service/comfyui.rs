//! What ComfyUI's own nodes send when it is started with `--comfy-api-base`, byte for byte.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::harness::*;

/// Sends these bytes on a new connection and reads the answer to the end of its body.
fn exchange(port: u16, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
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
                return (status, answer[end..end + length].to_vec());
            }
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the connection ended early: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn comfyuis_sequence_upscales_a_real_photo() {
    let server = Server::start(&["--log", "debug"]);
    let port = server.port;
    let json = |(status, body): (u16, Vec<u8>)| -> Value {
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    };
    let post = |path: &str, key: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nAccept: application/json\nComfy-Env: local\n\
             Comfy-Usage-Source: comfyui\nIdempotency-Key: {key}\nContent-Type: application/json\n\
             Accept-Encoding: gzip, deflate\nUser-Agent: Python/3.12 aiohttp/3.11.8\nContent-Length: {}\n\n",
            body.len()
        );
        json(exchange(port, &head, body.as_bytes()))
    };
    let get = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nAccept: application/json\nComfy-Env: local\n\
             Accept-Encoding: gzip, deflate\nUser-Agent: Python/3.12 aiohttp/3.11.8\n\n"
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
    let mut task = json(get(&format!("/proxy/freepik/v1/ai/image-upscaler/{id}")));
    assert!(["CREATED", "IN_PROGRESS", "COMPLETED"].contains(&task["data"]["status"].as_str().unwrap()));
    assert!(task["data"]["generated"].is_array());
    while task["data"]["status"] != "COMPLETED" {
        assert_ne!(task["data"]["status"], "FAILED", "{task}");
        std::thread::sleep(std::time::Duration::from_millis(50));
        task = json(get(&format!("/proxy/freepik/v1/ai/image-upscaler/{id}")));
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
    server.wait_done(created["data"]["task_id"].as_str().unwrap());
}
