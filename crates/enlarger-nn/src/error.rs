//! Why a network could not be read or run.

use std::borrow::Cow;

use enlarger_error::Explained;
pub(crate) use enlarger_error::shortened;

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NnError {
    /// The weights are not what the architecture needs.
    #[error("the weights do not fit the model: {0}")]
    Weights(String),
    /// The file is not a known or an allowed kind of weights.
    #[error("{0}")]
    Format(String),
    /// The network is of a kind that is not supported.
    #[error("{0}")]
    Architecture(String),
    /// This machine lacks the device or precision that was asked for.
    #[error("this machine does not support {0}")]
    Backend(String),
    /// There is not enough memory for weights or feature maps.
    #[error("not enough memory for the model's feature maps: {} MB more needed", bytes.div_ceil(1 << 20))]
    Memory {
        /// What could not be allocated.
        bytes: usize,
    },
    /// No GPU has the name or address that was asked for.
    #[error("no GPU of this machine matches {asked:?}; {}", listed(there, lacks))]
    NoGpu {
        /// What was asked for.
        asked: String,
        /// The names and addresses of those there are.
        there: Vec<String>,
        /// What keeps drivers from offering more.
        lacks: Vec<String>,
    },
    /// Several GPUs have the name that was asked for.
    #[error("{} GPUs of this machine match {asked:?}: {}", there.len(), there.join("; "))]
    ManyGpus {
        /// What was asked for.
        asked: String,
        /// Their names and addresses.
        there: Vec<String>,
    },
    /// A GPU failed. What it computed before is right.
    #[error("the GPU failed: {0}")]
    Device(String),
    /// A GPU's memory, or what of it may be used, is too little for a model.
    #[error("the model needs {} MB of the GPU's memory, and {} MB may be used", needed.div_ceil(1 << 20), budget >> 20)]
    DeviceMemory {
        /// Bytes for the narrowest strip.
        needed: u64,
        /// Bytes that may be used.
        budget: u64,
    },
    /// The system cannot start more threads, usually for lack of memory.
    #[error("not enough memory for {count} threads: {reason}")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// In the system's words.
        reason: String,
    },
    /// Stopped from outside.
    #[error("cancelled")]
    Cancelled,
}

fn listed(gpus: &[String], lacks: &[String]) -> String {
    if gpus.is_empty() {
        [&["no driver offers one".to_owned()], lacks].concat().join("; ")
    } else {
        format!("there are: {}", gpus.join("; "))
    }
}

impl Explained for NnError {
    fn code(&self) -> &'static str {
        match self {
            Self::Weights(_) => "network_weights",
            Self::Format(_) => "network_format",
            Self::Architecture(_) => "network_architecture",
            Self::Backend(_) => "network_device",
            Self::NoGpu { .. } | Self::ManyGpus { .. } => "network_no_gpu",
            Self::Device(_) => "network_gpu",
            Self::DeviceMemory { .. } => "network_gpu_memory",
            Self::Memory { .. } => "network_memory",
            Self::Threads { .. } => "network_threads",
            Self::Cancelled => "cancelled",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Memory { .. } => {
                Some("close other programs; on the command line, a smaller --strip-width needs less memory".into())
            }
            Self::DeviceMemory { needed, .. } => Some(
                format!("allow it with --gpu-memory {}, or use the CPU with --gpu none", needed.div_ceil(1 << 20))
                    .into(),
            ),
            Self::NoGpu { .. } => {
                Some("`enlarger doctor` lists them; `auto` lets the program choose, and `none` is the CPU".into())
            }
            Self::ManyGpus { .. } => {
                Some("name one by its address or its whole name, or use all with --gpu all".into())
            }
            Self::Device(_) => Some("use the CPU with --gpu none".into()),
            Self::Threads { .. } => Some("use fewer threads, or close other programs".into()),
            _ => None,
        }
    }
}
