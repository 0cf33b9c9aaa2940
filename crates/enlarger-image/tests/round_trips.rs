//! What is encoded is decoded again.

use std::io::Cursor;

use enlarger_image::{Channels, EncodeOptions, Format, Limits, Metadata, Picture, Samples, decode, encode};

#[test]
fn a_photo_survives_jpeg_to_png_exactly() {
    let jpeg = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/friends.jpg")).expect("the sample");
    let picture = decode(&jpeg, &Limits::default()).expect("a JPEG").picture;
    let mut png = Cursor::new(Vec::new());
    encode(&picture, &EncodeOptions::default(), &mut png).expect("a PNG");
    let again = decode(png.get_ref(), &Limits::default()).expect("a PNG").picture;
    assert_eq!((picture.width, picture.height, picture.channels), (again.width, again.height, again.channels));
    assert_eq!(picture.samples, again.samples);
}

#[test]
fn sixteen_bits_survive_png() {
    let samples: Vec<u16> = (0..5 * 3 * 4).map(|i| i * 1013).collect();
    let picture = Picture {
        width: 5,
        height: 3,
        channels: Channels::Rgba,
        samples: Samples::U16(samples),
        metadata: Metadata::default(),
    };
    let mut png = Cursor::new(Vec::new());
    encode(&picture, &EncodeOptions { format: Format::Png, ..Default::default() }, &mut png).expect("a PNG");
    assert_eq!(decode(png.get_ref(), &Limits::default()).expect("a PNG").picture.samples, picture.samples);
}
