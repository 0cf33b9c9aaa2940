//! OpenAI's image API as LocalAI extends it: one form in, one image out.

use std::{io::Write, net::TcpStream, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::*;

const UPSCALE: &str = "/v1/images/upscale";

/// A form with the picture as a file, and its content type. The boundary is another one each time, as clients have it.
fn form(fields: &[(&str, &str)], picture: Option<&[u8]>) -> (String, Vec<u8>) {
    let boundary = format!("----{:?}", std::time::Instant::now()).replace([' ', '{', '}', ':', ','], "");
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    if let Some(picture) = picture {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"my photo.png\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(picture);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn send(server: &Server, fields: &[(&str, &str)], picture: Option<&[u8]>, headers: &[(&str, &str)]) -> Answer {
    let (kind, body) = form(fields, picture);
    server.send("POST", UPSCALE, &[&[("content-type", kind.as_str())], headers].concat(), &body)
}

#[test]
fn a_form_is_answered_with_the_file_or_with_openais_json() {
    let server = Server::start(&[]);
    let photo = photo(32, 24);
    let fields = [("model", "animevideo-v3"), ("scale", "2.5x"), ("n", "1")];

    let file = send(&server, &fields, Some(&photo), &[("accept", "*/*")]);
    assert_eq!((file.status, file.header("content-type")), (200, "image/png"), "{}", file.text());
    assert_eq!(png_size(&file.bytes), (80, 60));
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"my_photo_2.5x.png\"");

    let json = [&fields[..], &[("response_format", "b64_json"), ("sharpen", "20")]].concat();
    let answer = send(&server, &json, Some(&photo), &[]).json();
    assert_eq!(png_size(&BASE64_STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap()).unwrap()), (80, 60));
    assert_eq!((&answer["size"], &answer["output_format"]), (&json!("80x60"), &json!("png")));
    assert!(answer["created"].as_i64().is_some_and(|second| second > 1_700_000_000), "{answer}");

    // As OpenAI's clients accept it; and a picture in base64, as other fields are.
    let text = base64(&photo);
    let fields =
        [("image", text.as_str()), ("width", "64"), ("model", "auto"), ("quality", "fast"), ("output_format", "jpeg")];
    let answer = send(&server, &fields, None, &[("accept", "application/json")]).json();
    let result = server.get(answer["data"][0]["url"].as_str().expect("a URL"));
    assert_eq!((result.status, result.header("content-type")), (200, "image/jpeg"));
    assert_eq!(answer["size"], "64x48");
}

#[test]
fn refusals_are_sentences_where_openais_clients_look() {
    let server = Server::start(&["--role", "api"]);
    let photo = photo(32, 24);
    let refused = |fields: &[(&str, &str)], picture: Option<&[u8]>| {
        let answer = send(&server, fields, picture, &[]);
        assert_eq!(answer.status, 400, "{fields:?}: {}", answer.text());
        let body = answer.json();
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"].is_string()),
            (&json!("invalid_request_error"), &true)
        );
        (
            body["error"]["param"].as_str().unwrap_or_default().to_owned(),
            body["error"]["message"].as_str().unwrap().to_owned(),
        )
    };
    for (fields, picture, param, message) in [
        (&[("scale", "17")][..], Some(&photo[..]), "scale", "scale must be a number between 1 and 16"),
        (
            &[("scale", "2"), ("width", "64")],
            Some(&photo),
            "scale",
            "scale cannot be combined with width. Hint: send one",
        ),
        (&[("width", "64"), ("height", "64")], Some(&photo), "width", "width cannot be combined with height"),
        (&[("width", "9")], Some(&photo), "width", "must be between 1x and 16x"),
        (&[("height", "9000")], Some(&photo), "height", "must be between 1x and 16x"),
        // What `curl -F image="data:image/png;base64,..."` sends.
        (
            &[("image", "data:image/png")],
            None,
            "image",
            "Hint: begin it with data:image/png;base64, and the like; curl -F cuts",
        ),
        (&[("creativity", "2"), ("sharpen", "3")], Some(&photo), "sharpen", "cannot be combined with creativity"),
        (&[("model", "realesrgan")], Some(&photo), "model", "Hint: available: "),
        (&[("response_format", "png")], Some(&photo), "response_format", "must be one of file, url, b64_json"),
        (&[("output_format", "gif")], Some(&photo), "output_format", "must be one of png, jpeg"),
        (&[], None, "image", "image is required"),
        (&[], Some(b"no picture"), "image", "not an image"),
        (&[], Some(b""), "image", "empty"),
    ] {
        let (at, said) = refused(fields, picture);
        assert_eq!(at, param, "{said}");
        assert!(said.contains(message), "{said}");
    }
    // All at once.
    let body = send(&server, &[("scale", "x"), ("seed", "-1")], Some(&photo), &[]).json();
    assert_eq!(body["invalid_params"].as_array().unwrap().len(), 2, "{body}");
    let not_a_form = server.post(UPSCALE, &quick());
    assert_eq!(not_a_form.status, 415);
    assert!(not_a_form.text().contains("curl -F image=@photo.jpg"), "{}", not_a_form.text());
    let (kind, whole) = form(&[], Some(&photo));
    let cut_off = server.send("POST", UPSCALE, &[("content-type", &kind)], &whole[..whole.len() / 2]);
    assert_eq!((cut_off.status, &cut_off.json()["error"]["code"]), (400, &json!("invalid_form")));
    let other = server.post("/v1/images/generations", &json!({ "prompt": "a cat" }));
    assert!(other.status == 404 && other.text().contains("POST /v1/images/upscale"), "{}", other.text());
    assert_eq!(server.get("/api/tasks").json()["total"], 0, "nothing was accepted");
}

#[test]
fn the_limits_of_the_server_hold_for_forms() {
    let server = Server::start(&["--role", "api", "--max-body-mb", "1"]);
    let before = server.files_in("files/tmp");
    let large = vec![0; 3 << 19];
    let answer = send(&server, &[], Some(&large), &[]);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &json!("payload_too_large")));
    let long = "x".repeat((1 << 20) - 200);
    let answer = send(&server, &[("a", &long), ("b", &long)], None, &[]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(server.files_in("files/tmp"), before, "nothing is left");
}

/// Waits until there is one task in one of these states.
fn wait_for_the_task(server: &Server, states: &[&str]) -> Value {
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        let tasks = server.get("/api/tasks").json()["tasks"].clone();
        if let Some(task) = tasks.get(0).filter(|task| states.contains(&task["status"].as_str().unwrap())) {
            return task.clone();
        }
        assert!(std::time::Instant::now() < patience, "{tasks}\n{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Sends a form and disconnects once its task runs.
fn hang_up(server: &Server, fields: &[(&str, &str)], picture: &[u8], headers: &str) {
    let (kind, body) = form(fields, Some(picture));
    let mut connection = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!(
        "POST {UPSCALE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    wait_for_the_task(server, &["IN_PROGRESS"]);
}

#[test]
fn a_client_that_disconnects_cancels_its_job_unless_it_can_ask_for_it_again() {
    let server = Server::start(&[]);
    hang_up(&server, &[("model", "x4plus"), ("scale", "15")], &sample("stream.jpg"), "");
    wait_for_the_task(&server, &["CANCELLED"]);

    let server = Server::start(&[]);
    let (fields, photo) = ([("model", "x4plus"), ("scale", "4")], photo(192, 144));
    hang_up(&server, &fields, &photo, "Idempotency-Key: mine\r\n");
    let again = send(&server, &fields, Some(&photo), &[("idempotency-key", "mine")]);
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"), "{}", again.text());
    assert_eq!(png_size(&again.bytes), (768, 576));
    let other = send(&server, &[("scale", "3")], Some(&photo), &[("idempotency-key", "mine")]);
    assert_eq!((other.status, &other.json()["error"]["code"]), (409, &json!("idempotency_mismatch")));
    assert_eq!(server.get("/api/tasks").json()["total"], 1);
}

/// As printed in the documentation.
#[test]
fn one_line_of_curl_enlarges_a_photo() {
    let server = Server::start(&[]);
    let page = std::fs::read_to_string(root().join("docs/guides/api.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("curl -f -F image=@photo.jpg")).expect("the line");
    std::fs::write(server.dir().join("photo.jpg"), photo(32, 24)).unwrap();
    let line = line.replace("http://127.0.0.1:7788", &server.url(""));
    let said = Command::new("bash").args(["-c", &line]).current_dir(server.dir()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(png_size(&std::fs::read(server.dir().join("larger.png")).expect("larger.png")), (128, 96));
}
