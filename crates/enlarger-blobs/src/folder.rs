//! A folder of blobs.
//!
//! ```text
//! tasks/3f/0198…3f/source        the image that a task reads
//! tasks/3f/0198…3f/result-2.png  what attempt 2 made of it
//! tasks/3f/0198…3f/map-2.png     where that departs from the source
//! tasks/3f/0198…3f/thumb         a small copy of the source, made when first asked for
//! objects/9a/5b…9a               an upload
//! stamp                          what tells this folder from others
//! ```
//!
//! Publishing is fsync, rename, fsync of the folder: a file has its name when it is whole and durable, or not at all.

use std::{
    fs,
    io::{self, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use memmap2::Mmap;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;
use uuid::Uuid;

use crate::{
    key::Key,
    scratch::{Draft, ignore_missing},
    store::{BlobStore, ByteStream, Opened, TaskBlobs, Usage},
};

/// The URL scheme of folders.
pub const SCHEME: &str = "file";
/// The name of the file with the stamp.
const STAMP: &str = "stamp";
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The URL of a folder, for [`open_blobs`](crate::open_blobs).
///
/// # Errors
/// If `path` is relative and the working directory is unknown, or not a path that a URL can hold (on Windows).
pub fn url_of(path: &Path) -> io::Result<String> {
    let url = Url::from_file_path(std::path::absolute(path)?);
    url.map(String::from).map_err(|()| invalid("the path cannot be written as a URL".to_owned()))
}

/// Opens the folder at such a URL.
pub(crate) async fn open(url: &Url) -> io::Result<Arc<dyn BlobStore>> {
    let path = url.to_file_path().map_err(|()| invalid(format!("{url} is not a folder on this machine")))?;
    blocking(move || {
        for folder in ["tasks", "objects"] {
            fs::create_dir_all(path.join(folder))?;
        }
        Ok(Arc::new(Folder { root: path }) as Arc<dyn BlobStore>)
    })
    .await
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The folder of all blobs.
#[derive(Debug, Clone)]
struct Folder {
    root: PathBuf,
}

impl Folder {
    fn path(&self, key: &Key) -> PathBuf {
        let name = match key {
            Key::Source(_) => "source",
            Key::Thumb(_) => "thumb",
            Key::Result(_, name) => name,
            Key::Map(_, attempt) => &format!("map-{attempt}.png"),
            Key::Object(id) => return self.root.join("objects").join(shard(*id)).join(id.to_string()),
        };
        self.task(key.task().unwrap_or_default()).join(name)
    }

    fn task(&self, task: Uuid) -> PathBuf {
        self.root.join("tasks").join(shard(task)).join(task.to_string())
    }

    /// Makes the folder of a file.
    fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            // The new folder's own entry has to be durable as well.
            folder.ancestors().skip(1).take(2).try_for_each(sync)?;
        }
        Ok(folder)
    }

    /// Runs blocking disk work.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let folder = self.clone();
        blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl BlobStore for Folder {
    async fn publish(&self, draft: Draft, key: &Key) -> io::Result<()> {
        let path = self.path(key);
        self.run(move |it| {
            let folder = it.folder(&path)?;
            draft.persist(&path)?;
            sync(&folder)
        })
        .await
    }

    async fn copy(&self, from: &Key, to: &Key) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        self.run(move |it| {
            let folder = it.folder(&to)?;
            // Blobs never change, so two names for one file are as good as two files.
            match fs::hard_link(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                // Not every file system has links.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => fs::copy(&from, &to).map(|_| ()),
                other => other,
            }?;
            sync(&folder)
        })
        .await
    }

    async fn size(&self, key: &Key) -> io::Result<u64> {
        Ok(tokio::fs::metadata(self.path(key)).await?.len())
    }

    async fn map(&self, key: &Key) -> io::Result<Bytes> {
        let path = self.path(key);
        self.run(move |_| {
            let file = fs::File::open(path)?;
            // SAFETY: files never change once they have their name (see the module's notes), and deletion only unlinks.
            unsafe { Mmap::map(&file) }.map(Bytes::from_owner)
        })
        .await
    }

    async fn open(&self, key: &Key) -> io::Result<Opened> {
        let mut file = tokio::fs::File::open(self.path(key)).await?;
        let data = file.metadata().await?;
        Ok(Opened::new(data.len(), data.modified().ok(), move |range| -> ByteStream {
            let sought = async move {
                if range.start > 0 {
                    file.seek(SeekFrom::Start(range.start)).await?;
                }
                let part = file.take(range.end.saturating_sub(range.start));
                Ok::<_, io::Error>(ReaderStream::with_capacity(part, CHUNK))
            };
            stream::once(sought).try_flatten().boxed()
        }))
    }

    async fn list(&self, task: Uuid) -> io::Result<Vec<Key>> {
        self.run(move |it| {
            let entries = match fs::read_dir(it.task(task)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other?,
            };
            let mut keys = Vec::new();
            for entry in entries {
                keys.extend(entry?.file_name().to_str().and_then(|name| Key::of_task(task, name)));
            }
            Ok(keys)
        })
        .await
    }

    async fn tasks(&self) -> io::Result<Vec<TaskBlobs>> {
        self.run(|it| {
            let mut tasks = Vec::new();
            for shard in fs::read_dir(it.root.join("tasks"))? {
                for entry in fs::read_dir(shard?.path())? {
                    let entry = entry?;
                    let Some(task) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                    // A file keeps its time when it is renamed or linked; its folder notes when that was.
                    let modified = match entry.metadata().and_then(|data| data.modified()) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        other => other?,
                    };
                    tasks.push(TaskBlobs { task, bytes: size_of(&entry.path()), modified });
                }
            }
            Ok(tasks)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> io::Result<()> {
        ignore_missing(tokio::fs::remove_file(self.path(key)).await)
    }

    async fn delete_task(&self, task: Uuid) -> io::Result<()> {
        ignore_missing(tokio::fs::remove_dir_all(self.task(task)).await)
    }

    async fn usage(&self) -> io::Result<Usage> {
        self.run(|it| {
            let disks = sysinfo::Disks::new_with_refreshed_list();
            let absolute = it.root.canonicalize().unwrap_or_else(|_| it.root.clone());
            // The disk with the longest mount point that the folder lies under.
            let disk = disks.iter().filter(|disk| absolute.starts_with(disk.mount_point()));
            let disk = disk.max_by_key(|disk| disk.mount_point().as_os_str().len());
            Ok(Usage { used: size_of(&it.root), free: disk.map(sysinfo::Disk::available_space) })
        })
        .await
    }

    async fn stamp(&self) -> io::Result<Option<String>> {
        match tokio::fs::read_to_string(self.root.join(STAMP)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    async fn set_stamp(&self, stamp: &str, replaced: Option<&str>) -> io::Result<()> {
        let replaces = replaced.is_some() && self.stamp().await?.as_deref() == replaced;
        let stamp = stamp.to_owned();
        self.run(move |it| {
            let mut file = tempfile::NamedTempFile::new_in(&it.root)?;
            file.write_all(stamp.as_bytes())?;
            file.as_file().sync_all()?;
            let path = it.root.join(STAMP);
            let kept = if replaces { file.persist(path) } else { file.persist_noclobber(path) };
            match kept {
                Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
                _ => sync(&it.root),
            }
        })
        .await
    }

    async fn ping(&self) -> io::Result<()> {
        self.run(|it| tempfile::tempfile_in(&it.root).map(drop)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// The last two digits: those of a time-ordered id are random, the first ones are not.
fn shard(id: Uuid) -> String {
    format!("{:02x}", id.as_bytes()[15])
}

/// Makes the entries of a folder durable. Outside Unix, folders cannot be opened, and renames are durable enough.
fn sync(folder: impl AsRef<Path>) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
