//! Pixel art: pictures whose pixels were set one by one, and those enlarged by whole pixels.

use std::collections::HashSet;

use enlarger_image::{Picture, Sample, with_samples};

/// Most colours of art that was not enlarged before. Paint programs' palettes for sprites have 16 to 64.
const COLOURS: usize = 64;
/// How many pixels each colour has at least, on average: what was drawn by hand repeats its colours.
const REPEATED: usize = 4;
/// The longest side of art that was not enlarged before. Larger pictures of few colours are logos and screens, which networks draw
/// well.
const SIDE: u32 = 320;
/// The least number of squares along the shorter side of art that was enlarged before: fewer are chance.
const SQUARES: u32 = 6;
/// The widest squares.
const WIDEST: u32 = 64;

/// The side in pixels of the squares that pixel art is made of; `None` if a picture is something else.
pub(super) fn square(picture: &Picture) -> Option<u32> {
    with_samples!(&picture.samples, samples => square_of(picture, samples))
}

fn square_of<T: Sample>(picture: &Picture, samples: &[T]) -> Option<u32> {
    let (width, height, n) = (picture.width as usize, picture.height as usize, picture.channels.count());
    let alpha = picture.channels.has_alpha().then_some(n - 1);
    // What cannot be seen is all alike.
    let pixel = |x: usize, y: usize| {
        let pixel = &samples[(y * width + x) * n..][..n];
        if alpha.is_some_and(|alpha| pixel[alpha] == T::default()) { &[] } else { pixel }
    };
    let columns = widest(picture.width, |x| (0..height).any(|y| pixel(x, y) != pixel(x - 1, y)));
    let rows = widest(picture.height, |y| (0..width).any(|x| pixel(x, y) != pixel(x, y - 1)));
    if (columns, rows) == (picture.width, picture.height) {
        // One colour shows nothing.
        return None;
    }
    let side = gcd(columns, rows);
    if (2..=WIDEST).contains(&side) && picture.width.min(picture.height) / side >= SQUARES {
        return Some(side);
    }
    if picture.width.max(picture.height) > SIDE {
        return None;
    }
    let mut colours = HashSet::new();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        colours.insert(pixel(x, y));
        if colours.len() > COLOURS {
            return None;
        }
    }
    (REPEATED * colours.len() <= width * height).then_some(1)
}

/// The widest squares whose borders all changes along a side lie on. A side that is not a whole number of them has
/// none.
fn widest(length: u32, changes: impl Fn(usize) -> bool) -> u32 {
    let mut widest = length;
    for place in 1..length {
        if widest > 1 && place % widest != 0 && changes(place as usize) {
            widest = gcd(widest, place);
        }
    }
    widest
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
        let colour = |i: usize| colours[((i % width / side) * 7 + (i / width / side) * 5 + i / width / side / 3) % 4];
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
            assert_eq!(square(&sprite(side)), Some(side as u32));
        }
    }

    #[test]
    fn colours_under_transparency_do_not_count() {
        let mut art = sprite(4);
        let Samples::U8(samples) = &mut art.samples else { unreachable!() };
        for (i, pixel) in samples.chunks_exact_mut(4).enumerate().filter(|(_, pixel)| pixel[3] == 0) {
            pixel[0] = i as u8;
        }
        assert_eq!(square(&art), Some(4));
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
        assert_eq!(square(&picture(&|i| (i % 90 * 2 + i / 90) as u8)), None);
        assert_eq!(square(&picture(&|i| (i * 7919 % 251) as u8)), None);
        assert_eq!(square(&picture(&|_| 9)), None);
        let dot = Picture { width: 1, height: 1, samples: Samples::U8(vec![3]), ..picture(&|_| 0) };
        assert_eq!(square(&dot), None);
    }
}
