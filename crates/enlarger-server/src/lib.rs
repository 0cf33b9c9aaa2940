//! The HTTP service: routes by dialect, credentials, files with signed addresses, the worker loop.
//!
//! [`serve`] is the whole of it. A request goes through a request id, the guard against other sites' pages, credentials, and
//! into a dialect: `magnific`, `comfy`, `console` or `files`. What it submits goes through `submit`, the one way into the queue.

#![allow(clippy::result_large_err, reason = "an error is made once per refused request, and moved twice")]

mod apart;
mod app;
pub mod auth;
mod body;
mod comfy;
pub mod config;
mod console;
mod error;
mod extract;
mod fields;
mod files;
mod http;
mod image;
mod job;
mod magnific;
pub mod openapi;
mod outbox;
mod page;
mod poller;
mod polls;
mod submit;
mod sweeper;
mod wait;
mod worker;

use std::{io, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use enlarger_blobs::{BlobStore, Scratch};
use enlarger_pipeline::Enlarger;
use enlarger_tasks::{Store, StoreConfig, StoreError, SystemClock, sqlite};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

pub use apart::{COMMAND as APART_COMMAND, run as run_apart};
use app::App;
use config::Role;
pub use config::{Config, ConfigError, ConfigLayer, print_config};
use error::ApiError;

/// Why the service cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The task database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory or the address.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
    let what = what.into();
    move |source| ServeError::Io { what, source }
}

/// Opens the task database in a data directory, which is made if needed.
///
/// # Errors
/// If the directory or the database cannot be opened.
pub async fn open_store(config: &Config) -> Result<Store, ServeError> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir).map_err(io_error(format!("cannot create {}", dir.display())))?;
    let limits = StoreConfig {
        queue_limit: config.queue_limit,
        owner_queue_limit: if config.asks_for_credentials() { config.key_queue_limit } else { config.queue_limit },
        // Longer than storing a picture takes; a client whose server died in between is kept waiting no longer.
        reservation_ttl: Duration::from_secs(5),
        retention: config.retention(),
        suspects_run_apart: true,
        history: Duration::from_secs(config.history_days.saturating_mul(86_400)),
        ..StoreConfig::default()
    };
    let url = sqlite::url_of(&dir.join("tasks.sqlite")).map_err(io_error("cannot name the task database"))?;
    Ok(enlarger_tasks::open_store(&url, limits, Arc::new(SystemClock)).await?)
}

/// The files, and where drafts of them are written: on the same disk.
async fn open_files(folder: &Path) -> io::Result<(Arc<dyn BlobStore>, Scratch)> {
    let blobs = enlarger_blobs::open_blobs(&enlarger_blobs::folder::url_of(folder)?).await?;
    Ok((blobs, Scratch::open(&folder.join("tmp"))?))
}

/// Serves until `stop` is cancelled, then drains and returns. `listener` is bound by the caller, so that a test can ask for
/// any free port. `ready` is called once, when nothing can keep it from answering any more.
///
/// # Errors
/// If it cannot start.
pub async fn serve(
    config: Config,
    enlarger: Arc<Enlarger>,
    listener: TcpListener,
    ready: impl FnOnce() + Send,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let store = open_store(&config).await?;
    let folder = config.data_dir.join("files");
    let opened = io_error("cannot open the folder of files");
    let (blobs, scratch) = open_files(&folder).await.map_err(opened)?;
    let secret =
        signing_key(&config.data_dir.join("signing.key"), &scratch).map_err(io_error("cannot read the signing key"))?;
    let webhooks = outbox::webhooks(&config)?;
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    // A second server in one process keeps the first one's recorder.
    let _ = metrics::set_global_recorder(recorder);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let app = Arc::new(App {
        auth: auth::Authority::new(&config, store.api_keys.clone())?,
        bodies: body::Bodies::new(config.bodies_at_once),
        policy: enlarger_egress::Policy { allow: config.allow_net.clone() },
        signer: files::signed::Signer::new(secret),
        asides: Arc::new(Semaphore::new(1)),
        held_polls: Semaphore::new(poller::HELD_AT_ONCE),
        readers: Arc::new(Semaphore::new((cores / 2).max(1))),
        reads: files::Reads::default(),
        polls: polls::Polls::default(),
        deleted: tokio::sync::broadcast::channel(256).0,
        started: std::time::Instant::now(),
        stop: stop.clone(),
        store,
        blobs,
        scratch,
        enlarger,
        metrics,
        config,
    });
    let mut running = Vec::new();
    if app.config.role != Role::Api {
        running.push(tokio::spawn(worker::run(app.clone())));
        running.push(tokio::spawn(outbox::run(app.clone(), webhooks)));
        running.push(tokio::spawn(sweeper::run(app.clone())));
    }
    if app.config.role != Role::Worker {
        running.push(tokio::spawn(polls::run(app.clone())));
    }
    // The first estimate measures the machine, which nobody should have to wait for.
    let warm = app.enlarger.clone();
    tokio::task::spawn_blocking(move || warm.estimate(64, 64, &enlarger_pipeline::Request::default()).map(drop));
    ready();
    http::serve(listener, router(&app), stop, Duration::from_secs(5)).await;
    for task in running {
        let _ = task.await;
    }
    Ok(())
}

fn router(app: &Arc<App>) -> Router {
    let mut routes = Router::new();
    if app.config.role != Role::Worker {
        let (public, _) = openapi::public().split_for_parts();
        let (guarded, _) = openapi::guarded().split_for_parts();
        routes = guarded
            .route_layer(middleware::from_fn_with_state(app.clone(), auth::require))
            .merge(public)
            .merge(page::routes());
    }
    let state = app.clone();
    let inner = routes
        .route("/health", get(health))
        .route("/livez", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/openapi.json", get(|| async { axum::Json(openapi::document()) }))
        .fallback(magnific::not_found)
        .method_not_allowed_fallback(magnific::wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), http::guard_browsers))
        .layer(tower::util::option_layer(http::cors(&app.config)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(comfy::in_routers_form))
        .layer(middleware::from_fn(http::with_request_id))
        .with_state(app.clone());
    // Outside of routing, which must see the path as it is then.
    Router::new().fallback(move |request: Request| {
        let (inner, state) = (inner.clone(), state.clone());
        async move { tower::ServiceExt::oneshot(inner, http::with_plain_path(&state.config, request)).await }
    })
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let stored = app.store.upkeep.ping().await.map_err(ApiError::from);
    let written = app.blocking(|app| app.scratch.room().map_err(ApiError::from)).await;
    let published = app.blobs.ping().await.map_err(ApiError::from);
    match stored.and(written).and(published) {
        Ok(()) if !app.stop.is_cancelled() => axum::Json(json!({ "status": "ready" })).into_response(),
        Ok(()) => ApiError::unavailable("the server is stopping").into_response(),
        Err(error) => error.into_response(),
    }
}

async fn scrape(State(app): State<Arc<App>>) -> Response {
    if let Ok(counts) = app.store.upkeep.counts().await {
        metrics::gauge!("enlarger_tasks_waiting").set(counts.created as f64);
        metrics::gauge!("enlarger_tasks_running").set(counts.in_progress as f64);
        metrics::gauge!("enlarger_queue_seconds").set(counts.queued_cost);
        metrics::gauge!("enlarger_webhooks_pending").set(counts.outbox_pending as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

/// The key that addresses are signed with: made once, readable by this user only.
fn signing_key(path: &Path, scratch: &Scratch) -> io::Result<[u8; 32]> {
    let read = || {
        let bytes = std::fs::read(path)?;
        bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not have 32 bytes"))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut draft = scratch.draft()?;
    io::Write::write_all(&mut draft, &auth::keys::random::<32>())?;
    // Of processes that start together one wins, and all read what it wrote.
    match draft.persist_new(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(),
    }
}
