//! Opens the storage that the settings name, and makes sure that it is the one of the database.

use std::{fmt, io};

use enlarger_blobs::{Scratch, is_transient};
use enlarger_service::{files::Files, nodes::host, signed::Signer};
use enlarger_tasks::Nodes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Config, ConfigError, ServeError, io_error};

/// The files of a service. A bucket that cannot be reached may be reached later; one that refuses this service never.
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
        Err(error) if is_transient(&error) => return Err(ServeError::Storage(error)),
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

/// What tells a storage from others, and says to which database it belongs. Both ids are random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    storage: Uuid,
    database: Uuid,
}

impl Stamp {
    fn parse(text: &str) -> Option<Self> {
        let (storage, database) = text.trim().split_once(' ')?;
        Some(Self { storage: storage.parse().ok()?, database: database.parse().ok()? })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.storage, self.database)
    }
}

/// Checks that database and storage belong together. If neither was used before, from now on they do.
///
/// Both are stamped, so processes agree on a storage however each of them spells its name: another bucket is found, and so is a folder
/// of another machine. A second database would take the first one's files for leftovers and delete them.
pub(crate) async fn join(config: &Config, nodes: &dyn Nodes, files: &Files) -> Result<(), ServeError> {
    let service = nodes.service().await?;
    let fresh = Stamp { storage: Uuid::new_v4(), database: service.database };
    let stamp = match (read(files).await?, &service.storage) {
        (Some(stamp), _) if stamp.database == service.database => stamp,
        (_, Some((_, place))) => return Err(other_storage(config, place).into()),
        // Whoever deletes the database of a data folder starts again there.
        (Some(stamp), None) if config.database.reveal().is_empty() && config.storage.is_empty() => {
            write(files, Stamp { database: service.database, ..stamp }, Some(stamp)).await?
        }
        (Some(stamp), None) => stamp,
        (None, None) => write(files, fresh, None).await?,
    };
    if stamp.database != service.database {
        let what = format!("the storage ({}) belongs to another database, which would lose its files", place(config));
        let hint =
            "use another prefix or folder for each database; if the other one is gone, delete the file `stamp` there";
        return Err(ConfigError::new(what, hint).into());
    }
    match nodes.use_storage(stamp.storage, &place(config)).await?.storage {
        Some((storage, place)) if storage != stamp.storage => Err(other_storage(config, &place).into()),
        _ => Ok(()),
    }
}

fn other_storage(config: &Config, place: &str) -> ConfigError {
    if place == self::place(config) {
        let what = format!(
            "the file `stamp` in {place} is missing or another one: these are not the files of this database's jobs"
        );
        return ConfigError::new(what, "restore the bucket or folder from a backup, or start with a new database");
    }
    let what = format!("the files of this database's jobs are in {place}, not in {}", self::place(config));
    let hint = match (place.starts_with("s3://"), config.storage.is_empty()) {
        (false, true) => {
            "several machines share files in a bucket: set `storage`; processes of one machine share a `data_dir`"
        }
        _ => "give all processes the same `storage`; if the files were moved, move the file `stamp` with them",
    };
    ConfigError::new(what, hint)
}

/// Where files are, for people: without options, which may differ between processes.
fn place(config: &Config) -> String {
    match config.storage.split('?').next() {
        Some(url) if !url.is_empty() => url.to_owned(),
        _ => format!("the folder {} on {}", config.data_dir.join("files").display(), host()),
    }
}

async fn read(files: &Files) -> Result<Option<Stamp>, ServeError> {
    let Some(text) = files.blobs.stamp().await.map_err(unread)? else { return Ok(None) };
    let unreadable = || ConfigError::new("the file `stamp` in the storage cannot be read", "restore it from a backup");
    Ok(Some(Stamp::parse(&text).ok_or_else(unreadable)?))
}

async fn write(files: &Files, stamp: Stamp, replaced: Option<Stamp>) -> Result<Stamp, ServeError> {
    let replaced = replaced.map(|stamp| stamp.to_string());
    files.blobs.set_stamp(&stamp.to_string(), replaced.as_deref()).await.map_err(unread)?;
    // Another process may have been faster.
    Ok(read(files).await?.unwrap_or(stamp))
}

fn unread(error: io::Error) -> ServeError {
    if is_transient(&error) { ServeError::Storage(error) } else { refused(&error, USAGE).into() }
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
