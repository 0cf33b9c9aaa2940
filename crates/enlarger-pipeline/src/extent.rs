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

impl Crop {
    /// Whether it is a part of a picture of this size.
    pub(crate) fn lies_in(self, whole: Extent) -> bool {
        let fits = |start: u32, length: u32, side: u32| {
            length >= 1 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        fits(self.x, self.width, whole.width) && fits(self.y, self.height, whole.height)
    }

    /// What of it lies in a part of the same picture, counted from that part's corner.
    pub(crate) fn within(self, part: Self) -> Option<Self> {
        let side = |start: u32, length: u32, from: u32, whole: u32| {
            let (first, end) = (start.max(from), (start + length).min(from + whole));
            (first < end).then(|| (first - from, end - first))
        };
        let (x, width) = side(self.x, self.width, part.x, part.width)?;
        let (y, height) = side(self.y, self.height, part.y, part.height)?;
        Some(Self { x, y, width, height })
    }

    /// Where a part of one picture lies in another of the same view.
    pub(crate) fn scaled(self, from: Extent, to: Extent) -> Self {
        let side = |start: u32, length: u32, from: u32, to: u32| {
            let at = |place: u32| (u64::from(place) * u64::from(to) / u64::from(from)) as u32;
            let (first, end) = (at(start), at(start + length));
            (first, (end - first).max(1))
        };
        let (x, width) = side(self.x, self.width, from.width, to.width);
        let (y, height) = side(self.y, self.height, from.height, to.height);
        Self { x: x.min(to.width - 1), y: y.min(to.height - 1), width, height }
    }
}

impl From<Crop> for Extent {
    fn from(part: Crop) -> Self {
        Self { width: part.width, height: part.height }
    }
}
