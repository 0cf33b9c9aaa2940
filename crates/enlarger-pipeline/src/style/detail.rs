//! Gains of fine detail, and sharpening.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{blur, slab::add_to_luma};

/// See [`Filter::Detail`](super::Filter::Detail).
pub(super) fn gain(picture: &mut Picture, gain: f32, radius: f32, edge: f32) {
    add_to_luma(picture, blur::reach(radius), |slab| {
        let coarse = blur::gaussian(slab.luma, slab.width, radius);
        let pairs = slab.inner(slab.luma).par_iter().zip(slab.inner(&coarse));
        let square = edge * edge;
        // A Lorentzian weight: 1 for texture, falling with the square of the amplitude for edges.
        pairs.map(|(y, c)| (y - c) * gain * square / (square + (y - c) * (y - c))).collect()
    });
}

/// Amplitude of which half is sharpened: what is weaker is texture or noise, which [`gain`] is for.
const CORE: f32 = 5.0 / 255.0;

/// See [`Filter::Sharpen`](super::Filter::Sharpen).
pub(super) fn sharpen(picture: &mut Picture, amount: f32, radius: f32, overshoot: f32) {
    let near = radius.ceil().max(1.0) as usize;
    add_to_luma(picture, blur::reach(radius).max(near), |slab| {
        let w = slab.width;
        let coarse = blur::gaussian(slab.luma, w, radius);
        let lowest = extreme(slab.luma, w, near, f32::min);
        let highest = extreme(slab.luma, w, near, f32::max);
        let (y, c) = (slab.inner(slab.luma), slab.inner(&coarse));
        let (low, high) = (slab.inner(&lowest), slab.inner(&highest));
        (0..y.len())
            .into_par_iter()
            .map(|i| {
                let most = overshoot * (high[i] - low[i]);
                let d = y[i] - c[i];
                let edge = amount * d * d * d / (d * d + CORE * CORE);
                (y[i] + edge).clamp(low[i] - most, high[i] + most) - y[i]
            })
            .collect()
    });
}

/// Smallest or largest value of the square of `2 r + 1` pixels around each.
fn extreme(values: &[f32], width: usize, r: usize, pick: fn(f32, f32) -> f32) -> Vec<f32> {
    let height = values.len() / width;
    let mut across = vec![0.0; values.len()];
    across.par_chunks_mut(width).zip(values.par_chunks(width)).for_each(|(out, line)| {
        for (x, o) in out.iter_mut().enumerate() {
            let around = &line[x.saturating_sub(r)..(x + r + 1).min(width)];
            *o = around.iter().copied().fold(line[x], pick);
        }
    });
    let mut out = across.clone();
    out.par_chunks_mut(width).enumerate().for_each(|(y, line)| {
        for row in y.saturating_sub(r)..(y + r + 1).min(height) {
            for (o, &v) in line.iter_mut().zip(&across[row * width..][..width]) {
                *o = pick(*o, v);
            }
        }
    });
    out
}
