//! Deletes what has expired, what processes that died have left, and what there is no room for.

use std::{sync::Arc, time::Duration};

use enlarger_tasks::{Scope, StoreError, TaskState};

use crate::{
    app::App,
    files::{Key, sweep_temporary},
};

/// How often files are looked at: well below the five minutes within which they must be gone.
const EVERY: Duration = Duration::from_secs(30);
/// How many are deleted before others get a turn.
const BATCH: u32 = 100;
/// How often files that no task knows of are looked for.
const ORPHANS_EVERY: u32 = 120;
/// A submission that is still going on cannot be this old.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Sweeps until told to stop.
pub(crate) async fn run(app: Arc<App>) {
    let mut changes = app.store.queue.changes();
    if let Err(error) = app.store.queue.adopt_retention().await {
        tracing::warn!(%error, "cannot apply the retention to what is there");
    }
    let mut round = 0u32;
    while !app.stop.is_cancelled() {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "cannot delete what has expired");
        }
        if round.is_multiple_of(ORPHANS_EVERY)
            && let Err(error) = orphans(&app).await
        {
            tracing::warn!(%error, "cannot look for files without a task");
        }
        round = round.wrapping_add(1);
        let next = tokio::time::sleep(EVERY);
        tokio::pin!(next);
        loop {
            if let Err(error) = keep_to_budget(&app).await {
                tracing::warn!(%error, "cannot make room");
            }
            tokio::select! {
                () = app.stop.cancelled() => break,
                () = &mut next => break,
                () = ended(&mut changes) => {}
            }
        }
    }
}

/// Deletes all that is due now.
pub(crate) async fn sweep(app: &Arc<App>) -> Result<(), StoreError> {
    app.store.queue.recover_expired_leases().await?;
    loop {
        let tasks = app.store.queue.take_expired(BATCH).await?;
        for task in &tasks {
            let (files, id) = (app.files.clone(), task.id);
            match tokio::task::spawn_blocking(move || files.remove_task(id)).await {
                Ok(Ok(())) => app.store.queue.files_deleted(id).await?,
                failed => tracing::warn!(task = %id, ?failed, "files not deleted, trying again later"),
            }
        }
        let objects = app.store.objects.take_expired(BATCH).await?;
        for object in &objects {
            let (files, id) = (app.files.clone(), object.id);
            match tokio::task::spawn_blocking(move || files.remove(&Key::Object(id))).await {
                Ok(Ok(())) => app.store.objects.deleted(id).await?,
                failed => tracing::warn!(object = %id, ?failed, "file not deleted, trying again later"),
            }
        }
        if tasks.len() < BATCH as usize && objects.len() < BATCH as usize {
            break;
        }
        tokio::task::yield_now().await;
    }
    app.store.upkeep.prune().await?;
    Ok(())
}

/// Returns when a task has ended.
async fn ended(changes: &mut tokio::sync::broadcast::Receiver<enlarger_tasks::Change>) {
    while changes.recv().await.is_ok_and(|change| change.state != TaskState::Completed) {}
}

/// Deletes the files of the longest finished tasks until all that is left is within the budget.
async fn keep_to_budget(app: &Arc<App>) -> Result<(), StoreError> {
    let Some(budget) = app.config.disk_budget() else { return Ok(()) };
    let files = app.files.clone();
    let mut used = tokio::task::spawn_blocking(move || files.size_of_tasks()).await.unwrap_or_default();
    while used > budget {
        let evicted = app.store.queue.evict_oldest(1, &app.reads.tasks()).await?;
        let Some(task) = evicted.first() else { break };
        let (files, id) = (app.files.clone(), task.id);
        let removed = tokio::task::spawn_blocking(move || {
            let size = files.size_of_task(id);
            files.remove_task(id).map(|()| size)
        });
        match removed.await {
            Ok(Ok(size)) => {
                tracing::info!(task = %id, size, "files deleted to keep to the disk budget");
                app.store.queue.files_deleted(id).await?;
                used = used.saturating_sub(size);
            }
            // It is on the list of those that are to go.
            failed => {
                tracing::warn!(task = %id, ?failed, "files not deleted, trying again later");
                break;
            }
        }
    }
    Ok(())
}

/// A process that died between storing a picture and accepting its task leaves a folder that no task knows of.
async fn orphans(app: &Arc<App>) -> Result<(), StoreError> {
    let (files, models) = (app.files.clone(), app.config.data_dir.join("models"));
    let old = tokio::task::spawn_blocking(move || {
        files.sweep_unfinished()?;
        sweep_temporary(&models, ORPHAN_AGE)?;
        files.tasks_older_than(ORPHAN_AGE)
    });
    let Ok(Ok(old)) = old.await else { return Ok(()) };
    for id in old {
        if app.store.queue.get(id, &Scope::All).await?.is_none() {
            let files = app.files.clone();
            let _ = tokio::task::spawn_blocking(move || files.remove_task(id)).await;
        }
    }
    Ok(())
}
