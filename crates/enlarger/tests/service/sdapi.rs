//! A1111's API, as far as it enlarges. Its client from the registry is in `clients.rs`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::*;

const EXTRA: &str = "/sdapi/v1/extra-single-image";

fn result(answer: &Answer) -> Vec<u8> {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{}", answer.text());
    BASE64_STANDARD.decode(answer.json()["image"].as_str().expect("base64")).expect("base64")
}

#[test]
fn sizes_are_those_that_were_asked_for() {
    let server = Server::start(&[]);
    let image = base64(&photo(64, 48));
    let size = |fields: Value| {
        let mut body = json!({ "image": image, "upscaler_1": "animevideo-v3", "show_extras_results": true });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        png_size(&result(&server.post(EXTRA, &body)))
    };
    assert_eq!(size(json!({})), (128, 96));
    assert_eq!(size(json!({ "upscaling_resize": 1.5, "resize_mode": 0, "upscaling_resize_w": 9 })), (96, 72));
    let into = |crop: Value| json!({ "resize_mode": 1, "upscaling_resize_w": 150, "upscaling_resize_h": 160, "upscaling_crop": crop });
    assert_eq!(size(into(json!(true))), (150, 160));
    // The whole image, at least that large.
    assert_eq!(size(into(json!(false))), (213, 160));
}

#[test]
fn upscalers_are_our_models_and_names_that_its_clients_have_written_down() {
    let server = Server::start(&[]);
    let list = server.get("/sdapi/v1/upscalers").json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "Automatic");
    assert!(names.contains(&"realsr-df2k") && names.contains(&"x4plus"), "{names:?}");
    let image = base64(&photo(32, 24));
    let model = |fields: Value| {
        let mut body = json!({ "image": image, "codeformer_visibility": 0, "upscale_first": false });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        result(&server.post(EXTRA, &body));
        server.get("/api/tasks").json()["tasks"][0]["request"]["model"].clone()
    };
    assert_eq!(model(json!({})), json!(null));
    assert_eq!(model(json!({ "upscaler_1": "None", "upscaler_2": "None" })), json!(null));
    assert_eq!(model(json!({ "upscaler_1": "R-ESRGAN 4x+ Anime6B" })), "x4plus-anime-6b");
    let both =
        json!({ "upscaler_1": "animevideo-v3", "upscaler_2": "R-ESRGAN 4x+", "extras_upscaler_2_visibility": 0.25 });
    assert_eq!(model(both), "animevideo-v3+x4plus@0.25");
}

#[test]
fn refusals_are_sentences_in_detail() {
    let server = Server::start(&["--role", "api"]);
    let refused = |fields: Value| {
        let mut body = json!({ "image": base64(&photo(32, 24)) });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = server.post(EXTRA, &body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.json()["detail"].as_str().expect("a sentence").to_owned()
    };
    for (fields, sentence) in [
        (json!({ "image": "" }), "image is required"),
        (json!({ "upscaling_resize": 0.5 }), "upscaling_resize must be a number between 1 and 16"),
        (json!({ "upscaler_1": "Lanczos" }), "there is no model named \"Lanczos\". Hint: available: "),
        (json!({ "upscaler_2": "x4plus", "extras_upscaler_2_visibility": 1 }), "an upscaler_1 that is named"),
        (json!({ "resize_mode": 1, "image": "https://example.com/a.png" }), "send the image itself"),
        (json!({ "resize_mode": 1, "upscaling_resize_w": 9, "upscaling_resize_h": 9 }), "upscaling_resize_w cannot"),
    ] {
        let said = refused(fields);
        assert!(said.contains(sentence), "{said}");
    }
    let other = server.post("/sdapi/v1/txt2img", &json!({ "prompt": "a cat" }));
    assert_eq!(other.status, 404);
    assert!(other.json()["detail"].as_str().unwrap().contains("only enlarges images"), "{}", other.text());
}
