//! Downloading and uploading files. The signed URL is the permission: no credential is required.

use std::{io, iter::once, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRef, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use enlarger_blobs::{Key, Right};
use enlarger_image::{EncodeOptions, Format, MetadataPolicy};
use enlarger_pipeline::{Resampling, Size, resize};
use enlarger_service::{
    files::Files,
    intake::Intake,
    job::{Job, Made},
    reads::Reads,
    signed::BadAddress,
    urls::Urls,
};
use enlarger_tasks::{Objects, Queue, Scope, Task};
use futures_util::stream;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{download::counted, serve::serve, view::view};
use crate::{
    app::App,
    http::{ApiError, ApiResult, Bodies, ErrorBody, Path, Query, Turns, blocking},
};

/// What reading a file takes.
#[derive(Clone)]
pub(crate) struct Reader {
    files: Files,
    urls: Urls,
    reads: Reads,
    queue: Arc<dyn Queue>,
    intake: Intake,
    turns: Turns,
}

impl FromRef<App> for Reader {
    fn from_ref(app: &App) -> Self {
        Self {
            files: app.files.clone(),
            urls: app.urls.clone(),
            reads: app.reads.clone(),
            queue: app.queue.clone(),
            intake: app.intake.clone(),
            turns: app.turns.clone(),
        }
    }
}

/// What uploading one takes.
#[derive(Clone)]
struct Writer {
    files: Files,
    urls: Urls,
    objects: Arc<dyn Objects>,
    bodies: Bodies,
    /// Largest file, in MB.
    limit_mb: u64,
}

impl FromRef<App> for Writer {
    fn from_ref(app: &App) -> Self {
        Self {
            files: app.files.clone(),
            urls: app.urls.clone(),
            objects: app.objects.clone(),
            bodies: app.bodies.clone(),
            limit_mb: app.config.max_upload_mb,
        }
    }
}

/// Bytes that are encoded at once; a multiple of three, so that only the last part is padded.
const BASE64_PART: usize = 48 << 10;
/// Longest side of a thumbnail in pixels.
const THUMB_SIDE: u32 = 512;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read_object, write_object)).routes(routes!(read_task_file))
}

/// The signed part of a URL.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Signature {
    /// Unix time in seconds at which the URL expires.
    #[serde(default)]
    expires: String,
    /// Signature over name, permission and expiry.
    #[serde(default)]
    signature: String,
    /// `1`: browsers save the file instead of showing it.
    download: Option<String>,
    /// `1`: an 8-bit PNG of at most 24 megapixels instead of the file, for formats that browsers cannot show.
    /// `X-Image-Width` and `X-Image-Height` give the size of the image itself.
    view: Option<String>,
}

#[utoipa::path(
    get, path = "/files/objects/{id}", operation_id = "readObject", tag = "Files", summary = "Download an uploaded file",
    params(("id" = Uuid, Path), Signature), security(()),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 206, description = "A part of the file", content_type = "application/octet-stream"),
        (status = 403, description = "The URL was not issued by this server", body = ErrorBody),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 410, description = "The URL has expired", body = ErrorBody),
        (status = 416, description = "The requested range is outside the file"),
    ),
)]
async fn read_object(
    State(reader): State<Reader>,
    Path(id): Path<String>,
    signature: Query<Signature>,
    request: Request,
) -> ApiResult<Response> {
    read(&reader, &format!("objects/{id}"), &signature.0, request).await
}

#[utoipa::path(
    get, path = "/files/tasks/{id}/{name}", operation_id = "readTaskFile", tag = "Files",
    summary = "Download a task's result, source, thumbnail or difference map",
    params(("id" = Uuid, Path), ("name" = String, Path), Signature), security(()),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 206, description = "A part of the file", content_type = "application/octet-stream"),
        (status = 307, description = "The storage serves the result itself, at the URL in `Location`"),
        (status = 403, description = "The URL was not issued by this server", body = ErrorBody),
        (status = 404, description = "No such file", body = ErrorBody),
        (status = 410, description = "The URL has expired", body = ErrorBody),
        (status = 416, description = "The requested range is outside the file"),
    ),
)]
async fn read_task_file(
    State(reader): State<Reader>,
    Path((id, name)): Path<(String, String)>,
    signature: Query<Signature>,
    request: Request,
) -> ApiResult<Response> {
    read(&reader, &format!("tasks/{id}/{name}"), &signature.0, request).await
}

async fn read(reader: &Reader, path: &str, signature: &Signature, request: Request) -> ApiResult<Response> {
    let key = permitted(&reader.urls, path, Right::Read, signature)?;
    if signature.view.as_deref() == Some("1") {
        return view(&reader.files, &reader.turns, &reader.intake.limits, key).await;
    }
    let download = signature.download.as_deref() == Some("1");
    // A signature of the store is good for one method.
    if let Key::Result(..) = key
        && request.method() == Method::GET
        && !download
        && !from_our_page(&request)
        && let Some(url) = reader.urls.direct(&key).await?
    {
        let location = HeaderValue::try_from(url).map_err(ApiError::internal)?;
        let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
    }
    if let Key::Thumb(task) = key {
        make_thumb(reader, task).await?;
    }
    let kind = if download { "attachment" } else { "inline" };
    reader.send(&key, kind, request.method(), request.headers()).await
}

impl Reader {
    /// A file as the answer to a request with these headers, with its type and its name; `kind` of its disposition says what a browser
    /// does with it.
    ///
    /// # Errors
    /// 404 if there is no such file.
    async fn send(&self, key: &Key, kind: &str, method: &Method, asked: &HeaderMap) -> ApiResult<Response> {
        let media_type = match key {
            Key::Result(_, name) => of_own_file(name),
            Key::Map(..) => Format::Png.media_type(),
            Key::Object(_) | Key::Source(_) => {
                let bytes = self.files.blobs.map(key).await.map_err(missing)?;
                self.turns.reading(move || Ok(media_type(&bytes))).await?
            }
            Key::Thumb(_) => {
                let bytes = self.files.blobs.map(key).await.map_err(missing)?;
                blocking(move || Ok(media_type(&bytes))).await?
            }
        };
        let name = file_name(&*self.queue, key, media_type).await;
        let opened = self.files.blobs.open(key).await.map_err(missing)?;
        let mut response = serve(method, asked, opened).map(|body| match key.task() {
            None => body,
            Some(task) => counted(body, self.reads.of(task)),
        });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
        // Uploads are served from our own origin, so they must never be executed there.
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
        if let Ok(value) = HeaderValue::from_str(&format!("{kind}; filename=\"{name}\"")) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }

    /// The result of a completed task, whole.
    ///
    /// # Errors
    /// 404 if it has been deleted.
    pub async fn result(&self, task: &Task) -> ApiResult<Response> {
        self.send(&result(task)?, "attachment", &Method::GET, &HeaderMap::new()).await
    }

    /// The result of a completed task as base64 within JSON, between `before` and `after`. It is encoded as it is sent,
    /// because it may be larger than what memory should hold twice.
    ///
    /// # Errors
    /// 404 if it has been deleted.
    pub async fn result_in_json(&self, task: &Task, before: String, after: String) -> ApiResult<Response> {
        let bytes = self.files.blobs.map(&result(task)?).await.map_err(missing)?;
        let parts = (0..bytes.len())
            .step_by(BASE64_PART)
            .map(move |start| Bytes::from(BASE64_STANDARD.encode(&bytes[start..bytes.len().min(start + BASE64_PART)])));
        let parts = once(Bytes::from(before)).chain(parts).chain(once(Bytes::from(after)));
        let body = Body::from_stream(stream::iter(parts.map(Ok::<_, io::Error>)));
        let body = counted(body, self.reads.of(task.id));
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}

fn missing(error: io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotFound => ApiError::not_found(),
        _ => error.into(),
    }
}

fn result(task: &Task) -> ApiResult<Key> {
    let made = Made::of(task)?.ok_or_else(|| ApiError::internal("a completed task has no result"))?;
    Ok(Key::Result(task.id, made.file))
}

/// Whether a browser asks on behalf of our page, which may show pictures from here only.
fn from_our_page(request: &Request) -> bool {
    request.headers().get("sec-fetch-site").is_some_and(|site| site == "same-origin")
}

/// # Errors
/// 403 or 410 unless the URL grants this permission.
fn permitted(urls: &Urls, path: &str, right: Right, signature: &Signature) -> ApiResult<Key> {
    let forged = || ApiError::forbidden("this URL was not issued by this server, or was altered");
    let key = Key::parse(path).ok_or_else(forged)?;
    match urls.check(&key, right, &signature.expires, &signature.signature) {
        Ok(()) => Ok(key),
        Err(BadAddress::Forged) => Err(forged()),
        Err(BadAddress::Expired) => {
            Err(ApiError::new(StatusCode::GONE, "expired", "this URL has expired, and the file may have been deleted"))
        }
    }
}

const UNKNOWN: &str = "application/octet-stream";

/// The type of a file that we wrote and named.
fn of_own_file(name: &str) -> &'static str {
    let extension = name.rsplit('.').next().unwrap_or_default();
    Format::from_extension(extension).map_or(UNKNOWN, Format::media_type)
}

/// The real type of a file, whatever its sender declared.
fn media_type(bytes: &[u8]) -> &'static str {
    // AVIF is written but not read.
    if bytes.get(4..12) == Some(b"ftypavif") {
        return Format::Avif.media_type();
    }
    let header = enlarger_image::header(bytes, &enlarger_image::Limits::for_own_files());
    header.map_or(UNKNOWN, |header| header.format.media_type())
}

/// The name that a browser saves the file under: ASCII letters, digits, `-`, `_` and `.` only.
async fn file_name(queue: &dyn Queue, key: &Key, media_type: &str) -> String {
    let extension = media_type.rsplit('/').next().map_or("bin", |subtype| match subtype {
        "jpeg" => "jpg",
        "tiff" => "tif",
        "octet-stream" => "bin",
        other => other,
    });
    let id = match key {
        Key::Object(id) => return format!("{id}.{extension}"),
        Key::Source(id) | Key::Thumb(id) | Key::Map(id, _) | Key::Result(id, _) => *id,
    };
    let task = queue.get(id, &Scope::All).await.ok().flatten();
    let job = task.as_ref().and_then(|task| Job::of(task).ok());
    let name = job.as_ref().and_then(|job| job.name.clone()).unwrap_or_else(|| id.to_string());
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let stem: String = stem.chars().map(safe).take(80).collect();
    let suffix = match (key, job.map(|job| job.request.size)) {
        (Key::Map(..), _) => "_invented".to_owned(),
        (Key::Result(..), Some(Size::Factor(factor))) => format!("_{factor}x"),
        (Key::Result(..), Some(Size::Width(pixels) | Size::Height(pixels))) => format!("_{pixels}px"),
        _ => String::new(),
    };
    format!("{stem}{suffix}.{extension}")
}

/// Makes the thumbnail unless it exists.
async fn make_thumb(reader: &Reader, task: Uuid) -> ApiResult<()> {
    if reader.files.blobs.exists(&Key::Thumb(task)).await? {
        return Ok(());
    }
    let _turn = reader.turns.aside().await?;
    let bytes = reader.files.blobs.map(&Key::Source(task)).await.map_err(missing)?;
    let (limits, scratch) = (reader.intake.limits, reader.files.scratch.clone());
    let draft = blocking(move || {
        let picture = enlarger_image::decode(&bytes, &limits).map_err(|error| ApiError::picture(&error))?.picture;
        let shrink = f64::from(THUMB_SIDE) / f64::from(picture.width.max(picture.height));
        let side = |pixels: u32| ((f64::from(pixels) * shrink.min(1.0)).round() as u32).max(1);
        let small = resize(&picture, side(picture.width), side(picture.height), Resampling::Box)
            .map_err(|error| ApiError::picture(&error))?;
        // Transparency is shown as such.
        let format = if small.channels.has_alpha() { Format::Png } else { Format::Jpeg };
        let options = EncodeOptions { format, metadata: MetadataPolicy::Strip, ..EncodeOptions::default() };
        let mut draft = scratch.draft()?;
        enlarger_image::encode(&small, &options, &mut draft).map_err(|error| ApiError::picture(&error))?;
        Ok(draft)
    });
    Ok(reader.files.blobs.publish(draft.await?, &Key::Thumb(task)).await?)
}

#[utoipa::path(
    put, path = "/files/objects/{id}", operation_id = "writeObject", tag = "Files", summary = "Upload the bytes of a file",
    params(("id" = Uuid, Path), Signature), security(()),
    request_body(content_type = "application/octet-stream", description = "The raw bytes."),
    responses(
        (status = 200, description = "Stored"),
        (status = 400, description = "The body ended unexpectedly", body = ErrorBody),
        (status = 403, description = "The URL was not issued by this server", body = ErrorBody),
        (status = 404, description = "The upload has expired", body = ErrorBody),
        (status = 408, description = "The body arrived too slowly", body = ErrorBody),
        (status = 410, description = "The URL has expired", body = ErrorBody),
        (status = 413, description = "The file is too large", body = ErrorBody),
        (status = 503, description = "The server cannot store anything at the moment", body = ErrorBody),
    ),
)]
async fn write_object(
    State(writer): State<Writer>,
    Path(id): Path<String>,
    Query(signature): Query<Signature>,
    body: Body,
) -> ApiResult<Response> {
    let key = permitted(&writer.urls, &format!("objects/{id}"), Right::Write, &signature)?;
    let Key::Object(id) = key else { return Err(ApiError::not_found()) };
    let scratch = writer.files.scratch.clone();
    let draft = blocking(move || Ok(scratch.draft()?)).await?;
    let mut file = draft.reopen()?;
    let mut reader = writer.bodies.reader(body, writer.limit_mb);
    let mut size = 0;
    while let Some(chunk) = reader.next().await? {
        size += chunk.len() as u64;
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    drop(reader);
    writer.files.blobs.publish(draft, &Key::Object(id)).await?;
    if writer.objects.finish(id, size, None).await?.is_none() {
        writer.files.blobs.delete(&Key::Object(id)).await?;
        return Err(ApiError::not_found());
    }
    Ok(StatusCode::OK.into_response())
}
