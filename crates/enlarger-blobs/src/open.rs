//! Which storage a URL names.

use std::{io, sync::Arc};

use url::Url;

use crate::{folder, object, scratch::Scratch, store::BlobStore};

/// Opens the storage at `url`, making it if needed.
///
/// * `file:///var/lib/enlarger/files`: a folder ([`folder::url_of`] makes a URL of any path). Drafts must be on the same disk.
/// * `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path_style=BOOL`: a bucket at Amazon S3 or a server that speaks its protocol, which
///   must exist; the prefix and all options may be missing. Credentials come from the usual variables, such as `AWS_ACCESS_KEY_ID`, or
///   the machine's metadata service.
///
/// `scratch` is where drafts are written, and copies of what is far away.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if this kind of storage is not supported, and [`io::ErrorKind::InvalidInput`] if the URL is
/// wrong; otherwise if it cannot be opened. A bucket is not contacted yet: [`BlobStore::ping`] says whether it can be used.
pub async fn open_blobs(url: &str, scratch: &Scratch) -> io::Result<Arc<dyn BlobStore>> {
    let parsed = Url::parse(url).map_err(|error| unsupported(format!("invalid storage URL: {error}")))?;
    match parsed.scheme() {
        folder::SCHEME => folder::open(&parsed).await,
        object::SCHEME => object::open(&parsed, scratch),
        // Only the scheme: the rest may contain a password.
        other => Err(unsupported(format!("{other}: storage is not supported"))),
    }
}

fn unsupported(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}
