//! The processes of a cluster, and all that can happen to them.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::plan::{Plan, Saboteur, What};
use crate::{
    cluster::Cluster,
    harness::{on_small_disk, without_settings},
    moto::{BUCKET, Moto},
    proxy::{Mood, Proxy},
};

/// Of webhooks.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ANOTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Of URLs.
const SIGNING_SECRET: &str = "what all machines of the cluster have in common";
/// How much later each piece arrives on a slow line.
const SLOW: Duration = Duration::from_millis(80);

/// The processes, their database and their storage. All end when this is dropped.
pub struct Nodes {
    /// APIs first.
    pub nodes: Vec<Node>,
    database: Cluster,
    pub storage: Moto,
    /// Where nodes keep their data and logs.
    pub folder: PathBuf,
}

/// A process that starts again at the same address when it was killed.
pub struct Node {
    name: String,
    port: u16,
    folder: PathBuf,
    log: PathBuf,
    /// Megabytes, where disks can be mounted.
    disk: Option<u32>,
    /// Minutes that its clock is wrong by.
    clock: i64,
    args: Vec<String>,
    to_database: Proxy,
    to_storage: Proxy,
    child: Option<Child>,
    /// How often it ended without being killed.
    ended: u32,
}

impl Nodes {
    /// Starts the nodes of a plan, which then get ready by themselves.
    pub async fn start(plan: &Plan) -> Self {
        let (database, storage) = (Cluster::own(), Moto::start());
        let url = database.database();
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        let disk = mounts(&folder, plan.disk).then_some(plan.disk);
        if disk.is_none() {
            eprintln!("no disk gets full: nobody may mount one here");
        }
        let mut nodes = Vec::new();
        for n in 0..plan.apis + plan.workers {
            let (role, number, last) = match n.checked_sub(plan.apis) {
                None => ("api", n, n + 1 == plan.apis),
                Some(worker) => ("worker", worker, worker + 1 == plan.workers),
            };
            let is = |saboteur| last && plan.saboteurs.contains(&saboteur);
            let to_database = Proxy::before(database.port, Mood::Pass).await;
            let to_storage = Proxy::before(storage.port, Mood::Pass).await;
            let through = url.replace(&format!(":{}/", database.port), &format!(":{}/", to_database.port));
            let apart = role == "api" && is(Saboteur::ApiOfItsOwn);
            // Of a storage that belongs to another database it would not start.
            let folder_there = if apart { "apart" } else { "chaos" };
            let bucket = format!("s3://{BUCKET}/{folder_there}?endpoint=http://127.0.0.1:{}", to_storage.port);
            let another = role == "worker" && is(Saboteur::WorkerWithAnotherSecret);
            let secret = if another { ANOTHER_SECRET } else { SECRET };
            let lease = plan.lease.to_string();
            let mut args = vec!["--role", role, "--storage", &bucket, "--signing-secret", SIGNING_SECRET];
            args.extend(["--webhook-secret", secret, "--allow-net", "127.0.0.0/8", "--lease-seconds", &lease]);
            args.extend(["--jobs", "1", "--threads", "1"]);
            if !apart {
                args.extend(["--database", &through]);
            }
            let name = format!("{role}-{}", number + 1);
            let node = Node {
                port: free_port(),
                folder: folder.join(&name),
                log: folder.join(format!("{name}.log")),
                disk,
                clock: plan.clocks[n % plan.clocks.len()],
                args: args.into_iter().map(ToOwned::to_owned).collect(),
                name,
                to_database,
                to_storage,
                child: None,
                ended: 0,
            };
            std::fs::create_dir(&node.folder).expect("a folder for the node");
            nodes.push(node);
        }
        nodes.iter_mut().for_each(Node::start);
        Self { nodes, database, storage, folder }
    }

    /// The ports of all nodes, APIs first.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// Begins or ends a fault. A fault that is there already, or gone, stays so.
    pub fn step(&mut self, node: usize, what: What, begins: bool) {
        let node = &mut self.nodes[node];
        let mood = |mood| if begins { mood } else { Mood::Pass };
        match what {
            What::Kill if begins => node.kill(),
            What::Kill => node.start(),
            What::Freeze => node.signal(if begins { "-STOP" } else { "-CONT" }),
            What::SlowDatabase => node.to_database.turn(mood(Mood::Slow(SLOW))),
            What::SilentDatabase => node.to_database.turn(mood(Mood::Silent)),
            What::CutDatabase => node.to_database.turn(mood(Mood::Closed)),
            What::SlowStorage => node.to_storage.turn(mood(Mood::Slow(SLOW))),
            What::SilentStorage => node.to_storage.turn(mood(Mood::Silent)),
            What::CutStorage => node.to_storage.turn(mood(Mood::Closed)),
            What::BusyStorage => node.to_storage.turn(mood(Mood::Busy)),
            What::FullDisk => node.fill(begins),
            What::RestartDatabase if begins => self.database.restart(),
            What::RestartDatabase => {}
        }
    }

    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Which nodes ended without being killed.
    pub fn ended(&mut self) -> Vec<String> {
        self.nodes.iter_mut().for_each(Node::notice_end);
        let ended = self.nodes.iter().filter(|node| node.ended > 0);
        ended.map(|node| format!("ended by itself: {}, {} times", node.name, node.ended)).collect()
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.to_database.turn(Mood::Pass);
            node.to_storage.turn(Mood::Pass);
            node.signal("-CONT");
            node.fill(false);
            node.start();
        }
    }
}

impl Node {
    fn start(&mut self) {
        self.notice_end();
        if self.child.is_some() {
            return;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let mut command = match self.disk {
            Some(megabytes) => on_small_disk(&self.folder, megabytes, Path::new("env")),
            None => without_settings("env"),
        };
        if self.clock != 0 {
            // Timers go by another clock, which is right.
            let clock = format!("FAKETIME={:+}m", self.clock);
            command
                .arg(format!("LD_PRELOAD={}", faketime().display()))
                .args([&*clock, "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
        }
        command.arg(env!("CARGO_BIN_EXE_enlarger"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"]).arg(&self.folder);
        let started = command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(started.expect("the binary runs"));
    }

    /// A node that ends by itself breaks a promise.
    fn notice_end(&mut self) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
            self.child = None;
            self.ended += 1;
        }
    }

    fn kill(&mut self) {
        self.notice_end();
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        // What libfaketime would have deleted.
        for left in ["faketime_shm", "sem.faketime_sem"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{left}_{}", child.id()));
        }
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {}", self.name);
        }
    }

    /// Takes all room on its disk, or gives it back.
    fn fill(&self, begins: bool) {
        let (Some(child), Some(_)) = (&self.child, self.disk) else { return };
        let inside = self.folder.strip_prefix("/").expect("an absolute path");
        let filler = Path::new("/proc").join(child.id().to_string()).join("root").join(inside).join("filler");
        if !begins {
            let _ = std::fs::remove_file(filler);
        } else if let Ok(mut file) = File::create(filler) {
            while file.write_all(&[1; 4096]).is_ok() {}
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn mounts(folder: &Path, megabytes: u32) -> bool {
    on_small_disk(folder, megabytes, Path::new("true")).output().is_ok_and(|output| output.status.success())
}

/// What turns a process's clock.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    found.expect("libfaketime is there: make test-setup installs it")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
