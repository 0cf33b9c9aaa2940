//! Grain.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{blur, noise, slab::add_to_luma, texture};

/// Radius of what counts as texture, in sizes of a grain.
const TEXTURE: f32 = 4.0;

/// See [`Filter::Grain`](super::Filter::Grain).
pub(super) fn grain(picture: &mut Picture, deviation: f32, size: f32, even: f32, seed: u64) {
    let reach = blur::reach(2.0 * size).max(texture::strength_reach(TEXTURE * size));
    // Grain has no slow part: that would show as blotches in skies.
    let scale = deviation * noise::band_gain(size, 2.0 * size);
    add_to_luma(picture, reach, |slab| {
        let white = noise::white(seed, slab.width, slab.y as i64 - reach as i64, slab.rows + 2 * reach);
        let (fine, coarse) = (blur::gaussian(&white, slab.width, size), blur::gaussian(&white, slab.width, 2.0 * size));
        let field = slab.inner(&fine).par_iter().zip(slab.inner(&coarse));
        // Film has most grain in the middle tones and none in its black and white; 4 y (1 - y) is 1 in the middle. A
        // quarter stays at the ends, else deep shadows look painted.
        let tones = slab.inner(slab.luma).par_iter().map(|y| 0.25 + 3.0 * y * (1.0 - y));
        let textures = texture::strength(slab, TEXTURE * size);
        let textures = textures.par_iter().map(|own| even + (1.0 - even) * (own / deviation).min(1.0));
        field.zip(tones).zip(textures).map(|(((a, b), tone), texture)| scale * (a - b) * tone * texture).collect()
    });
}
