//! The contract of a blob store. Callers hold an `Arc<dyn BlobStore>` and never learn where the bytes are.

use std::{fmt, io, ops::Range, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    key::Key,
    scratch::{Draft, no_room},
};

/// The bytes of a blob, piece by piece.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Stores blobs: see the crate's documentation.
///
/// Errors: [`io::ErrorKind::NotFound`] if there is no such blob, [`io::ErrorKind::PermissionDenied`] if the store refuses this service, and
/// those for which [`is_transient`] holds if the store is full, busy or cannot be reached.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// Publishes a draft under a key, durably. Replaces what had the key before.
    async fn publish(&self, draft: Draft, key: &Key) -> io::Result<()>;

    /// Copies a blob to a new key, durably. The copies are independent. Does nothing if the new key is taken.
    async fn copy(&self, from: &Key, to: &Key) -> io::Result<()>;

    /// How many bytes a blob has.
    async fn size(&self, key: &Key) -> io::Result<u64>;

    /// All bytes of a blob at once, for decoders. Large ones are backed by a file, and cost no memory.
    async fn map(&self, key: &Key) -> io::Result<Bytes>;

    /// Opens a blob for streaming.
    async fn open(&self, key: &Key) -> io::Result<Opened>;

    /// The keys of a task's blobs, in any order.
    async fn list(&self, task: Uuid) -> io::Result<Vec<Key>>;

    /// All tasks that have blobs, in any order.
    async fn tasks(&self) -> io::Result<Vec<TaskBlobs>>;

    /// Deletes a blob, if there is one. Open readers can continue.
    async fn delete(&self, key: &Key) -> io::Result<()>;

    /// Deletes all blobs of a task, if there are any.
    async fn delete_task(&self, task: Uuid) -> io::Result<()>;

    /// How much is stored, and how much space is left.
    async fn usage(&self) -> io::Result<Usage>;

    /// Checks that a blob could be published now.
    async fn ping(&self) -> io::Result<()>;

    /// What the storage was stamped with, to tell it from others.
    async fn stamp(&self) -> io::Result<Option<String>>;

    /// Stamps the storage. What it has been stamped with stays, unless that was `replaced`; read it again to learn who won.
    async fn set_stamp(&self, stamp: &str, replaced: Option<&str>) -> io::Result<()>;

    /// A URL by which a client reads (or writes) the blob at the store itself until `expires`; `None` if the store cannot be
    /// reached by clients, and bytes have to pass through this process.
    async fn signed_url(&self, key: &Key, right: Right, expires: Timestamp) -> io::Result<Option<String>> {
        let _ = (key, right, expires);
        Ok(None)
    }

    /// Whether there is such a blob.
    async fn exists(&self, key: &Key) -> io::Result<bool> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error may pass by itself: there is no room, or the store is busy or cannot be reached.
pub fn is_transient(error: &io::Error) -> bool {
    let away = [io::ErrorKind::TimedOut, io::ErrorKind::NotConnected, io::ErrorKind::ResourceBusy];
    no_room(error) || away.contains(&error.kind())
}

/// An open blob: reads are consistent, whatever is published or deleted meanwhile.
pub struct Opened {
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was published, if the store knows.
    pub modified: Option<SystemTime>,
    stream: Box<dyn FnOnce(Range<u64>) -> ByteStream + Send>,
}

impl Opened {
    /// A blob of this size. `stream` returns the bytes of a range within it.
    pub fn new(
        bytes: u64,
        modified: Option<SystemTime>,
        stream: impl FnOnce(Range<u64>) -> ByteStream + Send + 'static,
    ) -> Self {
        Self { bytes, modified, stream: Box::new(stream) }
    }

    /// The bytes in `range`, which must lie within the blob.
    pub fn stream(self, range: Range<u64>) -> ByteStream {
        (self.stream)(range)
    }
}

/// The blobs of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskBlobs {
    /// The task.
    pub task: Uuid,
    /// How many bytes they have together.
    pub bytes: u64,
    /// When the last of them was published, or later.
    pub modified: SystemTime,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are taken.
    pub used: u64,
    /// Free bytes, if limited.
    pub free: Option<u64>,
}

/// What a signed URL permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Reading a blob.
    Read,
    /// Uploading one.
    Write,
}
