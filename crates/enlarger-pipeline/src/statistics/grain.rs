//! How strong a picture's own grain is.

use enlarger_image::Picture;
use rayon::prelude::*;

use crate::sample::read_luma;

/// Side of the squares that are measured, in pixels.
const SIDE: usize = 8;
/// The shares of squares, the calmest ones, of which the roughest are compared. Grain is everywhere, so that they are alike.
const CALM: [f32; 2] = [0.03, 0.15];
/// By how much they differ at most: of 15 photos with grain of 6/255, also as JPEG 90, by up to 1.27; without it mostly by more.
const ALIKE: f32 = 1.35;
/// The deviation of the second of all squares of grain, as a share of its own.
const CALMER: f32 = 0.92;
/// Squares whose mean lies nearer to black or white than this say nothing: grain is cut off there.
const ENDS: f32 = 0.06;
/// Deviation below which it is rounding and sensor noise rather than grain.
const LEAST: f32 = 2.0 / 255.0;
/// Grain of film is not stronger; what is, is texture in a picture that is calm nowhere.
const MOST: f32 = 0.08;
/// Neighbours in JPEG's blocks, in texture and in soft pictures are alike. Of grain they differ by at least this share of what unrelated
/// ones would: of the same photos with grain by 0.71 and more, without it and as rough by up to 0.62.
const UNLIKE: f32 = 0.65;
/// Fewer squares say nothing.
const FEWEST: usize = 16;

/// The deviation of luminance in the calmest squares, less their slope, in thousandths; 0 for none.
pub(super) fn deviation(picture: &Picture) -> f32 {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let bands: Vec<usize> = (0..height / SIDE).collect();
    let squares: Vec<[f32; 2]> = bands
        .into_par_iter()
        .flat_map_iter(|band| {
            let mut luma = vec![0.0; SIDE * width];
            for (y, line) in luma.chunks_exact_mut(width).enumerate() {
                read_luma(picture, band * SIDE + y, line);
            }
            (0..width / SIDE).filter_map(|x| roughness(&luma[x * SIDE..], width)).collect::<Vec<_>>()
        })
        .collect();
    calm_deviation(squares)
}

fn calm_deviation(mut squares: Vec<[f32; 2]>) -> f32 {
    if squares.len() < FEWEST {
        return 0.0;
    }
    squares.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [calmest, calm] = CALM.map(|share| (share * squares.len() as f32) as usize);
    let deviation = squares[calm][0].sqrt() / CALMER;
    // Of all calm squares together: one alone says little.
    let [own, differ] = squares[..=calm].iter().fold([0.0, 0.0], |[a, b], square| [a + square[0], b + square[1]]);
    let alike = squares[calm][0] < ALIKE * ALIKE * squares[calmest][0];
    if (LEAST..MOST).contains(&deviation) && alike && differ > 2.0 * UNLIKE * own {
        (1000.0 * deviation).round() / 1000.0
    } else {
        0.0
    }
}

/// Variance of a square's luminance about its plane, and the mean square of how neighbours differ; `None` near black or white.
fn roughness(luma: &[f32], width: usize) -> Option<[f32; 2]> {
    let at = |x: usize, y: usize| luma[y * width + x];
    let places = || (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
    let count = (SIDE * SIDE) as f32;
    let centred = |i: usize| i as f32 - 0.5 * (SIDE as f32 - 1.0);
    // The sum of squares of places about their middle, for all pixels.
    let spread = (SIDE * SIDE * (SIDE * SIDE - 1)) as f32 / 12.0;
    let (mut mean, mut across, mut down) = (0.0, 0.0, 0.0);
    for (x, y) in places() {
        mean += at(x, y) / count;
        across += centred(x) * at(x, y) / spread;
        down += centred(y) * at(x, y) / spread;
    }
    if !(ENDS..1.0 - ENDS).contains(&mean) {
        return None;
    }
    let rest = |x: usize, y: usize| at(x, y) - mean - across * centred(x) - down * centred(y);
    let variance: f32 = places().map(|(x, y)| rest(x, y).powi(2)).sum();
    let differences: f32 = places()
        .filter(|(x, y)| x + 1 < SIDE && y + 1 < SIDE)
        .map(|(x, y)| ((rest(x + 1, y) - rest(x, y)).powi(2) + (rest(x, y + 1) - rest(x, y)).powi(2)) / 2.0)
        .sum();
    // A plane takes three of the degrees of freedom.
    Some([variance / (count - 3.0), differences / ((SIDE - 1) * (SIDE - 1)) as f32])
}
