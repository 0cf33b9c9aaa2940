//! Each preset and engine does what it is for, and differs visibly from the others.

mod common;

use common::{ENLARGER, bytes_of, cut, decode, drawn, encode, enlarged, logo, luminance, sample, sprite};
use enlarger_image::{Channels, Format, Picture, Samples};
use enlarger_pipeline::{
    AlphaWay, Creative, Crop, Engine, Flavor, OptimizedFor, Plan, Precision, Quality, Request, Resampling, Size,
    Statistics, Style, resize,
};

fn saved(picture: &Picture, quality: u8) -> Picture {
    decode(&encode(picture, Format::Jpeg, Some(quality)))
}

/// A drawn face of 128 x 144 pixels, see `pictures/make.py`.
fn portrait() -> Picture {
    decode(&bytes_of("tests/pictures/portrait.png"))
}

/// Half as large as it is, so that its own compression is gone.
fn half(file: &str) -> Picture {
    let sample = sample(file);
    resize(&sample, sample.width / 2, sample.height / 2, Resampling::Box).expect("there is room")
}

/// Numbers of deviation 1, all different.
fn random() -> impl FnMut() -> f32 {
    let mut state = 1u32;
    move || {
        // Numerical Recipes' linear congruential generator; the sum of four is near enough to a Gaussian.
        let mut sum = 0.0;
        for _ in 0..4 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += f32::from((state >> 24) as u8) - 127.5;
        }
        sum / 147.8
    }
}

/// Grey grain of a deviation in 0..=255.
fn grainy(picture: &Picture, deviation: f32) -> Picture {
    let Samples::U8(samples) = &picture.samples else { panic!("8 bits") };
    let mut random = random();
    let mut samples = samples.clone();
    for pixel in samples.chunks_exact_mut(3) {
        let grain = deviation * random();
        pixel.iter_mut().for_each(|s| *s = (f32::from(*s) + grain).round().clamp(0.0, 255.0) as u8);
    }
    Picture { samples: Samples::U8(samples), ..picture.clone() }
}

fn preset(optimized_for: OptimizedFor) -> Style {
    Style::Creative(Creative { optimized_for, ..Creative::default() })
}

fn engine(engine: Engine) -> Style {
    Style::Creative(Creative { engine, ..Creative::default() })
}

fn asked(style: Style, factor: f64) -> Request {
    Request { size: Size::Factor(factor), style, ..Request::default() }
}

fn planned(picture: &Picture, request: &Request) -> (Statistics, Plan) {
    ENLARGER.plan(picture, request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// Deviation from the mean of the five pixels around each, in a part given in pixels of a source `factor` times as small.
fn fine(picture: &Picture, part: Crop, factor: u32) -> f64 {
    let luma = luminance(picture);
    let (width, height) = (picture.width as i64, picture.height as i64);
    let at = |x: i64, y: i64| luma[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize];
    let (mut sum, mut count) = (0.0, 0.0);
    for y in i64::from(part.y * factor)..i64::from((part.y + part.height) * factor) {
        for x in i64::from(part.x * factor)..i64::from((part.x + part.width) * factor) {
            let around: f64 =
                (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dx, dy))).map(|(dx, dy)| at(x + dx, y + dy)).sum();
            sum += (at(x, y) - around / 25.0).powi(2);
            count += 1.0;
        }
    }
    (sum / count).sqrt()
}

/// Mean absolute distance of luminance, as a share of white.
fn distance(a: &Picture, b: &Picture) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64 / 255.0
}

const PORTRAITS: [OptimizedFor; 2] = [OptimizedFor::SoftPortraits, OptimizedFor::HardPortraits];
/// Of the portrait: both cheeks and the chin, the eyes with brows and lashes, hair above the face.
const SKIN: [Crop; 3] = [
    Crop { x: 40, y: 76, width: 12, height: 12 },
    Crop { x: 76, y: 76, width: 12, height: 12 },
    Crop { x: 58, y: 100, width: 12, height: 6 },
];
const EYES: [Crop; 2] = [Crop { x: 43, y: 58, width: 17, height: 12 }, Crop { x: 68, y: 58, width: 17, height: 12 }];
const HAIR: [Crop; 1] = [Crop { x: 46, y: 16, width: 36, height: 14 }];

fn mean_fine(picture: &Picture, parts: &[Crop], factor: u32) -> f64 {
    parts.iter().map(|&part| fine(picture, part, factor)).sum::<f64>() / parts.len() as f64
}

#[test]
fn faces_are_found_where_they_are_and_only_for_who_asks() {
    let picture = portrait();
    let tiny = resize(&picture, 64, 72, Resampling::Box).expect("there is room");
    let large = resize(&picture, 800, 900, Resampling::CatmullRom).expect("there is room");
    for style in PORTRAITS.map(preset) {
        for (name, picture) in [
            ("as it is", picture.clone()),
            ("JPEG 50", saved(&picture, 50)),
            ("small", tiny.clone()),
            ("large", large.clone()),
            ("grain", grainy(&picture, 8.0)),
        ] {
            let (statistics, plan) = planned(&picture, &asked(style.clone(), 2.0));
            let [face] = statistics.subject.faces[..] else { panic!("{name}: {:?}", statistics.subject) };
            let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
            // The brows lie at 0.38 of the height, the chin at 0.77; the cheeks at 0.28 and 0.72 of the width.
            let edges = [
                (share(face.x, picture.width), 0.28),
                (share(face.x + face.width, picture.width), 0.72),
                (share(face.y, picture.height), 0.36),
                (share(face.y + face.height, picture.height), 0.77),
            ];
            assert!(edges.iter().all(|(found, drawn)| (found - drawn).abs() < 0.13), "{name}: {edges:?}");
            assert!(plan.notes.iter().any(|note| note.starts_with("found 1 face")), "{:?}", plan.notes);
        }
        for file in ["stream.jpg", "friends.jpg", "brushes.png"] {
            let (statistics, plan) = planned(&half(file), &asked(style.clone(), 2.0));
            assert_eq!(statistics.subject.faces, [], "{file}");
            assert!(plan.notes.iter().any(|note| note.starts_with("found no face")), "{:?}", plan.notes);
        }
    }
    for &other in OptimizedFor::ALL.iter().filter(|preset| !PORTRAITS.contains(preset)) {
        assert_eq!(
            planned(&picture, &asked(preset(other), 2.0)).0.subject.faces,
            [],
            "{other:?} does not look for any"
        );
    }
    let prompt = Style::Creative(Creative { prompt: Some("portrait of a woman".into()), ..Creative::default() });
    let photo = resize(&picture, 256, 288, Resampling::CatmullRom).expect("there is room");
    let (statistics, plan) = planned(&grainy(&photo, 6.0), &asked(prompt, 2.0));
    assert_eq!(statistics.subject.faces.len(), 1, "a prompt asks as well: {plan}");
}

#[test]
fn pictures_of_any_size_are_looked_at_for_what_presets_ask() {
    for (width, height) in [(1, 1), (1, 5000), (5000, 1), (16, 16), (39, 41), (640, 8)] {
        for channels in [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba] {
            let picture = drawn(width, height, channels, |x, y, c| (x * 7 + y * 31 + c as u32 * 101) as u8);
            for &optimized_for in OptimizedFor::ALL {
                let (_, plan) = planned(&picture, &asked(preset(optimized_for), 2.0));
                assert_eq!((plan.result.width, plan.result.height), (2 * width, 2 * height));
            }
        }
    }
}

#[test]
fn soft_portraits_calm_skin_and_hard_portraits_bring_it_out_while_eyes_stay_crisp() {
    let source = portrait();
    let by = |optimized_for| enlarged(&source, &asked(preset(optimized_for), 4.0));
    let [standard, soft, hard] = [OptimizedFor::Standard, PORTRAITS[0], PORTRAITS[1]].map(by);
    let gains = |result: &Picture| {
        [&SKIN[..], &EYES, &HAIR].map(|parts| mean_fine(result, parts, 4) / mean_fine(&standard, parts, 4))
    };
    let [skin, eyes, hair] = gains(&soft);
    println!("soft: skin x{skin:.2}, eyes x{eyes:.2}, hair x{hair:.2}");
    assert!(skin < 0.6 && eyes > 0.9 && hair > 0.8);
    let [skin, eyes, hair] = gains(&hard);
    println!("hard: skin x{skin:.2}, eyes x{eyes:.2}, hair x{hair:.2}");
    assert!(skin > 1.3 && eyes > 1.1 && hair > 0.95);
}

#[test]
fn faces_stay_in_place_in_a_part_and_in_two_passes() {
    let source = portrait();
    let draft =
        |optimized_for, factor, crop| Request { crop, quality: Quality::Draft, ..asked(preset(optimized_for), factor) };
    let crop = Crop { x: 50, y: 56, width: 70, height: 60 };
    for (factor, crop) in [(2.0, Some(crop)), (8.0, None)] {
        let [standard, soft] =
            [OptimizedFor::Standard, PORTRAITS[0]].map(|p| enlarged(&source, &draft(p, factor, crop)));
        let place = |part: &Crop| crop.map_or(*part, |crop| Crop { x: part.x - crop.x, y: part.y - crop.y, ..*part });
        let gain = |parts: &[Crop]| {
            let parts: Vec<Crop> = parts.iter().map(place).collect();
            mean_fine(&soft, &parts, factor as u32) / mean_fine(&standard, &parts, factor as u32)
        };
        let (skin, eye) = (gain(&SKIN[1..2]), gain(&EYES[1..]));
        println!("{factor}x: skin x{skin:.2}, eye x{eye:.2}");
        assert!(skin < 0.75 && eye > 0.9);
    }
    let beside = Crop { x: 0, y: 0, width: 10, height: 144 };
    let (statistics, plan) = planned(&source, &draft(PORTRAITS[0], 2.0, Some(beside)));
    assert_eq!(statistics.subject.faces.len(), 1);
    assert!(plan.notes.iter().any(|note| note.starts_with("found no face")), "none lies in this part: {plan}");
}

/// 96 x 96 pixels: a sky above foliage.
fn landscape() -> Picture {
    let leaves = half("stream.jpg");
    let Samples::U8(leaves_samples) = &leaves.samples else { panic!("8 bits") };
    drawn(96, 96, Channels::Rgb, |x, y, c| {
        if y < 48 {
            [120, 150, 190][c] + (y / 2) as u8
        } else {
            leaves_samples[(((y - 28) * leaves.width + x + 30) * 3) as usize + c]
        }
    })
}

const SKY: Crop = Crop { x: 4, y: 4, width: 88, height: 36 };
const LEAVES: Crop = Crop { x: 4, y: 56, width: 88, height: 36 };

#[test]
fn nature_has_more_texture_in_foliage_and_none_in_the_sky() {
    for factor in [2, 4] {
        let by = |optimized_for| enlarged(&landscape(), &asked(preset(optimized_for), f64::from(factor)));
        let [standard, nature] = [OptimizedFor::Standard, OptimizedFor::NatureNLandscapes].map(by);
        let [sky, leaves] = [SKY, LEAVES].map(|part| [fine(&standard, part, factor), fine(&nature, part, factor)]);
        println!("{factor}x: sky {sky:.2?}, foliage {leaves:.2?}");
        assert!(leaves[1] > 1.2 * leaves[0] && sky[1] < sky[0] + 0.2, "{factor}x: {sky:?} {leaves:?}");
    }
}

#[test]
fn films_have_the_grain_of_their_source_and_none_where_it_has_none() {
    let films = || asked(preset(OptimizedFor::FilmsNPhotography), 2.0);
    for deviation in [3.5, 5.0, 6.5] {
        let source = grainy(&landscape(), deviation);
        let (statistics, _) = planned(&source, &films());
        let measured = 255.0 * statistics.subject.grain;
        let (own, made) = (fine(&source, SKY, 1), fine(&enlarged(&source, &films()), SKY, 2));
        println!("grain {deviation}: measured {measured:.2}, sky {own:.2} became {made:.2}");
        assert!((0.7..1.3).contains(&(measured / deviation)), "{deviation}: measured {measured}");
        assert!((0.65..1.4).contains(&(made / own)), "{deviation}: {own} became {made}");
        // The same for smart grain: all of it is the source's own.
        let precision = Precision { sharpen: 0, smart_grain: 100, ultra_detail: 0, flavor: None };
        let made = fine(&enlarged(&source, &asked(Style::Precision(precision), 2.0)), SKY, 2);
        assert!((0.65..1.4).contains(&(made / own)), "smart_grain, {deviation}: {own} became {made}");
    }
    for (name, source) in [
        ("clean", landscape()),
        ("JPEG 50", saved(&landscape(), 50)),
        ("JPEG 75", saved(&landscape(), 75)),
        ("foliage", half("stream.jpg")),
        ("fur", half("friends.jpg")),
        ("a stream, compressed", sample("stream.jpg")),
        ("its middle", cut(&sample("stream.jpg"), Crop { x: 144, y: 96, width: 96, height: 96 })),
    ] {
        let (statistics, plan) = planned(&source, &films());
        assert!(!plan.to_string().contains("filter grain"), "{name}: {statistics:?}\n{plan}");
    }
}

/// Balls of even shades before an even wall, 64 x 64 pixels.
fn render() -> Picture {
    drawn(64, 64, Channels::Rgb, |x, y, c| {
        let samples = (0..16).map(|i| {
            let (x, y) = (x as f32 + (i % 4) as f32 / 4.0, y as f32 + (i / 4) as f32 / 4.0);
            let mut colour = [70.0, 90.0, 130.0][c] + y;
            for (cx, cy, r, paint) in
                [(24.0, 30.0, 17.0, [217.0, 50.0, 38.0]), (44.0, 42.0, 13.0, [40.0, 120.0, 210.0])]
            {
                let (dx, dy) = ((x - cx) / r, (y - cy) / r);
                let square: f32 = dx * dx + dy * dy;
                if square < 1.0 {
                    let light = (-0.5 * dx - 0.6 * dy + 0.6 * (1.0 - square).sqrt()).max(0.0);
                    colour = paint[c] * (0.15 + 0.85 * light);
                }
            }
            colour
        });
        (samples.sum::<f32>() / 16.0).round() as u8
    })
}

#[test]
fn renders_stay_within_the_colours_of_their_source() {
    for source in [render(), half("brushes.png")] {
        let result = enlarged(&source, &asked(preset(OptimizedFor::ThreeDRenders), 4.0));
        let (Samples::U8(from), Samples::U8(to)) = (&source.samples, &result.samples) else { panic!("8 bits") };
        let around = |at: u32, side: u32| {
            let place = (f64::from(at) + 0.5) / 4.0 - 0.5;
            [place.floor(), place.floor() + 1.0].map(|p| p.clamp(0.0, f64::from(side) - 1.0) as u32)
        };
        for (i, colour) in to.iter().enumerate() {
            let (x, y, c) = (i as u32 / 3 % result.width, i as u32 / 3 / result.width, i % 3);
            let (columns, rows) = (around(x, source.width), around(y, source.height));
            let near =
                rows.map(|y| columns.map(|x| f32::from(from[((y * source.width + x) * 3) as usize + c]))).concat();
            let (low, high) = (near.iter().copied().fold(f32::MAX, f32::min), near.iter().copied().fold(0.0, f32::max));
            let more = 0.1 * (high - low) + 1.5;
            let colour = f32::from(*colour);
            assert!((low - more..=high + more).contains(&colour), "{colour} at {x},{y} among {near:?}");
        }
    }
}

#[test]
fn pixel_art_gets_larger_by_whole_pixels_with_exactly_its_colours() {
    let game = |factor| asked(preset(OptimizedFor::VideogameAssets), factor);
    for (square, factor, pixels) in [(1, 4.0, 4), (1, 16.0, 16), (4, 2.0, 8), (4, 2.5, 10), (3, 3.0, 9), (8, 1.5, 12)] {
        let (statistics, plan) = planned(&sprite(square), &game(factor));
        assert_eq!((statistics.subject.square, &plan.alpha), (Some(square), &AlphaWay::Whole), "{plan}");
        assert!(plan.models().is_empty() && plan.provenance().contains("whole pixels"), "{plan}");
        let result = enlarged(&sprite(square), &game(factor));
        assert!(result.samples == sprite(pixels).samples, "{square} pixels a square, {factor}x");
    }
    // Two and a half pixels each: all alike, with borders of mixed colour.
    assert_eq!(enlarged(&sprite(1), &game(2.5)).width, 30);
    // A part that starts within a square.
    let crop = Crop { x: 6, y: 5, width: 24, height: 16 };
    let part = enlarged(&sprite(4), &Request { crop: Some(crop), ..game(2.0) });
    let whole = cut(&sprite(8), Crop { x: 12, y: 10, width: 48, height: 32 });
    assert!(part.samples == whole.samples);
    // Drawn with soft edges, compressed, or a photograph: the art network's.
    let smooth = resize(&sprite(16), 96, 80, Resampling::Lanczos3).expect("there is room");
    for (name, picture) in [("smooth", smooth), ("texture", half("stream.jpg")), ("JPEG", saved(&render(), 80))] {
        let (statistics, plan) = planned(&picture, &game(2.0));
        assert_eq!((statistics.subject.square, plan.models()[0]), (None, "x4plus"), "{name}");
    }
    // Who names a model gets it, and other presets draw.
    assert!(!planned(&sprite(4), &Request { model: Some("x4plus".into()), ..game(2.0) }).1.models().is_empty());
    assert!(!planned(&sprite(4), &asked(preset(OptimizedFor::ArtNIllustration), 2.0)).1.models().is_empty());
}

/// A part of a picture that begins two columns and three rows further in.
fn cut_in(picture: &Picture) -> Picture {
    cut(picture, Crop { x: 2, y: 3, width: picture.width - 2, height: picture.height - 3 })
}

#[test]
fn pixel_art_is_known_without_being_named_and_logos_and_thumbnails_are_drawn() {
    let (creative, precise) = (Style::default(), Style::Precision(Precision::default()));
    let whole = |picture: &Picture, style: &Style| planned(picture, &asked(style.clone(), 4.0)).1.models().is_empty();
    for style in [&creative, &precise] {
        for square in [1, 2, 4, 7] {
            let art = sprite(square);
            let deep = art.clone().into_depth(16).expect("there is room");
            for (name, art) in [("whole", &art), ("cut", &cut_in(&art)), ("16 bits", &deep)] {
                assert!(whole(art, style), "{name}, {square} pixels a square");
            }
        }
        for side in [16, 24, 32, 48, 64, 96, 128] {
            assert!(!whole(&logo(side), style), "a logo of {side} pixels");
            let photo = sample("stream.jpg");
            let small = resize(&photo, side, side, Resampling::Box).expect("there is room");
            assert!(!whole(&small, style), "a photo of {side} pixels");
            // As in a GIF: each colour has 16 levels.
            let Samples::U8(samples) = &small.samples else { panic!("8 bits") };
            let few = Samples::U8(samples.iter().map(|s| (s / 16) * 17).collect());
            assert!(!whole(&Picture { samples: few, ..small }, style), "a photo of {side} pixels in few colours");
        }
        // Photographs and logos that were enlarged by whole pixels.
        for small in [logo(32), resize(&sample("stream.jpg"), 48, 36, Resampling::Box).expect("there is room")] {
            let large = resize(&small, 4 * small.width, 4 * small.height, Resampling::Nearest).expect("there is room");
            assert!(!whole(&large, style));
        }
    }
    let (_, plan) = planned(&sprite(1), &asked(creative, 4.0));
    assert!(plan.notes.iter().any(|note| note.contains("the preset art_n_illustration redraws")), "{plan}");
    let (_, plan) = planned(&sprite(1), &asked(precise, 4.0));
    assert!(plan.notes.iter().any(|note| note.contains("the flavor sublime redraws")), "{plan}");
    // What a person names is done.
    let flavor = Style::Precision(Precision { flavor: Some(Flavor::Sublime), ..Precision::default() });
    let engines = Engine::ALL.iter().filter(|e| **e != Engine::Automatic).map(|e| engine(*e));
    let presets = OptimizedFor::ALL.iter().map(|p| preset(*p)).filter(|style| {
        !matches!(style, Style::Creative(k) if matches!(k.optimized_for, OptimizedFor::Standard | OptimizedFor::VideogameAssets))
    });
    for style in engines.chain(presets).chain([flavor]) {
        assert!(!whole(&sprite(2), &style), "{style:?}");
    }
    let named = Request { model: Some("x4plus".into()), ..asked(Style::default(), 4.0) };
    assert_eq!(planned(&sprite(2), &named).1.models(), ["x4plus"]);
}

#[test]
fn science_fiction_has_deeper_shadows_and_more_contrast() {
    for source in [landscape(), saved(&landscape(), 60), half("friends.jpg")] {
        let by = |optimized_for| luminance(&enlarged(&source, &asked(preset(optimized_for), 2.0)));
        let [standard, fiction] = [OptimizedFor::Standard, OptimizedFor::ScienceFictionNHorror].map(by);
        let spread = |luma: &[f64]| {
            let mean = luma.iter().sum::<f64>() / luma.len() as f64;
            (luma.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / luma.len() as f64).sqrt()
        };
        assert!(spread(&fiction) > 1.15 * spread(&standard), "{} {}", spread(&standard), spread(&fiction));
    }
}

#[test]
fn every_two_presets_and_every_two_engines_differ() {
    // Of luminance, in hundredths of white: what one sees when two results take turns.
    const SEEN: f64 = 0.3;
    let pairs = |name: &str, results: &[(&str, Picture)]| {
        for (i, (a, one)) in results.iter().enumerate() {
            for (b, other) in &results[..i] {
                let percent = 100.0 * distance(one, other);
                println!("{name}: {a} and {b} differ by {percent:.2} %");
                assert!(percent > SEEN, "{name}: {a} and {b} differ by {percent:.2} %");
            }
        }
    };
    let source = portrait();
    let by = |preset_: &OptimizedFor| (preset_.name(), enlarged(&source, &asked(preset(*preset_), 4.0)));
    pairs("a portrait", &OptimizedFor::ALL.iter().map(by).collect::<Vec<_>>());
    for (name, source) in [("a photo", half("friends.jpg")), ("JPEG 50", saved(&half("friends.jpg"), 50))] {
        let source = cut(&source, Crop { x: 40, y: 20, width: 96, height: 96 });
        let by = |engine_: &Engine| (engine_.name(), enlarged(&source, &asked(engine(*engine_), 4.0)));
        pairs(name, &Engine::ALL.iter().map(by).collect::<Vec<_>>());
    }
}
