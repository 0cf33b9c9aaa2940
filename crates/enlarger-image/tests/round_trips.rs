//! What is encoded is decoded again.

use std::io::Cursor;

use zune_core::{bytestream::ZCursor, options::DecoderOptions, result::DecodingResult};
use zune_png::PngDecoder;

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

/// Larger pictures are compressed in strips that are joined bit by bit: over many pictures, the joins fall on every bit
/// of a byte. The other decoder checks the checksum too.
#[test]
fn a_png_of_several_strips_is_one_stream_to_another_decoder() {
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let kinds = [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba];
    for round in 0..24 {
        let channels = kinds[round % kinds.len()];
        let deep = round % 3 == 2;
        // Three to five strips of a megabyte.
        let (width, count) = (701 + 13 * round, channels.count());
        let height = (4 << 20) / (width * count * if deep { 2 } else { 1 });
        let noise = 1 + 5 * (round as u32 / 4);
        let mut sample = |i: usize| (i / count % width / 4) as u32 + random() % noise;
        let samples = match deep {
            true => Samples::U16((0..width * height * count).map(|i| (257 * sample(i)) as u16).collect()),
            false => Samples::U8((0..width * height * count).map(|i| sample(i) as u8).collect()),
        };
        let (width, height) = (width as u32, height as u32);
        let picture = Picture { width, height, channels, samples, metadata: Metadata::default() };
        let mut png = Cursor::new(Vec::new());
        encode(&picture, &EncodeOptions::default(), &mut png).expect("a PNG");
        let options = DecoderOptions::default().png_set_confirm_crc(true).png_set_strip_to_8bit(false);
        let mut decoder = PngDecoder::new_with_options(ZCursor::new(png.get_ref()), options);
        let decoded = decoder.decode().unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let same = match (&picture.samples, &decoded) {
            (Samples::U8(ours), DecodingResult::U8(theirs)) => ours == theirs,
            (Samples::U16(ours), DecodingResult::U16(theirs)) => ours == theirs,
            _ => false,
        };
        assert!(same, "round {round}: the pixels differ");
        assert_eq!(decode(png.get_ref(), &Limits::default()).expect("a PNG").picture.samples, picture.samples);
    }
}
