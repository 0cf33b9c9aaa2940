//! The HTTP server: the APIs of `dialects`, credentials, signed URLs, the page. What it serves is `enlarger-service`.
//! [`serve`] is the entry point. A request goes through a request id, the guard against other sites' pages,
//! credentials, and into one of the dialects or `files`. What it submits goes through `submit`. Everything that
//! dialects have in common is in `http`.

#![allow(clippy::result_large_err, reason = "an error is made once per refused request, and moved twice")]

mod app;
pub mod auth;
mod client;
pub mod config;
mod dialect;
mod dialects;
mod files;
mod http;
pub mod openapi;
mod page;
mod poller;
mod specification;
mod storage;
mod submit;
mod waiter;

use std::{
    borrow::Cow,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use enlarger_error::Explained;
use enlarger_pipeline::{Enlarger, Unwatched, cores};
pub use enlarger_service::{APART_COMMAND, nodes::short_id, run_apart};
use enlarger_service::{
    deletions::Deletions,
    favorites::Favorites,
    files::Files,
    follow::Follow,
    intake::Intake,
    metrics::Metrics,
    nodes::{Fleet, Presence},
    outbox,
    polls::Polls,
    presets::Presets,
    reads::Reads,
    saver::{Saver, Unsaved},
    signed::Signer,
    submit::Desk,
    sweeper::Sweeper,
    urls::Urls,
    worker::Worker,
};
pub use enlarger_tasks::Node;
use enlarger_tasks::{NODE_LIFE, Store, StoreConfig, StoreError, SystemClock, Upkeep, sqlite};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use app::App;
use config::Role;
pub use config::{Config, ConfigError, ConfigLayer, print_config};
use http::{ApiError, BaseUrl, Bodies, Turns};
use poller::Poller;
use specification::Specification;
use submit::Submitter;

/// Why the service cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The task database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage, which may be reached later.
    #[error("cannot reach the storage: {0}")]
    Storage(io::Error),
    /// The data directory or the address.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ServeError {
    /// Whether the same may go well later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Storage(_) => true,
            Self::Config(_) | Self::Io { .. } => false,
        }
    }
}

impl Explained for ServeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Storage(_) => "storage_unreachable",
            Self::Io { .. } => "data_dir",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Storage(_) => Some("check `storage` and the bucket's server".into()),
            Self::Io { .. } => Some("check the folder given to --data-dir, its space and permissions".into()),
        }
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
    let what = what.into();
    move |source| ServeError::Io { what, source }
}

/// Opens the task database: the one that is set, or one in the data directory, which is made if needed.
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
    let url = match config.database.reveal() {
        "" => sqlite::url_of(&dir.join(DATABASE)).map_err(io_error("cannot name the task database"))?,
        url => url.to_owned(),
    };
    Ok(enlarger_tasks::open_store(&url, limits, Arc::new(SystemClock)).await?)
}

/// In a data folder.
const DATABASE: &str = "tasks.sqlite";

/// Whether a data folder has the database of a server.
pub fn has_database(data_dir: &Path) -> bool {
    data_dir.join(DATABASE).exists()
}

/// What processes share.
pub struct Shared {
    /// The task database.
    pub store: Store,
    /// What is stored.
    pub files: Files,
    signer: Signer,
}

/// Opens the task database and the storage, and checks that they belong together.
///
/// # Errors
/// If one of them cannot be opened, or belongs to another.
pub async fn open_shared(config: &Config) -> Result<Shared, ServeError> {
    join(config, open_store(config).await?).await
}

async fn join(config: &Config, store: Store) -> Result<Shared, ServeError> {
    let files = storage::open(config).await?;
    let signer = storage::signer(config, &files.scratch)?;
    storage::join(config, &*store.nodes, &files).await?;
    Ok(Shared { store, files, signer })
}

/// Opens database and storage as soon as they can be reached, and says meanwhile that the server is not ready. `None` if it is
/// stopped before.
async fn reach(
    config: &Config,
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Result<Option<Shared>, ServeError> {
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);
    let mut store = None;
    let mut open = async || {
        if store.is_none() {
            store = Some(open_store(config).await?);
        }
        match store.clone() {
            Some(store) => join(config, store).await.map(Some),
            None => Ok(None),
        }
    };
    // Most answer at once. Until then connections wait, as nothing is served.
    let mut error = match open().await {
        Err(error) if error.is_transient() => error,
        ended => return ended,
    };
    let opened = stop.child_token();
    let waiting = http::serve(listener, waiting(), opened.clone(), Duration::from_secs(1));
    let opening = async {
        let _opened = opened.clone().drop_guard();
        let mut pause = Duration::from_secs(1);
        loop {
            let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
            tracing::warn!("not ready: {error}; trying again{hint}");
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            error = match open().await {
                Err(error) if error.is_transient() => error,
                ended => return ended,
            };
        }
    };
    tokio::join!(waiting, opening).1
}

/// Registers this process with the others, which must sign URLs with the same secret.
async fn register(config: &Config, shared: &Shared, enlarger: &Arc<Enlarger>) -> Result<Presence, ServeError> {
    let jobs = (config.role != Role::Api).then_some(config.jobs);
    let (nodes, signing) = (shared.store.nodes.clone(), shared.signer.fingerprint());
    let presence = Presence::register(nodes, enlarger.clone(), config.role.name(), jobs, signing.clone()).await?;
    let others = presence.others().await?;
    let differs = |node: &&Node| !node.about.signing.is_empty() && node.about.signing != signing;
    if let Some(other) = others.iter().find(differs) {
        presence.leave().await;
        let what = format!(
            "another process of this service (on {}, process {}) signs URLs with another secret, so neither would serve the other's files",
            other.about.host, other.about.process
        );
        let hint = format!(
            "set the same `signing_secret` for all; to change it, stop all of them first (one that was killed is forgotten after {} s)",
            NODE_LIFE.as_secs()
        );
        return Err(ConfigError::new(what, hint).into());
    }
    Ok(presence)
}

/// What is answered before there are a task database and a storage.
fn waiting() -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(health))
        .fallback(async || ApiError::unavailable("the server is waiting for its database or its storage"))
        .layer(middleware::from_fn_with_state(Metrics::default(), http::with_request_id))
}

/// Serves until `stop` is cancelled, then drains and returns. `listener` is bound by the caller, so that a test can ask for
/// any free port. `ready` is called once, when nothing can keep it from answering any more. Several servers may run in one
/// process.
///
/// # Errors
/// If it cannot start.
pub async fn serve(
    config: Config,
    enlarger: Arc<Enlarger>,
    listener: TcpListener,
    ready: impl FnOnce(&str) + Send,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Some(shared) = reach(&config, &listener, &stop).await? else { return Ok(()) };
    let presence = register(&config, &shared, &enlarger).await?;
    let alive = tokio::spawn(presence.clone().run());
    let ended = serve_registered(config, enlarger, listener, ready, stop, shared, presence.clone()).await;
    alive.abort();
    presence.leave().await;
    ended
}

async fn serve_registered(
    config: Config,
    enlarger: Arc<Enlarger>,
    listener: TcpListener,
    ready: impl FnOnce(&str) + Send,
    stop: CancellationToken,
    shared: Shared,
    presence: Presence,
) -> Result<(), ServeError> {
    let store = shared.store.clone();
    let app = parts(&config, shared, enlarger, stop.clone())?;
    let (mut running, id) = (Vec::new(), presence.short_id());
    if config.role != Role::Api {
        let worker = Worker {
            queue: store.queue.clone(),
            files: app.files.clone(),
            enlarger: app.enlarger.clone(),
            apart: config.apart(),
            policy: config.policy(),
            fetch_limit: config.max_body_mb << 20,
            terms: app.terms,
            jobs: app.enlarger.slots(),
            lease: Duration::from_secs(config.lease_seconds),
            drain: Duration::from_secs(config.drain_seconds),
            relay: config.relay()?,
            unsaved: app.unsaved.clone(),
            metrics: app.metrics.clone(),
            traces: app.traces.clone(),
            presence,
            stop: stop.clone(),
        };
        let sender = outbox::Sender {
            outbox: store.outbox.clone(),
            queue: store.queue.clone(),
            webhooks: config.webhooks()?,
            urls: app.urls.clone(),
            body: dialects::webhook,
            metrics: app.metrics.clone(),
            traces: app.traces.clone(),
            stop: stop.clone(),
        };
        let sweeper = Sweeper {
            queue: store.queue.clone(),
            objects: store.objects.clone(),
            upkeep: store.upkeep.clone(),
            files: app.files.clone(),
            reads: app.reads.clone(),
            favorites: app.favorites.clone(),
            models_dir: config.models_dir(),
            disk_budget: config.disk_budget(),
            stop: stop.clone(),
        };
        if let Some(unsaved) = app.unsaved.clone() {
            let saver = Saver {
                unsaved,
                names: config.save_name.clone(),
                queue: store.queue.clone(),
                files: app.files.clone(),
                stop: stop.clone(),
            };
            running.push(tokio::spawn(saver.run()));
        }
        running.push(tokio::spawn(worker.run()));
        running.push(tokio::spawn(sender.run()));
        running.push(tokio::spawn(sweeper.run()));
    }
    if config.role != Role::Worker {
        running.push(tokio::spawn(app.polls.clone().run(store.queue.clone(), stop.clone())));
    }
    // The first estimate measures the machine, which nobody should have to wait for.
    let enlarger = app.enlarger.clone();
    let folders = config.model_dirs.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = enlarger.estimate(64, 64, &enlarger_pipeline::Request::default(), &Unwatched) {
            tracing::warn!("no estimate: {error}");
        }
        for missing in enlarger.library().missing() {
            tracing::warn!("the folder {} of model_dirs does not exist", missing.display());
        }
        match enlarger.prepare() {
            Ok(sentences) if sentences.is_empty() => {
                let found = enlarger.library().parts().iter().filter(|f| f.what.kind() == "checkpoint").count();
                // Whoever has none need not know of them.
                if found > 0 {
                    tracing::info!(
                        found,
                        "no checkpoint is configured, so only requests that name one are drawn; --checkpoint NAME, and --model-dirs DIR for its folder, configure one"
                    );
                }
            }
            Ok(sentences) => sentences.iter().for_each(|sentence| tracing::info!(?folders, "{sentence}")),
            Err(error) => {
                let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
                if error.is_retryable() {
                    tracing::warn!("creative jobs that ask for detail will fail until this changes: {error}{hint}");
                } else {
                    tracing::error!(?folders, "creative jobs that ask for detail will fail: {error}{hint}");
                }
            }
        }
    });
    ready(&id);
    http::serve(listener, router(&app), stop, Duration::from_secs(5)).await;
    for task in running {
        let _ = task.await;
    }
    app.traces.end().await;
    Ok(())
}

/// Puts together what handlers use, and what runs beside them.
fn parts(config: &Config, shared: Shared, enlarger: Arc<Enlarger>, stop: CancellationToken) -> Result<App, ServeError> {
    let Shared { store, files, signer } = shared;
    let direct = config.storage_redirect.then(|| files.blobs.clone());
    let urls = Urls::new(signer, config.retention(), direct);
    let (terms, metrics, polls) = (config.terms(), Metrics::default(), Polls::default());
    let traces = config.traces()?;
    let bodies = Bodies::new(config.bodies_at_once, files.scratch.clone());
    let turns = Turns::new(cores().get());
    let intake = Intake { files: files.clone(), urls: urls.clone(), policy: config.policy(), limits: terms.limits() };
    let desk = Desk {
        queue: store.queue.clone(),
        blobs: files.blobs.clone(),
        enlarger: enlarger.clone(),
        terms,
        metrics: metrics.clone(),
        traces: traces.clone(),
    };
    let submitter = Submitter {
        bodies: bodies.clone(),
        limit_mb: config.max_body_mb,
        turns: turns.clone(),
        intake: intake.clone(),
        desk: Arc::new(desk),
    };
    let save_to = (!config.save_to.as_os_str().is_empty()).then(|| config.save_to.clone());
    let unsaved = save_to.map(|folder| Unsaved::open(config.data_dir.join("unsaved"), folder)).transpose();
    let unsaved = unsaved.map_err(io_error("cannot open the folder of unsaved results"))?;
    let favorites = Favorites::open(config.data_dir.join("favorites"));
    let favorites = favorites.map_err(io_error("cannot open the folder of favorites"))?;
    let presets = Presets::open(config.data_dir.join("presets"));
    let presets = presets.map_err(io_error("cannot open the folder of presets"))?;
    let follow = Follow::new(store.queue.clone(), enlarger.clone(), stop.clone());
    Ok(App {
        auth: Arc::new(auth::Authority::new(config, store.api_keys.clone())?),
        base: BaseUrl::new(config),
        config: Arc::new(config.clone()),
        queue: store.queue.clone(),
        objects: store.objects.clone(),
        api_keys: store.api_keys.clone(),
        upkeep: store.upkeep.clone(),
        fleet: Fleet::new(store.nodes.clone()),
        files,
        urls,
        reads: Reads::default(),
        favorites,
        presets,
        unsaved,
        bodies,
        intake,
        terms,
        submitter,
        poller: Poller::new(follow.clone(), polls.clone()),
        polls,
        follow,
        deletions: Deletions::default(),
        enlarger,
        turns,
        metrics,
        traces,
        specification: Specification(openapi::document()),
        started: Instant::now(),
        stop,
    })
}

fn router(app: &App) -> Router {
    let mut routes = Router::new();
    if app.config.role != Role::Worker {
        let (public, _) = openapi::public().split_for_parts();
        let (guarded, _) = openapi::guarded().split_for_parts();
        routes = guarded
            .route_layer(middleware::from_fn_with_state(app.clone(), auth::require))
            .merge(public)
            .merge(page::routes());
    }
    let base = app.base.clone();
    let inner = routes
        .route("/health", get(health))
        .route("/livez", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/openapi.json", get(|| async { axum::Json(openapi::document()) }))
        .fallback(dialects::not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), auth::guard_browsers))
        .layer(tower::util::option_layer(auth::cors(&app.config)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(dialects::reword))
        .layer(middleware::from_fn_with_state(app.metrics.clone(), http::with_request_id))
        .with_state(app.clone());
    // Outside of routing, which must see the path as it is then.
    Router::new().fallback(move |request: Request| {
        let (inner, base) = (inner.clone(), base.clone());
        async move { tower::ServiceExt::oneshot(inner, http::with_plain_path(&base, request)).await }
    })
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

/// A route that exists, asked in a way that it does not answer.
async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
}

async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

async fn ready(
    State(upkeep): State<Arc<dyn Upkeep>>,
    State(files): State<Files>,
    State(stop): State<CancellationToken>,
) -> Response {
    let stored = upkeep.ping().await.map_err(ApiError::from);
    let written = files.ping().await.map_err(ApiError::from);
    match stored.and(written) {
        Ok(()) if !stop.is_cancelled() => axum::Json(json!({ "status": "ready" })).into_response(),
        Ok(()) => ApiError::unavailable("the server is shutting down").into_response(),
        Err(error) => error.into_response(),
    }
}

async fn scrape(
    State(upkeep): State<Arc<dyn Upkeep>>,
    State(metrics): State<Metrics>,
    State(enlarger): State<Arc<Enlarger>>,
) -> Response {
    metrics.devices(&enlarger.lanes());
    if let Ok(counts) = upkeep.counts().await {
        metrics.counts(&counts);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}
