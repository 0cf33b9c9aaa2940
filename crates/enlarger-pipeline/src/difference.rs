//! The difference of a result from its source, both compared at the source's size.
//!
//! Detail that a network adds between the source's pixels does not show, because no measure can see it without the
//! original. It shows where the result, scaled down again, differs from the picture that went in.

use enlarger_image::{Channels, Picture, Sample, Samples, with_samples};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    reduce::{Cover, reduced_row},
    request::Crop,
};

/// Longest side of a map in pixels.
const MAP_SIDE: u32 = 512;
/// Difference at which a map is white, as a share of white: more than a quarter is obvious anyway.
const MAP_WHITE: f64 = 0.25;

/// How far a result deviates from its source.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Mean absolute difference of encoded values over all colour channels, as a share of white, 0..=1. Pixels count by
    /// their alpha, so that what is fully transparent counts nothing.
    pub share: f64,
    /// Where: 8-bit grey, the source's size or reduced to 512 pixels on its longer side. Four times the difference:
    /// black is none, white a quarter of white or more.
    #[serde(skip)]
    pub map: Picture,
}

impl Difference {
    /// Compares a result with `crop` of the picture that it was made of, or with all of it. Works in rows: besides the
    /// map it holds some rows of the result for each thread.
    pub fn of(result: &Picture, source: &Picture, crop: Option<Crop>) -> Self {
        let crop = crop.unwrap_or(Crop { x: 0, y: 0, width: source.width, height: source.height });
        let shrink = (f64::from(MAP_SIDE) / f64::from(crop.width.max(crop.height))).min(1.0);
        let side = |length: u32| ((f64::from(length) * shrink).round() as u32).max(1);
        let (width, height) = (side(crop.width), side(crop.height));
        let columns: Vec<Cover> = (0..crop.width).map(|x| Cover::of(x, crop.width, result.width)).collect();
        let rows: Vec<Vec<Sum>> = (0..height)
            .into_par_iter()
            .map_init(Vec::new, |sums, row| {
                let mut cells = vec![Sum::default(); width as usize];
                // The rows whose top lies in this row of the map.
                let first = |row: u32| (u64::from(row) * u64::from(crop.height)).div_ceil(u64::from(height)) as u32;
                for y in first(row)..first(row + 1) {
                    let wanted = values(source, crop.y + y);
                    let reduced = reduced_row(result, &Cover::of(y, crop.height, result.height), &columns, sums);
                    let n = source.channels.count();
                    let wanted = wanted[crop.x as usize * n..].chunks_exact(n);
                    for ((x, have), wanted) in (0u64..).zip(reduced.chunks_exact(n)).zip(wanted) {
                        let cell = &mut cells[(x * u64::from(width) / u64::from(crop.width)) as usize];
                        cell.add(source.channels, wanted, have);
                    }
                }
                cells
            })
            .collect();
        let all = rows.iter().flatten().fold(Sum::default(), |a, b| a.plus(*b));
        let white = |cell: &Sum| (cell.mean() / MAP_WHITE * 255.0).round().min(255.0) as u8;
        let samples = Samples::U8(rows.iter().flatten().map(white).collect());
        let map = Picture { width, height, channels: Channels::Gray, samples, metadata: Default::default() };
        Self { share: all.mean(), map }
    }
}

/// Differences and their weights.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    difference: f64,
    weight: f64,
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self { difference: self.difference + other.difference, weight: self.weight + other.weight }
    }

    /// Adds a pixel of the source, and the same of the reduced result; both in 0..=1.
    fn add(&mut self, channels: Channels, wanted: &[f64], have: &[f64]) {
        let colours = channels.colours();
        let alpha = if channels.has_alpha() { wanted[colours] } else { 1.0 };
        let colour = wanted.iter().zip(have).take(colours);
        self.difference += alpha * colour.map(|(a, b)| (a - b).abs()).sum::<f64>() / colours as f64;
        self.weight += alpha;
    }

    fn mean(self) -> f64 {
        if self.weight > 0.0 { self.difference / self.weight } else { 0.0 }
    }
}

/// A row's samples in 0..=1.
fn values(picture: &Picture, y: u32) -> Vec<f64> {
    let line = picture.width as usize * picture.channels.count();
    let range = y as usize * line..(y as usize + 1) * line;
    with_samples!(&picture.samples, s => s[range].iter().map(|v| v.to_f64()).collect())
}
