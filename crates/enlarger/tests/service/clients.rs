//! Clients from the registries, unmodified, against the real server. `make test` installs them.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::*;

fn run(server: &Server, program: &str, script: &str) -> Value {
    let picture = server.dir().join("photo.png");
    std::fs::write(&picture, photo(64, 48)).unwrap();
    let script = root().join("tests/clients").join(script);
    let said = Command::new(program)
        .arg(script)
        .arg(picture)
        .env("COMFY_ROUTER_BASE_URL", server.url(""))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs what the tests need"));
    assert!(said.status.success(), "{}\n{}", String::from_utf8_lossy(&said.stderr), server.log());
    serde_json::from_slice(&said.stdout).expect("JSON")
}

#[test]
fn comfys_python_client_runs_queues_and_shows_our_refusals() {
    let said = run(&Server::start(&[]), "python3", "comfy_sdk_client.py");
    let refusal = said["refusal"].as_str().unwrap_or_default();
    assert!(refusal.contains("scale_factor must be an integer between 2 and 16"), "{said}");
    assert_eq!((&said["status"], &said["queued"]), (&json!("COMPLETED"), &json!("COMPLETED")));
    assert_eq!((&said["width"], &said["height"]), (&json!(128), &json!(96)));
}

#[test]
fn comfys_typescript_client_runs_and_shows_our_refusals() {
    let said = run(&Server::start(&[]), "node", "comfyorg_sdk_client.mjs");
    let refusal = said["refusal"].as_str().unwrap_or_default();
    assert!(refusal.contains("scale_factor must be an integer between 2 and 16"), "{said}");
    assert_eq!(said["status"], "COMPLETED");
    assert_eq!((&said["width"], &said["height"]), (&json!(128), &json!(96)));
    assert!(said["requestId"].as_str().is_some_and(|id| !id.is_empty()));
}

/// The examples of the documentation are programs that run.
#[test]
fn the_quick_starts_work_as_printed() {
    let server = Server::start(&[]);
    let page = std::fs::read_to_string(root().join("docs/guides/api.md")).expect("docs/guides/api.md");
    let folder = server.dir().join("quick");
    std::fs::create_dir(&folder).unwrap();
    for (language, program, flag) in
        [("sh", "bash", "-c"), ("python", "python3", "-c"), ("js", "node", "--input-type=module")]
    {
        let code = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
        let code = code.unwrap_or_else(|| panic!("an example in {language}"));
        let code = code.replace("http://127.0.0.1:7788", &server.url(""));
        std::fs::write(folder.join("photo.jpg"), photo(64, 48)).unwrap();
        let mut command = Command::new(program);
        command.arg(flag).current_dir(&folder);
        if program == "node" {
            command.args(["-e"]);
        }
        let said = command.arg(code).output().unwrap();
        assert!(said.status.success(), "{language}: {}", String::from_utf8_lossy(&said.stderr));
        let made = folder.join("larger.png");
        assert_eq!(png_size(&std::fs::read(&made).expect("larger.png")), (128, 96), "{language}");
        std::fs::remove_file(made).unwrap();
    }
}

#[test]
fn schemathesis_finds_no_server_error_and_no_answer_beside_the_specification() {
    let server = Server::start(&["--role", "api"]);
    let said = Command::new("schemathesis")
        .args(["run", &server.url("/openapi.json"), "--url", &server.url("")])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--max-examples", "12", "--generation-deterministic", "--phases", "examples,coverage,fuzzing"])
        // A stream of events does not end.
        .args(["--exclude-path", "/api/events", "--request-timeout", "30", "--no-color"])
        .current_dir(server.dir())
        .output()
        .expect("schemathesis; `make test` installs it");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    assert!(!Path::new("schemathesis-report").exists());
}
