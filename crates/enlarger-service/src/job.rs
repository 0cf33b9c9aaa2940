//! What is stored with a task: the request in our own terms, where its picture is, and what came out.

use enlarger_image::{Format, Header, Limits};
use enlarger_pipeline::{Estimate, Memory, Request, Style};
use enlarger_tasks::Task;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Declares the kinds of tasks: a name, its text, and whose limits apply to results.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $text:literal, $limits:ident;)+) => {
        /// The endpoint that a task came by; lists filter on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// As stored, and as on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $text,)+
                }
            }

            const fn limits(self) -> ResultLimits {
                match self {
                    $(Self::$kind => ResultLimits::$limits,)+
                }
            }
        }
    };
}

kinds! {
    /// Magnific's creative upscaler.
    Creative = "creative", Vendor;
    /// Magnific's precision upscaler.
    PrecisionV1 = "precision-v1", Vendor;
    /// Its second version, which Comfy's router also runs.
    PrecisionV2 = "precision-v2", Vendor;
    /// Our own API.
    Console = "console", Own;
}

impl Kind {
    /// The kind of a stored task; `None` if only another version of this program knows it.
    pub fn of(task: &Task) -> Option<Self> {
        Self::parse(&task.kind)
    }

    /// The kind with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

/// Whose limits apply to the size of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResultLimits {
    /// The vendor of the API, in its mode.
    Vendor,
    /// The operator and the machine.
    Own,
}

/// Creative: "the resulted image can't exceed maximum allowed size of 25.3 million pixels".
pub const CREATIVE_PIXELS: u64 = 25_300_000;
/// Clients that fit a picture to that size round its sides up, so half a percent more is accepted.
const CREATIVE_TOLERATED: u64 = CREATIVE_PIXELS + CREATIVE_PIXELS / 200;
/// Precision: no side of the result is longer, in pixels.
pub const PRECISION_SIDE: u32 = 10_060;

/// A task's request as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// What to do to the pixels.
    pub request: Request,
    /// The file to make of them.
    #[serde(default)]
    pub output: OutputFile,
    /// The base URL by which the client reached us: URLs in webhooks begin with it.
    pub base: String,
    /// The picture's name, for file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is known of the source at submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// Estimated seconds of processing.
    pub estimate_seconds: f64,
    /// Whether to refuse sexually explicit images.
    #[serde(default)]
    pub filter_nsfw: bool,
}

/// The file that is made.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct OutputFile {
    /// PNG by default.
    pub format: Option<OutputFormat>,
    /// 1..=100, for lossy formats.
    pub quality: Option<u8>,
    /// Pixels per inch, instead of the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpi: Option<f32>,
}

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    WebP,
    /// TIFF.
    Tiff,
    /// AVIF.
    Avif,
}

impl OutputFormat {
    /// As stored, and as on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
            Self::Tiff => "tiff",
            Self::Avif => "avif",
        }
    }
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
pub enum Input {
    /// In the task's own folder.
    Stored,
    /// To be fetched by the worker.
    Url(String),
}

/// What a picture's header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What the file is.
    pub media_type: String,
    /// How large it is.
    pub bytes: u64,
}

impl SourceInfo {
    /// Those of a file of so many bytes.
    pub fn new(header: &Header, bytes: u64) -> Self {
        let media_type = header.format.media_type().to_owned();
        Self { width: header.width, height: header.height, media_type, bytes }
    }
}

/// What came out of a task, as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// The file's name in the task's folder.
    pub file: String,
    /// The usual file extension.
    pub extension: String,
    /// What the file is.
    pub media_type: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How large the file is.
    pub bytes: u64,
    /// What it was made of.
    pub source: SourceInfo,
    /// The deviation from the source; tasks of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invention: Option<Difference>,
    /// What networks ran on; tasks of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Seconds by stage.
    pub timings: serde_json::Value,
    /// Sentences about the picture.
    pub notes: Vec<String>,
}

/// How far a result deviates from its source, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean absolute difference, 0..=1.
    pub share: f64,
    /// The attempt whose map is kept.
    pub attempt: u32,
}

/// How large pictures and results may be here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Terms {
    /// Bytes of a source.
    pub max_bytes: u64,
    /// Pixels of a source.
    pub max_pixels: u64,
    /// Of results of our own API; 0 is no limit.
    pub max_result_megapixels: u64,
    /// Whether this machine computes what it accepts, so that its memory is a limit.
    pub own_memory: bool,
}

impl Terms {
    /// Limits of source pictures.
    pub fn limits(&self) -> Limits {
        Limits { max_bytes: self.max_bytes, max_pixels: self.max_pixels, ..Limits::default() }
    }
}

/// Why a result would be too large, if it would.
#[derive(Debug, Clone, PartialEq)]
pub struct TooLarge {
    /// Why, without a subject: "would give …".
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

/// Checks the size of a result against the limits of its endpoint: the vendors' limits on their routes, the configured
/// one and this machine's memory on our own. `whole` is the size of the picture, from which the request may take a
/// part.
pub fn check_size(
    terms: &Terms,
    kind: Kind,
    request: &Request,
    whole: (u32, u32),
    estimate: &Estimate,
) -> Result<(), TooLarge> {
    let (width, height) = (estimate.output_width, estimate.output_height);
    if kind.limits() == ResultLimits::Vendor {
        let from = request.crop.map_or(whole, |crop| (crop.width, crop.height));
        return check_result(&request.style, from, (width, height));
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
        return refused(format!(
            "which needs {} MB of memory, but this machine has {} \
            MB",
            mb(estimate.bytes),
            mb(memory)
        ));
    }
    Ok(())
}

/// Checks the size of a result against the vendors' limits for its mode. `source` is the size that is enlarged, crop
/// included.
fn check_result(style: &Style, source: (u32, u32), result: (u32, u32)) -> Result<(), TooLarge> {
    let ((w, h), (width, height)) = (source, result);
    let (fits, limit, largest) = match style {
        Style::Creative(_) => {
            let fits = u64::from(width) * u64::from(height) <= CREATIVE_TOLERATED;
            let largest = (CREATIVE_TOLERATED as f64 / (f64::from(w) * f64::from(h))).sqrt();
            (fits, "25.3 million pixels".to_owned(), largest)
        }
        Style::Precision(_) => {
            let largest = f64::from(PRECISION_SIDE) / f64::from(w.max(h));
            (width.max(height) <= PRECISION_SIDE, format!("{PRECISION_SIDE} pixels on a side"), largest)
        }
    };
    if fits {
        return Ok(());
    }
    let reason = format!("would give {width} x {height} pixels, more than the limit of {limit}");
    let hint = if largest >= 2.0 {
        format!("the largest whole factor for this image is {}", largest.floor())
    } else {
        "downscale the image first".to_owned()
    };
    Err(TooLarge { reason, hint })
}

impl Job {
    /// The stored request of a task.
    ///
    /// # Errors
    /// If another version stored it in a form that this one cannot read.
    pub fn of(task: &Task) -> Result<Self, Error> {
        serde_json::from_value(task.request.clone()).map_err(Error::internal)
    }
}

impl Made {
    /// A task's result, once there is one.
    ///
    /// # Errors
    /// As [`Job::of`].
    pub fn of(task: &Task) -> Result<Option<Self>, Error> {
        task.result.clone().map(serde_json::from_value).transpose().map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_stored_under_the_names_that_they_have_always_had() {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names, ["creative", "precision-v1", "precision-v2", "console"]);
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
        assert_eq!(Kind::parse("precision-v3"), None);
    }

    #[test]
    fn the_creative_limit_gives_half_a_percent_to_clients_that_round_up() {
        let style = Style::Creative(enlarger_pipeline::Creative::default());
        let fits = |width: u32, height: u32| check_result(&style, (width / 2, height / 2), (width, height));
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
