//! What is stored with a task: the request in our own terms, where its picture is, and what came out.

use enlarger_image::{Format, Header, ImageError, Limits};
use enlarger_pipeline::{Estimate, Look, Memory, Request};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Role},
    error::ApiError,
};

/// The endpoint a task came by; lists filter on it.
pub(crate) mod kind {
    pub const CREATIVE: &str = "creative";
    pub const PRECISION_V1: &str = "precision-v1";
    pub const PRECISION_V2: &str = "precision-v2";
    pub const CONSOLE: &str = "console";
}

/// Creative: "the resulted image can't exceed maximum allowed size of 25.3 million pixels".
pub(crate) const CREATIVE_PIXELS: u64 = 25_300_000;
/// Clients that fit a picture to that size round its sides up, so half a percent more is accepted.
const CREATIVE_TOLERATED: u64 = CREATIVE_PIXELS + CREATIVE_PIXELS / 200;
/// Precision: no side of the result is longer, in pixels.
pub(crate) const PRECISION_SIDE: u32 = 10_060;

/// A task's request as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to do to the pixels.
    pub request: Request,
    /// The file to make of them.
    #[serde(default)]
    pub output: OutputFile,
    /// The address by which the client reached us: addresses in webhooks begin with it.
    pub base: String,
    /// The picture's name, for file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is known of the source at submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceFacts>,
    /// Seconds that it was expected to take.
    pub estimate_seconds: f64,
    /// Asked for; there is no classifier to do it with.
    #[serde(default)]
    pub filter_nsfw: bool,
}

/// The file that is made.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct OutputFile {
    /// PNG unless told otherwise.
    pub format: Option<OutputFormat>,
    /// 1..=100, for lossy formats.
    pub quality: Option<u8>,
}

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputFormat {
    Png,
    Jpeg,
    WebP,
    Tiff,
    Avif,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Png => Self::Png,
            OutputFormat::Jpeg => Self::Jpeg,
            OutputFormat::WebP => Self::WebP,
            OutputFormat::Tiff => Self::Tiff,
            OutputFormat::Avif => Self::Avif,
        }
    }
}

/// Where a task's picture is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    /// In the task's own folder.
    Stored,
    /// To be fetched by the worker.
    Url(String),
}

/// What a picture's header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFacts {
    pub width: u32,
    pub height: u32,
    pub media_type: String,
    pub bytes: u64,
}

impl SourceFacts {
    pub fn new(header: &Header, bytes: u64) -> Self {
        let media_type = header.format.media_type().to_owned();
        Self { width: header.width, height: header.height, media_type, bytes }
    }
}

/// What came out of a task, as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The file's name in the task's folder.
    pub file: String,
    pub extension: String,
    pub media_type: String,
    pub width: u32,
    pub height: u32,
    pub bytes: u64,
    pub source: SourceFacts,
    /// What was invented; tasks of earlier versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invention: Option<Invented>,
    /// Seconds by stage.
    pub timings: serde_json::Value,
    /// Sentences about the picture.
    pub notes: Vec<String>,
}

/// How far a result departs from its source, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invented {
    /// Mean absolute difference, 0..=1.
    pub share: f64,
    /// The attempt whose map is kept.
    pub attempt: u32,
}

/// How large pictures and results may be here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Terms {
    max_bytes: u64,
    max_pixels: u64,
    /// Of results of our own API; 0 is no limit.
    max_result_megapixels: u64,
    /// Whether this machine computes what it accepts, so that its memory is a limit.
    own_memory: bool,
}

impl Terms {
    pub fn of(config: &Config) -> Self {
        Self {
            max_bytes: config.max_upload_mb << 20,
            max_pixels: config.max_source_megapixels * 1_000_000,
            max_result_megapixels: config.max_result_megapixels,
            own_memory: config.role != Role::Api,
        }
    }

    /// Limits of source pictures.
    pub fn limits(&self) -> Limits {
        Limits { max_bytes: self.max_bytes, max_pixels: self.max_pixels, ..Limits::default() }
    }
}

/// Limits of source pictures.
pub(crate) fn limits(config: &Config) -> Limits {
    Terms::of(config).limits()
}

/// Why a result would be too large, if it would.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TooLarge {
    pub reason: String,
    pub hint: String,
}

/// Holds the size of a result against what its endpoint permits: the vendors' limits on their routes, the configured one and
/// this machine's memory on our own. `whole` is the size of the picture, from which the request may take a part.
pub(crate) fn check_size(
    terms: &Terms,
    endpoint: &str,
    request: &Request,
    whole: (u32, u32),
    estimate: &Estimate,
) -> Result<(), TooLarge> {
    let (width, height) = (estimate.output_width, estimate.output_height);
    if endpoint != kind::CONSOLE {
        let from = request.crop.map_or(whole, |crop| (crop.width, crop.height));
        return check_result(&request.look, from, (width, height));
    }
    let refused = |why: String| {
        let reason = format!("would give {width} x {height} pixels, {why}");
        Err(TooLarge { reason, hint: "choose a smaller factor".to_owned() })
    };
    let limit = terms.max_result_megapixels;
    if limit > 0 && u64::from(width) * u64::from(height) > limit.saturating_mul(1_000_000) {
        return refused(format!("more than the limit of {limit} million pixels"));
    }
    let memory = Memory::now().total;
    if terms.own_memory && estimate.bytes > memory {
        let mb = |bytes: u64| bytes >> 20;
        return refused(format!("which takes {} MB of memory of the {} MB there are", mb(estimate.bytes), mb(memory)));
    }
    Ok(())
}

/// Holds the size of a result against what the vendors permit in its mode. `source` is the size that is enlarged, crop included.
fn check_result(look: &Look, source: (u32, u32), result: (u32, u32)) -> Result<(), TooLarge> {
    let ((w, h), (width, height)) = (source, result);
    let (fits, limit, largest) = match look {
        Look::Creative(_) => {
            let fits = u64::from(width) * u64::from(height) <= CREATIVE_TOLERATED;
            let largest = (CREATIVE_TOLERATED as f64 / (f64::from(w) * f64::from(h))).sqrt();
            (fits, "25.3 million pixels".to_owned(), largest)
        }
        Look::Precision(_) => {
            let largest = f64::from(PRECISION_SIDE) / f64::from(w.max(h));
            (width.max(height) <= PRECISION_SIDE, format!("{PRECISION_SIDE} pixels on a side"), largest)
        }
    };
    if fits {
        return Ok(());
    }
    let reason = format!("would give {width} x {height} pixels, more than the limit of {limit}");
    let hint = if largest >= 2.0 {
        format!("the largest whole factor for this picture is {}", largest.floor())
    } else {
        "make the picture smaller first".to_owned()
    };
    Err(TooLarge { reason, hint })
}

/// A picture that cannot be used, said of the field `image`.
pub(crate) fn bad_picture(error: &ImageError) -> ApiError {
    let refused = ApiError::field("image", format!("cannot be used: {error}"));
    ApiError { hint: error.hint().map(Into::into), ..refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_creative_limit_gives_half_a_percent_to_clients_that_round_up() {
        let look = Look::Creative(enlarger_pipeline::Creative::default());
        let fits = |width: u32, height: u32| check_result(&look, (width / 2, height / 2), (width, height));
        // What ComfyUI once made of 25.3 million pixels is 25,302,576.
        for (width, height) in [(4264, 5934), (5030, 5030), (5042, 5042), (6000, 4237)] {
            assert_eq!(fits(width, height), Ok(()), "{width} x {height}");
        }
        for (width, height) in [(5043, 5043), (6000, 4240), (10_060, 10_060)] {
            let refused = fits(width, height).expect_err("too large");
            assert!(refused.reason.contains("25.3 million pixels"), "{}", refused.reason);
        }
    }
}
