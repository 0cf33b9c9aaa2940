//! A PostgreSQL server for tests. All tests share one, with a database each: starting takes seconds, and every test may be a
//! process. It is stopped and deleted within seconds after the last process that uses it has ended, even if killed: each holds
//! a lock, and a watchdog waits until nobody does.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

const USER: &str = "postgres";
/// With characters that a URL has to escape.
const PASSWORD: &str = "open/sesame@1";
const ESCAPED: &str = "open%2Fsesame%401";

pub struct Cluster {
    folder: PathBuf,
    pub port: u16,
    /// Who must run it: PostgreSQL refuses to run as root.
    runner: Option<&'static str>,
    /// Keeps the watchdog waiting.
    _using: File,
}

impl Cluster {
    /// The server of all tests.
    pub fn shared() -> Self {
        let uid = uid();
        let base = std::env::temp_dir().join(format!("enlarger-postgres-{uid}"));
        // Only the server goes, not the files whose locks say who uses it.
        let server = base.join("server");
        Self::in_folder(&base, &server)
    }

    /// A server of its own, for a test that restarts it.
    #[allow(dead_code, reason = "not every test restarts it")]
    pub fn own() -> Self {
        let base = std::env::temp_dir().join(format!("enlarger-postgres-{}", unique()));
        Self::in_folder(&base, &base)
    }

    /// Starts the server in `base`, unless it runs; `rubbish` is what goes with it.
    fn in_folder(base: &Path, rubbish: &Path) -> Self {
        fs::create_dir_all(base).expect("a folder for PostgreSQL");
        let file = |name: &str| File::create(base.join(name)).expect("a file to lock");
        let starting = file("starting.lock");
        starting.lock().expect("a lock");
        let using = file("using.lock");
        using.lock_shared().expect("a lock");
        let runner = (uid() == 0).then_some("postgres");
        let mut cluster = Cluster { folder: base.join("server"), port: 0, runner, _using: using };
        if !cluster.runs() {
            let _ = fs::remove_dir_all(&cluster.folder);
            cluster.start();
            cluster.watch(base, rubbish);
        }
        let port = fs::read_to_string(cluster.folder.join("port")).expect("the port of the server");
        cluster.port = port.parse().expect("a port");
        cluster
    }

    /// A new, empty database: its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", unique());
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{ESCAPED}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement as the administrator. Returns what psql says of it, such as `UPDATE 1`.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["--no-psqlrc", "--username", USER, "--dbname", database, "--command", statement]);
        run(psql.arg("--host").arg(&self.folder).args(["--port", &self.port.to_string()]))
    }

    /// Stops the server, which ends every connection, and starts it again.
    #[allow(dead_code, reason = "not every test restarts it")]
    pub fn restart(&self) {
        run(self.program("pg_ctl").args(["restart", "--wait", "--mode=fast", "--silent"]).args(self.places()));
    }

    fn runs(&self) -> bool {
        let status = self
            .program("pg_ctl")
            .arg("status")
            .args(self.places())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        self.folder.join("port").exists() && status.is_ok_and(|status| status.success())
    }

    fn start(&self) {
        fs::create_dir(&self.folder).expect("a folder for the server");
        if let Some(user) = self.runner {
            let passwd = fs::read_to_string("/etc/passwd").expect("the users of this machine");
            let ids = passwd.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                (fields[0] == user).then(|| Some((fields[2].parse().ok()?, fields[3].parse().ok()?)))?
            });
            let (uid, gid) =
                ids.expect("PostgreSQL does not run as root, and there is no user postgres: run make test-setup");
            chown(&self.folder, Some(uid), Some(gid)).expect("the folder belongs to postgres");
        }
        let password = self.folder.join("password");
        fs::write(&password, PASSWORD).expect("a file");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).expect("a readable file");
        run(self
            .program("initdb")
            .args(["--username", USER, "--encoding=UTF8", "--locale=C", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile"])
            .arg(&password)
            .arg(self.data()));
        // Another program may take the port meanwhile.
        let started = (0..5).any(|_| self.start_on(free_port()));
        assert!(started, "PostgreSQL does not start: {}", fs::read_to_string(self.log()).unwrap_or_default());
    }

    fn start_on(&self, port: u16) -> bool {
        // The disk need not be waited for: processes are killed here, machines are not.
        let settings = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off \
             -c full_page_writes=off -c max_connections=300 -c shared_buffers=32MB",
            self.folder.display()
        );
        let mut start = self.program("pg_ctl");
        start.args(["start", "--wait", "--silent", "--options", &settings]).args(self.places());
        let started = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let started = started.is_ok_and(|status| status.success());
        if started {
            fs::write(self.folder.join("port"), port.to_string()).expect("a file");
        }
        started
    }

    /// Waits until nobody uses the server, then stops it.
    fn watch(&self, base: &Path, rubbish: &Path) {
        let stop = self.program("pg_ctl");
        let stop =
            std::iter::once(stop.get_program()).chain(stop.get_args()).map(|word| word.to_string_lossy().into_owned());
        let stop = stop.collect::<Vec<_>>().join(" ");
        let script = format!(
            "while sleep 2; do flock --nonblock using.lock sh -c '{stop} stop --mode=immediate --silent --pgdata={}; rm -rf {}' && exit; done",
            self.data().display(),
            rubbish.display()
        );
        let mut watchdog = Command::new("setsid");
        watchdog.args(["--fork", "sh", "-c", &script]).current_dir(base);
        let started = watchdog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(started.is_ok_and(|status| status.success()), "a watchdog starts");
    }

    /// A program of PostgreSQL, run by who may run it.
    fn program(&self, name: &str) -> Command {
        let mut command = match self.runner {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
                command.arg(binary(name));
                command
            }
            None => Command::new(binary(name)),
        };
        command.current_dir(std::env::temp_dir());
        command
    }

    fn places(&self) -> [String; 2] {
        [format!("--pgdata={}", self.data().display()), format!("--log={}", self.log().display())]
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Debian puts the server's programs into a folder per version, which is not on the path.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    let found = newest.map(|version| version.path().join("bin").join(name));
    found.filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// Who we are.
fn uid() -> u32 {
    let probe = tempfile::tempfile().expect("a temporary file");
    probe.metadata().expect("its owner").uid()
}

/// A name that nobody else has.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_nanos();
    format!("{}_{}_{now}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("its number").port()
}

/// What it prints.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; make test-setup installs PostgreSQL"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
