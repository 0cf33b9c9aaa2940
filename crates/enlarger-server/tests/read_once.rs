//! A task costs no more than it must before its pixels: headers are read and plans made once at submission, and once to run it.

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use axum::{Router, routing::get};
use base64::Engine as _;
use enlarger_image::Limits;
use enlarger_pipeline::{Enlarger, EnlargerOptions};
use enlarger_server::{Config, serve};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Metadata, Subscriber, field::Visit, span};

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

fn photo() -> Vec<u8> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/brushes.png");
    let picture = enlarger_image::decode(&std::fs::read(sample).unwrap(), &Limits::default()).unwrap().picture;
    let small = enlarger_pipeline::resize(&picture, 32, 24, enlarger_pipeline::Resampling::Box).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    enlarger_image::encode(&small, &enlarger_image::EncodeOptions::default(), &mut out).unwrap();
    out.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_read_and_plans_made_once_at_submission_and_once_to_run() {
    let photo = photo();
    let traced = Traced::default();
    tracing::subscriber::set_global_default(traced.clone()).unwrap();
    traced.take();
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    let config = Config { data_dir: dir.path().to_owned(), allow_net, ..Config::default() };
    let stop = CancellationToken::new();
    let enlarger = Arc::new(Enlarger::new(EnlargerOptions::default()).unwrap());
    let server = tokio::spawn(serve(config, enlarger, listener, || (), stop.clone()));
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("http://{}/photo.png", away.local_addr().unwrap());
    let served = photo.clone();
    tokio::spawn(async { axum::serve(away, Router::new().route("/photo.png", get(|| async { served }))).await });
    let http = common::http_client();

    let sent = base64::prelude::BASE64_STANDARD.encode(&photo);
    let creative = json!({ "mode": "creative", "optimized_for": "soft_portraits" });
    for (image, request, expected) in [
        // The server plans once for itself when it starts, to measure the machine; the first task waits for that.
        (&sent, json!({ "quality": "draft" }), (2, 3)),
        (&sent, json!({ "quality": "draft" }), (2, 2)),
        (&sent, json!({ "look": creative }), (2, 2)),
        (&sent, json!({ "size": { "factor": 3 }, "crop": { "x": 0, "y": 0, "width": 16, "height": 16 } }), (2, 2)),
        // Of what is still to be fetched nothing is known at submission.
        (&remote, json!({ "quality": "draft" }), (1, 2)),
    ] {
        let body = json!({ "image": image, "request": request });
        let task: Value =
            http.post(format!("{base}/api/tasks")).json(&body).send().await.unwrap().json().await.unwrap();
        let events = format!("{base}/api/tasks/{}/events", task["task_id"].as_str().unwrap());
        // The stream ends with the task.
        let events = http.get(events).send().await.unwrap().text().await.unwrap();
        assert!(events.contains("\"COMPLETED\""), "{events}");
        assert_eq!(traced.take(), expected, "headers read and plans made for {request}");
    }
    stop.cancel();
    server.await.unwrap().unwrap();
}
