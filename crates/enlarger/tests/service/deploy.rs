//! The files in `deploy/` name only what exists.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::*;

/// All words of a text that begin so, and go on with letters of the same case, digits and underscores.
fn words<'a>(text: &'a str, beginning: &str, letter: fn(&char) -> bool) -> BTreeSet<&'a str> {
    let found = text.match_indices(beginning).map(|(at, _)| &text[at..]);
    let end = |rest: &str| rest.find(|c| !(letter(&c) || c == '_' || c.is_ascii_digit())).unwrap_or(rest.len());
    found.map(|rest| &rest[..end(rest)]).collect()
}

fn texts(folder: &Path) -> String {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| if path.is_dir() { texts(&path) } else { fs::read_to_string(path).unwrap() }).collect()
}

#[test]
fn every_setting_that_deployments_use_exists() {
    let said = binary().args(["serve", "--print-config"]).output().unwrap();
    let printed = String::from_utf8(said.stdout).unwrap();
    let settings: BTreeSet<String> = printed
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
        .map(|(name, _)| name.to_uppercase())
        .collect();
    let guide = fs::read_to_string(root().join("docs/guides/deploy.md")).unwrap();
    let used = texts(&root().join("deploy")) + &guide;
    let used = words(&used, "ENLARGER_", char::is_ascii_uppercase);
    assert!(used.len() > 5, "{used:?}");
    for name in used.into_iter().filter(|name| *name != "ENLARGER_NAME") {
        assert!(settings.contains(&name["ENLARGER_".len()..]), "{name} is not a setting");
    }
}

#[test]
fn every_metric_is_explained_and_on_the_dashboard_and_deployments_use_no_other() {
    let receiver = Receiver::start(|_| 200);
    let server = Server::start(&["--allow-net", "127.0.0.0/8"]);
    let mut task = quick();
    task["webhook_url"] = receiver.url.clone().into();
    let id = server.submit("/api/tasks", &task);
    server.wait_done(&id);
    receiver.wait(1);
    let printed = loop {
        let printed = String::from_utf8(server.get("/metrics").bytes).unwrap();
        if printed.contains("enlarger_webhooks_total") {
            break printed;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let metrics = words(&printed, "enlarger_", char::is_ascii_lowercase);
    let used = texts(&root().join("deploy"));
    let used = words(&used, "enlarger_", char::is_ascii_lowercase);
    assert!(used.len() > 5, "{used:?}");
    // Those of GPUs are there where a GPU is: gpus.rs looks at them.
    for name in used.iter().filter(|name| !name.starts_with("enlarger_gpu_")) {
        assert!(metrics.contains(name), "{name} is not among {metrics:?}");
    }
    let names_after = |comment| -> BTreeSet<&str> {
        let lines = printed.lines().filter_map(|line| line.strip_prefix(comment));
        lines.filter_map(|line| line.split_once(' ')).map(|(name, _)| name).collect()
    };
    let all = names_after("# TYPE ");
    assert_eq!(names_after("# HELP "), all, "each is explained");
    for name in all {
        assert!(used.iter().any(|used| used.starts_with(name)), "the dashboard does not show {name}");
    }
}
