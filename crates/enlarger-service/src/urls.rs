//! The URLs of files: the store's own if it has any, else signed URLs of this service.

use std::{sync::Arc, time::Duration};

use enlarger_blobs::{BlobStore, Key, Right};
use enlarger_tasks::Task;
use jiff::Timestamp;

use crate::{
    error::Error,
    job::Made,
    signed::{BadAddress, Signer},
};

/// Makes and reads the URLs of files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Urls {
    blobs: Arc<dyn BlobStore>,
    signer: Signer,
    /// How long the files of a finished task are kept; `None`: until they are deleted.
    retention: Option<Duration>,
}

impl Urls {
    /// URLs of the files in `blobs`, which are kept for so long.
    pub fn new(blobs: Arc<dyn BlobStore>, signer: Signer, retention: Option<Duration>) -> Self {
        Self { blobs, signer, retention }
    }

    /// A URL that grants access to a file until `expires`. `base` is the URL by which the client reaches this service.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn of(&self, base: &str, key: &Key, right: Right, expires: Timestamp) -> Result<String, Error> {
        let own = self.blobs.signed_url(key, right, expires).await?;
        Ok(own.unwrap_or_else(|| format!("{base}{}", self.signer.path(key, right, expires))))
    }

    /// The URL of a task's file, valid until the task's files are deleted.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn of_task(&self, base: &str, task: &Task, key: &Key) -> Result<String, Error> {
        let expires = task.expires_at.unwrap_or_else(|| self.retention_from_now());
        self.of(base, key, Right::Read, expires).await
    }

    /// The URL of a task's result, once there is one.
    ///
    /// # Errors
    /// If the store fails, or the task cannot be read.
    pub async fn result(&self, base: &str, task: &Task) -> Result<Option<String>, Error> {
        match Made::of(task)? {
            Some(made) => Ok(Some(self.of_task(base, task, &Key::Result(task.id, made.file)).await?)),
            None => Ok(None),
        }
    }

    /// The file of a URL of this service, under any host name. `None` if the URL is not one of ours.
    pub fn recognise(&self, url: &str) -> Option<Result<Key, BadAddress>> {
        self.signer.recognise(url)
    }

    /// Whether a URL of this service grants access to a file.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn check(&self, key: &Key, right: Right, expires: &str, signature: &str) -> Result<(), BadAddress> {
        self.signer.check(key, right, expires, signature)
    }

    /// When the files of a task that ended now would expire; `None` if they are kept. Rounded up to the hour, so that
    /// URLs do not change with every response.
    fn retention_from_now(&self) -> Timestamp {
        let Some(retention) = self.retention else { return Timestamp::MAX };
        let hours = i64::try_from(retention.as_secs() / 3600).unwrap_or(i64::MAX / 7200);
        let second = (Timestamp::now().as_second() / 3600 + 1 + hours) * 3600;
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    }
}
