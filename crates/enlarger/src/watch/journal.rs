//! What was done to which file: a line of JSON for each event, in the folder of results.
//!
//! It is written before a file is enlarged, with the name of the result, and after. A result appears under its name only when it is
//! complete, so a file that was begun is finished if its result is there. That makes a crash harmless at any moment.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use enlarger_pipeline::remove_leftovers;
use serde::{Deserialize, Serialize};

use super::arrivals::Stamp;
use crate::{paths::parent, printer::Hinted, write::cannot_write};

/// The file's name in the folder of results.
const NAME: &str = ".enlarger-watch.jsonl";

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being enlarged, or was when the program ended.
    Begun,
    /// Its result is complete.
    Done,
    /// It is a result itself.
    Skipped,
    /// It cannot be enlarged, and could not be moved aside.
    Rejected,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    /// Its whole path, since several folders may be watched in turn. Paths that are not text are kept as far as they are.
    source: String,
    #[serde(flatten)]
    stamp: Stamp,
    state: State,
    result: String,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The journal of a folder of results. One process has it at a time.
pub struct Journal {
    path: PathBuf,
    /// Open, to be appended to, and locked.
    file: RefCell<File>,
    /// The last row of each source.
    rows: RefCell<HashMap<String, Row>>,
}

impl Journal {
    /// Opens it, and makes the folder if needed. Removes what was being written when its process was killed.
    ///
    /// # Errors
    /// If the folder cannot be written, or another process has the journal.
    pub fn open(results: &Path) -> anyhow::Result<Self> {
        let path = results.join(NAME);
        let (file, rows) = read(&path)?;
        let begun = rows.values().filter(|row| row.state == State::Begun).map(|row| parent(Path::new(&row.result)));
        begun.chain([results]).collect::<HashSet<_>>().into_iter().for_each(remove_leftovers);
        Ok(Self { path, file: file.into(), rows: rows.into() })
    }

    /// Whether there is nothing left to do with this file.
    pub fn is_finished(&self, source: &Path, stamp: Stamp) -> bool {
        self.rows.borrow().get(&text(source)).is_some_and(|row| row.stamp == stamp && row.state != State::Begun)
    }

    /// Where the result of a file was to go that was begun. It is there only if it was finished.
    ///
    /// # Errors
    /// If the folder of results was removed, and its successor cannot be written or is another process's.
    pub fn begun(&self, source: &Path, stamp: Stamp) -> anyhow::Result<Option<PathBuf>> {
        self.reopen()?;
        let rows = self.rows.borrow();
        Ok(rows.get(&text(source)).filter(|row| row.stamp == stamp).map(|row| PathBuf::from(&row.result)))
    }

    /// Remembers what became of a file, on disk before it returns.
    ///
    /// # Errors
    /// As for [`Self::begun`]; then it is remembered until the program ends, unless the file was only begun.
    pub fn write(&self, source: &Path, stamp: Stamp, state: State, result: &Path) -> anyhow::Result<()> {
        let row = Row { source: text(source), stamp, state, result: text(result) };
        let written = self.reopen().and_then(|()| {
            append(&mut self.file.borrow_mut(), [&row]).map_err(|error| cannot_write(&self.path, &error))
        });
        if written.is_ok() || state != State::Begun {
            self.rows.borrow_mut().insert(row.source.clone(), row);
        }
        written
    }

    /// Opens the journal again if somebody has removed it with the folder of results. What is known is worth keeping.
    fn reopen(&self) -> anyhow::Result<()> {
        if is_at(&self.file.borrow(), &self.path).map_err(|error| cannot_write(&self.path, &error))? {
            return Ok(());
        }
        let (mut file, others) = read(&self.path)?;
        let mut rows = self.rows.borrow_mut();
        let lost = rows.values().filter(|row| !others.contains_key(&row.source));
        append(&mut file, lost).map_err(|error| cannot_write(&self.path, &error))?;
        rows.extend(others);
        self.file.replace(file);
        Ok(())
    }
}

/// The journal that is there, or a new one: locked, with the last row of each source.
fn read(path: &Path) -> anyhow::Result<(File, HashMap<String, Row>)> {
    let told = |error| cannot_write(path, &error);
    let mut file = create(path).map_err(told)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Hinted::error(
                format!("another `enlarger watch` is writing to {}", parent(path).display()),
                "stop that one, or choose another folder with -o",
            ));
        }
        // Some network drives have no locks.
        Err(TryLockError::Error(_)) => {}
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(told)?;
    // The last line is incomplete if the program was killed in mid-write.
    let rows = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Row>(line).ok());
    let rows = rows.map(|row| (row.source.clone(), row)).collect();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        file.write_all(b"\n").map_err(told)?;
    }
    Ok((file, rows))
}

fn append<'r>(file: &mut File, rows: impl IntoIterator<Item = &'r Row>) -> std::io::Result<()> {
    let mut lines = Vec::new();
    rows.into_iter().try_for_each(|row| line(row, &mut lines))?;
    file.write_all(&lines)?;
    file.sync_data()
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |file: std::fs::Metadata| (file.dev(), file.ino());
        match path.metadata() {
            Ok(there) => Ok(id(there) == id(file.metadata()?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    // Elsewhere an open file cannot be removed.
    #[cfg(not(unix))]
    {
        let _ = file;
        path.try_exists()
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(parent(path))?;
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn line(row: &Row, lines: &mut Vec<u8>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *lines, row)?;
    lines.push(b'\n');
    Ok(())
}
