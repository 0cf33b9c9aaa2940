//! What is measured of a picture, once, before planning.

use enlarger_image::{Picture, Samples};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
    /// Noise, standard deviation of luminance in 1/255, from the finest diagonal Haar band of the calmest blocks: what
    /// luminance has of it and, in colour pictures, no more than colour differences show.
    pub noise: f32,
    /// How much more luminance jumps at multiples of 8 pixels than beside them, relative to what changes around and where
    /// something does, -1..=1: 0 is none, 0.1 is JPEG 75.
    pub blockiness: f32,
    /// Share of neighbouring pixels that are equal, 0..=1: high in drawings, low in photographs.
    pub flatness: f32,
    /// What the numbers above say it is.
    pub content: Content,
}

/// The coarse kinds that choose a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A photograph or render without visible damage.
    CleanPhoto,
    /// A photograph with compression blocks or noise.
    DamagedPhoto,
    /// Drawing, cartoon, flat art.
    Art,
}

impl Content {
    /// In words for a plan.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::CleanPhoto => "a clean photograph",
            Self::DamagedPhoto => "a photograph with noise or compression blocks",
            Self::Art => "flat art",
        }
    }
}

/// Above these a picture is what they say. Set on twelve photos reduced 4x, with `facts` in `benches/`: as they were,
/// their blockiness is at most 0.009, their noise at most 1.05 and their flatness at most 0.58; as JPEG 75 the blockiness
/// of eleven is at least 0.054 (of a forest 0.019), as JPEG 90 it is up to 0.11; with noise of 5/255 their noise is 1.75
/// to 3.85.
const DAMAGED_BLOCKINESS: f32 = 0.04;
const DAMAGED_NOISE: f32 = 1.4;
const ART_FLATNESS: f32 = 0.7;

/// Windows of this size are measured, spread evenly; enough for stable medians, independent of the picture's size.
const WINDOW: usize = 256;
/// At most this many windows along each side.
const WINDOWS: usize = 5;

impl Facts {
    /// Measures a picture. Deterministic; about 1.6 million pixels are looked at, at most.
    pub fn of(picture: &Picture) -> Self {
        let colours = picture.channels.colours() as u8;
        let (across, down) = (starts(picture.width as usize), starts(picture.height as usize));
        let places: Vec<_> = down.iter().flat_map(|&y| across.iter().map(move |&x| (x, y))).collect();
        let windows: Vec<Measure> = places
            .into_par_iter()
            .map(|(x, y)| {
                let luminance = plane(picture, x, y, [0.299, 0.587, 0.114]);
                let opponent = (colours == 3).then(|| plane(picture, x, y, [1.0, -1.0, 0.0]));
                Measure::of(&luminance, opponent.as_ref(), x, y)
            })
            .collect();
        // One after the other: sums depend on the order of what is added.
        let mut measure = Measure::default();
        windows.into_iter().for_each(|window| measure.add(window));
        let (noise, blockiness, flatness) = (measure.noise(), measure.blockiness(), measure.flatness());
        let content = match (flatness, noise, blockiness) {
            (f, n, b) if f > ART_FLATNESS && n < DAMAGED_NOISE && b < DAMAGED_BLOCKINESS => Content::Art,
            (_, n, b) if n > DAMAGED_NOISE || b > DAMAGED_BLOCKINESS => Content::DamagedPhoto,
            _ => Content::CleanPhoto,
        };
        Self {
            width: picture.width,
            height: picture.height,
            colours,
            transparent: is_transparent(picture),
            bits: picture.samples.bits(),
            noise,
            blockiness,
            flatness,
            content,
        }
    }
}

/// Left (or top) edges of the windows along a side, multiples of 8 so that JPEG's grid keeps its phase.
fn starts(side: usize) -> Vec<usize> {
    if side <= WINDOW {
        return vec![0];
    }
    let count = (side / WINDOW).clamp(1, WINDOWS);
    let step = (side - WINDOW) / count.max(2).saturating_sub(1).max(1);
    (0..count).map(|i| (i * step) & !7).collect()
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

/// A weighted sum of the colours, which are 0..=255; grey counts as three equal ones. Luminance has BT.601's weights, on
/// encoded values.
struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// The 2x2 squares of a block: top left, top right, bottom left, bottom right.
    fn quads(&self, x: usize, y: usize) -> impl Iterator<Item = [f32; 4]> {
        let at = move |x: usize, y: usize| self.values[y * self.width + x];
        let corners = (y..y + BLOCK).step_by(2).flat_map(move |y| (x..x + BLOCK).step_by(2).map(move |x| (x, y)));
        corners.map(move |(x, y)| [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)])
    }
}

fn plane(picture: &Picture, x0: usize, y0: usize, weights: [f32; 3]) -> Plane {
    let n = picture.channels.count();
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (w, h) = (WINDOW.min(width - x0), WINDOW.min(height - y0));
    let sample = |i: usize| match &picture.samples {
        Samples::U8(s) => f32::from(s[i]),
        Samples::U16(s) => f32::from(s[i]) / 257.0,
    };
    let mut values = Vec::with_capacity(w * h);
    for y in y0..y0 + h {
        for x in x0..x0 + w {
            let i = (y * width + x) * n;
            let colours = if n < 3 { [sample(i); 3] } else { [sample(i), sample(i + 1), sample(i + 2)] };
            values.push(colours.iter().zip(weights).map(|(c, weight)| c * weight).sum());
        }
    }
    Plane { width: w, height: h, values }
}

/// Side of a [`Block`].
const BLOCK: usize = 16;

/// What is measured of 16x16 pixels.
struct Block {
    /// Sum of absolute first differences of luminance.
    activity: f32,
    /// Median absolute diagonal Haar coefficient of luminance.
    luminance: f32,
    /// The same of red less green; infinite for grey, which has none to compare with.
    opponent: f32,
}

impl Block {
    fn of(luminance: &Plane, opponent: Option<&Plane>, x: usize, y: usize) -> Self {
        let activity = luminance.quads(x, y).map(|[a, b, c, _]| (a - b).abs() + (a - c).abs()).sum();
        let median =
            |plane: &Plane| median(plane.quads(x, y).map(|[a, b, c, d]| (a - b - c + d).abs() * 0.5).collect());
        Self { activity, luminance: median(luminance), opponent: opponent.map_or(f32::INFINITY, median) }
    }
}

/// All whole blocks of a window, row by row.
fn blocks(luminance: &Plane, opponent: Option<&Plane>) -> Vec<Block> {
    let starts = |side: usize| (0..side.saturating_sub(BLOCK - 1)).step_by(BLOCK);
    let places = starts(luminance.height).flat_map(|y| starts(luminance.width).map(move |x| (x, y)));
    places.map(|(x, y)| Block::of(luminance, opponent, x, y)).collect()
}

/// Of at least one value; of an even number the larger middle one.
fn median(mut values: Vec<f32>) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[derive(Default)]
struct Measure {
    blocks: Vec<Block>,
    /// Sum and count of excess jumps across columns, by column modulo 8; and across rows.
    columns: [(f64, u64); 8],
    rows: [(f64, u64); 8],
    equal: u64,
    pairs: u64,
}

impl Measure {
    /// Of a window whose left and top edge are at `x0` and `y0`.
    fn of(luminance: &Plane, opponent: Option<&Plane>, x0: usize, y0: usize) -> Self {
        let mut measure = Self { blocks: blocks(luminance, opponent), ..Self::default() };
        measure.window(luminance, x0, y0);
        measure
    }

    fn add(&mut self, other: Self) {
        self.blocks.extend(other.blocks);
        for (slots, others) in [(&mut self.columns, other.columns), (&mut self.rows, other.rows)] {
            for ((sum, count), (other_sum, other_count)) in slots.iter_mut().zip(others) {
                *sum += other_sum;
                *count += other_count;
            }
        }
        self.equal += other.equal;
        self.pairs += other.pairs;
    }

    fn window(&mut self, p: &Plane, x0: usize, y0: usize) {
        for y in 0..p.height {
            let row = &p.values[y * p.width..(y + 1) * p.width];
            for x in 1..p.width {
                self.pairs += 1;
                self.equal += u64::from((row[x] - row[x - 1]).abs() < 0.75);
            }
        }
        for y in 0..p.height {
            for x in 0..p.width {
                if (2..p.width.saturating_sub(1)).contains(&x) {
                    jump(&mut self.columns[(x0 + x) % 8], &p.values[y * p.width + x - 2..], 1);
                }
                if (2..p.height.saturating_sub(1)).contains(&y) {
                    jump(&mut self.rows[(y0 + y) % 8], &p.values[(y - 2) * p.width + x..], p.width);
                }
            }
        }
    }

    /// Median absolute deviation / 0.6745 is the standard deviation of Gaussian noise (Donoho and Johnstone 1994);
    /// the calmest twentieth of the blocks keeps texture out of it. What is left of it in foliage is told by its colour:
    /// texture changes red and green together, a sensor's noise does not. Of noise of deviation s in each colour,
    /// luminance has 0.668 s and red less green has 1.414 s. Grey pictures have luminance only.
    fn noise(&mut self) -> f32 {
        if self.blocks.is_empty() {
            return 0.0;
        }
        self.blocks.sort_by(|a, b| a.activity.total_cmp(&b.activity));
        let calm = &self.blocks[..self.blocks.len().div_ceil(20)];
        let deviation = |of: fn(&Block) -> f32| median(calm.iter().map(of).collect()) / 0.6745;
        deviation(|b| b.luminance).min(deviation(|b| b.opponent) * (0.668 / 1.414))
    }

    /// The smaller of both directions: a fence has edges in one, a codec's blocks in both.
    fn blockiness(&self) -> f32 {
        let mean = |(sum, count): (f64, u64)| if count == 0 { 0.0 } else { sum / count as f64 };
        let excess = |slots: &[(f64, u64); 8]| {
            let others = (1..8).map(|i| mean(slots[i])).sum::<f64>() / 7.0;
            (mean(slots[0]) - others).max(0.0) as f32
        };
        excess(&self.columns).min(excess(&self.rows))
    }

    fn flatness(&self) -> f32 {
        if self.pairs == 0 { 1.0 } else { self.equal as f32 / self.pairs as f32 }
    }
}

/// A block edge shows as a jump between two pixels that their neighbours on both sides lack. `values` starts two pixels
/// before the edge.
fn jump(slot: &mut (f64, u64), values: &[f32], step: usize) {
    let difference = |i: usize| (values[(i + 1) * step] - values[i * step]).abs();
    let [before, here, after] = [0, 1, 2].map(difference);
    // Where nothing changes there is nothing to tell: flat art has blocks around its edges only.
    if before + here + after == 0.0 {
        return;
    }
    // Relative to what changes around: a jump that hides in texture is no block that one sees, and a strong edge is the
    // picture's own.
    slot.0 += f64::from((here - 0.5 * (before + after)) / (before + here + after + 1.0));
    slot.1 += 1;
}
