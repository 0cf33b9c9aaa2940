//! Why a task failed, and whose fault it is.

use enlarger_tasks::TaskError;

/// Failures that the service itself reports. Those of decoding and enlarging come from the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A mistake in this program.
    Internal,
    /// A file could not be read or written.
    Storage,
    /// The machine had no thread or process left.
    Busy,
    /// The picture could not be fetched.
    Fetch,
    /// The result would be too large.
    TooLarge,
    /// The picture is one that the client wants filtered.
    Explicit,
    /// The service that enlarges instead of this machine did not, or must not.
    Relay,
}

impl Failure {
    /// As stored, and as on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Storage => "storage",
            Self::Busy => "busy",
            Self::Fetch => "fetch",
            Self::TooLarge => "too_large",
            Self::Explicit => "explicit",
            Self::Relay => "relay",
        }
    }

    /// The error of a task.
    pub fn error(self, message: impl Into<String>) -> TaskError {
        TaskError::new(self.code(), message)
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The picture or the request.
    Client,
    /// This program or its machine.
    Service,
}

impl Blame {
    /// Whose fault this is. The pipeline's codes for problems of the machine, or of a program
    /// that the operator named, are `network`, `model`, `memory` and `generator`.
    pub fn of(error: &TaskError) -> Self {
        const OURS: [&str; 9] = [
            Failure::Internal.code(),
            Failure::Storage.code(),
            Failure::Busy.code(),
            Failure::Relay.code(),
            TaskError::WORKER_DIED,
            "network",
            "model",
            "memory",
            "generator",
        ];
        if OURS.contains(&error.code.as_str()) { Self::Service } else { Self::Client }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_to_blame_for_its_picture_and_request_only() {
        for ours in [
            Failure::Internal.error(""),
            Failure::Storage.error(""),
            Failure::Busy.error(""),
            TaskError::worker_died(3),
            TaskError::new("memory", ""),
        ] {
            assert_eq!(Blame::of(&ours), Blame::Service, "{ours:?}");
        }
        for theirs in [
            Failure::Fetch.error(""),
            Failure::TooLarge.error(""),
            TaskError::new("image", ""),
            TaskError::new("request", ""),
        ] {
            assert_eq!(Blame::of(&theirs), Blame::Client, "{theirs:?}");
        }
    }
}
