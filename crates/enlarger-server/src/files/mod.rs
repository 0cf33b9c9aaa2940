//! Files: what clients upload, what tasks read, what comes out.
//!
//! A file appears under its name only when it is whole and durable (temporary file, fsync, rename, fsync of the folder), and
//! never changes afterwards. Names:
//!
//! ```text
//! tasks/3f/0198…3f/source        the picture a task reads
//! tasks/3f/0198…3f/result-2.png  what attempt 2 made of it
//! tasks/3f/0198…3f/map-2.png      where that departs from the source
//! tasks/3f/0198…3f/thumb         a small copy of the source, made when first asked for
//! objects/9a/5b…9a               an upload
//! tmp/3f…/                       what one process is writing; it holds a lock on the folder
//! ```

mod range;
mod reads;
pub(crate) mod routes;
pub(crate) mod signed;
mod view;

use std::{
    fmt, fs,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use memmap2::Mmap;
pub(crate) use reads::Reads;
use tempfile::NamedTempFile;
use uuid::Uuid;

/// The name of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// The picture that a task reads.
    Source(Uuid),
    /// What came out of a task, by the file's name in its folder.
    Result(Uuid, String),
    /// Where what an attempt made departs from what it read.
    Map(Uuid, u32),
    /// A small copy of what a task reads: JPEG, or PNG if it is transparent.
    Thumb(Uuid),
    /// An upload.
    Object(Uuid),
}

/// The folder of all files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: PathBuf,
    unfinished: Arc<Unfinished>,
    /// How many wait for room on the disk.
    cramped: Arc<AtomicUsize>,
}

/// The folder of this process's unfinished files. It is locked until the process ends, however it ends.
#[derive(Debug)]
struct Unfinished {
    folder: PathBuf,
    _lock: fs::File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Somebody waits for room on the disk, for as long as this lives.
pub(crate) struct Cramped(Arc<AtomicUsize>);

impl Drop for Cramped {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What must be writable for there to be room.
const ROOM: usize = 1 << 20;
/// Unfinished files of versions that knew no locks are this old before they go: longer than any job took.
const UNLOCKED_AGE: Duration = Duration::from_secs(24 * 3600);
/// The lock of an unfinished folder, and of the folder of these folders.
const LOCK: &str = "lock";

/// A file that is being written and has no name yet. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Draft(NamedTempFile);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(task) => write!(f, "tasks/{task}/source"),
            Self::Result(task, name) => write!(f, "tasks/{task}/{name}"),
            Self::Map(task, attempt) => write!(f, "tasks/{task}/map-{attempt}.png"),
            Self::Thumb(task) => write!(f, "tasks/{task}/thumb"),
            Self::Object(id) => write!(f, "objects/{id}"),
        }
    }
}

impl Files {
    /// Opens the folder, making it if needed, and deletes what processes that died have left unfinished.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["tasks", "objects", "tmp"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let _turn = turn(root)?;
        sweep(root)?;
        let folder = root.join("tmp").join(Uuid::new_v4().simple().to_string());
        fs::create_dir(&folder)?;
        let lock = fs::File::create(folder.join(LOCK))?;
        lock.lock()?;
        let unfinished = Arc::new(Unfinished { folder, _lock: lock });
        Ok(Self { root: root.to_owned(), unfinished, cramped: Arc::default() })
    }

    /// Where this process's unfinished files are, on the same disk as the others.
    pub fn tmp(&self) -> PathBuf {
        self.unfinished.folder.clone()
    }

    /// Whether there is room on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] also while somebody waits for room: what is little to one is not enough for another.
    pub fn room(&self) -> io::Result<()> {
        if self.cramped.load(Ordering::Relaxed) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.try_room()
    }

    /// Whether a little can be written.
    fn try_room(&self) -> io::Result<()> {
        self.draft()?.write_all(&vec![1; ROOM])
    }

    /// Notes that somebody waits for room on the disk.
    pub fn cramped(&self) -> Cramped {
        self.cramped.fetch_add(1, Ordering::Relaxed);
        Cramped(self.cramped.clone())
    }

    /// Returns when a little can be written, or never.
    pub async fn wait_for_room(&self) {
        let _cramped = self.cramped();
        loop {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
            let files = self.clone();
            if matches!(tokio::task::spawn_blocking(move || files.try_room()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// The folder of all files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A new file without a name.
    pub fn draft(&self) -> io::Result<Draft> {
        NamedTempFile::new_in(&self.unfinished.folder).map(Draft)
    }

    /// Gives a draft its name, durably.
    pub fn publish(&self, draft: Draft, key: &Key) -> io::Result<()> {
        let path = self.path(key);
        draft.0.as_file().sync_all()?;
        let folder = self.folder(&path)?;
        draft.0.persist(&path).map_err(|error| error.error)?;
        sync(&folder)
    }

    /// Gives a file a second name. The two do not know of each other.
    pub fn link(&self, from: &Key, to: &Key) -> io::Result<()> {
        let path = self.path(to);
        let folder = self.folder(&path)?;
        match fs::hard_link(self.path(from), &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has links.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => fs::copy(self.path(from), &path).map(|_| ()),
            other => other,
        }?;
        sync(&folder)
    }

    fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            // The new folder's own entry has to last as well.
            folder.ancestors().skip(1).take(2).try_for_each(sync)?;
        }
        Ok(folder)
    }

    /// Where a file is, if it is there.
    pub fn path(&self, key: &Key) -> PathBuf {
        match key {
            Key::Source(task) => self.task(*task).join("source"),
            Key::Result(task, name) => self.task(*task).join(name),
            Key::Map(task, attempt) => self.task(*task).join(format!("map-{attempt}.png")),
            Key::Thumb(task) => self.task(*task).join("thumb"),
            Key::Object(id) => self.root.join("objects").join(shard(*id)).join(id.to_string()),
        }
    }

    /// Maps a file into memory. It is only backed by the file itself, so that large pictures cost no memory.
    pub fn map(&self, key: &Key) -> io::Result<Mmap> {
        map(&self.path(key))
    }

    /// Deletes a file, if it is there.
    pub fn remove(&self, key: &Key) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path(key)))
    }

    /// Deletes all files of a task, if there are any.
    pub fn remove_task(&self, task: Uuid) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(self.task(task)))
    }

    fn task(&self, task: Uuid) -> PathBuf {
        self.root.join("tasks").join(shard(task)).join(task.to_string())
    }

    /// Tasks that have had a folder for longer than `age`.
    pub fn tasks_older_than(&self, age: Duration) -> io::Result<Vec<Uuid>> {
        let mut tasks = Vec::new();
        for shard in fs::read_dir(self.root.join("tasks"))? {
            for entry in fs::read_dir(shard?.path())? {
                let entry = entry?;
                let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
                if let Some(id) = id.filter(|_| older(&entry, age)) {
                    tasks.push(id);
                }
            }
        }
        Ok(tasks)
    }

    /// Deletes what processes that died have left unfinished.
    pub fn sweep_unfinished(&self) -> io::Result<()> {
        let _turn = turn(&self.root)?;
        sweep(&self.root)
    }

    /// Deletes what earlier attempts than this one have made of a task.
    pub fn keep_attempt(&self, task: Uuid, attempt: u32) -> io::Result<()> {
        let entries = match fs::read_dir(self.task(task)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let made = name.to_str().and_then(|name| name.strip_prefix("result-").or(name.strip_prefix("map-")));
            let by = made.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
            if by.is_some_and(|by| by < attempt) {
                ignore_missing(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Bytes of all files of a task.
    pub fn size_of_task(&self, task: Uuid) -> u64 {
        size_of_folder(&self.task(task))
    }

    /// Bytes of all files of tasks.
    pub fn size_of_tasks(&self) -> u64 {
        size_of_folder(&self.root.join("tasks"))
    }
}

/// Maps one of our files into memory.
pub(crate) fn map(path: &Path) -> io::Result<Mmap> {
    let file = fs::File::open(path)?;
    // SAFETY: files never change after they have got their name (see the module's notes), and deletion only unlinks.
    unsafe { Mmap::map(&file) }
}

/// How often it is looked whether there is room.
pub(crate) const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);

/// Whether an error means that the disk has no room, which can change.
pub(crate) fn no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes of all files below a folder.
pub(crate) fn size_of_folder(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of_folder(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Lets one process at a time make or delete folders of unfinished files, so that none is deleted before it is locked.
fn turn(root: &Path) -> io::Result<fs::File> {
    let turn = fs::File::create(root.join("tmp").join(LOCK))?;
    turn.lock()?;
    Ok(turn)
}

fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root.join("tmp"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let alive = fs::File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
            if !alive {
                ignore_missing(fs::remove_dir_all(entry.path()))?;
            }
        } else if entry.file_name() != LOCK && older(&entry, UNLOCKED_AGE) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Deletes temporary files in a folder of somebody else's that are so old that nobody can be writing them.
pub(crate) fn sweep_temporary(folder: &Path, age: Duration) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(".tmp"));
        if temporary && entry.file_type()?.is_file() && older(&entry, age) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

impl Draft {
    /// The bytes written so far.
    pub fn map(&self) -> io::Result<Mmap> {
        // SAFETY: only this value can write to the file, and it is borrowed.
        unsafe { Mmap::map(self.0.as_file()) }
    }

    /// Where it lies, for another process to write to.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A second handle, for writing without blocking.
    pub fn reopen(&self) -> io::Result<tokio::fs::File> {
        self.0.reopen().map(tokio::fs::File::from_std)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// The last two digits: those of a time-ordered id are random, the first ones are not.
fn shard(id: Uuid) -> String {
    format!("{:02x}", id.as_bytes()[15])
}

fn older(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the entries of a folder durable. Elsewhere than on Unix folders cannot be opened, and renames are durable enough.
fn sync(folder: impl AsRef<Path>) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
