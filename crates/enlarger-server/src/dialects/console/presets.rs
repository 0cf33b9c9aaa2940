//! Presets of settings that people have saved.

use std::collections::HashMap;

use axum::{Json, body::Body, extract::State};
use enlarger_service::presets::Presets;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    client::Client,
    http::{AnyError, ApiError, ApiResult, Bodies, Fields},
};

const MOST: usize = 200;
const LONGEST_NAME: usize = 255;

/// The presets of this API key, or of everybody where none is required.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresetList {
    #[schema(max_items = 200, value_type = Vec<Preset>)]
    presets: Vec<Value>,
}

/// Settings under a name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Preset {
    /// Different from those of the others.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// As the page has them; the server keeps them as they are.
    settings: HashMap<String, Value>,
}

#[utoipa::path(
    get, path = "/api/presets", operation_id = "listPresets", tag = "Console", summary = "List saved presets of settings",
    responses(
        (status = 200, description = "The presets, as they were sent", body = PresetList),
        AnyError,
    ),
)]
pub(crate) async fn list(client: Client, State(presets): State<Presets>) -> ApiResult<Json<PresetList>> {
    Ok(Json(PresetList { presets: presets.of(client.caller.owner.as_deref())? }))
}

#[utoipa::path(
    put, path = "/api/presets", operation_id = "replacePresets", tag = "Console", summary = "Replace all saved presets of settings",
    request_body(content = PresetList, content_type = "application/json"),
    responses(
        (status = 200, description = "The presets", body = PresetList),
        AnyError,
    ),
)]
pub(crate) async fn replace(
    client: Client,
    State(presets): State<Presets>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<Json<PresetList>> {
    let body = bodies.spool(body, 1).await?;
    let mut fields = Fields::parse(&body)?;
    let sent = fields.value("presets").ok_or_else(|| ApiError::field("presets", "is required"))?;
    let Ok(all) = serde_json::from_value::<Vec<Preset>>(sent.clone()) else {
        return Err(ApiError::field("presets", "must be a list of objects with a name and settings"));
    };
    let fits = |preset: &Preset| (1..=LONGEST_NAME).contains(&preset.name.chars().count());
    if all.len() > MOST || !all.iter().all(fits) {
        fields.reject("presets", format!("must be at most {MOST}, with names of 1 to {LONGEST_NAME} characters"));
    }
    fields.done()?;
    let Value::Array(sent) = sent else { return Err(ApiError::internal("a list is no array")) };
    presets.replace(client.caller.owner.as_deref(), &sent)?;
    Ok(Json(PresetList { presets: sent }))
}
