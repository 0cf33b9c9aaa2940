//! Writing results: whole or not at all.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use enlarger_pipeline::temporary_in;

use crate::{
    paths::parent,
    printer::{Hinted, reason},
    signals,
};

/// Writes through a temporary file in the same folder, which is made if needed, so that a half-written result never has the final name.
/// Without `replace` a file that is there already stays, and that is an error.
pub fn write<T>(
    path: &Path,
    replace: bool,
    make: impl FnOnce(&mut BufWriter<&File>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let told = |error: std::io::Error| cannot_write(path, &error);
    let folder = parent(path);
    std::fs::create_dir_all(folder).map_err(told)?;
    let temporary = temporary_in(folder).map_err(told)?;
    let _unfinished = Unfinished::new(temporary.path());
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let made = make(&mut out)?;
    out.flush().map_err(told)?;
    drop(out);
    if replace || !occupied(path).map_err(told)? {
        temporary.persist(path).map_err(|e| told(e.error))?;
    } else {
        temporary.persist_noclobber(path).map_err(|e| told(e.error))?;
    }
    Ok(made)
}

/// While it lives, its temporary file is removed if the program is stopped.
struct Unfinished;

impl Unfinished {
    fn new(path: &Path) -> Self {
        // Absolute, should the folder have been named relatively; if that fails it is as it was.
        signals::set_unfinished(Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())));
        Self
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        signals::set_unfinished(None);
    }
}

/// Whether something is in a result's place. An empty file does not count: an interrupted program left it there.
pub fn occupied(path: &Path) -> std::io::Result<bool> {
    match path.symlink_metadata() {
        Ok(there) => Ok(!there.is_file() || there.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why a result could not be written, and what to do.
pub fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::InvalidFilename => "choose a shorter name with -o FILE",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, or choose another disk with -o",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "choose another folder with -o",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a file has the same name as the output folder; choose another with -o"
        }
        _ => "check the folder, its space and permissions",
    };
    Hinted::error(format!("cannot write {}: {}", path.display(), reason(error)), hint)
}
