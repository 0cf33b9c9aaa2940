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
        // Too large a number is the end, several parts or a unit that is not known are the whole.
        let end = format!("bytes=1-{}0", u64::MAX);
        for (range, status, from) in [(end.as_str(), 206, 1), ("bytes=0-1,5-6", 200, 0), ("rows=0-1", 200, 0)] {
            let part = server.send("GET", &url, &[("range", range)], &[]);
            assert_eq!((part.status, part.bytes.as_slice()), (status, &file.bytes[from..]), "{range}");
        }
        let behind = server.send("GET", &url, &[("range", "bytes=99999999-")], &[]);
        assert_eq!(behind.status, 416);
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
    let v1 = "/v1/ai/image-upscaler-precision";
    assert_eq!(size(v1, json!({ "image": image, "sharpen": 10 })), (64, 48));
    for (factor, expected) in
        [(json!(3), (96, 72)), (json!("4"), (128, 96)), (json!("2x"), (64, 48)), (json!(""), (64, 48))]
    {
        assert_eq!(size(v1, json!({ "image": image, "scale_factor": factor })), expected, "{factor}");
    }
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
fn what_shells_forms_and_joined_addresses_make_of_a_request_is_understood() {
    let server = Server::start(&["--role", "api"]);
    let image = base64(&photo(32, 24));
    let knobs = |path: &str, body: &[u8]| {
        let answer = server.send("POST", path, &[], body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let id = answer.json()["data"]["task_id"].as_str().unwrap().to_owned();
        server.task(&id)["request"].clone()
    };
    let body = json!({
        "image": image, "scale_factor": "", "creativity": "2", "hdr": " -3 ", "resemblance": "4.0", "fractality": "",
        "engine": "", "optimized_for": "", "prompt": "", "webhook_url": "", "filter_nsfw": "0",
    });
    let plain = json!({ "image": image, "creativity": 2, "hdr": -3, "resemblance": 4 });
    let expected = knobs(CREATIVE, plain.to_string().as_bytes());
    assert_eq!((&expected["look"]["creativity"], &expected["look"]["hdr"]), (&json!(2), &json!(-3)));
    for path in [CREATIVE, &format!("{CREATIVE}/"), &format!("/{CREATIVE}"), &format!("//proxy/freepik{CREATIVE}//")] {
        assert_eq!(knobs(path, body.to_string().as_bytes()), expected, "{path}");
    }
    assert_eq!(knobs(CREATIVE, format!("\u{feff}{plain}").as_bytes()), expected, "after a byte order mark");
    assert_eq!(server.get(&format!("{CREATIVE}/?page=1")).status, 200);
    assert_eq!(server.get("/api/status/").status, 200);

    // A picture with some bytes after its end, so that its base64 has all that is escaped in addresses.
    let mut bytes = photo(32, 24);
    bytes.resize(bytes.len().next_multiple_of(3), 0);
    bytes.extend([0xfb, 0xff, 0xbf, 0]);
    let odd = base64(&bytes);
    assert!(odd.ends_with("+/+/AA=="));
    let escaped = |from: &[(&str, &str)]| from.iter().fold(odd.clone(), |text, (from, to)| text.replace(from, to));
    let all = [("+", "%2B"), ("/", "%2f"), ("=", "%3D")];
    for image in [
        format!("data:image/png;base64,{}", escaped(&all)),
        format!("data:image/png;base64,{}", escaped(&all[..1])),
        format!("\n data:image/png;base64,{odd}"),
        format!("\r\n\tDATA:image/png;BASE64,\n{odd}\n"),
        format!("data:;base64 ,{odd}"),
        format!("  {odd}"),
        escaped(&all),
    ] {
        let answer = server.post(CREATIVE, &json!({ "image": image }));
        assert_eq!(answer.status, 200, "{}: {}", &image[..40], answer.text());
    }
    let slot = server.post("/customers/storage", &json!({ "file_name": "a.png", "file_hash": "0123" })).json();
    server.send("PUT", slot["upload_url"].as_str().unwrap(), &[], &photo(32, 24));
    for url in [format!(" {}", slot["download_url"].as_str().unwrap()), "\n https://example.com/a.png".to_owned()] {
        assert_eq!(server.post(CREATIVE, &json!({ "image": url })).status, 200, "{url}");
    }
    for wrong in ["data:image/png;base64,%2", "data:image/png;base64,%zz", "%"] {
        assert_eq!(server.post(CREATIVE, &json!({ "image": wrong })).status, 400, "{wrong}");
    }
}

#[test]
fn a_body_that_is_not_json_is_called_by_its_name() {
    let server = Server::start(&["--role", "api"]);
    let multipart =
        b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n\x89PNG\r\n--b--\r\n";
    let bodies = [
        ("multipart/form-data; boundary=b", multipart.as_slice(), "multipart/form-data"),
        ("application/json", multipart.as_slice(), "multipart/form-data"),
        ("application/x-www-form-urlencoded", b"image=abc&scale_factor=2x", "form"),
        ("image/png", &photo(32, 24), "a file"),
    ];
    for path in [CREATIVE, "/customers/storage", "/api/tasks"] {
        for (media_type, body, name) in bodies {
            let answer = server.send("POST", path, &[("content-type", media_type)], body);
            let error = answer.json();
            assert_eq!(
                (answer.status, &error["error"]),
                (415, &json!("unsupported_media_type")),
                "{path} {media_type}"
            );
            assert!(error["message"].as_str().unwrap().contains(name), "{error}");
            assert!(error["hint"].as_str().unwrap().contains("base64"), "{error}");
        }
    }
    // JSON is read whatever it is called: curl calls everything a form.
    let body = json!({ "image": base64(&photo(32, 24)) }).to_string();
    let answer =
        server.send("POST", CREATIVE, &[("content-type", "application/x-www-form-urlencoded")], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn an_address_that_cannot_be_public_is_refused_at_submission_as_image_and_as_webhook() {
    let image = base64(&photo(32, 24));
    let closed = Server::start(&["--role", "api"]);
    for host in [
        "127.0.0.1:8080",
        "10.1.2.3",
        "192.168.0.10",
        "[::1]",
        "[fd00::1]",
        "169.254.169.254",
        "2130706433",
        "localhost",
        "LOCALHOST.",
        "nas",
        "printer.local",
        "db.internal",
        "box.home.arpa",
        "a.localhost",
    ] {
        let url = format!("http://{host}/hook");
        let bodies =
            [("webhook_url", json!({ "image": image, "webhook_url": url })), ("image", json!({ "image": url }))];
        for (name, body) in bodies {
            let answer = closed.post(CREATIVE, &body);
            let error = answer.json();
            assert_eq!((answer.status, &error["error"]), (400, &json!("invalid_params")), "{name} {host}: {error}");
            assert_eq!(error["invalid_params"][0]["name"], name, "{host}");
            let reason = "cannot be used: the URL does not point to a public host";
            assert_eq!(error["invalid_params"][0]["reason"], reason, "one reason for all: {host}");
        }
    }
    assert_eq!(closed.get("/api/tasks").json()["total"], 0);
    for url in
        ["https://example.com/hook", "http://93.184.215.14/hook", "https://local.example.com", "https://internal.de/"]
    {
        let answer = closed.post(CREATIVE, &json!({ "image": image, "webhook_url": url }));
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    }
    let open = Server::start(&["--role", "api", "--allow-net", "192.168.0.0/16"]);
    let webhook = |url: &str| open.post(CREATIVE, &json!({ "image": image, "webhook_url": url })).status;
    assert_eq!(
        (webhook("http://192.168.0.10/"), webhook("http://nas.local/"), webhook("http://10.1.2.3/")),
        (200, 200, 400)
    );
}

#[test]
fn uploads_are_listed_to_the_key_that_made_them() {
    let server = Server::start(&["--role", "api"]);
    let mut urls = Vec::new();
    for name in ["a.png", "b.png", "c.png"] {
        let slot = server.post("/customers/storage", &json!({ "file_name": name, "content_type": "image/png" })).json();
        urls.push(slot["upload_url"].as_str().unwrap().to_owned());
    }
    assert_eq!(server.send("PUT", &urls[1], &[], &photo(32, 24)).status, 200);
    let list = server.get("/v1/ai/uploads").json();
    let of =
        |name: &str| list["data"].as_array().unwrap().iter().find(|file| file["file_name"] == name).unwrap().clone();
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    assert_eq!((&of("a.png")["size"], &of("b.png")["size"]), (&json!(null), &json!(photo(32, 24).len())));
    assert_eq!(of("b.png")["content_type"], "image/png");
    assert_eq!(server.get(of("b.png")["asset_url"].as_str().unwrap()).bytes, photo(32, 24));
    assert!((1..=24 * 3600).contains(&of("b.png")["asset_url_expires_in"].as_i64().unwrap()));
    let page = |page: u32| {
        server.get(&format!("/v1/ai/uploads/?page={page}&per_page=2")).json()["data"].as_array().unwrap().len()
    };
    assert_eq!((page(1), page(2), page(3)), (2, 1, 0));
    assert_eq!(server.get("/v1/ai/uploads?per_page=0").status, 400);
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
    // ComfyUI shows the message and nothing else.
    for (path, name) in [
        ("/proxy/freepik/v1/ai/skin-enhancer/creative", "skin-enhancer"),
        ("/proxy/freepik/v1/ai/image-relight", "image-relight"),
        ("/v1/ai/image-style-transfer/1", "image-style-transfer"),
        ("/v1/ai/mystic/1", "mystic"),
        ("/v1/ai/video-upscaler/turbo/", "video-upscaler"),
        ("/proxy/kling/v1/videos/text2video", "kling"),
    ] {
        let answer = server.send("POST", path, &[], b"{}");
        let error = answer.json();
        assert_eq!((answer.status, &error["error"]), (404, &json!("not_found")), "{path}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{name} is not available")), "{message}");
        for ours in ["image-upscaler", "image-upscaler-precision", "image-upscaler-precision-v2"] {
            assert!(message.contains(ours), "{message}");
        }
        assert!(error["hint"].as_str().unwrap().contains("/openapi.json"));
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
fn a_preview_is_a_draft_by_the_smallest_network_or_fast_by_the_named_one() {
    let server = Server::start(&[]);
    let image = base64(&photo(64, 48));
    let preview = |model: &str, (field, value): (&str, Value)| {
        let crop = json!({ "x": 8, "y": 8, "width": 24, "height": 16 });
        let request = json!({ "size": { "factor": 4.0 }, "model": model, "crop": crop, field: value });
        let answer = server.post("/api/preview", &json!({ "image": image, "request": request }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(png_size(&answer.bytes), (96, 64));
        enlarger_image::decode(&answer.bytes, &enlarger_image::Limits::default()).expect("a picture").picture.samples
    };
    let quality = |name: &str| ("quality", json!(name));
    let draft = preview("x4plus-anime-6b", quality("draft"));
    let best = preview("x4plus-anime-6b", quality("best"));
    assert!(draft == preview("animevideo-v3", quality("best")) && draft != best);
    assert!(preview("x4plus-anime-6b", quality("fast")) == best);
    // As earlier clients ask for it.
    assert!(preview("x4plus-anime-6b", ("draft", json!(true))) == draft);
    assert!(preview("x4plus-anime-6b", ("draft", json!(false))) == best);
}

#[test]
fn our_own_routes_take_a_quality_and_refuse_a_wrong_one_with_those_there_are() {
    let server = Server::start(&[]);
    let seconds = |quality: &str| {
        let body = json!({ "width": 640, "height": 480, "request": { "quality": quality, "size": { "factor": 4.0 } } });
        server.post("/api/estimate", &body).json()["seconds"].as_f64().expect("a number")
    };
    let (fast, best) = (seconds("fast"), seconds("best"));
    assert!(fast > 0.0 && 10.0 * fast <= best, "{fast} s of {best} s");

    let image = base64(&photo(32, 24));
    let submit = |request: Value| server.post("/api/tasks", &json!({ "image": image, "request": request }));
    let task = submit(json!({ "quality": "fast" })).json();
    assert_eq!(task["request"]["quality"], "fast", "{task}");
    server.wait_done(task["task_id"].as_str().expect("an id"));
    for wrong in [json!("good"), json!(90), json!("FAST"), json!({})] {
        let refused = submit(json!({ "quality": wrong }));
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text());
        let param = &refused.json()["invalid_params"][0];
        assert_eq!(param["name"], "request.quality");
        assert!(param["reason"].as_str().unwrap().contains("quality must be draft, fast or best"), "{wrong}: {param}");
    }
}
