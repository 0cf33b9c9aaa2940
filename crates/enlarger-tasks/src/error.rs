//! What can go wrong inside a store. Expected outcomes (queue full, already done, ...) are not errors: they are
//! variants of what the methods return.

use std::borrow::Cow;

use enlarger_error::Explained;
use uuid::Uuid;

/// A store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The write was fenced off: another attempt owns the task, or it was cancelled. Drop the work and its files
    /// silently; nothing was changed.
    #[error("the lease on task {0} is lost")]
    LeaseLost(Uuid),
    /// The database is locked, full, read-only or gone. Nothing was changed; the same call may succeed later.
    #[error("the task database is not available: {0}")]
    Unavailable(String),
    /// The database was lost in a commit and does not come back: the change is made or not made. The same call may be
    /// repeated: what it did before counts.
    #[error("the task database is not available: {0}; the change may have been made")]
    Uncertain(String),
    /// The database returned something that this version does not understand.
    #[error("the task database contains an unreadable {what}: {why}")]
    Corrupt {
        /// The column or value.
        what: &'static str,
        /// Why it could not be read.
        why: String,
    },
    /// It is not a database of this program, or of a newer version of it, or not for us to use.
    #[error("cannot open the task database: {why}")]
    Open {
        /// What failed.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The database server cannot be reached now, or does not let us in now. The same call may succeed later.
    #[error("cannot reach the task database: {why}")]
    Unreachable {
        /// Where, and what failed.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// Any other database error: a bug.
    #[error("task database: {0}")]
    Database(String),
}

impl StoreError {
    /// Whether the same call may succeed later without any other change.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Uncertain(_) | StoreError::Unreachable { .. })
    }
}

impl Explained for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::LeaseLost(_) => "lease_lost",
            Self::Unavailable(_) | Self::Uncertain(_) => "store_unavailable",
            Self::Corrupt { .. } => "store_corrupt",
            Self::Open { .. } => "store_not_opened",
            Self::Unreachable { .. } => "store_unreachable",
            Self::Database(_) => "store_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Open { hint, .. } | Self::Unreachable { hint, .. } => Some(hint.into()),
            _ => None,
        }
    }
}
