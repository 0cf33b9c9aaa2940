//! Every knob does what its name says, on crops of real photos, clean and damaged.

mod common;

use common::{ENLARGER, decode, drawn, encode, job, luminance, page, sample};
use enlarger_image::{Channels, Format, Picture, Samples};
use enlarger_pipeline::{
    Condition, Content, Creative, Crop, Engine, Flavor, OptimizedFor, Precision, Request, Resampling, Size, Statistics,
    Style, resize,
};

const CROP: u32 = 64;
const FACTOR: f64 = 4.0;

/// Runs a job by the fast network, where the filters are what is tested.
fn enlarge(bytes: &[u8], style: Style, size: Size, crop: Option<Crop>) -> Picture {
    enlarge_by(Some("animevideo-v3"), bytes, style, size, crop)
}

fn enlarge_by(model: Option<&str>, bytes: &[u8], style: Style, size: Size, crop: Option<Crop>) -> Picture {
    let request = Request { size, style, model: model.map(Into::into), crop, ..Request::default() };
    job(bytes, &request).1
}

/// Bytes of twelve pictures: four places of two photos, clean, as JPEG of quality 60, and with noise.
fn crops() -> Vec<(String, Vec<u8>)> {
    let mut crops = Vec::new();
    for (file, x, y) in
        [("stream.jpg", 120, 80), ("friends.jpg", 96, 80), ("stream.jpg", 20, 20), ("stream.jpg", 230, 180)]
    {
        let clean = cut(&sample(file), x, y);
        crops.push((format!("{file} {x},{y} clean"), encode(&clean, Format::Png, None)));
        crops.push((format!("{file} {x},{y} JPEG 60"), encode(&clean, Format::Jpeg, Some(60))));
        crops.push((format!("{file} {x},{y} noise"), encode(&noisy(&clean), Format::Png, None)));
    }
    crops
}

fn cut(picture: &Picture, x: u32, y: u32) -> Picture {
    common::cut(picture, Crop { x, y, width: CROP, height: CROP })
}

fn noisy(picture: &Picture) -> Picture {
    let Samples::U8(samples) = &picture.samples else { panic!("the samples have 8 bits") };
    let mut state = 1u32;
    let mut random = || {
        // Numerical Recipes' linear congruential generator; the sum of four is near enough to a Gaussian.
        let mut sum = 0.0;
        for _ in 0..4 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += f32::from((state >> 24) as u8) - 127.5;
        }
        sum / 18.0
    };
    let samples = samples.iter().map(|s| (f32::from(*s) + random()).round().clamp(0.0, 255.0) as u8).collect();
    Picture { samples: Samples::U8(samples), ..picture.clone() }
}

/// Root mean square of what is smaller than `side` pixels: the picture less its reduced and enlarged self.
fn energy_below(picture: &Picture, side: u32) -> f64 {
    let small = resize(picture, picture.width / side, picture.height / side, Resampling::Box).expect("there is room");
    let coarse = resize(&small, picture.width, picture.height, Resampling::Mitchell).expect("there is room");
    let (fine, coarse) = (luminance(picture), luminance(&coarse));
    (fine.iter().zip(&coarse).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / fine.len() as f64).sqrt()
}

/// Mean absolute distance of luminance, as a share of white.
fn distance(a: &Picture, b: &Picture) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64 / 255.0
}

fn creative(knob: &str, value: i8) -> Style {
    let mut creative = Creative::default();
    match knob {
        "creativity" => creative.creativity = value,
        "hdr" => creative.hdr = value,
        "resemblance" => creative.resemblance = value,
        _ => creative.fractality = value,
    }
    Style::Creative(creative)
}

#[test]
fn each_creative_knob_moves_its_own_measure_in_order_on_every_crop() {
    for (name, bytes) in crops() {
        let source = decode(&bytes);
        let by_default = |style| enlarge_by(None, &bytes, style, Size::Factor(FACTOR), None);
        let plain = by_default(Style::default());
        // Creativity: energy of high bands. Hdr: local contrast. Resemblance: distance to the source. Fractality: finest bands.
        for knob in ["creativity", "hdr", "resemblance", "fractality"] {
            assert_eq!(creative(knob, 0), Style::default(), "{knob} at 0 is no knob at all");
            let [least, less, more, most] = [-10, -5, 5, 10].map(|value| by_default(creative(knob, value)));
            let results = [&least, &less, &plain, &more, &most];
            let measure = |result: &Picture| match knob {
                "creativity" => energy_below(result, 8),
                "hdr" => energy_below(result, 64),
                "resemblance" => -distance(
                    &resize(result, source.width, source.height, Resampling::Box).expect("there is room"),
                    &source,
                ),
                _ => energy_below(result, 2),
            };
            let measured = results.map(measure);
            // Two results that are both within a quarter of a level of the source differ by how they were rounded.
            let by_rounding = |a: &f64| knob == "resemblance" && -*a < 0.25 / 255.0;
            let ordered = |a: &f64, b: &f64| a < b || by_rounding(a) && by_rounding(b);
            assert!(measured.is_sorted_by(ordered), "{name}: {knob} {measured:?}");
            let ends = [&least, &most].map(|end| distance(end, &plain));
            println!(
                "{name}: {knob} {measured:.2?}, ends differ by {:.2} % and {:.2} %",
                100.0 * ends[0],
                100.0 * ends[1]
            );
            // What the default makes of a clean source is close to it already.
            let least = [0.01, if knob == "resemblance" { 0.0 } else { 0.01 }];
            assert!(ends.iter().zip(least).all(|(end, least)| *end > least), "{name}: {knob} {ends:?}");
        }
    }
}

#[test]
fn damage_is_seen() {
    for file in ["stream.jpg", "friends.jpg"] {
        // Halved, so that the samples' own compression is gone.
        let sample = sample(file);
        let clean = resize(&sample, sample.width / 2, sample.height / 2, Resampling::Lanczos3).expect("there is room");
        let jpeg = decode(&encode(&clean, Format::Jpeg, Some(50)));
        let cropped = cut(&jpeg, 3, 5);
        for (picture, expected) in
            [(noisy(&clean), Condition::Damaged), (jpeg, Condition::Damaged), (clean, Condition::Clean)]
        {
            let statistics = Statistics::of(&picture);
            assert_eq!(statistics.condition, expected, "{file}: {statistics:?}");
        }
        let statistics = Statistics::of(&cropped);
        assert!(statistics.damaged > 0.4, "{file}, cropped: {statistics:?}");
    }
}

/// The same picture one pixel further right and down; the outermost pixels are repeated.
fn shifted(picture: &Picture, [x, y]: [u32; 2]) -> Picture {
    let samples = picture.samples.as_slice::<u8>().expect("8 bits");
    let n = picture.channels.count();
    drawn(picture.width, picture.height, picture.channels, |to_x, to_y, c| {
        let (from_x, from_y) = (to_x.saturating_sub(x), to_y.saturating_sub(y));
        samples[(from_y * picture.width + from_x) as usize * n + c]
    })
}

/// What is said of a picture, and what enlarges it.
fn verdict(picture: &Picture) -> (Content, Condition, Vec<String>) {
    let (statistics, plan) = ENLARGER.plan(picture, &Request::default()).expect("a plan");
    (statistics.content, statistics.condition, plan.models().into_iter().map(Into::into).collect())
}

#[test]
fn a_verdict_does_not_flip_when_a_picture_is_shifted_cropped_or_saved_again() {
    let flat = |value: u8| drawn(64, 64, Channels::Rgb, move |_, _, _| value);
    let part = |picture: &Picture, x, y, width, height| common::cut(picture, Crop { x, y, width, height });
    let text = part(&page(), 0, 0, 200, 120);
    let two_levels = |picture: &Picture| {
        let samples = picture.samples.as_slice::<u8>().expect("8 bits").chunks_exact(picture.channels.count());
        let samples = Samples::U8(samples.map(|pixel| if pixel[0] < 128 { 0 } else { 255 }).collect());
        Picture { channels: Channels::Gray, samples, ..picture.clone() }
    };
    // Half as large as it is, so that its own compression is gone.
    let photo = sample("friends.jpg");
    let photo = resize(&photo, photo.width / 2, photo.height / 2, Resampling::Box).expect("there is room");
    let mut hdr = photo.clone();
    // BT.2020 primaries and PQ.
    hdr.metadata.cicp = Some([9, 16, 0, 1]);
    for (name, picture) in [
        ("white", flat(255)),
        ("grey", flat(90)),
        ("noise", noisy(&flat(128))),
        ("a photo", photo),
        ("HDR", hdr),
        ("text", text.clone()),
        ("a scan of 1 bit", two_levels(&text)),
        ("an icon of 16 x 16 pixels", common::logo(16)),
        ("an icon of 32 x 32 pixels", common::logo(32)),
        ("a sprite of 12 x 10 pixels", common::sprite(1)),
        ("a sprite in squares of 3 pixels", common::sprite(3)),
    ] {
        let expected = verdict(&picture);
        println!("{name}: {expected:?}");
        for by in [[1, 0], [0, 1], [1, 1]] {
            assert_eq!(verdict(&shifted(&picture, by)), expected, "{name}, shifted by {by:?}");
        }
        let (width, height) = (picture.width - 3, picture.height - 3);
        for [x, y] in [[0, 0], [3, 0], [0, 3], [3, 3]] {
            assert_eq!(verdict(&part(&picture, x, y, width, height)), expected, "{name}, cropped from {x},{y}");
        }
        assert_eq!(verdict(&decode(&encode(&picture, Format::Png, None))), expected, "{name}, saved again");
    }
}

#[test]
fn colour_does_not_drift_on_any_crop() {
    for (name, bytes) in crops() {
        let source = decode(&bytes);
        for model in [None, Some("x4plus-anime-6b"), Some("animevideo-v3")] {
            let result = enlarge_by(model, &bytes, Style::default(), Size::Factor(FACTOR), None);
            for (before, after) in means(&source).into_iter().zip(means(&result)) {
                assert!((before - after).abs() < 1.0, "{name} by {model:?}: {before} became {after}");
            }
        }
    }
}

/// Of red, green and blue, in 0..=255.
fn means(picture: &Picture) -> [f64; 3] {
    let Samples::U8(samples) = &picture.samples else { panic!("8 bits went in") };
    let pixels = f64::from(picture.width) * f64::from(picture.height);
    let channel = |c| samples.iter().skip(c).step_by(picture.channels.count()).map(|s| f64::from(*s)).sum::<f64>();
    [0, 1, 2].map(|c| channel(c) / pixels)
}

#[test]
fn each_precision_knob_sharpens_more_the_further_it_is_turned() {
    for (name, bytes) in crops().into_iter().step_by(3) {
        for knob in ["sharpen", "smart_grain", "ultra_detail"] {
            let energy = [0, 50, 100].map(|value| {
                let mut precision = Precision { sharpen: 0, smart_grain: 0, ultra_detail: 0, flavor: None };
                match knob {
                    "sharpen" => precision.sharpen = value,
                    "smart_grain" => precision.smart_grain = value,
                    _ => precision.ultra_detail = value,
                }
                energy_below(&enlarge(&bytes, Style::Precision(precision), Size::Factor(FACTOR), None), 4)
            });
            assert!(energy.is_sorted_by(|a, b| a < b), "{name}: {knob} {energy:?}");
        }
    }
}

#[test]
fn any_knobs_on_any_picture_give_the_right_size_and_the_same_bytes_again() {
    let odd = [(1, 1), (16, 16), (1, 400), (37, 5)];
    let mut state = 7u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let photo = decode(&crops()[0].1);
    for round in 0..40 {
        let (width, height) = odd[round % odd.len()];
        let mut picture = resize(&photo, width, height, Resampling::Box).expect("there is room");
        let Samples::U8(samples) = &mut picture.samples else { panic!("the samples have 8 bits") };
        match round / odd.len() % 4 {
            0 => samples.fill(0),
            1 => samples.fill(255),
            _ => {}
        }
        let bytes = encode(&picture, Format::Png, None);
        let mut knob = || i8::try_from(random(21)).unwrap() - 10;
        let style = if round % 3 == 0 {
            let percent = |n: u32| u8::try_from(n).unwrap();
            let flavor =
                [None, Some(Flavor::Sublime), Some(Flavor::Photo), Some(Flavor::PhotoDenoiser)][random(4) as usize];
            Style::Precision(Precision {
                sharpen: percent(random(101)),
                smart_grain: percent(random(101)),
                ultra_detail: percent(random(101)),
                flavor,
            })
        } else {
            let (creativity, hdr, resemblance, fractality) = (knob(), knob(), knob(), knob());
            let engines = [Engine::Automatic, Engine::MagnificIllusio, Engine::MagnificSharpy, Engine::MagnificSparkle];
            let presets = [OptimizedFor::Standard, OptimizedFor::SoftPortraits, OptimizedFor::ScienceFictionNHorror];
            let (engine, optimized_for) = (engines[random(4) as usize], presets[random(3) as usize]);
            Style::Creative(Creative { creativity, hdr, resemblance, fractality, engine, optimized_for, prompt: None })
        };
        let factor = f64::from(2 + random(4));
        let first = enlarge(&bytes, style.clone(), Size::Factor(factor), None);
        assert_eq!((first.width, first.height), (width * factor as u32, height * factor as u32), "{style:?}");
        let second = enlarge(&bytes, style.clone(), Size::Factor(factor), None);
        assert!(first.samples == second.samples, "{style:?}");
    }
}

/// A wall of faint plaster with rows of windows (left) beside foliage (right), 192 x 96.
fn wall() -> Picture {
    let leaves = decode(&crops()[0].1);
    let Samples::U8(leaves) = &leaves.samples else { panic!("the samples have 8 bits") };
    let mut samples = Vec::new();
    let mut state = 3u32;
    for y in 0..96u32 {
        for x in 0..192u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let window = (16..28).contains(&(x % 40)) && (20..38).contains(&(y % 48));
            let plaster = 200 + (state >> 30) as u8;
            match (x < 128, window) {
                (true, true) => samples.extend([60, 62, 70]),
                (true, false) => samples.extend([plaster; 3]),
                (false, _) => samples.extend(&leaves[((y % CROP * CROP + x - 128) * 3) as usize..][..3]),
            }
        }
    }
    let photo = decode(&crops()[0].1);
    Picture { width: 192, height: 96, samples: Samples::U8(samples), ..photo }
}

/// Deviation of what is finer than four pixels, over those that lie on the plaster between windows, and on the foliage.
fn wall_and_leaves(picture: &Picture) -> [f64; 2] {
    let luma = luminance(picture);
    let (width, factor) = (picture.width as usize, picture.width as usize / 192);
    let deviation = |columns: std::ops::Range<usize>, rows: std::ops::Range<usize>| {
        let (mut sum, mut count) = (0.0, 0.0);
        for y in rows.start * factor..rows.end * factor {
            for x in columns.start * factor..columns.end * factor {
                let around: f64 = (0..16).map(|i| luma[(y + i / 4 - 2) * width + x + i % 4 - 2]).sum();
                sum += (luma[y * width + x] - around / 16.0).powi(2);
                count += 1.0;
            }
        }
        (sum / count).sqrt()
    };
    // Four pixels away from all windows: columns 32..52 of each 40 and rows 42..64 of each 48.
    [deviation(32..52, 42..64), deviation(134..186, 8..88)]
}

#[test]
fn no_knob_preset_or_engine_raises_a_plain_walls_energy_more_than_that_of_foliage() {
    let bytes = encode(&wall(), Format::Png, None);
    let measure = |style: Style| wall_and_leaves(&enlarge(&bytes, style, Size::Factor(2.0), None));
    let plain = measure(Style::default());
    // What closeness to the source brings back is the wall's own: as much as its pixels have, each repeated.
    // Rounding to 8 bits adds a deviation of 1 / sqrt(12).
    const ROUNDING: f64 = 0.29;
    let own = wall_and_leaves(&resize(&wall(), 384, 192, Resampling::Box).expect("there is room"))[0];
    let mut styles: Vec<(String, Style)> = Vec::new();
    for knob in ["creativity", "hdr", "resemblance", "fractality"] {
        styles.extend([-10, 5, 10].map(|value| (format!("{knob} {value}"), creative(knob, value))));
    }
    for &optimized_for in OptimizedFor::ALL {
        let knobs = Creative { optimized_for, ..Creative::default() };
        styles.push((optimized_for.name().into(), Style::Creative(knobs)));
    }
    for &engine in Engine::ALL {
        styles.push((engine.name().into(), Style::Creative(Creative { engine, ..Creative::default() })));
    }
    for (name, style) in styles {
        let [wall, leaves] = measure(style);
        let (wall_gain, leaves_gain) = (wall / plain[0], leaves / plain[1]);
        println!("{name}: wall x{wall_gain:.2} ({wall:.2}), foliage x{leaves_gain:.2} ({leaves:.2})");
        assert!(
            wall_gain <= leaves_gain.max(1.0) || wall <= own.hypot(ROUNDING),
            "{name}: {wall:.2}, its own is {own:.2}"
        );
    }
}

/// How much more neighbours differ at the borders of JPEG's blocks than elsewhere, in a result 2x as large.
fn blockiness(picture: &Picture) -> f64 {
    let luma = luminance(picture);
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (mut at, mut off) = ((0.0, 0.0), (0.0, 0.0));
    for y in 0..height {
        for x in 2..width - 1 {
            // What a border adds to the slope that is there.
            let step = luma[y * width + x] - luma[y * width + x - 1];
            let slope = (luma[y * width + x + 1] - luma[y * width + x - 2]) / 3.0;
            let sums = if x % 16 == 0 { &mut at } else { &mut off };
            *sums = (sums.0 + (step - slope).abs(), sums.1 + 1.0);
        }
    }
    (at.0 / at.1) / (off.0 / off.1)
}

#[test]
fn no_preset_engine_flavour_or_knob_draws_the_blocks_of_jpeg() {
    let source = cut(&sample("stream.jpg"), 120, 80);
    let bytes = encode(&source, Format::Jpeg, Some(50));
    let cubic = resize(&decode(&bytes), 2 * CROP, 2 * CROP, Resampling::CatmullRom).expect("there is room");
    let most = blockiness(&cubic);
    let mut styles: Vec<Style> = Vec::new();
    for &optimized_for in OptimizedFor::ALL {
        styles.push(Style::Creative(Creative { optimized_for, ..Creative::default() }));
    }
    for &engine in Engine::ALL {
        styles.push(Style::Creative(Creative { engine, ..Creative::default() }));
    }
    for flavor in [None, Some(Flavor::Sublime), Some(Flavor::Photo), Some(Flavor::PhotoDenoiser)] {
        styles.push(Style::Precision(Precision { sharpen: 100, ultra_detail: 100, flavor, ..Precision::default() }));
    }
    for value in [-10, 10] {
        styles.extend(["creativity", "hdr", "resemblance", "fractality"].map(|knob| creative(knob, value)));
    }
    // All knobs at once, each at either end, and all at one end with each preset and engine.
    let ends = |end: [i8; 4], of: Creative| {
        let [creativity, hdr, resemblance, fractality] = end;
        Style::Creative(Creative { creativity, hdr, resemblance, fractality, ..of })
    };
    for ends_of in 0..16 {
        styles
            .push(ends([0, 1, 2, 3].map(|knob| if ends_of >> knob & 1 == 1 { 10 } else { -10 }), Creative::default()));
    }
    for end in [[-10; 4], [10; 4]] {
        let presets = OptimizedFor::ALL.iter().map(|&optimized_for| Creative { optimized_for, ..Creative::default() });
        let engines = Engine::ALL.iter().map(|&engine| Creative { engine, ..Creative::default() });
        styles.extend(presets.chain(engines).map(|of| ends(end, of)));
    }
    for style in styles {
        let result = enlarge_by(None, &bytes, style.clone(), Size::Factor(2.0), None);
        let found = blockiness(&result);
        println!("{found:.2} of {most:.2}: {style:?}");
        assert!(found <= most, "{found:.2} of {most:.2}: {style:?}");
    }
}

#[test]
fn damaged_photos_come_nearer_to_the_truth_than_what_networks_make_of_them() {
    let (mut by_default, mut alone) = (0.0, 0.0);
    for (file, x, y) in [("stream.jpg", 120, 80), ("friends.jpg", 96, 80), ("stream.jpg", 230, 180)] {
        let truth = cut(&sample(file), x, y);
        for quality in [60, 40] {
            let damaged = encode(&truth, Format::Jpeg, Some(quality));
            let away = |model: Option<&str>| {
                let result = enlarge_by(model, &damaged, Style::default(), Size::Factor(FACTOR), None);
                distance(&resize(&result, CROP, CROP, Resampling::CatmullRom).expect("room"), &truth)
            };
            let (with, without) = (away(None), away(Some("x4plus+animevideo-v3@0.3")));
            println!("{file} {x},{y} as JPEG {quality}: {with:.4}, the networks alone {without:.4}");
            assert!(with < without, "{file} {x},{y} as JPEG {quality}: {with} and {without}");
            by_default += with;
            alone += without;
        }
    }
    assert!(by_default < 0.95 * alone, "{by_default} and {alone}");
}

#[test]
fn a_photo_far_out_of_focus_becomes_sharp_in_its_own_colors() {
    let photo = sample("friends.jpg");
    let at = |picture: &Picture, width, height| resize(picture, width, height, Resampling::CatmullRom).expect("room");
    let soft = at(&at(&photo, photo.width / 8, photo.height / 8), photo.width / 2, photo.height / 2);
    let request = Request { size: Size::Factor(2.0), ..Request::default() };
    let (outcome, result) = job(&encode(&soft, Format::Png, None), &request);
    let half = outcome.plan.reduced.expect("half of it shows all");
    assert_eq!((half.width, half.height), (soft.width.div_ceil(2), soft.height.div_ceil(2)));
    assert_eq!((result.width, result.height), (2 * soft.width, 2 * soft.height));

    let cubic = at(&soft, result.width, result.height);
    let steps = |picture: &Picture| {
        let values = luminance(picture);
        values.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>() / values.len() as f64
    };
    assert!(steps(&result) > 1.5 * steps(&cubic), "{} against {}", steps(&result), steps(&cubic));
    let mean = |picture: &Picture| luminance(picture).iter().sum::<f64>() / luminance(picture).len() as f64;
    assert!((mean(&result) - mean(&cubic)).abs() < 1.0, "{} against {}", mean(&result), mean(&cubic));
}
