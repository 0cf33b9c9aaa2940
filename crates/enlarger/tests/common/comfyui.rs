//! A stand-in for ComfyUI. Its answers have the forms that ComfyUI 0.3.64 gave; `comfyui.json` is what it says of its nodes, with names of
//! files and samplers cut.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};

/// What becomes of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The result is the source.
    Echo,
    /// It runs until it is interrupted.
    Endless,
    /// A node fails.
    Fails,
    /// Somebody interrupts it.
    Interrupted,
    /// It refuses the workflow.
    Refuses,
    /// The result is smaller than the source.
    Small,
    /// The result is not an image.
    Text,
    /// The result is black, as of a VAE that overflows.
    Black,
    /// The result is the source, after questions that are not answered.
    Shy,
    /// It takes the workflow and is never heard of again.
    Hangs,
    /// It is forgotten: the program was restarted.
    Forgets,
    /// Something else answers, with a page.
    Page,
    /// A proxy in front of it asks for a login.
    Login,
    /// A proxy in front of it cannot reach it.
    Down,
    /// It takes connections and says nothing.
    Silent,
    /// It has no node AddNoise.
    Old,
}

pub struct Fake {
    pub address: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

struct State {
    mood: Mood,
    uploads: HashMap<String, Vec<u8>>,
    prompts: Vec<Value>,
    /// What the history says of each, by its id.
    ended: HashMap<String, Value>,
    running: Vec<String>,
    interrupted: usize,
    /// Requests that were not answered.
    waiting: usize,
    /// Times that the history was asked for.
    asked: usize,
    /// Prompts that were taken out of the queue.
    deleted: usize,
}

impl Fake {
    pub fn new(mood: Mood) -> Self {
        Self::at("127.0.0.1:0", mood)
    }

    /// Where one was before, as an address without its scheme.
    pub fn at(address: &str, mood: Mood) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            mood,
            uploads: HashMap::new(),
            prompts: Vec::new(),
            ended: HashMap::new(),
            running: Vec::new(),
            interrupted: 0,
            waiting: 0,
            asked: 0,
            deleted: 0,
        };
        let (state, stop) = (Arc::new(Mutex::new(state)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (state.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Relaxed) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || answer(&stream, &state));
            }
        });
        Self { address, state, stop }
    }

    /// The value of `--generator`.
    pub fn generator(&self) -> String {
        format!("comfyui={}", self.address)
    }

    pub fn is_now(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Workflows that were to be run, as they came.
    pub fn prompts(&self) -> Vec<Value> {
        self.state.lock().unwrap().prompts.clone()
    }

    /// Requests that were not answered.
    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap().waiting
    }

    /// Prompts that were taken out of the queue.
    pub fn deleted(&self) -> usize {
        self.state.lock().unwrap().deleted
    }

    /// Workflows that were stopped, and that still run.
    pub fn interrupted_and_running(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.interrupted, state.running.len())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes it up, and waits until nobody listens.
        while TcpStream::connect(self.address.trim_start_matches("http://")).is_ok() {
            std::thread::yield_now();
        }
    }
}

/// The node with a title.
pub fn titled<'a>(prompt: &'a Value, title: &str) -> &'a Value {
    let nodes = prompt["prompt"].as_object().expect("nodes");
    let node = nodes.values().find(|node| node["_meta"]["title"] == title);
    &node.unwrap_or_else(|| panic!("no {title} in {prompt}"))["inputs"]
}

fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    let mut to = stream;
    match reader.read_line(&mut head) {
        Ok(0) => return,
        Ok(_) => {}
        // Not text: it speaks TLS.
        Err(_) => {
            let _ = to.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
            return;
        }
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let target = head.split(' ').nth(1).expect("a target");
    if state.lock().unwrap().mood == Mood::Silent {
        state.lock().unwrap().waiting += 1;
        // Until the one who asks hangs up.
        let _ = reader.read(&mut [0]);
        return;
    }
    if target.starts_with("/history") {
        let mut state = state.lock().unwrap();
        state.asked += 1;
        if state.mood == Mood::Hangs || state.mood == Mood::Shy && !state.asked.is_multiple_of(3) {
            return;
        }
    }
    let (status, bytes) = respond(target, &body, &mut state.lock().unwrap());
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
    let _ = to.write_all(head.as_bytes()).and_then(|()| to.write_all(&bytes));
}

fn respond(target: &str, body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    let page = |status| (status, b"<html><body>Welcome</body></html>".to_vec());
    match state.mood {
        Mood::Page => return page(200),
        Mood::Login => return page(401),
        Mood::Down => return page(502),
        _ => {}
    }
    let json = |value: Value| (200, value.to_string().into_bytes());
    let read = || serde_json::from_slice::<Value>(body).expect("JSON");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["object_info", class] => {
            let info: Value = serde_json::from_str(include_str!("comfyui.json")).expect("JSON");
            let there = !(state.mood == Mood::Old && class == "AddNoise");
            json(info.get(class).filter(|_| there).map_or(json!({}), |info| json!({ class: info })))
        }
        ["upload", "image"] => {
            let (fields, file) = form(body);
            let (folder, name) = (&fields["subfolder"], &fields["filename"]);
            state.uploads.insert(format!("{folder}/{name} [{}]", fields["type"]), file);
            json(json!({ "name": name, "subfolder": folder, "type": fields["type"] }))
        }
        ["prompt"] if state.mood == Mood::Refuses => {
            let error = json!({ "type": "value_bigger_than_max", "message": "Value 20000 bigger than max of 16384", "details": "width" });
            let told = json!({ "error": { "type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation",
                "details": "" }, "node_errors": { "9": { "errors": [error], "class_type": "EmptyLatentImage" } } });
            (400, told.to_string().into_bytes())
        }
        ["prompt"] => {
            let sent = read();
            let mut id = sent["prompt_id"].as_str().expect("an id").to_owned();
            if state.mood == Mood::Endless {
                // As older versions do, which choose it themselves.
                id = format!("own-{}", state.prompts.len());
            }
            match state.mood {
                Mood::Endless => state.running.push(id.clone()),
                Mood::Forgets => {}
                mood => {
                    let run = ran(&sent, state.prompts.len() + 1, mood);
                    state.ended.insert(id.clone(), run);
                }
            }
            state.prompts.push(sent);
            json(json!({ "prompt_id": id, "number": state.prompts.len(), "node_errors": {} }))
        }
        ["history", id] => json(state.ended.get(id).map_or(json!({}), |run| json!({ id: run }))),
        ["queue"] if body.is_empty() => {
            let running: Vec<Value> = state.running.iter().map(|id| json!([0, id, {}, {}, ["15"]])).collect();
            json(json!({ "queue_running": running, "queue_pending": [] }))
        }
        ["queue"] => {
            state.deleted += 1;
            (200, Vec::new())
        }
        ["interrupt"] => {
            let id = read()["prompt_id"].clone();
            state.running.retain(|running| *running != id);
            state.interrupted += 1;
            (200, Vec::new())
        }
        ["view"] => {
            let number = query.split('&').find_map(|pair| pair.strip_prefix("filename=")).expect("a file");
            let prompt = &state.prompts[number.trim_end_matches(".png").parse::<usize>().expect("a number") - 1];
            let source = titled(prompt, "enlarger: source")["image"].as_str().expect("a name");
            match state.mood {
                Mood::Small => (200, include_bytes!("../../../../samples/brushes.png").to_vec()),
                Mood::Text => (200, b"not an image".to_vec()),
                Mood::Black => (200, black(&state.uploads[source])),
                _ => (200, state.uploads[source].clone()),
            }
        }
        _ => (404, b"404: Not Found".to_vec()),
    }
}

/// A black image as large as another.
fn black(png: &[u8]) -> Vec<u8> {
    let mut picture = enlarger_image::decode(png, &enlarger_image::Limits::default()).expect("an image").picture;
    let enlarger_image::Samples::U8(samples) = &mut picture.samples else { panic!("8 bits are sent") };
    samples.fill(0);
    let mut bytes = std::io::Cursor::new(Vec::new());
    enlarger_image::encode(&picture, &enlarger_image::EncodeOptions::default(), &mut bytes).expect("it can be encoded");
    bytes.into_inner()
}

/// What the history says of a workflow that has ended.
fn ran(sent: &Value, number: usize, mood: Mood) -> Value {
    let id = &sent["prompt_id"];
    let (outcome, outputs) = match mood {
        Mood::Fails => {
            let error = json!({ "prompt_id": id, "node_id": "13", "node_type": "SamplerCustom", "executed": [],
                "exception_type": "RuntimeError", "exception_message": "The size of tensor a (16) must match\nthe size of tensor b (8)",
                "traceback": ["secret.py"] });
            (json!(["execution_error", error]), json!({}))
        }
        Mood::Interrupted => (json!(["execution_interrupted", { "prompt_id": id, "node_id": "13" }]), json!({})),
        _ => {
            let image = json!({ "filename": format!("{number}.png"), "subfolder": "", "type": "temp" });
            (json!(["execution_success", { "prompt_id": id }]), json!({ "15": { "images": [image] } }))
        }
    };
    json!({ "prompt": [], "outputs": outputs, "meta": {},
        "status": { "status_str": "x", "completed": true, "messages": [["execution_start", { "prompt_id": id }], outcome] } })
}

/// Fields and the file of a body of multipart/form-data.
fn form(body: &[u8]) -> (HashMap<String, String>, Vec<u8>) {
    let find = |from: usize, what: &[u8]| body[from..].windows(what.len()).position(|w| w == what).map(|at| from + at);
    let end = find(0, b"\r\n").expect("a boundary");
    let boundary = [b"\r\n", &body[..end]].concat();
    let (mut fields, mut file, mut at) = (HashMap::new(), Vec::new(), end + 2);
    while let Some(blank) = find(at, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&body[at..blank]).into_owned();
        let close = find(blank + 4, &boundary).expect("the end of a part");
        let value = &body[blank + 4..close];
        let quoted = |key: &str| head.split(&format!(" {key}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        if let Some(name) = quoted("filename") {
            fields.insert("filename".to_owned(), name.to_owned());
            file = value.to_vec();
        } else if let Some(name) = quoted("name") {
            fields.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned());
        }
        at = close + boundary.len() + 2;
    }
    (fields, file)
}
