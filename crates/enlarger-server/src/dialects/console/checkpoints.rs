//! What the generative engine can draw with.

use std::sync::Arc;

use axum::{Json, extract::State};
use enlarger_models::{Found, What};
use enlarger_pipeline::{Enlarger, Unwatched};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    http::{AnyError, ApiResult, ErrorBody, blocking},
};

/// Stable Diffusion files in the folders of the setting `model_dirs`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointList {
    /// Sorted by folder and name. Where ComfyUI draws, what it has a place for.
    files: Vec<CheckpointFile>,
    /// The default checkpoint for creative requests that don't specify one, or the program that draws. Null: such requests don't use the
    /// generative engine.
    #[schema(required)]
    configured: Option<String>,
}

/// A checkpoint, or what goes with one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointFile {
    /// The name to choose it by.
    name: String,
    /// `checkpoint`, `control`, `vae`, `lora` or `embedding`.
    kind: &'static str,
    /// What it fits: `SD 1.x`, `SD 2.x` or `SDXL`. Null: not stated in the file.
    #[schema(required)]
    family: Option<String>,
    /// What it is, in words.
    what: String,
    /// Size of the file. Null: another program has it.
    #[schema(required)]
    bytes: Option<u64>,
    /// SHA-256 of the file in hexadecimal. Null: not computed yet.
    #[schema(required)]
    sha256: Option<String>,
    /// Its license. Null: not stated in the file.
    #[schema(required)]
    license: Option<String>,
}

/// Where a file lies is nothing that clients need to know.
fn listed(found: Found) -> Option<CheckpointFile> {
    matches!(found.what, What::Part(_)).then(|| CheckpointFile {
        kind: found.what.kind(),
        family: found.what.family().map(|family| family.to_string()),
        what: found.what.to_string(),
        name: found.name,
        bytes: Some(found.bytes),
        sha256: found.sha256,
        license: found.license,
    })
}

/// A file that another program has, of which only the name is known.
fn elsewhere((kind, name): (&'static str, String)) -> CheckpointFile {
    let what = format!("{kind} in ComfyUI");
    CheckpointFile { kind, name, what, family: None, bytes: None, sha256: None, license: None }
}

#[utoipa::path(
    get, path = "/api/checkpoints", operation_id = "listCheckpoints", tag = "Console",
    summary = "List what the generative engine can draw with",
    description = "Checkpoints, ControlNets, VAEs, LoRAs and embeddings in the folders of the setting `model_dirs`, recognized by \
        their headers. Where the setting `generator` names a ComfyUI, the checkpoints and ControlNets that it has.",
    responses(
        (status = 200, description = "The files", body = CheckpointList),
        (status = 503, description = "The ComfyUI that draws cannot be reached, or is not usable", body = ErrorBody),
        AnyError,
    ),
)]
pub(crate) async fn list(
    State(config): State<Arc<Config>>,
    State(enlarger): State<Arc<Enlarger>>,
) -> ApiResult<Json<CheckpointList>> {
    let named = config.generative().and_then(|generative| generative.checkpoint);
    let remote = !config.generator.is_empty();
    let configured = named.or_else(|| remote.then(|| "ComfyUI".to_owned()));
    let files = blocking(move || {
        if remote {
            return Ok(enlarger.generator_names(&Unwatched)?.into_iter().map(elsewhere).collect());
        }
        Ok(enlarger.library().parts().into_iter().filter_map(listed).collect())
    })
    .await?;
    Ok(Json(CheckpointList { files, configured }))
}
