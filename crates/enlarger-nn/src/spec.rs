//! What networks there are.

use serde::{Deserialize, Serialize};

/// A network's architecture with its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Architecture {
    /// Residual in residual dense blocks (Wang et al. 2018, ESRGAN); 2x and 1x networks unshuffle pixels first.
    RrdbNet {
        /// 1, 2 or 4.
        scale: u32,
        /// Channels of the picture, before unshuffling.
        channels_in: usize,
        /// Channels of the result.
        channels_out: usize,
        /// Channels of the trunk.
        features: usize,
        /// Residual in residual blocks.
        blocks: usize,
        /// Channels that each dense convolution adds.
        growth: usize,
    },
    /// A plain stack of convolutions with pixel shuffle (SRVGGNetCompact, Wang et al. 2021).
    Compact {
        /// Any whole factor.
        scale: u32,
        /// Channels of the picture.
        channels_in: usize,
        /// Channels of the result.
        channels_out: usize,
        /// Channels between the convolutions.
        features: usize,
        /// Convolutions between the first and the last.
        convs: usize,
        /// What follows each convolution but the last.
        activation: Activation,
    },
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// A learned slope per channel.
    Prelu,
    /// max(x, 0).
    Relu,
    /// x or 0.1 x.
    LeakyRelu,
}

impl Architecture {
    /// How many times as wide and high the result is.
    pub fn scale(&self) -> u32 {
        match *self {
            Self::RrdbNet { scale, .. } | Self::Compact { scale, .. } => scale,
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RrdbNet { scale, features, blocks, growth, .. } => {
                write!(f, "RRDBNet {scale}x, {blocks} blocks, {features} features, growth {growth}")
            }
            Self::Compact { scale, features, convs, .. } => {
                write!(f, "Compact {scale}x, {convs} convolutions, {features} features")
            }
        }
    }
}
