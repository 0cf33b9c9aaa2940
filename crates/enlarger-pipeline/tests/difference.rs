//! What was invented is measured right.

mod common;

use common::{bytes_of, drawn, job};
use enlarger_image::{Channels, Samples};
use enlarger_pipeline::{Creative, Crop, Difference, Outcome, Request, Size, Style};

/// Numbers without a pattern.
fn any(x: u32, y: u32, c: usize) -> u8 {
    (x.wrapping_mul(97) ^ y.wrapping_mul(61).wrapping_add(c as u32 * 83)) as u8
}

/// The whole way of a photo by the fast network.
fn outcome(style: Creative, crop: Option<Crop>) -> Outcome {
    let model = Some("animevideo-v3".into());
    let request = Request { size: Size::Factor(2.0), style: Style::Creative(style), model, crop, ..Request::default() };
    job(&bytes_of("../../samples/stream.jpg"), &request).0
}

#[test]
fn a_picture_of_repeated_pixels_has_nothing_invented() {
    for channels in [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba] {
        let source = drawn(13, 9, channels, any);
        for factor in [1, 2, 3, 4] {
            let result = drawn(13 * factor, 9 * factor, channels, |x, y, c| any(x / factor, y / factor, c));
            let difference = Difference::of(&result, &source, None);
            assert!(difference.share < 1e-12, "{channels:?} {factor}x: {}", difference.share);
            assert_eq!(difference.map.samples, Samples::U8(vec![0; 13 * 9]));
        }
    }
}

#[test]
fn a_known_change_is_the_known_number_in_the_known_place() {
    let source = drawn(8, 6, Channels::Rgb, |_, _, _| 100);
    // A fifth of white, on a quarter of the picture, in one colour of three.
    let result = drawn(32, 24, Channels::Rgb, |x, y, c| if x < 16 && y < 12 && c == 1 { 151 } else { 100 });
    let difference = Difference::of(&result, &source, None);
    assert!((difference.share - 0.2 / 12.0).abs() < 1e-12, "{}", difference.share);
    // Four times a third of a fifth of white.
    let map = drawn(8, 6, Channels::Gray, |x, y, _| if x < 4 && y < 3 { 68 } else { 0 });
    assert_eq!(difference.map.samples, map.samples);
    // Of a part of the source, that part is what counts.
    let around =
        drawn(20, 20, Channels::Rgb, |x, y, _| if (5..13).contains(&x) && (7..13).contains(&y) { 100 } else { 0 });
    let part = Difference::of(&result, &around, Some(Crop { x: 5, y: 7, width: 8, height: 6 }));
    assert_eq!((part.share, part.map.samples), (difference.share, difference.map.samples));
    // A result of no whole factor: the mean of what changed is what changed.
    let broken = drawn(19, 11, Channels::Rgb, |_, _, _| 151);
    assert!((Difference::of(&broken, &source, None).share - 0.2).abs() < 1e-12);
}

#[test]
fn what_is_transparent_counts_nothing() {
    let alpha = |x: u32| if x < 2 { 255 } else { 0 };
    let source = drawn(4, 2, Channels::Rgba, |x, _, c| if c == 3 { alpha(x) } else { 10 });
    let hidden = drawn(8, 4, Channels::Rgba, |x, _, c| match c {
        3 => alpha(x / 2),
        _ if x < 4 => 10,
        _ => 250,
    });
    assert!(Difference::of(&hidden, &source, None).share < 1e-12);
    let seen = drawn(8, 4, Channels::Rgba, |x, _, c| if c == 3 { alpha(x / 2) } else { 61 });
    let difference = Difference::of(&seen, &source, None);
    assert!((difference.share - 0.2).abs() < 1e-12, "{}", difference.share);
    assert_eq!(difference.map.samples, Samples::U8([[204, 204, 0, 0]; 2].concat()));
}

#[test]
fn a_map_has_at_most_512_pixels_on_a_side_and_all_differences_in_it() {
    let source = drawn(1500, 3, Channels::Gray, |_, _, _| 0);
    let result = drawn(1500, 3, Channels::Gray, |x, _, _| if x < 750 { 51 } else { 0 });
    let difference = Difference::of(&result, &source, None);
    assert_eq!((difference.map.width, difference.map.height), (512, 1));
    let Samples::U8(map) = difference.map.samples else { panic!("a map has 8 bits") };
    assert!(map[..256].iter().all(|v| *v == 204) && map[256..].iter().all(|v| *v == 0), "{map:?}");
    assert!((difference.share - 0.1).abs() < 1e-12, "{}", difference.share);
}

#[test]
fn creativity_raises_what_is_invented_and_a_job_tells_it() {
    let crop = Some(Crop { x: 120, y: 80, width: 64, height: 48 });
    let share = |creativity| outcome(Creative { creativity, ..Creative::default() }, crop).difference.share;
    let shares = [0, 5, 10].map(share);
    assert!(shares.is_sorted_by(|a, b| a < b) && shares[2] < 0.2, "{shares:?}");
    let told = serde_json::to_value(outcome(Creative::default(), crop)).expect("it is plain data");
    assert_eq!(told["invention"], serde_json::json!({ "share": shares[0] }));
}
