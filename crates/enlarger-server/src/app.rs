//! What all handlers and workers share.

use std::{sync::Arc, time::Instant};

use axum::http::HeaderMap;
use enlarger_blobs::{BlobStore, Key, Right, Scratch};
use enlarger_egress::Policy;
use enlarger_pipeline::Enlarger;
use enlarger_tasks::{Store, Task};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    auth::Authority,
    body::Bodies,
    config::Config,
    error::{ApiError, ApiResult},
    files::{Reads, signed::Signer},
    http,
    polls::Polls,
};

/// What all handlers and workers share.
pub(crate) struct App {
    pub config: Config,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    pub scratch: Scratch,
    pub signer: Signer,
    pub auth: Authority,
    pub bodies: Bodies,
    pub policy: Policy,
    pub enlarger: Arc<Enlarger>,
    /// One preview or thumbnail at a time, beside the jobs.
    pub asides: Arc<Semaphore>,
    /// Polls that are answered once their task has ended.
    pub held_polls: Semaphore,
    /// Bytes of strangers that are read at once.
    pub readers: Arc<Semaphore>,
    /// Who downloads what.
    pub reads: Reads,
    /// Who asks for what.
    pub polls: Polls,
    pub metrics: PrometheusHandle,
    /// Tasks that were deleted, and whose they were.
    pub deleted: broadcast::Sender<(Uuid, Option<String>)>,
    pub started: Instant,
    /// Cancelled when the process is to end.
    pub stop: CancellationToken,
}

impl App {
    /// The address by which this client reaches us.
    pub fn base(&self, headers: &HeaderMap) -> String {
        http::base_url(&self.config, headers)
    }

    /// The address of a file of a finished task, good until the task's files go.
    pub fn file_url(&self, base: &str, task: &Task, key: &Key) -> String {
        let expires = task.expires_at.unwrap_or_else(|| self.retention_from_now());
        format!("{base}{}", self.signer.path(key, Right::Read, expires))
    }

    /// When the files of a task that ended now would go; kept ones have no such time. Rounded up to the hour, so that addresses do not change with every
    /// answer.
    fn retention_from_now(&self) -> jiff::Timestamp {
        let Some(retention) = self.config.retention() else { return jiff::Timestamp::MAX };
        let hours = i64::try_from(retention.as_secs() / 3600).unwrap_or(i64::MAX / 7200);
        let second = (jiff::Timestamp::now().as_second() / 3600 + 1 + hours) * 3600;
        jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX)
    }

    /// Runs something that waits for the disk or computes for a moment.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || work(&app)).await.map_err(ApiError::internal)?
    }

    /// The same for what reads bytes that strangers sent: so few at once that answering never waits for them.
    pub async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let _turn = self.readers.clone().acquire_owned().await.map_err(ApiError::internal)?;
        self.blocking(work).await
    }
}
