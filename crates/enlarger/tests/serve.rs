//! How `enlarger serve` starts: where it listens, what it says, and when.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use assert_cmd::assert::OutputAssertExt;
use common::text;
use tempfile::TempDir;

/// A server that is ended with the test.
struct Server(Child, #[allow(dead_code, reason = "removed when it is dropped")] TempDir);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server, and the addresses that it says can be opened.
fn started(args: &[&str]) -> (Server, String) {
    let data = tempfile::tempdir().expect("a folder");
    let child = Command::new(env!("CARGO_BIN_EXE_enlarger"))
        .args(["serve", "--data-dir"])
        .arg(data.path())
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut server = Server(child, data);
    let mut said = String::new();
    let mut lines = BufReader::new(server.0.stderr.take().expect("piped")).lines();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("{args:?}: it ended: {said}")).expect("a line");
        if let Some(opened) = line.strip_prefix("Open ") {
            return (server, opened.to_owned());
        }
        said.push_str(&line);
        said.push('\n');
    }
}

fn answers(host: &str, url: &str) -> bool {
    let port: u16 = url.split(',').next().and_then(|url| url.rsplit(':').next()?.parse().ok()).expect("a port");
    let mut stream = TcpStream::connect((host, port)).expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer.starts_with("HTTP/1.1 200")
}

#[test]
fn it_listens_where_it_is_told_and_answers_as_soon_as_it_says_so() {
    for args in [
        &["--listen", "localhost:0"][..],
        &["--listen", "0"],
        &["--port", "0"],
        &["--listen", "127.0.0.1:1", "-p", "0"],
    ] {
        let (_server, url) = started(args);
        assert!(url.starts_with("http://127.0.0.1:"), "{args:?}: {url}");
        assert!(answers("127.0.0.1", &url), "{args:?}: {url}");
    }
    for wrong in ["localhost:http", "http://localhost:7788", "1.2.3.4:70000"] {
        let refused = Command::new(env!("CARGO_BIN_EXE_enlarger")).args(["serve", "--listen", wrong]).assert().code(2);
        let told = text(&refused.get_output().stderr);
        assert!(told.contains("expected HOST:PORT"), "{wrong}: {told}");
    }
}

#[test]
fn for_every_network_it_names_an_address_that_can_be_opened() {
    for listen in ["0.0.0.0:0", ":0"] {
        let (_server, urls) = started(&["--listen", listen]);
        assert!(urls.starts_with("http://localhost:") && !urls.contains("0.0.0.0"), "{urls}");
        assert!(answers("127.0.0.1", &urls), "{urls}");
        if let Some(other) = urls.split("http://").nth(2).and_then(|other| other.rsplit_once(':')) {
            assert!(answers(other.0, &urls), "the address for other machines: {urls}");
        }
    }
}

#[test]
fn what_keeps_it_from_starting_is_said_once_and_nothing_is_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("written");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("bound").port().to_string();
    let data = dir.path().join("data");
    let (file, below) = (file.display().to_string(), file.join("data").display().to_string());
    let data = data.display().to_string();
    for (args, reason) in [
        (["--port", "0", "--data-dir", &file], "File exists"),
        (["--port", "0", "--data-dir", &below], "Not a directory"),
        (["--port", &port, "--data-dir", &data], "Address already in use"),
    ] {
        let failed = Command::new(env!("CARGO_BIN_EXE_enlarger")).arg("serve").args(args).assert().code(1);
        let told = text(&failed.get_output().stderr);
        assert_eq!(told.matches(reason).count(), 1, "{args:?}: {told}");
        assert!(!told.contains("Open ") && !told.contains("os error") && told.contains("hint: "), "{args:?}: {told}");
    }
}

#[test]
fn settings_are_read_from_the_users_folder_and_a_wrong_one_is_a_usage_error() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("enlarger/config.toml");
    fs::create_dir(home.path().join("enlarger")).expect("made");
    let serve = |settings: &str, args: &[&str]| {
        fs::write(&file, settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        command.env("XDG_CONFIG_HOME", home.path()).env("ENLARGER_DATA_DIR", home.path()).arg("serve").args(args);
        text(&command.assert().code(2).get_output().stderr)
    };
    let told = serve("jobs = 1\njbos = 2\n", &[]);
    assert!(told.contains("config.toml, line 2: unknown field `jbos`") && told.contains("hint: "), "{told}");
    assert!(serve("jobs = 0\n", &[]).contains("`jobs` is 0"));
    // A flag is stronger, and so is another file.
    assert!(serve("jobs = 0\n", &["--jobs", "1", "--log", "x=y=z"]).contains("invalid log level"));
    assert!(serve("", &["--save-name", "{stem}.{ext}"]).contains("`save_name` is set without `save_to`"));
}

#[test]
fn a_key_is_revoked_by_its_beginning_or_by_a_name_of_its_own() {
    let data = tempfile::tempdir().expect("a folder");
    let keys = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        command.args(["keys", "--data-dir"]).arg(data.path()).args(args).assert()
    };
    let made = |name: &str| {
        let made = keys(&["create", name]).success();
        let key = text(&made.get_output().stdout);
        let beginning = key.trim().rsplit_once('_').expect("a key").0.to_owned();
        (beginning, text(&made.get_output().stderr))
    };
    let ((first, alone), (second, warned)) = (made("comfyui"), made("comfyui"));
    assert!(!alone.contains("warning:") && warned.contains("warning: another key is also named comfyui"), "{warned}");
    let refused = text(&keys(&["revoke", "comfyui"]).code(1).get_output().stderr);
    assert!(refused.contains("2 keys are named comfyui") && refused.contains(&first) && refused.contains(&second));
    keys(&["revoke", &first]).success();
    let revoked = text(&keys(&["revoke", "comfyui"]).success().get_output().stdout);
    assert!(revoked.contains(&second), "{revoked}");
    let gone = text(&keys(&["revoke", "comfyui"]).code(1).get_output().stderr);
    assert!(gone.contains("there is no key comfyui") && gone.contains("hint:"), "{gone}");
}

/// A log on a full disk loses lines, and nothing else.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_a_result_that_cannot_is_an_error() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let dir = common::folder_of(16, 12);
    let enlarger = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        command.current_dir(dir.path()).args(args).env("ENLARGER_DATA_DIR", dir.path().join("data"));
        command
    };
    let upscale = ["upscale", "photo.png", "nothing.png", "--quality", "fast", "-s", "2x"];
    let status = enlarger(&upscale).stderr(full()).status().expect("the binary runs");
    assert_eq!(status.code(), Some(1), "one image is not there");
    assert!(dir.path().join("photo_2x.png").exists(), "the other is enlarged");
    let out = enlarger(&["models", "list"]).stdout(full()).output().expect("the binary runs");
    let said = text(&out.stderr);
    assert_eq!(
        (out.status.code(), said.as_str()),
        (Some(1), "error: cannot write to standard output: No space left on device\n")
    );
}
