//! The life of a task as a pure machine. Stores load a [`Life`], [`apply`](Life::apply) an [`Event`] and write back what comes
//! out; no store decides anything about states by itself.
//!
//! Two counters: `attempt` counts claims and only grows, so (task, attempt, worker) is never used twice and fences every write
//! of a worker; `failures` counts attempts of the present run that broke, and decides when a task is poison. A released
//! attempt moves the first and not the second.

use serde::{Deserialize, Serialize};

/// A task's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskState {
    /// Waiting in the queue.
    Created,
    /// Held by a worker.
    InProgress,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by a user, before it had a result.
    Cancelled,
}

impl TaskState {
    /// Every state.
    pub const ALL: [TaskState; 5] =
        [TaskState::Created, TaskState::InProgress, TaskState::Completed, TaskState::Failed, TaskState::Cancelled];

    /// Whether the task has come to its end (only a retry by a user leads out).
    pub fn is_terminal(self) -> bool {
        matches!(self, TaskState::Completed | TaskState::Failed | TaskState::Cancelled)
    }

    /// The stored form, e.g. `IN_PROGRESS`.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Created => "CREATED",
            TaskState::InProgress => "IN_PROGRESS",
            TaskState::Completed => "COMPLETED",
            TaskState::Failed => "FAILED",
            TaskState::Cancelled => "CANCELLED",
        }
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for TaskState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TaskState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a task state"))
    }
}

/// The part of a task that decides where it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub state: TaskState,
    /// How often a user submitted or retried it, from 1.
    pub run: u32,
    /// How often it was claimed, ever.
    pub attempt: u32,
    /// How many attempts of this run failed.
    pub failures: u32,
    /// Who holds it: set exactly when in progress.
    pub worker: Option<String>,
}

/// What may happen to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker takes it.
    Claim {
        /// Who.
        worker: String,
    },
    /// A worker did it.
    Complete(Holder),
    /// A worker could not do it.
    Fail {
        /// Who.
        holder: Holder,
        /// Whether another attempt may go better.
        again: bool,
    },
    /// A worker returns it untouched.
    Release(Holder),
    /// The worker has not been heard of for the length of its lease, and the task is to blame.
    LeaseExpired,
    /// The worker has not renewed its lease, and nothing proves that the task is to blame: somebody may
    /// have killed it. It makes the task a suspect (one broken attempt) and never ends it.
    Orphaned,
    /// A user cancelled it.
    Cancel,
    /// A user wants it after all.
    Retry,
}

/// The fence: which claim a worker speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which claim.
    pub attempt: u32,
    /// By whom.
    pub worker: String,
}

/// Why an event does not apply. The task is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The worker does not hold the task (any more).
    LeaseLost,
    /// The task is not in a state that knows this event.
    WrongState,
}

impl Life {
    /// A task just submitted.
    pub fn new() -> Self {
        Life { state: TaskState::Created, run: 1, attempt: 0, failures: 0, worker: None }
    }

    /// The task after the event. `max_failures` (>= 1) is the number of broken attempts after which it fails for good.
    pub fn apply(&self, event: &Event, max_failures: u32) -> Result<Life, Refused> {
        use TaskState::*;
        let ended = |state| Life { state, worker: None, ..self.clone() };
        match event {
            Event::Claim { worker } => match self.state {
                Created => {
                    let attempt = self.attempt + 1;
                    Ok(Life { state: InProgress, attempt, worker: Some(worker.clone()), ..self.clone() })
                }
                _ => Err(Refused::WrongState),
            },
            Event::Complete(holder) => self.held_by(holder).map(|()| ended(Completed)),
            Event::Fail { holder, again: true } => self.held_by(holder).map(|()| self.broken(max_failures)),
            Event::Fail { holder, again: false } => {
                self.held_by(holder).map(|()| Life { failures: self.failures + 1, ..ended(Failed) })
            }
            Event::Release(holder) => self.held_by(holder).map(|()| ended(Created)),
            Event::LeaseExpired => match self.state {
                InProgress => Ok(self.broken(max_failures)),
                _ => Err(Refused::WrongState),
            },
            Event::Orphaned => match self.state {
                InProgress => Ok(Life { failures: self.failures.max(1), ..ended(Created) }),
                _ => Err(Refused::WrongState),
            },
            Event::Cancel => match self.state {
                Created | InProgress => Ok(ended(Cancelled)),
                _ => Err(Refused::WrongState),
            },
            Event::Retry => match self.state {
                Failed | Cancelled => Ok(Life { run: self.run + 1, failures: 0, ..ended(Created) }),
                _ => Err(Refused::WrongState),
            },
        }
    }

    fn held_by(&self, holder: &Holder) -> Result<(), Refused> {
        let held = self.state == TaskState::InProgress
            && self.attempt == holder.attempt
            && self.worker.as_deref() == Some(&holder.worker);
        if held { Ok(()) } else { Err(Refused::LeaseLost) }
    }

    /// One attempt broke: back into the queue, or poison.
    fn broken(&self, max_failures: u32) -> Life {
        let failures = self.failures + 1;
        let state = if failures >= max_failures { TaskState::Failed } else { TaskState::Created };
        Life { state, failures, worker: None, ..self.clone() }
    }
}

impl Default for Life {
    fn default() -> Self {
        Life::new()
    }
}
