//! Paths as the file system sees them.

use std::path::{Path, PathBuf};

/// The path itself, in full and without links, as far as there is something.
pub fn real(path: &Path) -> PathBuf {
    let named = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    named.canonicalize().unwrap_or_else(|_| match (named.parent(), named.file_name()) {
        // It must not change when missing folders are created.
        (Some(folder), Some(name)) => real(folder).join(name),
        _ => path.to_owned(),
    })
}

/// The folder that a file is in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
