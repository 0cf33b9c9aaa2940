//! Flat colours stay what they are: up to transparent edges, beside other shapes, and at the picture's border.

use std::{io::Cursor, sync::LazyLock};

use enlarger_image::{Channels, EncodeOptions, Format, Limits, Metadata, Picture, Samples};
use enlarger_pipeline::{Content, Crop, Enlarger, EnlargerOptions, Facts, Output, Request, Size, Unwatched, to_depth};

static ENLARGER: LazyLock<Enlarger> = LazyLock::new(|| Enlarger::new(EnlargerOptions::default()).expect("an enlarger"));

const NETWORKS: [&str; 4] = ["realsr-df2k", "x4plus", "x4plus-anime-6b", "animevideo-v3"];

/// A picture from a function of its pixels' coordinates.
fn drawn(width: u32, height: u32, channels: Channels, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Picture {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let samples = places
        .flat_map(|(x, y)| {
            let [r, g, b, a] = pixel(x, y);
            match channels {
                Channels::Gray => vec![r],
                Channels::GrayAlpha => vec![r, a],
                Channels::Rgb => vec![r, g, b],
                Channels::Rgba => vec![r, g, b, a],
            }
        })
        .collect();
    Picture { width, height, channels, samples: Samples::U8(samples), metadata: Metadata::default() }
}

fn encode(picture: &Picture, format: Format, quality: Option<u8>) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let options = EncodeOptions { format, quality, ..EncodeOptions::default() };
    enlarger_image::encode(picture, &options, &mut out).expect("it can be encoded");
    out.into_inner()
}

fn decode(bytes: &[u8]) -> Picture {
    enlarger_image::decode(bytes, &Limits::default()).expect("a picture").picture
}

fn enlarge(picture: &Picture, request: &Request) -> Picture {
    let mut out = Cursor::new(Vec::new());
    let bytes = encode(picture, Format::Png, None);
    ENLARGER
        .job(&bytes, request, &Output::default(), &Limits::default(), &mut out, &Unwatched)
        .unwrap_or_else(|error| panic!("{request:?}: {error}"));
    decode(&out.into_inner())
}

fn by(model: Option<&str>, factor: f64) -> Request {
    Request { size: Size::Factor(factor), model: model.map(Into::into), ..Request::default() }
}

/// A draft: the smallest network.
fn draft(factor: f64) -> Request {
    Request { draft: true, ..by(None, factor) }
}

/// Pixels as 8 bits of red, green, blue and alpha.
fn rgba(picture: &Picture) -> Vec<[i32; 4]> {
    let picture = to_depth(picture.clone(), 8).expect("there is room");
    let Samples::U8(samples) = &picture.samples else { unreachable!("it was brought to 8 bits") };
    let pixels = samples.chunks_exact(picture.channels.count());
    pixels
        .map(|p| match *p {
            [v] => [v, v, v, 255],
            [v, a] => [v, v, v, a],
            [r, g, b] => [r, g, b, 255],
            [r, g, b, a] => [r, g, b, a],
            _ => unreachable!("pixels have one to four samples"),
        })
        .map(|p| p.map(i32::from))
        .collect()
}

fn colour_distance(a: &[i32; 4], b: &[i32; 4]) -> i32 {
    (0..3).map(|c| (a[c] - b[c]).abs()).max().expect("three colours")
}

/// The largest difference of a colour from the source's, where its pixel's neighbours all are equal to it, are opaque, and two
/// more pixels of the result lie between.
fn off_in_flat_areas(source: &Picture, result: &Picture) -> i32 {
    let (from, to) = (rgba(source), rgba(result));
    let (w, h) = (i64::from(source.width), i64::from(source.height));
    let at = |x: i64, y: i64| from[(y.clamp(0, h - 1) * w + x.clamp(0, w - 1)) as usize];
    let flat = |x: i64, y: i64| {
        let here = at(x, y);
        here[3] == 255 && (-1..=1).all(|dy| (-1..=1).all(|dx| at(x + dx, y + dy) == here))
    };
    let (rw, rh) = (i64::from(result.width), i64::from(result.height));
    let below = |x: i64, y: i64| (x.clamp(0, rw - 1) * w / rw, y.clamp(0, rh - 1) * h / rh);
    let mut worst = 0;
    for y in 0..rh {
        for x in 0..rw {
            let clear = [-2, 0, 2].iter().all(|dy| {
                [-2, 0, 2].iter().all(|dx| {
                    let (x, y) = below(x + dx, y + dy);
                    flat(x, y)
                })
            });
            if clear {
                let (sx, sy) = below(x, y);
                worst = worst.max(colour_distance(&to[(y * rw + x) as usize], &at(sx, sy)));
            }
        }
    }
    worst
}

/// A disc's coverage of a pixel, 0..=255.
fn disc(x: u32, y: u32, centre: f32, radius: f32) -> u8 {
    let distance = (x as f32 + 0.5 - centre).hypot(y as f32 + 0.5 - centre);
    ((radius - distance + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
}

fn mixed(a: [u8; 3], b: [u8; 3], share: u8) -> [u8; 4] {
    let mix =
        |c: usize| ((u32::from(a[c]) * (255 - u32::from(share)) + u32::from(b[c]) * u32::from(share)) / 255) as u8;
    [mix(0), mix(1), mix(2), 255]
}

fn inside(x: u32, y: u32, [left, top, right, bottom]: [u32; 4]) -> bool {
    (left..right).contains(&x) && (top..bottom).contains(&y)
}

/// Drawings with names.
fn drawings() -> Vec<(&'static str, Picture)> {
    const SPRITE: [&str; 16] = [
        "......1111......",
        "....11222211....",
        "...1222222221...",
        "..122222222221..",
        "..122112211221..",
        ".12221122112221.",
        ".12222222222221.",
        ".12222222222221.",
        ".12211111111221.",
        ".12213333331221.",
        "..122133331221..",
        "..122211112221..",
        "...1222222221...",
        "....11222211....",
        "......1111......",
        "................",
    ];
    vec![
        ("a disc on nothing", drawn(128, 128, Channels::Rgba, |x, y| [0xc0, 0x40, 0x20, disc(x, y, 64.0, 44.0)])),
        (
            "squares on sky blue",
            drawn(128, 128, Channels::Rgb, |x, y| {
                match (inside(x, y, [16, 24, 56, 64]), inside(x, y, [72, 56, 112, 116])) {
                    (true, _) => [0, 128, 0, 255],
                    (_, true) => [139, 69, 19, 255],
                    _ => [135, 206, 235, 255],
                }
            }),
        ),
        (
            "a soft disc on blue grey",
            drawn(96, 96, Channels::Rgb, |x, y| mixed([70, 90, 110], [250, 200, 60], disc(x, y, 44.3, 27.7))),
        ),
        (
            "a sprite",
            drawn(32, 32, Channels::Rgba, |x, y| match SPRITE[y as usize / 2].as_bytes()[x as usize / 2] {
                b'1' => [34, 32, 52, 255],
                b'2' => [217, 160, 102, 255],
                b'3' => [172, 50, 50, 255],
                _ => [0; 4],
            }),
        ),
        (
            "a board of squares of 8",
            drawn(64, 64, Channels::Rgb, |x, y| {
                if (x / 8 + y / 8) % 2 == 0 { [200, 60, 40, 255] } else { [60, 120, 200, 255] }
            }),
        ),
        (
            "thin lines on cream",
            drawn(96, 64, Channels::Rgb, |x, y| {
                if y % 16 == 9 || (x + 2 * y) % 61 == 0 { [20, 40, 90, 255] } else { [250, 240, 220, 255] }
            }),
        ),
    ]
}

#[test]
fn shapes_on_transparent_ground_keep_their_colours() {
    // Beside shapes on opaque ground networks leave a rim of their own, up to 23/255: see "Known faults" in docs/look.md.
    for (name, drawing) in drawings().into_iter().filter(|(name, _)| *name == "a disc on nothing") {
        for (request, how) in [(by(None, 4.0), "4x"), (by(None, 2.0), "2x"), (draft(3.0), "draft 3x")] {
            let off = off_in_flat_areas(&drawing, &enlarge(&drawing, &request));
            println!("{name}, {how}: {off}");
            assert!(off <= 6, "{name}, {how}: a flat colour is off by {off}");
        }
    }
}

#[test]
fn what_is_visible_keeps_its_one_colour_up_to_transparent_edges() {
    let noise = |x: u32, y: u32| {
        (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917) >> 24
    };
    let masks: [(&str, &dyn Fn(u32, u32) -> u8); 6] = [
        ("half plane", &|x, _| if x < 20 { 255 } else { 0 }),
        ("bars", &|x, _| if x % 8 < 2 { 255 } else { 0 }),
        ("dots", &|x, y| if x % 10 < 2 && y % 10 < 2 { 255 } else { 0 }),
        ("disc", &|x, y| disc(x, y, 24.0, 15.0)),
        ("noise", &|x, y| noise(x, y) as u8),
        ("ramp", &|x, _| (x * 255 / 47) as u8),
    ];
    for (name, mask) in masks {
        for (channels, colour) in
            [(Channels::Rgba, [255; 3]), (Channels::Rgba, [200, 90, 40]), (Channels::GrayAlpha, [160; 3])]
        {
            let picture = drawn(48, 48, channels, |x, y| {
                let [r, g, b] = if mask(x, y) == 0 { [0; 3] } else { colour };
                [r, g, b, mask(x, y)]
            });
            for bits in [8, 16] {
                let picture = to_depth(picture.clone(), bits).expect("there is room");
                let whole = [i32::from(colour[0]), i32::from(colour[1]), i32::from(colour[2]), 255];
                for factor in [2.0, 3.0, 8.0] {
                    let result = rgba(&enlarge(&picture, &draft(factor)));
                    let off = result.iter().filter(|p| p[3] > 0).map(|p| colour_distance(p, &whole)).max();
                    assert!(off <= Some(8), "{name} of {colour:?}, {bits} bits, {factor}x: off by {off:?}");
                }
            }
        }
    }
}

#[test]
fn flat_colours_reach_the_border_with_every_network() {
    const SIDE: usize = 24;
    for colour in [[255, 0, 0], [255, 0, 255], [0, 255, 0], [255; 3], [0; 3], [128, 60, 20]] {
        let flat = drawn(SIDE as u32, SIDE as u32, Channels::Rgb, |_, _| [colour[0], colour[1], colour[2], 255]);
        let whole = [i32::from(colour[0]), i32::from(colour[1]), i32::from(colour[2]), 255];
        for network in NETWORKS.map(Some).into_iter().chain([None]) {
            let result = rgba(&enlarge(&flat, &by(network, 4.0)));
            let border = |i: usize| !(4..4 * SIDE - 4).contains(&i);
            let (mut at_border, mut inside) = (0, 0);
            for (i, pixel) in result.iter().enumerate() {
                let outermost = border(i % (4 * SIDE)) || border(i / (4 * SIDE));
                let worst = if outermost { &mut at_border } else { &mut inside };
                *worst = (*worst).max(colour_distance(pixel, &whole));
            }
            println!("{network:?}: {colour:?} is off by {at_border} at the border, by {inside} inside");
            // Networks have faults of their own: x4plus makes flat green 13/255 redder in places.
            assert!(at_border <= inside + 3, "{network:?}: {colour:?} is off by {at_border}, inside by {inside}");
            assert!(network.is_some() || at_border <= 3, "{colour:?} is off by {at_border} at the border");
        }
    }
}

#[test]
fn a_part_sees_the_pixels_around_it() {
    let picture = drawn(64, 48, Channels::Rgb, |x, y| mixed([70, 90, 110], [250, 200, 60], disc(x, y, 26.0, 17.0)));
    let (factor, crop) = (4, Crop { x: 20, y: 12, width: 24, height: 20 });
    let whole = rgba(&enlarge(&picture, &draft(f64::from(factor))));
    let part = rgba(&enlarge(&picture, &Request { crop: Some(crop), ..draft(f64::from(factor)) }));
    let rows = whole.chunks_exact(64 * factor as usize).skip((crop.y * factor) as usize);
    let (left, width) = ((crop.x * factor) as usize, (crop.width * factor) as usize);
    let off = rows
        .zip(part.chunks_exact(width))
        .flat_map(|(row, part)| row[left..].iter().zip(part))
        .map(|(a, b)| colour_distance(a, b));
    let off = off.max().expect("there are pixels");
    assert!(off <= 10, "the part differs from the whole by {off}");
}

#[test]
fn drawings_are_art_wherever_their_shapes_lie_and_compressed_ones_are_damaged() {
    // The board's squares differ by 11/255 of luminance and lie on the grid of JPEG: its blocks would look the same.
    for (name, drawing) in drawings().into_iter().filter(|(name, _)| !name.starts_with("a board")) {
        let facts = Facts::of(&drawing);
        assert_ne!(facts.content, Content::DamagedPhoto, "{name}: {facts:?}");
    }
    let soft = drawn(192, 192, Channels::Rgb, |x, y| mixed([70, 90, 110], [250, 200, 60], disc(x, y, 92.3, 70.7)));
    assert_eq!(Facts::of(&soft).content, Content::Art);
    let facts = Facts::of(&decode(&encode(&soft, Format::Jpeg, Some(40))));
    assert_eq!(facts.content, Content::DamagedPhoto, "{facts:?}");
}
