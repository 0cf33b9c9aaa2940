//! Filters that give a result its style. Each is plain numbers in a [`Plan`](crate::Plan), deterministic, takes time
//! linear in pixels, and works in slabs of rows.
//!
//! All but those that compare with the source change only luminance, by adding the same to red, green and blue, so that
//! hue is kept. Lengths are in pixels of the picture that the filter gets.

mod blur;
mod bound;
mod detail;
mod echo;
mod follow;
mod grain;
mod grey;
mod keep;
mod noise;
mod presets;
mod prompt;
mod recipe;
mod recolour;
mod settle;
mod skin;
mod slab;
mod texture;
mod tone;

use enlarger_image::{ImageError, Picture};
use serde::{Deserialize, Serialize};

use crate::canvas::View;

pub(crate) use presets::{asked, invents, networks};
pub(crate) use prompt::preset_of;
pub(crate) use recipe::{Closeness, Recipe, Seen, recipe};
pub use skin::Face;
pub(crate) use skin::faces_in;

/// One filter and its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "filter", rename_all = "snake_case")]
pub enum Filter {
    /// Moves towards the source, enlarged by a cubic to this size.
    Keep {
        /// The source's share, 0..=1.
        share: f32,
    },
    /// Back-projection (Irani and Peleg 1991): what the reduced result lacks of the source is added to the result.
    Match {
        /// How often.
        rounds: u32,
        /// Share of the difference that is corrected each time, 0..=1.
        strength: f32,
        /// Before and after each round colours are limited to those of the source that lie within so many pixels; 0 for no limit. Strokes
        /// that a network draws darker and thinner than they are get their colour and width back.
        #[serde(default, skip_serializing_if = "crate::omit::is_default")]
        reach: u32,
    },
    /// Back-projection for a source that is damaged: what the reduced result lacks is blurred, and counts where it stands out.
    Follow {
        /// Standard deviation of the blur, in pixels of the source.
        radius: f32,
        /// Share of the difference that is corrected, 0..=1.
        strength: f32,
    },
    /// Gives shapes the source's colours: by the affine map that takes the reduced result's nearest to them in each place.
    Recolour {
        /// Standard deviation of a place, in pixels of the source.
        radius: f32,
    },
    /// Takes slow differences from the source out, so that colour does not drift: networks shift means by up to 5/255.
    #[serde(rename = "lock")]
    ColourCorrection {
        /// Standard deviation of what counts as slow, in pixels of the source.
        radius: f32,
    },
    /// Gives places the source's colour where that is exactly flat, and takes out colours beyond it around: networks draw rims
    /// beside flat shapes.
    Settle,
    /// Keeps every colour within those of the four pixels of the source around it: nothing rings, and even changes stay even.
    Bound {
        /// How far beyond them it may lie, as a share of their range.
        over: f32,
    },
    /// Takes colour out.
    Grey,
    /// Local contrast: gains of detail at two radii, halo-free by guided filters.
    Tone {
        /// Gain of what is smaller than `radius`; -1 removes it.
        fine: f32,
        /// Gain of what is smaller than four times `radius`.
        broad: f32,
        /// Radius in pixels.
        radius: f32,
    },
    /// Contrast of tones: a curve that darkens what is dark and brightens what is bright.
    Curve {
        /// Share of the way to the cubic 3 y^2 - 2 y^3, 0..=1.
        strength: f32,
    },
    /// Gains of detail finer than `radius` in faces alone, which fade out around them.
    Skin {
        /// Where they are.
        faces: Vec<Face>,
        /// Gain of what is weak: skin. -1 removes it.
        skin: f32,
        /// Gain of what is strong, but for hard edges: eyes, brows, lips, hair.
        features: f32,
        /// Standard deviation of the Gaussian that parts fine from coarse, in pixels.
        radius: f32,
    },
    /// Gain of detail finer than `radius`.
    Detail {
        /// The gain; -1 removes it.
        gain: f32,
        /// Standard deviation of the Gaussian that parts fine from coarse, in pixels.
        radius: f32,
        /// Amplitude above which detail counts as an edge and is left alone, 0..=1 being black to white.
        edge: f32,
    },
    /// Edge sharpening by a limited unsharp mask that leaves weak detail alone: no pixel leaves the range of its neighbours by more
    /// than `overshoot`.
    Sharpen {
        /// Gain of the mask.
        amount: f32,
        /// Standard deviation of the mask's Gaussian in pixels.
        radius: f32,
        /// How far beyond its neighbours a pixel may go, as a share of their range.
        overshoot: f32,
    },
    /// The picture's own texture at half its size, laid over itself where there is texture.
    Echo {
        /// Gain of the first octave; each further one has this share of the one before.
        gain: f32,
        /// How many octaves, 1..=2.
        octaves: u32,
        /// Radius in pixels below which structure counts as texture.
        radius: f32,
    },
    /// Noise before a network that makes texture of noise: fur, leaves and stone grow where there is texture already.
    Renoise {
        /// Its deviation as a share of the local one.
        gain: f32,
        /// The most it may be, 0..=1 being black to white: above some 12/255 networks draw worms.
        most: f32,
    },
    /// Random texture as strong as the texture around it.
    Texture {
        /// Its deviation as a share of the local one.
        gain: f32,
        /// Radius in pixels below which structure counts as texture.
        radius: f32,
    },
    /// Takes out what is fine where there is no texture, such as what networks draw in skies.
    Calm {
        /// Radius in pixels below which structure counts as texture.
        radius: f32,
    },
    /// Photographic grain: strongest in the middle tones and, if it is not `even`, on texture.
    Grain {
        /// Standard deviation in the middle tones, 0..=1 being black to white.
        deviation: f32,
        /// Standard deviation of a grain's blur in pixels.
        size: f32,
        /// Share of it that smooth places have, 0..=1.
        even: f32,
    },
}

impl Filter {
    /// Whether it works at the depth that the picture has: slow changes and copied colours need no finer steps. The others get 16 bits.
    pub(crate) fn keeps_depth(&self) -> bool {
        matches!(self, Self::ColourCorrection { .. } | Self::Settle | Self::Grey)
    }

    /// Whether it makes a result show its source, pixel by pixel, when that is reduced again: colours then stay as well.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Self::Match { strength: 1.0, .. })
    }

    /// Whether it makes a result more like its source, so that passes that follow do not enlarge what this one got wrong.
    pub(crate) fn brings_back(&self) -> bool {
        self.is_exact() || matches!(self, Self::Follow { .. })
    }

    /// Whether it adds what the source's pixels do not have, or draws near their edges.
    pub(crate) fn draws(&self) -> bool {
        matches!(
            self,
            Self::Keep { .. }
                | Self::Match { .. }
                | Self::Follow { .. }
                | Self::Recolour { .. }
                | Self::Texture { .. }
                | Self::Echo { .. }
        )
    }

    /// Whether it makes texture, or calms what was made, in place of a generative engine.
    pub(crate) fn imitates(&self) -> bool {
        matches!(self, Self::Renoise { .. } | Self::Texture { .. } | Self::Echo { .. } | Self::Calm { .. })
    }

    /// Changes a picture. `source` is what the plan starts from, and `seen` the same with what lies around it; `seed` belongs to this
    /// filter's place in the plan.
    ///
    /// # Errors
    /// [`ImageError::OutOfMemory`] if there is no room for a reduced picture.
    pub(crate) fn apply(
        &self,
        picture: &mut Picture,
        source: &Picture,
        seen: View<'_>,
        seed: u64,
    ) -> Result<(), ImageError> {
        match *self {
            Self::Keep { share } => keep::keep(picture, source, share),
            Self::Match { rounds, strength, reach } => keep::back_project(picture, source, rounds, strength, reach)?,
            Self::Follow { radius, strength } => follow::follow(picture, source, radius, strength)?,
            Self::Recolour { radius } => recolour::recolour(picture, source, radius),
            Self::ColourCorrection { radius } => keep::correct_colour(picture, source, radius),
            Self::Settle => settle::settle(picture, seen),
            Self::Grey => grey::grey(picture),
            Self::Bound { over } => bound::bound(picture, source, over, 0),
            Self::Curve { strength } => tone::curve(picture, strength),
            Self::Skin { ref faces, skin, features, radius } => skin::skin(picture, faces, skin, features, radius),
            Self::Tone { fine, broad, radius } => tone::tone(picture, fine, broad, radius),
            Self::Detail { gain, radius, edge } => detail::gain(picture, gain, radius, edge),
            Self::Sharpen { amount, radius, overshoot } => detail::sharpen(picture, amount, radius, overshoot),
            Self::Echo { gain, octaves, radius } => echo::echo(picture, gain, octaves, radius, seed),
            Self::Renoise { gain, most } => texture::renoise(picture, gain, most, seed),
            Self::Texture { gain, radius } => texture::texture(picture, gain, radius, seed),
            Self::Calm { radius } => texture::calm(picture, radius),
            Self::Grain { deviation, size, even } => grain::grain(picture, deviation, size, even, seed),
        }
        Ok(())
    }
}
