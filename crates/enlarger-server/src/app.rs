//! The parts of the server. A handler takes those that it uses as `State<Part>`, and sees nothing else.

use std::{sync::Arc, time::Instant};

use axum::extract::FromRef;
use enlarger_pipeline::Enlarger;
use enlarger_service::{
    deletions::Deletions, favorites::Favorites, files::Files, follow::Follow, intake::Intake, job::Terms,
    metrics::Metrics, nodes::Fleet, polls::Polls, presets::Presets, reads::Reads, saver::Unsaved, traces::Traces,
    urls::Urls,
};
use enlarger_tasks::{ApiKeys, Objects, Queue, Upkeep};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Authority,
    config::Config,
    http::{BaseUrl, Bodies, Turns},
    poller::Poller,
    specification::Specification,
    submit::Submitter,
};

/// All parts. Cheap to clone, as each of them is.
#[derive(Clone, FromRef)]
pub(crate) struct App {
    pub config: Arc<Config>,
    /// Who may call.
    pub auth: Arc<Authority>,
    /// How clients reach us.
    pub base: BaseUrl,
    /// The store, by its users.
    pub queue: Arc<dyn Queue>,
    pub objects: Arc<dyn Objects>,
    pub api_keys: Arc<dyn ApiKeys>,
    pub upkeep: Arc<dyn Upkeep>,
    /// All processes that share it.
    pub fleet: Fleet,
    pub files: Files,
    pub urls: Urls,
    pub reads: Reads,
    pub favorites: Favorites,
    pub presets: Presets,
    /// Results that are to be copied to the folder of `save_to`.
    pub unsaved: Option<Unsaved>,
    /// What is sent, and how it becomes a task.
    pub bodies: Bodies,
    pub intake: Intake,
    pub terms: Terms,
    pub submitter: Submitter,
    /// What happens to it.
    pub follow: Follow,
    pub poller: Poller,
    pub polls: Polls,
    pub deletions: Deletions,
    pub enlarger: Arc<Enlarger>,
    pub turns: Turns,
    pub metrics: Metrics,
    pub traces: Traces,
    pub specification: Specification,
    pub started: Instant,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
}
