//! The URLs of files, which are signed URLs of this service. Downloads may be sent on to the store.
//!
//! Clients never get URLs of the store to keep: those end after a week at most, have characters that a common client rewrites, and do
//! not say which file they are when they come back as the `image` of a task.

use std::{io, sync::Arc, time::Duration};

use enlarger_blobs::{BlobStore, Key, Right};
use enlarger_tasks::Task;
use jiff::{SignedDuration, Timestamp};

use crate::{
    error::Error,
    job::Made,
    signed::{BadAddress, Signer},
};

/// How long a client has to follow a redirect to the store.
const FOLLOW: SignedDuration = SignedDuration::from_secs(300);

/// Makes and reads the URLs of files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Urls {
    signer: Signer,
    /// The store, if clients may download from it.
    direct: Option<Arc<dyn BlobStore>>,
    /// How long the files of a finished task are kept; `None`: until they are deleted.
    retention: Option<Duration>,
}

impl Urls {
    /// URLs of files that are kept for so long. `direct` is their store, if clients may download from it.
    pub fn new(signer: Signer, retention: Option<Duration>, direct: Option<Arc<dyn BlobStore>>) -> Self {
        Self { signer, direct, retention }
    }

    /// A URL that grants access to a file until `expires`. `base` is the URL by which the client reaches this service.
    pub fn of(&self, base: &str, key: &Key, right: Right, expires: Timestamp) -> String {
        format!("{base}{}", self.signer.path(key, right, expires))
    }

    /// The URL of a task's file, valid until the task's files are deleted.
    pub fn of_task(&self, base: &str, task: &Task, key: &Key) -> String {
        let expires = task.expires_at.unwrap_or_else(|| self.retention_from_now());
        self.of(base, key, Right::Read, expires)
    }

    /// The URL of a task's result, once there is one.
    ///
    /// # Errors
    /// If the task cannot be read.
    pub fn result(&self, base: &str, task: &Task) -> Result<Option<String>, Error> {
        Ok(Made::of(task)?.map(|made| self.of_task(base, task, &Key::Result(task.id, made.file))))
    }

    /// Where the store itself serves a file for the next minutes, if clients may download from it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn direct(&self, key: &Key) -> io::Result<Option<String>> {
        match &self.direct {
            Some(blobs) => blobs.signed_url(key, Right::Read, Timestamp::now() + FOLLOW).await,
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
