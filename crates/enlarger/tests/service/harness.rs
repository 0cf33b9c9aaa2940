//! The real binary on a free port, and a client for it.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use crate::cluster::Cluster;
use crate::moto::{self, Moto};

/// Long enough for the slowest machine; nothing is asserted about how long things take.
pub const PATIENCE: Duration = Duration::from_secs(240);
pub const CREATIVE: &str = "/v1/ai/image-upscaler";
pub const V2: &str = "/v1/ai/image-upscaler-precision-v2";

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    args: Vec<String>,
    place: Arc<Place>,
    /// Megabytes of a disk of its own, if it has one.
    disk: Option<u32>,
    said: Arc<Mutex<String>>,
    /// Sent as X-API-KEY.
    pub key: Option<String>,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self::spawn(Place::new(), None, args, 0, Arc::default())
    }

    /// In a folder that is there.
    pub fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let place = Arc::new(Place { folder, elsewhere: None });
        Self::spawn(place, None, args.iter().map(ToString::to_string).collect(), 0, Arc::default())
    }

    /// On a disk of so many megabytes, which it sees alone. `None` where this machine lets nobody mount one.
    pub fn start_on_small_disk(megabytes: u32, args: &[&str]) -> Option<Self> {
        let place = Place::new();
        let mounts = on_small_disk(place.folder.path(), megabytes, Path::new("true")).output();
        if !mounts.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let args = args.iter().map(ToString::to_string).collect();
        Some(Self::spawn(place, Some(megabytes), args, 0, Arc::default()))
    }

    fn spawn(place: Arc<Place>, disk: Option<u32>, args: Vec<String>, port: u16, said: Arc<Mutex<String>>) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_enlarger"));
        let folder = place.folder.path();
        let mut command = disk.map_or_else(binary, |megabytes| on_small_disk(folder, megabytes, program));
        let mut child = command
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(folder)
            .args(place.args())
            .args(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut port = None;
        while port.is_none() {
            let mut line = String::new();
            let read = lines.read_line(&mut line).expect("it can be read");
            assert!(read > 0, "the server ended: {}", said.lock().unwrap());
            port = line.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.trim().parse().ok());
            said.lock().unwrap().push_str(&line);
        }
        let log = said.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let server = Self { child, port: port.unwrap(), args, place, disk, said, key: None };
        let patience = Instant::now() + PATIENCE;
        while server.get("/readyz").status != 200 {
            assert!(Instant::now() < patience, "it never gets ready: {}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// A second process on the same data.
    pub fn another(&self, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self::spawn(self.place.clone(), None, args, 0, self.said.clone())
    }

    /// Ends without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts again on the same address and data.
    pub fn start_again(&mut self) {
        let key = self.key.take();
        let mut next = Self::spawn(self.place.clone(), self.disk, self.args.clone(), self.port, self.said.clone());
        next.key = key;
        *self = next;
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("it ends")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dir(&self) -> &Path {
        self.place.folder.path()
    }

    /// `enlarger keys`, for the keys of this server.
    pub fn keys(&self) -> Command {
        let mut command = binary();
        command.args(["keys", "--data-dir"]).arg(self.dir()).args(self.place.args().iter().take(2));
        command
    }

    /// The names of the files of a task that are stored, in order.
    pub fn stored(&self, task: &str) -> Vec<String> {
        let mut names: Vec<String> = match &self.place.elsewhere {
            None => {
                let folder = self.dir().join("files/tasks").join(&task[34..]).join(task);
                let files = std::fs::read_dir(folder).into_iter().flatten();
                files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect()
            }
            #[cfg(target_os = "linux")]
            Some(elsewhere) => {
                let listed = elsewhere.moto.ask("GET", &format!("/{}?list-type=2", moto::BUCKET));
                let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
                keys.filter_map(|key| Some(key.split_once(task)?.1.trim_start_matches('/').to_owned())).collect()
            }
        };
        names.sort();
        names
    }

    /// All files below a folder of the data directory.
    pub fn files_in(&self, folder: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.dir().join(folder)];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
            }
        }
        files
    }

    /// The data directory as the server sees it, on a disk of its own or not.
    #[cfg(target_os = "linux")]
    pub fn dir_inside(&self) -> PathBuf {
        let path = self.dir().strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.pid().to_string()).join("root").join(path)
    }

    /// The processes that it has started and that live.
    #[cfg(target_os = "linux")]
    pub fn children(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").expect("it can be listed").flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| parent(*id) == Some(self.pid())).collect()
    }

    /// Changes the database, e.g. the times in it: nobody waits a day for a test. Returns how many rows were changed.
    pub fn turn(&self, sql: &str) -> u32 {
        let said = match &self.place.elsewhere {
            None => {
                let script = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1], timeout=60); \
                    print(db.execute(sys.argv[2]).rowcount); db.commit()";
                let database = self.dir().join("tasks.sqlite");
                let output = Command::new("python3").args(["-c", script]).arg(database).arg(sql).output();
                let output = output.expect("it runs");
                String::from_utf8(output.stdout).expect("a number")
            }
            #[cfg(target_os = "linux")]
            Some(Elsewhere { cluster, database, .. }) => cluster.sql(database.rsplit_once('/').expect("a name").1, sql),
        };
        let count = said.rsplit(char::is_whitespace).find_map(|word| word.parse().ok());
        count.unwrap_or_else(|| panic!("{sql}: {said}"))
    }

    /// All that was logged so far.
    pub fn log(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("http://127.0.0.1:{}{path}", self.port) }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut headers = headers.to_vec();
        headers.extend(self.key.as_deref().map(|key| ("x-api-key", key)));
        ask(method, &self.url(path), &headers, body, PATIENCE)
    }

    /// Submits a task and returns its id.
    pub fn submit(&self, path: &str, body: &Value) -> String {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = if path == "/api/tasks" {
            answer.json()["task_id"].clone()
        } else {
            answer.json()["data"]["task_id"].clone()
        };
        id.as_str().expect("an id").to_owned()
    }

    /// All that is known of a task.
    pub fn task(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/tasks/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Waits until a task stands in one of these states.
    pub fn wait(&self, id: &str, states: &[&str]) -> Value {
        let patience = Instant::now() + PATIENCE;
        loop {
            let task = self.task(id);
            if states.contains(&task["status"].as_str().unwrap()) {
                return task;
            }
            assert!(Instant::now() < patience, "{task}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait_done(&self, id: &str) -> Value {
        let task = self.wait(id, &["COMPLETED", "FAILED", "CANCELLED"]);
        assert_eq!(task["status"], "COMPLETED", "{task}\n{}", self.log());
        task
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server keeps its data.
struct Place {
    folder: TempDir,
    /// Where it keeps tasks and files, if not in its folder.
    #[cfg(target_os = "linux")]
    elsewhere: Option<Elsewhere>,
    #[cfg(not(target_os = "linux"))]
    elsewhere: Option<std::convert::Infallible>,
}

#[cfg(target_os = "linux")]
struct Elsewhere {
    cluster: Cluster,
    database: String,
    moto: Arc<Moto>,
    storage: String,
}

#[cfg(target_os = "linux")]
thread_local! {
    static ELSEWHERE: RefCell<Option<Arc<Moto>>> = const { RefCell::new(None) };
}

/// Runs a test in which each server has a PostgreSQL database and a part of a bucket of its own.
#[cfg(target_os = "linux")]
pub fn on_postgres_and_bucket(test: fn()) {
    ELSEWHERE.set(Some(Arc::new(Moto::start())));
    test();
}

/// Makes two tests of each: on SQLite and files, and on PostgreSQL and a bucket.
macro_rules! on_both {
    ($($(#[$condition:meta])* $test:ident),+ $(,)?) => {
        mod on_files {
            $(
                $(#[$condition])*
                #[test]
                fn $test() {
                    super::$test();
                }
            )+
        }

        #[cfg(target_os = "linux")]
        mod on_postgres_and_bucket {
            $(
                $(#[$condition])*
                #[test]
                fn $test() {
                    crate::harness::on_postgres_and_bucket(super::$test);
                }
            )+
        }
    };
}
pub(crate) use on_both;

impl Place {
    fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        #[cfg(target_os = "linux")]
        let elsewhere = ELSEWHERE.with_borrow(Clone::clone).map(|moto| {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let cluster = Cluster::shared();
            let (database, part) = (cluster.database(), NEXT.fetch_add(1, Ordering::Relaxed));
            let storage = format!("s3://{}/part-{part}?endpoint=http://127.0.0.1:{}", moto::BUCKET, moto.port);
            Elsewhere { cluster, database, moto, storage }
        });
        #[cfg(not(target_os = "linux"))]
        let elsewhere = None;
        Arc::new(Self { folder, elsewhere })
    }

    /// The database first.
    fn args(&self) -> Vec<&str> {
        match &self.elsewhere {
            None => Vec::new(),
            #[cfg(target_os = "linux")]
            Some(Elsewhere { database, storage, .. }) => vec!["--database", database, "--storage", storage],
        }
    }
}

/// Sends one request, on a connection of its own.
pub fn ask(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    patience: Duration,
) -> Result<Answer, ureq::Error> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience)).build();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_vec()).expect("a request");
    let mut response = config.new_agent().run(request)?;
    let bytes = response.body_mut().with_config().limit(1 << 30).read_to_vec()?;
    let headers = response.headers().clone();
    Ok(Answer { status: response.status().as_u16(), headers, bytes })
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(2000)]).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// The parent of a living process.
#[cfg(target_os = "linux")]
fn parent(id: u32) -> Option<u32> {
    // "pid (name) state ppid ...", and a name may have anything in it (proc(5)).
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    rest.next()?.parse().ok().filter(|_| state != "Z")
}

/// A program in a mount namespace of its own, where `dir` is a disk of so many megabytes.
pub fn on_small_disk(dir: &Path, megabytes: u32, program: &Path) -> Command {
    let mut command = without_settings("unshare");
    let mount = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$1\" && shift && exec \"$@\"");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"]).arg(dir).arg(program);
    command
}

/// The binary, without settings.
pub fn binary() -> Command {
    without_settings(env!("CARGO_BIN_EXE_enlarger"))
}

/// A program without settings from the environment or the user's folder but credentials for the storage of tests.
pub fn without_settings(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ENLARGER_") || name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command.envs([("AWS_ACCESS_KEY_ID", moto::KEY.0), ("AWS_SECRET_ACCESS_KEY", moto::KEY.1)]);
    command.env("XDG_CONFIG_HOME", "/no/such/folder");
    command
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn sample(name: &str) -> Vec<u8> {
    std::fs::read(root().join("samples").join(name)).expect("the sample is there")
}

/// A real photo of this size, as PNG.
pub fn photo(width: u32, height: u32) -> Vec<u8> {
    let limits = enlarger_image::Limits::default();
    let picture = enlarger_image::decode(&sample("brushes.png"), &limits).expect("a picture").picture;
    let small =
        enlarger_pipeline::resize(&picture, width, height, enlarger_pipeline::Resampling::Box).expect("there is room");
    let mut out = std::io::Cursor::new(Vec::new());
    enlarger_image::encode(&small, &enlarger_image::EncodeOptions::default(), &mut out).expect("it can be encoded");
    out.into_inner()
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// A task that is done in a moment.
pub fn quick() -> Value {
    json!({ "image": base64(&photo(32, 24)), "name": "quick.png", "request": { "model": "animevideo-v3" } })
}

/// A task that takes a second or many, depending on the machine.
pub fn slow() -> Value {
    json!({ "image": base64(&photo(192, 144)), "name": "slow.png", "request": { "model": "x4plus", "size": { "factor": 4.0 } } })
}

/// A task that takes long enough to be interfered with on any machine.
pub fn endless() -> Value {
    json!({ "image": base64(&sample("stream.jpg")), "name": "long.jpg", "request": { "model": "x4plus", "size": { "factor": 15.0 } } })
}

/// Width and height in the header of a PNG (ISO 15948, section 11.2.1).
pub fn png_size(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(&bytes[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// One HTTP request as it came to a [`Receiver`].
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A web server that answers every request with one status, and remembers what came.
pub struct Receiver {
    pub url: String,
    got: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// `status` of the n-th request, from 0. 0 never answers.
    pub fn start(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::answering(move |n, _| status(n))
    }

    /// The same, where the status depends on the request.
    pub fn answering(status: impl Fn(usize, &Received) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let got: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (kept, status) = (got.clone(), Arc::new(status));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, status) = (kept.clone(), status.clone());
                // A sender may stop in the middle.
                std::thread::spawn(move || {
                    let Some(received) = receive(&stream) else { return };
                    let n = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(received.clone());
                        kept.len() - 1
                    };
                    match status(n, &received) {
                        0 => loop {
                            std::thread::park();
                        },
                        code => {
                            let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                            let _ = (&stream).write_all(answer.as_bytes());
                        }
                    }
                });
            }
        });
        Self { url, got }
    }

    pub fn got(&self) -> Vec<Received> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub fn wait(&self, count: usize) -> Vec<Received> {
        let patience = Instant::now() + PATIENCE;
        while self.got().len() < count {
            assert!(Instant::now() < patience, "{:?}", self.got());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.got()
    }
}

/// The headers that say who sent a webhook and when.
pub fn signed_headers(received: &Received) -> ureq::http::HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = names.into_iter().filter_map(|name| Some((name.parse().ok()?, received.header(name).parse().ok()?)));
    headers.collect()
}

fn receive(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut received = Received { headers, body: Vec::new() };
    let length: usize = received.header("content-length").parse().ok()?;
    received.body.resize(length, 0);
    reader.read_exact(&mut received.body).ok()?;
    Some(received)
}
