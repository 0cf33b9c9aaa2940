//! A bucket of blobs at Amazon S3, or a server that speaks its protocol.
//!
//! ```text
//! PREFIX/tasks/0198…3f/source    the keys are those of the URLs of this service
//! PREFIX/objects/5b…9a
//! PREFIX/ping                    empty; written to learn whether blobs can be
//! PREFIX/stamp                   what tells this storage from others
//! ```
//!
//! An object has its name when all of its bytes are stored durably, or not at all: that is the server's promise. Large files
//! go there in parts, and are read from the draft's file while they are sent.

mod error;
mod location;

use std::{
    collections::HashMap,
    fmt, io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    aws::AmazonS3,
    path::Path,
    signer::{Method, Signer},
};
use tokio::{io::AsyncWriteExt, runtime::Handle, sync::Mutex};
use url::Url;
use uuid::Uuid;

use self::{error::failed, location::Location};
use crate::{
    key::Key,
    scratch::{Draft, Scratch, map_nameless},
    store::{BlobStore, ByteStream, Opened, Right, TaskBlobs, Usage},
};

/// The URL scheme of buckets.
pub(crate) const SCHEME: &str = "s3";

/// Larger blobs are sent in parts of this size; S3 has at least 5 MiB per part.
const PART: usize = 8 << 20;
/// Most parts of a blob (Amazon S3, "Multipart upload limits").
const MOST_PARTS: usize = 10_000;
/// Parts that are sent at once.
const PARTS_AT_ONCE: usize = 4;
/// Larger blobs are mapped from a copy on the local disk.
const IN_MEMORY: u64 = 1 << 20;
/// How long a measurement of everything is good enough: it takes a request for each thousand blobs.
const MEASURED_FOR: Duration = Duration::from_secs(60);
/// How long a server may take to show that it works: longer than it is asked again, which ends with a better error.
const PING: Duration = Duration::from_secs(7);
/// Longest life of a signed URL (Amazon S3, "Sharing objects with presigned URLs").
const LONGEST_URL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Opens the bucket at such a URL. Connects to nothing yet, so that a service can start before its storage.
pub(crate) fn open(url: &Url, scratch: &Scratch) -> io::Result<Arc<dyn BlobStore>> {
    let location = Location::parse(url)?;
    let s3 = location.client()?;
    let Location { bucket: name, prefix, .. } = location;
    Ok(Arc::new(Bucket { s3, name, prefix, scratch: scratch.clone(), measured: Mutex::default() }))
}

/// The blobs of a bucket whose keys begin with a prefix.
struct Bucket {
    s3: AmazonS3,
    name: String,
    prefix: Path,
    /// Where copies are mapped from.
    scratch: Scratch,
    /// How many bytes all blobs had, and when.
    measured: Mutex<Option<(Instant, u64)>>,
}

/// The client knows secrets.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}/{})", self.name, self.prefix)
    }
}

impl Bucket {
    fn path(&self, key: &Key) -> Path {
        self.below(&key.to_string())
    }

    fn below(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn below_task(&self, task: Uuid) -> Path {
        self.below("tasks").join(task.to_string())
    }

    async fn upload(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        if bytes.len() <= PART {
            return self.s3.put(path, bytes.into()).await.map(drop);
        }
        let mut upload = Unfinished(Some(self.s3.put_multipart(path).await?));
        let size = PART.max(bytes.len().div_ceil(MOST_PARTS));
        let parts = (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..(at + size).min(bytes.len())));
        let sent = parts.map(|part| upload.get().put_part(part.into()));
        stream::iter(sent).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await?;
        upload.get().complete().await?;
        upload.0 = None;
        Ok(())
    }

    /// Copies a blob to a file without a name, and maps that.
    async fn fetch(&self, mut bytes: ByteStream) -> io::Result<Bytes> {
        let scratch = self.scratch.clone();
        let file = tokio::task::spawn_blocking(move || scratch.nameless()).await.map_err(io::Error::other)??;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(piece) = bytes.try_next().await? {
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        map_nameless(file.into_std().await)
    }
}

/// An upload in parts. What is left of one that does not end would be stored for ever without being seen.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Unfinished {
    fn get(&mut self) -> &mut dyn MultipartUpload {
        self.0.as_deref_mut().expect("it is taken when it ends")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

#[async_trait]
impl BlobStore for Bucket {
    async fn publish(&self, draft: Draft, key: &Key) -> io::Result<()> {
        let bytes = Bytes::from_owner(draft.map()?);
        self.upload(&self.path(key), bytes).await.map_err(failed)
    }

    async fn copy(&self, from: &Key, to: &Key) -> io::Result<()> {
        // Not every server heeds the condition below. It is needed only by those who copy at the same time.
        if self.exists(to).await? {
            return Ok(());
        }
        let options = CopyOptions::new().with_mode(CopyMode::Create);
        match self.s3.copy_opts(&self.path(from), &self.path(to), options).await {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            other => other.map_err(failed),
        }
    }

    async fn size(&self, key: &Key) -> io::Result<u64> {
        Ok(self.s3.head(&self.path(key)).await.map_err(failed)?.size)
    }

    async fn map(&self, key: &Key) -> io::Result<Bytes> {
        let got = self.s3.get(&self.path(key)).await.map_err(failed)?;
        if got.meta.size <= IN_MEMORY {
            return got.bytes().await.map_err(failed);
        }
        self.fetch(got.into_stream().map_err(failed).boxed()).await
    }

    async fn open(&self, key: &Key) -> io::Result<Opened> {
        let path = self.path(key);
        // From here on the server is sending this version of the blob.
        let got = self.s3.get(&path).await.map_err(failed)?;
        let (s3, meta) = (self.s3.clone(), got.meta.clone());
        let modified = Some(SystemTime::from(meta.last_modified));
        Ok(Opened::new(meta.size, modified, move |range| -> ByteStream {
            if range == (0..meta.size) {
                return got.into_stream().map_err(failed).boxed();
            }
            if range.is_empty() {
                return stream::empty().boxed();
            }
            let options =
                GetOptions { range: Some(GetRange::Bounded(range)), if_match: meta.e_tag, ..GetOptions::default() };
            let part = async move { s3.get_opts(&path, options).await.map(object_store::GetResult::into_stream) };
            part.try_flatten_stream().map_err(failed).boxed()
        }))
    }

    async fn list(&self, task: Uuid) -> io::Result<Vec<Key>> {
        let found: Vec<ObjectMeta> = self.s3.list(Some(&self.below_task(task))).try_collect().await.map_err(failed)?;
        Ok(found.iter().filter_map(|blob| Key::of_task(task, blob.location.filename()?)).collect())
    }

    async fn tasks(&self) -> io::Result<Vec<TaskBlobs>> {
        let root = self.below("tasks");
        let mut tasks = HashMap::new();
        let mut found = self.s3.list(Some(&root));
        while let Some(blob) = found.try_next().await.map_err(failed)? {
            let task =
                blob.location.prefix_match(&root).and_then(|mut parts| parts.next()?.as_ref().parse::<Uuid>().ok());
            let Some(task) = task else { continue };
            // Listings have whole seconds.
            let modified = SystemTime::from(blob.last_modified) + Duration::from_secs(1);
            let blobs = tasks.entry(task).or_insert(TaskBlobs { task, bytes: 0, modified });
            blobs.bytes += blob.size;
            blobs.modified = blobs.modified.max(modified);
        }
        Ok(tasks.into_values().collect())
    }

    async fn delete(&self, key: &Key) -> io::Result<()> {
        match self.s3.delete(&self.path(key)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other.map_err(failed),
        }
    }

    async fn delete_task(&self, task: Uuid) -> io::Result<()> {
        let found = self.s3.list(Some(&self.below_task(task))).map_ok(|blob| blob.location).boxed();
        self.s3.delete_stream(found).try_for_each(|_| std::future::ready(Ok(()))).await.map_err(failed)
    }

    async fn usage(&self) -> io::Result<Usage> {
        // Those who ask meanwhile wait for the same answer.
        let mut measured = self.measured.lock().await;
        if let Some((at, used)) = *measured
            && at.elapsed() < MEASURED_FOR
        {
            return Ok(Usage { used, free: None });
        }
        let sum = |sum, blob: ObjectMeta| std::future::ready(Ok(sum + blob.size));
        let used = self.s3.list(Some(&self.prefix)).try_fold(0, sum).await.map_err(failed)?;
        *measured = Some((Instant::now(), used));
        Ok(Usage { used, free: None })
    }

    async fn stamp(&self) -> io::Result<Option<String>> {
        match self.s3.get(&self.below("stamp")).await.map_err(failed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            got => Ok(Some(String::from_utf8_lossy(&got?.bytes().await.map_err(failed)?).into_owned())),
        }
    }

    async fn set_stamp(&self, stamp: &str, replaced: Option<&str>) -> io::Result<()> {
        // Not every server heeds the condition below. It is needed only by those who stamp at the same time.
        let mode = match self.stamp().await? {
            Some(there) if Some(there.as_str()) == replaced => PutMode::Overwrite,
            Some(_) => return Ok(()),
            None => PutMode::Create,
        };
        let stamp = Bytes::from(stamp.to_owned());
        match self.s3.put_opts(&self.below("stamp"), stamp.into(), mode.into()).await {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            other => other.map(drop).map_err(failed),
        }
    }

    async fn ping(&self) -> io::Result<()> {
        let path = self.below("ping");
        let put = self.s3.put(&path, Bytes::new().into());
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the storage did not answer in time");
        tokio::time::timeout(PING, put).await.map_err(|_| late())?.map_err(failed)?;
        Ok(())
    }

    async fn signed_url(&self, key: &Key, right: Right, expires: Timestamp) -> io::Result<Option<String>> {
        let method = match right {
            Right::Read => Method::GET,
            Right::Write => Method::PUT,
        };
        let left = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
        let left = left.clamp(Duration::from_secs(1), LONGEST_URL);
        Ok(Some(self.s3.signed_url(method, &self.path(key), left).await.map_err(failed)?.into()))
    }
}
