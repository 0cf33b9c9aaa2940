//! A task costs no more than it must before its pixels: headers are read and plans made once at submission, and once to run it.

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use axum::{Router, routing::get};
use base64::Engine as _;
use enlarger_image::Format;
use enlarger_server::Config;
use serde_json::{Value, json};
use tracing::{Event, Metadata, Subscriber, field::Visit, span};

use common::{Server, photo};

/// What has been traced since it was asked last.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<String>>>);

impl Traced {
    fn take(&self) -> (usize, usize) {
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        let count = |what: &str| told.iter().filter(|message| *message == what).count();
        (count("headers read"), count("planned"))
    }
}

impl Subscriber for Traced {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        ["enlarger_image", "enlarger_pipeline"].iter().any(|ours| metadata.target().starts_with(ours))
    }

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 = format!("{value:?}");
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_read_and_plans_made_once_at_submission_and_once_to_run() {
    let photo = photo(32, 24, Format::Png);
    let traced = Traced::default();
    tracing::subscriber::set_global_default(traced.clone()).unwrap();
    traced.take();
    let allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    let server = Server::start(Config { allow_net, ..Config::default() }).await;
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("http://{}/photo.png", away.local_addr().unwrap());
    let served = photo.clone();
    tokio::spawn(async { axum::serve(away, Router::new().route("/photo.png", get(|| async { served }))).await });
    let Server { base, http, .. } = &server;

    let sent = base64::prelude::BASE64_STANDARD.encode(&photo);
    let creative = json!({ "mode": "creative", "optimized_for": "soft_portraits" });
    for (image, request, expected) in [
        // The server plans once for itself to measure the machine, for which the first estimate waits: its count is not looked at.
        (&sent, json!({ "quality": "draft" }), None),
        (&sent, json!({ "quality": "draft" }), Some((2, 2))),
        (&sent, json!({ "look": creative }), Some((2, 2))),
        (
            &sent,
            json!({ "size": { "factor": 3 }, "crop": { "x": 0, "y": 0, "width": 16, "height": 16 } }),
            Some((2, 2)),
        ),
        // Of what is still to be fetched nothing is known at submission.
        (&remote, json!({ "quality": "draft" }), Some((1, 2))),
    ] {
        let body = json!({ "image": image, "request": request });
        let task: Value =
            http.post(format!("{base}/api/tasks")).json(&body).send().await.unwrap().json().await.unwrap();
        let events = format!("{base}/api/tasks/{}/events", task["task_id"].as_str().unwrap());
        // The stream ends with the task.
        let events = http.get(events).send().await.unwrap().text().await.unwrap();
        assert!(events.contains("\"COMPLETED\""), "{events}");
        let seen = traced.take();
        assert_eq!(seen, expected.unwrap_or(seen), "headers read and plans made for {request}");
    }
    server.stop().await;
}
