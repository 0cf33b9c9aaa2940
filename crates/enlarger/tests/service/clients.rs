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
        .arg(server.url(""))
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

#[test]
fn a_client_of_a1111_enlarges_and_shows_our_refusals() {
    let said = run(&Server::start(&[]), "python3", "webuiapi_client.py");
    assert_eq!((&said["by_factor"], &said["to_size"]), (&json!([128, 96]), &json!([100, 100])));
    assert!(said["upscalers"].as_array().unwrap().contains(&json!("x4plus")), "{said}");
    assert!(said["refusal"].as_str().unwrap().contains("there is no model named"), "{said}");
}

#[test]
fn the_nodes_for_comfyui_enlarge_with_progress_refuse_in_sentences_and_cancel() {
    let said = run(&Server::start(&[]), "python3", "comfyui_node.py");
    assert_eq!((&said["batch"], &said["precise"]), (&json!([2, 96, 128, 3]), &json!([1, 72, 96, 3])));
    assert!(said["type"] == "float32" && said["deviation"].as_f64().unwrap() < 0.05, "the same image, larger: {said}");
    assert_eq!(said["progress"], json!([true, true]), "never backwards, and to the end");
    let refusals: Vec<&str> = said["refusals"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    let expected =
        ["there is no model named \"nosuch\". Hint: ", "cannot reach enlarger at", "'nonsense' is not a URL"];
    assert_eq!(refusals.len(), expected.len(), "{refusals:?}");
    assert!(refusals.iter().zip(expected).all(|(refusal, expected)| refusal.contains(expected)), "{refusals:?}");
    assert_eq!((&said["raised"], &said["statuses"][0]), (&json!("Interrupted"), &json!("CANCELLED")));
}

/// With the types of the page, which `make specification` generates as docs/guides/api.md says.
#[test]
fn the_documented_request_compiles_with_generated_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = std::fs::read_to_string(root().join("docs/guides/api.md")).expect("docs/guides/api.md");
    let example = page.split("```ts\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its example");
    std::fs::copy(root().join("web/src/types.ts"), folder.path().join("enlarger.ts")).unwrap();
    let compiles = |example: &str| {
        std::fs::write(folder.path().join("example.ts"), example).unwrap();
        let compiler =
            root().join("web/generator/node_modules/.bin/tsc").canonicalize().expect("`make web` installs it");
        let said =
            Command::new(compiler).args(["--noEmit", "--strict", "example.ts"]).current_dir(folder.path()).output();
        said.expect("the compiler runs").status.success()
    };
    assert!(compiles(example), "{example}");
    assert!(!compiles(&example.replace("factor", "scale")), "the types are there");
}

#[test]
fn the_linter_of_specifications_has_nothing_to_say() {
    let linter = root().join("tests/clients/node_modules/.bin/redocly");
    let specification = root().join("docs/openapi.json");
    let mut linter = Command::new(linter);
    linter.args(["lint", "--format", "json"]).arg(specification).env("REDOCLY_TELEMETRY", "off");
    let said = linter.output().expect("redocly; `make test` installs it");
    let found: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(found["totals"]["errors"], 0, "{found:#}");
    assert_eq!(found["totals"]["warnings"], 0, "{found:#}");
}

/// With the settings that docs/guides/api.md gives.
#[test]
fn a_generated_python_client_runs_a_job() {
    let server = Server::start(&[]);
    let page = std::fs::read_to_string(root().join("docs/guides/api.md")).expect("docs/guides/api.md");
    let settings = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its settings");
    let folder = server.dir().join("generated");
    std::fs::write(server.dir().join("settings.yaml"), settings).unwrap();
    let generated = Command::new("openapi-python-client")
        .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(root().join("docs/openapi.json"))
        .args(["--config", "settings.yaml", "--output-path"])
        .arg(folder.join("enlarger_client"))
        .current_dir(server.dir())
        .output()
        .expect("openapi-python-client; `make test` installs it");
    let text = [generated.stdout, generated.stderr].concat();
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&text));
    let photo = server.dir().join("photo.png");
    std::fs::write(&photo, crate::harness::photo(64, 48)).unwrap();
    let said = Command::new("python3")
        .arg(root().join("tests/clients/generated_client.py"))
        .arg(photo)
        .arg(server.url(""))
        .env("PYTHONPATH", folder)
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!((&said["status"], &said["result"]), (&json!("COMPLETED"), &json!([128, 96])));
    assert_eq!((&said["preview"], &said["form"]), (&json!([32, 32]), &json!([96, 72])));
    assert!(said["refusal"].as_str().unwrap().starts_with("image cannot be used"), "{said}");
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
    // With a worker: some routes answer when their task has ended.
    let server = Server::start(&[]);
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
