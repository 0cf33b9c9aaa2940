//! Pictures in every form that other programs wrote give the pixels that those programs say. `golden/make.py` made them
//! with Pillow and ImageMagick; nothing here was made by the code under test.

use std::{io::Cursor, path::Path};

use enlarger_error::Explained;
use enlarger_image::{
    Channels, EncodeOptions, Format, Limits, MetadataPolicy, Picture, Samples, decode, encode, probe,
};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

struct Entry {
    name: String,
    file: String,
    width: u32,
    height: u32,
    channels: usize,
    bits: u8,
    tolerance: i32,
}

fn index() -> Vec<Entry> {
    let text = String::from_utf8(golden("index.txt")).expect("text");
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<u32>().expect("a number");
            Entry {
                name: words[0].into(),
                file: words[1].into(),
                width: number(2),
                height: number(3),
                channels: number(4) as usize,
                bits: number(5) as u8,
                tolerance: number(6) as i32,
            }
        })
        .collect()
}

fn values(samples: &Samples) -> Vec<i32> {
    match samples {
        Samples::U8(s) => s.iter().map(|&v| v.into()).collect(),
        Samples::U16(s) => s.iter().map(|&v| v.into()).collect(),
    }
}

/// A file with all it holds; grey that another program stores as RGB still counts as RGB.
#[test]
fn every_form_gives_the_pixels_that_other_programs_say() {
    for entry in index() {
        let bytes = golden(&entry.file);
        let header = probe(&bytes, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        let decoded = decode(&bytes, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        let picture = decoded.picture;
        assert_eq!((header.width, header.height), (entry.width, entry.height), "{}", entry.name);
        assert_eq!((picture.width, picture.height), (entry.width, entry.height), "{}", entry.name);
        assert_eq!(picture.channels.count(), entry.channels, "{}", entry.name);
        assert_eq!(picture.samples.bits(), entry.bits, "{}", entry.name);
        let raw = golden(&format!("{}.expected", entry.name));
        let expected: Vec<i32> = match entry.bits {
            8 => raw.iter().map(|&v| v.into()).collect(),
            _ => raw.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect(),
        };
        let found = values(&picture.samples);
        assert_eq!(found.len(), expected.len(), "{}", entry.name);
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).max().unwrap_or(0);
        assert!(off <= entry.tolerance, "{}: off by {off}", entry.name);
    }
}

#[test]
fn an_animation_gives_its_first_frame_and_says_so() {
    for name in ["gif_animated.gif", "webp_animated.webp"] {
        let decoded = decode(&golden(name), &Limits::default()).expect(name);
        assert!(decoded.notes.iter().any(|n| n.contains("first")), "{name}: {:?}", decoded.notes);
    }
}

#[test]
fn profiles_go_through_untouched_to_the_last_byte() {
    let picture = decode(&golden("tiff_rgb16_romm.tif"), &Limits::default()).expect("a TIFF").picture;
    let profile = golden("romm.icc");
    assert_eq!(picture.metadata.icc.as_deref(), Some(profile.as_slice()));
    for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
        let again = there_and_back(&picture, format, MetadataPolicy::Strip);
        assert_eq!(again.metadata.icc.as_deref(), Some(profile.as_slice()), "{format:?}");
    }
    let deep = there_and_back(&picture, Format::Tiff, MetadataPolicy::All);
    assert_eq!(deep.samples, picture.samples, "16 bits stay 16 bits");
}

#[test]
fn where_a_picture_was_taken_stays_or_goes_as_asked_and_orientation_is_applied_once() {
    let picture = decode(&golden("jpeg_orientation6.jpg"), &Limits::default()).expect("a JPEG").picture;
    for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
        for (policy, camera, place) in [
            (MetadataPolicy::All, true, true),
            (MetadataPolicy::NoGps, true, false),
            (MetadataPolicy::Strip, false, false),
        ] {
            let again = there_and_back(&picture, format, policy);
            assert_eq!((again.width, again.height), (picture.width, picture.height), "{format:?} {policy:?}");
            let exif = again.metadata.exif.unwrap_or_default();
            let has = |text: &[u8]| exif.windows(text.len()).any(|w| w == text);
            assert_eq!(has(b"Camera"), camera, "{format:?} {policy:?}");
            // 43 degrees as a rational number, 43/1, in either byte order.
            let degrees = has(&[43, 0, 0, 0, 1, 0, 0, 0]) || has(&[0, 0, 0, 43, 0, 0, 0, 1]);
            assert_eq!(degrees, place, "{format:?} {policy:?}");
        }
    }
}

#[test]
fn broken_bombs_and_foreign_files_are_refused_with_a_sentence_and_a_hint() {
    let png = golden("png_rgb8.png");
    let jpeg = golden("jpeg_rgb.jpg");
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50]);
    for (what, bytes, code) in [
        ("empty", Vec::new(), "image_empty"),
        ("junk", b"this is no picture at all".to_vec(), "image_unknown_format"),
        ("half a PNG", png[..png.len() / 2].to_vec(), "image_truncated"),
        ("half a JPEG", jpeg[..jpeg.len() * 2 / 3].to_vec(), "image_truncated"),
        ("50000x50000", huge, "image_too_many_pixels"),
        ("PDF", b"%PDF-1.7\n".to_vec(), "image_unsupported"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "image_unsupported"),
        ("SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), "image_unsupported"),
    ] {
        let error = decode(&bytes, &Limits::default()).map(|_| ()).expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.hint().is_some(), "{what}: {error}");
    }
}

fn there_and_back(picture: &Picture, format: Format, metadata: MetadataPolicy) -> Picture {
    let mut out = Cursor::new(Vec::new());
    let options = EncodeOptions { format, metadata, ..EncodeOptions::default() };
    encode(picture, &options, &mut out).unwrap_or_else(|e| panic!("{format:?}: {e}"));
    decode(out.get_ref(), &Limits::default()).unwrap_or_else(|e| panic!("{format:?}: {e}")).picture
}

fn pictures() -> impl Strategy<Value = Picture> {
    let channels = prop::sample::select(vec![Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba]);
    (1u32..20, 1u32..20, channels, any::<bool>(), any::<u64>()).prop_map(|(width, height, channels, deep, seed)| {
        let count = (width * height) as usize * channels.count();
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 48) as u16
        };
        let samples = match deep {
            true => Samples::U16((0..count).map(|_| next()).collect()),
            false => Samples::U8((0..count).map(|_| next() as u8).collect()),
        };
        Picture { width, height, channels, samples, metadata: Default::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn png_and_tiff_lose_nothing(picture in pictures()) {
        for format in [Format::Png, Format::Tiff] {
            let again = there_and_back(&picture, format, MetadataPolicy::All);
            prop_assert_eq!(&again.samples, &picture.samples);
            prop_assert_eq!(again.channels, picture.channels);
        }
    }

    #[test]
    fn damaged_files_never_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let entries = index();
        let mut bytes = golden(&entries[which.index(entries.len())].file);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
        let _ = probe(&bytes, &limits);
        let _ = decode(&bytes, &limits);
    }
}
