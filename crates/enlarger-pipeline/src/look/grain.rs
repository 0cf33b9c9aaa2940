//! Grain.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{band::add_to_luma, blur, noise};

/// See [`Filter::Grain`](super::Filter::Grain).
pub(super) fn grain(picture: &mut Picture, deviation: f32, size: f32, seed: u64) {
    let reach = blur::reach(2.0 * size);
    // Grain has no slow part: that would show as blotches in skies.
    let scale = deviation * noise::band_gain(size, 2.0 * size);
    add_to_luma(picture, reach, |band| {
        let white = noise::white(seed, band.width, band.y as i64 - reach as i64, band.rows + 2 * reach);
        let (fine, coarse) = (blur::gaussian(&white, band.width, size), blur::gaussian(&white, band.width, 2.0 * size));
        let field = band.inner(&fine).par_iter().zip(band.inner(&coarse));
        // Film has most grain in the middle tones and none in its black and white; 4 y (1 - y) is 1 in the middle. A
        // quarter stays at the ends, else deep shadows look painted.
        field.zip(band.inner(band.luma)).map(|((a, b), y)| scale * (a - b) * (0.25 + 3.0 * y * (1.0 - y))).collect()
    });
}
