//! API keys. Only a hash is stored; making keys and comparing hashes is the server's part.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Engine, SqlStore, Tx, query::query, row};
use crate::{
    error::StoreError,
    store::ApiKeys,
    task::{ApiKey, NewApiKey},
};

#[async_trait]
impl<E: Engine> ApiKeys for SqlStore<E> {
    async fn create(&self, key: NewApiKey) -> Result<Option<ApiKey>, StoreError> {
        self.engine.write(key, |tx, key| Box::pin(create(tx, key))).await
    }

    async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.engine.read((), |tx, ()| Box::pin(list(tx))).await
    }

    async fn find(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        self.engine.read(prefix.to_owned(), |tx, prefix| Box::pin(find(tx, prefix))).await
    }

    async fn used(&self, id: Uuid) -> Result<(), StoreError> {
        self.engine.write(id, |tx, id| Box::pin(used(tx, id))).await
    }

    async fn revoke(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        self.engine.write(prefix.to_owned(), |tx, prefix| Box::pin(revoke(tx, prefix))).await
    }
}

async fn create(tx: &mut Tx<'_>, new: NewApiKey) -> Result<Option<ApiKey>, StoreError> {
    let now = tx.now().await?;
    let row = query(
        "INSERT INTO api_keys (id, name, prefix, hash, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (prefix) DO NOTHING
         RETURNING *",
    )
    .bind(Uuid::new_v4())
    .bind(new.name)
    .bind(new.prefix)
    .bind(new.hash)
    .bind(now)
    .fetch_optional(tx.conn)
    .await?;
    row.as_ref().map(row::api_key).transpose()
}

async fn list(tx: &mut Tx<'_>) -> Result<Vec<ApiKey>, StoreError> {
    let rows = query("SELECT * FROM api_keys ORDER BY created_at, prefix").fetch_all(tx.conn).await?;
    rows.iter().map(row::api_key).collect()
}

async fn find(tx: &mut Tx<'_>, prefix: String) -> Result<Option<ApiKey>, StoreError> {
    let row = query("SELECT * FROM api_keys WHERE prefix = $1").bind(prefix).fetch_optional(tx.conn).await?;
    row.as_ref().map(row::api_key).transpose()
}

async fn used(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    let now = tx.now().await?;
    query("UPDATE api_keys SET last_used_at = $1 WHERE id = $2").bind(now).bind(id).execute(tx.conn).await?;
    Ok(())
}

async fn revoke(tx: &mut Tx<'_>, prefix: String) -> Result<Option<ApiKey>, StoreError> {
    let now = tx.now().await?;
    let row = query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $1) WHERE prefix = $2 RETURNING *")
        .bind(now)
        .bind(prefix)
        .fetch_optional(tx.conn)
        .await?;
    row.as_ref().map(row::api_key).transpose()
}
