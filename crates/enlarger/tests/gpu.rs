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

/// The command with this driver for Vulkan as the only one.
fn enlarger_with(driver: &Path, folder: &Path, args: &[&str]) -> Command {
    let lavapipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lavapipe");
    assert!(lavapipe.join("driver.json").exists(), "{} is missing: run `make test-setup`", lavapipe.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_enlarger"));
    command.current_dir(folder).args(args).env("LD_LIBRARY_PATH", &lavapipe).env("VK_DRIVER_FILES", driver);
    for name in ["ENLARGER_ISA", "ENLARGER_PRECISION", "ENLARGER_GPU", "ENLARGER_GPU_MEMORY"] {
        command.env_remove(name);
    }
    command
}

fn enlarger(folder: &Path, args: &[&str]) -> Command {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/lavapipe/driver.json");
    enlarger_with(&driver, folder, args)
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
    let refused = upscale(dir.path(), &full).assert().code(1);
    let number = |words: &str, before: &str| -> String {
        let (_, rest) = words.split_once(before).unwrap_or_else(|| panic!("{words}"));
        rest.chars().take_while(char::is_ascii_digit).collect()
    };
    let little = number(&told(&refused), "allow it with --gpu-memory ");
    let made = draw(&["-o", "little.png", "--gpu", "llvmpipe", "--gpu-memory", &little]);
    let notes = made["notes"].to_string();
    assert!(notes.contains("the CPU draws instead of the GPU llvmpipe"), "{made}");
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
    // The number that it names is enough.
    let refused = upscale(dir.path(), &["--gpu", "llvmpipe", "--gpu-memory", "1"]).assert().code(1);
    let words = told(&refused);
    let (_, rest) = words.split_once("allow it with --gpu-memory ").unwrap_or_else(|| panic!("{words}"));
    let needed: String = rest.chars().take_while(char::is_ascii_digit).collect();
    assert!(words.contains(&format!("needs {needed} MB")), "{words}");
    upscale(dir.path(), &["--gpu", "llvmpipe", "--gpu-memory", &needed]).assert().success();
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
}

/// A library that ends the process when it is loaded, as a driver; returns its description.
fn crashing_driver(folder: &Path) -> PathBuf {
    let (library, driver) = (folder.join("crash.so"), folder.join("crash.json"));
    let compile = ["-shared", "-fPIC", "-x", "c", "-o"];
    let mut cc = Command::new("cc").args(compile).arg(&library).arg("-").stdin(Stdio::piped()).spawn().expect("cc");
    let code = b"#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n";
    cc.stdin.take().expect("it is piped").write_all(code).expect("cc reads");
    assert!(cc.wait().expect("cc ends").success());
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
    let driver = crashing_driver(dir.path());
    let args = ["upscale", "photo.png", "--model", "animevideo-v3", "--gpu", "auto", "-o", "out.png"];
    let made = enlarger_with(&driver, dir.path(), &args).assert().success();
    let words = told(&made);
    assert!(words.contains("asking the GPU drivers failed (signal: 6") && words.contains("using the CPU"), "{words}");
    assert!(dir.path().join("out.png").exists());
    let well = enlarger_with(&driver, dir.path(), &["doctor"]).assert().success();
    assert!(text(&well.get_output().stdout).contains("asking the GPU drivers failed"));
    // What needs no GPU loads no driver.
    enlarger_with(&driver, dir.path(), &["models", "list"]).assert().success();
    enlarger_with(&driver, dir.path(), &["upscale", "photo.png", "--explain"]).assert().success();
}
