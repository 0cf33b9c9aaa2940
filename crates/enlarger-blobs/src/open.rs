//! Which storage a URL names.

use std::{io, sync::Arc};

use url::Url;

use crate::{folder, store::BlobStore};

/// Opens the storage at `url`, making it if needed.
///
/// * `file:///var/lib/enlarger/files`: a folder ([`folder::url_of`] makes a URL of any path). Drafts must be on the same disk.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if this kind of storage is not supported; otherwise if it cannot be opened.
pub async fn open_blobs(url: &str) -> io::Result<Arc<dyn BlobStore>> {
    let parsed = Url::parse(url).map_err(|error| unsupported(format!("invalid storage URL: {error}")))?;
    match parsed.scheme() {
        folder::SCHEME => folder::open(&parsed).await,
        // Only the scheme: the rest may contain a password.
        other => Err(unsupported(format!("{other}: storage is not supported"))),
    }
}

fn unsupported(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}
