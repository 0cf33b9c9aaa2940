//! A program that is stopped leaves nothing half done.
#![cfg(unix)]

mod common;

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use common::{folder, sample};

/// Something that takes the largest network far longer than to be stopped, and its child, which has begun to write.
fn busy(folder: &Path, before: &str) -> Child {
    fs::copy(sample("brushes.png"), folder.join("big.png")).expect("copied");
    let mut child = Command::new("sh")
        .current_dir(folder)
        .args(["-c", &format!("{before} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_enlarger")])
        .args(["upscale", "big.png", "-s", "16x", "--model", "x4plus", "-o", "out/"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // The temporary file's appearance says that the work has begun.
    while left_in(folder).is_empty() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it could be stopped");
        std::thread::yield_now();
    }
    child
}

fn left_in(folder: &Path) -> Vec<String> {
    let names = folder.join("out").read_dir().into_iter().flatten();
    names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

fn stopped_by(signal: &str) -> (ExitStatus, Vec<String>) {
    let dir = folder();
    let mut child = busy(dir.path(), "");
    send(signal, &child);
    (child.wait().expect("it ends"), left_in(dir.path()))
}

#[test]
fn every_signal_that_ends_it_leaves_no_half_written_file() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129), ("-QUIT", 131)] {
        let (status, left) = stopped_by(signal);
        assert_eq!((status.code(), left.is_empty()), (Some(code), true), "{signal}: {left:?}");
    }
}

/// Standard input that never comes to an end: only the signal can end it.
#[test]
fn a_signal_ends_the_wait_for_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_enlarger"))
        .args(["upscale", "-", "-o", "out.png"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // That it begins to read is said.
    let mut said = [0; 1];
    child.stderr.as_mut().expect("piped").read_exact(&mut said).expect("a line");
    // Waiting would close it.
    let _open = child.stdin.take();
    send("-TERM", &child);
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
}

/// `nohup` starts programs so, and shells those in the background of a script.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let dir = folder();
    let mut child = busy(dir.path(), "trap '' HUP;");
    send("-HUP", &child);
    send("-TERM", &child);
    assert_eq!(child.wait().expect("it ends").code(), Some(143), "only the second stops it");
}
