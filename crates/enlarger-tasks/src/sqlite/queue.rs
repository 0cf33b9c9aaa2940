//! The queue on SQLite: what each call does is in [`tasks`].

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{SqliteStore, tasks};
use crate::{
    error::StoreError,
    record::Record,
    store::{
        Beat, Cancelled, Change, Deleted, Idempotency, ListQuery, Page, Queue, QueuePlace, Report, Reserved, Retried,
        Retry, Scope, Submitted,
    },
    task::{Lease, NewTask, Task, TaskError},
};

#[async_trait]
impl Queue for SqliteStore {
    async fn reserve(&self, owner: Option<&str>, key: &Idempotency) -> Result<Reserved, StoreError> {
        let (owner, key) = (owner.map(str::to_owned), key.clone());
        self.write(move |tx, context| Box::pin(async move { tasks::reserve(tx, &context, owner, key).await })).await
    }

    async fn unreserve(&self, token: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { tasks::unreserve(tx, token).await })).await
    }

    async fn submit(&self, task: NewTask, idempotency: Option<Idempotency>) -> Result<Submitted, StoreError> {
        self.write(move |tx, context| Box::pin(async move { tasks::submit(tx, &context, task, idempotency).await }))
            .await
    }

    async fn get(&self, id: Uuid, scope: &Scope) -> Result<Option<Task>, StoreError> {
        let mut conn = self.readers.acquire().await?;
        Ok(tasks::visible(&mut conn, id, scope).await?.map(|record| record.task))
    }

    async fn list(&self, query: &ListQuery, scope: &Scope) -> Result<Page, StoreError> {
        // One read transaction, so that the total and the page speak of the same moment.
        let mut snapshot = self.readers.begin().await?;
        tasks::list(&mut snapshot, query, scope).await
    }

    async fn polled(&self, polls: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let polls = polls.to_vec();
        self.write(move |tx, _| Box::pin(async move { tasks::polled(tx, &polls).await })).await
    }

    async fn queue_place(&self, id: Uuid) -> Result<Option<QueuePlace>, StoreError> {
        tasks::queue_place(&mut *self.readers.acquire().await?, &self.context, id).await
    }

    async fn cancel(&self, id: Uuid, scope: &Scope) -> Result<Cancelled, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::cancel(tx, &context, id, &scope).await })).await
    }

    async fn retry(&self, id: Uuid, scope: &Scope) -> Result<Retried, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::retry(tx, &context, id, &scope).await })).await
    }

    async fn delete(&self, id: Uuid, scope: &Scope) -> Result<Deleted, StoreError> {
        let scope = scope.clone();
        self.write(move |tx, context| Box::pin(async move { tasks::delete(tx, &context, id, &scope).await })).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    async fn claim(&self, worker: &str, lease: Duration) -> Result<Option<Task>, StoreError> {
        // Idle workers look without taking the write lock.
        if !tasks::claimable(&mut *self.readers.acquire().await?, self.context.now()).await? {
            return Ok(None);
        }
        let worker = worker.to_owned();
        self.write(move |tx, context| Box::pin(async move { tasks::claim(tx, &context, &worker, lease).await })).await
    }

    async fn heartbeat(&self, held: &Lease, lease: Duration, report: Report) -> Result<Beat, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move { tasks::heartbeat(tx, &context, &held, lease, report).await })
        })
        .await
    }

    async fn complete(&self, held: &Lease, result: Value) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step = |record: &Record, now| Record::complete(record, &held, result, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn fail(&self, held: &Lease, error: TaskError, retry: Retry) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step = |record: &Record, now| Record::fail(record, &held, error, retry, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn release(&self, held: &Lease) -> Result<Task, StoreError> {
        let held = held.clone();
        self.write(move |tx, context| {
            Box::pin(async move {
                let step = |record: &Record, now| Record::release(record, &held, now, &context.config);
                tasks::end_attempt(tx, &context, &held, step).await
            })
        })
        .await
    }

    async fn recover_expired_leases(&self) -> Result<u64, StoreError> {
        self.write(|tx, context| Box::pin(async move { tasks::recover_expired_leases(tx, &context).await })).await
    }

    async fn take_expired(&self, limit: u32) -> Result<Vec<Task>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { tasks::take_expired(tx, context.now(), limit).await }))
            .await
    }

    async fn files_deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { tasks::files_deleted(tx, id).await })).await
    }

    async fn evict_oldest(&self, limit: u32, spare: &[Uuid]) -> Result<Vec<Task>, StoreError> {
        let spare = spare.to_vec();
        self.write(move |tx, context| {
            Box::pin(async move { tasks::evict_oldest(tx, context.now(), limit, &spare).await })
        })
        .await
    }

    async fn adopt_retention(&self) -> Result<u64, StoreError> {
        self.write(|tx, context| Box::pin(async move { tasks::adopt_retention(tx, &context).await })).await
    }
}
