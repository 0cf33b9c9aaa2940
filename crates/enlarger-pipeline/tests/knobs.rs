//! The page's sliders and the table in the documentation are those of the knobs. `UPDATE=1` writes both again.

use std::{fmt::Write as _, fs, path::Path};

use enlarger_pipeline::{Creative, Knobs, Precision};

/// Fails if a file's text is not this one.
fn is(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).expect("the file can be written");
    }
    let found = fs::read_to_string(&path).expect("the file is there");
    assert!(found == wanted, "{file} is old: run make specification");
}

#[test]
fn the_pages_sliders_are_the_knobs() {
    fn rows<F: Knobs>() -> String {
        let mut rows = String::new();
        for knob in F::KNOBS {
            let (least, most) = (knob.range.start(), knob.range.end());
            let (title, help) = (quoted(knob.title), quoted(knob.help));
            let numbers = format!("min: {least}, max: {most}, default: {}", knob.default);
            writeln!(rows, "    {{ name: '{}', title: {title}, help: {help}, {numbers} }},", knob.name).expect("text");
        }
        rows
    }
    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }
    let module = format!(
        "/** The knobs of `crates/enlarger-pipeline/src/request.rs`; `make specification` writes this file. */\n\
         export const KNOBS = {{\n  creative: [\n{}  ],\n  precision: [\n{}  ],\n}} as const;\n",
        rows::<Creative>(),
        rows::<Precision>(),
    );
    is("web/src/knobs.ts", &module);
}

#[test]
fn the_documentation_lists_the_knobs() {
    const MARKS: [&str; 2] = ["<!-- knobs:begin -->\n", "<!-- knobs:end -->"];
    fn rows<F: Knobs>(family: &str) -> String {
        let row = |knob: &enlarger_pipeline::Knob<F>| {
            let (least, most) = (knob.range.start(), knob.range.end());
            format!("| `{}` | {family} | {least} to {most} | {} | {} |\n", knob.name, knob.default, knob.help)
        };
        F::KNOBS.iter().map(row).collect()
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/knobs.md");
    let page = fs::read_to_string(file).expect("the page is there");
    let (before, rest) = page.split_once(MARKS[0]).expect("a place for the table");
    let (_, after) = rest.split_once(MARKS[1]).expect("the table's end");
    let table = format!(
        "| setting | style | range | default | effect |\n|---|---|---|---|---|\n{}{}",
        rows::<Creative>("creative"),
        rows::<Precision>("precision"),
    );
    is("docs/reference/knobs.md", &format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]));
}
