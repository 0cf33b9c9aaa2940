//! Clients that never give up, and remember what they were told.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    plan::{Dice, Plan},
    verdict::{Evidence, Outcome, Sent},
};
use crate::harness::{Answer, CREATIVE, V2, ask, base64, photo};

/// After this long without what is promised, the promise is broken. No machine is so slow.
pub const PATIENCE: Duration = Duration::from_secs(900);
/// How long a client waits for one answer, before it asks another node.
const ANSWER: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(200);

/// What all clients share.
pub struct Clients<'a> {
    pub plan: &'a Plan,
    /// Of the APIs.
    pub ports: &'a [u16],
    /// Where webhooks go.
    pub hook: &'a str,
    /// Width, height and file, in base64.
    pictures: Vec<(u32, u32, String)>,
    next: AtomicUsize,
    /// Whether faults are over.
    pub over: AtomicBool,
    evidence: Mutex<Evidence>,
}

impl<'a> Clients<'a> {
    pub fn new(plan: &'a Plan, ports: &'a [u16], hook: &'a str) -> Self {
        let sizes = [(16, 16), (24, 16), (32, 24), (17, 31), (40, 30), (64, 48)];
        let pictures = sizes.map(|(width, height)| (width, height, base64(&photo(width, height)))).into();
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { plan, ports, hook, pictures, next, over, evidence: Mutex::default() }
    }

    /// One client: sends and follows one task after another, as long as there are faults and until there are enough.
    pub fn work(&self) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.plan.workload.at_least && self.over.load(Ordering::Relaxed) {
                return;
            }
            self.task(n);
        }
    }

    fn task(&self, n: usize) {
        let mut dice = Dice::new(self.plan.seed, n as u64 + 1);
        let (width, height, image) = &self.pictures[dice.below(self.pictures.len())];
        let (webhook, cancelled) = (dice.below(4) > 0, dice.below(12) == 0);
        let (path, mut body) = match dice.below(3) {
            0 => (CREATIVE, json!({ "image": image, "scale_factor": "2x" })),
            1 => (V2, json!({ "image": image, "scale_factor": 2 })),
            _ => (
                "/api/tasks",
                json!({ "image": image, "request": { "model": "animevideo-v3", "size": { "factor": 2.0 } } }),
            ),
        };
        if webhook {
            body["webhook_url"] = self.hook.into();
        }
        let (key, body) = (format!("task-{n}"), body.to_string());
        let sent = Sent { size: (width * 2, height * 2), webhook, cancelled, ..Sent::default() };
        self.evidence.lock().unwrap().sent.insert(key.clone(), sent);
        // To one node or to two at once, and maybe to yet another one later.
        let dices = [Dice::new(self.plan.seed, dice.below(usize::MAX) as u64), Dice::new(self.plan.seed, n as u64)];
        thread::scope(|scope| {
            for dice in dices.into_iter().take(1 + n % 2) {
                scope.spawn(|| self.submit(path, &key, &body, dice));
            }
        });
        if dice.below(3) == 0 {
            self.submit(path, &key, &body, Dice::new(self.plan.seed, !(n as u64)));
        }
        let ids = self.evidence.lock().unwrap().sent[&key].ids.clone();
        for id in ids {
            if cancelled {
                self.persist(&mut dice, "POST", &format!("/api/tasks/{id}/cancel"), &[], b"{}");
            }
            self.follow(&id, &mut dice);
        }
    }

    /// Sends a request until it is accepted.
    fn submit(&self, path: &str, key: &str, body: &str, mut dice: Dice) {
        let headers = [("idempotency-key", key)];
        let Some(answer) = self.persist(&mut dice, "POST", path, &headers, body.as_bytes()) else { return };
        if answer.status != 200 {
            return self.complain(format!("refused: {path} answers {}: {}", answer.status, answer.text()));
        }
        let body = answer.json();
        let id = if path == "/api/tasks" { &body["task_id"] } else { &body["data"]["task_id"] };
        let id = id.as_str().expect("an id").to_owned();
        self.evidence.lock().unwrap().sent.get_mut(key).expect("it was sent").ids.insert(id);
    }

    /// Waits for the end of a task. What is completed has to be there at once.
    fn follow(&self, id: &str, dice: &mut Dice) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let Some(task) = self.look(id, dice) else { return };
            match task["status"].as_str() {
                Some("COMPLETED") => {
                    if let Err(why) = self.download(&task, dice) {
                        self.complain(format!("seen completed without its result: {id}, {why}"));
                    }
                    return;
                }
                Some("CREATED" | "IN_PROGRESS") => {}
                _ => return,
            }
            if Instant::now() > patience {
                return self.complain(format!("never ends: {task}"));
            }
            thread::sleep(PAUSE);
        }
    }

    fn look(&self, id: &str, dice: &mut Dice) -> Option<Value> {
        let answer = self.persist(dice, "GET", &format!("/api/tasks/{id}"), &[], &[])?;
        if answer.status != 200 {
            self.complain(format!("forgotten: {id} is answered {}", answer.status));
            return None;
        }
        Some(answer.json())
    }

    /// The size of the result.
    fn download(&self, task: &Value, dice: &mut Dice) -> Result<(u32, u32), String> {
        let url = task["result"]["url"].as_str().ok_or("it names none")?;
        // Any node serves it, not only the one in the URL.
        let path = &url[url.find("/files/").ok_or("a strange URL")?..];
        let answer = self.persist(dice, "GET", path, &[], &[]).ok_or("no answer")?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        let decoded = enlarger_image::decode(&answer.bytes, &enlarger_image::Limits::default());
        let picture = decoded.map_err(|error| format!("it cannot be decoded: {error}"))?.picture;
        Ok((picture.width, picture.height))
    }

    /// Asks one node after another until one gives an answer that is not about the trouble it is in.
    fn persist(
        &self,
        dice: &mut Dice,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let patience = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < patience {
            let port = self.ports[dice.below(self.ports.len())];
            match ask(method, &format!("http://127.0.0.1:{port}{path}"), headers, body, ANSWER) {
                Ok(answer) if matches!(answer.status, 429 | 503) => last = answer.text(),
                // The same request is being accepted elsewhere.
                Ok(answer) if answer.status == 409 && answer.text().contains("in progress") => last = answer.text(),
                Ok(answer) => return Some(answer),
                Err(error) => last = error.to_string(),
            }
            thread::sleep(PAUSE);
        }
        self.complain(format!("no answer: {method} {path}: {last}"));
        None
    }

    fn complain(&self, sentence: String) {
        self.evidence.lock().unwrap().complaints.push(sentence);
    }

    /// Waits until the cluster has nothing left to do.
    pub fn wait_for_rest(&self) {
        let patience = Instant::now() + PATIENCE;
        let mut dice = Dice::new(self.plan.seed, 0);
        loop {
            let Some(answer) = self.persist(&mut dice, "GET", "/api/status", &[], &[]) else { return };
            let queue = &answer.json()["queue"];
            if ["waiting", "running", "webhooks_pending"].iter().all(|what| queue[what] == 0) {
                return;
            }
            if Instant::now() > patience {
                return self.complain(format!("never at rest: {queue}"));
            }
            thread::sleep(PAUSE);
        }
    }

    /// All that is known in the end, with a last look at every task and its file.
    pub fn evidence(mut self) -> Evidence {
        // What one node does not know is lost, whatever another one says.
        self.ports = &self.ports[..1];
        let mut dice = Dice::new(self.plan.seed, 0);
        let ids: Vec<_> =
            self.evidence.lock().unwrap().sent.values().flat_map(|sent| sent.ids.iter().cloned()).collect();
        let mut tasks = Vec::new();
        for id in ids {
            let Some(task) = self.look(&id, &mut dice) else { continue };
            let result = task["result"]["url"].is_string().then(|| self.download(&task, &mut dice));
            tasks.push((id, Outcome { status: task["status"].as_str().unwrap_or_default().to_owned(), result }));
        }
        let listed = self.persist(&mut dice, "GET", "/api/tasks?per_page=1", &[], &[]);
        let listed = listed.and_then(|answer| answer.json()["total"].as_u64());
        let mut evidence = self.evidence.into_inner().unwrap();
        evidence.tasks = tasks.into_iter().collect();
        evidence.listed = listed.unwrap_or_default() as usize;
        evidence
    }
}
