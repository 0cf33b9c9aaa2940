//! Grain.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{band::add_to_luma, blur, noise, texture};

/// Radius of what counts as texture, in sizes of a grain.
const TEXTURE: f32 = 4.0;

/// See [`Filter::Grain`](super::Filter::Grain).
pub(super) fn grain(picture: &mut Picture, deviation: f32, size: f32, even: f32, seed: u64) {
    let reach = blur::reach(2.0 * size).max(texture::strength_reach(TEXTURE * size));
    // Grain has no slow part: that would show as blotches in skies.
    let scale = deviation * noise::band_gain(size, 2.0 * size);
    add_to_luma(picture, reach, |band| {
        let white = noise::white(seed, band.width, band.y as i64 - reach as i64, band.rows + 2 * reach);
        let (fine, coarse) = (blur::gaussian(&white, band.width, size), blur::gaussian(&white, band.width, 2.0 * size));
        let field = band.inner(&fine).par_iter().zip(band.inner(&coarse));
        // Film has most grain in the middle tones and none in its black and white; 4 y (1 - y) is 1 in the middle. A
        // quarter stays at the ends, else deep shadows look painted.
        let tones = band.inner(band.luma).par_iter().map(|y| 0.25 + 3.0 * y * (1.0 - y));
        let textures = texture::strength(band, TEXTURE * size);
        let textures = textures.par_iter().map(|own| even + (1.0 - even) * (own / deviation).min(1.0));
        field.zip(tones).zip(textures).map(|(((a, b), tone), texture)| scale * (a - b) * tone * texture).collect()
    });
}
