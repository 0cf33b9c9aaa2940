//! The list of promises is true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a name begins as those of tests of a promise do: `p7_` or `promise_7_`.
fn is_numbered(name: &str) -> bool {
    let rest = name.strip_prefix("promise_").or_else(|| name.strip_prefix('p')).unwrap_or_default();
    rest.split_once('_').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

#[test]
fn each_promise_names_its_tests_and_no_test_of_a_promise_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for krate in fs::read_dir(root.join("crates")).expect("there are crates").flatten() {
        sources(&krate.path().join("tests"), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).expect("a source")).collect();
    let tests: BTreeSet<&str> =
        text.split("fn ").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name).collect();
    let page = fs::read_to_string(root.join("docs/reference/promises.md")).expect("the page is there");
    let listed: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .collect();
    let unknown: Vec<_> = listed.difference(&tests).collect();
    assert!(unknown.is_empty(), "docs/reference/promises.md names what is not a test: {unknown:?}");
    let missing: Vec<_> = tests.iter().filter(|name| is_numbered(name) && !listed.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/reference/promises.md leaves out {missing:?}");
    assert!(listed.len() > 40, "{listed:?}");
}
