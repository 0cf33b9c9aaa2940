//! The URL of a PostgreSQL database.

use std::str::FromStr as _;

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use url::Url;

use crate::error::StoreError;

/// What may follow the `?`. The driver would log others, with their values, which may be secret.
const PARAMETERS: [&str; 10] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
];

/// How to connect. What the URL leaves out comes from the variables of libpq (PGPASSWORD, ...) and its password file.
pub(super) fn options(url: &Url) -> Result<PgConnectOptions, StoreError> {
    let unknown = url.query_pairs().map(|(name, _)| name).find(|name| !PARAMETERS.contains(&&**name) && name != "user");
    if let Some(name) = unknown {
        return Err(StoreError::Open {
            why: format!("the database URL has an unknown parameter `{name}`"),
            hint: format!("known parameters are user, {}", PARAMETERS.join(", ")),
        });
    }
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|error| StoreError::Open {
        why: format!("invalid database URL: {error}"),
        hint: "use a URL such as postgres://user@db.example/enlarger?sslmode=verify-full".to_owned(),
    })?;
    let named = url.query_pairs().any(|(name, _)| name == "application_name");
    let options = if named { options } else { options.application_name("enlarger") };
    Ok(options.disable_statement_logging())
}

/// Where the database is, without anything secret.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(folder) => format!("{}/.s.PGSQL.{}", folder.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("database `{}` at {server}", database(options))
}

/// Like libpq, a database that is not named has the name of the user.
pub(super) fn database(options: &PgConnectOptions) -> &str {
    options.get_database().unwrap_or(options.get_username())
}
