//! The dialect of Magnific and Freepik: one POST and two GETs for each of three endpoints, under two prefixes.

pub(crate) mod creative;
pub(crate) mod precision;
pub(crate) mod wire;

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use enlarger_pipeline::Part;
use enlarger_service::{job::Kind, submit::Accepted, urls::Urls};
use enlarger_tasks::Queue;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub(crate) use creative::LONGEST_PROMPT;
pub(crate) use precision::{PrecisionV2Request, read_v2};

use crate::{
    app::App,
    client::Client,
    dialect::{Dialect, WebhookBody},
    http::{ApiError, ApiResult, ErrorBody, Paging, Path, Query, ReadErrors, WriteErrors},
    poller::Poller,
    submit::{Endpoint, FieldNames, Read, Submitter},
};
use wire::{TaskData, TaskList, TaskResponse, TaskSummary};

/// What bodies call the parts of a request; checkpoints and models are chosen by the server's settings.
pub(crate) const NAMES: FieldNames =
    FieldNames { size: |_| "scale_factor", part: |part| (part == Part::Prompt).then_some("prompt") };

/// Both prefixes under which the routes are served. The first is that of Comfy's proxy, the second Magnific's own.
const PREFIXES: [&str; 2] = ["/proxy/freepik/v1/ai", "/v1/ai"];

/// The dialect of Magnific and Freepik.
pub(super) struct Magnific;

impl Dialect for Magnific {
    fn routes(&self) -> OpenApiRouter<App> {
        let [first, second] = PREFIXES;
        let mut again = routes();
        name_operations_again(&mut again);
        OpenApiRouter::new().nest(first, routes()).nest(second, again).nest(second, alias_routes())
    }

    fn webhooks(&self) -> &[(Kind, WebhookBody)] {
        &[(Kind::Creative, wire::webhook), (Kind::PrecisionV1, wire::webhook), (Kind::PrecisionV2, wire::webhook)]
    }

    fn unserved(&self, path: &str) -> Option<String> {
        let service = other_service(path)?;
        Some(format!(
            "{service} is not available: this server only enlarges images, with image-upscaler, \
             image-upscaler-precision and image-upscaler-precision-v2 under /v1/ai and /proxy/freepik/v1/ai"
        ))
    }
}

/// The routes, without a prefix.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_creative, list_creative))
        .routes(routes!(get_creative))
        .routes(routes!(create_precision, list_precision))
        .routes(routes!(get_precision))
        .routes(routes!(create_precision_v2, list_precision_v2))
        .routes(routes!(get_precision_v2))
}

/// The name that one command line client has for the creative endpoint.
fn alias_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create_alias, list_alias)).routes(routes!(get_alias))
}

/// The routes under the second prefix are the same functions, but need other names in the specification.
fn name_operations_again(routes: &mut OpenApiRouter<App>) {
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            if let Some(name) = &mut operation.operation_id {
                name.push_str("V1");
            }
        }
    }
}

async fn create(
    client: Client,
    submitter: &Submitter,
    poller: &Poller,
    body: Body,
    kind: Kind,
    read: Read,
) -> ApiResult<Response> {
    let endpoint = Endpoint { name: kind.as_str(), read, fit: None, polled: true, names: &NAMES };
    let accepted = submitter.submit(&client, body, endpoint).await?;
    // A replay gets the same response as the first request, whatever has happened to the task since.
    let data = TaskData::created(accepted.task.id);
    poller.promise(&client.headers, &accepted, Json(TaskResponse { data }).into_response()).await
}

async fn get(client: Client, poller: &Poller, urls: &Urls, id: &str, kind: Kind) -> ApiResult<Response> {
    let id: Uuid = id.parse().map_err(|_| ApiError::no_task())?;
    let task = poller.ask(&client.headers, id, &client.caller.scope()).await?;
    if Kind::of(&task) != Some(kind) {
        return Err(ApiError::no_task());
    }
    let data = TaskData::of(urls, &task, &client.base).await?;
    let response = Json(TaskResponse { data }).into_response();
    if task.state.is_terminal() {
        return Ok(response);
    }
    poller.promise(&client.headers, &Accepted { task, replayed: false }, response).await
}

async fn list(client: Client, queue: &dyn Queue, paging: &Paging, kind: Kind) -> ApiResult<Json<TaskList>> {
    let page = queue.list(&paging.query(vec![kind.as_str().to_owned()])?, &client.caller.scope()).await?;
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
                    headers(("X-Comfy-Estimated-Duration-Seconds" = u32, description = "Estimated seconds until the \
                        task finishes, 1 to 86400. For ComfyUI: until the first poll after that."),
                            ("X-Comfy-Estimated-Duration-P90-Seconds" = u32, description = "The same, with a margin."),
                            ("X-Comfy-Estimate-Source" = String, description = "`calibration`: from this machine's \
                                speed; `progress`: from the task's progress; `default`: a guess."),
                            ("Idempotent-Replayed" = Option<bool>, description = "`true` if an earlier request with \
                                the same Idempotency-Key created the task."))),
                (status = 409, description = "The Idempotency-Key is in use", body = ErrorBody),
                (status = 429, description = "The queue is full, or too many requests with this key", body = ErrorBody),
                WriteErrors,
            ),
        )]
        async fn $create(
            client: Client,
            State(submitter): State<Submitter>,
            State(poller): State<Poller>,
            body: Body,
        ) -> ApiResult<Response> {
            create(client, &submitter, &poller, body, $kind, $read).await
        }

        #[utoipa::path(
            get, path = concat!($path, "/{task_id}"), operation_id = $get_id, tag = $tag,
            summary = "Get the status of one task",
            params(("task_id" = Uuid, Path, description = "As returned by the submission.")),
            responses(
                (status = 200, description = "OK - The task exists", body = TaskResponse),
                (status = 404, description = "No such task for this key", body = ErrorBody),
                ReadErrors,
            ),
        )]
        async fn $get(
            client: Client,
            State(poller): State<Poller>,
            State(urls): State<Urls>,
            Path(id): Path<String>,
        ) -> ApiResult<Response> {
            get(client, &poller, &urls, &id, $kind).await
        }

        #[utoipa::path(
            get, path = $path, operation_id = $list_id, tag = $tag, summary = "Get the status of all tasks, newest first",
            params(Paging),
            responses(
                (status = 200, description = "OK - The request has succeeded", body = TaskList),
                (status = 400, description = "Bad Request", body = ErrorBody),
                ReadErrors,
            ),
        )]
        async fn $list(
            client: Client,
            State(queue): State<Arc<dyn Queue>>,
            Query(paging): Query<Paging>,
        ) -> ApiResult<Json<TaskList>> {
            list(client, &*queue, &paging, $kind).await
        }
    };
}

endpoint!(
    "/image-upscaler", Kind::Creative, creative::read, creative::CreativeRequest, "Freepik",
    create_creative "FreepikMagnificUpscalerCreative" "Upscale an image with Magnific",
    get_creative "getCreative", list_creative "listCreative"
);

endpoint!(
    "/upscaler-creative", Kind::Creative, creative::read, creative::CreativeRequest, "Freepik",
    create_alias "createCreativeAlias" "Upscale an image in Creative style (alias)",
    get_alias "getCreativeAlias", list_alias "listCreativeAlias"
);

endpoint!(
    "/image-upscaler-precision", Kind::PrecisionV1, precision::read_v1, precision::PrecisionV1Request, "Freepik",
    create_precision "createPrecision" "Upscale an image faithfully",
    get_precision "getPrecision", list_precision "listPrecision"
);

endpoint!(
    "/image-upscaler-precision-v2", Kind::PrecisionV2, precision::read_v2, precision::PrecisionV2Request, "Freepik",
    create_precision_v2 "createPrecisionV2" "Upscale an image faithfully by 2x to 16x",
    get_precision_v2 "getPrecisionV2", list_precision_v2 "listPrecisionV2"
);

/// The service that a vendor's path asks for: an endpoint of the same vendor, or another vendor.
fn other_service(path: &str) -> Option<&str> {
    let rest = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)?.strip_prefix('/'));
    let name = rest.or_else(|| path.strip_prefix("/proxy/"))?.split('/').next()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (plain && !name.is_empty() && name.len() <= 64).then_some(name)
}
