//! An enlarger, and pictures on their way to it and back.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{io::Cursor, path::Path, sync::LazyLock};

use enlarger_image::{Channels, EncodeOptions, Format, LUMA, Limits, Metadata, MetadataPolicy, Picture, Samples};
use enlarger_pipeline::{Enlarger, EnlargerOptions, Outcome, Output, Request, Unwatched};

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
