//! The networks at hand.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use enlarger_models::{ModelError, ModelInfo};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, ApiResult, ErrorBody},
    extract::Path,
    magnific::Parts,
};

/// The networks at hand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// As `enlarger models list --json` shows them.
    #[schema(value_type = Vec<Object>)]
    models: Vec<ModelInfo>,
}

#[utoipa::path(
    get, path = "/api/models", operation_id = "listModels", tag = "Console", summary = "List the networks at hand",
    responses(
        (status = 200, description = "The networks", body = ModelList),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn list((State(app), ..): Parts) -> Json<ModelList> {
    Json(ModelList { models: app.enlarger.models().list() })
}

#[utoipa::path(
    put, path = "/api/models/{name}", operation_id = "addModel", tag = "Console",
    summary = "Add a network from a .safetensors or .pth file",
    params(("name" = String, Path, description = "The file's name; without its ending it becomes the network's.")),
    request_body(content_type = "application/octet-stream", description = "The file as it is."),
    responses(
        (status = 201, description = "The network", body = Object),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn add(
    (State(app), axum::Extension(caller), _): Parts,
    Path(file_name): Path<String>,
    body: Body,
) -> ApiResult<(StatusCode, Json<ModelInfo>)> {
    caller.require_admin()?;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '+' | '(' | ')');
    if file_name.starts_with('.') || file_name.len() > 200 || !file_name.chars().all(plain) {
        return Err(ApiError::field("file_name", "must be a plain file name"));
    }
    if file_name.ends_with(".param") || file_name.ends_with(".bin") {
        let error = ApiError::field("file_name", "is half of an ncnn pair, which cannot be added one by one");
        return Err(error.hint("put both files on the server and run: enlarger models add FILE.param"));
    }
    let body = app.bodies.spool(body, app.config.max_upload_mb, &app.files.tmp()).await?;
    let added = app.blocking(move |app| {
        let folder = tempfile::tempdir_in(app.files.tmp())?;
        let path = folder.path().join(&file_name);
        std::fs::write(&path, &*body)?;
        app.enlarger.models().add(&path, None).map_err(refused)
    });
    Ok((StatusCode::CREATED, Json(added.await?)))
}

#[utoipa::path(
    delete, path = "/api/models/{name}", operation_id = "removeModel", tag = "Console", summary = "Remove an added network",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub(crate) async fn remove(
    (State(app), axum::Extension(caller), _): Parts,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    caller.require_admin()?;
    app.blocking(move |app| app.enlarger.models().remove(&name).map_err(refused)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: ModelError) -> ApiError {
    let refused = ApiError::bad_request("model", error.to_string());
    ApiError { hint: error.hint(), ..refused }
}
