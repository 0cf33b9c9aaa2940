//! An image that is refused says why in a code that docs/reference/api.md lists, at submission and when a task fails.

mod common;

use axum::{Router, routing::get};
use base64::Engine as _;
use enlarger_image::Format;
use enlarger_server::Config;
use serde_json::{Value, json};

use common::{Server, photo};

const DOCS: &str = include_str!("../../../docs/reference/api.md");

/// A PNG whose header says this size. Sums are not checked before there are pixels.
fn sized(width: u32, height: u32) -> Vec<u8> {
    let mut png = photo(64, 48, Format::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

/// PNG, annex D, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_refused_say_why_in_a_documented_code() {
    let allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    let server = Server::start(Config { allow_net, ..Config::default() }).await;
    let Server { base, http, .. } = &server;
    let post = async |path: &str, body: Value| {
        let answer = http.post(format!("{base}{path}")).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let base64 = |bytes: &[u8]| base64::prelude::BASE64_STANDARD.encode(bytes);
    let (png, jpeg) = (photo(64, 48, Format::Png), photo(64, 48, Format::Jpeg));

    for (code, bytes) in [
        ("image_unknown_format", b"a picture of a cat, in words".as_slice()),
        ("image_unknown_format", &[0; 100]),
        ("image_unsupported", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
        ("image_truncated", &png[..20]),
        ("image_truncated", &jpeg[..30]),
        ("image_broken", &sized(0, 0)),
        ("image_too_many_pixels", &sized(50_000, 50_000)),
        ("image_too_many_pixels", &sized(65_000, 65_000)),
    ] {
        for path in ["/v1/ai/image-upscaler", "/proxy/freepik/v1/ai/image-upscaler-precision", "/api/tasks"] {
            let (status, error) = post(path, json!({ "image": base64(bytes) })).await;
            let told = (status, &error["error"], &error["code"], &error["invalid_params"][0]["name"]);
            assert_eq!(told, (400, &json!("invalid_params"), &json!(code), &json!("image")), "{path}: {error}");
            assert!(error["hint"].is_string() && DOCS.contains(&format!("`{code}`")), "{error}");
        }
    }
    for (code, body) in [
        ("request", json!({ "image": base64(&png), "request": { "model": "none-such" } })),
        ("url_not_public", json!({ "image": base64(&png), "webhook_url": "http://10.1.2.3/hook" })),
        ("url_user_info", json!({ "image": base64(&png), "webhook_url": "https://me:secret@example.com/hook" })),
    ] {
        let (status, error) = post("/api/tasks", body).await;
        assert_eq!((status, &error["code"]), (400, &json!(code)), "{error}");
        assert!(DOCS.contains(&format!("`{code}`")), "{code}");
    }
    let (_, plain) = post("/v1/ai/image-upscaler", json!({ "image": base64(&png), "creativity": 11 })).await;
    assert!(plain.get("code").is_none(), "there is nothing more to say: {plain}");

    // What is fetched is looked at when its task runs.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}", other.local_addr().unwrap());
    let half = jpeg[..jpeg.len() / 8].to_vec();
    let files = Router::new().route("/words.png", get(|| async { "words" })).route("/half.jpg", get(|| async { half }));
    tokio::spawn(async { axum::serve(other, files).await });
    for (code, cause, name) in [
        ("image", "image_unknown_format", "words.png"),
        ("image", "image_truncated", "half.jpg"),
        ("fetch", "url_status", "none.png"),
    ] {
        let (_, task) = post("/api/tasks", json!({ "image": format!("{away}/{name}") })).await;
        let events = http.get(format!("{base}/api/tasks/{}/events", task["task_id"].as_str().unwrap())).send();
        // The stream ends with the task.
        let events = events.await.unwrap().text().await.unwrap();
        let last = events.lines().filter_map(|line| line.strip_prefix("data:")).next_back().unwrap();
        let task: Value = serde_json::from_str(last).unwrap();
        let error = &task["error"];
        assert_eq!((&error["code"], &error["cause"]), (&json!(code), &json!(cause)), "{name}: {task}");
        assert!(DOCS.contains(&format!("`{cause}`")) && DOCS.contains(&format!("`{code}`")), "{cause}");
    }
    server.stop().await;
}
