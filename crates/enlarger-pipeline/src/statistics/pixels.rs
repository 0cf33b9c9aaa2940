//! Pixel art: pictures whose pixels were set one by one, and those enlarged by whole pixels.

use std::collections::{HashMap, HashSet};

use enlarger_image::{Picture, Sample, with_samples};

/// Most colours of art that was not enlarged before. Paint programs' palettes for sprites have 16 to 64.
const COLOURS: usize = 64;
/// How many pixels each colour has at least, on average: what was drawn by hand repeats its colours.
const REPEATED: usize = 4;
/// The longest side of art that was not enlarged before. Larger pictures of few colours are logos and screens, which networks draw
/// well.
const SIDE: u32 = 320;
/// The longest side that art which was enlarged before had.
const SCENE: u32 = 1280;
/// The least number of squares along the shorter side of art that was enlarged before: fewer are chance.
const SQUARES: u32 = 6;
/// The widest squares.
const WIDEST: u32 = 64;

/// What is taken for pixel art.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PixelArt {
    /// Nothing: it is not searched for.
    #[default]
    Unasked,
    /// What can be nothing else.
    Evident,
    /// What may be: a person said so.
    Possible,
}

/// The side in pixels of the squares that pixel art is made of, 1 too where they do not begin at the picture's corner; `None` if a
/// picture is something else, or nothing was asked.
pub(super) fn square(picture: &Picture, asked: PixelArt) -> Option<u32> {
    if asked == PixelArt::Unasked {
        return None;
    }
    let squares = Squares::of(picture)?;
    let enlarged = (2..=WIDEST).contains(&squares.side) && picture.width.min(picture.height) / squares.side >= SQUARES;
    let (side, longest) = if enlarged { (squares.side, SCENE) } else { (1, SIDE) };
    let drawn = (picture.width.max(picture.height) / side <= longest).then(|| squares.drawn(picture, enlarged));
    let is_possible = asked == PixelArt::Possible;
    let is_art = enlarged && is_possible
        || drawn.is_some_and(|drawn| drawn.is_evident(enlarged) || is_possible && drawn.colours(COLOURS).is_some());
    is_art.then_some(if enlarged && squares.are_whole(picture) { squares.side } else { 1 })
}

/// The colour of a pixel in 16 bits, with alpha. What cannot be seen is all alike.
type Colour = [u16; 4];

fn colour<T: Sample>(pixel: &[T]) -> Colour {
    let value = |sample: T| (sample.value() * (u32::from(u16::MAX) / T::MAX.value())) as u16;
    match *pixel {
        [v] => [value(v), value(v), value(v), u16::MAX],
        [v, a] if a != T::default() => [value(v), value(v), value(v), value(a)],
        [r, g, b] => [value(r), value(g), value(b), u16::MAX],
        [r, g, b, a] if a != T::default() => [value(r), value(g), value(b), value(a)],
        _ => [0; 4],
    }
}

/// The widest squares whose borders all changes lie on.
struct Squares {
    side: u32,
    /// Where the first whole one begins, across and down.
    first: [u32; 2],
}

impl Squares {
    /// `None` if the picture is of one colour.
    fn of(picture: &Picture) -> Option<Self> {
        with_samples!(&picture.samples, samples => Self::in_samples(picture, samples))
    }

    fn in_samples<T: Sample>(picture: &Picture, samples: &[T]) -> Option<Self> {
        let n = picture.channels.count();
        let alpha = picture.channels.has_alpha().then_some(n - 1);
        let same = |a: &[T], b: &[T]| {
            a == b || alpha.is_some_and(|alpha| a[alpha] == T::default() && b[alpha] == T::default())
        };
        let (mut columns, mut rows) = (Changes::default(), Changes::default());
        let mut above: Option<&[T]> = None;
        for (y, row) in (0..).zip(samples.chunks_exact(picture.width as usize * n)) {
            for (x, pair) in (1..).zip(row.windows(2 * n).step_by(n)) {
                if columns.may_change(x) && !same(&pair[..n], &pair[n..]) {
                    columns.at(x);
                }
            }
            let changes = |above: &[T]| above.chunks_exact(n).zip(row.chunks_exact(n)).any(|(a, b)| !same(a, b));
            if above.is_some_and(|above| rows.may_change(y) && changes(above)) {
                rows.at(y);
            }
            above = Some(row);
            if columns.apart == 1 || rows.apart == 1 {
                return Some(Self { side: 1, first: [0, 0] });
            }
        }
        if columns.first.is_none() && rows.first.is_none() {
            return None;
        }
        // Changes in one place alone say nothing.
        let side = gcd(columns.apart, rows.apart).max(1);
        Some(Self { side, first: [columns.first, rows.first].map(|first| first.unwrap_or(0) % side) })
    }

    /// Whether the picture consists of whole ones.
    fn are_whole(&self, picture: &Picture) -> bool {
        self.first == [0, 0] && picture.width.is_multiple_of(self.side) && picture.height.is_multiple_of(self.side)
    }

    /// One pixel of each if the picture was enlarged, else all.
    fn drawn(&self, picture: &Picture, enlarged: bool) -> Drawn {
        with_samples!(&picture.samples, samples => self.drawn_in(picture, samples, enlarged))
    }

    fn drawn_in<T: Sample>(&self, picture: &Picture, samples: &[T], enlarged: bool) -> Drawn {
        let (step, [x, y]) = if enlarged { (self.side, self.first) } else { (1, [0, 0]) };
        let (step, n) = (step as usize, picture.channels.count());
        let rows = samples.chunks_exact(picture.width as usize * n).skip(y as usize).step_by(step);
        let pixels = rows.flat_map(|row| row.chunks_exact(n).skip(x as usize).step_by(step)).map(colour).collect();
        Drawn { width: (picture.width - x).div_ceil(step as u32) as usize, pixels }
    }
}

/// Where colours change along a side.
#[derive(Default)]
struct Changes {
    first: Option<u32>,
    /// All later ones are a multiple of this behind the first; 0 if there are none.
    apart: u32,
}

impl Changes {
    /// Whether a change there would be news.
    fn may_change(&self, place: u32) -> bool {
        self.first.is_none_or(|first| self.apart == 0 || !place.abs_diff(first).is_multiple_of(self.apart))
    }

    fn at(&mut self, place: u32) {
        let first = *self.first.get_or_insert(place);
        self.apart = gcd(self.apart, place.abs_diff(first));
    }
}

/// Pixels as they were drawn, before they were enlarged.
struct Drawn {
    width: usize,
    pixels: Vec<Colour>,
}

/// Most colours of art that is taken for such unasked: some sprites have whole ramps of them.
const EVIDENT_COLOURS: usize = 256;
/// A colour on so few pixels is rare, and at most this share of what is visible may have one: smooth edges hardly repeat a colour.
const RARE: (usize, f32) = (2, 0.2);
/// Alphas between transparent and opaque: a shadow's, a ghost's. Smooth edges have many.
const ALPHAS: usize = 2;
/// Share of edges that a pixel of a colour in between makes soft. Of 390 tiles and sprites of three games, 347 have no more, and all of 24 photos of 16
/// to 96 pixels in 16 or 64 colours more than twice as much.
const SOFT: f32 = 0.25;
/// Share of changes between neighbours that are too weak for an edge: gray noise and fog consist of them. 369 of those tiles and sprites have no more.
const FAINT: f32 = 0.6;
/// Longest side of art of two colours, and of any art: what is larger shows detail everywhere, or is a logo, a chart or text.
const TWO_COLOURS: usize = 64;
const SMALL: usize = 128;
/// Share of neighbours of one colour below which it is noise, and above which there is little detail.
const NOISE: f32 = 0.15;
const PLAIN: f32 = 0.85;

impl Drawn {
    /// Its colours, and how many pixels have each, if there are no more than this many, and each repeats.
    fn colours(&self, most: usize) -> Option<HashMap<Colour, usize>> {
        let mut colours = HashMap::new();
        for colour in &self.pixels {
            *colours.entry(*colour).or_insert(0) += 1;
            if colours.len() > most {
                return None;
            }
        }
        (REPEATED * colours.len() <= self.pixels.len()).then_some(colours)
    }

    /// Whether its pixels were set one by one, without a doubt: few colours that repeat, and hard edges. Smooth logos, icons and small
    /// photographs have colours in between.
    fn is_evident(&self, enlarged: bool) -> bool {
        let longer = self.width.max(self.pixels.len() / self.width);
        let Some(colours) = self.colours(EVIDENT_COLOURS) else { return false };
        let alphas: HashSet<u16> =
            colours.keys().map(|colour| colour[3]).filter(|&alpha| alpha > 0 && alpha < u16::MAX).collect();
        let count =
            |most: usize| colours.iter().filter(|(c, n)| c[3] > 0 && **n <= most).map(|(_, n)| n).sum::<usize>();
        let rare = count(RARE.0) as f32 <= RARE.1 * count(usize::MAX) as f32;
        let plain = self.plain();
        let detailed = longer <= TWO_COLOURS || colours.len() > 2 && (longer <= SMALL || plain <= PLAIN);
        alphas.len() <= ALPHAS
            && rare
            && (enlarged || detailed)
            && plain >= NOISE
            && self.faint() <= FAINT
            && self.soft() <= SOFT
    }

    /// Share of neighbours that have one colour.
    fn plain(&self) -> f32 {
        let equal = self.lines().iter().flat_map(|line| line.windows(2)).filter(|pair| pair[0] == pair[1]).count();
        equal as f32 / (2 * self.pixels.len()) as f32
    }

    /// Rows and columns.
    fn lines(&self) -> Vec<Vec<Colour>> {
        let column = |x: usize| self.pixels.iter().skip(x).step_by(self.width).copied().collect();
        self.pixels.chunks_exact(self.width).map(<[_]>::to_vec).chain((0..self.width).map(column)).collect()
    }

    /// Share of changes between neighbours that are weaker than an edge.
    fn faint(&self) -> f32 {
        let (mut faint, mut changes) = (0, 0);
        for line in self.lines() {
            for pair in line.windows(2).filter(|pair| pair[0] != pair[1]) {
                changes += 1;
                faint += usize::from(far(seen(pair[0]), seen(pair[1])) < EDGE);
            }
        }
        faint as f32 / changes.max(1) as f32
    }

    /// Share of edges, along rows and columns, on which a pixel has a colour between its neighbours'.
    fn soft(&self) -> f32 {
        let (mut soft, mut hard) = (0, 0);
        for line in self.lines() {
            let line: Vec<[f32; 4]> = line.into_iter().map(seen).collect();
            let between: Vec<bool> = line.windows(3).map(|three| is_between(three[1], three[0], three[2])).collect();
            soft += between.iter().filter(|between| **between).count();
            // An edge that is part of a soft one is not hard as well.
            let is_soft = |i: usize| between.get(i) == Some(&true) || i > 0 && between[i - 1];
            hard +=
                (0..line.len().saturating_sub(1)).filter(|&i| far(line[i], line[i + 1]) >= EDGE && !is_soft(i)).count();
        }
        soft as f32 / (soft + hard).max(1) as f32
    }
}

/// Difference of colours at an edge, 0..=1 being black to white.
const EDGE: f32 = 32.0 / 255.0;
/// Difference of the colours on both sides of a soft one.
const SOFT_EDGE: f32 = 48.0 / 255.0;
/// How far a colour may be from the line between two others.
const BESIDE: f32 = 16.0 / 255.0;

/// A colour as it is seen on black, 0..=1.
fn seen([r, g, b, a]: Colour) -> [f32; 4] {
    let share = |value: u16| f32::from(value) / f32::from(u16::MAX);
    [share(r) * share(a), share(g) * share(a), share(b) * share(a), share(a)]
}

/// The largest difference of two colours.
fn far(a: [f32; 4], b: [f32; 4]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Whether a colour is a mixture of two others.
fn is_between(colour: [f32; 4], one: [f32; 4], other: [f32; 4]) -> bool {
    if far(one, other) < SOFT_EDGE {
        return false;
    }
    let across: [f32; 4] = std::array::from_fn(|c| other[c] - one[c]);
    let length: f32 = across.iter().map(|d| d * d).sum();
    let share = (0..4).map(|c| (colour[c] - one[c]) * across[c]).sum::<f32>() / length;
    let mixed = std::array::from_fn(|c| one[c] + share * across[c]);
    (0.12..0.88).contains(&share) && far(colour, mixed) <= BESIDE
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    /// 12 x 8 squares of four colours, the last of which is transparent.
    fn sprite(side: usize) -> Picture {
        let (width, height) = (12 * side, 8 * side);
        let colours = [[200, 40, 40, 255], [40, 160, 60, 255], [20, 20, 60, 255], [0, 0, 0, 0]];
        // Bars of two squares each, which begin elsewhere in every third row.
        let colour = |i: usize| {
            let (x, y) = (i % width / side, i / width / side);
            colours[((x + y / 3) / 2 * 7 + y / 2 * 5) % 4]
        };
        let samples = Samples::U8((0..width * height).flat_map(colour).collect());
        Picture {
            width: width as u32,
            height: height as u32,
            channels: Channels::Rgba,
            samples,
            metadata: Metadata::default(),
        }
    }

    #[test]
    fn the_squares_of_pixel_art_are_found_at_every_size() {
        for side in [1, 2, 3, 5, 8, 16] {
            assert_eq!(square(&sprite(side), PixelArt::Evident), Some(side as u32));
        }
    }

    #[test]
    fn colours_under_transparency_do_not_count() {
        let mut art = sprite(4);
        let Samples::U8(samples) = &mut art.samples else { unreachable!() };
        for (i, pixel) in samples.chunks_exact_mut(4).enumerate().filter(|(_, pixel)| pixel[3] == 0) {
            pixel[0] = i as u8;
        }
        assert_eq!(square(&art, PixelArt::Evident), Some(4));
    }

    #[test]
    fn gradients_photographs_and_single_colours_are_not_pixel_art() {
        let picture = |of: &dyn Fn(usize) -> u8| Picture {
            width: 90,
            height: 70,
            channels: Channels::Gray,
            samples: Samples::U8((0..90 * 70).map(of).collect()),
            metadata: Metadata::default(),
        };
        assert_eq!(square(&picture(&|i| (i % 90 * 2 + i / 90) as u8), PixelArt::Possible), None);
        assert_eq!(square(&picture(&|i| (i * 7919 % 251) as u8), PixelArt::Possible), None);
        assert_eq!(square(&picture(&|_| 9), PixelArt::Possible), None);
        assert_eq!(square(&picture(&|i| 120 + (i * 7919 % 13) as u8), PixelArt::Evident), None, "faint noise");
        let dot = Picture { width: 1, height: 1, samples: Samples::U8(vec![3]), ..picture(&|_| 0) };
        assert_eq!(square(&dot, PixelArt::Possible), None);
    }
}
