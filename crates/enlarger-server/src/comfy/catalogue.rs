//! What can be run by the queue dialect.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{MODEL, OWNER, RouterError, known};
use crate::{
    app::App,
    error::{ApiError, ErrorBody},
    extract::{Path, Query},
    openapi,
};

/// A page of the catalogue.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CataloguePaging {
    /// From an earlier page.
    cursor: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u32>, minimum = 1)]
    limit: Option<String>,
}

/// A page of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Catalogue {
    data: Vec<CatalogueModel>,
    has_more: bool,
    next_cursor: Option<String>,
    limit: u32,
}

/// A model that can be run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CatalogueModel {
    id: String,
    provider: String,
    model: String,
    #[schema(value_type = Object)]
    billing: serde_json::Value,
}

#[utoipa::path(
    get, path = "/v2/models", operation_id = "listRouterModels", tag = "Router", summary = "List the models that can be run",
    params(CataloguePaging),
    responses(
        (status = 200, description = "The models", body = Catalogue),
        (status = 400, description = "Bad Request", body = ErrorBody),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
    ),
)]
pub(crate) async fn list_models(Query(paging): Query<CataloguePaging>) -> Result<Json<Catalogue>, RouterError> {
    let limit: u32 = match paging.limit {
        None => 20,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| *limit >= 1)
            .ok_or_else(|| ApiError::field("limit", "must be at least 1"))?,
    };
    // There is one page: whoever has a cursor is past it.
    let only = CatalogueModel {
        id: format!("{OWNER}/{MODEL}"),
        provider: OWNER.into(),
        model: MODEL.into(),
        billing: json!({ "charges_on_policy_rejection": false }),
    };
    let data = if paging.cursor.is_none() { vec![only] } else { Vec::new() };
    Ok(Json(Catalogue { data, has_more: false, next_cursor: None, limit: limit.min(100) }))
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/openapi.json", operation_id = "getRouterModelInputSchema", tag = "Router",
    summary = "Get a model's specification",
    params(("owner" = String, Path), ("model" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, description = "An OpenAPI document", body = serde_json::Value, content_type = "application/json"),
        (status = 304, description = "It has not changed"),
        (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
        (status = 403, description = "A web page of another site sent this", body = ErrorBody),
        (status = 404, description = "There is no such model", body = ErrorBody),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
    ),
)]
pub(crate) async fn model_schema(
    State(_): State<Arc<App>>,
    Path((owner, model)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, RouterError> {
    known(&owner, &model)?;
    let document = openapi::only_paths(|path| path.starts_with("/v2/models/{owner}"));
    let body = serde_json::to_vec(&document).map_err(ApiError::internal)?;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..8]));
    let unchanged = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let unchanged =
        unchanged.is_some_and(|tags| tags.split(',').any(|given| given.trim().trim_start_matches("W/") == tag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    response.headers_mut().insert(header::ETAG, HeaderValue::from_str(&tag).map_err(ApiError::internal)?);
    Ok(response)
}
