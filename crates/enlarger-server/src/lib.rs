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
pub use enlarger_service::{APART_COMMAND, run_apart};
use enlarger_service::{
    deletions::Deletions,
    favorites::Favorites,
    files::Files,
    follow::Follow,
    intake::Intake,
    metrics::Metrics,
    outbox,
    polls::Polls,
    presets::Presets,
    reads::Reads,
    saver::{Saver, Unsaved},
    submit::Desk,
    sweeper::Sweeper,
    urls::Urls,
    worker::Worker,
};
use enlarger_tasks::{Store, StoreConfig, StoreError, SystemClock, Upkeep, sqlite};
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
    /// The data directory or the address.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Explained for ServeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Io { .. } => "data_dir",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Store(error) => error.hint(),
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
        "" => sqlite::url_of(&dir.join("tasks.sqlite")).map_err(io_error("cannot name the task database"))?,
        url => url.to_owned(),
    };
    Ok(enlarger_tasks::open_store(&url, limits, Arc::new(SystemClock)).await?)
}

/// Opens the task database as soon as it can be reached, and says meanwhile that the server is not ready. `None` if it is
/// stopped before.
async fn reach_store(
    config: &Config,
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Result<Option<Store>, ServeError> {
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);
    let open = async || match open_store(config).await {
        Err(ServeError::Store(error)) if error.is_transient() => Err(error),
        ended => Ok(ended.map(Some)),
    };
    // Most databases answer at once. Until then connections wait, as nothing is served.
    let mut error = match open().await {
        Ok(ended) => return ended,
        Err(error) => error,
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
                Ok(ended) => return ended,
                Err(error) => error,
            };
        }
    };
    tokio::join!(waiting, opening).1
}

/// What is answered before there is a task database.
fn waiting() -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(health))
        .fallback(async || ApiError::unavailable("the server is waiting for its task database"))
        .layer(middleware::from_fn(http::with_request_id))
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
    ready: impl FnOnce() + Send,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Some(store) = reach_store(&config, &listener, &stop).await? else { return Ok(()) };
    let app = parts(&config, &store, enlarger, stop.clone()).await?;
    let mut running = Vec::new();
    if config.role != Role::Api {
        let worker = Worker {
            queue: store.queue.clone(),
            files: app.files.clone(),
            enlarger: app.enlarger.clone(),
            apart: config.apart(),
            policy: config.policy(),
            fetch_limit: config.max_body_mb << 20,
            terms: app.terms,
            jobs: config.jobs,
            lease: Duration::from_secs(config.lease_seconds),
            drain: Duration::from_secs(config.drain_seconds),
            relay: config.relay()?,
            unsaved: app.unsaved.clone(),
            metrics: app.metrics.clone(),
            stop: stop.clone(),
        };
        let sender = outbox::Sender {
            outbox: store.outbox.clone(),
            queue: store.queue.clone(),
            webhooks: config.webhooks()?,
            urls: app.urls.clone(),
            body: dialects::webhook,
            metrics: app.metrics.clone(),
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
    ready();
    http::serve(listener, router(&app), stop, Duration::from_secs(5)).await;
    for task in running {
        let _ = task.await;
    }
    Ok(())
}

/// Puts together what handlers use, and what runs beside them.
async fn parts(
    config: &Config,
    store: &Store,
    enlarger: Arc<Enlarger>,
    stop: CancellationToken,
) -> Result<App, ServeError> {
    let files = storage::open(config).await?;
    let signer = storage::signer(config, &files.scratch)?;
    let direct = config.storage_redirect.then(|| files.blobs.clone());
    let urls = Urls::new(signer, config.retention(), direct);
    let (terms, metrics, polls) = (config.terms(), Metrics::default(), Polls::default());
    let bodies = Bodies::new(config.bodies_at_once, files.scratch.clone());
    let turns = Turns::new(cores().get());
    let intake = Intake { files: files.clone(), urls: urls.clone(), policy: config.policy(), limits: terms.limits() };
    let desk = Desk {
        queue: store.queue.clone(),
        blobs: files.blobs.clone(),
        enlarger: enlarger.clone(),
        terms,
        metrics: metrics.clone(),
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
    let follow = Follow::new(store.queue.clone(), config.jobs, stop.clone());
    Ok(App {
        auth: Arc::new(auth::Authority::new(config, store.api_keys.clone())?),
        base: BaseUrl::new(config),
        config: Arc::new(config.clone()),
        queue: store.queue.clone(),
        objects: store.objects.clone(),
        api_keys: store.api_keys.clone(),
        upkeep: store.upkeep.clone(),
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
        .layer(middleware::from_fn(http::with_request_id))
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

async fn scrape(State(upkeep): State<Arc<dyn Upkeep>>, State(metrics): State<Metrics>) -> Response {
    if let Ok(counts) = upkeep.counts().await {
        metrics.counts(&counts);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}
