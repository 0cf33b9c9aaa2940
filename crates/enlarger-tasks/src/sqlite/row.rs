//! Database rows to values and back.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    error::StoreError,
    record::Record,
    task::{ApiKey, Delivery, Files, Object, ObjectState, Task},
};

pub(super) fn record(row: &SqliteRow) -> Result<Record, StoreError> {
    let task = Task {
        id: parsed(row, "id")?,
        owner: row.try_get("owner")?,
        kind: row.try_get("kind")?,
        request: json(row, "request")?,
        input: json(row, "input")?,
        webhook_url: row.try_get("webhook_url")?,
        cost: row.try_get("cost")?,
        state: parsed(row, "state")?,
        run: row.try_get("run")?,
        attempt: row.try_get("attempt")?,
        failures: row.try_get("failures")?,
        worker: row.try_get("worker")?,
        lease_until: time_opt(row, "lease_until")?,
        created_at: time(row, "created_at")?,
        started_at: time_opt(row, "started_at")?,
        finished_at: time_opt(row, "finished_at")?,
        expires_at: time_opt(row, "expires_at")?,
        polled_at: time_opt(row, "polled_at")?,
        files: files(row)?,
        progress: json_opt(row, "progress")?,
        plan: json_opt(row, "plan")?,
        result: json_opt(row, "result")?,
        error: json_opt(row, "error")?,
    };
    Ok(Record {
        task,
        due: row.try_get("due")?,
        not_before: time(row, "not_before")?,
        hidden: row.try_get::<i64, _>("hidden")? != 0,
    })
}

pub(super) fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        event: parsed(row, "event")?,
        task: parsed(row, "task")?,
        status: parsed(row, "status")?,
        url: row.try_get("url")?,
        attempt: row.try_get("attempts")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn object(row: &SqliteRow) -> Result<Object, StoreError> {
    let state = match row.try_get::<&str, _>("state")? {
        "pending" => ObjectState::Pending,
        "ready" => ObjectState::Ready,
        "deleting" => ObjectState::Deleting,
        other => return Err(corrupt("object state", other)),
    };
    Ok(Object {
        id: parsed(row, "id")?,
        owner: row.try_get("owner")?,
        file_name: row.try_get("file_name")?,
        content_type: row.try_get("content_type")?,
        size: row.try_get::<Option<i64>, _>("size")?.and_then(|size| u64::try_from(size).ok()),
        state,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}

pub(super) fn api_key(row: &SqliteRow) -> Result<ApiKey, StoreError> {
    let hash: &[u8] = row.try_get("hash")?;
    Ok(ApiKey {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        hash: hash.try_into().map_err(|_| corrupt("key hash", "not 32 bytes"))?,
        created_at: time(row, "created_at")?,
        last_used_at: time_opt(row, "last_used_at")?,
        revoked_at: time_opt(row, "revoked_at")?,
    })
}

/// JSON as stored. The types written here (values, errors) have string keys only and always serialise.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

pub(super) fn files_str(files: Files) -> &'static str {
    match files {
        Files::Present => "present",
        Files::Deleting => "deleting",
        Files::Gone => "gone",
    }
}

fn files(row: &SqliteRow) -> Result<Files, StoreError> {
    match row.try_get::<&str, _>("files")? {
        "present" => Ok(Files::Present),
        "deleting" => Ok(Files::Deleting),
        "gone" => Ok(Files::Gone),
        other => Err(corrupt("files state", other)),
    }
}

pub(super) fn parsed<T: std::str::FromStr<Err: ToString>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(|error: T::Err| corrupt(column, error))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(|error| corrupt(column, error))
}

pub(super) fn time_opt(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let milliseconds: Option<i64> = row.try_get(column)?;
    milliseconds.map(|ms| Timestamp::from_millisecond(ms).map_err(|error| corrupt(column, error))).transpose()
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| corrupt(column, error))
}

fn json_opt<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(text).map_err(|error| corrupt(column, error))).transpose()
}

fn corrupt(what: &'static str, why: impl ToString) -> StoreError {
    StoreError::Corrupt { what, why: why.to_string() }
}
