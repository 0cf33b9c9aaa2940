//! Why a call to the service failed.

use std::{borrow::Cow, io, time::Duration};

use enlarger_error::Explained;
use enlarger_tasks::{QueueLimit, StoreError};

/// Why a call to the service failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such task, or it belongs to another owner.
    #[error("Task not found")]
    NoTask,
    /// Too many tasks wait.
    #[error("{} is full: {} tasks are waiting", if .0.of_owner { "your queue" } else { "the queue" }, .0.limit)]
    QueueFull(QueueLimit),
    /// Another request with the same idempotency key has not been answered yet.
    #[error("a request with this Idempotency-Key is still in progress")]
    IdempotencyInFlight,
    /// The idempotency key belongs to another request.
    #[error("this Idempotency-Key was already used for a different request")]
    IdempotencyMismatch,
    /// The task store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files.
    #[error(transparent)]
    Files(#[from] io::Error),
    /// A mistake in this program.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A mistake in this program.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        Self::Internal(why.to_string())
    }

    /// Whether the same call may succeed later without any other change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull(_) | Self::IdempotencyInFlight => true,
            Self::Store(error) => error.is_transient(),
            Self::Files(error) => enlarger_blobs::is_transient(error),
            Self::NoTask | Self::IdempotencyMismatch | Self::Internal(_) => false,
        }
    }

    /// When to try again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull(limit) => Some(limit.retry_after),
            Self::IdempotencyInFlight => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl Explained for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTask => "not_found",
            Self::QueueFull(_) => "queue_full",
            Self::IdempotencyInFlight => "idempotency_in_flight",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::Store(_) | Self::Files(_) if self.is_retryable() => "service_unavailable",
            Self::Store(_) | Self::Files(_) | Self::Internal(_) => "internal",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        matches!(self, Self::IdempotencyMismatch).then(|| "use a new key for a new request".into())
    }
}
