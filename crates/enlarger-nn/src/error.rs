//! Why a network could not be read or run.

use std::borrow::Cow;

use enlarger_error::Explained;
pub(crate) use enlarger_error::shortened;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NnError {
    /// The weights are not what the architecture needs.
    #[error("the weights do not fit the model: {0}")]
    Weights(String),
    /// The file is not a known or an allowed kind of weights.
    #[error("{0}")]
    Format(String),
    /// The network is of a kind that is not supported.
    #[error("{0}")]
    Architecture(String),
    /// This machine lacks the device or precision that was asked for.
    #[error("this machine does not support {0}")]
    Backend(String),
    /// There is not enough memory for weights or feature maps.
    #[error("not enough memory for the model's feature maps: {} MB more needed", bytes.div_ceil(1 << 20))]
    Memory {
        /// What could not be allocated.
        bytes: usize,
    },
    /// The system cannot start more threads, usually for lack of memory.
    #[error("not enough memory for {count} threads: {reason}")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// In the system's words.
        reason: String,
    },
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

impl Explained for NnError {
    fn code(&self) -> &'static str {
        match self {
            Self::Weights(_) => "network_weights",
            Self::Format(_) => "network_format",
            Self::Architecture(_) => "network_architecture",
            Self::Backend(_) => "network_device",
            Self::Memory { .. } => "network_memory",
            Self::Threads { .. } => "network_threads",
            Self::Cancelled => "cancelled",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Memory { .. } => {
                Some("close other programs; on the command line, a smaller --strip-width needs less memory".into())
            }
            Self::Threads { .. } => Some("use fewer threads, or close other programs".into()),
            _ => None,
        }
    }
}
