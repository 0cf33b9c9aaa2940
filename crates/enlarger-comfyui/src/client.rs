//! ComfyUI's HTTP interface, as far as it is used: what there is, upload, queue, history, result.
//!
//! Its history is polled. Its websocket would also tell how far a node is, but a tile takes seconds, and polling passes every proxy.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use enlarger_egress::{Answer, TrustedService, Unanswered};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    error::Error,
    workflow::{Filled, Place, Workflow},
};

/// How often the caller is asked whether to go on.
const BEAT: Duration = Duration::from_millis(100);
/// How often the history is asked at first, and at most: a tile takes as long as it takes.
const POLLS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// Questions about a prompt that may stay unanswered one after the other: it runs on, and its tile took a while.
const UNANSWERED: usize = 5;
/// For what is taken back after it was cancelled: the caller does not wait longer.
const TAKING_BACK: Duration = Duration::from_millis(800);
/// For each request. ComfyUI answers while it draws, within seconds where Python is busy; a tile of some MB has to pass a slow network.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds in which ComfyUI has to say what it has: people and clients wait for that.
const OFFER_SECONDS: u64 = 10;
/// Bytes of an answer in JSON. What a node knows of thousands of files is 1 MB.
const MOST_JSON: u64 = 16 << 20;
/// Characters of what somebody else's program says.
const MOST_SAID: usize = 300;

/// A file as ComfyUI calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored(String);

impl From<Stored> for Value {
    fn from(stored: Stored) -> Self {
        stored.0.into()
    }
}

/// What a ComfyUI has for a workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    names: BTreeMap<Place, Vec<String>>,
}

impl Offer {
    /// What may be filled in at a place, of those that take a file or a name of a list; empty for others.
    #[must_use]
    pub fn names(&self, place: Place) -> &[String] {
        self.names.get(&place).map_or(&[], Vec::as_slice)
    }
}

/// A running ComfyUI.
#[derive(Clone)]
pub struct ComfyUi {
    service: TrustedService,
    client: String,
}

impl ComfyUi {
    /// The one at `http://HOST:PORT`. It is not called yet.
    ///
    /// # Errors
    /// [`Error::Address`]
    pub fn at(address: &str) -> Result<Self, Error> {
        let service = TrustedService::new(address, &[], PATIENCE).map_err(Error::Address)?;
        Ok(Self { service, client: Uuid::new_v4().simple().to_string() })
    }

    /// Whether it has all nodes of a workflow, and what they offer.
    ///
    /// # Errors
    /// [`Error::Nodes`] if some are missing; [`Error::Cancelled`] if `going` is false; what calling it raises.
    pub fn offer(&self, workflow: &Workflow, going: &dyn Fn() -> bool) -> Result<Offer, Error> {
        soon(going, async {
            let mut kinds = BTreeMap::new();
            for class in workflow.classes() {
                let info = self.json("/object_info", self.service.get(&["object_info", class], &[], MOST_JSON)).await?;
                kinds.insert(class.to_owned(), info[class].clone());
            }
            let missing: Vec<&str> =
                kinds.iter().filter(|(_, info)| !info.is_object()).map(|(class, _)| class.as_str()).collect();
            if !missing.is_empty() {
                return Err(Error::Nodes(missing.join(", ")));
            }
            let mut names = BTreeMap::new();
            for place in [Place::Checkpoint, Place::Control, Place::Sampler] {
                if let Some((class, input, _)) = workflow.at(place) {
                    names.insert(place, choices(&kinds[class], input));
                }
            }
            Ok(Offer { names })
        })
    }

    /// Stores an image for a workflow to load, in its folder of temporary files. Names in a `folder` are the caller's to keep apart.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `going` is false; what calling it raises.
    pub fn upload(&self, folder: &str, name: &str, png: &[u8], going: &dyn Fn() -> bool) -> Result<Stored, Error> {
        let boundary = Uuid::new_v4().simple().to_string();
        let mut body = Vec::with_capacity(png.len() + 1024);
        for (field, value) in [("subfolder", folder), ("type", "temp"), ("overwrite", "true")] {
            let part = format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"image\"; filename=\"{name}\"\r\ncontent-type: image/png\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(png);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let media = format!("multipart/form-data; boundary={boundary}");
        let sent = self.service.post(&["upload", "image"], &media, body, MOST_JSON);
        let told = wait(going, self.json("/upload/image", sent))?;
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        let (name, folder, kind) = (text("name"), text("subfolder"), text("type"));
        if name.is_empty() {
            return Err(nonsense("/upload/image", "it names no file"));
        }
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        Ok(Stored(if matches!(kind, "" | "input") { path } else { format!("{path} [{kind}]") }))
    }

    /// Runs a workflow and gets the first image of its result, a file of at most `limit` bytes. If `going` is false, or ComfyUI cannot
    /// be asked any more, the workflow is taken back: out of the queue, or interrupted if it runs.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; what a node or calling it raises.
    pub fn run(&self, filled: &Filled<'_>, limit: u64, going: &dyn Fn() -> bool) -> Result<Vec<u8>, Error> {
        // Chosen here, so that it can be taken back even if the answer is lost.
        let id = RefCell::new(Uuid::new_v4().to_string());
        let body = json!({ "prompt": filled.nodes, "client_id": self.client, "prompt_id": &*id.borrow() });
        let made = wait(going, async {
            let answer = self.post(&["prompt"], &body).await.map_err(unanswered)?;
            if answer.status == 400 {
                return Err(refusal(filled.workflow, &answer.body));
            }
            let told = read("/prompt", &answer)?;
            // Older versions choose it themselves.
            let told = told["prompt_id"].as_str().ok_or_else(|| nonsense("/prompt", "it names no prompt_id"))?;
            told.clone_into(&mut id.borrow_mut());
            let run = self.finished(told).await?;
            let image = image(&run, filled)?;
            let pairs: Vec<(&str, &str)> = image.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let answer = self.service.get(&["view"], &pairs, limit).await.map_err(unanswered)?;
            expected("/view", &answer)?;
            Ok(answer.body)
        });
        // Others have ended, or were never queued.
        if matches!(made, Err(Error::Cancelled | Error::Unreachable(_) | Error::Down(_) | Error::Nonsense { .. })) {
            self.take_back(&id.borrow());
        }
        made
    }

    /// Waits for the end of a prompt; what the history says of it.
    async fn finished(&self, id: &str) -> Result<Value, Error> {
        let mut pause = POLLS[0];
        let (mut lost, mut unanswered) = (0, 0);
        loop {
            match self.state(id).await {
                Ok(State::Ended(run)) => return Ok(run),
                Ok(State::Waits) => (lost, unanswered) = (0, 0),
                // Between the queue and the history it may be in neither for a moment.
                Ok(State::Unknown) if lost == 3 => return Err(Error::Forgotten),
                Ok(State::Unknown) => lost += 1,
                Err(error) if !error.is_retryable() || unanswered == UNANSWERED => return Err(error),
                Err(_) => unanswered += 1,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(POLLS[1]);
        }
    }

    /// Where a prompt is.
    async fn state(&self, id: &str) -> Result<State, Error> {
        let history = self.json("/history", self.service.get(&["history", id], &[], MOST_JSON)).await?;
        if let Some(run) = history.get(id).filter(|run| run.is_object()) {
            return Ok(State::Ended(run.clone()));
        }
        let queue = self.json("/queue", self.service.get(&["queue"], &[], MOST_JSON)).await?;
        Ok(if waits(&queue, id) { State::Waits } else { State::Unknown })
    }

    /// Removes a prompt from the queue, or stops it if it runs. Other prompts go on.
    fn take_back(&self, id: &str) {
        let since = Instant::now();
        let told = wait(&|| since.elapsed() < TAKING_BACK, async {
            self.post(&["queue"], &json!({ "delete": [id] })).await.map_err(unanswered)?;
            let queue = self.json("/queue", self.service.get(&["queue"], &[], MOST_JSON)).await?;
            if among(&queue["queue_running"], id) {
                self.post(&["interrupt"], &json!({ "prompt_id": id })).await.map_err(unanswered)?;
            }
            Ok(())
        });
        // It ends by itself then, and nobody fetches what it made.
        drop(told);
    }

    async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Unanswered> {
        let bytes = serde_json::to_vec(body).expect("a value is JSON");
        self.service.post(path, "application/json", bytes, MOST_JSON).await
    }

    /// The JSON of an answer.
    async fn json(
        &self,
        asked: &'static str,
        answer: impl Future<Output = Result<Answer, Unanswered>>,
    ) -> Result<Value, Error> {
        read(asked, &answer.await.map_err(unanswered)?)
    }
}

/// Where a prompt is.
enum State {
    /// In the queue, or running.
    Waits,
    /// What the history says of it.
    Ended(Value),
    /// In neither.
    Unknown,
}

/// Waits for an answer as long as `going` is true.
fn wait<T>(going: &dyn Fn() -> bool, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|_| Error::Unreachable(Unanswered::Connection))?;
    let told = runtime.block_on(async {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                told = &mut answer => return told,
                () = tokio::time::sleep(BEAT) => {
                    if !going() {
                        return Err(Error::Cancelled);
                    }
                }
            }
        }
    });
    // The system may still be asked for a name, which nothing interrupts.
    runtime.shutdown_background();
    told
}

/// Waits for an answer that is to come soon.
fn soon<T>(going: &dyn Fn() -> bool, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    wait(going, async {
        let late = |_| Error::Unreachable(Unanswered::Timeout(OFFER_SECONDS));
        tokio::time::timeout(Duration::from_secs(OFFER_SECONDS), answer).await.map_err(late)?
    })
}

fn unanswered(why: Unanswered) -> Error {
    match why {
        Unanswered::TooLarge(_) => nonsense("a request", &why.to_string()),
        why => Error::Unreachable(why),
    }
}

fn nonsense(asked: &'static str, why: &str) -> Error {
    Error::Nonsense { asked, why: why.to_owned() }
}

fn read(asked: &'static str, answer: &Answer) -> Result<Value, Error> {
    expected(asked, answer)?;
    let page = answer.body.trim_ascii_start().starts_with(b"<");
    let json: Value = serde_json::from_slice(&answer.body).map_err(|_| {
        nonsense(
            asked,
            if page { "it is a web page, such as that of a login or of another program" } else { "it is not JSON" },
        )
    })?;
    if json.is_object() { Ok(json) } else { Err(nonsense(asked, "it is not a JSON object")) }
}

/// Whether the status is ComfyUI's own for what it does. What stands before it answers for it when it is down, or asks who calls:
/// with a status of its own, or by leading to a page.
fn expected(asked: &'static str, answer: &Answer) -> Result<(), Error> {
    match answer.status {
        200 => Ok(()),
        status @ (401 | 403 | 407 | 300..=399) => Err(Error::Login(status)),
        status @ 502..=504 => Err(Error::Down(status)),
        status => Err(nonsense(asked, &format!("status {status}"))),
    }
}

/// The list of an input, in either of the forms that versions of ComfyUI use.
fn choices(info: &Value, input: &str) -> Vec<String> {
    let of = |kind: &str| info["input"][kind].get(input).cloned();
    let Some(declared) = of("required").or_else(|| of("optional")) else { return Vec::new() };
    let list = if declared[0].is_array() { &declared[0] } else { &declared[1]["options"] };
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn waits(queue: &Value, id: &str) -> bool {
    among(&queue["queue_running"], id) || among(&queue["queue_pending"], id)
}

/// Whether a list of the queue has a prompt: each entry is a number, the prompt's id, and more.
fn among(list: &Value, id: &str) -> bool {
    list.as_array().into_iter().flatten().any(|entry| entry[1] == id)
}

/// Where the result of a run lies, as `/view` takes it.
fn image(run: &Value, filled: &Filled<'_>) -> Result<[(&'static str, String); 3], Error> {
    let messages = run["status"]["messages"].as_array();
    for message in messages.into_iter().flatten() {
        let (kind, of) = (message[0].as_str().unwrap_or_default(), &message[1]);
        let text = |key: &str| of[key].as_str().unwrap_or_default();
        match kind {
            "execution_interrupted" => return Err(Error::Interrupted),
            "execution_error" => {
                let node = filled.workflow.title(text("node_id"));
                let message = said(&format!("{}: {}", text("exception_type"), text("exception_message")));
                return Err(Error::Node { node, message });
            }
            _ => {}
        }
    }
    let images = &run["outputs"][filled.result()]["images"];
    let Some(first) = images.get(0) else {
        return Err(Error::Node { node: filled.workflow.title(filled.result()), message: "it made no image".into() });
    };
    let text = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
    Ok([("filename", text("filename")), ("subfolder", text("subfolder")), ("type", text("type"))])
}

/// What ComfyUI says of a workflow that it does not take.
fn refusal(workflow: &Workflow, body: &[u8]) -> Error {
    let Ok(told) = serde_json::from_slice::<Value>(body) else {
        return nonsense("/prompt", "status 400, and no JSON");
    };
    let mut reasons = Vec::new();
    for (id, node) in told["node_errors"].as_object().into_iter().flatten() {
        for error in node["errors"].as_array().into_iter().flatten() {
            let text = |key: &str| error[key].as_str().unwrap_or_default();
            reasons.push(format!("{}: {} ({})", workflow.title(id), text("message"), text("details")));
        }
    }
    if reasons.is_empty() {
        let text = |key: &str| told["error"][key].as_str().unwrap_or_default();
        reasons.push(format!("{} {}", text("message"), text("details")));
    }
    Error::Refused(said(&format!("({})", reasons.join("; "))))
}

/// Somebody else's words: one line, of bounded length, without anything that moves a terminal's cursor.
fn said(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MOST_SAID) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
