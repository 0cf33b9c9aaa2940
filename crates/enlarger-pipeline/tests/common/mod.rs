//! An enlarger, and pictures on their way to it and back.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{io::Cursor, path::Path, sync::LazyLock};

use enlarger_image::{Channels, EncodeOptions, Format, LUMA, Limits, Metadata, MetadataPolicy, Picture, Samples};
use enlarger_pipeline::{Crop, Enlarger, EnlargerOptions, Outcome, Output, Request, Unwatched};

pub static ENLARGER: LazyLock<Enlarger> =
    LazyLock::new(|| Enlarger::new(EnlargerOptions::default()).expect("an enlarger"));

pub fn encode(picture: &Picture, format: Format, quality: Option<u8>) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let options = EncodeOptions { format, quality, metadata: MetadataPolicy::Strip, ..EncodeOptions::default() };
    enlarger_image::encode(picture, &options, &mut out).expect("it can be encoded");
    out.into_inner()
}

pub fn decode(bytes: &[u8]) -> Picture {
    enlarger_image::decode(bytes, &Limits::default()).expect("a picture").picture
}

/// A file, by its path from this crate.
pub fn bytes_of(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the picture is there")
}

/// One of the sample photos.
pub fn sample(file: &str) -> Picture {
    decode(&bytes_of(&format!("../../samples/{file}")))
}

/// A whole job, to PNG.
pub fn job(bytes: &[u8], request: &Request) -> (Outcome, Picture) {
    let mut out = Cursor::new(Vec::new());
    let outcome = ENLARGER
        .job(bytes, request, &Output::default(), &Limits::default(), &mut out, &Unwatched)
        .unwrap_or_else(|error| panic!("{request:?}: {error}"));
    (outcome, decode(out.get_ref()))
}

/// What a job makes of a picture.
pub fn enlarged(picture: &Picture, request: &Request) -> Picture {
    job(&encode(picture, Format::Png, None), request).1
}

/// A picture from a function of x, y and channel.
pub fn drawn(width: u32, height: u32, channels: Channels, sample: impl Fn(u32, u32, usize) -> u8) -> Picture {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let samples = pixels.flat_map(|(x, y)| (0..channels.count()).map(move |c| (x, y, c)));
    let samples = Samples::U8(samples.map(|(x, y, c)| sample(x, y, c)).collect());
    Picture { width, height, channels, samples, metadata: Metadata::default() }
}

/// Of each pixel of a picture in colour, 0..=255.
pub fn luminance(picture: &Picture) -> Vec<f64> {
    let samples = picture.samples.as_slice::<u8>().expect("8 bits went in");
    let luma = |pixel: &[u8]| LUMA.iter().zip(pixel).map(|(weight, &value)| weight * f64::from(value)).sum();
    samples.chunks_exact(picture.channels.count()).map(luma).collect()
}

/// A part of a picture.
pub fn cut(picture: &Picture, part: Crop) -> Picture {
    let Samples::U8(samples) = &picture.samples else { panic!("8 bits") };
    let n = picture.channels.count();
    let row = |y: u32| &samples[((y * picture.width + part.x) as usize * n)..][..part.width as usize * n];
    let samples = Samples::U8((part.y..part.y + part.height).flat_map(|y| row(y).iter().copied()).collect());
    Picture { width: part.width, height: part.height, samples, ..picture.clone() }
}

/// White paper with lines of strokes that look like writing, of 640 x 512 pixels.
pub fn page() -> Picture {
    let (width, height) = (640u32, 512u32);
    let mut samples = vec![250u8; (width * height * 3) as usize];
    let mut state = 9u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for line in (12..height - 20).step_by(20) {
        let mut x = 16;
        while x < width - 24 {
            // A letter: one or two stems and a bar, with soft edges as fonts have.
            let (stems, bar) = (1 + random(2), random(12));
            let mut dot = |x: u32, y: u32, value: u8| {
                let at = ((y * width + x) * 3) as usize;
                samples[at..at + 3].iter_mut().for_each(|s| *s = (*s).min(value));
            };
            for y in 0..12 {
                for stem in 0..stems {
                    dot(x + 5 * stem, line + y, 30);
                    dot(x + 5 * stem + 1, line + y, 120);
                }
            }
            (0..6).for_each(|i| dot(x + i, line + bar, 60));
            x += if random(6) == 0 { 18 } else { 9 };
        }
    }
    let metadata = Metadata::default();
    Picture { width, height, channels: Channels::Rgb, samples: Samples::U8(samples), metadata }
}

/// A creature of 12 x 10 pixels on transparent ground, each pixel a square.
pub fn sprite(square: u32) -> Picture {
    const ROWS: [&[u8; 12]; 10] = [
        b"............",
        b"...kkkkkk...",
        b"..kggggggk..",
        b".kgwwggwwgk.",
        b".kgwkggwkgk.",
        b".kggggggggk.",
        b".kgkrrrrkgk.",
        b"..kgkkkkgk..",
        b"...kk..kk...",
        b"............",
    ];
    drawn(12 * square, 10 * square, Channels::Rgba, |x, y, c| {
        let colour = match ROWS[(y / square) as usize][(x / square) as usize] {
            b'k' => [24, 20, 37, 255],
            b'g' => [62, 137, 72, 255],
            b'w' => [255, 255, 255, 255],
            b'r' => [228, 59, 68, 128],
            _ => [0, 0, 0, 0],
        };
        colour[c]
    })
}

/// A ring beside a bar on one ground, drawn by area: a logo.
pub fn logo(side: u32) -> Picture {
    let drawn_at = |x: f32, y: f32| {
        let ring = (0.2..0.3).contains(&(x - 0.4).hypot(y - 0.5));
        let bar = (0.75..0.9).contains(&(x + 0.1 * y)) && (0.1..0.9).contains(&y);
        [if ring { 20 } else { 240 }, if ring || bar { 60 } else { 230 }, if bar { 40 } else { 210 }]
    };
    drawn(side, side, Channels::Rgb, |x, y, c| {
        let places = (0..64).map(|i| [x as f32 + (i % 8) as f32 / 8.0, y as f32 + (i / 8) as f32 / 8.0]);
        let sum: u32 = places.map(|[x, y]| drawn_at(x / side as f32, y / side as f32)[c]).sum();
        (sum / 64) as u8
    })
}
