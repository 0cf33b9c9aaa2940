//! The files of a service: what is stored, and what is being written.

use std::{io, path::Path, sync::Arc};

use enlarger_blobs::{BlobStore, Scratch, folder, open_blobs};

/// Where files are stored, and where drafts of them are written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    /// What is stored.
    pub blobs: Arc<dyn BlobStore>,
    /// What is being written.
    pub scratch: Scratch,
}

impl Files {
    /// Opens a folder of files, with its drafts in a folder below it.
    ///
    /// # Errors
    /// If it cannot be opened or made.
    pub async fn in_folder(path: &Path) -> io::Result<Self> {
        let blobs = open_blobs(&folder::url_of(path)?).await?;
        Ok(Self { blobs, scratch: Scratch::open(&path.join("tmp"))? })
    }

    /// Checks that a file could be stored now.
    ///
    /// # Errors
    /// If it could not, or if others already wait for disk space.
    pub async fn ping(&self) -> io::Result<()> {
        let scratch = self.scratch.clone();
        tokio::task::spawn_blocking(move || scratch.room()).await.map_err(io::Error::other)??;
        self.blobs.ping().await
    }
}
