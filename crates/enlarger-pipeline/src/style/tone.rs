//! Local contrast without halos: detail is what a guided filter (He et al. 2013) takes out, and a guided filter keeps
//! edges. It is computed on a reduced picture (the fast guided filter, He and Sun 2015) and applied at full size.

use enlarger_image::Picture;
use rayon::prelude::*;

use crate::sample::read_luma;

use super::{
    blur,
    slab::{add_to_luma, change_rows},
};

/// Most pixels of the reduced picture: what bounds this filter's memory.
const MOST: usize = 4 << 20;
/// Contrast above which structure counts as an edge and is kept, as a deviation: fine detail, then broad.
const EDGES: [f32; 2] = [0.10, 0.25];

/// See [`Filter::Tone`](super::Filter::Tone).
pub(super) fn tone(picture: &mut Picture, fine: f32, broad: f32, radius: f32) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let bounded = ((width * height) as f32 / MOST as f32).sqrt().ceil() as usize;
    let reduction = ((radius / 4.0) as usize).max(bounded).max(1);
    let reduced = Reduced::of(picture, reduction);
    let window = |r: f32| ((r / reduction as f32).round() as usize).max(1);
    let bases =
        [(fine, reduced.guide(window(radius), EDGES[0])), (broad, reduced.guide(window(4.0 * radius), EDGES[1]))];
    add_to_luma(picture, 0, |slab| {
        let mut out = vec![0.0; slab.luma.len()];
        out.par_chunks_mut(slab.width).zip(slab.luma.par_chunks(slab.width)).enumerate().for_each(
            |(row, (out, luma))| {
                for (gain, guide) in &bases {
                    let line = guide.row(slab.y + row, reduction);
                    for (x, (o, y)) in out.iter_mut().zip(luma).enumerate() {
                        let (a, b) = line.at(x, reduction);
                        *o += gain * (y - (a * y + b));
                    }
                }
            },
        );
        out
    });
}

/// See [`Filter::Curve`](super::Filter::Curve). Of each colour by itself: what changes evenly still does, where one luminance for all would
/// draw rings around highlights on what is saturated.
pub(super) fn curve(picture: &mut Picture, strength: f32) {
    change_rows(picture, 0..picture.height as usize, |_, line| {
        line.iter_mut().for_each(|c| *c += strength * (*c * *c * (3.0 - 2.0 * *c) - *c));
    });
}

/// Luminance, reduced by a whole factor by averaging.
struct Reduced {
    width: usize,
    values: Vec<f32>,
}

impl Reduced {
    fn of(picture: &Picture, factor: usize) -> Self {
        let (w, h) = (picture.width as usize, picture.height as usize);
        let width = w.div_ceil(factor);
        let mut values = vec![0.0; width * h.div_ceil(factor)];
        values.par_chunks_mut(width).enumerate().for_each(|(row, out)| {
            let rows = row * factor..((row + 1) * factor).min(h);
            let mut line = vec![0.0; w];
            let count = rows.len();
            for y in rows {
                read_luma(picture, y, &mut line);
                for (o, part) in out.iter_mut().zip(line.chunks(factor)) {
                    *o += part.iter().sum::<f32>() / (part.len() * count) as f32;
                }
            }
        });
        Self { width, values }
    }

    /// The guided filter's two maps, `a` and `b` of `base = a y + b`.
    fn guide(&self, r: usize, edge: f32) -> Guide {
        let w = self.width;
        let mean = blur::mean(&self.values, w, r);
        let squares: Vec<f32> = self.values.par_iter().map(|v| v * v).collect();
        let squares = blur::mean(&squares, w, r);
        let (a, b): (Vec<f32>, Vec<f32>) = squares
            .par_iter()
            .zip(&mean)
            .map(|(s, m)| {
                let variance = (s - m * m).max(0.0);
                let a = variance / (variance + edge * edge);
                (a, m * (1.0 - a))
            })
            .unzip();
        Guide { width: w, a: blur::mean(&a, w, r), b: blur::mean(&b, w, r) }
    }
}

struct Guide {
    width: usize,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Guide {
    /// Both maps on a row of the full-size picture.
    fn row(&self, y: usize, factor: usize) -> GuideRow {
        let height = self.a.len() / self.width;
        let (y0, y1, t) = between(y, factor, height);
        let mix = |map: &[f32]| {
            let (top, bottom) = (&map[y0 * self.width..][..self.width], &map[y1 * self.width..][..self.width]);
            top.iter().zip(bottom).map(|(p, q)| p + t * (q - p)).collect()
        };
        GuideRow { a: mix(&self.a), b: mix(&self.b) }
    }
}

struct GuideRow {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl GuideRow {
    fn at(&self, x: usize, factor: usize) -> (f32, f32) {
        let (x0, x1, t) = between(x, factor, self.a.len());
        (self.a[x0] + t * (self.a[x1] - self.a[x0]), self.b[x0] + t * (self.b[x1] - self.b[x0]))
    }
}

/// The two reduced pixels around a full-size one, and the second's share.
fn between(x: usize, factor: usize, count: usize) -> (usize, usize, f32) {
    let place = ((x as f32 + 0.5) / factor as f32 - 0.5).clamp(0.0, count as f32 - 1.0);
    let first = place as usize;
    (first, (first + 1).min(count - 1), place - first as f32)
}
