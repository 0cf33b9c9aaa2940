//! The dialect of Magnific and Freepik: one POST and two GETs for each of three endpoints, under two prefixes.

mod creative;
mod precision;
pub(crate) mod wire;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use enlarger_tasks::ListQuery;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub(crate) use creative::LONGEST_PROMPT;
pub(crate) use precision::{PrecisionV2Request, read_v2};

use crate::{
    app::App,
    auth::Caller,
    error::{ApiError, ApiResult, ErrorBody},
    extract::{Path, Query},
    job::kind,
    poller,
    submit::{self, Read, submit},
};
use wire::{TaskData, TaskList, TaskResponse, TaskSummary};

/// Both prefixes under which the routes are served. The first is that of Comfy's proxy, the second Magnific's own.
pub(crate) const PREFIXES: [&str; 2] = ["/proxy/freepik/v1/ai", "/v1/ai"];

/// The routes, without a prefix.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create_creative, list_creative))
        .routes(routes!(get_creative))
        .routes(routes!(create_precision, list_precision))
        .routes(routes!(get_precision))
        .routes(routes!(create_precision_v2, list_precision_v2))
        .routes(routes!(get_precision_v2))
}

/// The name that one command line client has for the creative endpoint.
pub(crate) fn alias_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(create_alias, list_alias)).routes(routes!(get_alias))
}

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// From 1.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000000)]
    page: Option<String>,
    /// How many, 1 to 100.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 100)]
    per_page: Option<String>,
}

impl Paging {
    /// # Errors
    /// If a number is none, or out of range.
    pub fn query(&self, kinds: Vec<String>) -> ApiResult<ListQuery> {
        let number = |name: &str, text: &Option<String>, largest: u64, default: u64| match text {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=largest).contains(number))
                .ok_or_else(|| ApiError::field(name, format!("must be between 1 and {largest}"))),
        };
        Ok(ListQuery {
            kinds,
            states: Vec::new(),
            page: number("page", &self.page, 1_000_000, 1)?,
            per_page: number("per_page", &self.per_page, 100, 20)?,
        })
    }
}

/// Everything that belongs to a request besides its body.
pub(crate) type Parts = (State<Arc<App>>, Extension<Caller>, HeaderMap);

async fn create(
    (State(app), Extension(caller), headers): Parts,
    body: Body,
    read: Read,
    endpoint: &'static str,
) -> ApiResult<Response> {
    let accepted = submit(&app, &caller, &headers, body, read, endpoint).await?;
    // A replay answers as the first time did, whatever has become of the task since.
    let data = TaskData::created(accepted.task.id);
    submit::headers(&app, &headers, &accepted, Json(TaskResponse { data }).into_response()).await
}

async fn get((State(app), Extension(caller), headers): Parts, id: &str, kinds: &[&str]) -> ApiResult<Response> {
    let id: Uuid = id.parse().map_err(|_| ApiError::no_task())?;
    let task = poller::ask(&app, &headers, id, &caller.scope()).await?;
    if !kinds.contains(&task.kind.as_str()) {
        return Err(ApiError::no_task());
    }
    let data = TaskData::of(&app, &task, &app.base(&headers))?;
    let response = Json(TaskResponse { data }).into_response();
    if task.state.is_terminal() {
        return Ok(response);
    }
    submit::headers(&app, &headers, &submit::Accepted { task, replayed: false }, response).await
}

async fn list((State(app), Extension(caller), _): Parts, paging: &Paging, kind: &str) -> ApiResult<Json<TaskList>> {
    let page = app.store.queue.list(&paging.query(vec![kind.to_owned()])?, &caller.scope()).await?;
    let data = page.tasks.iter().map(|task| TaskSummary { task_id: task.id, status: task.state.into() }).collect();
    Ok(Json(TaskList { data }))
}

/// Declares the handlers of one endpoint.
macro_rules! endpoint {
    (
        $path:literal, $kind:expr, $read:path, $body:ty, $tag:literal,
        $create:ident $create_id:literal $create_summary:literal,
        $get:ident $get_id:literal, $list:ident $list_id:literal
    ) => {
        #[utoipa::path(
            post, path = $path, operation_id = $create_id, tag = $tag, summary = $create_summary,
            params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the same task for 24 hours.", min_length = 1, max_length = 255)),
            request_body(content = $body, content_type = "application/json"),
            responses(
                (status = 200, description = "OK - The upscaling process has started", body = TaskResponse,
                    headers(("X-Comfy-Estimated-Duration-Seconds" = u32, description = "Seconds until it will be done, 1 to 86400; for ComfyUI, until its poll will tell."),
                            ("X-Comfy-Estimated-Duration-P90-Seconds" = u32, description = "The same with a margin."),
                            ("X-Comfy-Estimate-Source" = String, description = "`calibration`: this machine's speed; `progress`: the task's own; `default`: nothing is known yet."),
                            ("Idempotent-Replayed" = Option<bool>, description = "`true` when an earlier request made the task."))),
                (status = 400, description = "Bad Request", body = ErrorBody),
                (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
                (status = 403, description = "A web page of another site sent this", body = ErrorBody),
                (status = 408, description = "The body came too slowly", body = ErrorBody),
                (status = 409, description = "The Idempotency-Key is in use", body = ErrorBody),
                (status = 413, description = "The body is too large", body = ErrorBody),
                (status = 415, description = "The body is not JSON but a form or a file", body = ErrorBody),
                (status = 429, description = "The queue is full, or too many requests with this key", body = ErrorBody),
                (status = 500, description = "Internal Server Error", body = ErrorBody),
                (status = 503, description = "Nothing can be stored at the moment", body = ErrorBody),
            ),
        )]
        async fn $create(parts: Parts, body: Body) -> ApiResult<Response> {
            create(parts, body, $read, $kind).await
        }

        #[utoipa::path(
            get, path = concat!($path, "/{task_id}"), operation_id = $get_id, tag = $tag,
            summary = "Get the status of one task",
            params(("task_id" = Uuid, Path, description = "As it was answered at submission.")),
            responses(
                (status = 200, description = "OK - The task exists", body = TaskResponse),
                (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
                (status = 403, description = "A web page of another site sent this", body = ErrorBody),
                (status = 404, description = "There is no such task, for this key", body = ErrorBody),
                (status = 429, description = "Too many requests with this key", body = ErrorBody),
                (status = 500, description = "Internal Server Error", body = ErrorBody),
                (status = 503, description = "The store is not available", body = ErrorBody),
            ),
        )]
        async fn $get(parts: Parts, Path(id): Path<String>) -> ApiResult<Response> {
            get(parts, &id, &[$kind]).await
        }

        #[utoipa::path(
            get, path = $path, operation_id = $list_id, tag = $tag, summary = "Get the status of all tasks, newest first",
            params(Paging),
            responses(
                (status = 200, description = "OK - The request has succeeded", body = TaskList),
                (status = 400, description = "Bad Request", body = ErrorBody),
                (status = 401, description = "Credentials are missing or wrong", body = ErrorBody),
                (status = 403, description = "A web page of another site sent this", body = ErrorBody),
                (status = 429, description = "Too many requests with this key", body = ErrorBody),
                (status = 500, description = "Internal Server Error", body = ErrorBody),
                (status = 503, description = "The store is not available", body = ErrorBody),
            ),
        )]
        async fn $list(parts: Parts, Query(paging): Query<Paging>) -> ApiResult<Json<TaskList>> {
            list(parts, &paging, $kind).await
        }
    };
}

endpoint!(
    "/image-upscaler", kind::CREATIVE, creative::read, creative::CreativeRequest, "Freepik",
    create_creative "FreepikMagnificUpscalerCreative" "Upscale an image with Magnific",
    get_creative "getCreative", list_creative "listCreative"
);

endpoint!(
    "/upscaler-creative", kind::CREATIVE, creative::read, creative::CreativeRequest, "Freepik",
    create_alias "createCreativeAlias" "Upscale an image with Magnific (another name)",
    get_alias "getCreativeAlias", list_alias "listCreativeAlias"
);

endpoint!(
    "/image-upscaler-precision", kind::PRECISION_V1, precision::read_v1, precision::PrecisionV1Request, "Freepik",
    create_precision "createPrecision" "Upscale an image, faithfully",
    get_precision "getPrecision", list_precision "listPrecision"
);

endpoint!(
    "/image-upscaler-precision-v2", kind::PRECISION_V2, precision::read_v2, precision::PrecisionV2Request, "Freepik",
    create_precision_v2 "createPrecisionV2" "Upscale an image, faithfully, by a factor of 2 to 16",
    get_precision_v2 "getPrecisionV2", list_precision_v2 "listPrecisionV2"
);

/// What no route answers. Clients of other services come here when they are pointed at this server as a whole, and most of them
/// show the message only.
pub(crate) async fn not_found(uri: Uri) -> ApiError {
    let message = match other_service(uri.path()) {
        Some(service) => format!(
            "{service} is not served here: this server only enlarges images, by image-upscaler, image-upscaler-precision and \
             image-upscaler-precision-v2 under /v1/ai and /proxy/freepik/v1/ai"
        ),
        None => "there is nothing at this address".to_owned(),
    };
    ApiError { message, ..ApiError::not_found() }.hint("all routes are listed in /openapi.json, and shown at /docs/api")
}

/// What a path of somebody else's API asks for: an endpoint of the same vendor, or another vendor.
fn other_service(path: &str) -> Option<&str> {
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)?.strip_prefix('/'));
    let name = rest.or_else(|| path.strip_prefix("/proxy/"))?.split('/').next()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (plain && !name.is_empty() && name.len() <= 64).then_some(name)
}

/// A route that exists, asked in a way that it does not answer.
pub(crate) async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
}
