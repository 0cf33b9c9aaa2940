//! What errors of PostgreSQL mean here (https://www.postgresql.org/docs/current/errcodes-appendix.html).

use sqlx::{Error, migrate::MigrateError};

use crate::{error::StoreError, sql::cannot_migrate};

/// A statement failed.
pub(super) fn failed(error: &Error) -> StoreError {
    if is_transient(error) { StoreError::Unavailable(message(error)) } else { StoreError::Database(message(error)) }
}

/// Whether it comes from the world around the database, or from another transaction.
fn is_transient(error: &Error) -> bool {
    // Classes: connection, insufficient resources, operator intervention, system; and single codes: serialization failure,
    // deadlock, lock timeout, read-only (a standby), idle in transaction for too long.
    const CLASSES: [&str; 4] = ["08", "53", "57", "58"];
    const CODES: [&str; 5] = ["40001", "40P01", "55P03", "25006", "25P03"];
    match code(error) {
        Some(code) => CODES.contains(&code.as_str()) || CLASSES.iter().any(|class| code.starts_with(class)),
        None => matches!(error, Error::Io(_) | Error::PoolTimedOut | Error::WorkerCrashed | Error::Protocol(_)),
    }
}

/// No connection could be made at the start.
pub(super) fn cannot_connect(place: &str, error: &Error) -> StoreError {
    let why = format!("{place}: {}", message(error));
    let code = code(error).unwrap_or_default();
    let hint = match code.as_str() {
        "28P01" | "28000" => {
            "check the user and the password in the database URL (special characters as %40 and so on) or PGPASSWORD, and that pg_hba.conf lets this machine in"
        }
        "3D000" => "create the database, or correct its name in the database URL",
        _ if is_tls(error) => {
            "check `sslmode` in the database URL, and `sslrootcert` if its certificate is from an authority of your own"
        }
        _ if is_transient(error) => {
            let hint = "check that PostgreSQL runs there and accepts connections from this machine".to_owned();
            return StoreError::Unreachable { why, hint };
        }
        _ => "check the database URL",
    };
    StoreError::Open { why, hint: hint.to_owned() }
}

/// Whether TLS could not be agreed on: a certificate that is not trusted, for example, is invalid data to the driver.
fn is_tls(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The tables could not be made or upgraded.
pub(super) fn cannot_upgrade(place: &str, error: &MigrateError) -> StoreError {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return cannot_migrate(place, error, "check that this is a database of enlarger");
    };
    if is_transient(cause) {
        return cannot_connect(place, cause);
    }
    let hint = match code(cause).as_deref() {
        // Insufficient privilege; no schema that the user may use.
        Some("42501" | "3F000") => {
            "let the user create tables: make it the owner of the database or of a schema in its search_path"
        }
        _ => "use a database of its own for enlarger",
    };
    StoreError::Open { why: format!("{place}: {}", message(cause)), hint: hint.to_owned() }
}

fn code(error: &Error) -> Option<String> {
    error.as_database_error()?.code().map(Into::into)
}

fn message(error: &Error) -> String {
    match error {
        Error::Database(error) => error.message().to_owned(),
        Error::Io(error) => error.to_string(),
        Error::PoolTimedOut => "no connection in time".to_owned(),
        other => other.to_string(),
    }
}
