//! Sends webhooks from the outbox. A row is written in the transaction of the change it announces, so no crash loses
//! one.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use enlarger_egress::{Delivered, Webhooks, next_try};
use enlarger_tasks::{Delivery, Outbox, Queue, Scope, StoreError, Task, TaskState};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{error::Error, job::Job, metrics::Metrics, random::random, traces::Traces, urls::Urls, wakes::Wakes};

/// Deliveries at once. A receiver that hangs holds a place for 15 seconds; the store shares places among receivers.
const AT_ONCE: usize = 128;
/// Longer than a delivery can take: after it another sender may try.
const LEASE: Duration = Duration::from_secs(60);
/// The longest time that a delivery takes, with some margin.
const DELIVERY: Duration = Duration::from_secs(20);

/// The body of a webhook: this task, at this status, with this URL of its result once there is one. `None` if the task cannot be
/// read.
pub type Body = fn(task: &Task, status: TaskState, result: Option<&str>) -> Option<Vec<u8>>;

/// Sends the webhooks of an outbox.
pub struct Sender {
    /// The webhooks.
    pub outbox: Arc<dyn Outbox>,
    /// The tasks that webhooks are about.
    pub queue: Arc<dyn Queue>,
    /// Signs and delivers.
    pub webhooks: Webhooks,
    /// Makes the URLs in bodies.
    pub urls: Urls,
    /// Writes them.
    pub body: Body,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it is told when receivers were called.
    pub traces: Traces,
    /// Cancelled when the service is to end.
    pub stop: CancellationToken,
}

impl Sender {
    /// Sends until told to stop.
    pub async fn run(self) {
        send_all(Arc::new(self)).await;
    }
}

async fn send_all(sender: Arc<Sender>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // A task that was just created is announced to nobody.
    let mut wakes = Wakes::new(&*sender.queue, |state| state != TaskState::Created);
    while !sender.stop.is_cancelled() {
        let free = u32::try_from(places.available_permits()).unwrap_or(u32::MAX);
        let due = if free == 0 { Ok(Vec::new()) } else { sender.outbox.due(free, LEASE).await };
        let due = due.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the outbox");
            Vec::new()
        });
        if due.is_empty() {
            tokio::select! {
                () = sender.stop.cancelled() => {}
                () = wakes.next() => {}
            }
            continue;
        }
        let taken = Instant::now();
        for delivery in due {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let sender = sender.clone();
            tokio::spawn(async move {
                if let Err(error) = deliver(&sender, &delivery, taken).await {
                    // The lease runs out, and it is tried again.
                    tracing::warn!(event = %delivery.event, %error, "cannot store the outcome of a webhook");
                }
                drop(place);
            });
        }
    }
}

async fn deliver(sender: &Sender, delivery: &Delivery, taken: Instant) -> Result<(), StoreError> {
    let (event, attempt) = (delivery.event, delivery.attempt);
    let Some(task) = sender.queue.get(delivery.task, &Scope::All).await? else {
        return sender.outbox.give_up(event, attempt, "the task was deleted").await;
    };
    let base = Job::of(&task).map(|job| job.base);
    let result = match &base {
        Ok(base) if delivery.status == TaskState::Completed => sender.urls.result(base, &task),
        Ok(_) => Ok(None),
        Err(error) => Err(Error::internal(error)),
    };
    let body = result.ok().and_then(|url| (sender.body)(&task, delivery.status, url.as_deref()));
    let Some(body) = body else {
        return sender.outbox.give_up(event, attempt, "the task could not be read").await;
    };
    // A process that was frozen may find that another one has taken over and sent a newer status.
    if taken.elapsed() + DELIVERY > LEASE {
        return Ok(());
    }
    // This machine's clock may be wrong.
    let now = delivery.taken_at.checked_add(taken.elapsed()).unwrap_or(delivery.taken_at).as_second();
    let since = SystemTime::now();
    let outcome = sender.webhooks.deliver(&delivery.url, &event.to_string(), now, &body).await;
    let label = match &outcome {
        Delivered::Ok => "delivered",
        Delivered::Retry { .. } => "failed",
        Delivered::Stop { .. } => "stopped",
    };
    sender.metrics.webhook(label);
    let error = match &outcome {
        Delivered::Ok => None,
        Delivered::Retry { why, .. } | Delivered::Stop { why } => Some(why.as_str()),
    };
    sender.traces.called(delivery.task, since, attempt, label, error);
    tracing::info!(%event, task = %delivery.task, attempt, outcome = label, error, "webhook");
    match outcome {
        Delivered::Ok => sender.outbox.delivered(event, attempt).await,
        Delivered::Stop { why } => sender.outbox.give_up(event, attempt, &why).await,
        Delivered::Retry { why, after } => match next_try(attempt, f64::from(random::<1>()[0]) / 255.0) {
            None => sender.outbox.give_up(event, attempt, &why).await,
            Some(wait) => {
                // The receiver may ask for more time, never for less.
                let wait = wait.max(after.unwrap_or_default());
                sender.outbox.failed(event, attempt, wait, &why).await
            }
        },
    }
}
