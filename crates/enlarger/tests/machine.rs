//! How commands use the machine: threads, tiles, precision, instruction sets, memory and speed.

mod common;

use std::{fs, path::Path, process::Command};

use assert_cmd::assert::{Assert, OutputAssertExt};
use common::{folder, text};
use serde_json::Value;

fn enlarger(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).args(args);
    for name in ["ENLARGER_ISA", "ENLARGER_PRECISION", "ENLARGER_THREADS"] {
        command.env_remove(name);
    }
    command
}

/// By the fast network: what these tests prove does not depend on it.
fn upscale(folder: &Path, args: &[&str]) -> Command {
    enlarger(folder, &[&["upscale", "photo.png", "--model", "animevideo-v3", "--overwrite"], args].concat())
}

fn told(assert: &Assert) -> String {
    text(&assert.get_output().stderr)
}

fn json(assert: &Assert) -> Value {
    serde_json::from_slice(&assert.get_output().stdout).expect("JSON on standard output")
}

#[test]
fn no_threads_are_refused_with_a_hint() {
    let dir = folder();
    let refused = upscale(dir.path(), &["--threads", "0"]).assert().code(2);
    let words = told(&refused);
    assert!(words.contains("expected a number of at least 1") && words.contains("hint: leave it out"), "{words}");
}

#[test]
fn more_threads_than_cores_work_with_a_warning_and_give_the_same_bytes() {
    let dir = folder();
    let made = upscale(dir.path(), &["--threads", "5000", "-o", "many.png"]).assert().success();
    assert!(told(&made).contains("instead of 5000"), "{}", told(&made));
    let made = upscale(dir.path(), &["--threads", "1", "-o", "one.png"]).assert().success();
    assert!(!told(&made).contains("warning"), "{}", told(&made));
    let bytes = |name: &str| fs::read(dir.path().join(name)).expect("it was made");
    assert_eq!(bytes("many.png"), bytes("one.png"));
}

#[test]
fn a_strip_wider_than_the_picture_is_the_whole_picture_under_both_names_of_the_flag() {
    let dir = folder();
    upscale(dir.path(), &["-o", "whole.png"]).assert().success();
    let bytes = |name: &str| fs::read(dir.path().join(name)).expect("it was made");
    for flag in ["--tile", "--strip-width"] {
        upscale(dir.path(), &[flag, "4096", "-o", "strip.png"]).assert().success();
        assert_eq!(bytes("whole.png"), bytes("strip.png"), "{flag}");
    }
}

#[test]
fn f32_works_everywhere_and_a_precision_that_is_not_there_is_refused_with_a_hint() {
    let dir = folder();
    upscale(dir.path(), &["--precision", "f32"]).assert().success();
    let refused = upscale(dir.path(), &["--precision", "bf16"]).env("ENLARGER_ISA", "portable").assert().code(2);
    assert!(told(&refused).contains("does not support") && told(&refused).contains("hint:"), "{}", told(&refused));
    let unknown = upscale(dir.path(), &["--precision", "f64"]).assert().code(2);
    assert!(told(&unknown).contains("bf16"), "{}", told(&unknown));
    // The service says so at its start, before it listens.
    let data = dir.path().join("data");
    let serve = ["serve", "--precision", "bf16", "--data-dir", data.to_str().expect("a UTF-8 path"), "--listen"];
    let refused =
        enlarger(dir.path(), &[&serve[..], &["127.0.0.1:0"]].concat()).env("ENLARGER_ISA", "portable").assert();
    assert!(told(&refused.code(2)).contains("does not support"));
}

#[test]
fn doctor_says_that_the_portable_path_is_in_use_and_slow() {
    let dir = folder();
    let well = enlarger(dir.path(), &["doctor"]).env("ENLARGER_ISA", "portable").assert().success();
    let words = text(&well.get_output().stdout);
    assert!(words.contains("in use: portable f32") && words.contains("everything works, but slowly"), "{words}");
    assert!(words.contains("self-test  passed"), "{words}");
    let well = enlarger(dir.path(), &["doctor", "--json"]).env("ENLARGER_ISA", "portable").assert().success();
    assert_eq!(json(&well)["kernels_in_use"], "portable f32");
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused_with_a_hint() {
    let dir = folder();
    // No processor has all of them: AMX is Intel's, and other architectures have none.
    let report = json(&enlarger(dir.path(), &["doctor", "--json"]).assert().success());
    let there = report["kernels"].to_string().to_lowercase().replace('-', "");
    for isa in ["avx2", "avx512", "amx"] {
        let doctor = enlarger(dir.path(), &["doctor"]).env("ENLARGER_ISA", isa).assert();
        if there.contains(isa) {
            assert!(!told(&doctor).contains("does not support"), "{isa}: {}", told(&doctor));
        } else {
            let words = told(&doctor.code(2));
            assert!(words.contains("does not support") && words.contains("hint:"), "{isa}: {words}");
        }
    }
    let unknown = enlarger(dir.path(), &["doctor"]).env("ENLARGER_ISA", "sse9").assert().code(2);
    assert!(told(&unknown).contains("portable"), "{}", told(&unknown));
}

/// The result takes 576 MB, and the process may have 450 in all.
#[cfg(unix)]
#[test]
fn a_result_that_finds_no_room_is_a_sentence_with_a_hint_and_never_an_abort() {
    use enlarger_image::{Channels, EncodeOptions, Metadata, Picture, Samples};
    let dir = folder();
    let (width, height) = (4000, 3000);
    let samples = Samples::U8(vec![99; (width * height * 3) as usize]);
    let picture = Picture { width, height, channels: Channels::Rgb, samples, metadata: Metadata::default() };
    let mut file = fs::File::create(dir.path().join("large.png")).expect("the folder can be written");
    enlarger_image::encode(&picture, &EncodeOptions::default(), &mut file).expect("it can be encoded");
    let line = format!("ulimit -v {}; exec \"$0\" \"$@\"", 450 << 10);
    let args = ["upscale", "large.png", "-m", "animevideo-v3", "-s", "4x", "-t", "1", "-o", "out.png"];
    let mut command = Command::new("sh");
    command.current_dir(dir.path()).args(["-c", &line, env!("CARGO_BIN_EXE_enlarger")]).args(args);
    let ended = command.assert().code(1);
    let words = told(&ended);
    assert!(words.contains("not enough memory") && words.contains("hint:"), "{words}");
    assert!(!dir.path().join("out.png").exists());
}

#[test]
fn bench_tells_speed_arithmetic_and_memory_of_a_network() {
    let dir = folder();
    let bench = ["bench", "--model", "animevideo-v3", "--size", "64"];
    let report = json(&enlarger(dir.path(), &[&bench[..], &["--json"]].concat()).assert().success());
    let runs = report["runs"].as_array().expect("runs");
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let threads: Vec<u64> = runs.iter().filter_map(|run| run["threads"].as_u64()).collect();
    assert_eq!(threads, if cores == 1 { vec![1] } else { vec![1, cores] });
    for run in runs {
        assert_eq!((run["model"].as_str(), run["side"].as_u64()), (Some("animevideo-v3"), Some(64)));
        for name in ["seconds", "megapixels_per_second", "gflops", "share_of_f32_peak"] {
            assert!(run[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {run}");
        }
        // 9 taps of 3 to 64 channels, 16 times 64 to 64, 64 to 48, two operations each, for 16 pixels.
        let by_hand = 2.0 * 9.0 * (3 * 64 + 16 * 64 * 64 + 64 * 48) as f64 / 16.0 / 1e3;
        let gflop = run["gflop_per_megapixel"].as_f64().expect("a number");
        assert!((gflop - by_hand).abs() < 1e-9, "{gflop} is not {by_hand}");
        assert!(!cfg!(target_os = "linux") || run["peak_memory_mb"].as_u64().is_some_and(|mb| mb > 0), "{run}");
    }
    assert!(report["cpu"].is_string() && report["features"].is_array() && report["kernel"].is_string(), "{report}");

    let table = enlarger(dir.path(), &[&bench[..], &["--threads", "1"]].concat()).assert().success();
    assert!(told(&table).contains("[1/1] animevideo-v3, 1 thread"), "progress is told: {}", told(&table));
    let words = text(&table.get_output().stdout);
    let heading = words.lines().find(|line| line.starts_with("model")).expect("a heading");
    for column in ["input", "threads", "MP/s out", "GFLOP/s", "of f32 peak", "memory, MB"] {
        assert!(heading.contains(column), "{column} is missing:\n{words}");
    }
    assert!(words.contains("f32 peak") && words.contains("64x64"), "{words}");
}

#[test]
fn bench_refuses_an_unknown_network_and_names_what_comes_near() {
    let dir = folder();
    let refused = enlarger(dir.path(), &["bench", "--model", "x4pluss"]).assert().code(2);
    assert!(told(&refused).contains("did you mean x4plus?"), "{}", told(&refused));
}

#[test]
fn each_quality_is_explained_with_its_own_plan_and_cost() {
    let dir = folder();
    let explain = |flags: &[&str]| {
        let args = [&["upscale", "photo.png", "--explain", "--json"], flags].concat();
        json(&enlarger(dir.path(), &args).assert().success())
    };
    let best = explain(&[]);
    assert_eq!(explain(&["--quality", "best"])["plan"], best["plan"], "it is the default");
    let draft = explain(&["--draft"]);
    assert_eq!(explain(&["--quality", "draft"])["plan"], draft["plan"], "--draft is its short form");
    let fast = explain(&["--quality", "fast"]);
    assert!(fast["plan"]["notes"].to_string().contains("fast: only animevideo-v3 is used"), "{fast}");
    assert!(fast["plan"]["halo"].is_null() && draft["plan"]["halo"].is_u64(), "{fast} {draft}");
    let seconds = |explained: &Value| explained["estimate"]["seconds"].as_f64().expect("a number");
    assert!(seconds(&fast) < seconds(&best), "{fast} {best}");
}

#[test]
fn a_wrong_quality_is_refused_with_the_ones_there_are() {
    let dir = folder();
    for (flags, words) in [
        (&["--quality", "good"][..], &["draft, fast, best"][..]),
        (&["--quality", "90"], &["draft, fast, best", "to set the quality of a JPEG, WebP or AVIF file, use -q N"]),
        (&["--quality", ""], &["draft, fast, best"]),
        (&["--quality", "fast", "--draft"], &["--draft", "cannot be used with", "--quality"]),
    ] {
        let refused = enlarger(dir.path(), &[&["upscale", "photo.png"], flags].concat()).assert().code(2);
        for word in words {
            assert!(told(&refused).contains(word), "{flags:?}: {}", told(&refused));
        }
    }
}

#[test]
fn a_draft_is_made_by_the_smallest_network_and_has_the_size_asked_for() {
    let dir = folder();
    let args =
        ["upscale", "photo.png", "--draft", "--model", "x4plus", "--hdr", "5", "-s", "3x", "--json", "-o", "out.png"];
    let made = json(&enlarger(dir.path(), &args).assert().success());
    let result = &made["result"];
    assert_eq!((result["width"].as_u64(), result["height"].as_u64()), (Some(288), Some(216)));
    let plan = &result["plan"];
    assert_eq!(plan["steps"][0]["model"], "animevideo-v3");
    assert!(plan["steps"].to_string().contains("tone"), "the knobs apply: {plan}");
    assert!(plan["notes"].to_string().contains("draft: animevideo-v3"), "{plan}");
    assert!(plan["halo"].as_u64().is_some_and(|halo| halo < 18), "less than the network's own: {plan}");
}
