//! Opens the storage that the settings name.

use std::io;

use enlarger_blobs::{Scratch, is_transient};
use enlarger_service::{files::Files, signed::Signer};
use sha2::{Digest, Sha256};

use crate::{Config, ConfigError, ServeError, io_error};

/// The files of a service. A bucket that cannot be reached may be reached later; one that refuses this service is an error.
pub(crate) async fn open(config: &Config) -> Result<Files, ServeError> {
    let folder = config.data_dir.join("files");
    if config.storage.is_empty() {
        return Files::in_folder(&folder).await.map_err(io_error("cannot open the folder of files"));
    }
    // Drafts and copies are local, whatever the storage.
    let files = Files::open(&config.storage, &folder.join("tmp")).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => refused(&error, USAGE).into(),
        _ => io_error("cannot make the folder of drafts")(error),
    })?;
    match files.blobs.ping().await {
        Ok(()) => {}
        Err(error) if is_transient(&error) => {
            tracing::error!(
                %error,
                "the storage cannot be used, so jobs wait and /readyz answers 503 until it can; hint: check `storage` and the bucket's server"
            );
        }
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => CREDENTIALS,
                _ => USAGE,
            };
            return Err(refused(&error, hint).into());
        }
    }
    Ok(files)
}

const USAGE: &str = "name a bucket that exists, for example s3://pictures/enlarger?endpoint=https://s3.example.com";
const CREDENTIALS: &str =
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; they must be allowed to read, write, list and delete";

fn refused(error: &io::Error, hint: &str) -> ConfigError {
    ConfigError::new(format!("`storage` cannot be used: {error}"), hint)
}

/// What signs the URLs of files.
pub(crate) fn signer(config: &Config, scratch: &Scratch) -> Result<Signer, ServeError> {
    let secret = config.signing_secret.reveal();
    if !secret.is_empty() {
        return Ok(Signer::new(Sha256::digest(secret).into()));
    }
    let signer = Signer::open(&config.data_dir.join("signing.key"), scratch);
    signer.map_err(io_error("cannot read the signing key"))
}
