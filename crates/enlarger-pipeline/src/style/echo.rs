//! Detail within detail: a picture's own texture at half its size, laid over itself. Unlike random texture it has the
//! directions and shapes of what is there: leaves of leaves, hairs of hair.

use enlarger_image::Picture;
use rayon::prelude::*;

use super::{
    blur,
    noise::bits,
    slab::{Slab, invent_in_luma},
    texture,
};

/// Sides of the cells within which texture is halved, in radii: large enough for a shape, small enough to stay near
/// where it came from.
const CELL: f32 = 12.0;

/// Limit of what is laid over texture, in deviations of that texture.
const MOST: f32 = 2.0;
/// Deviation of luminance below which it is rounding, not texture.
const NONE: f32 = 1.0 / 255.0;

/// See [`Filter::Echo`](super::Filter::Echo).
pub(super) fn echo(picture: &mut Picture, gain: f32, octaves: u32, radius: f32, seed: u64) {
    let cell = (CELL * radius).ceil();
    let times = |octave: u32| (2u32 << octave) as f32;
    // A pixel at a cell's edge looks (times - 1) half cells further out, plus the random shift.
    let furthest = cell * (0.5 * (times(octaves - 1) - 1.0) + 0.125);
    let reach = texture::strength_reach(radius) + furthest as usize + 2;
    invent_in_luma(picture, reach, |slab| {
        let strength = texture::strength_around(slab, radius);
        let (fine, coarse) =
            (blur::gaussian(slab.luma, slab.width, 0.5 * radius), blur::gaussian(slab.luma, slab.width, 2.0 * radius));
        // No stronger than the texture it is taken from: an edge beside an even surface must not be drawn again.
        let detail = fine.par_iter().zip(&coarse).zip(&strength).map(|((f, c), s)| within(f - c, MOST * s));
        let detail: Vec<f32> = detail.collect();
        let strength = slab.inner(&strength);
        let mut out = vec![0.0; strength.len()];
        out.par_chunks_mut(slab.width).enumerate().for_each(|(row, line)| {
            for (x, o) in line.iter_mut().enumerate() {
                let (mut sum, mut share) = (0.0, gain);
                for octave in 0..octaves {
                    sum += share * shrunk(slab, &detail, x, row, times(octave), cell, seed ^ u64::from(octave) << 32);
                    share *= gain.min(0.7);
                }
                // Nor stronger than the texture it lies on, and nothing where there is none.
                *o = within(sum, MOST * (strength[row * slab.width + x] - NONE).max(0.0));
            }
        });
        out
    });
}

/// A value that slows down towards `most` and stays below it.
fn within(value: f32, most: f32) -> f32 {
    if most > 0.0 { most * (value / most).tanh() } else { 0.0 }
}

/// The detail around, `times` smaller, at a pixel: four lattices of cells, shifted by half a cell against each other, each
/// fading out where its cells end, so that no cell shows.
fn shrunk(slab: &Slab, detail: &[f32], x: usize, row: usize, times: f32, cell: f32, seed: u64) -> f32 {
    let (px, py) = (x as f32, (slab.y + row) as f32);
    let (mut sum, mut squares) = (0.0, 0.0f32);
    for lattice in 0..4u64 {
        let (shift_x, shift_y) = (0.5 * cell * (lattice % 2) as f32, 0.5 * cell * (lattice / 2) as f32);
        let (cx, cy) = (((px + shift_x) / cell).floor(), ((py + shift_y) / cell).floor());
        let (mx, my) = ((cx + 0.5) * cell - shift_x, (cy + 0.5) * cell - shift_y);
        let (dx, dy) = (px - mx, py - my);
        let weight = (1.0 - (2.0 * dx / cell).abs()) * (1.0 - (2.0 * dy / cell).abs());
        if weight <= 0.0 {
            continue;
        }
        // Shifted by up to an eighth of a cell and mirrored by chance, so that neighbouring cells do not repeat.
        let random = bits(seed.wrapping_add(lattice), cx as i64, cy as i64);
        let shift = |bits: u64| cell * ((bits & 0xFF) as f32 * (0.25 / 255.0) - 0.125);
        let sign = if random & (1 << 20) == 0 { 1.0 } else { -1.0 };
        sum += weight * at(slab, detail, mx + sign * dx * times + shift(random), my + dy * times + shift(random >> 8));
        squares += weight * weight;
    }
    // The four are unrelated: divided by the root of the sum of squares their sum has the deviation of one.
    if squares > 0.0 { sum / squares.sqrt() } else { 0.0 }
}

/// Between four pixels, mirrored at the sides; rows stay inside the margins.
fn at(slab: &Slab, values: &[f32], x: f32, y: f32) -> f32 {
    let w = slab.width;
    let last = w as f32 - 1.0;
    let x = if last > 0.0 {
        let m = x.rem_euclid(2.0 * last);
        m.min(2.0 * last - m)
    } else {
        0.0
    };
    let rows = values.len() / w;
    let y = (y - slab.y as f32 + slab.reach as f32).clamp(0.0, rows as f32 - 1.0);
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(rows - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    let top = values[y0 * w + x0] * (1.0 - fx) + values[y0 * w + x1] * fx;
    let bottom = values[y1 * w + x0] * (1.0 - fx) + values[y1 * w + x1] * fx;
    top * (1.0 - fy) + bottom * fy
}
