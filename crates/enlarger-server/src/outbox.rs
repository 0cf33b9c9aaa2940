//! Sends webhooks from the outbox. A row is written with the change it announces, so none is forgotten, whatever dies.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use enlarger_egress::{Delivered, Secret, Webhooks, next_try};
use enlarger_tasks::{Delivery, Scope, StoreError};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::{
    app::App,
    auth::keys::random,
    config::{Config, ConfigError},
    magnific::wire::TaskData,
};

/// Deliveries at once. A receiver that hangs holds a place for 15 seconds; the store shares places among receivers.
const AT_ONCE: usize = 128;
/// Longer than a delivery can take: after it another sender may try.
const LEASE: Duration = Duration::from_secs(60);
/// As long as a delivery takes at most, with some to spare.
const DELIVERY: Duration = Duration::from_secs(20);
/// How often an idle sender looks, besides being told.
const IDLE: Duration = Duration::from_secs(1);

/// A sender that signs as configured.
///
/// # Errors
/// If a secret is not what it claims to be.
pub(crate) fn webhooks(config: &Config) -> Result<Webhooks, ConfigError> {
    let secret = |text: &crate::config::Hidden| {
        if text.reveal().is_empty() {
            return Err(ConfigError::new("a webhook secret is empty", "leave it out, or give one"));
        }
        let hint = "give `whsec_` and base64, or any other text";
        Secret::parse(text.reveal()).map_err(|error| ConfigError::new(error.to_string(), hint))
    };
    let secrets = config.webhook_secret.iter().map(secret).collect::<Result<_, _>>()?;
    Ok(Webhooks::new(enlarger_egress::Policy { allow: config.allow_net.clone() }, secrets))
}

/// Sends until told to stop.
pub(crate) async fn run(app: Arc<App>, webhooks: Webhooks) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut changes = app.store.queue.changes();
    while !app.stop.is_cancelled() {
        let free = u32::try_from(places.available_permits()).unwrap_or(u32::MAX);
        let due = if free == 0 { Ok(Vec::new()) } else { app.store.outbox.due(free, LEASE).await };
        let due = due.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the outbox");
            Vec::new()
        });
        if due.is_empty() {
            tokio::select! {
                () = app.stop.cancelled() => {}
                _ = changes.recv() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
            continue;
        }
        let taken = Instant::now();
        for delivery in due {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (app, webhooks) = (app.clone(), webhooks.clone());
            tokio::spawn(async move {
                if let Err(error) = deliver(&app, &webhooks, &delivery, taken).await {
                    // The lease runs out, and it is tried again.
                    tracing::warn!(event = %delivery.event, %error, "webhook's fate not stored");
                }
                drop(place);
            });
        }
    }
}

async fn deliver(app: &App, webhooks: &Webhooks, delivery: &Delivery, taken: Instant) -> Result<(), StoreError> {
    let (event, attempt) = (delivery.event, delivery.attempt);
    let Some(task) = app.store.queue.get(delivery.task, &Scope::All).await? else {
        return app.store.outbox.give_up(event, attempt, "the task was deleted").await;
    };
    let body = TaskData::for_webhook(app, &task, delivery.status).ok().and_then(|data| serde_json::to_vec(&data).ok());
    let Some(body) = body else {
        return app.store.outbox.give_up(event, attempt, "the task could not be read").await;
    };
    // A process that was frozen may find that another one has taken over and told what is newer.
    if taken.elapsed() + DELIVERY > LEASE {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let outcome = webhooks.deliver(&delivery.url, &event.to_string(), now, &body).await;
    let label = match &outcome {
        Delivered::Ok => "delivered",
        Delivered::Retry { .. } => "failed",
        Delivered::Stop { .. } => "stopped",
    };
    metrics::counter!("enlarger_webhooks_total", "outcome" => label).increment(1);
    tracing::info!(%event, task = %delivery.task, attempt, outcome = label, "webhook");
    match outcome {
        Delivered::Ok => app.store.outbox.delivered(event, attempt).await,
        Delivered::Stop { why } => app.store.outbox.give_up(event, attempt, &why).await,
        Delivered::Retry { why, after } => match next_try(attempt, f64::from(random::<1>()[0]) / 255.0) {
            None => app.store.outbox.give_up(event, attempt, &why).await,
            Some(wait) => {
                // The receiver may ask for more time, never for less.
                let wait = wait.max(after.unwrap_or_default());
                app.store.outbox.failed(event, attempt, Timestamp::now() + wait, &why).await
            }
        },
    }
}
