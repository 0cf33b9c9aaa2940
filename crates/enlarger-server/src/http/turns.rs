//! Work that must not block the threads that handle requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ApiResult};

/// Runs something that waits for the disk or computes for a moment.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// Turns for computing beside the jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    /// One preview or thumbnail at a time.
    asides: Arc<Semaphore>,
    /// How many untrusted files are read at once.
    readers: Arc<Semaphore>,
}

impl Turns {
    /// On a machine with so many cores.
    pub fn new(cores: usize) -> Self {
        Self { asides: Arc::new(Semaphore::new(1)), readers: Arc::new(Semaphore::new((cores / 2).max(1))) }
    }

    /// Waits for a turn to make a preview or a thumbnail. It ends when what is returned is dropped.
    pub async fn aside(&self) -> ApiResult<OwnedSemaphorePermit> {
        self.asides.clone().acquire_owned().await.map_err(ApiError::internal)
    }

    /// [`blocking`] for untrusted files, with a limit so that requests never wait for them.
    pub async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let _turn = self.readers.clone().acquire_owned().await.map_err(ApiError::internal)?;
        blocking(work).await
    }
}
