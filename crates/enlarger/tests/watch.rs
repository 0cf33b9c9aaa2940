//! What `enlarger watch` makes of a folder: each image once, none half, none lost.
#![cfg(unix)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use assert_cmd::assert::OutputAssertExt;
use common::{folder, sample, text};
use tempfile::TempDir;

/// Long enough for the slowest machine; nothing is asserted about how long things take.
const PATIENCE: Duration = Duration::from_secs(240);

fn watch(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(at).args(["watch", "in", "--settle", "0.2", "--draft", "-s", "2x"]).args(args);
    command
}

/// A folder with an empty folder `in`, and a small photo.
fn empty() -> (TempDir, Vec<u8>) {
    let dir = folder();
    let photo = fs::read(dir.path().join("photo.jpg")).expect("it is there");
    fs::create_dir(dir.path().join("in")).expect("made");
    (dir, photo)
}

fn exists_soon(path: &Path, watching: &Watching) {
    let patience = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < patience, "{} does not appear: {}", path.display(), watching.said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

/// A command that goes on until it is stopped, and what it has said.
struct Watching(Child, Arc<Mutex<String>>);

impl Watching {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let said: Arc<Mutex<String>> = Arc::default();
        let log = said.clone();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| *log.lock().unwrap() += &(line + "\n")));
        let watching = Self(child, said);
        watching.says("watching ");
        watching
    }

    fn said(&self) -> String {
        self.1.lock().unwrap().clone()
    }

    fn says(&self, words: &str) {
        let patience = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(Instant::now() < patience, "{words:?} is not said: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) -> ExitStatus {
        let sent = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
        self.0.wait().expect("it ends")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_arrives_is_enlarged_once_even_after_a_restart() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("in/early.jpg"), &photo).expect("written");
    let mut watching = Watching::start(watch(dir.path(), &[]));
    exists_soon(&at("in/enlarged/early_2x.png"), &watching);
    fs::write(at("in/late.jpg"), &photo).expect("written");
    exists_soon(&at("in/enlarged/late_2x.png"), &watching);
    watching.says("late.jpg ->");
    assert_eq!(watching.stop().code(), Some(0), "{}", watching.said());
    // Somebody takes a result away, and it is not missed; a new version is another image.
    fs::remove_file(at("in/enlarged/early_2x.png")).expect("removed");
    fs::copy(at("photo.png"), at("in/late.jpg")).expect("copied");
    watch(dir.path(), &["--once"]).assert().success();
    watch(dir.path(), &["--once"]).assert().success();
    assert_eq!(names(&at("in/enlarged")), ["late_2x-2.png", "late_2x.png"]);
    assert_eq!(names(&at("in")), ["early.jpg", "enlarged", "late.jpg"]);
}

#[test]
fn only_a_complete_file_is_read() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    let watching = Watching::start(watch(dir.path(), &[]));
    let mut slow = fs::File::create(at("in/slow.jpg")).expect("made");
    slow.write_all(&photo[..photo.len() / 2]).expect("written");
    // Files of the same names come and go whole meanwhile, and it is still open.
    for n in 0..2 {
        fs::write(at(&format!("in/quick{n}.jpg")), &photo).expect("written");
        exists_soon(&at(&format!("in/enlarged/quick{n}_2x.png")), &watching);
    }
    if cfg!(target_os = "linux") {
        assert!(!watching.said().contains("slow.jpg"), "{}", watching.said());
    }
    slow.write_all(&photo[photo.len() / 2..]).expect("written");
    drop(slow);
    exists_soon(&at("in/enlarged/slow_2x.png"), &watching);
    assert!(!at("in/rejected").exists(), "{}", watching.said());
}

#[test]
fn what_cannot_be_enlarged_is_moved_aside_with_the_reason() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    for round in ["junk.png", "junk-2.png"] {
        fs::write(at("in/junk.png"), b"\x89PNG\r\n\x1a\nnot a picture").expect("written");
        fs::write(at("in/notes.txt"), b"not for enlarger").expect("written");
        fs::write(at("in/good.jpg"), &photo).expect("written");
        let ended = watch(dir.path(), &["--once", "--json"]).assert().code(1);
        let told = text(&ended.get_output().stderr);
        assert!(told.contains(&format!("moved to rejected/{round}")) && told.contains("hint: "), "{told}");
        let said = fs::read_to_string(at(&format!("in/rejected/{round}.txt"))).expect("it is there");
        assert!(said.contains("junk.png was not enlarged: ") && said.contains("hint: "), "{said}");
        let line = text(&ended.get_output().stdout);
        assert!(line.contains(r#""status":"failed""#), "{line}");
    }
    fs::write(at("in/phone.heic"), b"whatever").expect("written");
    watch(dir.path(), &["--once"]).assert().code(1);
    assert_eq!(names(&at("in")), ["enlarged", "good.jpg", "notes.txt", "rejected"]);
    assert_eq!(
        names(&at("in/rejected")),
        ["junk-2.png", "junk-2.png.txt", "junk.png", "junk.png.txt", "phone.heic", "phone.heic.txt"]
    );
}

#[test]
fn an_image_that_was_interrupted_is_done_again_and_one_that_was_finished_is_not() {
    let (dir, _) = empty();
    let at = |path: &str| dir.path().join(path);
    fs::copy(sample("brushes.png"), at("in/big.png")).expect("copied");
    let mut slow = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    slow.current_dir(dir.path()).args(["watch", "in", "--settle", "0.1", "-s", "16x", "--model", "x4plus"]);
    let mut killed = Watching::start(slow);
    killed.says("big.png\n");
    let begun = || fs::read_to_string(at("in/enlarged/.enlarger-watch.jsonl")).unwrap_or_default();
    while !begun().contains(r#""state":"begun""#) {
        std::thread::yield_now();
    }
    killed.0.kill().expect("killed");
    killed.0.wait().expect("it ends");
    assert_eq!(names(&at("in/enlarged")), [""; 0]);
    // Whatever it was writing when it was killed.
    fs::write(at("in/enlarged/.enlarger-half12.tmp"), b"half").expect("written");
    watch(dir.path(), &["--once"]).assert().success();
    assert_eq!(names(&at("in/enlarged")), ["big_2x.png"]);
    let entries = fs::read_dir(at("in/enlarged")).expect("read").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(entries.filter(|name| name.to_string_lossy().ends_with(".tmp")).count(), 0);
    // Killed when the result was in its place, and before that was written down.
    let journal = begun();
    let kept: Vec<_> = journal.lines().filter(|line| !line.contains(r#""state":"done""#)).collect();
    fs::write(at("in/enlarged/.enlarger-watch.jsonl"), kept.join("\n") + "\n{\"sou").expect("written");
    let again = watch(dir.path(), &["--once"]).assert().success();
    assert!(text(&again.get_output().stderr).contains("finished earlier"));
    assert_eq!(names(&at("in/enlarged")), ["big_2x.png"]);
}

#[test]
fn names_that_collide_all_have_results_and_nothing_is_overwritten() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("in/sub")).expect("made");
    fs::create_dir_all(at("out/sub")).expect("made");
    for path in ["in/a.jpg", "in/a.jpeg", "in/sub/a.jpg"] {
        fs::write(at(path), &photo).expect("written");
    }
    fs::write(at("out/sub/a_192x144.png"), b"mine").expect("written");
    watch(dir.path(), &["--once", "-r", "-o", "out", "--name", "{stem}_{width}x{height}.{ext}"]).assert().success();
    assert_eq!(names(&at("out")), ["a_192x144-2.png", "a_192x144.png", "sub"]);
    assert_eq!(names(&at("out/sub")), ["a_192x144-2.png", "a_192x144.png"]);
    assert_eq!(fs::read(at("out/sub/a_192x144.png")).expect("it is there"), b"mine");
    // Results beside their sources are not sources, whatever they are called.
    watch(dir.path(), &["--once", "-o", "in", "--name", "{stem}.{ext}"]).assert().success();
    watch(dir.path(), &["--once", "-o", "in", "--name", "{stem}.{ext}"]).assert().success();
    assert_eq!(names(&at("in")), ["a-2.png", "a.jpeg", "a.jpg", "a.png", "sub"]);
}

#[test]
fn a_folder_that_vanishes_is_waited_for() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    let watching = Watching::start(watch(dir.path(), &["-o", "out", "--poll", "0.2"]));
    fs::remove_dir(at("in")).expect("removed");
    watching.says("in is gone; waiting for it to come back");
    fs::create_dir(at("in")).expect("made");
    fs::write(at("in/a.jpg"), photo).expect("written");
    exists_soon(&at("out/a_2x.png"), &watching);
    let missing = Command::new(env!("CARGO_BIN_EXE_enlarger")).args(["watch", "/no/such/folder"]).assert().code(1);
    assert!(text(&missing.get_output().stderr).contains("does not exist\nhint: "));
}

/// A limit on the size of files stands for a disk that is full: both are errors of writing.
#[test]
fn a_full_disk_costs_no_image() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("in/a.jpg"), &photo).expect("written");
    let mut limited = Command::new("sh");
    limited.current_dir(dir.path()).args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    limited.arg(env!("CARGO_BIN_EXE_enlarger"));
    limited.args(["watch", "in", "--settle", "0.1", "--once", "--draft", "-s", "2x"]);
    let told = text(&limited.assert().code(1).get_output().stderr);
    assert!(told.contains("error: a.jpg: ") && told.contains("File too large") && told.contains("hint: "), "{told}");
    assert_eq!((names(&at("in")), names(&at("in/enlarged"))), (vec!["a.jpg".into(), "enlarged".into()], vec![]));
    watch(dir.path(), &["--once"]).assert().success();
    assert_eq!(names(&at("in/enlarged")), ["a_2x.png"]);
}

/// Runs a command without the right of root to write to what is read-only.
fn unprivileged(command: &Command) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut limited = Command::new(if root { "setpriv" } else { "env" });
    if root {
        limited.args(["--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]);
    }
    limited.current_dir(command.get_current_dir().expect("set")).arg(command.get_program()).args(command.get_args());
    limited
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("set");
}

#[test]
fn a_folder_that_is_read_only_keeps_everything_and_one_that_becomes_writable_is_written() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    fs::write(at("in/good.jpg"), &photo).expect("written");
    fs::write(at("in/junk.png"), b"\x89PNG\r\n\x1a\nnot a picture").expect("written");
    set_mode(&at("in"), 0o555);
    let told = |code: i32, args: &[&str]| {
        text(&unprivileged(&watch(dir.path(), args)).assert().code(code).get_output().stderr)
    };
    let beside = told(1, &["--once"]);
    assert!(beside.contains("cannot write ") && beside.contains("hint: choose another folder with -o"), "{beside}");
    let kept = told(1, &["--once", "-o", "out"]);
    assert!(kept.contains("junk.png could not be moved to rejected/ and stays: "), "{kept}");
    assert!(!told(0, &["--once", "-o", "out"]).contains("junk.png"), "what stays is said once");
    set_mode(&at("in"), 0o755);
    fs::write(at("in/more.jpg"), &photo).expect("written");
    set_mode(&at("out"), 0o555);
    let full = told(1, &["--once", "-o", "out"]);
    assert!(full.contains("error: more.jpg: cannot write ") && full.contains("hint: choose another"), "{full}");
    set_mode(&at("out"), 0o755);
    told(0, &["--once", "-o", "out"]);
    assert_eq!(names(&at("out")), ["good_2x.png", "more_2x.png"]);
    assert_eq!(names(&at("in")), ["good.jpg", "junk.png", "more.jpg"]);
}

#[test]
fn a_name_too_long_for_its_result_is_rejected_with_a_text_that_says_so() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    let name = format!("{}.jpg", "x".repeat(250));
    fs::write(at("in").join(&name), photo).expect("written");
    let told = text(&watch(dir.path(), &["--once"]).assert().code(1).get_output().stderr);
    assert!(told.contains("its result cannot be called xxx") && told.contains("hint: rename the image"), "{told}");
    let beside = format!("{}.txt", &name[..251]);
    assert_eq!(names(&at("in/rejected")), [beside.clone(), name]);
    let said = fs::read_to_string(at("in/rejected").join(beside)).expect("it is there");
    assert!(said.contains("was not enlarged: its result cannot be called "), "{said}");
}

#[test]
fn who_loses_the_folder_of_results_does_not_write_to_the_one_that_another_process_has_made() {
    let (dir, photo) = empty();
    let at = |path: &str| dir.path().join(path);
    let first = Watching::start(watch(dir.path(), &["-o", "out"]));
    fs::remove_dir_all(at("out")).expect("removed");
    let second = Watching::start(watch(dir.path(), &["-o", "out"]));
    fs::write(at("in/a.jpg"), &photo).expect("written");
    exists_soon(&at("out/a_2x.png"), &second);
    first.says("error: a.jpg: another `enlarger watch` is writing to ");
    assert_eq!(names(&at("out")), ["a_2x.png"]);
}

#[test]
fn two_processes_do_not_write_to_the_same_folder() {
    let (dir, _) = empty();
    let _first = Watching::start(watch(dir.path(), &[]));
    let second = watch(dir.path(), &["--once"]).assert().code(1);
    assert!(text(&second.get_output().stderr).contains("another `enlarger watch` is writing to"));
    let wrong: PathBuf = dir.path().join("photo.jpg");
    let file = Command::new(env!("CARGO_BIN_EXE_enlarger")).arg("watch").arg(wrong).assert().code(1);
    assert!(text(&file.get_output().stderr).contains("is not a folder"));
}

#[test]
fn folders_within_that_of_results_are_watched_and_equal_names_in_two_folders_are_two_images() {
    let (dir, photo) = empty();
    let at = |name: &str| dir.path().join(name);
    let when = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for folder in ["in", "other"] {
        fs::create_dir_all(at(folder)).expect("made");
        let path = at(folder).join("fox.jpg");
        fs::write(&path, &photo).expect("written");
        fs::File::options().write(true).open(&path).expect("there").set_modified(when).expect("set");
        let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
        let args = ["--settle", "0.2", "--draft", "-s", "2x", "-o", "results", "--once"];
        command.current_dir(dir.path()).args(["watch", folder]).args(args);
        command.assert().success();
    }
    assert_eq!(names(&at("results")), ["fox_2x-2.png", "fox_2x.png"]);
    fs::create_dir(at("results/inbox")).expect("made");
    fs::write(at("results/inbox/owl.jpg"), &photo).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    let args = ["watch", "results/inbox", "--settle", "0.2", "--draft", "-s", "2x", "-o", "results", "--once"];
    command.current_dir(dir.path()).args(args);
    command.assert().success();
    assert!(at("results/owl_2x.png").is_file());
}
