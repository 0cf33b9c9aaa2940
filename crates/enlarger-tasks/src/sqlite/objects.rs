//! Uploaded objects.

use jiff::Timestamp;
use sqlx::{QueryBuilder, sqlite::SqliteConnection};
use uuid::Uuid;

use super::row;
use super::writer::Tx;
use crate::error::StoreError;
use crate::store::Scope;
use crate::task::{NewObject, Object};

pub(super) async fn create(tx: &mut Tx<'_>, now: Timestamp, new: NewObject) -> Result<Object, StoreError> {
    let row = sqlx::query(
        "INSERT INTO objects (id, owner, file_name, content_type, state, created_at, expires_at)
         VALUES (?, ?, ?, ?, 'pending', ?, ?)
         RETURNING *",
    )
    .bind(new.id.to_string())
    .bind(new.owner)
    .bind(new.file_name)
    .bind(new.content_type)
    .bind(now.as_millisecond())
    .bind(new.expires_at.as_millisecond())
    .fetch_one(&mut *tx.conn)
    .await?;
    row::object(&row)
}

pub(super) async fn finish(
    tx: &mut Tx<'_>,
    now: Timestamp,
    id: Uuid,
    size: u64,
    content_type: Option<String>,
) -> Result<Option<Object>, StoreError> {
    let row = sqlx::query(
        "UPDATE objects SET state = 'ready', size = ?, content_type = coalesce(?, content_type)
         WHERE id = ? AND state <> 'deleting' AND expires_at > ?
         RETURNING *",
    )
    .bind(i64::try_from(size).unwrap_or(i64::MAX))
    .bind(content_type)
    .bind(id.to_string())
    .bind(now.as_millisecond())
    .fetch_optional(&mut *tx.conn)
    .await?;
    row.as_ref().map(row::object).transpose()
}

pub(super) async fn get(conn: &mut SqliteConnection, now: Timestamp, id: Uuid) -> Result<Option<Object>, StoreError> {
    // A live task may read its input beyond the expiry.
    let sql = "SELECT * FROM objects WHERE id = ?1 AND state <> 'deleting' AND (expires_at > ?2 OR EXISTS (
                   SELECT 1 FROM tasks WHERE input_object = ?1 AND state IN ('CREATED', 'IN_PROGRESS')))";
    let query = sqlx::query(sql).bind(id.to_string()).bind(now.as_millisecond());
    query.fetch_optional(conn).await?.as_ref().map(row::object).transpose()
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    now: Timestamp,
    page: u64,
    per_page: u64,
    scope: &Scope,
) -> Result<Vec<Object>, StoreError> {
    let per_page = per_page.clamp(1, 1000);
    let skip = page.saturating_sub(1).saturating_mul(per_page);
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut sql = QueryBuilder::new("SELECT * FROM objects WHERE state <> 'deleting' AND expires_at > ");
    sql.push_bind(now.as_millisecond());
    if let Scope::Owner(owner) = scope {
        sql.push(" AND owner = ").push_bind(owner.clone());
    }
    sql.push(" ORDER BY created_at DESC, id LIMIT ").push_bind(integer(per_page));
    sql.push(" OFFSET ").push_bind(integer(skip));
    sql.build().fetch_all(conn).await?.iter().map(row::object).collect()
}

/// Whether a task may still be made from it.
pub(super) async fn is_ready(conn: &mut SqliteConnection, id: Uuid) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM objects WHERE id = ? AND state = 'ready')";
    Ok(sqlx::query_scalar::<_, i64>(sql).bind(id.to_string()).fetch_one(conn).await? != 0)
}

pub(super) async fn take_expired(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Object>, StoreError> {
    let rows = sqlx::query(
        "UPDATE objects SET state = 'deleting' WHERE id IN (
             SELECT id FROM objects AS object
             WHERE expires_at <= ? AND NOT EXISTS (
                 SELECT 1 FROM tasks WHERE input_object = object.id AND state IN ('CREATED', 'IN_PROGRESS'))
             ORDER BY expires_at LIMIT ?)
         RETURNING *",
    )
    .bind(now.as_millisecond())
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    rows.iter().map(row::object).collect()
}

pub(super) async fn deleted(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM objects WHERE id = ? AND state = 'deleting'")
        .bind(id.to_string())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
