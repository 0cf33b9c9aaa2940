//! Has another service enlarge what the operator chose: the vendor's own, with a key of the operator's and within a budget.
//!
//! An order is booked in [`Ledger`] before it is sent, and booked off only if the service refused it (a status of 4xx, but for 408).
//! So whatever breaks, no more is spent than allowed. The id of an order that was accepted is kept, and another attempt asks for its result instead of ordering again.
//! Results are kept by content: the same image with the same settings is paid once.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use enlarger_egress::{Answer, EgressError, Fetcher, Policy, TrustedService, Unanswered};
use enlarger_pipeline::{Request, Style, remove_leftovers, temporary_in};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use uuid::Uuid;

use crate::job::Kind;

/// Longest answer of the service, besides results.
const ANSWER: u64 = 1 << 20;
/// Largest result in bytes: 10,060 x 10,060 pixels of 16 bits do not fit, but nobody sends those.
const RESULT: u64 = 512 << 20;
/// How long a result is kept for the same request, and an order that was accepted is asked after.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// How long the service is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For each answer.
    pub answer: Duration,
    /// Between two looks at an order.
    pub look: Duration,
    /// For the result, until the task is tried again.
    pub result: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [answer, look, result] = [60, 3, 1800].map(Duration::from_secs);
        Self { answer, look, result }
    }
}

/// What may be spent on a day (UTC), in megapixels of results: the service bills by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In all.
    pub daily: u64,
    /// By one API key; 0 is no limit of its own.
    pub daily_per_key: u64,
}

/// The other service.
pub struct Relay {
    service: TrustedService,
    fetcher: Fetcher,
    host: String,
    /// It is never repeated, whatever the service says.
    key: String,
    kinds: Vec<Kind>,
    patience: Patience,
    /// With results, by content.
    results: PathBuf,
    /// By content, held while an order is sent, so that an equal one finds it.
    ordering: std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>,
    ledger: Arc<Ledger>,
}

/// What is to be enlarged.
pub struct Order<'a> {
    /// By which endpoint.
    pub kind: Kind,
    /// How.
    pub request: &'a Request,
    /// Whether the service is to filter.
    pub filter_nsfw: bool,
    /// The image's file.
    pub source: &'a [u8],
    /// The size of the result in pixels.
    pub pixels: u64,
    /// The API key that pays.
    pub owner: Option<&'a str>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Unrelayed {
    /// The budget of the day would be exceeded.
    #[error(
        "this would exceed what {whose} may spend at {host} today: {limit} megapixels of results, of which {left} are left"
    )]
    Spent {
        /// This server, or this API key.
        whose: &'static str,
        /// The service.
        host: String,
        /// The limit.
        limit: u64,
        /// What is left of it.
        left: u64,
    },
    /// The service does not want it: another attempt changes nothing.
    #[error("{host} refused the image: {why}")]
    Refused {
        /// The service.
        host: String,
        /// What it says.
        why: String,
    },
    /// It cannot or does not now.
    #[error("{host} {why}")]
    Away {
        /// The service.
        host: String,
        /// What is the matter, with a verb.
        why: String,
    },
    /// Files of our own.
    #[error("the results of the relay cannot be read or written: {}", .0.kind())]
    Files(#[from] io::Error),
}

impl Relay {
    /// The kinds of tasks that the service has an endpoint for, with that endpoint.
    pub const KINDS: [(Kind, &'static str); 2] =
        [(Kind::Creative, "image-upscaler"), (Kind::PrecisionV2, "image-upscaler-precision-v2")];

    /// The service at this address, for tasks of these kinds. Orders and results are kept in a folder, which is made if needed.
    /// URLs of results are fetched as the policy has it.
    ///
    /// # Errors
    /// If the address is none of a service, the key cannot be sent, or the folder cannot be made.
    pub fn new(
        address: &str,
        key: &str,
        kinds: Vec<Kind>,
        budget: Budget,
        patience: Patience,
        folder: &Path,
        policy: Policy,
    ) -> Result<Self, EgressError> {
        // The vendor takes its key under both of its names.
        let headers = ["x-freepik-api-key", "x-magnific-api-key"].map(|name| (name, key));
        let service = TrustedService::new(address, &headers, patience.answer)?;
        let results = folder.join("results");
        fs::create_dir_all(&results).map_err(|error| EgressError::Store(error.kind().to_string()))?;
        remove_leftovers(&results);
        let ledger = Ledger { folder: folder.to_owned(), budget };
        // Said now: without it, nothing may be ordered.
        let unreadable = |error: io::Error| EgressError::Store(format!("{}: {error}", ledger.path().display()));
        ledger.change(|_| ()).map_err(unreadable)?;
        Ok(Self {
            host: service.host().to_owned(),
            key: key.to_owned(),
            service,
            fetcher: Fetcher::new(policy),
            kinds,
            patience,
            results,
            ordering: std::sync::Mutex::default(),
            ledger: Arc::new(ledger),
        })
    }

    /// Whether tasks of this kind go there.
    pub fn takes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Its host's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The file of the result, from here if it was made before. May be dropped at any moment: what was spent stays booked, and
    /// what was ordered is asked after the next time.
    ///
    /// # Errors
    /// See [`Unrelayed`].
    pub async fn enlarge(&self, order: &Order<'_>) -> Result<Vec<u8>, Unrelayed> {
        let body = body(order);
        let hash = hash(order, &body);
        let turn = self.turn(&hash);
        let ordering = turn.lock().await;
        let kept = self.results.join(&hash);
        match tokio::fs::read(&kept).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let booking = self.book(hash.clone(), order).await?;
        let endpoint = Self::KINDS.iter().find(|(kind, _)| *kind == order.kind).map_or("", |(_, endpoint)| endpoint);
        let task = match booking.task {
            Some(task) => task,
            None => self.order(endpoint, body, order.source, booking.id).await?,
        };
        drop(ordering);
        let url = match self.result(endpoint, &task).await {
            Ok(url) => url,
            Err(why) => {
                // It will not be found there, however often it is asked after.
                if matches!(why, Unrelayed::Refused { .. }) {
                    self.ledger(move |ledger| ledger.ended(booking.id)).await?;
                }
                return Err(why);
            }
        };
        let mut bytes = Vec::new();
        let fetched = self.fetcher.fetch(&url, RESULT, &mut bytes).await;
        fetched.map_err(|error| self.away(format!("made a result that cannot be fetched: {error}")))?;
        let (results, kept) = (self.results.clone(), bytes.clone());
        let stored = tokio::task::spawn_blocking(move || keep(&results, &hash, &kept)).await;
        stored.map_err(io::Error::other)??;
        self.ledger(move |ledger| ledger.ended(booking.id)).await?;
        Ok(bytes)
    }

    /// What is held while this is ordered.
    fn turn(&self, hash: &str) -> Arc<Mutex<()>> {
        let mut turns = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.get(hash).and_then(Weak::upgrade).unwrap_or_default();
        turns.insert(hash.to_owned(), Arc::downgrade(&turn));
        turn
    }

    async fn book(&self, order: String, what: &Order<'_>) -> Result<Row, Unrelayed> {
        let (owner, megapixels) = (what.owner.map(str::to_owned), what.pixels.div_ceil(1_000_000).max(1));
        let booked = self.ledger(move |ledger| ledger.book(order, owner, megapixels)).await?;
        booked.map_err(|(whose, limit, left)| Unrelayed::Spent { whose, host: self.host.clone(), limit, left })
    }

    /// Orders, and returns the id that the service has given it.
    async fn order(&self, endpoint: &str, mut body: Value, source: &[u8], booking: Uuid) -> Result<String, Unrelayed> {
        body["image"] = BASE64_STANDARD.encode(source).into();
        let sent =
            self.service.post(&["v1", "ai", endpoint], "application/json", body.to_string().into(), ANSWER).await;
        // Without an answer nobody knows whether it was accepted, so it stays booked.
        let answer = sent.map_err(|why| self.unanswered(&why))?;
        if answer.status >= 300 {
            // What a gateway or a broken service answers, it may answer after the order was accepted.
            if answer.status < 500 && answer.status != 408 {
                self.ledger(move |ledger| ledger.unbook(booking)).await?;
            }
            return Err(self.refusal(&answer));
        }
        let task = serde_json::from_slice::<Value>(&answer.body)
            .ok()
            .and_then(|said| Some(said["data"]["task_id"].as_str()?.to_owned()))
            .filter(|id| !id.is_empty() && id.len() <= 128)
            .ok_or_else(|| self.away("accepted the image, but gave no task_id for it"))?;
        let id = task.clone();
        self.ledger(move |ledger| ledger.accepted(booking, id)).await?;
        Ok(task)
    }

    /// The URL of the result of an order, once it is there.
    async fn result(&self, endpoint: &str, task: &str) -> Result<String, Unrelayed> {
        let until = Instant::now() + self.patience.result;
        loop {
            let answer = self.service.get(&["v1", "ai", endpoint, task], &[], ANSWER).await;
            let answer = answer.map_err(|why| self.unanswered(&why))?;
            if answer.status >= 300 {
                return Err(self.refusal(&answer));
            }
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let data = &said["data"];
            match data["status"].as_str() {
                Some("COMPLETED") => {
                    let url = data["generated"][0].as_str().map(str::to_owned);
                    return url
                        .ok_or_else(|| self.away("says that the image is enlarged, but not where the result is"));
                }
                Some("FAILED") => {
                    let why = ["error", "message"].iter().find_map(|field| data[*field].as_str());
                    return Err(Unrelayed::Refused {
                        host: self.host.clone(),
                        why: self.said(why.unwrap_or("no reason")),
                    });
                }
                Some("CREATED" | "IN_PROGRESS") if Instant::now() < until => sleep(self.patience.look).await,
                Some("CREATED" | "IN_PROGRESS") => {
                    let waited = self.patience.result.as_secs_f64();
                    return Err(self.away(format!("has not finished within {waited} s")));
                }
                _ => return Err(self.away("sent an answer without a status")),
            }
        }
    }

    /// What the service says, as it may stand in a sentence.
    fn said(&self, text: &str) -> String {
        enlarger_error::shortened(&text.replace(&self.key, "***"))
    }

    fn away(&self, why: impl Into<String>) -> Unrelayed {
        Unrelayed::Away { host: self.host.clone(), why: why.into() }
    }

    fn unanswered(&self, why: &Unanswered) -> Unrelayed {
        self.away(format!("gave no answer: {why}"))
    }

    /// What an answer means that is none.
    fn refusal(&self, answer: &Answer) -> Unrelayed {
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let message = said["message"].as_str().or(said["error"]["message"].as_str()).map(|text| self.said(text));
        let told = |what: &str| match &message {
            Some(message) => format!("{what} ({}: {message})", answer.status),
            None => format!("{what} ({})", answer.status),
        };
        match answer.status {
            401 | 403 => self.away(told("does not accept this server's key")),
            402 => self.away(told("wants to be paid first: the account of this server's key has no credit")),
            429 => self.away(told("has had too many requests")),
            404 | 410 => {
                let why = message.unwrap_or_else(|| "it does not know this order, or this kind of it".to_owned());
                Unrelayed::Refused { host: self.host.clone(), why }
            }
            400 | 413 | 415 | 422 => {
                let why = message.unwrap_or_else(|| format!("status {}", answer.status));
                Unrelayed::Refused { host: self.host.clone(), why }
            }
            _ => self.away(told("cannot do it now")),
        }
    }

    async fn ledger<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Ledger) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let ledger = self.ledger.clone();
        tokio::task::spawn_blocking(move || change(&ledger)).await.map_err(io::Error::other)?
    }
}

/// The body of an order, without the image. Our words for settings are the vendor's.
fn body(order: &Order<'_>) -> Value {
    // Both endpoints take whole factors only.
    let factor = order.request.size.factor(1, 1) as u32;
    let (style, factor) = match &order.request.style {
        Style::Creative(creative) => (json!(creative), json!(format!("{factor}x"))),
        Style::Precision(precision) => (json!(precision), json!(factor)),
    };
    let mut body = json!({ "scale_factor": factor, "filter_nsfw": order.filter_nsfw });
    for (name, value) in style.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        body[name] = value.clone();
    }
    body
}

/// What an order is known by: all that the result depends on.
fn hash(order: &Order<'_>, body: &Value) -> String {
    let hash =
        Sha256::new().chain_update(order.kind.as_str()).chain_update(body.to_string()).chain_update(order.source);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keeps a result, and removes those that were kept long enough.
fn keep(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let old = |path: &Path| {
        let changed = path.metadata().and_then(|file| file.modified()).unwrap_or_else(|_| SystemTime::now());
        changed.elapsed().is_ok_and(|age| age > KEPT)
    };
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| old(&entry.path())) {
        let _ = fs::remove_file(entry.path());
    }
    let mut file = temporary_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name)).map_err(|failed| failed.error)?;
    Ok(())
}

/// What was ordered, on disk: a JSON file that all processes of this folder change in turn.
struct Ledger {
    folder: PathBuf,
    budget: Budget,
}

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    id: Uuid,
    at: Timestamp,
    /// See [`hash`].
    order: String,
    owner: Option<String>,
    megapixels: u64,
    /// Its id at the service, from when it was accepted until its result is here.
    task: Option<String>,
}

/// Whose limit, the limit, and what is left of it.
type OverBudget = (&'static str, u64, u64);

impl Ledger {
    /// Books an order, unless the same is under way: that costs nothing more.
    fn book(&self, order: String, owner: Option<String>, megapixels: u64) -> io::Result<Result<Row, OverBudget>> {
        self.change(|rows| {
            if let Some(known) = rows.iter().find(|row| row.order == order && row.task.is_some()) {
                return Ok(known.clone());
            }
            let now = Timestamp::now();
            let (mut all, mut own) = (0, 0);
            for row in rows.iter().filter(|row| day(row.at) == day(now)) {
                all += row.megapixels;
                own += if row.owner == owner { row.megapixels } else { 0 };
            }
            let Budget { daily, daily_per_key } = self.budget;
            let own_limit = if daily_per_key == 0 { u64::MAX } else { daily_per_key };
            for (whose, limit, spent) in [("this server", daily, all), ("this API key", own_limit, own)] {
                let left = limit.saturating_sub(spent);
                if megapixels > left {
                    return Err((whose, limit, left));
                }
            }
            let row = Row { id: Uuid::now_v7(), at: now, order, owner, megapixels, task: None };
            rows.push(row.clone());
            Ok(row)
        })
    }

    fn unbook(&self, id: Uuid) -> io::Result<()> {
        self.change(|rows| rows.retain(|row| row.id != id))
    }

    fn accepted(&self, id: Uuid, task: String) -> io::Result<()> {
        self.change(|rows| rows.iter_mut().filter(|row| row.id == id).for_each(|row| row.task = Some(task.clone())))
    }

    fn ended(&self, id: Uuid) -> io::Result<()> {
        self.change(|rows| rows.iter_mut().filter(|row| row.id == id).for_each(|row| row.task = None))
    }

    fn path(&self) -> PathBuf {
        self.folder.join("orders.json")
    }

    /// Changes the rows, on disk before it returns. Those that matter no more are left out.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Row>) -> T) -> io::Result<T> {
        let lock =
            fs::File::options().write(true).create(true).truncate(false).open(self.folder.join("orders.lock"))?;
        lock.lock()?;
        let path = self.path();
        let mut rows: Vec<Row> = match fs::read(&path) {
            // If it cannot be read nobody knows what was spent, so nothing is.
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let now = Timestamp::now();
        let recent = |row: &Row| now.duration_since(row.at).unsigned_abs() < KEPT;
        rows.retain(|row| day(row.at) == day(now) || (row.task.is_some() && recent(row)));
        let changed = change(&mut rows);
        let mut file = temporary_in(&self.folder)?;
        serde_json::to_writer(&mut file, &rows)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(changed)
    }
}

/// The day in UTC.
fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}
