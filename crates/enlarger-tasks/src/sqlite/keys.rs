//! API keys. Only a hash is stored; making keys and comparing hashes is the server's part.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::{SqliteStore, row, writer::Tx};
use crate::{
    error::StoreError,
    store::ApiKeys,
    task::{ApiKey, NewApiKey},
};

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn create(&self, key: NewApiKey) -> Result<Option<ApiKey>, StoreError> {
        self.write(move |tx, context| Box::pin(async move { create(tx, context.now(), key).await })).await
    }

    async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        list(&mut *self.readers.acquire().await?).await
    }

    async fn find(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        find(&mut *self.readers.acquire().await?, prefix).await
    }

    async fn used(&self, id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx, context| Box::pin(async move { used(tx, context.now(), id).await })).await
    }

    async fn revoke(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        let prefix = prefix.to_owned();
        self.write(move |tx, context| Box::pin(async move { revoke(tx, context.now(), &prefix).await })).await
    }
}

async fn create(tx: &mut Tx<'_>, now: Timestamp, new: NewApiKey) -> Result<Option<ApiKey>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO api_keys (id, name, prefix, hash, created_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (prefix) DO NOTHING
         RETURNING *",
    )
    .bind(Uuid::new_v4().to_string())
    .bind(new.name)
    .bind(new.prefix)
    .bind(&new.hash[..])
    .bind(now.as_millisecond())
    .fetch_optional(&mut *tx.conn)
    .await?;
    row.as_ref().map(row::api_key).transpose()
}

async fn list(conn: &mut SqliteConnection) -> Result<Vec<ApiKey>, StoreError> {
    let rows = sqlx::query("SELECT * FROM api_keys ORDER BY created_at, prefix").fetch_all(conn).await?;
    rows.iter().map(row::api_key).collect()
}

async fn find(conn: &mut SqliteConnection, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
    let row = sqlx::query("SELECT * FROM api_keys WHERE prefix = ?").bind(prefix).fetch_optional(conn).await?;
    row.as_ref().map(row::api_key).transpose()
}

async fn used(tx: &mut Tx<'_>, now: Timestamp, id: Uuid) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE id = ?")
        .bind(now.as_millisecond())
        .bind(id.to_string())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

async fn revoke(tx: &mut Tx<'_>, now: Timestamp, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
    let row = sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE prefix = ? RETURNING *")
        .bind(now.as_millisecond())
        .bind(prefix)
        .fetch_optional(&mut *tx.conn)
        .await?;
    row.as_ref().map(row::api_key).transpose()
}
