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
        Self::open(&folder::url_of(path)?, &path.join("tmp")).await
    }

    /// Opens what is stored at a URL (see [`open_blobs`]), with drafts in a folder on this machine.
    ///
    /// # Errors
    /// If either cannot be opened or made.
    pub async fn open(url: &str, drafts: &Path) -> io::Result<Self> {
        let scratch = Scratch::open(drafts)?;
        Ok(Self { blobs: open_blobs(url, &scratch).await?, scratch })
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

    /// Returns once a file can be stored.
    pub async fn wait(&self) {
        loop {
            self.scratch.wait_for_room().await;
            if self.blobs.ping().await.is_ok() {
                return;
            }
        }
    }
}
