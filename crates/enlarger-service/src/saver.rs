//! Copies results to a folder of the operator's, under names for people.
//!
//! Before a worker commits a result, it notes the task as unsaved; the saver removes the note when the copy is there. So a
//! crash or a full disk delays a copy, and no task ever fails or waits for one.

use std::{
    ffi::OsStr,
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use enlarger_blobs::Key;
use enlarger_pipeline::{Extent, NamePattern, numbered, remove_leftovers, temporary_in};
use enlarger_tasks::{Files as TaskFiles, Queue, Scope, Task, TaskState};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    files::Files,
    job::{Job, Made},
    sweeper::ended,
};

/// How often to try again what could not be copied.
const AGAIN: Duration = Duration::from_secs(5);
/// Most characters of a name that come from a client. With suffix and number it stays below the 255 bytes of common file systems.
const LONGEST_STEM: usize = 50;

/// Results that are still to be copied. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unsaved {
    /// Contains an empty file for each, named by its task.
    notes: PathBuf,
    /// Where they are to go.
    folder: PathBuf,
    /// Why the last one could not be copied.
    problem: Arc<Mutex<Option<String>>>,
}

impl Unsaved {
    /// Notes in a folder, which is made if needed, about results that are to go to another. Copies that a crash left unfinished there
    /// are removed.
    ///
    /// # Errors
    /// If the folder of notes cannot be made.
    pub fn open(notes: PathBuf, folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&notes)?;
        remove_leftovers(&folder);
        Ok(Self { notes, folder, problem: Arc::default() })
    }

    /// Notes a task whose result is about to be committed.
    pub(crate) fn note(&self, task: Uuid) -> io::Result<()> {
        fs::File::create(self.notes.join(task.to_string())).map(drop)
    }

    /// All that are noted.
    fn all(&self) -> io::Result<Vec<Uuid>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.notes)? {
            all.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok()));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The note, for one process at a time; nothing if another has it, or it is gone.
    fn take(&self, task: Uuid) -> io::Result<Option<fs::File>> {
        match fs::File::open(self.notes.join(task.to_string())) {
            Ok(note) => Ok(note.try_lock().is_ok().then_some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn forget(&self, task: Uuid) -> io::Result<()> {
        fs::remove_file(self.notes.join(task.to_string()))
    }

    /// Whether results can be copied, in a sentence; the error says why not.
    ///
    /// # Errors
    /// If the last one could not be.
    pub fn state(&self) -> Result<String, String> {
        match &*self.problem.lock().expect("no panic under it") {
            None => Ok(format!("results are saved to {}", self.folder.display())),
            Some(problem) => Err(format!("results wait to be saved to {}: {problem}", self.folder.display())),
        }
    }
}

/// Copies results.
pub struct Saver {
    /// Which ones.
    pub unsaved: Unsaved,
    /// How the copies are named.
    pub names: NamePattern,
    /// The tasks.
    pub queue: Arc<dyn Queue>,
    /// Their files.
    pub files: Files,
    /// Cancelled when the service is to end.
    pub stop: CancellationToken,
}

impl Saver {
    /// Copies until told to stop.
    pub async fn run(self) {
        let mut changes = self.queue.changes();
        while !self.stop.is_cancelled() {
            let problem = self.save_all().await.err().map(|error| error.to_string());
            let before =
                std::mem::replace(&mut *self.unsaved.problem.lock().expect("no panic under it"), problem.clone());
            let folder = self.unsaved.folder.display();
            match problem {
                Some(problem) if before.as_ref() != Some(&problem) => {
                    tracing::warn!(
                        "results cannot be saved to {folder}: {problem}; they are kept, and saved once it works"
                    );
                }
                None if before.is_some() => tracing::info!("results are saved to {folder} again"),
                _ => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(AGAIN) => {}
                () = ended(&mut changes) => {}
            }
        }
    }

    /// Copies all that can be; the error is of the first that cannot.
    async fn save_all(&self) -> io::Result<()> {
        let mut result = Ok(());
        for task in self.unsaved.all()? {
            if self.stop.is_cancelled() {
                break;
            }
            // Locked until it is forgotten.
            let Some(_note) = self.unsaved.take(task)? else { continue };
            match self.save(task).await {
                Ok(true) => self.unsaved.forget(task)?,
                Ok(false) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Copies a task's result. Whether there is nothing left to do for it.
    async fn save(&self, id: Uuid) -> io::Result<bool> {
        let Some(task) = self.queue.get(id, &Scope::All).await.map_err(io::Error::other)? else { return Ok(true) };
        match task.state {
            // It is about to be committed, or was not and is computed again.
            TaskState::Created | TaskState::InProgress => return Ok(false),
            TaskState::Failed | TaskState::Cancelled => return Ok(true),
            TaskState::Completed => {}
        }
        let (Ok(Some(made)), Ok(job)) = (Made::of(&task), Job::of(&task)) else { return Ok(true) };
        let bytes = match self.files.blobs.map(&Key::Result(id, made.file.clone())).await {
            Ok(bytes) if task.files == TaskFiles::Present => bytes,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                tracing::warn!(task = %id, "the result was deleted before it could be saved");
                return Ok(true);
            }
        };
        let (folder, name) = (self.unsaved.folder.clone(), self.name(&task, &job, &made));
        let saved = tokio::task::spawn_blocking(move || save_as(&folder, &name, &bytes)).await;
        let path = saved.map_err(io::Error::other)??;
        tracing::info!(task = %id, path = %path.display(), "result saved");
        Ok(true)
    }

    fn name(&self, task: &Task, job: &Job, made: &Made) -> String {
        let stem = job.name.as_deref().map_or_else(|| task.id.to_string(), stem);
        let (from, to) = (&made.source, Extent { width: made.width, height: made.height });
        let (width, height) = job.request.crop.map_or((from.width, from.height), |crop| (crop.width, crop.height));
        let factor = job.request.size.factor(width, height);
        let name = self.names.fill(OsStr::new(&stem), factor, to, &made.extension);
        name.into_string().expect("all its parts are text")
    }
}

/// A client's name for an image, fit for any file system: no folders, no control characters, no extension, not hidden.
fn stem(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem });
    let fit = |c: char| if c.is_control() || "<>:\"|?*".contains(c) { '_' } else { c };
    let stem: String = stem.chars().map(fit).take(LONGEST_STEM).collect();
    let stem = stem.trim_matches([' ', '.']);
    if stem.is_empty() { "image".to_owned() } else { stem.to_owned() }
}

/// Writes a file whole under the first of `name`, `name` with 2, and so on that is free, or that has these bytes already.
/// Makes the folder, but none above it: that would be in the place of a disk that is not there.
fn save_as(folder: &Path, name: &str, bytes: &Bytes) -> io::Result<PathBuf> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut file = temporary_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let mut path = folder.join(name);
    for number in 2.. {
        match file.persist_noclobber(&path) {
            Ok(_) => break,
            Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => return Err(failed.error),
            // It was saved before a crash.
            Err(_) if contains(&path, bytes) => break,
            Err(failed) => file = failed.file,
        }
        path = folder.join(numbered(OsStr::new(name), number));
    }
    Ok(path)
}

/// Whether a file consists of these bytes.
fn contains(path: &Path, bytes: &[u8]) -> bool {
    let same = || {
        let mut file = fs::File::open(path)?;
        let mut part = vec![0; 1 << 16];
        for expected in bytes.chunks(part.len()) {
            file.read_exact(&mut part[..expected.len()])?;
            if part[..expected.len()] != *expected {
                return Ok(false);
            }
        }
        Ok::<_, io::Error>(file.read(&mut part)? == 0)
    };
    same().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_leads_nowhere_else() {
        for (name, expected) in [
            ("fox.jpg", "fox"),
            ("../../etc/passwd", "passwd"),
            ("C:\\photos\\fox.jpg", "fox"),
            (".hidden", "hidden"),
            ("..", "image"),
            ("", "image"),
            ("a\0b\n?.png", "a_b__"),
            ("Füchse im Schnee.v2.png", "Füchse im Schnee.v2"),
        ] {
            assert_eq!(stem(name), expected, "{name:?}");
        }
        assert!(stem(&"ü".repeat(300)).len() <= 100);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_saved_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = |bytes: &'static [u8]| {
            let path = save_as(folder.path(), "fox_4x.png", &Bytes::from_static(bytes)).expect("saved");
            path.file_name().expect("a name").to_string_lossy().into_owned()
        };
        assert_eq!(
            [names(b"one"), names(b"two"), names(b"one"), names(b"two"), names(b"on")],
            ["fox_4x.png", "fox_4x-2.png", "fox_4x.png", "fox_4x-2.png", "fox_4x-3.png"]
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "no temporary file is left");
        let missing = folder.path().join("not/there");
        assert!(save_as(&missing, "fox_4x.png", &Bytes::from_static(b"one")).is_err());
    }
}
