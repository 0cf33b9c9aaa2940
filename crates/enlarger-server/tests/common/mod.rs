//! A server of one's own, and a client of it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;

use enlarger_image::{EncodeOptions, Format, Limits};
use enlarger_pipeline::{Enlarger, EnlargerOptions, Resampling};
use enlarger_server::{Config, ServeError, serve};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Serves from a new folder at a free port, until [`Server::stop`].
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    pub http: reqwest::Client,
    running: JoinHandle<Result<(), ServeError>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Server {
    /// With the default settings but for the data directory, which is its own.
    pub async fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let config = Config { data_dir: dir.path().to_owned(), ..config };
        let stop = CancellationToken::new();
        let enlarger = Arc::new(Enlarger::new(EnlargerOptions::default()).expect("this machine can run models"));
        let running = tokio::spawn(serve(config, enlarger, listener, |_| (), stop.clone()));
        Self { base, http: http_client(), running, stop, _dir: dir }
    }

    /// Stops it, and asserts that it ends well.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("it ends well");
    }
}

/// A small photo in a file of this format.
pub fn photo(width: u32, height: u32, format: Format) -> Vec<u8> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/brushes.png");
    let bytes = std::fs::read(sample).expect("the sample is there");
    let picture = enlarger_image::decode(&bytes, &Limits::default()).expect("a picture").picture;
    let small = enlarger_pipeline::resize(&picture, width, height, Resampling::Box).expect("there is room");
    let mut out = std::io::Cursor::new(Vec::new());
    enlarger_image::encode(&small, &EncodeOptions { format, ..EncodeOptions::default() }, &mut out)
        .expect("it can be encoded");
    out.into_inner()
}

/// Speaks plain HTTP only.
pub fn http_client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client")
}
