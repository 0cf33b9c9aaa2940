//! Flat colours stay what they are, up to transparent edges and to the picture's border.

mod common;

use common::{decode, encode, enlarged};
use enlarger_image::{Channels, Format, Metadata, Picture, Samples};
use enlarger_pipeline::{Creative, Crop, OptimizedFor, Quality, Request, Size, Style};

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

fn by(model: Option<&str>, factor: f64) -> Request {
    Request { size: Size::Factor(factor), model: model.map(Into::into), ..Request::default() }
}

/// By networks, also where the default enlarges by whole pixels.
fn redrawn(factor: f64) -> Request {
    let style = Creative { optimized_for: OptimizedFor::ArtNIllustration, ..Creative::default() };
    Request { style: Style::Creative(style), ..by(None, factor) }
}

/// A draft: the smallest network.
fn draft(factor: f64) -> Request {
    Request { quality: Quality::Draft, ..redrawn(factor) }
}

/// Pixels as 8 bits of red, green, blue and alpha.
fn rgba(picture: &Picture) -> Vec<[i32; 4]> {
    let picture = picture.clone().into_depth(8).expect("there is room");
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

/// The alpha of each place.
type Mask<'a> = dyn Fn(u32, u32) -> u8 + 'a;

#[test]
fn what_is_visible_keeps_its_one_colour_up_to_transparent_edges() {
    let noise = |x: u32, y: u32| {
        (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917) >> 24
    };
    let masks: [(&str, &Mask<'_>); 6] = [
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
            let whole = [i32::from(colour[0]), i32::from(colour[1]), i32::from(colour[2]), 255];
            for (bits, factor) in [(8, 2.0), (8, 8.0), (16, 3.0)] {
                let result = rgba(&enlarged(&picture.clone().into_depth(bits).expect("there is room"), &draft(factor)));
                let off = result.iter().filter(|p| p[3] > 0).map(|p| colour_distance(p, &whole)).max();
                println!("{name} of {colour:?}, {bits} bits, {factor}x: off by {off:?}");
                // The network of drafts shifts flat colours by some levels itself, white least.
                let most = if colour == [255; 3] { 3 } else { 10 };
                assert!(off <= Some(most), "{name} of {colour:?}, {bits} bits, {factor}x: off by {off:?}");
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
            let result = rgba(&enlarged(&flat, &by(network, 4.0)));
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
    const FACTOR: u32 = 4;
    let scene = |x: u32, y: u32| mixed([70, 90, 110], [250, 200, 60], disc(x, y, 26.0, 17.0));
    let crop = Crop { x: 20, y: 12, width: 24, height: 20 };
    let picture = drawn(64, 48, Channels::Rgb, scene);
    let alone = drawn(crop.width, crop.height, Channels::Rgb, |x, y| scene(crop.x + x, crop.y + y));
    let request = draft(f64::from(FACTOR));
    let whole = rgba(&enlarged(&picture, &request));
    let off = |part: &Picture| {
        let part = rgba(part);
        let rows = whole.chunks_exact((picture.width * FACTOR) as usize).skip((crop.y * FACTOR) as usize);
        let pairs = rows.zip(part.chunks_exact((crop.width * FACTOR) as usize)).flat_map(|(row, part)| {
            let row = &row[(crop.x * FACTOR) as usize..];
            row.iter().zip(part).map(|(a, b)| colour_distance(a, b)).collect::<Vec<_>>()
        });
        pairs.max().expect("there are pixels")
    };
    let part = off(&enlarged(&picture, &Request { crop: Some(crop), ..request.clone() }));
    let alone = off(&enlarged(&alone, &request));
    println!("off by {part} as a part, by {alone} alone");
    assert!(part <= 10 && part < alone, "the part differs from the whole by {part}, without what is around by {alone}");
}

/// How far a result is from its source's flat colours: where pixels and their neighbours have one, and two pixels of the result
/// further in.
fn off_flat(source: &Picture, result: &Picture) -> i32 {
    let (w, h) = (source.width as i64, source.height as i64);
    let (pixels, results) = (rgba(source), rgba(result));
    let at = |x: i64, y: i64| &pixels[(y.clamp(0, h - 1) * w + x.clamp(0, w - 1)) as usize];
    let flat = |x: i64, y: i64| (-1..=1).all(|dy| (-1..=1).all(|dx| at(x + dx, y + dy) == at(x, y)));
    // Two pixels of the result around (x, y) lie in these of the source.
    let under = |i: i64, from: i64, to: i64| (i.clamp(0, to - 1) * 2 + 1) * from / (2 * to);
    let (width, height) = (i64::from(result.width), i64::from(result.height));
    let (mut worst, mut counted) = (0, 0);
    for (i, pixel) in results.iter().enumerate() {
        let (x, y) = (i as i64 % width, i as i64 / width);
        if (-2..=2).all(|dy| (-2..=2).all(|dx| flat(under(x + dx, w, width), under(y + dy, h, height)))) {
            worst = worst.max(colour_distance(pixel, at(under(x, w, width), under(y, h, height))));
            counted += 1;
        }
    }
    assert!(counted > results.len() / 20, "{counted} pixels are flat");
    worst
}

/// At 2x, 3x and 4x with the network that the default has for drawings.
fn assert_flat(name: &str, source: &Picture) {
    for factor in [2.0, 3.0, 4.0] {
        let off = off_flat(source, &enlarged(source, &redrawn(factor)));
        println!("{name}, {factor}x: off by {off}");
        assert!(off <= 6, "{name}, {factor}x: off by {off}");
    }
}

fn sky(x: u32, y: u32) -> [u8; 4] {
    match (x, y) {
        (10..30, 14..34) => [0, 128, 0, 255],
        (34..56, 30..54) => [139, 69, 19, 255],
        _ => [135, 206, 235, 255],
    }
}

/// A picture that is drawn four times as large and averaged: its edges are soft.
fn smooth(width: u32, height: u32, colour: impl Fn(f32, f32) -> [u8; 3]) -> Picture {
    drawn(width, height, Channels::Rgb, |x, y| {
        let mut sum = [0; 3];
        for i in 0..16 {
            let place = |at: u32, i: u32| at as f32 + (i as f32 + 0.5) / 4.0;
            let one = colour(place(x, i % 4), place(y, i / 4));
            (0..3).for_each(|c| sum[c] += u32::from(one[c]));
        }
        [(sum[0] / 16) as u8, (sum[1] / 16) as u8, (sum[2] / 16) as u8, 255]
    })
}

#[test]
fn a_sky_is_flat_beside_hard_edges() {
    assert_flat("sky", &drawn(64, 64, Channels::Rgb, sky));
}

#[test]
fn a_sprite_is_flat_beside_its_outlines() {
    // 16 x 16 in blocks of 2, on ground and on an 8-pixel grid.
    let sprite = |x: u32, y: u32| match ((x / 2).abs_diff(8), y / 2) {
        (0..=4, 3) | (4, 3..=13) | (0..=4, 13) => [34, 32, 52, 255],
        (0..=3, 4..=7) => [217, 160, 102, 255],
        (0..=3, 8..=12) => [172, 50, 50, 255],
        _ => [91, 110, 225, 255],
    };
    assert_flat("sprite", &drawn(32, 32, Channels::Rgb, sprite));
    let board =
        |x: u32, y: u32| if (x / 8 + y / 8).is_multiple_of(2) { [200, 60, 40, 255] } else { [60, 120, 200, 255] };
    assert_flat("board", &drawn(48, 48, Channels::Rgb, board));
}

#[test]
fn a_poster_is_flat_beside_soft_edges() {
    let poster = smooth(80, 64, |x, y| match () {
        () if (x - 58.0).hypot(y - 20.0) < 11.0 => [230, 80, 50],
        () if y < 44.0 && (x - 26.0).abs() < 0.6 * (y - 8.0) => [if y < 18.0 { 245 } else { 60 }; 3],
        () if y < 44.0 => [250, 214, 150],
        () if (y - 52.0 + 0.05 * x).abs() < 0.6 => [250, 250, 250],
        () => [40, 74, 112],
    });
    assert_flat("poster", &poster);
}

#[test]
fn a_logo_is_flat_beside_soft_edges() {
    let ring = |x: f32, y: f32| (9.0..20.0).contains(&(x - 26.0).hypot(y - 28.0));
    let stroke = |x: f32, y: f32| (54.0..60.0).contains(&x) && (8.0..48.0).contains(&y);
    let logo = |ground: [u8; 3]| {
        smooth(68, 56, move |x, y| match () {
            () if ring(x, y) => [20, 110, 200],
            () if stroke(x, y) => [230, 60, 40],
            () => ground,
        })
    };
    assert_flat("logo", &logo([250, 240, 220]));
    assert_flat("logo on dark ground", &logo([30, 34, 42]));
}

#[test]
fn flat_areas_stay_so_in_two_passes_in_sixteen_bits_and_when_texture_is_invented() {
    let source = drawn(64, 64, Channels::Rgb, sky);
    let optimized_for = OptimizedFor::ArtNIllustration;
    let inventive = Style::Creative(Creative { creativity: 10, optimized_for, ..Creative::default() });
    let deep = source.clone().into_depth(16).expect("there is room");
    for (picture, request) in
        [(&source, draft(8.0)), (&deep, draft(1.7)), (&source, Request { style: inventive, ..draft(2.0) })]
    {
        let off = off_flat(&source, &enlarged(picture, &request));
        assert!(off <= 6, "{request:?}: off by {off}");
    }
}

#[test]
fn glows_keep_their_core_and_have_no_steps() {
    let glow = drawn(64, 64, Channels::Rgba, |x, y| {
        let distance = (x as f32 - 31.5).hypot(y as f32 - 31.5) / 32.0;
        [255, 240, 200, ((1.0 - distance).clamp(0.0, 1.0).powf(1.5) * 255.0) as u8]
    });
    let most = |picture: &Picture| rgba(picture).iter().map(|p| p[3]).max().expect("there are pixels");
    for factor in [2.0, 4.0] {
        let result = enlarged(&glow, &draft(factor));
        assert!(most(&result) >= most(&glow) - 3, "{factor}x: {} of {}", most(&result), most(&glow));
        // From the centre to the right alpha falls, and by little from one pixel to the next.
        let width = result.width as usize;
        let row = &rgba(&result)[(width / 2) * width + width / 2..(width / 2 + 1) * width];
        let steps: Vec<i32> = row.windows(2).map(|pair| pair[0][3] - pair[1][3]).collect();
        let (least, largest) = (steps.iter().min().expect("steps"), steps.iter().max().expect("steps"));
        assert!(*least >= -3 && f64::from(*largest) <= 30.0 / factor, "{factor}x: {steps:?}");
    }
}

#[test]
fn flat_art_that_was_compressed_has_no_shadows_around_its_shapes() {
    let logo = drawn(128, 96, Channels::Rgb, |x, y| {
        let letter = (40..88).contains(&x) && (y % 32 < 6) || (40..46).contains(&x) || (82..88).contains(&x);
        if letter { [255, 255, 255, 255] } else { [200, 20, 40, 255] }
    });
    let bytes = encode(&logo, Format::Jpeg, Some(75));
    let result = enlarged(&decode(&bytes), &by(None, 4.0));
    let (pixels, width) = (rgba(&result), result.width as usize);
    // Left of the upright bar at 40: its last source pixels before the bar, but one, against what is far from it.
    let mean = |columns: std::ops::Range<usize>| {
        let places = (100..284).flat_map(|y| columns.clone().map(move |x| y * width + x));
        let values: Vec<[i32; 4]> = places.map(|i| pixels[i]).collect();
        [0, 1, 2].map(|c| values.iter().map(|p| p[c]).sum::<i32>() / values.len() as i32)
    };
    let (far, near) = (mean(40..72), mean(124..152));
    for c in 0..3 {
        assert!((far[c] - near[c]).abs() <= 4, "far {far:?}, near {near:?}");
    }
}

/// How far a place is from the middle of the strokes of "vo|".
fn from_strokes(x: f32, y: f32) -> f32 {
    let line = |[ax, ay]: [f32; 2], [bx, by]: [f32; 2]| {
        let (dx, dy) = (bx - ax, by - ay);
        let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
        (x - ax - along * dx).hypot(y - ay - along * dy)
    };
    let ring = ((x - 21.3).hypot(y - 14.2) - 4.6).abs();
    let strokes =
        [line([5.2, 9.4], [8.9, 18.6]), line([8.9, 18.6], [12.6, 9.4]), line([30.4, 5.0], [30.4, 18.8]), ring];
    strokes.into_iter().fold(f32::MAX, f32::min)
}

#[test]
fn small_letters_keep_their_gray_and_their_width() {
    for (ink, paper) in [([128; 3], [255; 3]), ([140; 3], [40; 3]), ([190, 60, 50], [190, 210, 240])] {
        // Strokes are a pixel wide.
        let source = smooth(36, 24, |x, y| if from_strokes(x, y) < 0.5 { ink } else { paper });
        let result = rgba(&enlarged(&source, &by(None, 4.0)));
        let (mut core, mut off, mut beyond) = (0.0, 0.0, 0);
        for (i, pixel) in result.iter().enumerate() {
            let differs =
                |colour: [u8; 3]| (0..3).map(|c| (pixel[c] - i32::from(colour[c])).abs()).max().expect("three colours");
            let place = |i: usize| (i as f32 + 0.5) / 4.0;
            if from_strokes(place(i % 144), place(i / 144)) < 0.3 {
                core += 1.0;
                off += f32::from(differs(ink) > 60);
            }
            let past = |c: usize| {
                let (low, high) = (ink[c].min(paper[c]), ink[c].max(paper[c]));
                (i32::from(low) - pixel[c]).max(pixel[c] - i32::from(high))
            };
            beyond = beyond.max((0..3).map(past).max().expect("three colours"));
        }
        let wrong = off / core;
        println!("{ink:?} on {paper:?}: wrong {wrong:.3}, up to {beyond} beyond");
        assert!(wrong < 0.2, "{ink:?} on {paper:?}: {wrong} of the strokes has another colour");
        assert!(beyond < 25, "{ink:?} on {paper:?}: up to {beyond} beyond both colours");
    }
}

#[test]
fn letters_keep_their_colour_and_have_no_smudges_beside_them_in_two_passes() {
    let (ink, paper) = ([160, 20, 20], [255; 3]);
    const HALF: f32 = 0.7;
    let source = smooth(36, 24, |x, y| if from_strokes(x, y) < HALF { ink } else { paper });
    let result = enlarged(&source, &by(None, 16.0));
    let pixels = rgba(&result);
    let (mut smudges, mut core, mut off) = (0.0, 0.0, 0.0);
    for (i, pixel) in pixels.iter().enumerate() {
        let differs =
            |colour: [u8; 3]| pixel.iter().zip(colour).map(|(a, b)| (a - i32::from(b)).abs()).max().unwrap_or(0);
        // An edge is crisp at this size: what is neither ink nor paper is a smudge.
        smudges += f32::from((9..80).contains(&differs(paper)));
        let place = |i: usize| (i as f32 + 0.5) / 16.0;
        if from_strokes(place(i % 576), place(i / 576)) < 0.3 {
            core += 1.0;
            off += f32::from(differs(ink) > 48);
        }
    }
    let (smudged, wrong) = (smudges / pixels.len() as f32, off / core);
    println!("smudged {smudged:.4}, wrong {wrong:.4}");
    assert!(smudged < 0.015, "smudges on {smudged} of the page");
    assert!(wrong < 0.05, "{wrong} of the letters has another colour");
}

#[test]
fn a_picture_without_colour_stays_without() {
    let source = drawn(48, 40, Channels::Rgb, |x, y| {
        let noise = (x * 7_919 + y * 104_729).wrapping_mul(2_654_435_761) >> 8;
        let v = (60 + 2 * x + 40 * u32::from(disc(x, y, 22.0, 12.0) > 128) + noise % 32 + noise / 32 % 24) as u8;
        [v, v, v, 255]
    });
    for &quality in Quality::ALL {
        let result = enlarged(&source, &Request { quality, ..by(None, 4.0) });
        let coloured = rgba(&result).iter().filter(|p| p[0] != p[1] || p[1] != p[2]).count();
        assert_eq!(coloured, 0, "{quality:?}");
    }
}
