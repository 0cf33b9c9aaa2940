//! The dialect of OpenAI's image API, with the upscaling that LocalAI adds to it: a form in, the enlarged image out. One line of curl.

mod ask;
mod errors;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use enlarger_service::{job::Made, urls::Urls};
use enlarger_tasks::Task;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    client::Client,
    dialect::Dialect,
    files,
    http::{ApiError, ApiResult},
    poller::Poller,
    submit::{Endpoint, Submitter},
    waiter::Waiter,
};
use ask::{UpscaleForm, Wanted};
use errors::{ImagesErrorBody, ImagesWriteErrors};

const UPSCALE: Endpoint = Endpoint { name: "images", read: ask::read, fit: None, polled: false, names: &ask::NAMES };

/// The dialect of OpenAI and LocalAI.
pub(super) struct Images;

impl Dialect for Images {
    fn routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new().routes(routes!(upscale))
    }

    fn unserved(&self, path: &str) -> Option<String> {
        path.starts_with(errors::ROUTES).then(|| {
            "this server only enlarges images: of OpenAI's and LocalAI's image API it has POST /v1/images/upscale"
                .to_owned()
        })
    }

    fn reworded(&self, path: &str, response: Response) -> Response {
        errors::in_openais_form(path, response)
    }
}

/// The answer as JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImagesResponse)]
struct Answer {
    /// When the result was made, in Unix seconds.
    created: i64,
    /// One image.
    #[schema(min_items = 1, max_items = 1)]
    data: Vec<Image>,
    /// Its format.
    output_format: String,
    /// Its width and height, as in `1024x768`.
    size: String,
}

/// An image, in one of two forms.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImagesImage)]
struct Image {
    /// A signed URL, which needs no credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = Uri)]
    url: Option<String>,
    /// The file in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    b64_json: Option<String>,
}

#[utoipa::path(
    post, path = "/v1/images/upscale", operation_id = "upscaleImage", tag = "Images", summary = "Enlarge an image and wait for it",
    description = "Answers with the file itself; with JSON if `response_format` is `url` or `b64_json`, or if the client accepts \
        `application/json` only. If the client disconnects, the job is cancelled; with an Idempotency-Key it goes on, and the same \
        request fetches its result.",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255)),
    request_body(content = UpscaleForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The enlarged image", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"),
            (Vec<u8> = "image/avif"), (Answer = "application/json"),
        )),
        (status = 409, description = "The Idempotency-Key is in use, or the task was cancelled", body = ImagesErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = ImagesErrorBody),
        (status = 504, description = "Not finished within an hour; the job goes on", body = ImagesErrorBody),
        ImagesWriteErrors,
    ),
)]
async fn upscale(
    client: Client,
    State(submitter): State<Submitter>,
    State(waiter): State<Waiter>,
    State(poller): State<Poller>,
    State(urls): State<Urls>,
    State(files): State<files::Reader>,
    body: Body,
) -> ApiResult<Response> {
    let form = submitter.form(&client, body).await?;
    let wanted = ask::wanted(&form, &client.headers)?;
    let done = waiter.completed(&client, submitter.accept(&client, form, UPSCALE).await?).await?;
    let task = &done.task;
    let response = match wanted {
        Wanted::File => files.result(task).await?,
        Wanted::Url => {
            let url = urls.result(&client.base, task)?;
            Json(Answer::of(task, Image { url, b64_json: None })?).into_response()
        }
        Wanted::Base64 => in_base64(&files, task).await?,
    };
    poller.promise(&client.headers, &done, response).await
}

impl Answer {
    fn of(task: &Task, image: Image) -> ApiResult<Self> {
        let made = Made::of(task)?.ok_or_else(|| ApiError::internal("a completed task has no result"))?;
        let output_format = made.media_type.trim_start_matches("image/").to_owned();
        let size = format!("{}x{}", made.width, made.height);
        let created = task.finished_at.unwrap_or(task.created_at).as_second();
        Ok(Self { created, data: vec![image], output_format, size })
    }
}

/// The answer with the whole file in it, which is encoded as it is sent.
async fn in_base64(files: &files::Reader, task: &Task) -> ApiResult<Response> {
    let answer = Answer::of(task, Image { url: None, b64_json: Some(String::new()) })?;
    let json = serde_json::to_string(&answer).map_err(ApiError::internal)?;
    let (before, after) =
        json.split_once("\"\"").ok_or_else(|| ApiError::internal("an answer has no place for its image"))?;
    files.result_in_json(task, format!("{before}\""), format!("\"{after}")).await
}
