//! API keys, for administrators.

use std::sync::Arc;

use axum::{Json, body::Body, extract::State, http::StatusCode};
use enlarger_tasks::ApiKeys;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::keys::{self, KeyInfo},
    client::Client,
    http::{AnyError, ApiError, ApiResult, Bodies, Fields, Path},
};

const LONGEST_NAME: usize = 255;

/// All keys, oldest first, including revoked ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    keys: Vec<KeyInfo>,
}

/// A key to create.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct KeyRequest {
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Whether it may also manage keys and models.
    #[schema(required = false, default = false)]
    admin: bool,
}

/// A newly created key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    info: KeyInfo,
    /// The full key. Only its hash is stored, so it is shown only once.
    key: String,
}

#[utoipa::path(
    get, path = "/api/keys", operation_id = "listKeys", tag = "Console", summary = "List API keys",
    responses(
        (status = 200, description = "The keys, by prefix", body = KeyList),
        AnyError,
    ),
)]
pub(crate) async fn list(client: Client, State(api_keys): State<Arc<dyn ApiKeys>>) -> ApiResult<Json<KeyList>> {
    client.caller.require_admin()?;
    Ok(Json(KeyList { keys: keys::list(&*api_keys).await?.iter().map(keys::describe).collect() }))
}

#[utoipa::path(
    post, path = "/api/keys", operation_id = "createKey", tag = "Console", summary = "Create an API key",
    request_body(content = KeyRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The key", body = CreatedKey),
        AnyError,
    ),
)]
pub(crate) async fn create(
    client: Client,
    State(api_keys): State<Arc<dyn ApiKeys>>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<(StatusCode, Json<CreatedKey>)> {
    client.caller.require_admin()?;
    let body = bodies.spool(body, 1).await?;
    let mut fields = Fields::parse(&body)?;
    let name = fields.text("name", LONGEST_NAME).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let admin = fields.flag("admin");
    if name.is_none() && fields.raw("name").is_none_or(|raw| raw.starts_with('"')) {
        fields.reject("name", format!("must have 1 to {LONGEST_NAME} characters"));
    }
    fields.done()?;
    let new = keys::create(&*api_keys, &name.unwrap_or_default(), admin).await?;
    Ok((StatusCode::CREATED, Json(CreatedKey { info: keys::describe(&new.stored), key: new.key })))
}

#[utoipa::path(
    delete, path = "/api/keys/{id}", operation_id = "revokeKey", tag = "Console", summary = "Revoke an API key",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "Revoked"),
        AnyError,
    ),
)]
pub(crate) async fn revoke(
    client: Client,
    State(api_keys): State<Arc<dyn ApiKeys>>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    client.caller.require_admin()?;
    let id: Option<Uuid> = id.parse().ok();
    let key = keys::list(&*api_keys).await?.into_iter().find(|key| Some(key.id) == id);
    let key = key.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such key"))?;
    keys::revoke(&*api_keys, &key.prefix).await?;
    Ok(StatusCode::NO_CONTENT)
}
