//! What users want to know before spending minutes: the cost of a job, and a preview of a small part.

use std::{
    io::Cursor,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json,
    body::Body,
    extract::{FromRef, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use enlarger_image::{Format, MetadataPolicy};
use enlarger_pipeline::{Enlarger, Estimate, Output, Request, Unwatched, Watch};
use enlarger_service::{
    intake::{Intake, Received},
    job::{Kind, SourceInfo, Terms, check_size},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ask::{self, Submission},
    wire,
};
use crate::{
    app::App,
    client::Client,
    http::{AnyError, ApiError, ApiResult, Bodies, Fields, Turns, blocking},
    submit::{Submitter, picture, refuse},
};

/// Most pixels of a previewed crop, and of its result.
const PREVIEW_PIXELS: u64 = 512 * 512;
const PREVIEW_RESULT_PIXELS: u64 = 2048 * 2048;

#[utoipa::path(
    post, path = "/api/preview", operation_id = "preview", tag = "Console",
    summary = "Preview a crop",
    description = "Runs immediately, without queueing, through the same steps as a task, and stops when the client \
        disconnects. `request.crop` selects the area, at most 512 x 512 pixels. Quality `draft` uses the smallest \
        model and takes a fraction of the time.",
    request_body(content = Submission, content_type = "application/json"),
    responses(
        (status = 200, description = "The enlarged crop", content_type = "image/png", body = Vec<u8>),
        AnyError,
    ),
)]
pub(crate) async fn preview(
    client: Client,
    State(previewer): State<Previewer>,
    State(turns): State<Turns>,
    State(submitter): State<Submitter>,
    body: Body,
) -> ApiResult<Response> {
    let body = submitter.bodies.spool(body, submitter.limit_mb).await?;
    let watch = Arc::new(Hearing::default());
    // Dropped when the client hangs up; the work then ends within a tile.
    let _listening = StopOnDrop(watch.clone());
    let _turn = turns.aside().await?;
    let png = blocking(move || previewer.run(&client.base, &body, &*watch)).await?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], png).into_response())
}

/// Makes previews.
#[derive(Clone)]
pub(crate) struct Previewer {
    enlarger: Arc<Enlarger>,
    intake: Intake,
}

impl FromRef<App> for Previewer {
    fn from_ref(app: &App) -> Self {
        Self { enlarger: app.enlarger.clone(), intake: app.intake.clone() }
    }
}

impl Previewer {
    fn run(&self, base: &str, body: &[u8], watch: &dyn Watch) -> ApiResult<Vec<u8>> {
        let mut fields = Fields::parse(body)?;
        let mut request = ask::request(&mut fields);
        if let Some(generative) = &mut request.generative {
            // A part of a texture does not repeat.
            generative.seamless = false;
        }
        let pixels = request.crop.map(|crop| u64::from(crop.width) * u64::from(crop.height));
        match pixels {
            None => fields.reject("request.crop", "is required: a preview shows part of the image"),
            Some(pixels) if pixels > PREVIEW_PIXELS => {
                fields.reject("request.crop", format!("must have at most {PREVIEW_PIXELS} pixels"));
            }
            Some(_) => {}
        }
        let picture = picture(&mut fields, &self.intake, base)?;
        let bytes = match &picture {
            Some(Received::Sent(sent, info)) => {
                self.check(&mut fields, &request, info, watch)?;
                Some(Bytes::from_owner(sent.map()?))
            }
            Some(Received::Ours { bytes, info, .. }) => {
                self.check(&mut fields, &request, info, watch)?;
                Some(bytes.clone())
            }
            Some(Received::Remote(_)) => {
                fields.reject_with(
                    "image",
                    "must be uploaded for a preview",
                    Some(
                        "upload it with POST \
                    /customers/storage",
                    ),
                );
                None
            }
            None => None,
        };
        fields.done()?;
        let bytes = bytes.ok_or_else(|| ApiError::internal("a picture that was not read was not rejected"))?;
        let output = Output { format: Some(Format::Png), quality: None, metadata: MetadataPolicy::Strip, dpi: None };
        let mut png = Cursor::new(Vec::new());
        self.enlarger.job(&bytes, &request, &output, &self.intake.limits, &mut png, watch)?;
        Ok(png.into_inner())
    }

    fn check(
        &self,
        fields: &mut Fields<'_>,
        request: &Request,
        source: &SourceInfo,
        watch: &dyn Watch,
    ) -> ApiResult<()> {
        match self.enlarger.estimate(source.width, source.height, request, watch) {
            Ok(estimate) => {
                let pixels = u64::from(estimate.output_width) * u64::from(estimate.output_height);
                if pixels > PREVIEW_RESULT_PIXELS {
                    fields.reject("request.crop", format!("would give more than {PREVIEW_RESULT_PIXELS} pixels"));
                }
                Ok(())
            }
            Err(error) => refuse(fields, &error, &ask::NAMES, request.size),
        }
    }
}

/// Ends the work when the client has disconnected.
#[derive(Default)]
struct Hearing {
    gone: AtomicBool,
}

impl Watch for Hearing {
    fn cancelled(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

struct StopOnDrop(Arc<Hearing>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

/// An image's size and what to do with it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the body is read field by field")]
pub(crate) struct EstimateRequest {
    /// Width in pixels.
    #[schema(minimum = 1, maximum = 300000)]
    width: u32,
    /// Height in pixels.
    #[schema(minimum = 1, maximum = 300000)]
    height: u32,
    /// Size, style (`look`), model, seed, crop and quality (`draft`, `fast` or `best`).
    #[schema(required = false)]
    request: wire::Request,
}

/// Time and memory that a job takes on an otherwise idle machine.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EstimateResponse {
    /// Null: unknown, because another program draws that has not been measured yet or is down.
    #[schema(required)]
    seconds: Option<f64>,
    /// Peak memory.
    bytes: u64,
    output_width: u32,
    output_height: u32,
}

#[utoipa::path(
    post, path = "/api/estimate", operation_id = "estimate", tag = "Console", summary = "Estimate a job",
    request_body(content = EstimateRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The estimate", body = EstimateResponse),
        AnyError,
    ),
)]
pub(crate) async fn estimate(
    State(enlarger): State<Arc<Enlarger>>,
    State(terms): State<Terms>,
    State(bodies): State<Bodies>,
    body: Body,
) -> ApiResult<Json<EstimateResponse>> {
    const BODY_MB: u64 = 1;
    const LONGEST_SIDE: i64 = 300_000;
    let body = bodies.spool(body, BODY_MB).await?;
    // The first estimate measures the machine.
    blocking(move || {
        let mut fields = Fields::parse(&body)?;
        let mut side = |name| {
            if fields.raw(name).is_none() {
                fields.reject(name, "is required");
            }
            u32::try_from(fields.integer(name, 1..=LONGEST_SIDE, 1)).unwrap_or(1)
        };
        let (width, height) = (side("width"), side("height"));
        let request = ask::request(&mut fields);
        fields.done()?;
        let estimate = match enlarger.estimate(width, height, &request, &Unwatched) {
            Ok(estimate) => estimate,
            Err(error) if error.part().is_some() => {
                refuse(&mut fields, &error, &ask::NAMES, request.size)?;
                return Err(fields.done().expect_err("it was refused"));
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(large) = check_size(&terms, Kind::Console, &request, (width, height), &estimate) {
            return Err(ApiError::field("request.size", large.reason).hint(large.hint));
        }
        let Estimate { seconds, bytes, output_width, output_height } = estimate;
        Ok(Json(EstimateResponse { seconds, bytes, output_width, output_height }))
    })
    .await
}
