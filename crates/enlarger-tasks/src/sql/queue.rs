//! The queue: what each call does is in [`tasks`].

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{
    Engine, SqlStore, list,
    tasks::{self, Crowd, Ending, Room},
};
use crate::{
    error::StoreError,
    store::{
        Beat, Cancelled, Change, Deleted, Idempotency, ListQuery, Page, Queue, QueuePlace, Report, Reserved, Retried,
        Retry, Scope, Submitted,
    },
    task::{Lease, NewTask, Task, TaskError},
};

#[async_trait]
impl<E: Engine> Queue for SqlStore<E> {
    async fn reserve(&self, owner: Option<&str>, key: &Idempotency) -> Result<Reserved, StoreError> {
        let with = (owner.unwrap_or_default().to_owned(), key.clone());
        self.engine.write(with, |tx, (owner, key)| Box::pin(tasks::reserve(tx, owner, key))).await
    }

    async fn unreserve(&self, token: Uuid) -> Result<(), StoreError> {
        self.engine.write(token, |tx, token| Box::pin(tasks::unreserve(tx, token))).await
    }

    async fn submit(&self, task: NewTask, idempotency: Option<Idempotency>) -> Result<Submitted, StoreError> {
        for crowd in [Crowd::Together, Crowd::Alone] {
            let with = (task.clone(), idempotency.clone(), crowd);
            let submitting =
                self.engine.write(with, |tx, (task, key, crowd)| Box::pin(tasks::submit(tx, task, key, crowd)));
            if let Room::Enough(submitted) = submitting.await? {
                return Ok(submitted);
            }
        }
        Err(alone())
    }

    async fn get(&self, id: Uuid, scope: &Scope) -> Result<Option<Task>, StoreError> {
        self.engine.read((id, scope.clone()), |tx, (id, scope)| Box::pin(tasks::get(tx, id, scope))).await
    }

    async fn list(&self, query: &ListQuery, scope: &Scope) -> Result<Page, StoreError> {
        let with = (query.clone(), scope.clone());
        self.engine.snapshot(with, |tx, (query, scope)| Box::pin(list::list(tx, query, scope))).await
    }

    async fn polled(&self, polls: &[(Uuid, Duration)]) -> Result<(), StoreError> {
        self.engine.write(polls.to_vec(), |tx, polls| Box::pin(tasks::polled(tx, polls))).await
    }

    async fn queue_place(&self, id: Uuid) -> Result<Option<QueuePlace>, StoreError> {
        self.engine.snapshot(id, |tx, id| Box::pin(tasks::queue_place(tx, id))).await
    }

    async fn cancel(&self, id: Uuid, scope: &Scope) -> Result<Cancelled, StoreError> {
        self.engine.write((id, scope.clone()), |tx, (id, scope)| Box::pin(tasks::cancel(tx, id, scope))).await
    }

    async fn retry(&self, id: Uuid, scope: &Scope) -> Result<Retried, StoreError> {
        for crowd in [Crowd::Together, Crowd::Alone] {
            let with = (id, scope.clone(), crowd);
            let retrying =
                self.engine.write(with, |tx, (id, scope, crowd)| Box::pin(tasks::retry(tx, id, scope, crowd)));
            if let Room::Enough(retried) = retrying.await? {
                return Ok(retried);
            }
        }
        Err(alone())
    }

    async fn delete(&self, id: Uuid, scope: &Scope) -> Result<Deleted, StoreError> {
        self.engine.write((id, scope.clone()), |tx, (id, scope)| Box::pin(tasks::delete(tx, id, scope))).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.engine.changes()
    }

    async fn claim_able(
        &self,
        worker: &str,
        lease: Duration,
        can: Option<&BTreeSet<String>>,
    ) -> Result<Option<Task>, StoreError> {
        // Idle workers look without taking a lock.
        if !self.engine.read((), |tx, ()| Box::pin(tasks::claimable(tx))).await? {
            return Ok(None);
        }
        let with = (worker.to_owned(), lease, can.cloned());
        self.engine.write(with, |tx, (worker, lease, can)| Box::pin(tasks::claim(tx, worker, lease, can))).await
    }

    async fn heartbeat(&self, held: &Lease, lease: Duration, report: Report) -> Result<Beat, StoreError> {
        let with = (held.clone(), lease, report);
        self.engine.write(with, |tx, (held, lease, report)| Box::pin(tasks::heartbeat(tx, held, lease, report))).await
    }

    async fn complete(&self, held: &Lease, result: Value) -> Result<Task, StoreError> {
        self.end(held, Ending::Completed(result)).await
    }

    async fn fail(&self, held: &Lease, error: TaskError, retry: Retry) -> Result<Task, StoreError> {
        self.end(held, Ending::Failed(error, retry)).await
    }

    async fn release(&self, held: &Lease) -> Result<Task, StoreError> {
        self.end(held, Ending::Released).await
    }

    async fn recover_expired_leases(&self) -> Result<u64, StoreError> {
        self.engine.write((), |tx, ()| Box::pin(tasks::recover_expired_leases(tx))).await
    }

    async fn take_expired(&self, limit: u32) -> Result<Vec<Task>, StoreError> {
        self.engine.write(limit, |tx, limit| Box::pin(tasks::take_expired(tx, limit))).await
    }

    async fn files_deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.engine.write(id, |tx, id| Box::pin(tasks::files_deleted(tx, id))).await
    }

    async fn evict_oldest(&self, limit: u32, spare: &[Uuid]) -> Result<Vec<Task>, StoreError> {
        let with = (limit, spare.to_vec());
        self.engine.write(with, |tx, (limit, spare)| Box::pin(tasks::evict_oldest(tx, limit, spare))).await
    }

    async fn adopt_retention(&self) -> Result<u64, StoreError> {
        self.engine.write((), |tx, ()| Box::pin(tasks::adopt_retention(tx))).await
    }
}

impl<E: Engine> SqlStore<E> {
    async fn end(&self, held: &Lease, ending: Ending) -> Result<Task, StoreError> {
        let with = (held.clone(), ending);
        self.engine.write(with, |tx, (held, ending)| Box::pin(tasks::end_attempt(tx, held, ending))).await
    }
}

/// Who adds a task alone never has to do it again.
fn alone() -> StoreError {
    StoreError::Database("the queue has too little room for anybody".to_owned())
}
