//! A task with the columns that only stores see, and what each event does to it. Shared by every backend: a backend loads
//! a [`Record`], lets it move, and writes it back in the same transaction together with the outbox row it [announces].
//!
//! [announces]: Record::announces

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    state::{Event, Holder, Life, Refused, TaskState},
    store::{Retry, StoreConfig},
    task::{Files, Lease, NewTask, Task, TaskError},
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub task: Task,
    /// The rank in the queue, in milliseconds of Unix time.
    pub due: i64,
    /// Not to be claimed before.
    pub not_before: Timestamp,
    /// Deleted by its user.
    pub hidden: bool,
}

/// Work that counts for ranking is capped, so that a wild estimate cannot put a task off for days.
const MAX_RANKED_COST: f64 = 3600.0;

impl Record {
    /// A task just submitted.
    pub fn new(new: NewTask, now: Timestamp, config: &StoreConfig) -> Self {
        let life = Life::new();
        let task = Task {
            id: new.id,
            owner: new.owner,
            kind: new.kind,
            request: new.request,
            input: new.input,
            webhook_url: new.webhook_url,
            cost: if new.cost.is_finite() { new.cost.max(0.0) } else { 0.0 },
            state: life.state,
            run: life.run,
            attempt: life.attempt,
            failures: life.failures,
            worker: life.worker,
            lease_until: None,
            created_at: now,
            started_at: None,
            finished_at: None,
            expires_at: None,
            polled_at: new.polled.then_some(now),
            needs: new.needs,
            files: Files::Present,
            progress: None,
            plan: None,
            result: None,
            error: None,
        };
        let due = due(now, task.cost, config);
        Record { task, due, not_before: now, hidden: false }
    }

    /// A worker takes it for as long as `lease`.
    pub fn claim(&self, worker: &str, lease: Duration, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let mut next = self.moved(&Event::Claim { worker: worker.to_owned() }, now, config)?;
        next.task.lease_until = Some(after(now, lease));
        next.task.started_at = Some(now);
        Ok(next)
    }

    /// The worker did it.
    pub fn complete(&self, held: &Lease, result: Value, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let mut next = self.moved(&Event::Complete(holder(held)), now, config)?;
        next.task.progress = self.task.progress.clone();
        next.task.result = Some(result);
        next.task.error = None;
        Ok(next)
    }

    /// The worker could not do it.
    pub fn fail(
        &self,
        held: &Lease,
        error: TaskError,
        retry: Retry,
        now: Timestamp,
        config: &StoreConfig,
    ) -> Result<Self, Refused> {
        let again = matches!(retry, Retry::After(_));
        let mut next = self.moved(&Event::Fail { holder: holder(held), again }, now, config)?;
        next.task.error = Some(error);
        if let Retry::After(pause) = retry {
            next.not_before = after(now, pause);
        }
        Ok(next)
    }

    /// The worker gives it back untouched.
    pub fn release(&self, held: &Lease, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        self.moved(&Event::Release(holder(held)), now, config)
    }

    /// Its worker died, froze or was cut off.
    pub fn lease_expired(&self, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let event = if config.suspects_run_apart { Event::Orphaned } else { Event::LeaseExpired };
        let mut next = self.moved(&event, now, config)?;
        next.task.error = Some(TaskError::worker_died(next.task.failures));
        Ok(next)
    }

    /// Its user does not want it any more.
    pub fn cancel(&self, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let mut next = self.moved(&Event::Cancel, now, config)?;
        next.task.error = Some(TaskError::new(TaskError::CANCELLED, "the task was cancelled"));
        Ok(next)
    }

    /// Its user wants it after all.
    pub fn retry(&self, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let mut next = self.moved(&Event::Retry, now, config)?;
        next.task.error = None;
        next.task.plan = None;
        next.due = due(now, next.task.cost, config);
        next.not_before = now;
        Ok(next)
    }

    /// The status that a webhook reports when `self` became `next`.
    pub fn announces(&self, next: &Record) -> Option<TaskState> {
        let told = next.task.state != self.task.state && next.task.state != TaskState::Created;
        told.then_some(next.task.state)
    }

    /// What every event has in common: the machine decides, times and leases follow from the state.
    fn moved(&self, event: &Event, now: Timestamp, config: &StoreConfig) -> Result<Self, Refused> {
        let task = &self.task;
        let life = Life {
            state: task.state,
            run: task.run,
            attempt: task.attempt,
            failures: task.failures,
            worker: task.worker.clone(),
        };
        let life = life.apply(event, config.max_failures)?;
        let ended = life.state.is_terminal().then_some(now);
        let mut next = self.clone();
        next.task.state = life.state;
        next.task.run = life.run;
        next.task.attempt = life.attempt;
        next.task.failures = life.failures;
        next.task.worker = life.worker;
        next.task.lease_until = None;
        next.task.finished_at = ended;
        next.task.expires_at = ended.zip(config.retention).map(|(end, retention)| after(end, retention));
        next.task.progress = None;
        Ok(next)
    }
}

/// Short work first, but every task's turn comes: see [`StoreConfig::patience`].
fn due(queued_at: Timestamp, cost: f64, config: &StoreConfig) -> i64 {
    let allowance = config.patience * cost.min(MAX_RANKED_COST) * 1000.0;
    queued_at.as_millisecond().saturating_add(allowance as i64)
}

/// `time + by`, at the end of time at the latest.
pub(crate) fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Host and port of a webhook's URL: what is slow or dead together.
pub(crate) fn receiver(url: &str) -> String {
    let parsed = url::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
    match host {
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host.to_owned(),
        // Submission refuses such a URL; if there is one all the same, it is a receiver of its own.
        None => url.to_owned(),
    }
}

fn holder(held: &Lease) -> Holder {
    Holder { attempt: held.attempt, worker: held.worker.clone() }
}

#[cfg(test)]
mod tests {
    use super::receiver;

    #[test]
    fn a_receiver_is_a_host_and_its_port_however_the_url_is_spelled() {
        for (url, expected) in [
            ("https://SLOW.example/a?b", "slow.example"),
            ("https://user:word@slow.example", "slow.example"),
            ("https://slow.example:443/#x", "slow.example"),
            ("http://slow.example:8080/hook", "slow.example:8080"),
            ("http://[2001:DB8::1]:80/", "[2001:db8::1]"),
            ("not a url", "not a url"),
        ] {
            assert_eq!(receiver(url), expected, "{url}");
        }
    }
}
