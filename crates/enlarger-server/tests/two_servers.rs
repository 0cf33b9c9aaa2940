//! Two servers in one process do not know of each other: each has its own counters, credentials, tasks and files.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use enlarger_pipeline::{Enlarger, EnlargerOptions};
use enlarger_server::{Config, config::Auth, serve};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

/// A bearer token of RFC 7519, signed by HS256 (RFC 7515, appendix A.1).
fn token(secret: &str) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed =
        format!("{}.{}", part(json!({ "alg": "HS256" })), part(json!({ "sub": "me", "exp": 4_000_000_000u64 })));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

struct Server {
    base: String,
    secret: String,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(secret: &str, enlarger: Arc<Enlarger>, stop: CancellationToken) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let config = Config {
            data_dir: dir.path().to_owned(),
            auth: Auth::On,
            jwt_secret: secret.parse().unwrap(),
            ..Config::default()
        };
        tokio::spawn(async move { serve(config, enlarger, listener, |_| (), stop).await.unwrap() });
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        Server { base, secret: secret.to_owned(), http, _dir: dir }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(token(&self.secret)).send().await.unwrap()
    }
}

/// Eight grey pixels.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAAAAABawyK/AAAAEElEQVR4nGNo6Jm2gAFEAAAWNASFlyaEQwAAAABJRU5ErkJggg==";

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_in_one_process_do_not_know_of_each_other() {
    let stop = CancellationToken::new();
    let enlarger = Arc::new(Enlarger::new(EnlargerOptions::default()).unwrap());
    let [first, second] =
        ["the first secret, of at least 32 characters", "another secret, also of 32 characters or more"];
    let first = Server::start(first, enlarger.clone(), stop.clone()).await;
    let second = Server::start(second, enlarger, stop.clone()).await;

    // Each believes the tokens of its own secret only.
    for (server, other) in [(&first, &second), (&second, &first)] {
        assert_eq!(server.get("/api/tasks").await.status(), 200);
        let forged = server.http.get(format!("{}/api/tasks", server.base)).bearer_auth(token(&other.secret));
        assert_eq!(forged.send().await.unwrap().status(), 401);
    }

    // Each counts its own tasks.
    for (server, count) in [(&first, 1), (&second, 2)] {
        for _ in 0..count {
            let body = json!({ "image": PICTURE, "request": { "model": "animevideo-v3" } });
            let request = server.http.post(format!("{}/api/tasks", server.base)).bearer_auth(token(&server.secret));
            let answer = request.json(&body).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, 200, "{text}");
            let id = serde_json::from_str::<Value>(&text).unwrap()["task_id"].as_str().unwrap().to_owned();
            let done = async {
                loop {
                    let task: Value = server.get(&format!("/api/tasks/{id}")).await.json().await.unwrap();
                    match task["status"].as_str() {
                        Some("CREATED" | "IN_PROGRESS") => tokio::time::sleep(Duration::from_millis(20)).await,
                        status => break assert_eq!(status, Some("COMPLETED"), "{task}"),
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(120), done).await.expect("it ends");
        }
        let total: Value = server.get("/api/tasks").await.json().await.unwrap();
        assert_eq!(total["total"], count);
    }
    for (server, count) in [(&first, 1), (&second, 2)] {
        let expected = [
            format!("enlarger_tasks_submitted_total{{kind=\"console\"}} {count}"),
            format!("enlarger_attempts_total{{outcome=\"completed\"}} {count}"),
            format!("enlarger_attempt_seconds_count {count}"),
            "enlarger_tasks_waiting 0".to_owned(),
        ];
        // A task is COMPLETED a moment before its attempt is counted.
        let counted = async {
            loop {
                let metrics = server.get("/metrics").await.text().await.unwrap();
                if expected.iter().all(|line| metrics.lines().any(|told| told == line)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), counted).await.unwrap_or_else(|_| panic!("not {expected:?}"));
    }
    stop.cancel();
}
