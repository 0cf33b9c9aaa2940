//! Tasks that a checkpoint draws, on tiny random ones: how results of real ones look is not shown here.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{checkpoints, harness::*};

/// `checkpoints/tiny`, `controlnet/tile` and `loras/grain`, as ComfyUI keeps them.
static MODELS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    checkpoints::write(&at("checkpoints/tiny.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&at("controlnet/tile.safetensors"), &checkpoints::control());
    checkpoints::write(&at("loras/grain.safetensors"), &checkpoints::lora());
    folder
});

fn server(args: &[&str]) -> Server {
    let models = MODELS.path().to_str().expect("a path of letters");
    Server::start(&[&["--model-dirs", models], args].concat())
}

/// A body with a small photo.
fn body(more: &Value) -> Value {
    let mut body = json!({ "image": base64(&photo(24, 16)) });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A finished task and the bytes of its result.
fn drawn(server: &Server, path: &str, body: &Value) -> (Value, Vec<u8>) {
    let id = server.submit(path, body);
    server.wait_done(&id);
    let task = server.get(&format!("/api/tasks/{id}")).json();
    let bytes = server.get(task["result"]["url"].as_str().expect("a result")).bytes;
    (task, bytes)
}

/// The checkpoint of each pass that draws.
fn checkpoint(task: &Value) -> Option<&str> {
    let steps = task["plan"]["steps"]["steps"].as_array().expect("a plan");
    steps.iter().find(|step| step["do"] == "diffuse").and_then(|step| step["checkpoint"]["name"].as_str())
}

#[test]
fn the_configured_checkpoint_draws_for_every_client_that_sends_a_prompt_or_creativity() {
    let server = server(&["--checkpoint", "tiny", "--loras", "grain:0.5"]);
    let prompt = json!({ "scale_factor": "2x", "prompt": "a stone wall" });
    let (task, first) = drawn(&server, CREATIVE, &body(&prompt));
    assert_eq!(checkpoint(&task), Some("tiny"), "{task}");
    let notes = task["plan"]["notes"].to_string();
    assert!(notes.contains("tiny draws the detail, kept close to the source by tile"), "{notes}");
    assert_eq!(drawn(&server, CREATIVE, &body(&prompt)).1, first, "the same request gives the same bytes");
    let other = json!({ "scale_factor": "2x", "prompt": "a wooden door" });
    assert_ne!(drawn(&server, CREATIVE, &body(&other)).1, first, "the prompt is drawn");
    let (task, _) = drawn(&server, CREATIVE, &body(&json!({ "scale_factor": "2x", "creativity": 3 })));
    assert_eq!(checkpoint(&task), Some("tiny"));
    for asked in [json!({ "scale_factor": "2x" }), json!({ "scale_factor": "2x", "creativity": -3 })] {
        assert_eq!(checkpoint(&drawn(&server, CREATIVE, &body(&asked)).0), None, "{asked}");
    }
    let none = json!({ "request": { "size": { "factor": 2.0 }, "look": { "mode": "creative", "prompt": "a wall" },
        "generative": { "checkpoint": "none" } } });
    assert_eq!(checkpoint(&drawn(&server, "/api/tasks", &body(&none)).0), None, "a request can do without");
}

#[test]
fn a_request_that_names_no_checkpoint_uses_the_configured_one_with_what_goes_with_it() {
    let other = tempfile::tempdir().expect("a folder");
    checkpoints::write(&other.path().join("other.safetensors"), &checkpoints::checkpoint());
    let folders = format!("{},{}", MODELS.path().display(), other.path().display());
    let server =
        Server::start(&["--model-dirs", &folders, "--checkpoint", "tiny", "--control", "none", "--loras", "grain:0.5"]);
    let asked =
        json!({ "request": { "look": { "mode": "creative", "prompt": "a wall" }, "generative": { "steps": 6 } } });
    let (task, _) = drawn(&server, "/api/tasks", &body(&asked));
    let step = task["plan"]["steps"]["steps"].as_array().unwrap().iter().find(|step| step["do"] == "diffuse").unwrap();
    assert_eq!((&step["checkpoint"]["name"], &step["loras"][0]["name"]), (&json!("tiny"), &json!("grain")));
    assert_eq!(step["control"], Value::Null);
}

#[test]
fn errors_name_the_field_that_each_api_has_for_what_is_wrong() {
    let server = server(&["--checkpoint", "tiny"]);
    let own = |look: Value, generative: Value| {
        let look = [("mode".to_owned(), json!("creative"))].into_iter().chain(look.as_object().unwrap().clone());
        let look: serde_json::Map<String, Value> = look.collect();
        body(&json!({ "request": { "look": look, "generative": generative } }))
    };
    let none = json!({});
    for (path, sent, field) in [
        (CREATIVE, body(&json!({ "scale_factor": "2x", "prompt": "<lora:nope:1>" })), "prompt"),
        (CREATIVE, body(&json!({ "scale_factor": "2x", "prompt": "<lora:grain:nan>" })), "prompt"),
        ("/api/tasks", own(json!({ "prompt": "<lora:nope:1>" }), none.clone()), "request.look.prompt"),
        ("/api/tasks", own(none.clone(), json!({ "checkpoint": "nope" })), "request.generative.checkpoint"),
        ("/api/tasks", own(none.clone(), json!({ "control": "nope" })), "request.generative.control"),
        ("/api/tasks", own(none.clone(), json!({ "control": "grain" })), "request.generative.control"),
        ("/api/tasks", own(none.clone(), json!({ "vae": "nope" })), "request.generative.vae"),
        ("/api/tasks", own(none.clone(), json!({ "loras": [{ "name": "nope" }] })), "request.generative.loras"),
        (
            "/api/tasks",
            own(none.clone(), json!({ "loras": [{ "name": "grain", "strength": 99 }] })),
            "request.generative.loras",
        ),
        ("/api/tasks", own(none.clone(), json!({ "steps": 500 })), "request.generative.steps"),
        ("/api/tasks", own(none.clone(), json!({ "guidance": 99 })), "request.generative.guidance"),
        ("/api/tasks", own(none.clone(), json!({ "clip_skip": 99 })), "request.generative.clip_skip"),
        ("/api/tasks", own(none.clone(), json!({ "negative": "(x:99)" })), "request.generative.negative"),
        (
            "/api/tasks",
            own(none.clone(), json!({ "keep": [{ "x": 20, "y": 0, "width": 9, "height": 9 }] })),
            "request.generative.keep",
        ),
        // Misspelt fields are not ignored: what they ask for would be missing without a word.
        ("/api/tasks", own(none.clone(), json!({ "checkpont": "tiny" })), "request.generative.checkpont"),
        (
            "/api/tasks",
            own(none.clone(), json!({ "keep": [{ "x": 0, "y": 0, "width": 9, "height": 9, "w": 5 }] })),
            "request.generative.keep[0].w",
        ),
        // Nor is what is empty, or not an object.
        ("/api/tasks", own(none.clone(), json!({ "checkpoint": "" })), "request.generative.checkpoint"),
        ("/api/tasks", own(none.clone(), json!([])), "request.generative"),
        ("/api/tasks", own(none.clone(), json!({ "keep": [[0, 0, 9, 9]] })), "request.generative.keep[0]"),
        ("/api/tasks", body(&json!({ "request": [] })), "request"),
    ] {
        let answer = server.post(path, &sent);
        assert_eq!(answer.status, 400, "{field}: {}", answer.text());
        assert_eq!(answer.json()["invalid_params"][0]["name"], field, "{}", answer.text());
    }
    let misspelt = server.post("/api/tasks", &own(none, json!({ "checkpont": "tiny" }))).text();
    assert!(misspelt.contains("unknown field `checkpont`, expected one of `checkpoint`, `control`"), "{misspelt}");
}

#[test]
fn a_configured_file_that_is_missing_is_not_the_clients_fault() {
    let server = server(&["--checkpoint", "nope"]);
    let asked = |generative: Value| {
        let look = json!({ "mode": "creative", "prompt": "a wall" });
        body(&json!({ "request": { "look": look, "generative": generative } }))
    };
    let prompted = body(&json!({ "scale_factor": "2x", "prompt": "a wall" }));
    for (path, sent) in [(CREATIVE, prompted), ("/api/tasks", asked(Value::Null)), ("/api/tasks", asked(json!({})))] {
        let answer = server.post(path, &sent);
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(
            answer.text().contains("this server's settings are at fault: there is no checkpoint"),
            "{}",
            answer.text()
        );
    }
    server.submit("/api/tasks", &asked(json!({ "checkpoint": "tiny" })));
}

#[test]
fn our_own_api_lists_checkpoints_and_chooses_among_them() {
    let server = server(&[]);
    let list = server.get("/api/checkpoints").json();
    let mut names: Vec<_> =
        list["files"].as_array().unwrap().iter().map(|f| (f["kind"].as_str(), f["name"].as_str())).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [(Some("checkpoint"), Some("tiny")), (Some("control"), Some("tile")), (Some("lora"), Some("grain"))]
    );
    assert_eq!(list["configured"], Value::Null);
    assert!(!list.to_string().contains(MODELS.path().to_str().unwrap()), "where files lie is nobody's business");

    let asked = |generative: Value| {
        body(
            &json!({ "request": { "size": { "factor": 2.0 }, "look": { "mode": "creative", "prompt": "a wall" }, "seed": 1,
            "generative": generative } }),
        )
    };
    let (task, first) =
        drawn(&server, "/api/tasks", &asked(json!({ "checkpoint": "tiny", "negative": "moss", "steps": 6 })));
    assert_eq!(checkpoint(&task), Some("tiny"));
    assert_eq!(task["request"]["generative"]["negative"], "moss");
    assert!(task["device"].as_str().is_some_and(|device| !device.is_empty()), "what worked is said: {task}");
    let (_, other) =
        drawn(&server, "/api/tasks", &asked(json!({ "checkpoint": "tiny", "negative": "snow", "steps": 6 })));
    assert_ne!(first, other);
    let estimate = |generative| {
        let asked = asked(generative)["request"].clone();
        server.post("/api/estimate", &json!({ "width": 512, "height": 512, "request": asked })).json()
    };
    let (with, without) = (estimate(json!({ "checkpoint": "tiny" })), estimate(json!({ "checkpoint": "none" })));
    assert!(with["bytes"].as_u64() > without["bytes"].as_u64(), "{with} {without}");

    // A path is no name here: a client must not learn what files there are.
    let path = MODELS.path().join("checkpoints/tiny.safetensors");
    for (generative, said) in [
        (json!({ "checkpoint": "other" }), "there is no checkpoint named \"other\""),
        (json!({ "checkpoint": path }), "there is no checkpoint named"),
        (json!({ "checkpoint": "tiny", "steps": 500 }), "500 steps are not possible"),
        (json!({ "checkpoint": "tiny", "sampler": "best" }), "unknown variant"),
        (json!({ "checkpoint": "tiny", "loras": [{ "name": "grain", "strength": 99 }] }), "the strength 99"),
    ] {
        let answer = server.post("/api/tasks", &asked(generative));
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains(&said.replace('"', "\\\"")), "{said}: {}", answer.text());
    }
}

#[test]
fn a_preview_shows_a_part_as_the_engine_draws_it_but_for_what_stays() {
    let server = server(&["--checkpoint", "tiny"]);
    let preview = |generative: Value| {
        let request = json!({ "size": { "factor": 2.0 }, "crop": { "x": 8, "y": 4, "width": 12, "height": 12 }, "seed": 1,
            "look": { "mode": "creative", "prompt": "a wall" }, "generative": generative });
        let answer = server.post("/api/preview", &body(&json!({ "request": request })));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(png_size(&answer.bytes), (24, 24));
        answer.bytes
    };
    let keep = |x: u32, width: u32| json!({ "keep": [{ "x": x, "y": 0, "width": width, "height": 16 }] });
    let (drawn, plain) = (preview(json!({})), preview(json!({ "checkpoint": "none" })));
    assert_ne!(drawn, plain);
    assert_eq!(preview(keep(0, 8)), drawn, "what stays lies beside it");
    assert_ne!(preview(keep(0, 14)), drawn, "what stays reaches into it");
}

#[test]
fn a_server_killed_while_it_draws_completes_the_task_after_it_starts_again() {
    let mut server = server(&["--checkpoint", "tiny", "--lease-seconds", "2"]);
    let slow =
        json!({ "image": base64(&photo(96, 72)), "scale_factor": "4x", "prompt": "a stone wall", "creativity": 10 });
    let id = server.submit(CREATIVE, &slow);
    server.wait(&id, &["IN_PROGRESS"]);
    server.kill();
    server.start_again();
    let task = server.wait_done(&id);
    let result = server.get(task["result"]["url"].as_str().unwrap());
    assert_eq!(png_size(&result.bytes), (384, 288));
    let task = server.get(&format!("/api/tasks/{id}")).json();
    assert_eq!(checkpoint(&task), Some("tiny"), "the process of its own has the same checkpoint");
}
