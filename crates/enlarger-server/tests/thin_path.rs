//! A photo goes in, a larger one comes out, over real HTTP with the real pipeline.

mod common;

use std::time::Duration;

use base64::Engine as _;
use enlarger_image::Format;
use enlarger_server::Config;
use serde_json::{Value, json};

use common::{Server, photo};

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_is_enlarged_over_http() {
    let server = Server::start(Config::default()).await;
    let Server { base, http, .. } = &server;

    let image = base64::prelude::BASE64_STANDARD.encode(photo(32, 24, Format::Png));
    for prefix in ["/proxy/freepik/v1/ai", "/v1/ai"] {
        let answer =
            http.post(format!("{base}{prefix}/image-upscaler")).json(&json!({ "image": image })).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        assert_eq!((&body["data"]["status"], &body["data"]["generated"]), (&json!("CREATED"), &json!([])));
        let url = format!("{base}{prefix}/image-upscaler/{}", body["data"]["task_id"].as_str().unwrap());
        let done = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                let task: Value = http.get(&url).send().await.unwrap().json().await.unwrap();
                match task["data"]["status"].as_str() {
                    Some("CREATED" | "IN_PROGRESS") => tokio::time::sleep(Duration::from_millis(50)).await,
                    _ => break task,
                }
            }
        });
        let task = done.await.expect("it ends");
        assert_eq!(task["data"]["status"], "COMPLETED", "{task}");
        let file = http.get(task["data"]["generated"][0].as_str().unwrap()).send().await.unwrap();
        assert_eq!(file.headers()["content-type"], "image/png");
        let header = enlarger_image::probe(&file.bytes().await.unwrap(), &enlarger_image::Limits::default()).unwrap();
        assert_eq!((header.width, header.height), (64, 48));
    }

    let bad = json!({ "image": image, "creativity": 11, "engine": "x", "scale_factor": "3x" });
    let answer = http.post(format!("{base}/v1/ai/image-upscaler")).json(&bad).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["invalid_params"].as_array().unwrap().len(), 3, "all at once: {error}");
    let missing = http.get(format!("{base}/v1/ai/mystic/1")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_looks_explicit_fails_with_the_reason_for_those_who_want_it_filtered() {
    let server = Server::start(Config::default()).await;
    let Server { base, http, .. } = &server;

    let encode = |bytes: &[u8]| base64::prelude::BASE64_STANDARD.encode(bytes);
    // It shows nothing, but the classifier takes it for pornography.
    let flagged = encode(include_bytes!("../../enlarger-pipeline/tests/pictures/flagged.png"));
    let photo = encode(&photo(32, 24, Format::Png));
    for (image, filter, expected) in [
        (&flagged, json!(true), "FAILED"),
        (&flagged, json!("1"), "FAILED"),
        (&flagged, json!(false), "COMPLETED"),
        (&flagged, json!(null), "COMPLETED"),
        (&photo, json!(true), "COMPLETED"),
    ] {
        for path in ["image-upscaler", "image-upscaler-precision", "image-upscaler-precision-v2"] {
            let body = json!({ "image": image, "filter_nsfw": filter });
            let answer = http.post(format!("{base}/v1/ai/{path}")).json(&body).send().await.unwrap();
            let id = answer.json::<Value>().await.unwrap()["data"]["task_id"].as_str().unwrap().to_owned();
            // The stream ends with the task.
            let url = format!("{base}/api/tasks/{id}/events");
            let events = http.get(url).send().await.unwrap().text().await.unwrap();
            let last = events.lines().filter_map(|line| line.strip_prefix("data:")).next_back().unwrap();
            let task: Value = serde_json::from_str(last).unwrap();
            assert_eq!(task["status"], expected, "{path} {filter}: {task}");
            if expected == "FAILED" {
                assert_eq!(task["error"]["code"], "explicit", "{task}");
                let message = task["error"]["message"].as_str().unwrap();
                assert!(message.starts_with("the image looks sexually explicit ("), "{message}");
            }
        }
    }
    server.stop().await;
}
