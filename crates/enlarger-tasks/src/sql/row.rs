//! Database rows to values.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::{
    error::StoreError,
    record::Record,
    task::{ApiKey, Delivery, Files, Node, Object, ObjectState, Service, Task},
};

/// A row of any of our databases.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($row:expr, $column:expr) => {{
        let value = match $row {
            Row::Sqlite(row) => row.try_get($column),
            Row::Postgres(row) => row.try_get($column),
        };
        value.map_err(|error| corrupt($column, error))
    }};
}

impl Row {
    pub fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        column!(self, column)
    }

    pub fn text_opt(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        column!(self, column)
    }

    pub fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError> {
        column!(self, column)
    }

    pub fn real(&self, column: &'static str) -> Result<f64, StoreError> {
        column!(self, column)
    }

    pub fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        column!(self, column)
    }

    pub fn integer_opt(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        column!(self, column)
    }

    /// What a condition in the list of a SELECT was.
    pub fn truth(&self, column: &'static str) -> Result<bool, StoreError> {
        column!(self, column)
    }

    /// A count, which the database stores with a sign.
    pub fn count<T: TryFrom<i64, Error: ToString>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.integer(column)?.try_into().map_err(|error: T::Error| corrupt(column, error))
    }

    pub fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.integer(column)?).map_err(|error| corrupt(column, error))
    }

    pub fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let milliseconds = self.integer_opt(column)?;
        milliseconds.map(|ms| Timestamp::from_millisecond(ms).map_err(|error| corrupt(column, error))).transpose()
    }

    pub fn parsed<T: std::str::FromStr<Err: ToString>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|error: T::Err| corrupt(column, error))
    }

    fn owned(&self, column: &'static str) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    fn owned_opt(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.text_opt(column)?.map(str::to_owned))
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(column)?).map_err(|error| corrupt(column, error))
    }

    fn json_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.text_opt(column)?;
        text.map(|text| serde_json::from_str(text).map_err(|error| corrupt(column, error))).transpose()
    }
}

pub(super) fn record(row: &Row) -> Result<Record, StoreError> {
    let task = Task {
        id: row.parsed("id")?,
        owner: row.owned_opt("owner")?,
        kind: row.owned("kind")?,
        request: row.json("request")?,
        input: row.json("input")?,
        webhook_url: row.owned_opt("webhook_url")?,
        cost: row.real("cost")?,
        state: row.parsed("state")?,
        run: row.count("run")?,
        attempt: row.count("attempt")?,
        failures: row.count("failures")?,
        worker: row.owned_opt("worker")?,
        lease_until: row.time_opt("lease_until")?,
        created_at: row.time("created_at")?,
        started_at: row.time_opt("started_at")?,
        finished_at: row.time_opt("finished_at")?,
        expires_at: row.time_opt("expires_at")?,
        polled_at: row.time_opt("polled_at")?,
        needs: needs(row.text_opt("needs")?),
        files: files(row)?,
        progress: row.json_opt("progress")?,
        plan: row.json_opt("plan")?,
        result: row.json_opt("result")?,
        error: row.json_opt("error")?,
    };
    let due = row.integer("due")?;
    Ok(Record { task, due, not_before: row.time("not_before")?, hidden: row.integer("hidden")? != 0 })
}

pub(super) fn tasks(rows: &[Row]) -> Result<Vec<Task>, StoreError> {
    rows.iter().map(|row| record(row).map(|record| record.task)).collect()
}

/// What a task needs, as it is stored: a line for each.
pub(super) fn needs(lines: Option<&str>) -> BTreeSet<String> {
    lines.into_iter().flat_map(str::lines).map(str::to_owned).collect()
}

pub(super) fn node(row: &Row) -> Result<Node, StoreError> {
    Ok(Node {
        id: row.parsed("id")?,
        about: row.json("about")?,
        draining: row.integer("draining")? != 0,
        started_at: row.time("started_at")?,
        seen_at: row.time("seen_at")?,
    })
}

pub(super) fn service(row: &Row) -> Result<Service, StoreError> {
    let storage = match row.text_opt("storage")? {
        Some(_) => Some((row.parsed("storage")?, row.owned("place")?)),
        None => None,
    };
    Ok(Service { database: row.parsed("database")?, storage })
}

pub(super) fn delivery(row: &Row, taken_at: Timestamp) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        event: row.parsed("event")?,
        task: row.parsed("task")?,
        status: row.parsed("status")?,
        url: row.owned("url")?,
        attempt: row.count("attempts")?,
        created_at: row.time("created_at")?,
        taken_at,
    })
}

pub(super) fn object(row: &Row) -> Result<Object, StoreError> {
    let state = match row.text("state")? {
        "pending" => ObjectState::Pending,
        "ready" => ObjectState::Ready,
        "deleting" => ObjectState::Deleting,
        other => return Err(corrupt("object state", other)),
    };
    Ok(Object {
        id: row.parsed("id")?,
        owner: row.owned_opt("owner")?,
        file_name: row.owned("file_name")?,
        content_type: row.owned_opt("content_type")?,
        size: row.integer_opt("size")?.and_then(|size| u64::try_from(size).ok()),
        state,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

pub(super) fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.parsed("id")?,
        name: row.owned("name")?,
        prefix: row.owned("prefix")?,
        hash: row.bytes("hash")?.try_into().map_err(|_| corrupt("key hash", "not 32 bytes"))?,
        created_at: row.time("created_at")?,
        last_used_at: row.time_opt("last_used_at")?,
        revoked_at: row.time_opt("revoked_at")?,
    })
}

pub(super) fn files_str(files: Files) -> &'static str {
    match files {
        Files::Present => "present",
        Files::Deleting => "deleting",
        Files::Gone => "gone",
    }
}

fn files(row: &Row) -> Result<Files, StoreError> {
    match row.text("files")? {
        "present" => Ok(Files::Present),
        "deleting" => Ok(Files::Deleting),
        "gone" => Ok(Files::Gone),
        other => Err(corrupt("files state", other)),
    }
}

fn corrupt(what: &'static str, why: impl ToString) -> StoreError {
    StoreError::Corrupt { what, why: why.to_string() }
}
