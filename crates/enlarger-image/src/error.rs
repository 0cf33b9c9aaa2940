//! What can go wrong between bytes and pixels.

use std::borrow::Cow;

use enlarger_error::Explained;

use crate::Format;

/// What can go wrong between bytes and pixels: one sentence each, for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// The signature is unknown.
    #[error("this is not an image in a supported format")]
    Unknown,
    /// The signature is known, but the format is not supported.
    #[error("this is {what}, which is not supported")]
    Unreadable {
        /// With its article: "a PDF document".
        what: &'static str,
    },
    /// The format is supported, this variety of it is not.
    #[error("this {} file has {what}, which is not supported", .format.name())]
    Unsupported {
        /// The file's format.
        format: Format,
        /// What it has.
        what: String,
    },
    /// The file ends before the picture does.
    #[error("the {} file is truncated", .format.name())]
    Truncated {
        /// The file's format.
        format: Format,
    },
    /// The file contradicts its format.
    #[error("the {} file is damaged: {reason}", .format.name())]
    Broken {
        /// The file's format.
        format: Format,
        /// What is wrong.
        reason: String,
    },
    /// Too many bytes.
    #[error("the file is {bytes} bytes long; the limit is {limit}")]
    TooManyBytes {
        /// Bytes of the file.
        bytes: u64,
        /// [`crate::Limits::max_bytes`].
        limit: u64,
    },
    /// Too many pixels.
    #[error("the image has {width} x {height} pixels, more than the limit of {limit} in total")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`crate::Limits::max_pixels`].
        limit: u64,
    },
    /// A side is too long.
    #[error("the image has {width} x {height} pixels; the longest side allowed is {limit}")]
    SideTooLong {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`crate::Limits::max_side`].
        limit: u32,
    },
    /// Profile or metadata is larger than the limit, maybe only once inflated.
    #[error("the image's {what} is larger than the limit of {limit} bytes")]
    MetadataTooLarge {
        /// "ICC profile", "EXIF", "XMP".
        what: &'static str,
        /// [`crate::Limits::max_metadata`].
        limit: usize,
    },
    /// Too many frames.
    #[error("the animation has more frames than the limit of {limit}")]
    TooManyFrames {
        /// [`crate::Limits::max_frames`].
        limit: u32,
    },
    /// Cancelled: see [`crate::decode_unless`].
    #[error("cancelled")]
    Cancelled,
    /// There is not enough memory for the pixels.
    #[error("not enough memory for the image: {} MB more needed", bytes.div_ceil(1 << 20))]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The format is only read.
    #[error("writing {} files is not supported", .format.name())]
    CannotEncode {
        /// The format asked for.
        format: Format,
    },
    /// The picture does not fit into the format asked for.
    #[error("the image has {width} x {height} pixels; a {} file allows at most {} per \
        side", .format.name(), .format.max_side())]
    TooLargeForFormat {
        /// The format asked for.
        format: Format,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The encoder gave up.
    #[error("the image cannot be written as {}: {reason}", .format.name())]
    Encoder {
        /// The format asked for.
        format: Format,
        /// In the encoder's words.
        reason: String,
    },
    /// The result could not be written.
    #[error("the image cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

impl Explained for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "image_empty",
            Self::Unknown => "image_unknown_format",
            Self::Unreadable { .. } | Self::Unsupported { .. } => "image_unsupported",
            Self::Truncated { .. } => "image_truncated",
            Self::Broken { .. } => "image_broken",
            Self::TooManyBytes { .. } => "image_too_many_bytes",
            Self::TooManyPixels { .. } | Self::SideTooLong { .. } => "image_too_many_pixels",
            Self::MetadataTooLarge { .. } => "image_metadata_too_large",
            Self::TooManyFrames { .. } => "image_too_many_frames",
            Self::Cancelled => "cancelled",
            Self::OutOfMemory { .. } => "image_out_of_memory",
            Self::CannotEncode { .. } => "format_not_written",
            Self::TooLargeForFormat { .. } => "format_too_small",
            Self::Encoder { .. } => "encoder_failed",
            Self::Io(_) => "write_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::Empty => "send an image",
            Self::Unknown => "supported formats: PNG, JPEG, WebP, TIFF, BMP and GIF",
            Self::Unreadable { .. } => "convert it to PNG, JPEG, WebP or TIFF first",
            Self::Unsupported { .. } => "save it as an ordinary PNG, JPEG or TIFF first",
            Self::Truncated { .. } => "copy or export the file again",
            Self::Broken { .. } => "open it in an image editor and save it again",
            Self::TooManyBytes { .. } | Self::TooManyPixels { .. } | Self::SideTooLong { .. } => {
                "downscale the image, or split it into parts"
            }
            Self::MetadataTooLarge { .. } => "save the image without its profile and metadata",
            Self::TooManyFrames { .. } => "save its first frame as an image of its own",
            Self::Cancelled => return None,
            Self::OutOfMemory { .. } => "use a smaller image or a machine with more memory",
            Self::CannotEncode { .. } => "use PNG, JPEG, WebP, TIFF or AVIF",
            Self::TooLargeForFormat { .. } => "use PNG or TIFF, or choose a smaller size",
            Self::Encoder { .. } => "use PNG",
            Self::Io(_) => "check the disk space and permissions",
        };
        Some(hint.into())
    }
}
