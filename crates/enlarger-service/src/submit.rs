//! The only way into the queue, for every API.

use std::{sync::Arc, time::SystemTime};

use enlarger_blobs::{BlobStore, Key};
use enlarger_pipeline::{Enlarger, PipelineError, Request, Unwatched};
use enlarger_tasks::{Idempotency, NewTask, Queue, Reserved, StoreError, Submitted, Task};
use uuid::Uuid;

use crate::{
    abilities::needs,
    error::Error,
    intake::Received,
    job::{Input, Job, Kind, OutputFile, SourceInfo, Terms, TooLarge, check_size},
    metrics::Metrics,
    traces::Traces,
};

/// Estimated seconds for a picture that has not been fetched yet: as for about a megapixel.
const UNKNOWN_COST: f64 = 30.0;

/// What a request asks for, besides its picture.
#[derive(Debug, Clone)]
pub struct Ask {
    /// By which endpoint.
    pub kind: Kind,
    /// What to do to the pixels.
    pub request: Request,
    /// The file to make of them.
    pub output: OutputFile,
    /// The picture's name.
    pub name: Option<String>,
    /// Where changes of the task's status are sent.
    pub webhook_url: Option<String>,
    /// Whether to filter results, which is not supported; the notes of the result say so.
    pub filter_nsfw: bool,
}

/// A request that has been read and checked.
pub struct Submission {
    /// What is asked for.
    pub ask: Ask,
    /// Of which picture.
    pub picture: Received,
    /// Seconds that it is expected to take.
    pub seconds: f64,
    /// The base URL by which the client reached us.
    pub base: String,
    /// Whether its client polls. With a webhook it need not poll, and the task never yields to others.
    pub polled: bool,
}

/// A task that was accepted, now or before.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The task.
    pub task: Task,
    /// Whether an earlier request with the same key made it.
    pub replayed: bool,
}

/// Why a request cannot be carried out on a picture.
#[derive(Debug)]
pub enum Infeasible {
    /// The result would be too large.
    TooLarge(TooLarge),
    /// The request does not fit the picture.
    Refused(PipelineError),
}

/// Accepts tasks. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// Where they wait.
    pub queue: Arc<dyn Queue>,
    /// Where their pictures go.
    pub blobs: Arc<dyn BlobStore>,
    /// Estimates their cost.
    pub enlarger: Arc<Enlarger>,
    /// How large sources and results may be.
    pub terms: Terms,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it is told when tasks were accepted.
    pub traces: Traces,
}

impl Desk {
    /// Seconds that a request is expected to take; `source` is unknown while it is still to be fetched.
    ///
    /// # Errors
    /// If it cannot be carried out.
    pub fn estimate(&self, ask: &Ask, source: Option<&SourceInfo>) -> Result<f64, Infeasible> {
        let Some(source) = source else { return Ok(UNKNOWN_COST) };
        let size = (source.width, source.height);
        let estimate = self.enlarger.estimate(size.0, size.1, &ask.request, &Unwatched).map_err(Infeasible::Refused)?;
        check_size(&self.terms, ask.kind, &ask.request, size, &estimate).map_err(Infeasible::TooLarge)?;
        Ok(estimate.seconds.unwrap_or(UNKNOWN_COST))
    }

    /// Puts a task into the queue, or finds the one that the same request created before. `prepare` reads and checks
    /// the input; it is not called for a request that was accepted before.
    ///
    /// # Errors
    /// Those of `prepare`, or why the task is not accepted; nothing is stored then.
    pub async fn submit<E: From<Error> + Send + 'static>(
        &self,
        owner: Option<String>,
        mut idempotency: Option<Idempotency>,
        prepare: impl Future<Output = Result<Submission, E>> + Send + 'static,
    ) -> Result<Accepted, E> {
        if let Some(key) = &mut idempotency {
            match self.queue.reserve(owner.as_deref(), key).await.map_err(Error::from)? {
                Reserved::Yours(token) => key.reservation = Some(token),
                Reserved::Replayed(task) => return Ok(Accepted { task, replayed: true }),
                Reserved::InFlight => return Err(Error::IdempotencyInFlight.into()),
                Reserved::Mismatch => return Err(Error::IdempotencyMismatch.into()),
            }
        }
        // In a spawned task: a client that disconnects now must not leave a half-made task or a reserved key behind.
        let accepting = self.clone().accept(owner, idempotency, prepare);
        tokio::spawn(accepting).await.map_err(Error::internal)?
    }

    async fn accept<E: From<Error>>(
        self,
        owner: Option<String>,
        idempotency: Option<Idempotency>,
        prepare: impl Future<Output = Result<Submission, E>>,
    ) -> Result<Accepted, E> {
        let (id, since) = (Uuid::now_v7(), SystemTime::now());
        let reservation = idempotency.as_ref().and_then(|key| key.reservation);
        let accepted = match prepare.await {
            Ok(submission) => {
                let accepted = self.enqueue(id, owner, submission, idempotency).await;
                let needed = match &accepted {
                    Ok(accepted) => accepted.task.id == id,
                    // If there is no such task, the sweeper finds its files.
                    Err(error) => matches!(error, Error::Store(StoreError::Uncertain(_))),
                };
                if !needed {
                    let _ = self.blobs.delete_task(id).await;
                } else if accepted.is_ok() {
                    self.traces.accepted(id, since);
                }
                accepted.map_err(E::from)
            }
            Err(error) => Err(error),
        };
        if let (Err(_), Some(token)) = (&accepted, reservation) {
            self.queue.unreserve(token).await.map_err(Error::from)?;
        }
        accepted
    }

    /// Stores the picture under the task's id, then creates the task.
    async fn enqueue(
        &self,
        id: Uuid,
        owner: Option<String>,
        submission: Submission,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, Error> {
        let Submission { ask, picture, seconds, base, polled } = submission;
        let source = picture.info().cloned();
        let input = match picture {
            Received::Sent(draft, _) => {
                self.blobs.publish(draft, &Key::Source(id)).await?;
                Input::Stored
            }
            Received::Ours { key, .. } => {
                self.blobs.copy(&key, &Key::Source(id)).await?;
                Input::Stored
            }
            Received::Remote(url) => Input::Url(url),
        };
        let polled = polled && ask.webhook_url.is_none();
        let needs = needs(&self.enlarger, &ask.request);
        let job = Job {
            request: ask.request,
            output: ask.output,
            base,
            name: ask.name,
            source,
            estimate_seconds: seconds,
            filter_nsfw: ask.filter_nsfw,
        };
        let new = NewTask {
            id,
            owner,
            kind: ask.kind.as_str().to_owned(),
            request: serde_json::to_value(&job).map_err(Error::internal)?,
            input: serde_json::to_value(&input).map_err(Error::internal)?,
            webhook_url: ask.webhook_url,
            cost: seconds,
            polled,
            needs,
        };
        match self.queue.submit(new, idempotency).await? {
            Submitted::Created(task) => {
                self.metrics.submitted(ask.kind.as_str());
                Ok(Accepted { task, replayed: false })
            }
            Submitted::Replayed(task) => Ok(Accepted { task, replayed: true }),
            Submitted::InFlight => Err(Error::IdempotencyInFlight),
            Submitted::Mismatch => Err(Error::IdempotencyMismatch),
            Submitted::QueueFull(limit) => Err(Error::QueueFull(limit)),
        }
    }
}
