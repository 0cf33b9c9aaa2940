//! `enlarger mcp`, with the protocol's official client, and with clients that break the rules.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

mod common;
use common::{folder, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_enlarger");

#[test]
fn assistants_enlarge_files_and_learn_what_is_wrong() {
    let folder = folder();
    std::fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/mcp_client.py");
    let said = Command::new("python3").arg(script).arg(PROGRAM).arg(folder.path()).output();
    let said = said.expect("python3; `make test` installs what the tests need");
    assert!(said.status.success(), "{}", text(&said.stderr));
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");

    assert_eq!((&said["server"], &said["tools"]), (&json!("enlarger"), &json!(["upscale", "explain", "list_models"])));
    for name in ["image", "image_base64", "output", "scale", "creativity", "sharpen", "flavor", "overwrite"] {
        assert!(said["upscale_takes"].as_array().unwrap().contains(&json!(name)), "{name}");
    }
    assert!(said["models"].as_array().unwrap().contains(&json!("realsr-df2k")), "{}", said["models"]);
    assert!(said["explained"][0].as_str().unwrap().contains("detected  96x72"), "{}", said["explained"]);
    assert_eq!(said["explained"][1]["estimate"]["output_width"], 288);
    assert_eq!((&said["beside"]["width"], &said["beside"]["height"]), (&json!(384), &json!(288)));
    assert_eq!(said["progress"], json!([true, true]));
    assert_eq!(said["encoded"][1]["width"], 144);

    let size = |name: &str| {
        let bytes = std::fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let header = enlarger_image::header(&bytes, &enlarger_image::Limits::default()).expect("a picture");
        (header.format, header.width, header.height)
    };
    assert_eq!(size("photo_4x.png"), (enlarger_image::Format::Png, 384, 288));
    assert_eq!(size("made/by.webp"), (enlarger_image::Format::WebP, 144, 108));

    let errors: Vec<&str> = said["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    let expected = [
        "photo_4x.png already exists\nhint: set overwrite",
        "would overwrite its own source",
        "nothing.png: no such file",
        "notes.txt: this is not an image",
        "there is no argument named \"factor\"\nhint: the arguments are ",
        "scale is 99, but must be a number from 1 to 16",
        "hdr (Creative) and flavor (Precision) cannot be combined",
        "there is no model named \"nosuch\"\nhint: ",
        "image_base64 is not base64",
        "this is a folder, not a file\nhint: give the path",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error:?} says {expected:?}");
    }
    let unknown = said["unknown_tool"].as_str().unwrap();
    assert!(unknown.contains("there is no tool named \"enhance\"; hint: the tools are upscale, explain"), "{unknown}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing else was left");
}

/// A server that was told who asks. Its answer has not been read yet.
fn greeted(folder: &Path) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut server = Command::new(PROGRAM)
        .arg("mcp")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = server.stdin.take().unwrap();
    let output = BufReader::new(server.stdout.take().unwrap());
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    writeln!(input, "{hello}").unwrap();
    (server, input, output)
}

#[test]
fn nothing_but_the_protocol_is_on_standard_output_whatever_comes_in() {
    let folder = folder();
    let (mut server, mut input, mut output) = greeted(folder.path());
    let mut send = |line: &str| {
        input.write_all(line.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    };
    let mut receive = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    };
    assert_eq!(receive()["result"]["serverInfo"]["name"], "enlarger");
    send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    send("{ broken");
    let refused = receive();
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32700), &Value::Null), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("this is not JSON: key must be"), "{refused}");
    send(r#"{"jsonrpc":"2.0","id":20,"method":7}"#);
    let refused = receive();
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32600), &json!(20)), "{refused}");
    for params in ["", r#","params":{"name":7}"#, r#","params":{"name":"upscale","arguments":[]}"#] {
        send(&format!(r#"{{"jsonrpc":"2.0","id":21,"method":"tools/call"{params}}}"#));
        let refused = receive();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32602), &json!(21)), "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("; hint: its params are "), "{refused}");
    }
    send(r#"{"jsonrpc":"2.0","method":"no/such/notification"}"#);
    send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"upscale","arguments":{"image":7}}}"#);
    let refused = receive();
    assert_eq!((&refused["id"], &refused["result"]["isError"]), (&json!(2), &json!(true)), "{refused}");
    assert_eq!(
        refused["result"]["content"][0]["text"],
        "image is 7, but must be a text\nhint: correct it, or leave it out"
    );
    send(r#"{"jsonrpc":"2.0","id":3,"method":"no/such/method"}"#);
    assert_eq!(receive()["error"]["code"], -32601);
    // It goes in mid-job: the job ends, and leaves nothing behind.
    send(
        r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"upscale","arguments":{"image":"photo.png","scale":16,"model":"x4plus"}}}"#,
    );
    let begun = || std::fs::read_dir(folder.path()).unwrap().count() > 2;
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(input);
    assert!(server.wait().unwrap().success());
    let mut rest = String::new();
    while output.read_line(&mut rest).unwrap() > 0 {}
    rest.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect("the protocol only")));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no half-written file");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_and_the_job_that_runs_while_the_assistant_stays() {
    use std::os::unix::process::ExitStatusExt;
    let folder = folder();
    let (mut server, mut input, mut output) = greeted(folder.path());
    output.read_line(&mut String::new()).unwrap();
    let ask = json!({ "name": "upscale", "arguments": { "image": "photo.png", "scale": 16, "model": "x4plus" } });
    writeln!(input, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
    for id in [2, 3] {
        writeln!(input, "{}", json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": ask })).unwrap();
    }
    while std::fs::read_dir(folder.path()).unwrap().count() == 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    let ended = server.wait().unwrap();
    assert_eq!((ended.code(), ended.signal()), (Some(143), None));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no half-written file, and nothing begun after it"
    );
    drop(input);
}
