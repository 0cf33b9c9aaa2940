//! Uploaded objects.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Engine, SqlStore, Tx, query::query, row};
use crate::{
    error::StoreError,
    store::{Objects, Scope},
    task::{NewObject, Object},
};

#[async_trait]
impl<E: Engine> Objects for SqlStore<E> {
    async fn create(&self, object: NewObject) -> Result<Object, StoreError> {
        self.engine.write(object, |tx, object| Box::pin(create(tx, object))).await
    }

    async fn finish(&self, id: Uuid, size: u64, content_type: Option<&str>) -> Result<Option<Object>, StoreError> {
        let with = (id, size, content_type.map(str::to_owned));
        self.engine.write(with, |tx, (id, size, content_type)| Box::pin(finish(tx, id, size, content_type))).await
    }

    async fn list(&self, page: u64, per_page: u64, scope: &Scope) -> Result<Vec<Object>, StoreError> {
        let with = (page, per_page, scope.clone());
        self.engine.read(with, |tx, (page, per_page, scope)| Box::pin(list(tx, page, per_page, scope))).await
    }

    async fn take_expired(&self, limit: u32) -> Result<Vec<Object>, StoreError> {
        self.engine.write(limit, |tx, limit| Box::pin(take_expired(tx, limit))).await
    }

    async fn deleted(&self, id: Uuid) -> Result<(), StoreError> {
        self.engine.write(id, |tx, id| Box::pin(deleted(tx, id))).await
    }
}

async fn create(tx: &mut Tx<'_>, new: NewObject) -> Result<Object, StoreError> {
    let now = tx.now().await?;
    let row = query(
        "INSERT INTO objects (id, owner, file_name, content_type, state, created_at, expires_at)
         VALUES ($1, $2, $3, $4, 'pending', $5, $6)
         RETURNING *",
    )
    .bind(new.id)
    .bind(new.owner)
    .bind(new.file_name)
    .bind(new.content_type)
    .bind(now)
    .bind(new.expires_at)
    .fetch_one(tx.conn)
    .await?;
    row::object(&row)
}

async fn finish(
    tx: &mut Tx<'_>,
    id: Uuid,
    size: u64,
    content_type: Option<String>,
) -> Result<Option<Object>, StoreError> {
    let now = tx.now().await?;
    let row = query(
        "UPDATE objects SET state = 'ready', size = $1, content_type = coalesce($2, content_type)
         WHERE id = $3 AND state <> 'deleting' AND expires_at > $4
         RETURNING *",
    )
    .bind(size)
    .bind(content_type)
    .bind(id)
    .bind(now)
    .fetch_optional(tx.conn)
    .await?;
    row.as_ref().map(row::object).transpose()
}

async fn list(tx: &mut Tx<'_>, page: u64, per_page: u64, scope: Scope) -> Result<Vec<Object>, StoreError> {
    let now = tx.now().await?;
    let per_page = per_page.clamp(1, 1000);
    let skip = page.saturating_sub(1).saturating_mul(per_page);
    let mut sql = query("SELECT * FROM objects WHERE state <> 'deleting' AND expires_at > ").push_bind(now);
    if let Scope::Owner(owner) = scope {
        sql = sql.push(" AND owner = ").push_bind(owner);
    }
    sql = sql.push(" ORDER BY created_at DESC, id LIMIT ").push_bind(per_page).push(" OFFSET ").push_bind(skip);
    sql.fetch_all(tx.conn).await?.iter().map(row::object).collect()
}

async fn take_expired(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Object>, StoreError> {
    let now = tx.now().await?;
    let skip_locked = tx.conn.dialect().skip_locked;
    let sql = format!(
        "UPDATE objects SET state = 'deleting' WHERE id IN (
             SELECT id FROM objects WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2{skip_locked})
         RETURNING *"
    );
    query(sql).bind(now).bind(limit).fetch_all(tx.conn).await?.iter().map(row::object).collect()
}

async fn deleted(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    query("DELETE FROM objects WHERE id = $1 AND state = 'deleting'").bind(id).execute(tx.conn).await?;
    Ok(())
}
