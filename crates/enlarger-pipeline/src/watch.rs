//! How a running job is seen and stopped from outside.

use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Bytes become pixels.
    Decode,
    /// Statistics are measured and the plan is made.
    Plan,
    /// Networks and filters run.
    Enlarge,
    /// Pixels become bytes.
    Encode,
}

/// One report of progress.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// Tiles done, of the present pass.
    pub done: u64,
    /// Tiles of the present pass; 0 while unknown.
    pub total: u64,
    /// Share of the job that is done, 0.0 to 1.0, weighted by the cost of its passes.
    pub fraction: f64,
    /// Seconds left, from this job's own speed; `None` while nothing is known.
    pub eta_seconds: Option<f64>,
}

/// The observer of a job. Called from worker threads.
pub trait Watch: Sync {
    /// Something moved. Called some twenty times per strip and at each change of stage.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }
    /// Asked as often: `true` ends the job with [`crate::PipelineError::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
