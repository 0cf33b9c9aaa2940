//! The processes that share the database.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Engine, SqlStore, Tx, milliseconds, query::query, row};
use crate::{
    error::StoreError,
    store::{NODE_LIFE, Nodes},
    task::{About, Node, Service},
};

#[async_trait]
impl<E: Engine> Nodes for SqlStore<E> {
    async fn service(&self) -> Result<Service, StoreError> {
        match self.engine.read((), |tx, ()| Box::pin(known_service(tx))).await? {
            Some(service) => Ok(service),
            None => self.engine.write((), |tx, ()| Box::pin(service(tx))).await,
        }
    }

    async fn use_storage(&self, storage: Uuid, place: &str) -> Result<Service, StoreError> {
        // On a full disk, too, what was noted before can be read.
        let known = self.service().await?;
        if known.storage.is_some() {
            return Ok(known);
        }
        let with = (storage, place.to_owned());
        self.engine.write(with, |tx, (storage, place)| Box::pin(use_storage(tx, storage, place))).await
    }

    async fn beat(&self, id: Uuid, about: &About) -> Result<Node, StoreError> {
        self.engine.write((id, about.clone()), |tx, (id, about)| Box::pin(beat(tx, id, about))).await
    }

    async fn leave(&self, id: Uuid) -> Result<(), StoreError> {
        self.engine.write(id, |tx, id| Box::pin(leave(tx, id))).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.engine.read((), |tx, ()| Box::pin(nodes(tx))).await
    }

    async fn drain(&self, id: Uuid, draining: bool) -> Result<Option<Node>, StoreError> {
        self.engine.write((id, draining), |tx, (id, draining)| Box::pin(drain(tx, id, draining))).await
    }
}

async fn known_service(tx: &mut Tx<'_>) -> Result<Option<Service>, StoreError> {
    query("SELECT * FROM service").fetch_optional(tx.conn).await?.as_ref().map(row::service).transpose()
}

async fn service(tx: &mut Tx<'_>) -> Result<Service, StoreError> {
    query("INSERT INTO service (one, database) VALUES (1, $1) ON CONFLICT (one) DO NOTHING")
        .bind(Uuid::new_v4())
        .execute(tx.conn)
        .await?;
    row::service(&query("SELECT * FROM service").fetch_one(tx.conn).await?)
}

async fn use_storage(tx: &mut Tx<'_>, storage: Uuid, place: String) -> Result<Service, StoreError> {
    query("UPDATE service SET storage = $1, place = $2 WHERE storage IS NULL")
        .bind(storage)
        .bind(place)
        .execute(tx.conn)
        .await?;
    service(tx).await
}

async fn beat(tx: &mut Tx<'_>, id: Uuid, about: About) -> Result<Node, StoreError> {
    let about = serde_json::to_value(about).map_err(|error| StoreError::Database(error.to_string()))?;
    let now = tx.now().await?;
    let row = query(
        "INSERT INTO nodes (id, about, draining, started_at, seen_at) VALUES ($1, $2, 0, $3, $3)
         ON CONFLICT (id) DO UPDATE SET about = excluded.about, seen_at = excluded.seen_at
         RETURNING *",
    )
    .bind(id)
    .bind(&about)
    .bind(now)
    .fetch_one(tx.conn)
    .await?;
    row::node(&row)
}

async fn leave(tx: &mut Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    query("DELETE FROM nodes WHERE id = $1").bind(id).execute(tx.conn).await?;
    Ok(())
}

async fn nodes(tx: &mut Tx<'_>) -> Result<Vec<Node>, StoreError> {
    let dead = tx.now().await?.as_millisecond().saturating_sub(milliseconds(NODE_LIFE));
    let rows = query("SELECT * FROM nodes WHERE seen_at > $1 ORDER BY started_at, id").bind(dead);
    rows.fetch_all(tx.conn).await?.iter().map(row::node).collect()
}

async fn drain(tx: &mut Tx<'_>, id: Uuid, draining: bool) -> Result<Option<Node>, StoreError> {
    let row = query("UPDATE nodes SET draining = $1 WHERE id = $2 RETURNING *")
        .bind(i64::from(draining))
        .bind(id)
        .fetch_optional(tx.conn)
        .await?;
    row.as_ref().map(row::node).transpose()
}
