//! The wire, to the letter: submitting, polling, listing, uploads, errors.

use serde_json::{Value, json};

use crate::harness::*;

#[test]
fn a_photo_sent_as_base64_comes_back_larger_under_both_prefixes() {
    let server = Server::start(&[]);
    let image = base64(&photo(32, 24));
    for prefix in ["/proxy/freepik/v1/ai", "/v1/ai"] {
        let answer = server.post(&format!("{prefix}/image-upscaler"), &json!({ "image": image }));
        assert_eq!(answer.status, 200);
        let seconds: u32 = answer.header("x-comfy-estimated-duration-seconds").parse().expect("whole seconds");
        assert!((1..=86_400).contains(&seconds));
        let body = answer.json();
        let id = body["data"]["task_id"].as_str().unwrap();
        assert_eq!(body, json!({ "data": { "task_id": id, "status": "CREATED", "generated": [] } }));
        server.wait_done(id);
        let polled = server.get(&format!("{prefix}/image-upscaler/{id}")).json();
        let url = polled["data"]["generated"][0].as_str().expect("one address").to_owned();
        assert_eq!(polled, json!({ "data": { "task_id": id, "status": "COMPLETED", "generated": [url] } }));
        assert!(url.starts_with(&server.url("/")), "absolute, as the client reached us: {url}");
        let values = url.split_once('?').unwrap().1.split('&').map(|pair| pair.split_once('=').unwrap().1);
        let safe = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        assert!(values.into_iter().all(|value| value.chars().all(safe)), "{url}");
        let file = server.get(&url);
        assert_eq!((file.status, file.header("content-type")), (200, "image/png"));
        assert_eq!(png_size(&file.bytes), (64, 48));
        let head = server.send("HEAD", &url, &[], &[]);
        assert_eq!((head.status, head.header("content-length")), (200, file.bytes.len().to_string().as_str()));
        let part = server.send("GET", &url, &[("range", "bytes=1-3")], &[]);
        assert_eq!((part.status, part.bytes.as_slice()), (206, b"PNG".as_slice()));
        let list = server.get(&format!("{prefix}/image-upscaler?page=1&per_page=1")).json();
        assert_eq!(list, json!({ "data": [{ "task_id": id, "status": "COMPLETED" }] }));
    }
}

#[test]
fn every_endpoint_and_every_form_of_image_and_factor_works() {
    let server = Server::start(&[]);
    let image = base64(&photo(32, 24));
    let size = |path: &str, body: Value| {
        let id = server.submit(path, &body);
        server.wait_done(&id);
        let task = server.get(&format!("{path}/{id}")).json();
        png_size(&server.get(task["data"]["generated"][0].as_str().unwrap()).bytes)
    };
    for factor in [json!("2x"), json!("2"), json!(2), json!(2.0), json!(null)] {
        assert_eq!(
            size(CREATIVE, json!({ "image": image, "scale_factor": factor, "unknown": [1] })),
            (64, 48),
            "{factor}"
        );
    }
    assert_eq!(size("/v1/ai/upscaler-creative", json!({ "image": image, "scale_factor": "4x" })), (128, 96));
    assert_eq!(size("/v1/ai/image-upscaler-precision", json!({ "image": image, "sharpen": 10 })), (64, 48));
    assert_eq!(size(V2, json!({ "image": image, "scale_factor": 3, "flavor": "photo" })), (96, 72));
    assert_eq!(size(V2, json!({ "image": image, "scale_factor": "5" })), (160, 120));
    let uri = format!("data:image/png;base64,{image}");
    assert_eq!(size(CREATIVE, json!({ "image": uri })), (64, 48));
    // Serializers may escape the slash, wrap lines, use the other alphabet, or leave padding out.
    let odd = image.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let odd = format!("{}\n{}", &odd[..40], &odd[40..]);
    assert_eq!(size(CREATIVE, json!({ "image": odd })), (64, 48));
    let all_knobs = json!({
        "image": image, "creativity": 3, "hdr": -2, "resemblance": 1, "fractality": -4, "engine": "magnific_sparkle",
        "optimized_for": "3d_renders", "prompt": "a (brush:1.3)", "filter_nsfw": true, "webhook_url": null,
    });
    assert_eq!(size(CREATIVE, all_knobs), (64, 48));
    for (extension, file) in [("jpg", "friends.jpg"), ("png", "brushes.png")] {
        let body = json!({ "image": base64(&sample(file)), "name": file, "request": { "model": "animevideo-v3" } });
        let task = server.wait_done(&server.submit("/api/tasks", &body));
        assert!(task["source"]["media_type"].as_str().unwrap().ends_with(if extension == "jpg" {
            "jpeg"
        } else {
            "png"
        }));
        let download = server.get(&format!("{}&download=1", task["result"]["url"].as_str().unwrap()));
        let name = file.replace(&format!(".{extension}"), "_2x.png");
        assert_eq!(download.header("content-disposition"), format!("attachment; filename=\"{name}\""));
    }
}

#[test]
fn an_upload_is_read_from_the_store_and_its_addresses_are_the_right() {
    let server = Server::start(&[]);
    let slot = server.post("/customers/storage", &json!({ "file_name": "a.png", "content_type": "image/png" }));
    assert_eq!(slot.status, 200, "{}", slot.text());
    let slot = slot.json();
    let (upload, download) = (slot["upload_url"].as_str().unwrap(), slot["download_url"].as_str().unwrap());
    assert_eq!(server.post(CREATIVE, &json!({ "image": download })).status, 400, "nothing is there yet");
    assert_eq!(server.send("PUT", upload, &[], &photo(32, 24)).status, 200);
    assert_eq!(server.get(download).bytes, photo(32, 24));
    let id = server.submit(CREATIVE, &json!({ "image": download }));
    server.wait_done(&id);
    assert_eq!(server.send("PUT", download, &[], b"other").status, 405 - 2, "reading is not writing");
    let slots = server.post(
        "/v1/ai/uploads/request-url",
        &json!({ "files": [{ "content_type": "image/png" }, { "content_type": "image/jpeg" }] }),
    );
    assert_eq!(slots.status, 200, "{}", slots.text());
    let text = slots.text();
    for word in ["upload_url", "headers", "file_id", "asset_url", "expires_in", "asset_url_expires_in"] {
        assert_eq!(text.matches(&format!("\"{word}\"")).count(), 2, "{word} in {text}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_every_form_that_clients_read() {
    let server = Server::start(&[]);
    let body = json!({
        "image": "!!", "scale_factor": "3x", "creativity": 11, "hdr": "much", "engine": "x", "prompt": 5,
        "webhook_url": "ftp://example.com", "filter_nsfw": "maybe",
    });
    let answer = server.post(CREATIVE, &body);
    assert_eq!(answer.status, 400);
    let error = answer.json();
    let names: Vec<&str> =
        error["invalid_params"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    for name in ["image", "scale_factor", "creativity", "hdr", "engine", "prompt", "webhook_url", "filter_nsfw"] {
        assert!(names.contains(&name), "{name} in {error}");
    }
    assert_eq!(error["error"], "invalid_params");
    assert_eq!(error["problem"]["invalid_params"], error["invalid_params"]);
    let answer = server.post(CREATIVE, &json!({ "image": base64(&photo(32, 24)), "creativity": 11 })).json();
    let reason = json!({ "name": "creativity", "reason": "must be between -10 and 10" });
    let message = "creativity must be between -10 and 10";
    let problem = json!({ "message": message, "invalid_params": [reason] });
    let expected =
        json!({ "error": "invalid_params", "message": message, "invalid_params": [reason], "problem": problem });
    assert_eq!(answer, expected);
    assert_eq!(server.get("/api/tasks").json()["total"], 0, "nothing was accepted");
}

#[test]
fn what_is_not_there_is_a_plain_404() {
    let server = Server::start(&[]);
    let id = "0198c0de-0000-7000-8000-000000000000";
    for path in [
        "/v1/ai/mystic/1",
        "/v1/ai/image-upscaler/1",
        &format!("{CREATIVE}/{id}"),
        &format!("/api/tasks/{id}"),
        "/nothing",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/json"), "{path}");
        assert!(answer.json()["message"].is_string());
    }
    // A task is found by its own endpoint only.
    let task = server.submit(V2, &json!({ "image": base64(&photo(32, 24)) }));
    assert_eq!(server.get(&format!("{CREATIVE}/{task}")).status, 404);
    for (page, per_page) in [("0", "1"), ("1", "0"), ("x", "1"), ("1", "-1")] {
        assert_eq!(server.get(&format!("{CREATIVE}?page={page}&per_page={per_page}")).status, 400);
    }
}

#[test]
fn a_public_url_under_a_path_is_what_clients_are_told() {
    let server = Server::start(&["--public-url", "https://pictures.example.com/enlarger/"]);
    let slot = server.post("/enlarger/customers/storage", &json!({ "file_name": "a.png" })).json();
    let url = slot["download_url"].as_str().unwrap();
    let path = url.strip_prefix("https://pictures.example.com").expect("the public address");
    assert!(path.starts_with("/enlarger/files/"));
    let upload = slot["upload_url"].as_str().unwrap().strip_prefix("https://pictures.example.com").unwrap();
    assert_eq!(server.send("PUT", upload, &[], &photo(32, 24)).status, 200);
    assert_eq!(server.get(path).status, 200);
    // Our own address is never fetched over the network, by whatever name.
    server.wait_done(&server.submit(CREATIVE, &json!({ "image": url })));
}

#[test]
fn a_preview_that_asks_for_a_draft_is_made_by_the_smallest_network() {
    let server = Server::start(&[]);
    let image = base64(&photo(64, 48));
    let preview = |model: &str, draft: bool| {
        let crop = json!({ "x": 8, "y": 8, "width": 24, "height": 16 });
        let request = json!({ "size": { "factor": 4.0 }, "model": model, "crop": crop, "draft": draft });
        let answer = server.post("/api/preview", &json!({ "image": image, "request": request }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(png_size(&answer.bytes), (96, 64));
        enlarger_image::decode(&answer.bytes, &enlarger_image::Limits::default()).expect("a picture").picture.samples
    };
    let draft = preview("x4plus-anime-6b", true);
    assert!(draft == preview("animevideo-v3", false) && draft != preview("x4plus-anime-6b", false));
}
