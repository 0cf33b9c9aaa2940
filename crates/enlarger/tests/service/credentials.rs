//! Who may do what, and that secrets stay secret.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::*;

on_both! {
    promise_21_secrets_are_never_logged,
}

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

fn create_key(server: &Server, args: &[&str]) -> String {
    let made = server.keys().arg("create").args(args).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn mac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// A token as RFC 7519 has it.
fn jwt(secret: &str, algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let body = format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT" })), part(claims));
    let signature = if algorithm == "none" { String::new() } else { mac(secret.as_bytes(), &body) };
    format!("{body}.{signature}")
}

/// The body of a 401.
fn unauthorized(message: &str) -> Value {
    let hint = "create a key with `enlarger keys create NAME` and send it as X-API-KEY, as a Bearer token or as the \
        password of HTTP Basic";
    json!({ "error": "unauthorized", "message": message, "hint": hint, "problem": { "message": message } })
}

/// The value of `Authorization` for HTTP Basic.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

#[test]
fn a_key_is_accepted_as_user_or_password_of_http_basic_and_no_browser_asks_for_one() {
    let server = Server::start(&["--auth", "on", "--jwt-secret", JWT_SECRET]);
    let key = create_key(&server, &["ann"]);
    let token = jwt(JWT_SECRET, "HS256", &json!({ "sub": "carol", "exp": 9_999_999_999_u64 }));
    let get = |headers: &[(&str, &str)]| server.send("GET", "/api/tasks", headers, &[]);
    for (user, password) in [("me", key.as_str()), (&key, ""), (&key, "x"), ("", &key), ("me", &token)] {
        assert_eq!(get(&[("authorization", &basic(user, password))]).status, 200, "{user}:{password}");
    }
    // Clients of other services send those services' keys along.
    let both = [("authorization", basic("me", &key)), ("x-api-key", "comfyui-0123".to_owned())];
    assert_eq!(get(&both.each_ref().map(|(name, value)| (*name, value.as_str()))).status, 200);
    let both = [("authorization", "Bearer comfyui-0123"), ("x-api-key", &key)];
    assert_eq!(get(&both).status, 200);
    for wrong in [basic("me", "secret"), basic("me", &key[1..]), basic("me", &key.to_uppercase())] {
        let answer = get(&[("authorization", &wrong)]);
        assert_eq!((answer.status, answer.json()), (401, unauthorized("Invalid API key")), "{wrong}");
        // A challenge for Basic would open the browser's own window over the page.
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    for none in [basic("", ""), "Basic !".to_owned(), "Basic".to_owned()] {
        assert_eq!(get(&[("authorization", &none)]).json(), unauthorized("Missing API key"), "{none}");
    }
    // Should a browser have been made to send it by itself, pages of other sites gain nothing by that.
    let by_page = |origin: &str| get(&[("authorization", &basic("me", &key)), ("origin", origin)]).status;
    assert_eq!((by_page("https://evil.example"), by_page(&server.url(""))), (403, 200));
}

#[test]
fn credentials_are_asked_for_and_tasks_belong_to_the_key_that_made_them() {
    let server = Server::start(&["--auth", "on", "--jwt-secret", JWT_SECRET]);
    let (ann, bob) = (create_key(&server, &["ann"]), create_key(&server, &["bob"]));
    let body = json!({ "image": base64(&photo(32, 24)) }).to_string();
    let post = |headers: &[(&str, &str)]| server.send("POST", CREATIVE, headers, body.as_bytes());
    let missing = post(&[]);
    assert_eq!((missing.status, missing.json()), (401, unauthorized("Missing API key")));
    let mistyped = format!("{}x", &ann[..ann.len() - 1]);
    for wrong in [
        "nonsense",
        &mistyped,
        &jwt("another secret, just as long as ours", "HS256", &json!({ "sub": "a", "exp": 9_999_999_999_u64 })),
    ] {
        let answer = post(&[("authorization", &format!("Bearer {wrong}"))]);
        assert_eq!((answer.status, answer.json()), (401, unauthorized("Invalid API key")), "{wrong}");
    }
    for header in ["x-api-key", "x-freepik-api-key", "x-magnific-api-key"] {
        assert_eq!(post(&[(header, &ann)]).status, 200, "{header}");
    }
    let id =
        post(&[("authorization", &format!("Bearer {ann}"))]).json()["data"]["task_id"].as_str().unwrap().to_owned();
    let path = format!("{CREATIVE}/{id}");
    let read = |path: &str, key: &str| server.send("GET", path, &[("x-api-key", key)], &[]);
    assert_eq!(read(&path, &ann).status, 200);
    assert_eq!(read(&path, &bob).status, 404, "as if it were not there");
    assert_eq!(read("/api/tasks", &bob).json()["total"], 0);
    assert_eq!(read(&format!("/api/tasks/{id}"), &bob).status, 404);
    // Keys of idempotency are scoped, too.
    let with =
        |key: &str| server.send("POST", CREATIVE, &[("x-api-key", key), ("idempotency-key", "same")], body.as_bytes());
    assert_ne!(with(&ann).json()["data"]["task_id"], with(&bob).json()["data"]["task_id"]);
    // The address of a file is the right to read it.
    let done = loop {
        let task = read(&path, &ann).json();
        if task["data"]["status"] == "COMPLETED" {
            break task;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(server.get(done["data"]["generated"][0].as_str().unwrap()).status, 200);

    let claims = json!({ "sub": "carol", "exp": 9_999_999_999_u64 });
    assert_eq!(post(&[("authorization", &format!("Bearer {}", jwt(JWT_SECRET, "HS256", &claims)))]).status, 200);
    let bad = [
        jwt(JWT_SECRET, "HS256", &json!({ "sub": "carol", "exp": 1 })),
        jwt(JWT_SECRET, "HS256", &json!({ "sub": "carol" })),
        jwt(JWT_SECRET, "none", &claims),
    ];
    for token in bad {
        assert_eq!(post(&[("authorization", &format!("Bearer {token}"))]).status, 401, "{token}");
    }
    // Only an administrator's key makes keys; a revoked one opens nothing.
    let admin = create_key(&server, &["root", "--admin"]);
    let make = |key: &str| server.send("POST", "/api/keys", &[("x-api-key", key)], br#"{"name":"dave"}"#);
    assert_eq!(make(&ann).status, 403);
    let made = make(&admin).json();
    let dave = made["key"].as_str().unwrap();
    assert_eq!(read("/api/tasks", dave).status, 200);
    let revoke = format!("/api/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &revoke, &[("x-api-key", &admin)], &[]).status, 204);
    assert_eq!(read("/api/tasks", dave).status, 401);
    assert!(!server.get("/api/status").text().contains("data_dir"), "strangers hear the version only");
}

#[test]
fn an_address_that_was_changed_or_has_expired_opens_nothing() {
    let server = Server::start(&[]);
    let id = server.submit("/api/tasks", &quick());
    let url = server.wait_done(&id)["result"]["url"].as_str().unwrap().to_owned();
    let (path, query) = url.split_once('?').unwrap();
    let expires = query.split('&').next().unwrap();
    let signature = query.split("signature=").nth(1).unwrap();
    let later = format!("expires={}", expires[8..].parse::<u64>().unwrap() + 1);
    let other_letter = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = [
        format!("{path}?{later}&signature={signature}"),
        format!("{path}?{expires}&signature={other_letter}{}", &signature[1..]),
        format!("{path}?{expires}"),
        path.to_owned(),
        url.replace("result-1.png", "source"),
        url.replace("result-1.png", "..%2f..%2f..%2fsigning.key"),
    ];
    for address in forged {
        assert_eq!(server.get(&address).status, 403, "{address}");
    }
    // Signed by the server's own key, for a time that is over.
    let key = std::fs::read(server.dir().join("signing.key")).unwrap();
    let name = format!("tasks/{id}/result-1.png");
    let old = format!("/files/{name}?expires=1000&signature={}", mac(&key, &format!("read\n{name}\n1000")));
    let answer = server.get(&old);
    assert_eq!(answer.status, 410, "{}", answer.text());
    assert!(answer.json()["message"].as_str().unwrap().contains("expired"));
    assert_eq!(server.post(CREATIVE, &json!({ "image": server.url(&old) })).status, 400);
}

#[test]
fn risky_or_contradictory_settings_do_not_start() {
    let refused = |args: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let said = binary().args(["serve", "--data-dir"]).arg(dir.path()).args(args).output().unwrap();
        assert!(!said.status.success(), "{args:?}");
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(said.contains("hint:") || said.contains("error:"), "{said}");
        said
    };
    assert!(refused(&["--listen", "0.0.0.0:0", "--auth", "off"]).contains("--insecure-no-auth"));
    assert!(refused(&["--jwt-secret", "short"]).contains("too short"));
    assert!(refused(&["--public-url", "pictures"]).contains("public_url"));
    let said = refused(&["--public-url", "https://me:tell-nobody@pictures.example.com"]);
    assert!(said.contains("public_url") && !said.contains("tell-nobody"), "{said}");
    assert!(refused(&["--jobs", "0"]).contains("jobs"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = \"127.0.0.1:0\"\nlissten = 1\n").unwrap();
    let said = refused(&["--config", file.path().to_str().unwrap()]);
    assert!(said.contains("line 2") && said.contains("lissten"), "{said}");
    let printed = binary().args(["serve", "--print-config"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    // The printed file is valid, with every line switched on.
    let on: String = printed
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    std::fs::write(file.path(), on.replace("127.0.0.1:7788", "127.0.0.1:0")).unwrap();
    let mut child = binary();
    let dir = tempfile::tempdir().unwrap();
    child.args(["serve", "--config"]).arg(file.path()).arg("--data-dir").arg(dir.path()).arg("--jobs").arg("0");
    let said = child.output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("`jobs` is 0"), "all else was understood: {said:?}");
}

fn promise_21_secrets_are_never_logged() {
    let hook = Receiver::start(|_| 200);
    let args = [
        "--auth",
        "on",
        "--jwt-secret",
        JWT_SECRET,
        "--webhook-secret",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "--allow-net",
        "127.0.0.0/8",
        "--log",
        "trace",
    ];
    let mut server = Server::start(&args);
    let key = create_key(&server, &["ann"]);
    server.key = Some(key.clone());
    let token = jwt(JWT_SECRET, "HS256", &json!({ "sub": "carol", "exp": 9_999_999_999_u64 }));
    let slot = server.post("/customers/storage", &json!({ "file_name": "a.png" })).json();
    let upload = slot["upload_url"].as_str().unwrap().to_owned();
    server.send("PUT", &upload, &[], &photo(32, 24));
    let hook_url = format!("{}?token=tell-nobody", hook.url);
    let id = server.submit(CREATIVE, &json!({ "image": slot["download_url"], "webhook_url": hook_url }));
    let result = server.wait_done(&id)["result"]["url"].as_str().unwrap().to_owned();
    server.get(&result);
    hook.wait(2);
    server.send("GET", "/api/tasks", &[("authorization", &format!("Bearer {token}"))], &[]);
    server.send("GET", "/api/tasks", &[("authorization", &basic("me", &key))], &[]);
    let wrong = "enl_00000000_wrong-key-of-somebody";
    server.send("GET", "/api/tasks", &[("authorization", &format!("Bearer {wrong}"))], &[]);
    assert_eq!(server.terminate().code(), Some(0));
    let log = server.log();
    assert!(log.contains(&id), "something was logged");
    let signature = |url: &str| url.split("signature=").nth(1).unwrap().to_owned();
    let signed = signature(hook.got()[0].header("webhook-signature").replace("v1,", "signature=").as_str());
    let secrets = [
        key[13..].to_owned(),
        token,
        basic("me", &key)[6..].into(),
        JWT_SECRET.into(),
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
        signature(&upload),
        signature(&result),
        signed,
        "tell-nobody".into(),
        wrong.into(),
    ];
    for secret in secrets {
        assert!(
            !log.contains(&secret),
            "{secret} in the log:\n{}",
            log.lines().find(|line| line.contains(&secret)).unwrap()
        );
    }
}

#[test]
fn pages_of_other_sites_get_in_only_when_they_are_named() {
    let server = Server::start(&[]);
    let from = |server: &Server, origin: &str| server.send("GET", "/api/tasks", &[("origin", origin)], &[]);
    assert_eq!(from(&server, "https://evil.example").status, 403);
    assert_eq!(from(&server, &server.url("")).status, 200);
    assert_eq!(server.send("GET", "/api/tasks", &[("host", "rebound.example")], &[]).status, 403);
    let open = Server::start(&["--cors-origin", "https://studio.example"]);
    let answer = from(&open, "https://studio.example");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://studio.example"));
    assert_eq!(from(&open, "https://evil.example").status, 403);
    let headers = [
        ("origin", "https://studio.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key,content-type"),
    ];
    let preflight = open.send("OPTIONS", CREATIVE, &headers, &[]);
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").contains("x-api-key"));
    assert!(preflight.header("access-control-allow-methods").contains("POST"));
}
