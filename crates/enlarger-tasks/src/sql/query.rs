//! A statement with its values, in the SQL that all our databases understand.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::row::{Row, files_str};
use crate::{
    error::StoreError,
    state::TaskState,
    task::{Files, TaskError},
};

/// An open connection to a database.
#[async_trait]
pub(crate) trait Connection: Send {
    /// What this database says in its own way.
    fn dialect(&self) -> &'static Dialect;
    /// How many rows it changed.
    async fn execute(&mut self, query: Query) -> Result<u64, StoreError>;
    /// The rows that it returns.
    async fn fetch(&mut self, query: Query) -> Result<Vec<Row>, StoreError>;
    /// Waits until no other transaction holds the lock; it is held until the end of this transaction.
    async fn lock(&mut self, lock: Lock<'_>) -> Result<(), StoreError>;
}

/// The clauses in which our databases differ. To be written where they belong in a statement, or nothing.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// A statement that asks for the time (`now`).
    pub clock: &'static str,
    /// After a table: read it by the index `tasks_queue`, ...
    pub by_queue: &'static str,
    /// ... by `tasks_queue_owner`, ...
    pub by_queue_owner: &'static str,
    /// ... by `tasks_leases`, ...
    pub by_leases: &'static str,
    /// ... by `tasks_kept`, ...
    pub by_kept: &'static str,
    /// ... or by `tasks_turns`.
    pub by_turns: &'static str,
    /// How many transactions there can be at once, as an expression.
    pub at_once: &'static str,
    /// A statement that leaves out of `tallied` what there is none of.
    pub tidy_tally: &'static str,
    /// After a SELECT: nobody else may change these rows until this transaction ends.
    pub for_update: &'static str,
    /// The same, without the rows that somebody else is changing.
    pub skip_locked: &'static str,
}

/// What transactions do one after the other, where rows alone do not keep them apart: what they count or look for may
/// be in a row that another one has not committed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock<'a> {
    /// Adding a task to the queue, which is counted before.
    Queue,
    /// The same, together with others who take it like this.
    QueueShared,
    /// Taking webhooks, of which each receiver gets so many at once.
    Outbox,
    /// Using an idempotency key of this owner.
    Key(&'a str, &'a str),
}

/// A value to bind, as it is stored: ids and documents as text, times as milliseconds since the Unix epoch, flags as
/// 0 or 1.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Real(f64),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub sql: String,
    pub values: Vec<Value>,
}

/// A statement; `$1` in it is the first value that is bound.
pub(super) fn query(sql: impl Into<String>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

impl Query {
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends more of the statement.
    pub fn push(mut self, sql: &str) -> Self {
        self.sql += sql;
        self
    }

    /// Appends a value and its place.
    pub fn push_bind(mut self, value: impl Into<Value>) -> Self {
        self = self.bind(value);
        self.sql += &format!("${}", self.values.len());
        self
    }

    /// Appends values in parentheses, as after IN: at least one.
    pub fn push_list(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        let mut before = "(";
        for value in values {
            self = self.push(before).push_bind(value);
            before = ", ";
        }
        self.push(")")
    }

    pub async fn execute(self, conn: &mut dyn Connection) -> Result<u64, StoreError> {
        conn.execute(self).await
    }

    pub async fn fetch_all(self, conn: &mut dyn Connection) -> Result<Vec<Row>, StoreError> {
        conn.fetch(self).await
    }

    pub async fn fetch_optional(self, conn: &mut dyn Connection) -> Result<Option<Row>, StoreError> {
        Ok(conn.fetch(self).await?.into_iter().next())
    }

    pub async fn fetch_one(self, conn: &mut dyn Connection) -> Result<Row, StoreError> {
        let row = self.fetch_optional(conn).await?;
        row.ok_or_else(|| StoreError::Database("a statement returned no row".to_owned()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Integer(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Integer(Some(number.into()))
    }
}

/// Anything larger than the database can count to is as large as that.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Integer(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Real(number)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Value::Integer(Some(time.as_millisecond()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        Value::Integer(time.map(|time| time.as_millisecond()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Value::Text(text)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Value::Text(Some(id.to_string()))
    }
}

impl From<Option<Uuid>> for Value {
    fn from(id: Option<Uuid>) -> Self {
        Value::Text(id.map(|id| id.to_string()))
    }
}

impl From<TaskState> for Value {
    fn from(state: TaskState) -> Self {
        state.as_str().into()
    }
}

impl From<Files> for Value {
    fn from(files: Files) -> Self {
        files_str(files).into()
    }
}

impl From<&serde_json::Value> for Value {
    fn from(document: &serde_json::Value) -> Self {
        document.to_string().into()
    }
}

impl From<Option<&serde_json::Value>> for Value {
    fn from(document: Option<&serde_json::Value>) -> Self {
        Value::Text(document.map(serde_json::Value::to_string))
    }
}

/// Strings only, which always serialize.
impl From<Option<&TaskError>> for Value {
    fn from(error: Option<&TaskError>) -> Self {
        Value::Text(error.map(|error| serde_json::to_string(error).unwrap_or_else(|_| "null".to_owned())))
    }
}

impl From<[u8; 32]> for Value {
    fn from(hash: [u8; 32]) -> Self {
        Value::Bytes(hash.to_vec())
    }
}
