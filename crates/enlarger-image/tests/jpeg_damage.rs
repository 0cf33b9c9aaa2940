//! JPEG files that other programs left in disorder are read if all their pixels are there, and refused if not.

use std::path::Path;

use enlarger_error::Explained;
use enlarger_image::{Decoded, ImageError, Limits, Samples, decode};

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/jpeg_rgb.jpg");
    std::fs::read(path).expect("a golden file")
}

fn read(bytes: &[u8]) -> Result<Decoded, ImageError> {
    decode(bytes, &Limits::default())
}

/// Where the first segment with this marker begins, found the simple way: no golden file has such bytes elsewhere.
fn find(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|w| w == [0xFF, marker]).expect("a marker")
}

/// Where the segment at `at` ends.
fn end(bytes: &[u8], at: usize) -> usize {
    at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))
}

fn with(bytes: &[u8], at: usize, more: &[u8]) -> Vec<u8> {
    [&bytes[..at], more, &bytes[at..]].concat()
}

/// 64 x 48 pixels of noise in grey, each block of 8 x 8 in a restart interval of its own, coded with the standard's tables.
fn with_restarts(progressive: bool) -> Vec<u8> {
    use jpeg_encoder::{ColorType, Encoder};
    let mut state = 1u32;
    let pixels: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(64 * 48)
    .collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    encoder.set_progressive(progressive);
    encoder.set_restart_interval(if progressive { 0 } else { 1 });
    encoder.encode(&pixels, 64, 48, ColorType::Luma).expect("a JPEG");
    bytes
}

#[test]
fn what_stands_around_whole_data_does_no_harm() {
    let whole = golden();
    let expected = read(&whole).expect("the golden file").picture.samples;
    let no_end = &whole[..whole.len() - 2];
    let (tables, scan) = (find(&whole, 0xDB), find(&whole, 0xDA));
    let mut zeros = whole.clone();
    let last = zeros.len() - 2;
    zeros[last..].fill(0);
    for (what, bytes) in [
        ("no end mark", no_end.to_vec()),
        ("half an end mark", whole[..whole.len() - 1].to_vec()),
        ("an end mark of zeros", zeros.clone()),
        ("a thousand zeros for an end mark", [&zeros[..], &[0; 1000]].concat()),
        (
            "a camera's trailer for an end mark",
            [no_end, b"\0\0\x01\x0A\x0E\0\0\0Image_UTC_Data1480000000000SEFH\x65\0\0\0SEFT"].concat(),
        ),
        ("a trailer with bytes like markers", [no_end, b"trailer\xFF\xE0\xFF\xC0\xFF\xFFdata\xFF\xDB\0\x01"].concat()),
        ("a trailer after the end mark", [&whole[..], b"MotionPhoto_Data\xFF\xDA\xFF"].concat()),
        ("stray bytes before tables", with(&whole, tables, b"stray\0bytes")),
        ("stray bytes before the scan", with(&whole, scan, &[0; 300])),
        ("a stray stuffed byte", with(&whole, tables, &[0xFF, 0x00, 0x17])),
        ("fill bytes", with(&whole, scan, &[0xFF; 9])),
        ("zeros before the end mark", with(&whole, whole.len() - 2, &[0; 40])),
    ] {
        let decoded = read(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(decoded.picture.samples, expected, "{what}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_until_its_last_pixel() {
    for whole in [golden(), with_restarts(false), with_restarts(true)] {
        let expected = read(&whole).expect("a whole file").picture.samples;
        for length in 0..whole.len() {
            if let Ok(decoded) = read(&whole[..length]) {
                assert!(length + 4 >= whole.len(), "cut at {length} of {}", whole.len());
                assert_eq!(decoded.picture.samples, expected, "cut at {length} of {}", whole.len());
            }
        }
        let mut unwritten = whole.clone();
        let half = whole.len() * 4 / 5;
        unwritten[half..].fill(0);
        unwritten.resize(whole.len() + 200, 0);
        assert!(read(&unwritten).is_err(), "zeros where a download stopped");
    }
}

#[test]
fn damage_inside_the_data_is_never_shown_as_whole() {
    let whole = with_restarts(false);
    read(&whole).expect("a whole file");
    let data = end(&whole, find(&whole, 0xDA));
    let restart = data + find(&whole[data..], 0xD3);
    let mut missing = whole.clone();
    missing.drain(restart..restart + 2);
    let mut doubled = whole.clone();
    doubled[restart + 1] = 0xD6;
    let next = restart + 2 + find(&whole[restart + 2..], 0xD4);
    let mut lost = whole.clone();
    lost.drain(restart..next);
    let mut codes = whole.clone();
    codes.splice(data + 20..data + 36, [0xFF, 0].repeat(8));
    for (what, bytes) in [
        ("a restart marker is missing", missing),
        ("a restart marker has another number", doubled),
        ("an interval is missing", lost),
        ("codes that do not exist", codes),
    ] {
        let error = read(&bytes).map(|_| ()).expect_err(what);
        assert!(matches!(error, ImageError::Broken { .. }), "{what}: {error}");
        assert!(error.hint().is_some());
    }
    let noted = read(&with(&whole, next, b"stray")).expect("stray bytes at the end of an interval");
    assert!(noted.notes.iter().any(|n| n.contains("more data than pixels")), "{:?}", noted.notes);
}

#[test]
fn frames_without_tables_of_codes_are_read_with_those_of_the_standard() {
    for whole in [with_restarts(false), golden()] {
        // Only files that were coded with the standard's tables can do without.
        let expected = read(&whole).expect("a whole file").picture.samples;
        let mut bytes = whole.clone();
        while let Some(at) = bytes.windows(2).position(|w| w == [0xFF, 0xC4]) {
            bytes.drain(at..end(&bytes, at));
        }
        assert!(bytes.len() + 200 < whole.len());
        assert_eq!(read(&bytes).expect("no tables").picture.samples, expected);
        let no_end = &bytes[..bytes.len() - 2];
        assert_eq!(read(no_end).expect("neither tables nor end").picture.samples, expected);
    }
}

#[test]
fn what_is_not_a_picture_that_can_be_decoded_is_named() {
    let whole = golden();
    let frame = find(&whole, 0xC0);
    let edited = |edits: &[(usize, u8)]| {
        let mut bytes = whole.clone();
        edits.iter().for_each(|&(at, value)| bytes[frame + at] = value);
        bytes
    };
    for (what, bytes, says) in [
        ("hierarchical", edited(&[(1, 0xC5)]), "hierarchical"),
        ("10 bits", edited(&[(4, 10)]), "10 bits"),
        ("a third and two thirds", edited(&[(11, 0x31), (14, 0x21)]), "chroma subsampling"),
        ("no samples", edited(&[(11, 0x01)]), "no samples"),
    ] {
        let error = read(&bytes).map(|_| ()).expect_err(what);
        assert!(error.to_string().contains(says), "{what}: {error}");
    }
}

#[test]
fn samples_of_12_bits_become_16() {
    // 8 x 8 pixels of one grey: a difference of 0 to the middle, then an end of block, each one bit.
    let file = |code: &[u8]| {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        bytes.extend([1; 64]);
        bytes.extend([0xFF, 0xC1, 0, 11, 12, 0, 8, 0, 8, 1, 1, 0x11, 0]);
        // For differences, codes of 1 and 2 bits that say that 0 and 11 bits follow; for the others, one that ends the block.
        for (kind, counts, symbols) in [(0x00, [1, 1], &[0, 11][..]), (0x10, [1, 0], &[0])] {
            bytes.extend([0xFF, 0xC4, 0, 19 + symbols.len() as u8, kind]);
            bytes.extend(counts);
            bytes.extend([0; 14]);
            bytes.extend(symbols);
        }
        bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0]);
        bytes.extend(code);
        bytes.extend([0xFF, 0xD9]);
        bytes
    };
    // 0, 0, then ones; and 10, 10000000000 (1024, an eighth of it is the grey's distance from 2048), 0, then ones.
    for (code, level) in [(&[0b0011_1111][..], 2048u32), (&[0b1010_0000, 0b0000_0011], 2048 + 128)] {
        let picture = read(&file(code)).expect("12 bits").picture;
        assert_eq!(picture.samples, Samples::U16(vec![((level * 65535 + 2047) / 4095) as u16; 64]));
    }
}
