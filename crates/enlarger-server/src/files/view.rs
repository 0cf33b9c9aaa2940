//! A view of files that browsers cannot decode, such as TIFF.

use std::io::Cursor;

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use enlarger_blobs::Key;
use enlarger_image::{EncodeOptions, Format, Limits, MetadataPolicy};
use enlarger_pipeline::{Resampling, resize};
use enlarger_service::files::Files;

use crate::http::{ApiError, ApiResult, Turns, blocking};

/// Views have at most this many pixels; larger images are scaled down. A browser needs four bytes for each.
const VIEW_PIXELS: u64 = 24_000_000;
/// Larger results are not decoded for a view: they would take more memory than the job that made them.
const RESULT_PIXELS: u64 = 128_000_000;
/// Size of the image itself, upright: the view may be smaller.
const WIDTH: HeaderName = HeaderName::from_static("x-image-width");
const HEIGHT: HeaderName = HeaderName::from_static("x-image-height");

/// An 8-bit PNG of an image file, upright, with its colour profile. It is made on each request, one at a time beside
/// the jobs; browsers cache it for an hour.
///
/// # Errors
/// 404 if there is no such file, 400 if it is not an image or too large to be shown.
pub(super) async fn view(files: &Files, turns: &Turns, limits: &Limits, key: Key) -> ApiResult<Response> {
    let _turn = turns.aside().await?;
    let bytes = files.blobs.map(&key).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ApiError::not_found(),
        _ => error.into(),
    })?;
    let limits = match key {
        Key::Result(..) => Limits { max_pixels: RESULT_PIXELS, ..Limits::for_own_files() },
        _ => *limits,
    };
    let (png, width, height) = blocking(move || make(&bytes, &limits)).await?;
    let mut response = png.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    headers.insert(WIDTH, width.into());
    headers.insert(HEIGHT, height.into());
    Ok(response)
}

fn make(bytes: &[u8], limits: &Limits) -> ApiResult<(Vec<u8>, u32, u32)> {
    let bad = |error| ApiError::picture(&error);
    let picture = enlarger_image::decode(bytes, limits).map_err(bad)?.picture;
    let (width, height) = (picture.width, picture.height);
    let shrink = (VIEW_PIXELS as f64 / (f64::from(width) * f64::from(height))).sqrt().min(1.0);
    let side = |pixels: u32| ((f64::from(pixels) * shrink).floor() as u32).max(1);
    let shown = match shrink < 1.0 {
        true => resize(&picture, side(width), side(height), Resampling::Box).map_err(bad)?,
        false => picture,
    };
    let mut png = Cursor::new(Vec::new());
    let options = EncodeOptions { format: Format::Png, metadata: MetadataPolicy::Strip, ..EncodeOptions::default() };
    // Screens show 8 bits.
    enlarger_image::encode(&shown.into_depth(8).map_err(bad)?, &options, &mut png).map_err(bad)?;
    Ok((png.into_inner(), width, height))
}
