//! Where this process writes unfinished files: a folder of its own on a local disk.

use std::{
    fs,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use memmap2::Mmap;
use tempfile::{NamedTempFile, TempDir};
use uuid::Uuid;

/// How much must be writable for the disk not to count as full.
const ROOM: usize = 1 << 20;
/// How often to check for disk space.
pub const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);
/// Age at which unfinished files of versions without locks are deleted: longer than any job took.
const UNLOCKED_AGE: Duration = Duration::from_secs(24 * 3600);
/// The lock of a process's folder, and of the folder of these folders.
const LOCK: &str = "lock";

/// This process's unfinished files. They are deleted when it ends, however it ends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scratch {
    own: Arc<Own>,
    /// How many jobs wait for disk space.
    cramped: Arc<AtomicUsize>,
}

/// The folder of this process. It is locked until the process ends.
#[derive(Debug)]
struct Own {
    /// The folder of all processes' folders.
    all: PathBuf,
    folder: PathBuf,
    _lock: fs::File,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A job waits for disk space for as long as this lives.
#[derive(Debug)]
pub struct Cramped(Arc<AtomicUsize>);

impl Drop for Cramped {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scratch {
    /// Creates a folder below `all`, and `all` if needed, and deletes leftovers of dead processes there.
    ///
    /// # Errors
    /// If the folder cannot be made or locked.
    pub fn open(all: &Path) -> io::Result<Self> {
        fs::create_dir_all(all)?;
        let _turn = turn(all)?;
        sweep(all)?;
        let folder = all.join(Uuid::new_v4().simple().to_string());
        fs::create_dir(&folder)?;
        let lock = fs::File::create(folder.join(LOCK))?;
        lock.lock()?;
        let own = Arc::new(Own { all: all.to_owned(), folder, _lock: lock });
        Ok(Self { own, cramped: Arc::default() })
    }

    /// A new draft.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn draft(&self) -> io::Result<Draft> {
        NamedTempFile::new_in(&self.own.folder).map(Draft)
    }

    /// A file without a name, which other processes cannot find.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn nameless(&self) -> io::Result<fs::File> {
        tempfile::tempfile_in(&self.own.folder)
    }

    /// A folder, deleted when dropped.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn folder(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(&self.own.folder)
    }

    /// Deletes the leftovers of dead processes.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn sweep(&self) -> io::Result<()> {
        let _turn = turn(&self.own.all)?;
        sweep(&self.own.all)
    }

    /// Whether there is room on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] also while a job waits for space: what is enough for a small request is not
    /// enough for it.
    pub fn room(&self) -> io::Result<()> {
        if self.cramped.load(Ordering::Relaxed) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.try_room()
    }

    /// Whether a small file can be written.
    fn try_room(&self) -> io::Result<()> {
        self.draft()?.write_all(&vec![1; ROOM])
    }

    /// Records that a job waits for disk space.
    pub fn cramped(&self) -> Cramped {
        self.cramped.fetch_add(1, Ordering::Relaxed);
        Cramped(self.cramped.clone())
    }

    /// Returns once a small file can be written.
    pub async fn wait_for_room(&self) {
        let _cramped = self.cramped();
        loop {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
            let scratch = self.clone();
            if matches!(tokio::task::spawn_blocking(move || scratch.try_room()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// Whether an error means that the disk is full, which can change.
pub fn no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Lets one process at a time make or delete folders, so that none is deleted before it is locked.
fn turn(all: &Path) -> io::Result<fs::File> {
    let turn = fs::File::create(all.join(LOCK))?;
    turn.lock()?;
    Ok(turn)
}

fn sweep(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
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

fn older(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age))
}

pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file that is being written and has not been published. Dropping it deletes it.
#[derive(Debug)]
pub struct Draft(NamedTempFile);

impl Draft {
    /// The bytes written so far.
    ///
    /// # Errors
    /// If the file cannot be mapped.
    pub fn map(&self) -> io::Result<Mmap> {
        // SAFETY: only this value, and whom it gives its path or a handle, can write to the file; they have done so.
        unsafe { Mmap::map(self.0.as_file()) }
    }

    /// How many bytes were written so far.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn size(&self) -> io::Result<u64> {
        self.0.as_file().metadata().map(|data| data.len())
    }

    /// Its path, for another process to write to.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A second handle, for writing without blocking.
    ///
    /// # Errors
    /// If it cannot be opened again.
    pub fn reopen(&self) -> io::Result<tokio::fs::File> {
        self.0.reopen().map(tokio::fs::File::from_std)
    }

    /// Makes what was written durable, and moves it to a path on the same disk that must be free.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it is not.
    pub fn persist_new(self, path: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist_noclobber(path).map(drop).map_err(|error| error.error)
    }

    /// Makes what was written durable, and moves it to a path on the same disk.
    pub(crate) fn persist(self, path: &Path) -> io::Result<()> {
        self.0.as_file().sync_all()?;
        self.0.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// Maps a file without a name (see [`Scratch::nameless`]), of which there must be no other handle.
///
/// # Errors
/// If it cannot be mapped.
pub fn map_nameless(file: fs::File) -> io::Result<Bytes> {
    // SAFETY: the file has no name and, by contract, no other handle, so nothing can change it while it is mapped.
    unsafe { Mmap::map(&file) }.map(Bytes::from_owner)
}

/// Maps a draft of another process, which must have finished it.
///
/// # Errors
/// If there is none, or it cannot be mapped.
pub fn map_draft(path: &Path) -> io::Result<Mmap> {
    let file = fs::File::open(path)?;
    // SAFETY: by contract nobody writes to the file any more, and deletion only unlinks.
    unsafe { Mmap::map(&file) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_leaves_is_deleted_and_what_a_living_one_writes_is_not() {
        let all = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(all.path()).unwrap();
        let mut draft = scratch.draft().unwrap();
        draft.write_all(b"half").unwrap();
        // The folder of a dead process has a lock that no process holds; the folder of an old version has none.
        for name in ["dead", "older"] {
            fs::create_dir(all.path().join(name)).unwrap();
            fs::write(all.path().join(name).join("draft"), b"half").unwrap();
        }
        fs::write(all.path().join("dead").join(LOCK), b"").unwrap();
        let another = Scratch::open(all.path()).unwrap();
        assert!(!all.path().join("dead").exists() && !all.path().join("older").exists());
        assert_eq!(&draft.map().unwrap()[..], b"half");
        let theirs = another.draft().unwrap();
        scratch.sweep().unwrap();
        assert!(theirs.path().exists());
        let folder = theirs.path().parent().unwrap().to_owned();
        drop((theirs, another));
        assert!(!folder.exists(), "the folder goes with its process");
    }

    #[test]
    fn there_is_no_room_while_somebody_waits_for_it() {
        let all = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(all.path()).unwrap();
        scratch.room().unwrap();
        let waiting = [scratch.cramped(), scratch.clone().cramped()];
        assert!(no_room(&scratch.room().unwrap_err()));
        drop(waiting);
        scratch.room().unwrap();
    }
}
