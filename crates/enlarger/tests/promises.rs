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

/// The names in all uses of a macro that makes tests of a list.
fn made_by<'a>(text: &'a str, beginning: &str, end: char) -> BTreeSet<&'a str> {
    let uses = text.split(beginning).skip(1).filter_map(|rest| rest.split_once(end));
    uses.flat_map(|(list, _)| list.split(|c: char| !(c.is_alphanumeric() || c == '_'))).collect()
}

#[test]
fn each_promise_names_its_tests_and_no_test_of_a_promise_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for krate in fs::read_dir(root.join("crates")).expect("there are crates").flatten() {
        sources(&krate.path().join("tests"), &mut files);
    }
    let text: String = files.iter().map(|file| read(file)).collect();
    let names = |text: &str| -> BTreeSet<String> {
        let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
        functions.map(|(name, _)| name.to_owned()).collect()
    };
    let tests = names(&text);
    let store = |file: &str| read(&root.join("crates/enlarger-tasks/tests").join(file));
    let suites = [store("conformance/mod.rs"), store("crash/mod.rs")];
    let suites = [made_by(&suites[0], "conformance!(", ')'), made_by(&suites[1], "crash!(", ')')];
    let on_both: BTreeSet<_> = suites.into_iter().flatten().chain(made_by(&text, "on_both! {", '}')).collect();

    let page = read(&root.join("docs/reference/promises.md"));
    let mut listed = BTreeSet::new();
    let mut promises = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        promises += 1;
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().expect("three cells");
        let mut proved = BTreeSet::new();
        for group in cell.split("; ") {
            let (place, group) = group.split_once(": ").unwrap_or_else(|| panic!("no place: {group}"));
            for name in group.split('`').skip(1).step_by(2) {
                assert!(tests.contains(name), "docs/reference/promises.md names what is not a test: {name}");
                let twice = on_both.contains(name);
                assert_eq!(twice, place == "both", "{name} runs on {}", if twice { "both" } else { "one" });
                proved.insert(place);
                listed.insert(name.to_owned());
            }
        }
        let everywhere = proved.contains("both") || (proved.contains("SQLite") && proved.contains("PostgreSQL"));
        assert!(everywhere, "not proved on both: {row}");
    }
    assert_eq!(promises, 21, "all of them");
    let missing: Vec<_> = tests.iter().filter(|name| is_numbered(name) && !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/reference/promises.md leaves out {missing:?}");
}
