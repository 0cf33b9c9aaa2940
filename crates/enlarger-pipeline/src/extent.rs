//! Sizes of pictures.

use serde::{Deserialize, Serialize};

use crate::request::Crop;

/// Pixels around a picture that networks see. Without them flat colours are off by up to 105/255 at its border; with 4 by as
/// much as inside, and with 6 or 10 no less.
pub(crate) const MARGIN: u32 = 4;

/// A width and a height in pixels, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl Extent {
    /// Pixels in all.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Pixels that a network computes for a picture of this size.
    pub(crate) fn computed(self) -> u64 {
        (u64::from(self.width) + 2 * u64::from(MARGIN)) * (u64::from(self.height) + 2 * u64::from(MARGIN))
    }

    pub(crate) fn times(self, factor: u32) -> Self {
        Self { width: self.width * factor, height: self.height * factor }
    }
}

impl From<Crop> for Extent {
    fn from(part: Crop) -> Self {
        Self { width: part.width, height: part.height }
    }
}
