//! Tasks that a ComfyUI draws: a stand-in, which returns what it gets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    fake_comfyui::{Fake, Mood, titled},
    harness::*,
};

fn server(fake: &Fake) -> Server {
    Server::start(&["--generator", &fake.generator()])
}

fn body(more: &Value) -> Value {
    let mut body = json!({ "image": base64(&photo(24, 16)), "scale_factor": "2x", "prompt": "a stone wall" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn comfyui_draws_for_every_client_that_sends_a_prompt_and_the_bytes_repeat() {
    let fake = Fake::new(Mood::Echo);
    let server = server(&fake);
    let drawn = || {
        let id = server.submit(CREATIVE, &body(&json!({})));
        server.wait_done(&id);
        let task = server.get(&format!("/api/tasks/{id}")).json();
        let bytes = server.get(task["result"]["url"].as_str().expect("a result")).bytes;
        (task, bytes)
    };
    let (task, first) = drawn();
    let steps = task["plan"]["steps"]["steps"].as_array().expect("a plan");
    let pass = steps.iter().find(|step| step["do"] == "workflow").expect("a pass");
    assert_eq!(pass["workflow"]["name"], "redraw-tile", "{pass}");
    assert!(!task.to_string().contains(&fake.address), "where ComfyUI is is nobody's business");
    assert_eq!(drawn().1, first);
    assert_eq!(titled(&fake.prompts()[0], "enlarger: prompt")["text"], "a stone wall, high quality, detailed");

    let list = server.get("/api/checkpoints").json();
    let names: Vec<_> = list["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!((names, &list["configured"]), (vec!["tiny.safetensors", "tile.safetensors"], &json!("ComfyUI")));
    // Measured by now.
    let request = json!({ "size": { "factor": 2.0 }, "look": { "mode": "creative", "prompt": "a wall" } });
    let estimate = server.post("/api/estimate", &json!({ "width": 512, "height": 512, "request": request })).json();
    assert!(estimate["seconds"].as_f64() > Some(0.0), "{estimate}");
    let other = server.post(
        "/api/tasks",
        &json!({ "image": base64(&photo(24, 16)), "request": { "size": { "factor": 2.0 },
        "look": { "mode": "creative" }, "generative": { "checkpoint": "other" } } }),
    );
    assert_eq!(other.status, 400, "{}", other.text());
    assert!(other.text().contains("it has tiny.safetensors"), "{}", other.text());
}

#[test]
fn a_task_is_accepted_while_comfyui_is_down_says_why_it_waits_and_is_drawn_once_comfyui_is_back() {
    let fake = Fake::new(Mood::Echo);
    let (server, address) = (server(&fake), fake.address.clone());
    drop(fake);
    let id = server.submit(CREATIVE, &body(&json!({})));
    let patience = Instant::now() + PATIENCE;
    let task = loop {
        let task = server.get(&format!("/api/tasks/{id}")).json();
        if task["error"].is_object() {
            break task;
        }
        assert!(Instant::now() < patience, "{task}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("CREATED"), &json!("generator")), "{task}");
    assert!(task["error"].to_string().contains("ComfyUI cannot be reached: the connection was refused"), "{task}");
    assert!(!task.to_string().contains(&address), "clients are not told where it is: {task}");
    assert!(server.log().contains(&address), "the operator is: {}", server.log());
    let list = server.get("/api/checkpoints");
    assert_eq!(list.status, 503, "{}", list.text());
    assert!(list.text().contains("the connection was refused") && !list.text().contains(&address), "{}", list.text());
    let request = json!({ "size": { "factor": 2.0 }, "look": { "mode": "creative", "prompt": "a wall" } });
    let estimate = server.post("/api/estimate", &json!({ "width": 512, "height": 512, "request": request })).json();
    assert_eq!((&estimate["seconds"], &estimate["output_width"]), (&Value::Null, &json!(1024)), "{estimate}");
    let back = Fake::at(address.trim_start_matches("http://"), Mood::Echo);
    server.wait_done(&id);
    assert!(!back.prompts().is_empty());
}

#[test]
fn a_submission_does_not_wait_for_a_comfyui_that_says_nothing() {
    let fake = Fake::new(Mood::Silent);
    let server = server(&fake);
    for _ in 0..2 {
        server.submit(CREATIVE, &body(&json!({})));
    }
    assert!(fake.waiting() > 0, "it was asked");
    assert!(!server.log().contains("did not answer"), "the question is still open: {}", server.log());
    // What can be judged without it is.
    let answer = server.post(CREATIVE, &body(&json!({ "scale_factor": "3x" })));
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn what_comfyui_said_before_is_what_requests_are_judged_by_while_it_says_nothing() {
    let fake = Fake::new(Mood::Echo);
    let server = server(&fake);
    let names = |list: &Answer| list.json()["files"].to_string();
    assert!(names(&server.get("/api/checkpoints")).contains("tiny.safetensors"));
    fake.is_now(Mood::Silent);
    let named = |name: &str| {
        let generative = json!({ "checkpoint": name });
        let request = json!({ "size": { "factor": 2.0 }, "look": { "mode": "creative" }, "generative": generative });
        server.post("/api/tasks", &json!({ "image": base64(&photo(24, 16)), "request": request }))
    };
    let refused = named("other");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("it has tiny.safetensors"), "{}", refused.text());
    assert_eq!(named("tiny").status, 200, "it is there");
}

#[test]
fn what_is_wrong_with_the_operators_comfyui_is_not_the_clients_fault() {
    let fake = Fake::new(Mood::Page);
    let server = server(&fake);
    let patience = Instant::now() + PATIENCE;
    while !server.log().contains("ComfyUI sent an unexpected response") {
        assert!(Instant::now() < patience, "it is asked when the server starts: {}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer = server.post(CREATIVE, &body(&json!({})));
    assert_eq!(answer.status, 503, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("ComfyUI sent an unexpected response") && !text.contains("scale_factor"), "{text}");
}

#[test]
fn a_cancelled_task_is_interrupted_in_comfyui() {
    let fake = Fake::new(Mood::Endless);
    // Leases are renewed after a third of this, so it is not by a lease that the worker hears of it.
    let server = Server::start(&["--generator", &fake.generator(), "--lease-seconds", "3600"]);
    let id = server.submit(CREATIVE, &body(&json!({})));
    let patience = Instant::now() + PATIENCE;
    while fake.interrupted_and_running() != (0, 1) {
        assert!(Instant::now() < patience, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.send("POST", &format!("/api/tasks/{id}/cancel"), &[], &[]).status, 200);
    while fake.interrupted_and_running() != (1, 0) {
        assert!(Instant::now() < patience, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    // The worker is free for the next.
    fake.is_now(Mood::Echo);
    let next = server.submit(CREATIVE, &body(&json!({})));
    server.wait_done(&next);
}
