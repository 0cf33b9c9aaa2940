//! What some styles treat specially: faces, grain, pixel art. It is only searched for them.

use enlarger_image::Picture;
use serde::{Deserialize, Serialize};

use crate::request::Crop;

use super::{
    grain,
    pixels::{self, PixelArt},
};

/// What a style asked for and was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// Faces from the brows to the chin, in pixels of the upright source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faces: Vec<Crop>,
    /// Deviation of luminance that its grain has, 0..=1 being black to white, in thousandths; 0 where there is none.
    #[serde(skip_serializing_if = "crate::omit::is_default")]
    pub grain: f32,
    /// Whether it has strong grain that is coarser than its pixels, as scanned film has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub coarse_grain: bool,
    /// Of pixel art: the side in pixels of the squares that it is made of, 1 where each pixel is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub square: Option<u32>,
}

/// What a style asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub faces: bool,
    pub grain: bool,
    pub coarse_grain: bool,
    pub pixels: PixelArt,
}

impl Subject {
    /// Finds only what is asked for. `faces` searches for those.
    pub(super) fn of(picture: &Picture, asked: Asked, faces: impl FnOnce() -> Vec<Crop>) -> Self {
        Self {
            faces: if asked.faces { faces() } else { Vec::new() },
            grain: if asked.grain { grain::deviation(picture) } else { 0.0 },
            coarse_grain: asked.coarse_grain && grain::is_coarse(picture),
            square: pixels::square(picture, asked.pixels),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}
