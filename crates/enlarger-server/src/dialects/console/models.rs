//! The models at hand.

use std::{path::Path as FilePath, sync::Arc};

use axum::{Json, body::Body, extract::State, http::StatusCode};
use enlarger_blobs::Scratch;
use enlarger_models::{ModelError, ModelInfo};
use enlarger_pipeline::Enlarger;
use enlarger_service::{files::Files, urls::Urls};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use utoipa::ToSchema;

use super::wire::Model;
use crate::{
    client::Client,
    config::Config,
    http::{AnyError, ApiError, ApiResult, Bodies, Fields, Path, blocking},
};

/// The available models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// As printed by `enlarger models list --json`.
    models: Vec<Model>,
}

#[utoipa::path(
    get, path = "/api/models", operation_id = "listModels", tag = "Console", summary = "List the available models",
    responses(
        (status = 200, description = "The models", body = ModelList),
        AnyError,
    ),
)]
pub(crate) async fn list(State(enlarger): State<Arc<Enlarger>>) -> Json<ModelList> {
    Json(ModelList { models: enlarger.models().list().into_iter().map(Into::into).collect() })
}

#[utoipa::path(
    put, path = "/api/models/{name}", operation_id = "addModel", tag = "Console",
    summary = "Add a model from a single file",
    description = "Takes a .safetensors or .pth file. For ncnn models, which are two files, see `POST /api/models`.",
    params(("name" = String, Path, description = "The file name; without its extension it becomes the model's name.")),
    request_body(content_type = "application/octet-stream", description = "The bytes of the file."),
    responses(
        (status = 201, description = "The model", body = Model),
        AnyError,
    ),
)]
pub(crate) async fn add(
    client: Client,
    State(config): State<Arc<Config>>,
    State(enlarger): State<Arc<Enlarger>>,
    State(files): State<Files>,
    State(bodies): State<Bodies>,
    Path(file_name): Path<String>,
    body: Body,
) -> ApiResult<(StatusCode, Json<Model>)> {
    client.caller.require_admin()?;
    let body = bodies.spool(body, config.max_upload_mb).await?;
    let added = blocking(move || install(&enlarger, &files.scratch, &[(&file_name, &body)]));
    Ok((StatusCode::CREATED, Json(added.await?.into())))
}

/// Uploaded files that make up a model.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct ModelFiles {
    /// One .safetensors or .pth file, or the .param and .bin files of an ncnn model.
    #[schema(min_items = 1, max_items = 2)]
    files: Vec<UploadedFile>,
}

/// An uploaded file.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UploadedFile {
    /// File name with extension.
    name: String,
    /// The `download_url` of the upload.
    url: String,
}

#[utoipa::path(
    post, path = "/api/models", operation_id = "addModelFiles", tag = "Console",
    summary = "Add a model from uploaded files",
    description = "Upload each file with `POST /customers/storage` first. An ncnn model needs both of its files.",
    request_body(content = ModelFiles, content_type = "application/json"),
    responses(
        (status = 201, description = "The model", body = Model),
        AnyError,
    ),
)]
pub(crate) async fn add_files(
    client: Client,
    State(enlarger): State<Arc<Enlarger>>,
    State(files): State<Files>,
    State(urls): State<Urls>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<(StatusCode, Json<Model>)> {
    const BODY_MB: u64 = 1;
    client.caller.require_admin()?;
    let body = bodies.spool(body, BODY_MB).await?;
    let added = blocking(move || {
        let mut mapped = Vec::new();
        for UploadedFile { name, url } in uploaded(&body)? {
            let Some(Ok(key)) = urls.recognise(&url) else {
                let error = ApiError::field("files", format!("has a URL for {name} that this server did not issue"));
                return Err(error.hint("upload the file with POST /customers/storage and send its download_url"));
            };
            let bytes = Handle::current().block_on(files.blobs.map(&key)).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => ApiError::field(
                    "files",
                    format!(
                        "refers to {name}, which has not \
                    been uploaded"
                    ),
                ),
                _ => error.into(),
            })?;
            mapped.push((name, bytes));
        }
        let named: Vec<(&str, &[u8])> = mapped.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
        install(&enlarger, &files.scratch, &named)
    });
    Ok((StatusCode::CREATED, Json(added.await?.into())))
}

fn uploaded(body: &[u8]) -> ApiResult<Vec<UploadedFile>> {
    let fields = Fields::parse(body)?;
    let files: Option<Vec<UploadedFile>> = fields.raw("files").and_then(|text| serde_json::from_str(text).ok());
    files
        .filter(|files| (1..=2).contains(&files.len()))
        .ok_or_else(|| ApiError::field("files", "must be a list of one or two objects with name and url"))
}

/// Adds the model that these files make up.
fn install(enlarger: &Enlarger, scratch: &Scratch, files: &[(&str, &[u8])]) -> ApiResult<ModelInfo> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '+' | '(' | ')');
    for (name, _) in files {
        if name.starts_with('.') || name.len() > 200 || !name.chars().all(plain) {
            return Err(ApiError::field("file_name", "must be a plain file name"));
        }
    }
    let extension = |name: &str| FilePath::new(name).extension().map(|e| e.to_ascii_lowercase()).unwrap_or_default();
    let of_kind = |kind: &str| files.iter().find(|(name, _)| extension(name) == kind);
    let folder = scratch.folder()?;
    let path = match (files, of_kind("param"), of_kind("bin")) {
        // The two need a common stem, whatever they were called.
        ([_, _], Some((name, param)), Some((_, bin))) => {
            let path = folder.path().join(name).with_extension("param");
            std::fs::write(path.with_extension("bin"), bin)?;
            std::fs::write(&path, param)?;
            path
        }
        ([(name, bytes)], None, _) => {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes)?;
            path
        }
        ([(name, _)], Some(_), _) => {
            let error = ApiError::bad_request("model", format!("{name} is only half of an ncnn model"));
            return Err(error.hint("add it together with its .bin file"));
        }
        _ => {
            let error = ApiError::bad_request("model", "these two files do not belong to one model");
            return Err(error.hint("add models one by one; only the .param and .bin of an ncnn model go together"));
        }
    };
    enlarger.models().add(&path, None).map_err(|error| refused(error, Some(&path)))
}

#[utoipa::path(
    delete, path = "/api/models/{name}", operation_id = "removeModel", tag = "Console", summary = "Remove an added model",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "Deleted"),
        AnyError,
    ),
)]
pub(crate) async fn remove(
    client: Client,
    State(enlarger): State<Arc<Enlarger>>,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    client.caller.require_admin()?;
    blocking(move || enlarger.models().remove(&name).map_err(|error| refused(error, None))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The catalogue's messages are for the command line; API clients know neither its folders nor its flags.
fn refused(error: ModelError, file: Option<&FilePath>) -> ApiError {
    let bad = |message: String| ApiError::bad_request("model", message);
    match &error {
        ModelError::Unreadable { why, .. } => {
            let name = file.and_then(FilePath::file_name).unwrap_or_default().to_string_lossy();
            let folder = file.and_then(FilePath::parent).map(|f| format!("{}/", f.display())).unwrap_or_default();
            let why = if folder.is_empty() { why.clone() } else { why.replace(&folder, "") };
            bad(format!("{name}: {why}")).hint("add an ESRGAN or Compact model as .safetensors, .pth or .param + .bin")
        }
        ModelError::Taken { name, bundled: true } => {
            bad(format!("a bundled model is already named {name}")).hint("rename the file and add it again")
        }
        ModelError::Taken { name, .. } => {
            bad(format!("there is already a model named {name}")).hint("rename the file, or remove that model first")
        }
        ModelError::Unknown { name, .. } => bad(format!("there is no model named {name:?}")),
        ModelError::Bundled(_) => bad(error.to_string()).hint("only models that you added can be removed"),
        _ => {
            tracing::error!(%error, "cannot use the models folder");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "cannot store or read the model")
                .hint("check the server's disk and its log")
        }
    }
}
