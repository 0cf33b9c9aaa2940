//! What shows something else than the rest of a picture is enlarged by networks for it.

mod common;

use common::{ENLARGER, decode, encode, enlarged, page, sample};
use enlarger_image::{Format, Picture, Samples};
use enlarger_pipeline::{
    Condition, Content, Creative, Crop, Ensemble, OptimizedFor, Plan, Quality, Request, Resampling, Size, Statistics,
    Step, Style, resize,
};

/// 384 x 288 pixels: four copies of a sample at half its size, which is cleaner than the sample.
fn photo() -> Picture {
    tiled(&resize(&sample("stream.jpg"), 192, 144, Resampling::Box).expect("there is room"), 2)
}

/// As many copies across as down.
fn tiled(one: &Picture, count: u32) -> Picture {
    let (width, height) = (count * one.width, count * one.height);
    let samples = Samples::U8(vec![0; (width * height * 3) as usize]);
    let mut all = Picture { width, height, samples, ..one.clone() };
    let whole = Crop { x: 0, y: 0, width: one.width, height: one.height };
    (0..count * count).for_each(|i| paste(&mut all, one, whole, [i % count * one.width, i / count * one.height]));
    all
}

/// Copies a part of a picture into another.
fn paste(to: &mut Picture, from: &Picture, part: Crop, [x, y]: [u32; 2]) {
    let (Samples::U8(samples), Samples::U8(source)) = (&mut to.samples, &from.samples) else { panic!("8 bits") };
    let row = part.width as usize * 3;
    for line in 0..part.height {
        let start = (((y + line) * to.width + x) * 3) as usize;
        let source_start = (((part.y + line) * from.width + part.x) * 3) as usize;
        samples[start..start + row].copy_from_slice(&source[source_start..source_start + row]);
    }
}

const PLACE: Crop = Crop { x: 300, y: 140, width: 256, height: 224 };

/// A page with a photograph at [`PLACE`].
fn illustrated() -> Picture {
    let mut page = page();
    paste(&mut page, &photo(), Crop { x: 20, y: 10, ..PLACE }, [PLACE.x, PLACE.y]);
    page
}

fn plan(picture: &Picture, request: &Request) -> (Statistics, Plan) {
    ENLARGER.plan(picture, request).expect("a plan")
}

/// As `--model` takes it.
fn named(by: &Ensemble) -> String {
    match &by.mix {
        Some(mix) => format!("{}+{}@{}", by.model, mix.model, mix.share),
        None => by.model.clone(),
    }
}

fn patches(plan: &Plan) -> Vec<(Crop, String)> {
    let of = |step: &Step| match step {
        Step::Network { patches, .. } => patches.iter().map(|p| (p.area, named(&p.by))).collect(),
        _ => Vec::new(),
    };
    plan.steps.iter().flat_map(of).collect()
}

#[test]
fn a_photograph_on_a_page_is_found_where_it_lies_and_a_page_alone_has_none() {
    let statistics = Statistics::of(&illustrated());
    assert_eq!((statistics.content, statistics.regions.len()), (Content::Art, 1), "{statistics:?}");
    let region = statistics.regions[0];
    assert_eq!(region.content, Content::Photo);
    let near = |found: u32, at: u32| found.abs_diff(at) <= 64;
    let (a, b) = (region.area, PLACE);
    assert!(near(a.x, b.x) && near(a.y, b.y), "{a:?}");
    assert!(near(a.x + a.width, b.x + b.width) && near(a.y + a.height, b.y + b.height), "{a:?}");
    for whole in [page(), photo()] {
        let statistics = Statistics::of(&whole);
        assert_eq!(statistics.regions, [], "{statistics:?}");
    }
}

#[test]
fn a_part_that_was_compressed_is_found_in_a_clean_photograph() {
    let mut collage = tiled(&photo(), 3);
    let compressed = decode(&encode(&collage, Format::Jpeg, Some(30)));
    let part = Crop { x: 448, y: 320, width: 256, height: 224 };
    paste(&mut collage, &compressed, part, [part.x, part.y]);
    let statistics = Statistics::of(&collage);
    assert_eq!((statistics.condition, statistics.regions.len()), (Condition::Clean, 1), "{statistics:?}");
    assert_eq!(statistics.regions[0].condition, Condition::Damaged);
    let (_, plan) = plan(&collage, &Request::default());
    assert_eq!(patches(&plan)[0].1, "x4plus+animevideo-v3@0.3");
}

#[test]
fn a_patch_is_as_the_same_part_alone_and_what_is_around_it_stays() {
    let picture = illustrated();
    let (_, with) = plan(&picture, &Request::default());
    let (area, networks) = patches(&with).remove(0);
    // Enough of what is around it.
    let (margin, rim) = (48, 16);
    let seen =
        Crop { x: area.x - margin, y: area.y - rim, width: area.width + margin + rim, height: area.height + 2 * rim };
    let request = Request { size: Size::Factor(2.0), crop: Some(seen), ..Request::default() };
    let run = |model: Option<&str>| {
        let request = Request { model: model.map(Into::into), ..request.clone() };
        enlarged(&picture, &request)
    };
    // What a person names does without back-projection: compared by distance.
    let (mixed, drawn) = (run(None), run(Some("animevideo-v3")));
    let photographed = run(Some(&networks));
    let distance = |other: &Picture, places: [std::ops::Range<u32>; 2]| {
        let (Samples::U8(one), Samples::U8(other_samples)) = (&mixed.samples, &other.samples) else { panic!("8 bits") };
        let [xs, ys] = places.map(|side| 2 * side.start..2 * side.end);
        let (mut sum, mut count) = (0.0, 0.0);
        for y in ys {
            let row = |width: u32| ((y * width + xs.start) * 3) as usize..((y * width + xs.end) * 3) as usize;
            for (s, t) in one[row(mixed.width)].iter().zip(&other_samples[row(other.width)]) {
                sum += f64::from(s.abs_diff(*t));
                count += 1.0;
            }
        }
        sum / count
    };
    let within = [margin + rim..margin + area.width - rim, 2 * rim..area.height];
    let inside = [distance(&photographed, within.clone()), distance(&drawn, within)];
    assert!(2.0 * inside[0] < inside[1], "{inside:?}");
    // Beside it the same is made as without it.
    let beside = Crop { width: margin - rim, ..seen };
    let alone = enlarged(&picture, &Request { crop: Some(beside), ..request.clone() });
    let outside = distance(&alone, [0..beside.width - rim, 0..beside.height]);
    assert!(outside < 0.5, "{outside}");
}

#[test]
fn patches_follow_a_crop_and_are_left_out_where_a_person_or_a_preset_decides() {
    let picture = illustrated();
    let crop = Crop { x: 400, y: 100, width: 200, height: 100 };
    let (statistics, cropped) = plan(&picture, &Request { crop: Some(crop), ..Request::default() });
    let (found, whole) = (patches(&cropped)[0].0, statistics.regions[0].area);
    assert_eq!((found.x, found.y), (0, whole.y.saturating_sub(crop.y)));
    assert_eq!(found.y + found.height, crop.height.min(whole.y + whole.height - crop.y));
    let preset = Creative { optimized_for: OptimizedFor::ArtNIllustration, ..Creative::default() };
    for request in [
        Request { model: Some("x4plus".into()), ..Request::default() },
        Request { quality: Quality::Fast, ..Request::default() },
        Request { style: Style::Creative(preset), ..Request::default() },
        Request { crop: Some(Crop { x: 0, y: 0, width: 100, height: 60 }), ..Request::default() },
    ] {
        assert_eq!(patches(&plan(&picture, &request).1), [], "{request:?}");
    }
}
