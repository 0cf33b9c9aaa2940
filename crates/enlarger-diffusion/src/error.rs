//! Why a checkpoint could not be read or run.

use std::borrow::Cow;

use enlarger_error::Explained;
pub(crate) use enlarger_error::shortened;
use enlarger_nn::NnError;

/// Errors of this crate. Each is a sentence that a person can act on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, is truncated, or its header is damaged.
    #[error("{0}")]
    File(String),
    /// The file is of a kind that is not supported, or that does not fit here; says what would.
    #[error("{0}")]
    Unsupported(String),
    /// An array is missing or has another shape than the network needs.
    #[error("the weights do not fit the network: {0}")]
    Weights(String),
    /// A request cannot be carried out as it stands.
    #[error("{0}")]
    Request(String),
    /// There is not enough memory for an array.
    #[error("there is not enough memory: {} MB more are needed", bytes.div_ceil(1 << 20))]
    Memory {
        /// What could not be allocated.
        bytes: usize,
    },
    /// A GPU failed, or has too little memory.
    #[error("{0}")]
    Device(String),
    /// A result is not a number: damaged weights, or an overflow.
    #[error("{0} gave values that are not numbers; the weights may be damaged")]
    NotANumber(String),
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

impl Explained for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::File(_) => "checkpoint_unreadable",
            Self::Unsupported(_) => "checkpoint_unsupported",
            Self::Weights(_) => "checkpoint_weights",
            Self::Request(_) => "request",
            Self::Memory { .. } => "memory",
            Self::Device(_) => "network_gpu",
            Self::NotANumber(_) => "not_a_number",
            Self::Cancelled => "cancelled",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::File(_) => Some("copy or download the file again".into()),
            Self::NotANumber(_) => Some("copy or download the file again, or use another".into()),
            Self::Memory { .. } => Some("use a smaller image or checkpoint, or close other programs".into()),
            Self::Device(_) => Some("use the CPU with --gpu none".into()),
            _ => None,
        }
    }
}

impl From<NnError> for Error {
    fn from(error: NnError) -> Self {
        match error {
            NnError::Memory { bytes } => Self::Memory { bytes },
            NnError::Device(why) => Self::Device(why),
            NnError::DeviceMemory { .. } => Self::Device(error.to_string()),
            other => Self::Weights(other.to_string()),
        }
    }
}

/// Of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Room for `length` values, or an error where memory is short.
pub(crate) fn reserved<T>(length: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = length.saturating_mul(size_of::<T>());
    values.try_reserve_exact(length).map_err(|_| Error::Memory { bytes })?;
    Ok(values)
}

/// As many zeros.
pub(crate) fn zeros(length: usize) -> Result<Vec<f32>> {
    let mut values = reserved(length)?;
    values.resize(length, 0.0);
    Ok(values)
}

/// Values, or an error where there is no memory for them.
pub(crate) fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = reserved(values.len())?;
    all.extend(values);
    Ok(all)
}
