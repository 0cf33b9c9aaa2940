//! What a file says besides its pixels travels into every format that has a place for it, and decoding can be cancelled.

use std::{
    io::Cursor,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use enlarger_image::{
    EncodeOptions, Format, ImageError, Limits, MetadataPolicy, Picture, Text, decode, decode_unless, encode,
    encode_notes,
};

const WRITTEN: [Format; 4] = [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff];

fn case(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn picture(name: &str) -> Picture {
    decode(&case(name), &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}")).picture
}

fn again(picture: &Picture, options: &EncodeOptions) -> Picture {
    let mut out = Cursor::new(Vec::new());
    encode(picture, options, &mut out).expect("it can be encoded");
    decode(out.get_ref(), &Limits::default()).expect("it can be decoded").picture
}

#[test]
fn generation_data_is_where_other_programs_look_for_it_unless_stripped() {
    let mut picture = picture("rgb.expected.png");
    let parameters = "a tree, sn\u{f6}w \u{2744}\nSteps: 20, Seed: 7";
    let text = |keyword: &str, text: &str| Text { keyword: keyword.into(), text: text.into() };
    picture.metadata.texts = vec![text("parameters", parameters), text("workflow", "{\"nodes\":[]}")];
    // The high byte first, whatever the block's byte order.
    let user_comment: Vec<u8> = parameters.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for format in WRITTEN {
        let options = EncodeOptions { format, ..EncodeOptions::default() };
        let kept = again(&picture, &options).metadata;
        let exif = kept.exif.unwrap_or_default();
        let has = |what: &[u8]| exif.windows(what.len()).any(|w| w == what);
        let notes = encode_notes(&picture, &options).join("\n");
        if format == Format::Png {
            let all = picture.metadata.texts.iter().all(|text| kept.texts.contains(text));
            assert!(all && kept.texts.len() == 2, "{:?}", kept.texts);
        } else {
            assert!(has(&user_comment), "{format:?}: parameters are in UserComment");
            assert_eq!(has(b"workflow:{\"nodes\":[]}"), format == Format::WebP, "{format:?}");
            assert_eq!(notes.contains("workflow"), format != Format::WebP, "{format:?}: {notes}");
        }
        let strip = EncodeOptions { metadata: MetadataPolicy::Strip, ..options };
        let stripped = again(&picture, &strip).metadata;
        // A TIFF's own resolution counts as EXIF.
        let exif = stripped.exif.unwrap_or_default();
        let left = exif.windows(user_comment.len()).any(|w| w == user_comment);
        assert!(stripped.texts.is_empty() && !left, "{format:?}");
    }
}

#[test]
fn iptc_records_stay_or_are_said_to_be_left_out() {
    let mut picture = picture("rgb.expected.png");
    picture.metadata.iptc = Some(b"\x1c\x02\x19\x00\x04alps".to_vec());
    for format in WRITTEN {
        let options = EncodeOptions { format, ..EncodeOptions::default() };
        let kept = again(&picture, &options).metadata.iptc == picture.metadata.iptc;
        let said = encode_notes(&picture, &options).iter().any(|note| note.contains("IPTC"));
        assert_eq!((kept, said), if format == Format::WebP { (false, true) } else { (true, false) }, "{format:?}");
        let strip = EncodeOptions { metadata: MetadataPolicy::Strip, ..options };
        assert_eq!(again(&picture, &strip).metadata.iptc, None, "{format:?}");
    }
}

#[test]
fn code_points_of_colours_stay_in_png_and_become_a_profile_elsewhere() {
    let picture = picture("rgb-png-cicp-pq.png");
    for format in WRITTEN {
        let kept = again(&picture, &EncodeOptions { format, ..EncodeOptions::default() }).metadata;
        assert_eq!(kept.cicp, (format == Format::Png).then_some([9, 16, 0, 1]), "{format:?}");
        assert!(kept.icc.is_some(), "{format:?}");
    }
}

#[test]
fn decoding_stops_when_it_is_cancelled() {
    for name in ["rgb.expected.png", "fax-g4-msb2lsb.tif", "indexed-gif-no-trailer.gif", "indexed-bmp-runs.bmp"] {
        let bytes = case(name);
        // Not before the first pixels are asked for.
        let asked = AtomicUsize::new(0);
        let cancelled = || asked.fetch_add(1, Ordering::Relaxed) > 0;
        let stopped = decode_unless(&bytes, &Limits::default(), &cancelled);
        assert!(matches!(stopped, Err(ImageError::Cancelled)), "{name}: {:?}", stopped.map(|d| d.header));
    }
}
