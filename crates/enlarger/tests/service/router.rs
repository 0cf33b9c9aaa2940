//! Comfy's router: its catalogue, its errors, and the specification of a model, as its own specification has them.

use serde_json::{Value, json};

use crate::harness::*;

const MODEL: &str = "/v2/models/freepik/ai-image-upscaler-precision-v2";

/// An error that concerns the whole request, checked for what is the same of all.
fn refusal(answer: &Answer) -> (u16, String) {
    let error = answer.json();
    let error_type = error["error_type"].as_str().unwrap_or_else(|| panic!("an error_type in {error}")).to_owned();
    assert_eq!(answer.header("x-comfy-error-type"), error_type, "{error}");
    assert!(!answer.header("x-comfy-request-id").is_empty());
    assert!(error["detail"].as_str().is_some_and(|detail| detail.len() > 8), "{error}");
    (answer.status, error_type)
}

#[test]
fn the_catalogue_has_one_model_under_every_cursor_and_limit_that_is_one() {
    let server = Server::start(&["--role", "api"]);
    let entry = json!({
        "id": "freepik/ai-image-upscaler-precision-v2", "provider": "freepik", "model": "ai-image-upscaler-precision-v2",
        "billing": { "charges_on_policy_rejection": "no" },
    });
    for (query, limit) in [
        ("", 20),
        ("?limit=5", 5),
        ("?limit=100", 100),
        ("?limit=101", 100),
        ("?limit=0", 20),
        ("?limit=-7", 20),
        ("?limit=99999999999999999999", 100),
        ("?limit=", 20),
    ] {
        let page = server.get(&format!("/v2/models{query}"));
        let expected = json!({ "data": [entry], "has_more": false, "limit": limit });
        assert_eq!((page.status, page.json()), (200, expected), "{query}: next_cursor is absent on the last page");
    }
    for query in ["?cursor=", "?cursor=abc", "?cursor=%00", "?limit=ten", "?limit=1.5"] {
        assert_eq!(refusal(&server.get(&format!("/v2/models{query}"))), (400, "invalid_input".into()), "{query}");
    }
    assert_eq!(server.get(MODEL).json(), entry);
    assert_eq!(server.get(&format!("{MODEL}/")).json(), entry);
    for path in
        ["/v2/models/freepik/other", "/v2/models/kling/ai-image-upscaler-precision-v2", "/v2/models/a/b/openapi.json"]
    {
        let answer = server.get(path);
        assert_eq!(refusal(&answer), (404, "model_not_found".into()), "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("freepik/ai-image-upscaler-precision-v2"));
    }
}

#[test]
fn errors_have_the_form_and_the_closed_types_of_the_router() {
    let server = Server::start(&["--role", "api"]);
    let image = base64(&photo(32, 24));
    let wrong = json!({ "sharpen": 101, "scale_factor": "17", "flavor": "x" });
    for path in [MODEL.to_owned(), format!("{MODEL}/requests")] {
        let answer = server.post(&path, &wrong);
        let error = answer.json();
        assert_eq!((answer.status, answer.header("x-comfy-error-type")), (422, "invalid_input"), "{error}");
        let place = |detail: &Value| (detail["loc"].clone(), detail["type"].as_str().unwrap().to_owned());
        let mut places: Vec<_> = error["detail"].as_array().unwrap().iter().map(place).collect();
        places.sort_by_key(|(place, _)| place.to_string());
        let bad = |name: &str| (json!(["body", name]), "value_error".to_owned());
        let expected =
            [bad("flavor"), (json!(["body", "image"]), "missing".to_owned()), bad("scale_factor"), bad("sharpen")];
        assert_eq!(places, expected);
        let detail = error["detail"].as_array().unwrap().iter().find(|detail| detail["loc"][1] == "sharpen").unwrap();
        assert_eq!(detail["msg"], "sharpen must be between 0 and 100");
        assert!(error.get("error_type").is_none(), "the header has it");
        for (body, status) in [(b"{".as_slice(), 400), (b"", 400), (b"a=b", 415), (b"[1]", 400)] {
            assert_eq!(refusal(&server.send("POST", &path, &[], body)), (status, "invalid_input".into()));
        }
    }
    // A key is good for one request; the same request is answered as the first time.
    let queue = format!("{MODEL}/requests");
    let keyed = |body: &Value| server.send("POST", &queue, &[("idempotency-key", "k1")], body.to_string().as_bytes());
    let first = keyed(&json!({ "image": image }));
    assert_eq!((first.status, &first.json()["status"]), (201, &json!("IN_QUEUE")));
    let again = keyed(&json!({ "image": image }));
    assert_eq!((again.header("idempotent-replayed"), again.json()), ("true", first.json()));
    assert_eq!(refusal(&keyed(&json!({ "image": image, "sharpen": 1 }))), (409, "invalid_input".into()));
    let long = "k".repeat(256);
    let answer =
        server.send("POST", &queue, &[("idempotency-key", &long)], json!({ "image": image }).to_string().as_bytes());
    assert_eq!(refusal(&answer), (400, "invalid_input".into()));
    // The same twice under the vendor's prefix has the vendor's names.
    let keyed = |sharpen: i32| {
        let body = json!({ "image": image, "sharpen": sharpen }).to_string();
        server.send("POST", V2, &[("idempotency-key", "k2")], body.as_bytes())
    };
    assert_eq!(keyed(1).status, 200);
    assert_eq!((keyed(2).status, keyed(2).header("x-comfy-error-type")), (409, "idempotency_mismatch"));

    assert_eq!(
        refusal(&server.get(&format!("{queue}/0198c0de-0000-7000-8000-000000000000"))),
        (404, "invalid_input".into())
    );
    assert_eq!(refusal(&server.get("/v2/nothing")), (404, "invalid_input".into()));
    assert_eq!(refusal(&server.send("DELETE", MODEL, &[], &[])), (405, "invalid_input".into()));
    assert_eq!(
        refusal(&server.send("GET", "/v2/models", &[("origin", "https://evil.example")], &[])),
        (403, "forbidden".into())
    );
    // A run that was cancelled is complete, and says who ended it.
    let id = first.json()["request_id"].as_str().unwrap().to_owned();
    let cancelled = server.send("PUT", &format!("{queue}/{id}/cancel"), &[], &[]);
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("COMPLETED")));
    assert_eq!(server.get(&format!("{queue}/{id}/status")).json()["error_type"], "client_disconnected");

    let closed = Server::start(&["--role", "api", "--auth", "on"]);
    assert_eq!(refusal(&closed.get("/v2/models")), (401, "unauthorized".into()));
    assert_eq!(refusal(&closed.post(MODEL, &json!({}))), (401, "unauthorized".into()));
    let wrong = closed.send("GET", MODEL, &[("authorization", "Bearer x")], &[]);
    assert_eq!(
        (refusal(&wrong), wrong.json()["detail"].clone()),
        ((401, "unauthorized".into()), json!("Invalid API key"))
    );

    // With one place in the queue, the second request is told when to retry.
    let full = Server::start(&["--role", "api", "--queue-limit", "1"]);
    full.post(&queue, &json!({ "image": image }));
    let answer = full.post(&queue, &json!({ "image": image }));
    assert_eq!(refusal(&answer), (429, "rate_limited".into()));
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
}

#[test]
fn the_specification_of_a_model_stands_alone() {
    let server = Server::start(&["--role", "api"]);
    let path = format!("{MODEL}/openapi.json");
    let answer = server.get(&path);
    let document = answer.json();
    assert_eq!(answer.header("cache-control"), "private, max-age=300, must-revalidate");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, [MODEL]);
    assert_eq!(document["paths"][MODEL].as_object().unwrap().keys().collect::<Vec<_>>(), ["post"]);
    assert_eq!(document["x-comfy-router-model-id"], "freepik/ai-image-upscaler-precision-v2");
    for flag in ["x-comfy-input-schema-authored", "x-comfy-output-schema-authored"] {
        assert_eq!(document[flag], true, "{flag}");
    }
    let text = document.to_string();
    let references: Vec<&str> =
        text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 3);
    for reference in &references {
        assert!(document.pointer(reference).is_some(), "{reference} travels along");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        assert!(references.iter().any(|reference| reference.ends_with(&format!("/{name}"))), "{name} is of use");
    }
    assert!(schemas["PrecisionV2Request"]["properties"]["sharpen"].is_object());
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10);
    for matching in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let unchanged = server.send("GET", &path, &[("if-none-match", &matching)], &[]);
        assert_eq!(
            (unchanged.status, unchanged.bytes.len(), unchanged.header("etag")),
            (304, 0, tag.as_str()),
            "{matching}"
        );
        assert_eq!(unchanged.header("cache-control"), "private, max-age=300, must-revalidate");
    }
    assert_eq!(server.send("GET", &path, &[("if-none-match", "\"x\"")], &[]).status, 200);
}
