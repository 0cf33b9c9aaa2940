//! What is planned for which picture and which knobs, as `--explain` prints it. Pure: no network is loaded.

use std::fmt::Write;

use enlarger_error::Explained;
use enlarger_models::{Catalogue, ModelInfo};
use enlarger_pipeline::{
    AlphaWay, Condition, Content, Creative, Crop, Engine, Flavor, OptimizedFor, PipelineError, Plan, Precision,
    Quality, Request, Size, Statistics, Step, Style, Subject, plan,
};

type Kind = (Content, Condition);
const CLEAN: Kind = (Content::Photo, Condition::Clean);
const DAMAGED: Kind = (Content::Photo, Condition::Damaged);
const KINDS: [Kind; 5] = [
    CLEAN,
    DAMAGED,
    (Content::Photo, Condition::Soft),
    (Content::Art, Condition::Clean),
    (Content::Art, Condition::Damaged),
];

/// Of 600 x 400 pixels, opaque.
fn statistics((content, condition): Kind) -> Statistics {
    Statistics {
        width: 600,
        height: 400,
        colours: 3,
        grey: false,
        transparent: false,
        bits: 8,
        damaged: 0.0,
        jpeg_quality: None,
        soft: 0.0,
        oversampled: false,
        dithered: 0,
        drawn: 0.0,
        content,
        condition,
        regions: Vec::new(),
        subject: Subject::default(),
    }
}

fn models() -> Vec<ModelInfo> {
    Catalogue::open(None).expect("the bundled networks").list()
}

/// A request with a seed of its own, so that snapshots do not depend on how the request is written down.
fn request(style: Style, factor: f64) -> Request {
    Request { size: Size::Factor(factor), style, seed: Some(1), ..Request::default() }
}

fn creative(set: impl Fn(&mut Creative)) -> Style {
    let mut knobs = Creative::default();
    set(&mut knobs);
    Style::Creative(knobs)
}

fn planned(statistics: &Statistics, request: &Request) -> Plan {
    plan(statistics, request, &models()).unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// Plans under headings.
#[derive(Default)]
struct Table(String);

impl Table {
    fn add(&mut self, name: &str, statistics: &Statistics, request: &Request) {
        write!(
            self.0,
            "# {name}, {:?} {:?}\n{}\n",
            statistics.condition,
            statistics.content,
            planned(statistics, request)
        )
        .expect("a string takes all");
    }
}

#[test]
fn photos_and_art_go_the_shortest_way_to_each_size() {
    let mut table = Table::default();
    for kind in KINDS {
        for factor in [2.0, 3.0, 4.0, 8.0, 16.0] {
            table.add(&format!("{factor}x"), &statistics(kind), &request(Style::default(), factor));
        }
    }
    insta::assert_snapshot!("sizes", table.0);
}

#[test]
fn a_slightly_damaged_photo_is_never_enlarged_by_the_network_that_draws_damage() {
    let photo = |damaged, jpeg_quality| Statistics { damaged, jpeg_quality, ..statistics(CLEAN) };
    let models = |statistics: &Statistics, style: Style, factor| {
        let plan = planned(statistics, &request(style, factor));
        plan.models().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for slight in [photo(0.3, None), photo(0.08, Some(92)), photo(0.35, Some(98))] {
        assert_eq!(models(&slight, Style::default(), 4.0), ["x4plus", "animevideo-v3"]);
        // What is to be added must not grow out of the damage.
        let invented = models(&slight, creative(|knobs| knobs.creativity = 5), 4.0);
        assert_eq!(invented[0], "x4plus", "{invented:?}");
        assert_eq!(models(&slight, Style::default(), 2.0), ["photo-2x"]);
        let plan = planned(&slight, &request(Style::default(), 4.0)).to_string();
        assert!(plan.contains("slightly damaged") && plan.contains("0.5 of animevideo-v3"), "{plan}");
    }
    for clean in [photo(0.29, None), photo(0.07, Some(92)), photo(0.2, Some(98))] {
        assert_eq!(models(&clean, Style::default(), 4.0)[0], "realsr-df2k");
    }
}

#[test]
fn a_photo_without_fine_detail_is_halved_first() {
    let soft = Statistics { soft: 1.0, oversampled: true, ..statistics((Content::Photo, Condition::Soft)) };
    let mut table = Table::default();
    for factor in [1.0, 2.0, 4.0, 8.0, 16.0] {
        table.add(&format!("{factor}x"), &soft, &request(Style::default(), factor));
    }
    insta::assert_snapshot!("halved", table.0);

    let usual = request(Style::default(), 4.0);
    for unchanged in [
        (&soft, Request { model: Some("x4plus".into()), ..usual.clone() }),
        (&soft, Request { quality: Quality::Draft, ..usual.clone() }),
        (&Statistics { content: Content::Art, ..soft.clone() }, usual),
    ] {
        assert_eq!(planned(unchanged.0, &unchanged.1).reduced, None, "{:?}", unchanged.1);
    }
}

#[test]
fn each_knob_has_its_filters_at_both_ends() {
    let mut table = Table::default();
    for kind in [CLEAN, DAMAGED] {
        for value in [-10, 10] {
            let knobs = [
                ("creativity", creative(|k| k.creativity = value)),
                ("hdr", creative(|k| k.hdr = value)),
                ("resemblance", creative(|k| k.resemblance = value)),
                ("fractality", creative(|k| k.fractality = value)),
            ];
            for (name, style) in knobs {
                table.add(&format!("{name} {value}"), &statistics(kind), &request(style, 4.0));
            }
        }
    }
    let none = Precision { sharpen: 0, smart_grain: 0, ultra_detail: 0, flavor: None };
    let knobs = [
        ("precision, all 0", none.clone()),
        ("precision, as usual", Precision::default()),
        ("sharpen 100", Precision { sharpen: 100, ..none.clone() }),
        ("smart_grain 100", Precision { smart_grain: 100, ..none.clone() }),
        ("ultra_detail 100", Precision { ultra_detail: 100, ..none }),
    ];
    for (name, style) in knobs {
        table.add(name, &statistics(CLEAN), &request(Style::Precision(style), 4.0));
    }
    insta::assert_snapshot!("knobs", table.0);
}

#[test]
fn each_engine_and_flavour_has_its_networks() {
    let mut table = Table::default();
    for engine in Engine::ALL {
        for kind in KINDS {
            table.add(engine.name(), &statistics(kind), &request(creative(|k| k.engine = *engine), 4.0));
        }
    }
    for flavor in Flavor::ALL {
        let style = Style::Precision(Precision { flavor: Some(*flavor), ..Precision::default() });
        for kind in KINDS {
            table.add(flavor.name(), &statistics(kind), &request(style.clone(), 4.0));
        }
    }
    insta::assert_snapshot!("engines", table.0);
}

#[test]
fn each_preset_has_its_networks_and_filters() {
    let mut table = Table::default();
    for preset in OptimizedFor::ALL {
        for kind in KINDS {
            table.add(preset.name(), &statistics(kind), &request(creative(|k| k.optimized_for = *preset), 4.0));
        }
        let inventing = creative(|k| (k.optimized_for, k.creativity) = (*preset, 5));
        let name = format!("{}, creativity 5", preset.name());
        table.add(&name, &statistics(DAMAGED), &request(inventing, 4.0));
    }
    insta::assert_snapshot!("presets", table.0);
}

#[test]
fn prompts_alpha_and_crops_show_in_the_plan() {
    let mut table = Table::default();
    let prompt = |words: &str, optimized_for| {
        request(creative(|k| (k.prompt, k.optimized_for) = (Some(words.into()), optimized_for)), 4.0)
    };
    let photo = statistics(CLEAN);
    table.add("a prompt", &photo, &prompt("a forest in the mountains, photo", OptimizedFor::Standard));
    table.add("a prompt of nothing", &photo, &prompt("blue", OptimizedFor::Standard));
    table.add("a prompt beside a preset", &photo, &prompt("a forest", OptimizedFor::SoftPortraits));
    let transparent = Statistics { transparent: true, ..photo.clone() };
    table.add("alpha", &transparent, &request(Style::default(), 8.0));
    let crop = Some(Crop { x: 100, y: 50, width: 64, height: 48 });
    table.add("a crop", &photo, &Request { crop, ..request(Style::default(), 4.0) });
    let deep = Statistics { bits: 16, colours: 1, ..photo.clone() };
    let named = |model: &str| Request { model: Some(model.into()), ..request(Style::default(), 4.0) };
    table.add("16 bits", &deep, &named("x4plus"));
    table.add("a width", &photo, &Request { size: Size::Width(1000), ..request(Style::default(), 1.0) });
    table.add("a mean", &photo, &named("realsr-df2k+x4plus@0.25"));
    table.add("one after the other", &photo, &named("x4plus/animevideo-v3"));
    insta::assert_snapshot!("rest", table.0);
}

#[test]
fn the_same_request_of_the_same_picture_has_the_same_seed_and_another_has_another() {
    let seed = |statistics: &Statistics, factor| {
        planned(statistics, &Request { size: Size::Factor(factor), ..Request::default() }).seed
    };
    let photo = statistics(CLEAN);
    assert_eq!(seed(&photo, 2.0), seed(&photo, 2.0));
    assert_ne!(seed(&photo, 2.0), seed(&photo, 4.0));
    assert_ne!(seed(&photo, 2.0), seed(&Statistics { damaged: 0.1, ..photo.clone() }, 2.0));
}

#[test]
fn art_keeps_its_network_when_something_is_invented_on_a_damaged_picture() {
    for preset in [OptimizedFor::ArtNIllustration, OptimizedFor::VideogameAssets] {
        let style = creative(|k| (k.optimized_for, k.creativity) = (preset, 7));
        let plan = planned(&statistics(DAMAGED), &request(style, 4.0));
        assert_eq!(plan.models(), ["x4plus", "animevideo-v3"], "{preset:?}");
    }
}

#[test]
fn damaged_pictures_never_meet_realsr_df2k_before_they_are_cleaned() {
    let mut styles = Vec::new();
    for engine in Engine::ALL {
        for preset in OptimizedFor::ALL {
            for creativity in [-10, 0, 10] {
                styles.push(creative(|k| (k.engine, k.optimized_for, k.creativity) = (*engine, *preset, creativity)));
            }
        }
    }
    for flavor in [None].into_iter().chain(Flavor::ALL.iter().copied().map(Some)) {
        styles.push(Style::Precision(Precision { flavor, ..Precision::default() }));
    }
    for style in styles {
        for content in [Content::Photo, Content::Art] {
            for factor in [2.0, 4.0, 16.0] {
                let plan = planned(&statistics((content, Condition::Damaged)), &request(style.clone(), factor));
                assert_ne!(plan.models()[0], "realsr-df2k", "{style:?}: {plan}");
            }
        }
    }
}

#[test]
fn the_plain_network_hardly_sees_coarse_grain() {
    let mut grainy = statistics((Content::Photo, Condition::Damaged));
    grainy.subject.coarse_grain = true;
    let share = |statistics: &Statistics| match &planned(statistics, &request(Style::default(), 4.0)).steps[0] {
        Step::Network { by, .. } => by.mix.as_ref().map_or(0.0, |mix| mix.share),
        other => panic!("{other:?}"),
    };
    assert!(share(&grainy) <= 0.05);
    assert!(share(&statistics((Content::Photo, Condition::Damaged))) >= 0.3);
}

fn of_quality(quality: Quality, style: Style, factor: f64) -> Request {
    Request { quality, ..request(style, factor) }
}

/// What a plan does besides networks.
fn filters(plan: &Plan) -> Vec<&Step> {
    plan.steps.iter().filter(|step| matches!(step, Step::Style { .. })).collect()
}

/// Multiplications of all its networks, to a factor that all plans share.
fn operations(plan: &Plan) -> u64 {
    let models = models();
    let parameters = |name: &str| models.iter().find(|m| m.name == name).expect("it is bundled").parameters;
    let step = |step: &Step| match step {
        Step::Network { by, from, .. } => {
            from.pixels() * (parameters(&by.model) + by.mix.as_ref().map_or(0, |mix| parameters(&mix.model)))
        }
        Step::Style { .. } | Step::Resample { .. } | Step::Diffuse(_) | Step::Workflow(_) => 0,
    };
    plan.steps.iter().map(step).sum()
}

#[test]
fn fast_costs_at_most_a_tenth_of_best_on_photos_and_a_seventh_on_art() {
    for kind in KINDS {
        let most = if kind.0 == Content::Art { 7 } else { 10 };
        for factor in [1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0] {
            let [fast, best] = [Quality::Fast, Quality::Best]
                .map(|quality| operations(&planned(&statistics(kind), &of_quality(quality, Style::default(), factor))));
            // What is clean is doubled by a small network at its best already.
            let most = if kind == CLEAN && factor <= 2.0 { 1 } else { most };
            assert!(fast > 0 && most * fast <= best, "{kind:?} {factor}x: {fast} of {best}");
        }
    }
}

#[test]
fn twice_a_clean_photo_costs_at_most_a_third_of_four_times() {
    for style in [Style::default(), creative(|k| k.hdr = 5), Style::Precision(Precision::default())] {
        let [twice, four] =
            [2.0, 4.0].map(|factor| operations(&planned(&statistics(CLEAN), &request(style.clone(), factor))));
        assert!(twice > 0 && 3 * twice <= four, "{style:?}: {twice} of {four}");
    }
    // What invents draws with the network that makes texture.
    let inventing = planned(&statistics(CLEAN), &request(creative(|k| k.creativity = 3), 2.0));
    assert_eq!(inventing.models()[0], "realsr-df2k");
}

#[test]
fn fast_is_one_network_alone_with_the_filters_and_the_halo_of_best() {
    let styles = [
        Style::default(),
        creative(|k| k.engine = Engine::MagnificSparkle),
        creative(|k| (k.optimized_for, k.hdr, k.resemblance) = (OptimizedFor::HardPortraits, 4, 6)),
        Style::Precision(Precision { flavor: Some(Flavor::Photo), ..Precision::default() }),
    ];
    for kind in KINDS {
        for style in &styles {
            let [fast, best] = [Quality::Fast, Quality::Best]
                .map(|quality| planned(&statistics(kind), &of_quality(quality, style.clone(), 4.0)));
            assert_eq!(fast.models(), ["animevideo-v3"], "{fast}");
            let passes = fast.steps.iter().filter(|step| matches!(step, Step::Network { .. })).count();
            // Resemblance above 0 needs no pass of its own, and what is damaged is not cleaned first.
            assert_eq!(passes, 1, "{fast}");
            assert_eq!((filters(&fast), fast.halo), (filters(&best), None), "{fast}");
            assert!(fast.notes.iter().any(|note| note.starts_with("fast: only animevideo-v3 is used")), "{fast}");
        }
    }
}

#[test]
fn fast_keeps_the_model_that_was_named_and_a_draft_does_not() {
    for name in ["x4plus", "realsr-df2k+x4plus@0.25", "x4plus/realsr-df2k"] {
        let named = |quality| {
            let request = Request { model: Some(name.into()), ..of_quality(quality, Style::default(), 4.0) };
            planned(&statistics(CLEAN), &request)
        };
        let fast = named(Quality::Fast);
        assert_eq!(fast.steps, named(Quality::Best).steps, "{name}");
        assert!(fast.idle.contains(&format!("fast changes nothing here: {name} was chosen explicitly")), "{fast}");
        assert_eq!(named(Quality::Draft).models(), ["animevideo-v3"]);
    }
}

#[test]
fn a_damaged_or_soft_photo_takes_a_second_pass_only_beyond_6x() {
    let second_passes = |kind, factor| {
        let plan = planned(&statistics(kind), &request(Style::default(), factor));
        let second = |step: &&Step| matches!(step, Step::Network { from, .. } if *from != plan.source);
        plan.steps.iter().filter(second).count()
    };
    for condition in [Condition::Damaged, Condition::Soft] {
        for (factor, more) in [(1.5, 0), (2.5, 0), (4.0, 0), (5.0, 0), (6.0, 0), (6.1, 1), (8.0, 1), (16.0, 1)] {
            assert_eq!(second_passes((Content::Photo, condition), factor), more, "{condition:?} {factor}x");
        }
        assert_eq!(second_passes((Content::Art, condition), 5.0), 1, "edges of drawings are to be sharp");
    }
    assert_eq!(second_passes(CLEAN, 5.0), 1);
}

#[test]
fn a_2x_network_makes_2x_in_one_pass_and_larger_sizes_in_more() {
    let mut with_twice = models();
    let small = with_twice.iter().find(|m| m.name == "animevideo-v3").expect("it is bundled").clone();
    with_twice.push(ModelInfo { name: "twice".into(), scale: 2, ..small });
    for (factor, passes, resamples) in [(1.5, 1, 1), (2.0, 1, 0), (3.0, 2, 1), (4.0, 2, 0), (16.0, 4, 0)] {
        let transparent = Statistics { transparent: true, ..statistics(CLEAN) };
        let named = Request { model: Some("twice".into()), ..request(Style::default(), factor) };
        let plan = plan(&transparent, &named, &with_twice).expect("a plan");
        let count = |is: fn(&Step) -> bool| plan.steps.iter().filter(|step| is(step)).count();
        assert_eq!(count(|step| matches!(step, Step::Network { halve: false, .. })), passes, "{plan}");
        assert_eq!(count(|step| matches!(step, Step::Resample { .. })), resamples, "{plan}");
        assert_eq!(plan.alpha, AlphaWay::Network("animevideo-v3".into()), "{plan}");
    }
}

#[test]
fn a_network_that_is_needed_and_not_there_is_named_with_how_to_add_it() {
    let without = |name: &str| models().into_iter().filter(|m| m.name != name).collect::<Vec<_>>();
    let asked = request(Style::default(), 4.0);
    let Err(error @ PipelineError::Request { .. }) = plan(&statistics(DAMAGED), &asked, &without("x4plus")) else {
        panic!("the network of damaged photos is needed");
    };
    assert_eq!(error.to_string(), "the model x4plus is needed for this image and these settings, but it is missing");
    let hint = error.hint().expect("what to do");
    assert!(hint.contains("`enlarger models add FILE --name x4plus`") && hint.contains("realsr-df2k"), "{hint}");

    // Alpha has another way, and the plan says so.
    let transparent = Statistics { transparent: true, ..statistics(CLEAN) };
    let named = Request { model: Some("realsr-df2k".into()), ..asked };
    let without = plan(&transparent, &named, &without("animevideo-v3")).expect("a plan");
    assert_eq!(without.alpha, AlphaWay::Cubic);
    assert!(without.notes.iter().any(|note| note.contains("cubic") && note.contains("animevideo-v3")), "{without}");
    assert_eq!(planned(&transparent, &named).alpha, AlphaWay::Network("animevideo-v3".into()));
}
