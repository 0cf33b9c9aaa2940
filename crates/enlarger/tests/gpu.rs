//! Models on a GPU from the command line, by Mesa's software renderer, which `make test-setup` unpacks.

#![cfg(target_os = "linux")]

mod common;

#[path = "common/checkpoints.rs"]
mod checkpoints;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use assert_cmd::assert::{Assert, OutputAssertExt};
use common::{folder, folder_of, text};
use enlarger_image::{Limits, Sample, with_samples};
use serde_json::Value;

/// Mesa's software renderer and a Vulkan loader.
fn lavapipe() -> PathBuf {
    let lavapipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lavapipe");
    assert!(lavapipe.join("driver.json").exists(), "{} is missing: run `make test-setup`", lavapipe.display());
    lavapipe
}

/// The command with these drivers for Vulkan as the only ones.
fn enlarger_with(drivers: &[&Path], folder: &Path, args: &[&str]) -> Command {
    let drivers = std::env::join_paths(drivers).expect("no colons");
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).args(args).env("LD_LIBRARY_PATH", lavapipe()).env("VK_DRIVER_FILES", drivers);
    command.env("ENLARGER_DATA_DIR", folder.join("data"));
    for name in ["ENLARGER_ISA", "ENLARGER_PRECISION", "ENLARGER_GPU", "ENLARGER_GPU_MEMORY"] {
        command.env_remove(name);
    }
    command
}

fn enlarger(folder: &Path, args: &[&str]) -> Command {
    enlarger_with(&[&lavapipe().join("driver.json")], folder, args)
}

fn upscale(folder: &Path, args: &[&str]) -> Command {
    enlarger(folder, &[&["upscale", "photo.png", "--model", "animevideo-v3", "--overwrite"], args].concat())
}

fn told(assert: &Assert) -> String {
    text(&assert.get_output().stderr)
}

/// Samples in 0..=1.
fn samples(file: &Path) -> Vec<f64> {
    let bytes = fs::read(file).expect("it was made");
    let picture = enlarger_image::decode(&bytes, &Limits::default()).expect("a picture").picture;
    with_samples!(&picture.samples, samples => samples.iter().map(|s| s.to_f64()).collect())
}

#[test]
fn a_gpu_that_is_named_makes_what_the_cpu_makes() {
    let dir = folder();
    upscale(dir.path(), &["-o", "cpu.png", "--precision", "f32"]).assert().success();
    upscale(dir.path(), &["-o", "gpu.png", "--gpu", "LLVM"]).assert().success();
    let made = upscale(dir.path(), &["-o", "env.png", "--json"]).env("ENLARGER_GPU", "llvmpipe").assert().success();
    let notes: Value = serde_json::from_slice(&made.get_output().stdout).expect("JSON");
    assert!(!notes["result"]["notes"].to_string().contains("GPU"), "nothing failed: {notes}");
    let [cpu, gpu] = ["cpu.png", "gpu.png"].map(|name| samples(&dir.path().join(name)));
    let error = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / cpu.len() as f64;
    assert!(cpu.len() == gpu.len() && -10.0 * error.log10() >= 55.0, "{error}");
    assert_eq!(gpu, samples(&dir.path().join("env.png")));
    // The file says where it comes from: the same on another GPU would have other bytes.
    let note = |name| enlarger_image::provenance(&mut fs::File::open(dir.path().join(name)).expect("it was made"));
    let note = |name| note(name).expect("it can be read").expect("it has a note");
    assert!(
        note("gpu.png").contains(", on llvmpipe") && note("gpu.png").contains("(fma, Vulkan, llvmpipe"),
        "{}",
        note("gpu.png")
    );
    assert!(!note("cpu.png").contains(", on "), "{}", note("cpu.png"));
}

#[test]
fn a_checkpoint_draws_on_the_gpu_that_is_named_and_on_the_cpu_if_memory_lacks() {
    let dir = folder_of(32, 24);
    checkpoints::write(&dir.path().join("tiny.safetensors"), &checkpoints::checkpoint());
    checkpoints::write(&dir.path().join("tile.safetensors"), &checkpoints::control());
    let files = ["--checkpoint", "tiny.safetensors", "--control", "tile.safetensors"];
    let draw = |args: &[&str]| {
        let base = ["-s", "2x", "--prompt", "a wall", "--seed", "1", "--json", "--precision", "f32"];
        let made = upscale(dir.path(), &[&base[..], &files, args].concat()).assert().success();
        serde_json::from_slice::<Value>(&made.get_output().stdout).expect("JSON")["result"].clone()
    };
    draw(&["-o", "cpu.png"]);
    let made = draw(&["-o", "gpu.png", "--gpu", "llvmpipe"]);
    assert!(made["device"].as_str().is_some_and(|device| device.contains("llvmpipe")), "{made}");
    assert!(!made["notes"].to_string().contains("CPU"), "nothing failed: {made}");
    let [cpu, gpu] = ["cpu.png", "gpu.png"].map(|name| samples(&dir.path().join(name)));
    let error = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / cpu.len() as f64;
    assert!(cpu.len() == gpu.len() && -10.0 * error.log10() >= 45.0, "{error}");

    // As much as the upscaling model needs is too little to draw; what the note names is enough.
    let full = ["--precision", "f32", "--gpu", "llvmpipe", "--gpu-memory", "1"];
    let made = upscale(dir.path(), &full).assert().success();
    let number = |words: &str, before: &str| -> String {
        let (_, rest) = words.split_once(before).unwrap_or_else(|| panic!("{words}"));
        rest.chars().take_while(char::is_ascii_digit).collect()
    };
    let little = number(&told(&made), "allow it with --gpu-memory ");
    let made = draw(&["-o", "little.png", "--gpu", "llvmpipe", "--gpu-memory", &little]);
    let notes = made["notes"].to_string();
    assert!(notes.contains("the CPU draws instead of the GPU llvmpipe"), "{made}");
    // Before it runs, that is known, too.
    let explain = ["--explain", "--gpu", "llvmpipe", "--gpu-memory", &little, "--precision", "f32"];
    let said = upscale(dir.path(), &[&files[..], &explain].concat()).assert().success();
    let said = text(&said.get_output().stdout);
    assert!(
        said.contains("\ndevice    llvmpipe") && said.contains("the CPU draws instead of the GPU llvmpipe"),
        "{said}"
    );
    let enough = number(&notes, "allow it with --gpu-memory ");
    let made = draw(&["-o", "enough.png", "--gpu", "llvmpipe", "--gpu-memory", &enough]);
    assert!(!made["notes"].to_string().contains("CPU"), "{made}");
    assert_eq!(samples(&dir.path().join("enough.png")), gpu);
}

#[test]
fn what_cannot_be_had_is_a_sentence_with_a_hint() {
    let dir = folder();
    let refused = upscale(dir.path(), &["--gpu", "radeon"]).assert().code(2);
    let words = told(&refused);
    assert!(words.contains("matches \"radeon\"; there are: llvmpipe") && words.contains("hint:"), "{words}");
    let refused = upscale(dir.path(), &["--gpu", "llvmpipe", "--precision", "int16"]).assert().code(2);
    assert!(told(&refused).contains("does not support llvmpipe with int16"), "{}", told(&refused));
    for (memory, said) in [("-5", "expected a number of MB"), ("lots", "or 8GB"), ("-1GB", "a number of MB")] {
        let words = told(&upscale(dir.path(), &["--gpu", "llvmpipe", "--gpu-memory", memory]).assert().code(2));
        assert!(words.contains(said) && !words.contains("environment"), "{words}");
    }
    let words = told(&upscale(dir.path(), &["--gpu", "auto,llvmpipe"]).assert().code(2));
    assert!(words.contains("\"auto\" cannot be one of several"), "{words}");
    // A variable is named, and one that is empty counts as none.
    let wrong = upscale(dir.path(), &["--gpu", "llvmpipe"]).env("ENLARGER_GPU_MEMORY", "1 potato").assert().code(2);
    assert!(told(&wrong).contains("hint: the value is that of the environment variable ENLARGER_GPU_MEMORY"));
    let empty = upscale(dir.path(), &["-o", "x.png"]).env("ENLARGER_GPU_MEMORY", "").env("ENLARGER_GPU", "").assert();
    assert!(!told(&empty.success()).contains("GPU"));
}

#[test]
fn a_model_that_the_budget_is_too_small_for_runs_on_the_cpu_and_the_need_is_said_before() {
    let dir = folder();
    upscale(dir.path(), &["-o", "cpu.png"]).assert().success();
    let said = upscale(dir.path(), &["--explain", "--gpu", "llvmpipe", "--gpu-memory", "1"]).assert().success();
    let said = text(&said.get_output().stdout);
    let made = upscale(dir.path(), &["-o", "small.png", "--gpu", "LLVMpipe", "--gpu-memory", "1"]).assert().success();
    for words in [said, told(&made)] {
        assert!(words.contains("the CPU computes animevideo-v3 instead of the GPU llvmpipe"), "{words}");
        // The number that it names is enough.
        let (_, rest) = words.split_once("allow it with --gpu-memory ").unwrap_or_else(|| panic!("{words}"));
        let needed: String = rest.chars().take_while(char::is_ascii_digit).collect();
        assert!(words.contains(&format!("needs {needed} MB")), "{words}");
        let enough = upscale(dir.path(), &["-o", "x.png", "--gpu", "llvmpipe", "--gpu-memory", &needed]).assert();
        assert!(!told(&enough.success()).contains("CPU"));
    }
    assert_eq!(samples(&dir.path().join("cpu.png")), samples(&dir.path().join("small.png")));
}

#[test]
fn doctor_lists_gpus_and_says_why_one_is_not_used() {
    let dir = folder();
    let well = enlarger(dir.path(), &["doctor"]).assert().success();
    let words = text(&well.get_output().stdout);
    let line = words.lines().find(|line| line.starts_with("GPU")).unwrap_or_else(|| panic!("{words}"));
    assert!(line.contains("llvmpipe") && line.ends_with("imitates a GPU on the CPU; not used"), "{line}");
    let well = enlarger(dir.path(), &["doctor", "--json", "--gpu", "llvmpipe"]).assert().success();
    let report: Value = serde_json::from_slice(&well.get_output().stdout).expect("JSON");
    assert!(report["gpus"][0]["name"].as_str().is_some_and(|name| name.contains("llvmpipe")), "{report}");
    assert!(report["kernels_in_use"].as_str().is_some_and(|name| name.ends_with("f16")), "{report}");
    assert_eq!(report["self_test"]["passed"], true, "{report}");
    // One that is not there is a finding; the rest is looked at.
    let found = enlarger(dir.path(), &["doctor"]).env("ENLARGER_GPU", "radeon").assert().code(1);
    let words = text(&found.get_output().stdout);
    assert!(words.contains("FAILED: no GPU of this machine matches \"radeon\"; there are: llvmpipe"), "{words}");
    assert!(words.contains("self-test  passed"), "{words}");
}

#[test]
fn who_leaves_the_choice_to_the_program_hears_why_the_cpu_is_used() {
    let dir = folder();
    let words = told(&upscale(dir.path(), &["-o", "x.png", "--gpu", "Auto"]).assert().success());
    assert!(words.contains("note: using the CPU: llvmpipe") && words.contains("imitates a GPU"), "{words}");
    let drivers = dir.path().join("none.json");
    let lacks = enlarger_with(&[&drivers], dir.path(), &["doctor"]).assert().success();
    let words = text(&lacks.get_output().stdout);
    assert!(words.contains("VK_DRIVER_FILES names ") && words.contains("none.json, which is not there"), "{words}");
}

/// A library that runs this when it is loaded.
fn library(file: &Path, on_load: &str) {
    let new = file.with_extension("new");
    let compile = ["-shared", "-fPIC", "-x", "c", "-o"];
    let mut cc = Command::new("cc").args(compile).arg(&new).arg("-").stdin(Stdio::piped()).spawn().expect("cc");
    let head = "#define _GNU_SOURCE\n#include <stdlib.h>\n#include <stdio.h>\n#include <string.h>\n";
    let code = format!("{head}__attribute__((constructor)) static void on_load(void) {{ {on_load} }}\n");
    cc.stdin.take().expect("it is piped").write_all(code.as_bytes()).expect("cc reads");
    assert!(cc.wait().expect("cc ends").success());
    fs::rename(new, file).expect("the folder can be written");
}

/// The description of a driver whose library this is.
fn driver(folder: &Path, library: &Path) -> PathBuf {
    let driver = folder.join(library.with_extension("json").file_name().expect("a name"));
    let description = serde_json::json!({
        "file_format_version": "1.0.0",
        "ICD": { "library_path": library, "api_version": "1.1.0" },
    });
    fs::write(&driver, description.to_string()).expect("the folder can be written");
    driver
}

#[test]
fn a_driver_that_crashes_is_a_warning_and_the_cpu_is_used() {
    let dir = folder();
    let crash = dir.path().join("crash.so");
    library(&crash, "abort();");
    let driver = driver(dir.path(), &crash);
    let run = |args: &[&str]| enlarger_with(&[&driver], dir.path(), args).assert();
    let args = ["upscale", "photo.png", "--model", "animevideo-v3", "--gpu", "auto", "-o", "out.png"];
    let words = told(&run(&args).success());
    assert!(words.contains("asking the GPU drivers failed (signal: 6") && words.contains("using the CPU"), "{words}");
    assert!(dir.path().join("out.png").exists());
    assert!(text(&run(&["doctor"]).success().get_output().stdout).contains("asking the GPU drivers failed"));
    // A GPU that is named is not replaced silently.
    let words = told(&run(&["upscale", "photo.png", "--gpu", "llvmpipe"]).code(2));
    assert!(words.contains("asking the GPU drivers failed") && words.contains("--gpu none"), "{words}");
    // What needs no GPU loads no driver.
    run(&["models", "list"]).success();
    run(&["upscale", "photo.png", "--explain"]).success();
}

#[test]
fn a_vulkan_loader_that_crashes_or_cannot_be_loaded_leaves_the_cpu() {
    let dir = folder();
    let loaders = dir.path().join("loaders");
    fs::create_dir(&loaders).expect("it can be made");
    let loader = loaders.join("libvulkan.so.1");
    let args = ["upscale", "photo.png", "--model", "animevideo-v3", "--overwrite", "-o", "out.png", "--gpu"];
    let run = |gpu: &str| enlarger(dir.path(), &[&args[..], &[gpu]].concat()).env("LD_LIBRARY_PATH", &loaders).assert();
    library(&loader, "abort();");
    assert!(told(&run("auto").success()).contains("asking the GPU drivers failed (signal: 6"));
    assert!(told(&run("llvmpipe").code(2)).contains("asking the GPU drivers failed"));
    // As where there is none.
    fs::write(&loader, "").expect("it can be written");
    let words = told(&run("all").success());
    assert!(words.contains("using the CPU: no driver offers a GPU; the Vulkan loader cannot be loaded: "), "{words}");
    let words = told(&run("llvmpipe").code(2));
    assert!(
        words.contains("no GPU of this machine matches \"llvmpipe\"; no driver offers one; the Vulkan loader"),
        "{words}"
    );
}

/// A second driver is there from the first start on, and its library later. The first start finds out what there is, in a process
/// of its own; the next ones know.
#[test]
fn a_gpu_that_was_used_before_is_opened_at_once() {
    let dir = folder();
    let other = dir.path().join("other.so");
    let drivers = [lavapipe().join("driver.json"), driver(dir.path(), &other)];
    let run = |args: &[&str]| {
        let args = [&["upscale", "photo.png", "--model", "animevideo-v3", "--overwrite", "--gpu", "llvmpipe"], args];
        let mut command = enlarger_with(&[&drivers[0], &drivers[1]], dir.path(), &args.concat());
        command.output().expect("it starts")
    };
    let made = run(&["-o", "first.png"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let remembered = || fs::read(dir.path().join("data/gpus.json"));
    let known: Value = serde_json::from_slice(&remembered().expect("it remembers")).expect("JSON");
    let proofs = known["proofs"].as_object().expect("by card").values().next().expect("a card").as_array();
    assert!(proofs.is_some_and(|proofs| !proofs.is_empty()), "{known}");

    // No process is asked.
    library(
        &other,
        "char line[4096] = \"\"; FILE *file = fopen(\"/proc/self/cmdline\", \"r\"); size_t size = fread(line, 1, 4095, file); \
         if (memmem(line, size, \"survey-gpus\", 11)) abort();",
    );
    let made = run(&["-o", "again.png"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(samples(&dir.path().join("first.png")), samples(&dir.path().join("again.png")));
    assert_eq!(serde_json::from_slice::<Value>(&remembered().expect("it remembers")).expect("JSON"), known);

    // A driver that begins to crash ends one process, after which others are asked first again.
    library(&other, "abort();");
    let crashed = run(&["-o", "crashed.png"]);
    assert_eq!(crashed.status.code(), None, "{}", text(&crashed.stderr));
    assert!(remembered().is_err());
    let refused = run(&["-o", "crashed.png"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("asking the GPU drivers failed"), "{}", text(&refused.stderr));

    // And what cannot be read is not believed.
    fs::remove_file(&other).expect("it is there");
    fs::write(dir.path().join("data/gpus.json"), "{\"of\": []").expect("it can be written");
    let made = run(&["-o", "last.png"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
}

#[test]
fn two_gpus_of_one_name_are_told_apart_and_share_a_batch() {
    let dir = folder();
    let copy = dir.path().join("copy.so");
    fs::copy(lavapipe().join("libvulkan_lvp.so"), &copy).expect("it can be copied");
    let drivers = [lavapipe().join("driver.json"), driver(dir.path(), &copy)];
    let run = |gpu: &str| {
        fs::copy(dir.path().join("photo.png"), dir.path().join("other.png")).expect("it can be copied");
        let args = ["upscale", "photo.png", "other.png", "--model", "animevideo-v3", "--overwrite", "--json"];
        let args = [&args[..], &["-o", "results/", "--gpu", gpu]].concat();
        enlarger_with(&[&drivers[0], &drivers[1]], dir.path(), &args).assert()
    };
    let words = told(&run("llvmpipe").code(2));
    assert!(
        words.contains("2 GPUs of this machine match \"llvmpipe\": llvmpipe") && words.contains("hint:"),
        "{words}"
    );
    let made = run("#1, #2").success();
    let lines = text(&made.get_output().stdout);
    let devices: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["result"]["device"].clone())
        .collect();
    let used = |number: &str| devices.iter().filter(|name| name.to_string().contains(number)).count();
    assert_eq!((devices.len(), used("#1"), used("#2")), (2, 1, 1), "{lines}");
}
