//! Jobs on GPUs: Mesa's software renderer, which `make test-setup` unpacks, twice.

use std::fs;

use serde_json::{Value, json};

use crate::{
    checkpoints,
    harness::{Server, base64, photo, root},
};

/// Makes it the only driver for Vulkan of what this process starts, under two names.
fn two_gpus(folder: &std::path::Path) {
    let lavapipe = root().join(".tools/lavapipe");
    let driver = fs::read_to_string(lavapipe.join("driver.json")).expect("`make test-setup` unpacks it");
    let mut other: Value = serde_json::from_str(&driver).expect("JSON");
    let copy = folder.join("copy.so");
    fs::copy(lavapipe.join("libvulkan_lvp.so"), &copy).expect("it can be copied");
    other["ICD"]["library_path"] = json!(copy);
    fs::write(folder.join("copy.json"), other.to_string()).expect("it can be written");
    let drivers = std::env::join_paths([lavapipe.join("driver.json"), folder.join("copy.json")]).expect("no colons");
    // SAFETY: nothing else runs in this process yet (nextest).
    unsafe {
        std::env::set_var("VK_DRIVER_FILES", drivers);
        std::env::set_var("LD_LIBRARY_PATH", lavapipe);
    }
}

#[test]
fn a_server_runs_jobs_on_several_gpus_and_the_cpu_and_says_how_they_do() {
    let folder = tempfile::tempdir().expect("a folder");
    two_gpus(folder.path());
    let server = Server::start(&["--gpu", "#1,#2", "--cpu-beside-gpu", "--gpu-jobs", "3"]);
    let devices = || server.get("/api/status").json()["machine"]["devices"].clone();
    let before = devices();
    assert_eq!(before.as_array().map(Vec::len), Some(3), "{before}");
    for (at, slots) in [(0, 3), (1, 3), (2, 1)] {
        assert_eq!((before[at]["slots"].as_u64(), before[at]["running"].as_u64()), (Some(slots), Some(0)), "{before}");
        assert_eq!(before[at]["gpu"].is_null(), at == 2, "{before}");
    }
    let gpu = &before[0]["gpu"];
    assert!(gpu["driver"].as_str().is_some_and(|driver| driver.starts_with("Vulkan, llvmpipe")), "{before}");
    assert!(gpu["in_use"] == true && gpu["gflops"].is_null() && gpu["losses"] == 0, "{before}");

    let picture = base64(&photo(96, 96));
    let job = json!({ "image": picture, "name": "gpu.png", "request": { "model": "animevideo-v3" } });
    let tasks: Vec<String> = (0..3).map(|_| server.submit("/api/tasks", &job)).collect();
    let mut used: Vec<String> = tasks.iter().map(|id| server.wait_done(id)["device"].to_string()).collect();
    used.sort();
    used.dedup();
    assert!(used.iter().filter(|device| device.contains("llvmpipe")).count() >= 1, "{used:?}");
    let after = devices();
    assert!(after.to_string().contains("gflops\":") && after[0]["gpu"]["fallbacks"] == 0, "{after}");
    let metrics = String::from_utf8(server.get("/metrics").bytes).expect("text");
    assert!(metrics.contains("enlarger_gpu_losses_total{lane=\"0\",device=\"llvmpipe"), "{metrics}");
    assert!(metrics.contains("enlarger_device_slots{lane=\"2\""), "{metrics}");
    let dashboard = std::fs::read_to_string(crate::harness::root().join("deploy/grafana.json")).expect("there is one");
    let shown = dashboard.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    for name in shown.filter(|word| word.starts_with("enlarger_gpu_")) {
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} is not among {metrics}");
    }
}

#[test]
fn a_server_counts_when_the_cpu_draws_in_place_of_a_gpu() {
    let folder = tempfile::tempdir().expect("a folder");
    two_gpus(folder.path());
    checkpoints::write(&folder.path().join("models/tiny.safetensors"), &checkpoints::checkpoint());
    fs::write(folder.path().join("photo.png"), photo(24, 16)).expect("it can be written");
    // As much as the upscaling model needs is too little to draw.
    let args = ["upscale", "photo.png", "--model", "animevideo-v3", "--gpu", "#1", "--gpu-memory", "1"];
    let made = crate::harness::binary().args(args).current_dir(folder.path()).output().expect("it ends");
    let words = String::from_utf8_lossy(&made.stderr);
    let (_, needed) = words.split_once("allow it with --gpu-memory ").unwrap_or_else(|| panic!("{words}"));
    let needed: String = needed.chars().take_while(char::is_ascii_digit).collect();

    let models = folder.path().join("models");
    let models = models.to_str().expect("a path of letters");
    let server = Server::start(&["--gpu", "#1", "--gpu-memory", &needed, "--model-dirs", models]);
    let request = json!({ "model": "animevideo-v3", "size": { "factor": 2.0 }, "look": { "mode": "creative" },
        "generative": { "checkpoint": "tiny" } });
    let id = server.submit("/api/tasks", &json!({ "image": base64(&photo(24, 16)), "request": request }));
    let task = server.wait_done(&id);
    assert!(task.to_string().contains("the CPU draws instead of the GPU"), "{task}");
    let gpu = server.get("/api/status").json()["machine"]["devices"][0]["gpu"].clone();
    assert_eq!(gpu["fallbacks"], 1, "{gpu}");
    assert!(gpu["trouble"].as_str().is_some_and(|why| why.contains("--gpu-memory")), "{gpu}");
    let metrics = String::from_utf8(server.get("/metrics").bytes).expect("text");
    let counted = metrics.lines().find(|line| line.starts_with("enlarger_gpu_fallbacks_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[test]
fn a_job_does_not_fail_where_the_gpus_memory_is_too_small_for_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    two_gpus(folder.path());
    let server = Server::start(&["--gpu", "#1", "--gpu-memory", "1"]);
    let job = json!({ "image": base64(&photo(24, 16)), "request": { "model": "animevideo-v3" } });
    let task = server.wait_done(&server.submit("/api/tasks", &job));
    assert!(task.to_string().contains("the CPU computes animevideo-v3 instead of the GPU llvmpipe"), "{task}");
}

#[test]
fn a_server_refuses_a_gpu_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    two_gpus(folder.path());
    let args = ["serve", "--listen", "127.0.0.1:0", "--gpu", "radeon", "--data-dir"];
    let refused = crate::harness::binary().args(args).arg(folder.path()).output().expect("it ends");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains("matches \"radeon\"; there are: llvmpipe") && words.contains("hint:"), "{words}");
}
