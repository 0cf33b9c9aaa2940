//! Uploads: a URL to PUT the bytes to, and one to read them from.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{FromRef, State},
};
use enlarger_blobs::{Key, Right};
use enlarger_service::urls::Urls;
use enlarger_tasks::{NewObject, Object, Objects};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::App,
    client::Client,
    http::{ApiError, ApiResult, Bodies, ErrorBody, Fields, Paging, Query, ReadErrors, WriteErrors},
};

/// Largest body of these requests, in MB.
const BODY_MB: u64 = 1;
const LONGEST_NAME: usize = 1024;
/// Seconds within which the upload must start; the vendor's value.
const UPLOAD_SECONDS: i64 = 120;
/// The vendor's page has 1 to 14 files in one request.
const MOST_FILES: usize = 14;

/// Announces a file to upload.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct StorageRequest {
    /// The file's name.
    #[schema(min_length = 1, max_length = 1024)]
    file_name: String,
    /// The file's media type; not trusted.
    #[schema(required = false)]
    content_type: String,
    /// Accepted but ignored: every file is uploaded.
    #[schema(required = false)]
    file_hash: String,
}

/// Where to upload the file, and where to download it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageResponse {
    /// PUT the bytes here, without credentials.
    #[schema(format = Uri)]
    upload_url: String,
    /// Download it from here, or send this URL as `image`.
    #[schema(format = Uri)]
    download_url: String,
    /// When the file is deleted, unless a task needs it.
    #[schema(format = DateTime)]
    expires_at: String,
}

#[utoipa::path(
    post, path = "/customers/storage", operation_id = "createStorage", tag = "Files", summary = "Create upload and \
        download URLs for a file",
    request_body(content = StorageRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The URLs", body = StorageResponse),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
        WriteErrors,
    ),
)]
pub(crate) async fn create_storage(
    client: Client,
    State(uploads): State<Uploads>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<Json<StorageResponse>> {
    let body = bodies.spool(body, BODY_MB).await?;
    let mut fields = Fields::parse(&body)?;
    if fields.raw("file_name").is_none() {
        fields.reject("file_name", "is required");
    }
    let file_name = fields.text("file_name", LONGEST_NAME);
    let content_type = fields.text("content_type", 255);
    fields.done()?;
    let object = uploads.announce(&client, file_name.unwrap_or_default(), content_type).await?;
    Ok(Json(StorageResponse {
        upload_url: uploads.url(&client, object.id, Right::Write, object.expires_at),
        download_url: uploads.url(&client, object.id, Right::Read, object.expires_at),
        expires_at: object.expires_at.to_string(),
    }))
}

/// Uploads, and their URLs.
#[derive(Clone)]
pub(crate) struct Uploads {
    objects: Arc<dyn Objects>,
    urls: Urls,
    /// How long an upload is kept.
    hours: u64,
}

impl FromRef<App> for Uploads {
    fn from_ref(app: &App) -> Self {
        Self { objects: app.objects.clone(), urls: app.urls.clone(), hours: app.config.upload_hours }
    }
}

impl Uploads {
    async fn announce(&self, client: &Client, file_name: String, content_type: Option<String>) -> ApiResult<Object> {
        let hours = i64::try_from(self.hours).unwrap_or(i64::MAX / 7200);
        let expires_at =
            Timestamp::now().saturating_add(SignedDuration::from_hours(hours)).map_err(ApiError::internal)?;
        // Random, because it appears in a URL.
        let id = Uuid::new_v4();
        let new = NewObject { id, owner: client.caller.owner.clone(), file_name, content_type, expires_at };
        Ok(self.objects.create(new).await?)
    }

    fn url(&self, client: &Client, id: Uuid, right: Right, expires: Timestamp) -> String {
        self.urls.of(&client.base, &Key::Object(id), right, expires)
    }
}

/// Announces files to upload.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct UploadsRequest {
    #[schema(min_items = 1, max_items = 14)]
    files: Vec<UploadFile>,
}

/// A file to upload.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct UploadFile {
    #[schema(example = "image/png")]
    content_type: String,
}

/// Where to upload the files.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadsResponse {
    data: Vec<Upload>,
}

/// Where to upload a file, and where to download it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Upload {
    /// PUT the bytes here, with `headers`.
    #[schema(format = Uri)]
    upload_url: String,
    /// Headers to send with the bytes.
    headers: serde_json::Map<String, Value>,
    /// The file's id on this server.
    file_id: Uuid,
    /// Send it as `image`.
    #[schema(format = Uri)]
    asset_url: String,
    /// Seconds until `upload_url` expires.
    expires_in: i64,
    /// Seconds until `asset_url` expires.
    asset_url_expires_in: i64,
}

#[utoipa::path(
    post, path = "/v1/ai/uploads/request-url", operation_id = "requestUploadUrls", tag = "Files", summary = "Create upload URLs for 1 to 14 files",
    request_body(content = UploadsRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The URLs, in the order of the files", body = UploadsResponse),
        (status = 429, description = "Too many requests with this key", body = ErrorBody),
        WriteErrors,
    ),
)]
pub(crate) async fn request_urls(
    client: Client,
    State(uploads): State<Uploads>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<Json<UploadsResponse>> {
    let body = bodies.spool(body, BODY_MB).await?;
    let mut fields = Fields::parse(&body)?;
    let files = match fields.value("files") {
        Some(Value::Array(files)) if (1..=MOST_FILES).contains(&files.len()) => files,
        _ => {
            fields.reject("files", format!("must be a list of 1 to {MOST_FILES} files"));
            Vec::new()
        }
    };
    let types: Vec<Option<&str>> = files.iter().map(|file| file.get("content_type")?.as_str()).collect();
    for index in
        types.iter().enumerate().filter(|(_, kind)| kind.is_none_or(|kind| !is_media_type(kind))).map(|(i, _)| i)
    {
        fields.reject(&format!("files[{index}].content_type"), "must be a media type such as image/png");
    }
    fields.done()?;
    let mut data = Vec::new();
    for kind in types.into_iter().flatten() {
        let object = uploads.announce(&client, "upload".to_owned(), Some(kind.to_owned())).await?;
        let now = Timestamp::now();
        let until = now.saturating_add(SignedDuration::from_secs(UPLOAD_SECONDS)).map_err(ApiError::internal)?;
        data.push(Upload {
            upload_url: uploads.url(&client, object.id, Right::Write, until),
            headers: [("Content-Type".to_owned(), Value::from(kind))].into_iter().collect(),
            file_id: object.id,
            asset_url: uploads.url(&client, object.id, Right::Read, object.expires_at),
            expires_in: UPLOAD_SECONDS,
            asset_url_expires_in: object.expires_at.duration_since(object.created_at).as_secs(),
        });
    }
    Ok(Json(UploadsResponse { data }))
}

/// A page of uploads, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadList {
    data: Vec<UploadedFile>,
}

/// An announced file; complete once its bytes have arrived.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Uploaded)]
pub(crate) struct UploadedFile {
    /// The file's id on this server.
    file_id: Uuid,
    /// As announced.
    file_name: String,
    /// As announced.
    content_type: Option<String>,
    /// Size in bytes; `null` until the bytes have arrived.
    size: Option<u64>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Send it as `image`.
    #[schema(format = Uri)]
    asset_url: String,
    /// Seconds until `asset_url` expires.
    asset_url_expires_in: i64,
}

#[utoipa::path(
    get, path = "/v1/ai/uploads", operation_id = "listUploads", tag = "Files", summary = "List uploads, newest first",
    params(Paging),
    responses(
        (status = 200, description = "A page", body = UploadList),
        (status = 400, description = "Bad Request", body = ErrorBody),
        ReadErrors,
    ),
)]
pub(crate) async fn list_uploads(
    client: Client,
    State(uploads): State<Uploads>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<UploadList>> {
    let query = paging.query(Vec::new())?;
    let now = Timestamp::now();
    let mut data = Vec::new();
    for object in uploads.objects.list(query.page, query.per_page, &client.caller.scope()).await? {
        data.push(UploadedFile {
            file_id: object.id,
            asset_url: uploads.url(&client, object.id, Right::Read, object.expires_at),
            asset_url_expires_in: object.expires_at.duration_since(now).as_secs(),
            file_name: object.file_name,
            content_type: object.content_type,
            size: object.size,
            created_at: object.created_at.to_string(),
        });
    }
    Ok(Json(UploadList { data }))
}

fn is_media_type(text: &str) -> bool {
    let token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    text.len() <= 255 && text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}
