//! Deletes expired files, leftovers of dead processes, and files beyond the disk budget.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use enlarger_blobs::Key;
use enlarger_tasks::{Change, Objects, Queue, Scope, StoreError, TaskState, Upkeep};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{favorites::Favorites, files::Files, reads::Reads};

/// How often to sweep: well below the five minutes within which files must be gone.
const EVERY: Duration = Duration::from_secs(30);
/// How many to delete before yielding.
const BATCH: u32 = 100;
/// How often to look for orphaned files.
const ORPHANS_EVERY: u32 = 120;
/// No submission takes this long.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Deletes what is due.
pub struct Sweeper {
    /// The tasks whose files expire.
    pub queue: Arc<dyn Queue>,
    /// The uploads that expire.
    pub objects: Arc<dyn Objects>,
    /// Prunes old rows.
    pub upkeep: Arc<dyn Upkeep>,
    /// Where the files are.
    pub files: Files,
    /// Which of them are being read.
    pub reads: Reads,
    /// Which of them the disk budget spares.
    pub favorites: Favorites,
    /// Where a process that died may have left an incomplete model.
    pub models_dir: PathBuf,
    /// Bytes that the files of tasks may take; `None`: no limit but the disk.
    pub disk_budget: Option<u64>,
    /// Cancelled when the service is to end.
    pub stop: CancellationToken,
}

impl Sweeper {
    /// Sweeps until told to stop.
    pub async fn run(self) {
        let mut changes = self.queue.changes();
        if let Err(error) = self.queue.adopt_retention().await {
            tracing::warn!(%error, "cannot apply the retention to existing files");
        }
        let mut round = 0u32;
        while !self.stop.is_cancelled() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "cannot delete expired files");
            }
            if round.is_multiple_of(ORPHANS_EVERY)
                && let Err(error) = self.orphans().await
            {
                tracing::warn!(%error, "cannot look for orphaned files");
            }
            round = round.wrapping_add(1);
            let next = tokio::time::sleep(EVERY);
            tokio::pin!(next);
            loop {
                if let Err(error) = self.keep_to_budget().await {
                    tracing::warn!(%error, "cannot free disk space");
                }
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = &mut next => break,
                    () = ended(&mut changes) => {}
                }
            }
        }
    }

    /// Deletes all that is due now.
    async fn sweep(&self) -> Result<(), StoreError> {
        self.queue.recover_expired_leases().await?;
        loop {
            let tasks = self.queue.take_expired(BATCH).await?;
            for task in &tasks {
                match self.files.blobs.delete_task(task.id).await {
                    Ok(()) => self.queue.files_deleted(task.id).await?,
                    Err(error) => tracing::warn!(task = %task.id, %error, "files not deleted, trying again later"),
                }
            }
            let objects = self.objects.take_expired(BATCH).await?;
            for object in &objects {
                match self.files.blobs.delete(&Key::Object(object.id)).await {
                    Ok(()) => self.objects.deleted(object.id).await?,
                    Err(error) => tracing::warn!(object = %object.id, %error, "file not deleted, trying again later"),
                }
            }
            if tasks.len() < BATCH as usize && objects.len() < BATCH as usize {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.upkeep.prune().await?;
        Ok(())
    }

    /// Deletes the files of the tasks that finished first until the rest fits the budget. Favorites stay.
    async fn keep_to_budget(&self) -> Result<(), StoreError> {
        let Some(budget) = self.disk_budget else { return Ok(()) };
        let tasks = self.files.blobs.tasks().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot measure the files");
            Vec::new()
        });
        let mut used: u64 = tasks.iter().map(|blobs| blobs.bytes).sum();
        let favorites = self.favorites.all().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read which results are favorites, so none is deleted");
            tasks.iter().map(|blobs| blobs.task).collect()
        });
        while used > budget {
            let spared = [&favorites[..], &self.reads.tasks()].concat();
            let evicted = self.queue.evict_oldest(1, &spared).await?;
            let Some(id) = evicted.first().map(|task| task.id) else { break };
            let size = tasks.iter().find(|blobs| blobs.task == id).map_or(0, |blobs| blobs.bytes);
            match self.files.blobs.delete_task(id).await {
                Ok(()) => {
                    tracing::info!(task = %id, size, "files deleted to stay within the disk budget");
                    self.queue.files_deleted(id).await?;
                    used = used.saturating_sub(size);
                }
                // It is already marked for deletion.
                Err(error) => {
                    tracing::warn!(task = %id, %error, "files not deleted, trying again later");
                    break;
                }
            }
        }
        Ok(())
    }

    /// A process that died between storing a picture and accepting its task leaves an orphaned folder.
    async fn orphans(&self) -> Result<(), StoreError> {
        let (scratch, models) = (self.files.scratch.clone(), self.models_dir.clone());
        let swept = tokio::task::spawn_blocking(move || scratch.sweep().and(sweep_temporary(&models, ORPHAN_AGE)));
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, "cannot delete what was left unfinished");
        }
        let Ok(tasks) = self.files.blobs.tasks().await else { return Ok(()) };
        for blobs in tasks.iter().filter(|blobs| older(blobs.modified, ORPHAN_AGE)) {
            if self.queue.get(blobs.task, &Scope::All).await?.is_none() {
                let _ = self.files.blobs.delete_task(blobs.task).await;
            }
        }
        Ok(())
    }
}

/// Returns when a task has been completed.
pub(crate) async fn ended(changes: &mut broadcast::Receiver<Change>) {
    while changes.recv().await.is_ok_and(|change| change.state != TaskState::Completed) {}
}

/// Deletes temporary files in a shared folder that are too old to be still written.
fn sweep_temporary(folder: &Path, age: Duration) -> io::Result<()> {
    let ignore_missing = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(".tmp"));
        let old = entry.metadata().and_then(|data| data.modified()).is_ok_and(|modified| older(modified, age));
        if temporary && old && entry.file_type()?.is_file() {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn older(time: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(time).is_ok_and(|passed| passed > age)
}
