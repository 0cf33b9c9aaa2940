//! Which database a URL names.

use std::sync::Arc;

use url::Url;

use crate::{
    clock::Clock,
    error::StoreError,
    postgres, sqlite,
    store::{Store, StoreConfig},
};

/// Opens the store at `url`, creating or upgrading it as needed. To be called inside a Tokio runtime.
///
/// * `sqlite:///var/lib/enlarger/tasks.sqlite`: a SQLite database ([`sqlite::url_of`] makes one of any path).
/// * `postgres://user:password@db.example/enlarger`: a PostgreSQL database, which must exist.
///
/// # Errors
/// [`StoreError::Open`] if nothing here speaks to such a database, or it cannot be opened; [`StoreError::Unreachable`] if it
/// may be opened later. No error contains a password.
pub async fn open_store(url: &str, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
    let parsed = Url::parse(url).map_err(|error| refused(format!("invalid database URL: {error}")))?;
    match parsed.scheme() {
        sqlite::SCHEME => sqlite::open(&parsed, config, clock).await,
        scheme if postgres::SCHEMES.contains(&scheme) => postgres::open(&parsed, config, clock).await,
        // Only the scheme: the rest may contain a password.
        other => Err(refused(format!("{other}: databases are not supported"))),
    }
}

fn refused(why: String) -> StoreError {
    let hint = "use a URL such as sqlite:///var/lib/enlarger/tasks.sqlite or postgres://user@db.example/enlarger";
    StoreError::Open { why, hint: hint.to_owned() }
}
