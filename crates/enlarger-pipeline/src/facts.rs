//! What is measured of a picture, once, before planning.

use enlarger_image::{Picture, Samples};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::classifier::{self, CELL, Logits};

/// Everything that a plan may depend on besides the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// 1 or 3 colour channels.
    pub colours: u8,
    /// Whether any pixel is not opaque.
    pub transparent: bool,
    /// 8 or 16.
    pub bits: u8,
    /// How much compression or noise shows, 0..=1 in hundredths.
    pub damaged: f32,
    /// How soft it is, 0..=1 in hundredths: out of focus, or enlarged before.
    pub soft: f32,
    /// How much it looks drawn, 0..=1 in hundredths: flat art, lines, text, screens.
    pub drawn: f32,
    /// What the numbers above say it shows.
    pub content: Content,
    /// What the numbers above say it suffers from.
    pub condition: Condition,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A photograph or a render.
    Photo,
    /// Drawing, cartoon, text or screen.
    Art,
}

/// What a picture suffers from most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing that one sees.
    Clean,
    /// Compression blocks or noise.
    Damaged,
    /// It is out of focus, or was enlarged before.
    Soft,
}

impl Facts {
    /// What it is, in words for a plan.
    pub(crate) fn words(&self) -> &'static str {
        match (self.content, self.condition) {
            (Content::Photo, Condition::Clean) => "a clean photograph",
            (Content::Photo, Condition::Damaged) => "a photograph with noise or compression blocks",
            (Content::Photo, Condition::Soft) => "a soft photograph",
            (Content::Art, Condition::Clean) => "flat art",
            (Content::Art, Condition::Damaged) => "flat art with noise or compression blocks",
            (Content::Art, Condition::Soft) => "soft flat art",
        }
    }
}

/// Above these a picture is what they say. Of pictures that the classifier was not trained on (`docs/quality.md`), all but two of 42
/// clean ones had at most 0.48 of damage and 0.36 of softness; as JPEG 50, at any phase, they had at least 0.7, saved twice mostly more
/// than 0.42.
const DAMAGED: f32 = 0.4;
const SOFT: f32 = 0.4;
/// Photos with noise have up to 0.71; of 70 drawings, clean or as JPEG 60, at least 62 have more.
const DRAWN: f32 = 0.72;

/// Side of a window that is looked at.
const WINDOW: usize = 256;
/// At most this many windows along each side, spread evenly.
const WINDOWS: usize = 3;
/// A window has at least this side, as those had that the classifier was trained on; its outermost pixels are repeated.
const LEAST: usize = 64;

impl Facts {
    /// Measures a picture. Deterministic on every machine; about 600,000 pixels are looked at, at most.
    pub fn of(picture: &Picture) -> Self {
        let [damaged, soft, drawn] = mean(&cells(picture)).map(hundredths);
        let condition = match () {
            () if damaged > DAMAGED => Condition::Damaged,
            () if soft > SOFT => Condition::Soft,
            () => Condition::Clean,
        };
        let content = if drawn > DRAWN { Content::Art } else { Content::Photo };
        Self {
            width: picture.width,
            height: picture.height,
            colours: picture.channels.colours() as u8,
            transparent: is_transparent(picture),
            bits: picture.samples.bits(),
            damaged,
            soft,
            drawn,
            content,
            condition,
        }
    }
}

fn is_transparent(picture: &Picture) -> bool {
    let n = picture.channels.count();
    if n % 2 == 1 {
        return false;
    }
    match &picture.samples {
        Samples::U8(s) => s.iter().skip(n - 1).step_by(n).any(|&a| a != u8::MAX),
        Samples::U16(s) => s.iter().skip(n - 1).step_by(n).any(|&a| a != u16::MAX),
    }
}

/// What the classifier says of all windows' cells that lie inside the picture.
fn cells(picture: &Picture) -> Vec<Logits> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (across, down) = (starts(width), starts(height));
    let places: Vec<_> = down.iter().flat_map(|&y| across.iter().map(move |&x| (x, y))).collect();
    let window = |(x, y): (usize, usize)| {
        let (w, h) = ((width - x).min(WINDOW), (height - y).min(WINDOW));
        let padded = [w, h].map(|side| side.next_multiple_of(CELL).max(LEAST));
        let cells = classifier::classify(&seen(picture, [x, y], padded), padded[0]);
        let inside = |side: usize| (side / CELL).max(1);
        let rows = cells.chunks_exact(padded[0] / CELL).take(inside(h));
        rows.flat_map(|row| row[..inside(w)].to_vec()).collect::<Vec<_>>()
    };
    // One after the other in the end: sums depend on the order of what is added.
    let windows: Vec<Vec<Logits>> = places.into_par_iter().map(window).collect();
    windows.concat()
}

/// Left (or top) edges of the windows along a side.
fn starts(side: usize) -> Vec<usize> {
    let count = side.div_ceil(WINDOW).min(WINDOWS);
    let spare = side.saturating_sub(WINDOW);
    (0..count).map(|i| if count == 1 { spare / 2 } else { i * spare / (count - 1) }).collect()
}

/// A window as interleaved RGB, 0..=1. Beyond the picture its outermost pixels are repeated; transparency shows white.
fn seen(picture: &Picture, [x0, y0]: [usize; 2], [w, h]: [usize; 2]) -> Vec<f32> {
    let n = picture.channels.count();
    let (width, height) = (picture.width as usize, picture.height as usize);
    let sample = |i: usize| match &picture.samples {
        Samples::U8(s) => f32::from(s[i]) / 255.0,
        Samples::U16(s) => f32::from(s[i]) / 65535.0,
    };
    let mut rgb = Vec::with_capacity(w * h * 3);
    for y in (y0..y0 + h).map(|y| y.min(height - 1)) {
        for x in (x0..x0 + w).map(|x| x.min(width - 1)) {
            let i = (y * width + x) * n;
            let alpha = if n.is_multiple_of(2) { sample(i + n - 1) } else { 1.0 };
            let colours = if n < 3 { [i; 3] } else { [i, i + 1, i + 2] };
            rgb.extend(colours.map(|at| sample(at) * alpha + 1.0 - alpha));
        }
    }
    rgb
}

/// Of at least one cell.
fn mean(cells: &[Logits]) -> Logits {
    let mut sums = [0.0f64; classifier::KINDS];
    for cell in cells {
        sums.iter_mut().zip(cell).for_each(|(sum, logit)| *sum += f64::from(*logit));
    }
    sums.map(|sum| (sum / cells.len() as f64) as f32)
}

/// A logit as a probability, in hundredths.
fn hundredths(logit: f32) -> f32 {
    (100.0 / (1.0 + (-logit).exp())).round() / 100.0
}
