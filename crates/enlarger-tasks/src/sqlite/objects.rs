//! Uploaded objects.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, sqlite::SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, row, writer::Tx};
use crate::{
    error::StoreError,
    store::{Objects, Scope},
    task::{NewObject, Object},
};

#[async_trait]
impl Objects for SqliteStore {
    async fn create(&self, object: NewObject) -> Result<Object, StoreError> {
        self.write(move |tx, context| Box::pin(async move { create(tx, context.now(), object).await })).await
    }

    async fn finish(&self, id: Uuid, size: u64, content_type: Option<&str>) -> Result<Option<Object>, StoreError> {
        let content_type = content_type.map(str::to_owned);
        self.write(move |tx, context| Box::pin(async move { finish(tx, context.now(), id, size, content_type).await }))
            .await
    }

    async fn list(&self, page: u64, per_page: u64, scope: &Scope) -> Result<Vec<Object>, StoreError> {
        let mut conn = self.readers.acquire().await?;
        list(&mut conn, self.context.now(), page, per_page, scope).await
    }

    async fn take_expired(&self, limit: u32) -> Result<Vec<Object>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { take_expired(tx, context.now(), limit).await })).await
    }

    async fn deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, _| Box::pin(async move { deleted(tx, id).await })).await
    }
}

async fn create(tx: &mut Tx<'_>, now: Timestamp, new: NewObject) -> Result<Object, StoreError> {
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

async fn finish(
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

async fn list(
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

async fn take_expired(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Object>, StoreError> {
    let rows = sqlx::query(
        "UPDATE objects SET state = 'deleting' WHERE id IN (
             SELECT id FROM objects WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
         RETURNING *",
    )
    .bind(now.as_millisecond())
    .bind(limit)
    .fetch_all(&mut *tx.conn)
    .await?;
    rows.iter().map(row::object).collect()
}

async fn deleted(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM objects WHERE id = ? AND state = 'deleting'")
        .bind(id.to_string())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}
