//! Turns knobs into numbers: the curves behind `docs/concepts/style.md`.

use crate::request::{Creative, Precision, Style};

use super::{Face, Filter, presets};

/// What the knobs ask for besides the passes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recipe {
    /// Share of the source that is first redrawn from half its size, and why; `None` for none.
    pub redraw: Option<(f32, String)>,
    /// Filters on the source, before the network.
    pub before: Vec<Caused>,
    /// Filters on the result.
    pub after: Vec<Caused>,
}

/// What was found of what the style asked for, in the part of the picture that is used.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// Pixels of the source across.
    pub width: u32,
    /// Faces.
    pub faces: Vec<Face>,
    /// Deviation of the source's grain; 0 for none.
    pub grain: f32,
    /// Whether the network cleans the source, and its grain with it.
    pub cleaned: bool,
    /// Whether it is a drawing, a text or a screen.
    pub drawn: bool,
}

impl Seen {
    /// Deviation of the source's grain that a result lacks. Where it is cleaned and follows its source, a little comes back with it.
    fn missing_grain(&self) -> f32 {
        let share = if self.cleaned { 0.8 } else { 1.0 };
        share * self.grain.min(MOST_GRAIN)
    }
}

/// A filter, and the knobs that ask for it: "hdr 5, optimized for soft_portraits".
pub(crate) type Caused = (Filter, String);

/// How a result is brought back to its source, besides what knobs ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Closeness {
    /// Not at all.
    Free,
    /// Only coarse differences that stand out: finer damage would come back.
    Coarse,
    /// Only its colours; shapes stay as drawn.
    Colours,
    /// Its pixels, in this many rounds of back-projection.
    Pixels(u32),
}

/// What a style means at this factor, where `network` is the one that makes the result and `closeness` is what the source bears.
pub(crate) fn recipe(style: &Style, network: &str, factor: f32, closeness: Closeness, seen: &Seen) -> Recipe {
    let mut recipe = Recipe::default();
    // What knobs below 0 remove must not come back.
    let (resemblance, less) = match style {
        Style::Creative(knobs) => {
            let below = [knobs.resemblance, knobs.fractality, knobs.creativity].map(|knob| unit(knob).min(0.0));
            (unit(knobs.resemblance), below.iter().sum::<f32>())
        }
        Style::Precision(_) => (0.0, 0.0),
    };
    let cause = format!("resemblance {}", (10.0 * resemblance).round());
    if resemblance < 0.0 {
        recipe.redraw = Some((-resemblance, cause.clone()));
    }
    let (rounds, strength, cause) = match closeness {
        Closeness::Pixels(rounds) if resemblance > 0.0 => {
            (rounds + (2.0 * resemblance).ceil() as u32, 1.0 + less, cause)
        }
        Closeness::Pixels(rounds) => (rounds, 1.0 + less, CLOSE.into()),
        Closeness::Free | Closeness::Coarse | Closeness::Colours => (2, resemblance, cause),
    };
    match closeness {
        Closeness::Colours => recipe.after(CLOSE, Filter::Recolour { radius: 1.0 }),
        Closeness::Coarse => {
            for (gain, faces) in small_faces(seen) {
                let softer = Filter::Skin { faces, skin: gain, features: gain, radius: SMALL_FACE * factor };
                recipe.after("models misdraw small faces", softer);
            }
            if less > -1.0 {
                let follow = Filter::Follow { radius: COARSE, strength: 1.0 + less };
                recipe.after("the source is damaged", follow);
            }
        }
        Closeness::Free | Closeness::Pixels(_) => {}
    }
    if strength > 0.0 {
        if network == presets::TWICE {
            // It has 0.80 of the original's fine detail, the large networks 0.88; with this gain it does too, and is no
            // further from the original.
            let detail = Filter::Detail { gain: 0.6, radius: 0.4 * factor, edge: 0.1 };
            recipe.after("photo-2x draws softly", detail);
        }
        let (rounds, reach) = match closeness {
            Closeness::Pixels(_) if seen.drawn => (DRAWN_ROUNDS * rounds, DRAWN_REACH),
            _ => (rounds, 0),
        };
        recipe.after(&cause, Filter::Match { rounds, strength, reach });
    }
    match style {
        Style::Creative(knobs) => creative(&mut recipe, knobs, network, factor, seen),
        Style::Precision(knobs) => precision(&mut recipe, knobs, factor, seen),
    }
    recipe
}

/// A drawing's colours lie within those around them, so that thin gray letters do not become thinner black ones; it takes more rounds of
/// back-projection until strokes have their width too. Letters are some ten pixels high, and have their full colour somewhere.
const DRAWN_REACH: u32 = 4;
const DRAWN_ROUNDS: u32 = 2;

/// Of the Gaussian that hides damage, in pixels of the source: of 117 damaged photos, this is nearest to the truth for compression
/// (docs/reference/quality.md).
const COARSE: f32 = 0.7;

/// Why results are brought back to their sources.
const CLOSE: &str = "the source is clean";

/// Detail finer than this, in pixels of the source, is what networks make up in small faces.
const SMALL_FACE: f32 = 1.2;

/// Faces of so few pixels of the source across that a network melts them where the source is damaged, by how much of their finest
/// detail is to go: a face that is less sharp is still that face.
fn small_faces(seen: &Seen) -> impl Iterator<Item = (f32, Vec<Face>)> {
    const GAINS: [(f32, f32); 3] = [(28.0, -0.6), (40.0, -0.45), (56.0, -0.25)];
    let pixels = |face: &Face| face.width * seen.width as f32;
    let mut below = 0.0;
    GAINS.into_iter().filter_map(move |(limit, gain)| {
        let faces: Vec<Face> =
            seen.faces.iter().filter(|face| (below..limit).contains(&pixels(face))).copied().collect();
        below = limit;
        (!faces.is_empty()).then_some((gain, faces))
    })
}

/// A knob as -1..=1.
fn unit(knob: i8) -> f32 {
    f32::from(knob.clamp(-10, 10)) / 10.0
}

impl Recipe {
    fn before(&mut self, why: &str, filter: Filter) {
        self.before.push((filter, why.to_owned()));
    }

    fn after(&mut self, why: &str, filter: Filter) {
        self.after.push((filter, why.to_owned()));
    }
}

/// Lengths are in pixels of the source, times the factor: what is seen as texture does not change with the size of the
/// result.
fn creative(recipe: &mut Recipe, knobs: &Creative, network: &str, factor: f32, seen: &Seen) {
    let (preset, engine) = (presets::preset(knobs.optimized_for), presets::engine(knobs.engine));
    let up = |knob: i8| unit(knob).max(0.0);
    let down = |knob: i8| (-unit(knob)).max(0.0);
    let optimized = format!("optimized for {}", preset.of.name());
    // A knob, and the preset where that has a say.
    let why = |name: &str, knob: i8, preset_too: bool| match (knob, preset_too) {
        (0, _) => optimized.clone(),
        (_, false) => format!("{name} {knob}"),
        (_, true) => format!("{name} {knob}, {optimized}"),
    };
    let (invent, cause) = (
        (up(knobs.creativity) + preset.base * (1.0 - down(knobs.creativity))).min(1.0) * preset.invent,
        why("creativity", knobs.creativity, preset.invent != 1.0),
    );
    if invent > 0.0 {
        // Texture that a network makes from noise resembles its surroundings; random texture on the result looks like
        // grain.
        let inventive = presets::makes_texture(network);
        if inventive {
            recipe.before(&cause, Filter::Renoise { gain: 0.6 * invent, most: 9.0 / 255.0 });
        }
        recipe.after(&cause, Filter::Texture { gain: if inventive { 0.3 } else { 1.0 } * invent, radius: factor });
    }
    if preset.base > 0.0 {
        recipe.after(&optimized, Filter::Calm { radius: factor });
    }
    if knobs.creativity < 0 {
        // The plain network leaves texture out, but draws soft fur as lines, so fine detail that is not an edge fades
        // too.
        let (less, cause) = (down(knobs.creativity), why("creativity", knobs.creativity, false));
        recipe.after(&cause, Filter::Detail { gain: -0.9 * less, radius: 1.5 * factor, edge: 0.08 });
    }

    let (intricate, cause) =
        (up(knobs.fractality) * preset.invent, why("fractality", knobs.fractality, preset.invent != 1.0));
    if intricate > 0.0 {
        let octaves = if intricate > 0.5 { 2 } else { 1 };
        recipe.after(&cause, Filter::Echo { gain: intricate, octaves, radius: factor });
        recipe.after(&cause, Filter::Detail { gain: 1.2 * intricate, radius: 0.35 * factor, edge: 0.1 });
    }
    if knobs.fractality < 0 {
        // Weak, fine detail is removed before the network, which then draws the rest as sharp as ever.
        let (less, cause) = (down(knobs.fractality), why("fractality", knobs.fractality, false));
        recipe.before(&cause, Filter::Detail { gain: -less, radius: 1.5, edge: 0.1 });
    }

    if preset.exact {
        recipe.after(&optimized, Filter::Bound { over: 0.1 });
    }

    let named = format!("engine {}", knobs.engine.short());
    if engine.smooth != 0.0 {
        recipe.after(&named, Filter::Detail { gain: -engine.smooth, radius: factor, edge: 0.06 });
    }
    let hdr = unit(knobs.hdr) * preset.dynamic + preset.contrast + engine.contrast;
    if hdr != 0.0 {
        let (fine, broad) = if hdr > 0.0 { (0.8 * hdr, 0.4 * hdr) } else { (0.5 * hdr, 0.25 * hdr) };
        let own = knobs.hdr != 0 || preset.contrast != 0.0;
        let why = own.then(|| why("hdr", knobs.hdr, preset.contrast != 0.0 || preset.dynamic != 1.0));
        let cause: Vec<String> = (engine.contrast != 0.0).then(|| named.clone()).into_iter().chain(why).collect();
        recipe.after(&cause.join(", "), Filter::Tone { fine, broad, radius: 6.0 * factor });
    }
    if preset.curve != 0.0 {
        recipe.after(&optimized, Filter::Curve { strength: preset.curve });
    }
    // If there are faces, only they are treated.
    let own = match preset.face {
        Some([skin, features]) if !seen.faces.is_empty() => {
            recipe.after(&optimized, Filter::Skin { faces: seen.faces.clone(), skin, features, radius: SKIN * factor });
            0.0
        }
        _ => preset.crisp,
    };
    let crisp = own + engine.crisp;
    if crisp != 0.0 {
        let causes = [(engine.crisp, named.clone()), (own, optimized.clone())];
        let causes: Vec<String> =
            causes.into_iter().filter(|(crisp, _)| *crisp != 0.0).map(|(_, cause)| cause).collect();
        recipe.after(&causes.join(", "), Filter::Detail { gain: crisp, radius: 0.4 * factor, edge: 0.1 });
    }
    if (preset.grain || engine.grain) && seen.cleaned && seen.grain > 0.0 {
        let cause = if preset.grain { optimized } else { named };
        let deviation = seen.missing_grain();
        recipe.after(&cause, Filter::Grain { deviation, size: grain_size(factor), even: 1.0 });
    }
}

/// What is finer than this, in pixels of the source, is skin's.
const SKIN: f32 = 1.2;
/// More grain is sandpaper.
const MOST_GRAIN: f32 = 0.025;
/// Share of grain on what has no texture, unless it is the source's own: all of it looks like sandpaper on skin and in skies.
const ON_SMOOTH: f32 = 0.4;

/// Of a grain's blur in pixels: larger in larger results, but not as large as if the grain were enlarged itself.
fn grain_size(factor: f32) -> f32 {
    0.3 * factor.sqrt()
}

fn precision(recipe: &mut Recipe, knobs: &Precision, factor: f32, seen: &Seen) {
    let share = |knob: u8| f32::from(knob.min(100)) / 100.0;
    if knobs.ultra_detail > 0 {
        let gain = 2.5 * share(knobs.ultra_detail);
        let cause = format!("ultra_detail {}", knobs.ultra_detail);
        recipe.after(&cause, Filter::Detail { gain, radius: 0.3 * factor, edge: 0.08 });
    }
    if knobs.sharpen > 0 {
        let amount = 2.5 * share(knobs.sharpen);
        let cause = format!("sharpen {}", knobs.sharpen);
        recipe.after(&cause, Filter::Sharpen { amount, radius: 0.4 * factor, overshoot: 0.05 });
    }
    if knobs.smart_grain > 0 {
        // The source's own is what 100 comes to.
        let own = seen.grain > 0.0;
        let most = if own { seen.missing_grain() } else { MOST_GRAIN };
        let (deviation, even) = (most * share(knobs.smart_grain), if own { 1.0 } else { ON_SMOOTH });
        let cause = format!("smart_grain {}", knobs.smart_grain);
        recipe.after(&cause, Filter::Grain { deviation, size: grain_size(factor), even });
    }
}
