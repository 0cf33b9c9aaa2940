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
    /// The signature is none that we know.
    #[error("this is not a picture in any format that can be read")]
    Unknown,
    /// The signature is known, the format is not read.
    #[error("this is {what}, which cannot be read")]
    Unreadable {
        /// With its article: "a PDF document".
        what: &'static str,
    },
    /// The format is read, this variety of it is not.
    #[error("this {} file has {what}, which cannot be read", .format.name())]
    Unsupported {
        /// The file's format.
        format: Format,
        /// What it has.
        what: String,
    },
    /// The file ends before the picture does.
    #[error("the {} file ends too early: it was cut off", .format.name())]
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
    #[error("the file has {bytes} bytes, more than the limit of {limit}")]
    TooManyBytes {
        /// Bytes of the file.
        bytes: u64,
        /// [`crate::Limits::max_bytes`].
        limit: u64,
    },
    /// Too many pixels.
    #[error("the picture is {width} x {height} pixels, more than the limit of {limit} in all")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`crate::Limits::max_pixels`].
        limit: u64,
    },
    /// A side is too long.
    #[error("the picture is {width} x {height} pixels, and no side may be longer than {limit}")]
    SideTooLong {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`crate::Limits::max_side`].
        limit: u32,
    },
    /// Profile or metadata is larger than the limit, maybe only once inflated.
    #[error("the picture's {what} is larger than the limit of {limit} bytes")]
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
    /// Somebody asked for it: see [`crate::decode_unless`].
    #[error("cancelled")]
    Cancelled,
    /// The machine has not enough memory for the pixels.
    #[error("there is not enough memory for a picture: {} MB more are needed", bytes.div_ceil(1 << 20))]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The format is only read.
    #[error("{} files cannot be written", .format.name())]
    CannotEncode {
        /// The format asked for.
        format: Format,
    },
    /// The picture does not fit into the format asked for.
    #[error("the picture is {width} x {height} pixels, and a {} file holds at most {} on a side", .format.name(), .format.max_side())]
    TooLargeForFormat {
        /// The format asked for.
        format: Format,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The encoder gave up.
    #[error("the picture cannot be written as {}: {reason}", .format.name())]
    Encoder {
        /// The format asked for.
        format: Format,
        /// In the encoder's words.
        reason: String,
    },
    /// The result could not be written.
    #[error("the picture cannot be written: {0}")]
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
            Self::Empty => "send the bytes of a picture",
            Self::Unknown => "PNG, JPEG, WebP, TIFF, BMP and GIF can be read",
            Self::Unreadable { .. } => "convert it to PNG, JPEG, WebP or TIFF first",
            Self::Unsupported { .. } => "save it as an ordinary PNG, JPEG or TIFF first",
            Self::Truncated { .. } => "transfer or save the file again",
            Self::Broken { .. } => "open it in an image editor and save it again",
            Self::TooManyBytes { .. } | Self::TooManyPixels { .. } | Self::SideTooLong { .. } => {
                "make the picture smaller, or cut it into parts"
            }
            Self::MetadataTooLarge { .. } => "save the picture without its profile and metadata",
            Self::TooManyFrames { .. } => "save its first frame as a picture of its own",
            Self::Cancelled => return None,
            Self::OutOfMemory { .. } => "use a smaller picture or a machine with more memory",
            Self::CannotEncode { .. } => "ask for PNG, JPEG, WebP, TIFF or AVIF",
            Self::TooLargeForFormat { .. } => "ask for PNG or TIFF, or for a smaller result",
            Self::Encoder { .. } => "ask for PNG",
            Self::Io(_) => "check the disk's space and permissions",
        };
        Some(hint.into())
    }
}
