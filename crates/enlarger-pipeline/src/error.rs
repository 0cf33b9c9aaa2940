//! Why a job could not be done, in sentences.

use std::borrow::Cow;

use enlarger_error::Explained;
use enlarger_image::ImageError;
use enlarger_models::ModelError;
use enlarger_nn::NnError;

/// Every way in which a job ends without a picture.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The picture could not be read or written.
    #[error(transparent)]
    Image(ImageError),
    /// A model is missing or damaged.
    #[error(transparent)]
    Model(ModelError),
    /// A network could not run.
    #[error(transparent)]
    Network(NnError),
    /// The request does not fit the picture.
    #[error("{what}")]
    Request {
        /// The sentence.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The job needs more memory than there is.
    #[error("this needs about {need_mb} MB of memory, but only {have_mb} MB is available")]
    Memory {
        /// Estimated need in megabytes.
        need_mb: u64,
        /// Available megabytes.
        have_mb: u64,
    },
    /// The generative engine could not read or run its files.
    #[error("{what}")]
    Generative {
        /// The sentence.
        what: String,
        /// What to do instead.
        hint: String,
        /// What the engine said.
        error: enlarger_diffusion::Error,
    },
    /// Another program that was to draw did not.
    #[error("{error}{place}")]
    Remote {
        /// The tile, if it was at one, and the program's address for those who may know: ", in tile 2 of 5 (http://127.0.0.1:8188)".
        place: String,
        /// What happened.
        error: enlarger_comfyui::Error,
    },
    /// The generative engine needs more memory than there is.
    #[error("the generative engine needs about {need_mb} MB of memory, but only {have_mb} MB is available")]
    GenerativeMemory {
        /// Estimated need in megabytes.
        need_mb: u64,
        /// Available megabytes.
        have_mb: u64,
        /// What would fit.
        hint: String,
    },
    /// What is wrong with one part of the request.
    #[error("{error}")]
    In {
        /// That part.
        part: Part,
        /// What is wrong.
        error: Box<Self>,
    },
    /// What is wrong with what the operator chose to draw with.
    #[error("{error}")]
    Configured {
        /// What is wrong.
        error: Box<Self>,
    },
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

/// Parts of a request that an error may be about. Each API has its own names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The model.
    Model,
    /// The prompt, with its weights and LoRAs.
    Prompt,
    /// The generative engine's checkpoint.
    Checkpoint,
    /// Its ControlNet.
    Control,
    /// Its VAE.
    Vae,
    /// Its LoRAs, but for those in prompts.
    Loras,
    /// The negative prompt.
    Negative,
    /// Its steps.
    Steps,
    /// Its guidance.
    Guidance,
    /// Layers of the text encoder that are left out.
    ClipSkip,
    /// Areas that stay as they are.
    Keep,
}

/// Says which part of the request an error is about.
pub(crate) trait InPart<T> {
    fn in_part(self, part: Part) -> Result<T, PipelineError>;
}

impl<T, E: Into<PipelineError>> InPart<T> for Result<T, E> {
    fn in_part(self, part: Part) -> Result<T, PipelineError> {
        self.map_err(|error| match error.into() {
            error @ (PipelineError::Cancelled | PipelineError::In { .. }) => error,
            error => PipelineError::In { part, error: Box::new(error) },
        })
    }
}

impl From<enlarger_diffusion::Error> for PipelineError {
    fn from(error: enlarger_diffusion::Error) -> Self {
        if error == enlarger_diffusion::Error::Cancelled {
            return Self::Cancelled;
        }
        // Its sentences end with what would do, where that depends on the file.
        let said = error.to_string();
        let (what, hint) = match said.split_once("hint: ") {
            Some((what, hint)) => (what.trim_end_matches([' ', ';', ':']).to_owned(), hint.to_owned()),
            None => (said, error.hint().map_or_else(|| SCAN.to_owned(), Cow::into_owned)),
        };
        Self::Generative { what, hint, error }
    }
}

impl From<enlarger_comfyui::Error> for PipelineError {
    fn from(error: enlarger_comfyui::Error) -> Self {
        if error == enlarger_comfyui::Error::Cancelled {
            Self::Cancelled
        } else {
            Self::Remote { place: String::new(), error }
        }
    }
}

const SCAN: &str = "`enlarger models scan` shows which files there are, and which go together";

impl From<ModelError> for PipelineError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Cancelled => Self::Cancelled,
            other => Self::Model(other),
        }
    }
}

impl From<ImageError> for PipelineError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Cancelled => Self::Cancelled,
            other => Self::Image(other),
        }
    }
}

impl From<NnError> for PipelineError {
    fn from(error: NnError) -> Self {
        match error {
            NnError::Cancelled => Self::Cancelled,
            other => Self::Network(other),
        }
    }
}

impl PipelineError {
    /// Adds where it happened, if it happened to another program.
    pub(crate) fn at_place(self, more: &str) -> Self {
        match self {
            Self::Remote { place, error } => Self::Remote { place: place + more, error },
            other => other,
        }
    }

    /// Whether somebody stopped it.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// The part of the request that it is about, if it is one.
    pub fn part(&self) -> Option<Part> {
        match self {
            Self::In { part, .. } => Some(*part),
            Self::Model(_) => Some(Part::Model),
            _ => None,
        }
    }

    /// Whether it is the fault of what draws, files or a program, which the operator chose, and not of a request.
    pub fn is_the_generators(&self) -> bool {
        match self {
            Self::Configured { .. } => true,
            Self::Remote { error, .. } => !matches!(error, enlarger_comfyui::Error::Choice { .. }),
            _ => false,
        }
    }

    /// Whether the same job may succeed on another try or machine.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::In { error, .. } | Self::Configured { error } => error.is_retryable(),
            Self::Remote { error, .. } => error.is_retryable(),
            Self::Memory { .. }
            | Self::GenerativeMemory { .. }
            | Self::Generative { error: enlarger_diffusion::Error::Memory { .. }, .. }
            | Self::Network(NnError::Memory { .. })
            | Self::Image(ImageError::OutOfMemory { .. }) => true,
            _ => false,
        }
    }
}

impl Explained for PipelineError {
    fn code(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Model(_) => "model",
            Self::Network(_) => "network",
            Self::Request { .. } => "request",
            Self::Generative { .. } => "generative",
            Self::Remote { .. } => "generator",
            Self::Memory { .. } | Self::GenerativeMemory { .. } => "memory",
            Self::In { error, .. } | Self::Configured { error } => error.code(),
            Self::Cancelled => "cancelled",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Request { hint, .. } | Self::Generative { hint, .. } | Self::GenerativeMemory { hint, .. } => {
                Some(hint.into())
            }
            Self::In { error, .. } | Self::Configured { error } => error.hint(),
            Self::Memory { .. } => Some("choose a smaller scale or a smaller image, or close other programs".into()),
            _ => self.inner()?.hint(),
        }
    }

    fn inner(&self) -> Option<&dyn Explained> {
        match self {
            Self::Image(error) => Some(error),
            Self::Model(error) => Some(error),
            Self::Network(error) => Some(error),
            Self::Generative { error, .. } => Some(error),
            Self::In { error, .. } | Self::Configured { error } => error.inner(),
            Self::Remote { error, .. } => Some(error),
            Self::Request { .. } | Self::Memory { .. } | Self::GenerativeMemory { .. } | Self::Cancelled => None,
        }
    }
}
