//! The dialect of A1111's API, as far as it enlarges: the upscalers, and one image with base64 both ways.

mod ask;
mod errors;

use std::sync::Arc;

use axum::{Json, body::Body, extract::State, response::Response};
use enlarger_pipeline::Enlarger;
use enlarger_service::job::Made;
use serde::Serialize;
use serde_json::json;
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
use ask::{AUTOMATIC, ExtraImage};
use errors::{SdapiErrorBody, SdapiReadErrors, SdapiWriteErrors};

const EXTRA: Endpoint =
    Endpoint { name: "sdapi", read: ask::read, fit: Some(ask::fit), polled: false, names: &ask::NAMES };

/// The dialect of A1111.
pub(super) struct Sdapi;

impl Dialect for Sdapi {
    fn routes(&self) -> OpenApiRouter<App> {
        OpenApiRouter::new().routes(routes!(upscalers)).routes(routes!(extra_single_image))
    }

    fn unserved(&self, path: &str) -> Option<String> {
        path.starts_with(errors::ROUTES).then(|| {
            "this server only enlarges images: of A1111's API it has /sdapi/v1/extra-single-image and \
             /sdapi/v1/upscalers"
                .to_owned()
        })
    }

    fn reworded(&self, path: &str, response: Response) -> Response {
        errors::in_fastapis_form(path, response)
    }
}

/// A model, or the automatic choice.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SdapiUpscaler)]
struct Upscaler {
    /// The name for `upscaler_1`.
    name: String,
    /// Display name.
    #[schema(required)]
    model_name: Option<String>,
    /// Always null: models have no path that clients could use.
    #[schema(required)]
    model_path: Option<String>,
    /// Where its authors publish it.
    #[schema(required)]
    model_url: Option<String>,
    /// Its own factor. Any factor can be asked for.
    scale: f64,
}

#[utoipa::path(
    get, path = "/sdapi/v1/upscalers", operation_id = "listUpscalers", tag = "Sdapi", summary = "List models for A1111's clients",
    responses(
        (status = 200, description = "The models, after the automatic choice", body = Vec<Upscaler>),
        SdapiReadErrors,
    ),
)]
async fn upscalers(State(enlarger): State<Arc<Enlarger>>) -> Json<Vec<Upscaler>> {
    let automatic =
        Upscaler { name: AUTOMATIC.to_owned(), model_name: None, model_path: None, model_url: None, scale: 4.0 };
    let models = enlarger.models().list().into_iter().map(|model| Upscaler {
        name: model.name,
        model_name: Some(model.title),
        model_path: None,
        model_url: Some(model.upstream).filter(|url| url.starts_with("http")),
        scale: model.scale.into(),
    });
    Json(std::iter::once(automatic).chain(models).collect())
}

/// The answer.
#[derive(ToSchema)]
#[schema(as = SdapiExtraSingleImageResponse)]
#[allow(dead_code, reason = "only its schema is used; the answer is written as it is sent")]
struct Answer {
    /// The result, a PNG in base64.
    image: String,
    /// What was done, as text.
    html_info: String,
}

#[utoipa::path(
    post, path = "/sdapi/v1/extra-single-image", operation_id = "extraSingleImage", tag = "Sdapi",
    summary = "Enlarge an image and wait for it, as A1111's clients do",
    description = "If the client disconnects, the job is cancelled.",
    request_body(content = ExtraImage, content_type = "application/json"),
    responses(
        (status = 200, description = "The enlarged image", body = Answer),
        (status = 409, description = "The task was cancelled", body = SdapiErrorBody),
        (status = 429, description = "The queue is full, or too many requests with this key", body = SdapiErrorBody),
        (status = 504, description = "Not finished within an hour; the job goes on", body = SdapiErrorBody),
        SdapiWriteErrors,
    ),
)]
async fn extra_single_image(
    client: Client,
    State(submitter): State<Submitter>,
    State(waiter): State<Waiter>,
    State(poller): State<Poller>,
    State(files): State<files::Reader>,
    body: Body,
) -> ApiResult<Response> {
    let done = waiter.completed(&client, submitter.submit(&client, body, EXTRA).await?).await?;
    let made = Made::of(&done.task)?.ok_or_else(|| ApiError::internal("a completed task has no result"))?;
    let after = format!("\",\"html_info\":{}}}", json!(made.notes.join("\n")));
    let response = files.result_in_json(&done.task, "{\"image\":\"".to_owned(), after).await?;
    poller.promise(&client.headers, &done, response).await
}
