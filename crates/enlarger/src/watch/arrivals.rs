//! When a file in a watched folder is complete.
//!
//! The system says when something changes, where it does; the folder is looked at every few seconds anyway, since network drives say
//! nothing of what other machines write. A file is complete when its size and time of change have stood still for a while, and
//! when on Linux whoever wrote to it has closed it.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant, UNIX_EPOCH},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RemoveKind, RenameMode},
};
use serde::{Deserialize, Serialize};

use crate::signals;

/// How often to look whether the program is to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its size.
    pub bytes: u64,
    /// When it was changed, in nanoseconds since 1970; 0 where the disk does not say.
    modified: u64,
}

impl Stamp {
    /// Of the file that is there. An empty one has none: its content is still to come.
    pub fn of(path: &Path) -> Option<Self> {
        let file = path.metadata().ok().filter(|file| file.is_file() && file.len() > 0)?;
        let modified = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Some(Self { bytes: file.len(), modified: modified.map_or(0, |at| at.as_nanos() as u64) })
    }
}

/// The files that have arrived and are not dealt with.
pub struct Arrivals {
    folder: PathBuf,
    mode: RecursiveMode,
    settle: Duration,
    /// Since when each has its stamp.
    still: HashMap<PathBuf, (Stamp, Instant)>,
    /// Files that somebody has written to and not closed since.
    open: HashSet<PathBuf>,
    events: Receiver<notify::Result<Event>>,
    /// What sends them; none where the system reports nothing, and then the folder is only looked at.
    watcher: Option<RecommendedWatcher>,
}

impl Arrivals {
    /// Begins to listen.
    pub fn new(folder: &Path, recursive: bool, settle: Duration) -> Self {
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let mut arrivals = Self {
            folder: folder.to_owned(),
            mode,
            settle,
            still: HashMap::new(),
            open: HashSet::new(),
            events: channel().1,
            watcher: None,
        };
        arrivals.listen();
        arrivals
    }

    /// Listens to the folder that has this name now.
    pub fn listen(&mut self) {
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(sender).and_then(|mut watcher| {
            watcher.watch(&self.folder, self.mode)?;
            Ok(watcher)
        });
        self.open.clear();
        (self.watcher, self.events) = (watcher.ok(), events);
    }

    /// Waits until something changes, for so long at most, or until a signal.
    pub fn wait(&mut self, most: Duration) {
        let until = Instant::now() + most;
        while signals::stopped().is_none() {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left.min(GLANCE)) {
                Ok(event) => {
                    if self.note(event) {
                        // Seldom does a single one come, and for each the folder would be looked at.
                        std::thread::sleep(left.min(GLANCE));
                        return self.drain();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody is left who would send.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left.min(GLANCE)),
            }
            if left.is_zero() {
                return;
            }
        }
    }

    /// Takes note of what is in the folder now. Whether something of it is not complete.
    pub fn see(&mut self, found: &[(PathBuf, Stamp)]) -> bool {
        self.drain();
        let now = Instant::now();
        let before = std::mem::take(&mut self.still);
        let since = |path: &PathBuf, stamp: &Stamp| match before.get(path) {
            Some((same, since)) if same == stamp => *since,
            _ => now,
        };
        self.still = found.iter().map(|(path, stamp)| (path.clone(), (*stamp, since(path, stamp)))).collect();
        found.iter().any(|(path, _)| !self.is_ready(path))
    }

    /// Whether a file is complete.
    pub fn is_ready(&self, path: &Path) -> bool {
        let still = self.still.get(path).is_some_and(|(_, since)| since.elapsed() >= self.settle);
        still && !self.open.contains(path)
    }

    fn drain(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.note(event);
        }
    }

    /// Takes note of an event. Whether there may be something new: to look at the folder is an event, too.
    fn note(&mut self, event: notify::Result<Event>) -> bool {
        let Ok(event) = event else { return true };
        if event.need_rescan() {
            // Some closings went unheard.
            self.open.clear();
            return true;
        }
        match event.kind {
            // Only inotify says when a file is closed, so only there it counts that it was written to.
            EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => self.open.extend(event.paths),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(RemoveKind::File)
            | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                for path in &event.paths {
                    self.open.remove(path);
                }
            }
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return false,
            _ => {}
        }
        true
    }
}
