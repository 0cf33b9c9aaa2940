//! The models that the queue dialect can run.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    errors::{RouterCallerErrors, RouterErrorBody},
    model::{MODEL, OWNER, known},
};
use crate::{
    http::{ApiError, ApiResult, Path, Query},
    specification::Specification,
};

const DEFAULT_LIMIT: u8 = 20;
const LARGEST_LIMIT: u8 = 100;
/// What clients may cache, and for how long.
const CACHING: &str = "private, max-age=300, must-revalidate";

/// A page of the model catalogue.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CataloguePaging {
    /// From an earlier page. All models are on one page, so none is ever issued.
    cursor: Option<String>,
    /// Page size, at most 100. Less than 1 means 20.
    #[param(value_type = Option<i64>, default = 20, maximum = 100)]
    limit: Option<String>,
}

/// A page of the model catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Catalogue {
    data: Vec<CatalogueModel>,
    /// Always false: all models are on one page. `next_cursor` is absent on the last page.
    has_more: bool,
    /// The page size.
    limit: u8,
}

/// An available model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CatalogueModel {
    id: String,
    provider: String,
    model: String,
    billing: Billing,
}

/// What running a model costs: nothing on this server.
#[derive(Debug, Serialize, ToSchema)]
struct Billing {
    /// Whether a run refused for its content is charged: `yes`, `no` or `unknown`.
    charges_on_policy_rejection: &'static str,
}

/// The one model there is.
fn entry() -> CatalogueModel {
    CatalogueModel {
        id: format!("{OWNER}/{MODEL}"),
        provider: OWNER.into(),
        model: MODEL.into(),
        billing: Billing { charges_on_policy_rejection: "no" },
    }
}

#[utoipa::path(
    get, path = "/v2/models", operation_id = "listRouterModels", tag = "Router", summary = "List the available models",
    params(CataloguePaging),
    responses(
        (status = 200, description = "The models", body = Catalogue),
        (status = 400, description = "Bad Request", body = RouterErrorBody),
        RouterCallerErrors,
    ),
)]
pub(crate) async fn list_models(Query(paging): Query<CataloguePaging>) -> ApiResult<Json<Catalogue>> {
    if paging.cursor.is_some() {
        return Err(ApiError::field("cursor", "was not issued by this server"));
    }
    let limit = limit(paging.limit.as_deref())?;
    Ok(Json(Catalogue { data: vec![entry()], has_more: false, limit }))
}

/// The size of a page: any whole number is one.
fn limit(text: Option<&str>) -> ApiResult<u8> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(DEFAULT_LIMIT) };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::field("limit", "must be an integer"));
    }
    match text.parse::<i64>() {
        Ok(number) if number > 0 => Ok(u8::try_from(number).unwrap_or(u8::MAX).min(LARGEST_LIMIT)),
        Err(_) if !text.starts_with('-') => Ok(LARGEST_LIMIT),
        _ => Ok(DEFAULT_LIMIT),
    }
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}", operation_id = "getRouterModel", tag = "Router",
    summary = "Get a model",
    params(("owner" = String, Path, example = "freepik"), ("model" = String, Path, example = "ai-image-upscaler-precision-v2")),
    responses(
        (status = 200, description = "The entry", body = CatalogueModel),
        (status = 404, description = "No such model", body = RouterErrorBody),
        RouterCallerErrors,
    ),
)]
pub(crate) async fn get_model(Path((owner, model)): Path<(String, String)>) -> ApiResult<Json<CatalogueModel>> {
    known(&owner, &model)?;
    Ok(Json(entry()))
}

#[utoipa::path(
    get, path = "/v2/models/{owner}/{model}/openapi.json", operation_id = "getRouterModelInputSchema", tag = "Router",
    summary = "Get a model's specification",
    params(("owner" = String, Path), ("model" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, description = "An OpenAPI document", body = serde_json::Value, content_type = "application/json"),
        (status = 304, description = "Not modified"),
        (status = 404, description = "No such model", body = RouterErrorBody),
        RouterCallerErrors,
    ),
)]
pub(crate) async fn model_schema(
    State(specification): State<Specification>,
    Path((owner, model)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    known(&owner, &model)?;
    let document = document(specification);
    let body = serde_json::to_vec(&document).map_err(ApiError::internal)?;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..8]));
    let unchanged = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let unchanged = unchanged.is_some_and(|tags| {
        tags.split(',').any(|given| given.trim() == "*" || given.trim().trim_start_matches("W/") == tag)
    });
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
    response.headers_mut().insert(header::ETAG, HeaderValue::from_str(&tag).map_err(ApiError::internal)?);
    Ok(response)
}

/// The specification of running the model: a standalone document with everything that it refers to.
fn document(specification: Specification) -> Value {
    let whole = specification.0;
    let mut run = whole["paths"]["/v2/models/{owner}/{model}"]["post"].clone();
    if let Some(parameters) = run["parameters"].as_array_mut() {
        parameters.retain(|parameter| parameter["in"] != "path");
    }
    let id = format!("{OWNER}/{MODEL}");
    let mut info = whole["info"].clone();
    info["title"] = id.clone().into();
    let schemas = specification.schemas_of(&run);
    json!({
        "openapi": whole["openapi"],
        "info": info,
        // Seen from `/v2/models/OWNER/MODEL/openapi.json`.
        "servers": [{ "url": "../../../..", "description": "This server" }],
        "paths": { format!("/v2/models/{id}"): { "post": run } },
        "components": { "schemas": schemas, "securitySchemes": whole["components"]["securitySchemes"] },
        "security": whole["security"],
        "x-comfy-router-model-id": id,
        "x-comfy-input-schema-authored": true,
        "x-comfy-output-schema-authored": true,
    })
}
