//! Texture that was never there, as strong as what is around it.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{
    blur, noise,
    slab::{Slab, add_to_luma, invent_in_luma},
};

/// See [`Filter::Texture`](super::Filter::Texture).
pub(super) fn texture(picture: &mut Picture, gain: f32, radius: f32, seed: u64) {
    // Two octaves below the radius, the finer one weaker: amplitudes of natural pictures fall as 1/frequency.
    let octaves = [(0.5 * radius, 0.8), (0.25 * radius, 0.6)].map(|(sigma, share)| (sigma.max(0.35), share));
    let reach = strength_reach(radius);
    invent_in_luma(picture, reach, |slab| {
        let strength = strength(slab, radius);
        let mut field = vec![0.0; strength.len()];
        for (octave, (sigma, share)) in octaves.into_iter().enumerate() {
            let rows = slab.rows + 2 * reach;
            let white = noise::white(seed ^ (octave as u64) << 32, slab.width, slab.y as i64 - reach as i64, rows);
            let (fine, coarse) =
                (blur::gaussian(&white, slab.width, sigma), blur::gaussian(&white, slab.width, 2.0 * sigma));
            let scale = share * noise::band_gain(sigma, 2.0 * sigma);
            for (f, (a, b)) in field.iter_mut().zip(slab.inner(&fine).iter().zip(slab.inner(&coarse))) {
                *f += scale * (a - b);
            }
        }
        field.par_iter().zip(&strength).map(|(f, s)| gain * f * s).collect()
    });
}

/// See [`Filter::Renoise`](super::Filter::Renoise).
pub(super) fn renoise(picture: &mut Picture, gain: f32, most: f32, seed: u64) {
    // A network sees single pixels, so its noise has no blur, and texture is what is finer than one.
    let radius = 1.0;
    let reach = strength_reach(radius);
    invent_in_luma(picture, reach, |slab| {
        let noise = noise::white(seed, slab.width, slab.y as i64, slab.rows);
        noise.par_iter().zip(strength(slab, radius)).map(|(n, s)| n * (gain * s).min(most)).collect()
    });
}

/// Texture of this deviation counts half as none: a network draws dots of less than a level in skies.
const NONE: f32 = 1.2 / 255.0;
/// Amplitude of which half is left alone where there is no texture: it is the edge of something.
const EDGE: f32 = 3.0 / 255.0;

/// See [`Filter::Calm`](super::Filter::Calm).
pub(super) fn calm(picture: &mut Picture, radius: f32) {
    add_to_luma(picture, strength_reach(radius), |slab| {
        let coarse = blur::gaussian(slab.luma, slab.width, radius);
        let detail = slab.inner(slab.luma).par_iter().zip(slab.inner(&coarse)).map(|(y, c)| y - c);
        let share = |value: f32, half: f32| half * half / (half * half + value * value);
        detail.zip(strength(slab, radius)).map(|(d, s)| -d * share(s, NONE) * share(d, EDGE)).collect()
    });
}

/// Rows that [`strength`] looks at.
pub(super) fn strength_reach(radius: f32) -> usize {
    let window = window(radius);
    blur::reach(radius) + 2 * window + 2 * window
}

fn window(radius: f32) -> usize {
    (3.0 * radius).ceil() as usize
}

/// How strong the texture around each pixel of a slab's inner rows is: the deviation of what is finer than `radius`, in
/// the calmest of the four squares that meet at the pixel. So a smooth sky has none up to the roof's very edge, and a lone
/// edge is not texture (the squares are those of Kuwahara et al. 1976).
/// The deviation is estimated from the mean root of amplitudes, not from the mean amplitude: texture is everywhere,
/// while a wall's rows of windows, or letters on paper, are few and strong, and count for little.
pub(super) fn strength(slab: &Slab, radius: f32) -> Vec<f32> {
    slab.inner(&strength_around(slab, radius)).to_vec()
}

/// The same of the margins as well, where it is right from [`strength_reach`] rows on.
pub(super) fn strength_around(slab: &Slab, radius: f32) -> Vec<f32> {
    let (w, r) = (slab.width, window(radius));
    let coarse = blur::gaussian(slab.luma, w, radius);
    let detail: Vec<f32> = slab.luma.par_iter().zip(&coarse).map(|(y, c)| (y - c).abs().sqrt()).collect();
    let local = blur::mean(&detail, w, r);
    let height = local.len() / w;
    let mut calmest = vec![0.0; local.len()];
    calmest.par_chunks_mut(w).enumerate().for_each(|(y, line)| {
        let (above, below) = (y.saturating_sub(r), (y + r).min(height - 1));
        for (x, o) in line.iter_mut().enumerate() {
            let (left, right) = (x.saturating_sub(r), (x + r).min(w - 1));
            let at = |x: usize, y: usize| local[y * w + x];
            *o = at(left, above).min(at(right, above)).min(at(left, below)).min(at(right, below));
        }
    });
    // Squares have edges; their mean over a square has none. 1.48: a normal number's deviation over the square of the mean of
    // its magnitude's root.
    let mut smooth = blur::mean(&calmest, w, r);
    smooth.iter_mut().for_each(|v| *v = 1.48 * *v * *v);
    smooth
}
