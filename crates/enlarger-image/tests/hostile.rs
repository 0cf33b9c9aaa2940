//! Files that are made to cost far more than their size: work on them is bounded. It is counted by how often a decoder asks
//! whether it is to stop, which it does between pieces of the file and rows of blocks.

mod support;

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use enlarger_error::Explained;
use enlarger_image::{Decoded, ImageError, Limits, Samples, decode, decode_unless, header, probe};
use flate2::{Compression, write::ZlibEncoder};
use jpeg_encoder::{ColorType, Encoder};

const STRIPS: usize = 4000;
const ROWS: usize = 16;
const WIDTH: usize = 512;

/// TIFF compressions.
const JPEG: u32 = 7;
const DEFLATE: u32 = 8;

/// Grey noise, which no compression makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn jpeg(pixels: &[u8], width: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = Encoder::new(&mut bytes, 100);
    encoder.encode(pixels, width as u16, (pixels.len() / width) as u16, ColorType::Luma).expect("a JPEG");
    bytes
}

fn deflated(pixels: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(pixels).expect("memory");
    encoder.finish().expect("memory")
}

/// A grey picture of strips of so many rows, which lie where `places` says (offset, length).
fn striped(data: &[u8], compression: u32, rows: usize, places: &[(u32, u32)], more: &[(u16, &[u32])]) -> Vec<u8> {
    let (starts, lengths): (Vec<u32>, Vec<u32>) = places.iter().copied().unzip();
    let (width, height, rows) = ([WIDTH as u32], [(places.len() * rows) as u32], [rows as u32]);
    let compression = [compression];
    let mut fields: Vec<(u16, &[u32])> = vec![
        (256, &width),
        (257, &height),
        (258, &[8]),
        (259, &compression),
        (262, &[1]),
        (273, &starts),
        (277, &[1]),
        (278, &rows),
        (279, &lengths),
    ];
    fields.extend(more);
    support::tiff(data, &fields)
}

/// What a file gives, and how often its decoder asked.
fn counted(file: &[u8]) -> (Result<Decoded, ImageError>, usize) {
    let asked = AtomicUsize::new(0);
    let decoded = decode_unless(file, &own_limits(), &|| {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    });
    (decoded, asked.into_inner())
}

fn own_limits() -> Limits {
    Limits { max_side: 100_000, ..Limits::default() }
}

fn overlaps(file: &[u8]) {
    for error in [probe(file, &own_limits()).err(), decode(file, &own_limits()).err()] {
        let error = error.expect("it is refused");
        assert_eq!(error.to_string(), "the TIFF file is damaged: its strips or tiles overlap");
        assert!(error.hint().is_some());
    }
}

/// A piece of some 500 KB, of which every strip is nearly all: from another byte on, or up to another.
fn overlapping_pieces(compression: u32, piece: &[u8]) {
    let mut data = piece.to_vec();
    data.resize(500_000, 0);
    let strips = 0..STRIPS as u32;
    let length = data.len() as u32 - STRIPS as u32;
    let starts: Vec<_> = strips.clone().map(|i| (8 + i, length)).collect();
    let ends: Vec<_> = strips.map(|i| (8, length + i)).collect();
    for places in [starts, ends] {
        overlaps(&striped(&data, compression, ROWS, &places, &[]));
    }
}

#[test]
fn a_tiff_whose_jpeg_strips_overlap_is_refused_before_any_is_decoded() {
    overlapping_pieces(JPEG, &jpeg(&noise(WIDTH * ROWS), WIDTH));
}

#[test]
fn a_tiff_whose_deflated_strips_overlap_is_refused_before_any_is_decoded() {
    overlapping_pieces(DEFLATE, &deflated(&noise(WIDTH * ROWS)));
}

/// Some programs write blank strips once.
fn shared_piece(compression: u32, piece: &[u8], rows: usize) {
    let once = counted(&striped(piece, compression, rows, &[(8, piece.len() as u32)], &[]));
    let shared = counted(&striped(piece, compression, rows, &vec![(8, piece.len() as u32); STRIPS], &[]));
    let (one, all) = (once.0.expect("one strip").picture, shared.0.expect("all strips").picture);
    let (Samples::U8(one), Samples::U8(all)) = (one.samples, all.samples) else { panic!("16 bits") };
    assert!(all.chunks(one.len()).all(|strip| strip == one) && all.len() == one.len() * STRIPS);
    // Beyond the questions of one strip there is one for each strip's place.
    assert!(shared.1 < once.1 + STRIPS, "{} questions for {STRIPS} strips, {} for one", shared.1, once.1);
}

#[test]
fn a_piece_that_all_strips_of_a_tiff_share_is_decompressed_once() {
    let pixels = noise(WIDTH * ROWS);
    shared_piece(JPEG, &jpeg(&pixels, WIDTH), ROWS);
    shared_piece(DEFLATE, &deflated(&pixels), ROWS);
}

#[test]
fn a_jpeg_inside_a_tiff_is_cancelled_in_its_midst() {
    let rows = 2048;
    let stream = jpeg(&noise(WIDTH * rows), WIDTH);
    let file = striped(&stream, JPEG, rows, &[(8, stream.len() as u32)], &[]);
    let (decoded, asked) = counted(&file);
    decoded.expect("a whole file");
    assert!(asked > rows / 8, "{asked} questions");
    let left = AtomicUsize::new(asked / 2);
    let stop = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
    assert!(matches!(decode_unless(&file, &own_limits(), &stop), Err(ImageError::Cancelled)));
}

/// Tables are read for each strip.
#[test]
fn jpeg_tables_of_a_tiff_that_are_no_tables_are_refused() {
    let stream = jpeg(&noise(WIDTH * ROWS), WIDTH);
    let places = [(8, stream.len() as u32)];
    // Comments without end.
    let mut long = vec![0xFF, 0xD8];
    while long.len() < 400_000 {
        long.extend([&[0xFF, 0xFE, 0xFF, 0xFF][..], &[0; 0xFFFD]].concat());
    }
    // A frame among the tables, of another size than the strip's.
    let frame = [0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1, 0x11, 0, 0xFF, 0xD9];
    for (tables, words) in
        [(&long[..], "its JPEG tables are far too long"), (&frame, "an embedded JPEG has the wrong size")]
    {
        let mut data = stream.clone();
        let at = (8 + data.len()) as u32;
        data.extend(tables);
        let file = striped(&data, JPEG, ROWS, &places, &[(347, &[0])]);
        let file = with_bytes(file, 347, at, tables.len() as u32);
        let error = decode(&file, &own_limits()).expect_err("it is refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Makes a field one of bytes (type UNDEFINED) that lie elsewhere in the file.
fn with_bytes(mut file: Vec<u8>, tag: u16, at: u32, count: u32) -> Vec<u8> {
    let directory = u32::from_le_bytes(file[4..8].try_into().expect("four bytes")) as usize;
    let entries = file[directory + 2..].chunks_exact_mut(12);
    let entry = entries.into_iter().find(|entry| entry[..2] == tag.to_le_bytes()).expect("the field");
    entry[2..4].copy_from_slice(&7u16.to_le_bytes());
    entry[4..8].copy_from_slice(&count.to_le_bytes());
    entry[8..12].copy_from_slice(&at.to_le_bytes());
    file
}

/// A GIF of 2 x 2 black pixels whose canvas has 2 x 2 and whose frame begins at a corner of it, or beside it.
fn gif(left: u8, top: u8) -> Vec<u8> {
    let mut file = b"GIF89a\x02\0\x02\0\x80\0\0".to_vec();
    file.extend([255, 255, 255, 0, 0, 0]);
    file.extend([0x2C, left, 0, top, 0, 2, 0, 2, 0, 0]);
    // Codes of 3 bits: clear (4), 1, 1, 1, 1 and, of 4 bits by then, the end (5).
    let codes = [(4u32, 3), (1, 3), (1, 3), (1, 3), (1, 4), (5, 4)];
    let (bits, _) = codes.iter().fold((0, 0), |(bits, at), &(code, length)| (bits | code << at, at + length));
    file.extend([2, 3]);
    file.extend(&bits.to_le_bytes()[..3]);
    file.extend([0, 0x3B]);
    file
}

#[test]
fn a_gif_frame_that_lies_beside_its_canvas_draws_nothing() {
    for (left, top) in [(0, 0), (1, 0), (1, 1), (2, 0), (0, 2), (3, 1), (200, 0), (200, 200)] {
        let picture =
            decode(&gif(left, top), &Limits::default()).unwrap_or_else(|e| panic!("{left}, {top}: {e}")).picture;
        let Samples::U8(samples) = picture.samples else { panic!("16 bits") };
        let pixels = samples.chunks_exact(samples.len() / 4).enumerate();
        for (i, pixel) in pixels {
            let drawn = i % 2 >= left.into() && i / 2 >= top.into();
            let alpha = pixel.get(3).copied().unwrap_or(255);
            assert_eq!((alpha == 255, &pixel[..3]), (drawn, &[0; 3][..]), "{left}, {top}: pixel {i}");
        }
    }
}

fn png_chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&body);
    [&(data.len() as u32).to_be_bytes(), &body[..], &sum.sum().to_be_bytes()].concat()
}

/// A grey PNG of noise with more chunks before its pixels, these in chunks of 20,000 bytes, and where each of these ends.
fn png(side: usize, more: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let rows: Vec<u8> = noise(side * side).chunks(side).flat_map(|row| [&[0], row].concat()).collect();
    let size = (side as u32).to_be_bytes();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(png_chunk(b"IHDR", &[&size[..], &size, &[8, 0, 0, 0, 0]].concat()));
    file.extend(more);
    let mut add = |data: &[u8]| {
        file.extend(png_chunk(b"IDAT", data));
        file.len()
    };
    let ends = deflated(&rows).chunks(20_000).map(&mut add).collect();
    file.extend(png_chunk(b"IEND", &[]));
    (file, ends)
}

#[test]
fn a_file_that_may_be_cut_is_tried_when_it_is_accepted_and_decoded_once_where_that_can_be_cancelled() {
    let (png, ends) = png(512, &[]);
    let jpeg = jpeg(&noise(512 * 512), 512);
    for (what, cut) in [
        ("PNG, within a chunk", &png[..ends[3] + 9000]),
        ("PNG, between chunks", &png[..ends[3]]),
        ("JPEG", &jpeg[..jpeg.len() / 2]),
    ] {
        let found = header(cut, &own_limits()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((found.width, found.height), (512, 512), "{what}");
        let truncated = |error: Option<ImageError>| matches!(error, Some(ImageError::Truncated { .. }));
        assert!(truncated(probe(cut, &own_limits()).err()), "{what}");
        let (decoded, asked) = counted(cut);
        assert!(truncated(decoded.err()), "{what}");
        // Once before the header is read and once when it failed, were it not for the pixels.
        assert!(asked > 2, "{what}: {asked} questions");
    }
    // What lacks its end mark alone is whole.
    for (what, whole) in [("PNG", &png[..ends[ends.len() - 1]]), ("JPEG", &jpeg[..jpeg.len() - 2])] {
        probe(whole, &own_limits()).unwrap_or_else(|e| panic!("{what}: {e}"));
        decode(whole, &own_limits()).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

#[test]
fn what_is_wrong_with_a_png_is_said_in_words() {
    let (whole, ends) = png(64, &[]);
    let said = |bytes: &[u8]| decode(bytes, &own_limits()).expect_err("it is damaged").to_string();
    let mut flipped = whole.clone();
    // The last byte of the first chunk of pixels is of its checksum.
    let end = ends.iter().copied().find(|&end| whole[..end].windows(4).any(|w| w == b"IDAT")).expect("pixels");
    flipped[end - 1] ^= 1;
    assert_eq!(said(&flipped), "the PNG file is damaged: the checksum of its IDAT chunk is wrong");
}

#[test]
fn damaged_texts_and_profiles_of_a_png_are_inflated_within_the_limit_of_all() {
    let limits = Limits { max_metadata: 1 << 20, ..Limits::default() };
    // 600 KB of zeros without the checksum at their end.
    let whole = deflated(&[0; 600_000]);
    let damaged = &whole[..whole.len() - 4];
    let text = png_chunk(b"zTXt", &[b"Comment\0\0", damaged].concat());
    let international = png_chunk(b"iTXt", &[b"Comment\0\x01\0\0\0", damaged].concat());
    for (what, one, other) in [("zTXt", &text, &text), ("iTXt", &international, &text)] {
        let alone = decode(&png(16, one).0, &limits).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(alone.picture.metadata.texts.is_empty(), "{what}: it is damaged");
        let error = header(&png(16, &[&one[..], other].concat()).0, &limits).expect_err(what);
        // The message gives the limit, not what was left of it.
        let all = limits.max_metadata;
        assert!(
            matches!(error, ImageError::MetadataTooLarge { what: "text", limit } if limit == all),
            "{what}: {error}"
        );
    }
    // A file has one profile: what comes behind a damaged one is not tried.
    let profile = |data: &[u8]| png_chunk(b"iCCP", &[b"one\0\0", data].concat());
    let large = profile(&deflated(&[0; 2 << 20]));
    header(&png(16, &[profile(damaged), large.clone()].concat()).0, &limits).expect("the first is damaged");
    assert!(header(&png(16, &large).0, &limits).is_err(), "an only one is tried");
}

#[test]
fn a_jpeg_with_thousands_of_scans_is_refused_before_any_is_decoded() {
    let mut whole = Vec::new();
    let mut encoder = Encoder::new(&mut whole, 100);
    encoder.set_progressive(true);
    encoder.encode(&noise(512 * 512), 512, 512, ColorType::Luma).expect("a JPEG");
    // Its first scan brings the blocks' means only, however often.
    let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).expect("a scan");
    let (start, scan) = whole.split_at(scan);
    let header_of_scan = &scan[..2 + usize::from(scan[3])];
    let data = &scan[header_of_scan.len()..];
    let end = data.windows(2).position(|pair| pair[0] == 0xFF && pair[1] != 0).expect("another marker");
    let scan = &scan[..header_of_scan.len() + end];
    // Scans of nothing but a header make the smallest file, whole ones the most work.
    for (repeated, times) in [(header_of_scan, 5000), (scan, 300)] {
        let file = [start, scan, &repeated.repeat(times), &[0xFF, 0xD9]].concat();
        for error in [header(&file, &own_limits()).err(), probe(&file, &own_limits()).err()] {
            let error = error.expect("it is refused").to_string();
            assert!(error.contains("far more scans than any image needs"), "{error}");
        }
        let (decoded, asked) = counted(&file);
        assert!(decoded.is_err() && asked <= 2, "{asked} questions");
    }
}

#[test]
fn a_bmp_whose_runs_end_early_is_refused_by_its_header() {
    // 4 x 2 pixels of a palette of two, two runs of four.
    let mut bmp = [&b"BM"[..], &[0; 8], &62u32.to_le_bytes(), &40u32.to_le_bytes()].concat();
    bmp.extend([4u32, 2].map(u32::to_le_bytes).concat());
    bmp.extend([1, 0, 8, 0, 1, 0, 0, 0]);
    bmp.extend([0u32, 0, 0, 2, 0, 0, 0x00FF_FFFF].map(u32::to_le_bytes).concat()[..20].to_vec());
    bmp.extend([0, 0, 0, 0, 255, 255, 255, 0]);
    bmp.extend([4, 1, 0, 0, 4, 0, 0, 1]);
    for whole in [&bmp[..], &bmp[..bmp.len() - 2]] {
        decode(whole, &own_limits()).expect("whole");
        header(whole, &own_limits()).expect("whole");
    }
    for cut in [4, 5, 6] {
        let cut = header(&bmp[..bmp.len() - cut], &own_limits());
        assert!(matches!(cut, Err(ImageError::Truncated { .. })), "{cut:?}");
    }
}
