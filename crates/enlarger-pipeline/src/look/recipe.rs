//! Knobs become numbers: the curves of `docs/look.md`.

use crate::request::{Creative, Look, Precision};

use super::{Filter, presets};

/// What knobs ask for besides the passes themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recipe {
    /// Share of the source that is drawn anew from half its size before anything else, and why; `None` for none.
    pub redraw: Option<(f32, String)>,
    /// Filters on the source, before the network.
    pub before: Vec<Caused>,
    /// Filters on the result.
    pub after: Vec<Caused>,
}

/// A filter, and the knobs that ask for it: "hdr 5, optimized for soft_portraits".
pub(crate) type Caused = (Filter, String);

/// What a look means at this factor, where `network` is the one that makes the result. At neutral knobs and the standard
/// preset there is nothing to do.
pub(crate) fn recipe(look: &Look, network: &str, factor: f32) -> Recipe {
    match look {
        Look::Creative(knobs) => creative(knobs, network, factor),
        Look::Precision(knobs) => precision(knobs, factor),
    }
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
fn creative(knobs: &Creative, network: &str, factor: f32) -> Recipe {
    let (preset, engine) = (presets::preset(knobs.optimized_for), presets::engine(knobs.engine));
    let unit = |knob: i8| f32::from(knob.clamp(-10, 10)) / 10.0;
    let up = |knob: i8| unit(knob).max(0.0);
    let down = |knob: i8| (-unit(knob)).max(0.0);
    let optimized = format!("optimized for {}", preset.of.name());
    // A knob, and the preset where that has a say.
    let why = |name: &str, knob: i8, preset_too: bool| match (knob, preset_too) {
        (0, _) => optimized.clone(),
        (_, false) => format!("{name} {knob}"),
        (_, true) => format!("{name} {knob}, {optimized}"),
    };
    let mut recipe = Recipe::default();

    let (resemblance, cause) = (up(knobs.resemblance), why("resemblance", knobs.resemblance, false));
    if resemblance > 0.0 {
        recipe.after(&cause, Filter::Keep { share: 0.6 * resemblance });
        recipe.after(&cause, Filter::Match { rounds: 2, strength: resemblance });
    } else if knobs.resemblance < 0 {
        recipe.redraw = Some((down(knobs.resemblance), cause));
    }

    let (invent, cause) =
        (up(knobs.creativity) * preset.invent, why("creativity", knobs.creativity, preset.invent != 1.0));
    if invent > 0.0 {
        // What a network makes of noise looks like what is there; random texture on the result looks like grain.
        let inventive = presets::makes_texture(network);
        if inventive {
            recipe.before(&cause, Filter::Renoise { gain: 0.6 * invent, most: 9.0 / 255.0 });
        }
        recipe.after(&cause, Filter::Texture { gain: if inventive { 0.3 } else { 1.0 } * invent, radius: factor });
    }
    if knobs.creativity < 0 {
        // Fine detail, and half of what is somewhat larger: soft fur has little that is fine.
        let (less, cause) = (down(knobs.creativity), why("creativity", knobs.creativity, false));
        recipe.after(&cause, Filter::Detail { gain: -0.9 * less, radius: factor, edge: 0.08 });
        recipe.after(&cause, Filter::Detail { gain: -0.5 * less, radius: 3.0 * factor, edge: 0.06 });
    }

    let (intricate, cause) =
        (up(knobs.fractality) * preset.invent, why("fractality", knobs.fractality, preset.invent != 1.0));
    if intricate > 0.0 {
        let octaves = if intricate > 0.5 { 2 } else { 1 };
        recipe.after(&cause, Filter::Echo { gain: intricate, octaves, radius: factor });
        recipe.after(&cause, Filter::Detail { gain: 1.2 * intricate, radius: 0.35 * factor, edge: 0.1 });
    }
    if knobs.fractality < 0 {
        let (less, cause) = (down(knobs.fractality), why("fractality", knobs.fractality, false));
        recipe.after(&cause, Filter::Detail { gain: -0.9 * less, radius: 0.5 * factor, edge: 0.5 });
        recipe.after(&cause, Filter::Detail { gain: -0.7 * less, radius: 1.5 * factor, edge: 0.06 });
    }

    let hdr = unit(knobs.hdr) * preset.dynamic + preset.contrast;
    if hdr != 0.0 {
        let (fine, broad) = if hdr > 0.0 { (0.8 * hdr, 0.4 * hdr) } else { (0.5 * hdr, 0.25 * hdr) };
        let cause = why("hdr", knobs.hdr, preset.contrast != 0.0 || preset.dynamic != 1.0);
        recipe.after(&cause, Filter::Tone { fine, broad, radius: 6.0 * factor });
    }

    let crisp = preset.crisp + engine.crisp;
    if crisp != 0.0 {
        let causes = [(engine.crisp, format!("engine {}", knobs.engine.short())), (preset.crisp, optimized)];
        let causes: Vec<String> =
            causes.into_iter().filter(|(crisp, _)| *crisp != 0.0).map(|(_, cause)| cause).collect();
        recipe.after(&causes.join(", "), Filter::Detail { gain: crisp, radius: 0.4 * factor, edge: 0.1 });
    }
    recipe
}

fn precision(knobs: &Precision, factor: f32) -> Recipe {
    let unit = |knob: u8| f32::from(knob.min(100)) / 100.0;
    let mut recipe = Recipe::default();
    if knobs.ultra_detail > 0 {
        let gain = 1.5 * unit(knobs.ultra_detail);
        let cause = format!("ultra_detail {}", knobs.ultra_detail);
        recipe.after(&cause, Filter::Detail { gain, radius: 0.3 * factor, edge: 0.08 });
    }
    if knobs.sharpen > 0 {
        let amount = 2.5 * unit(knobs.sharpen);
        let cause = format!("sharpen {}", knobs.sharpen);
        recipe.after(&cause, Filter::Sharpen { amount, radius: 0.4 * factor, overshoot: 0.05 });
    }
    if knobs.smart_grain > 0 {
        let deviation = 0.08 * unit(knobs.smart_grain);
        let cause = format!("smart_grain {}", knobs.smart_grain);
        recipe.after(&cause, Filter::Grain { deviation, size: 0.3 * factor.sqrt() });
    }
    recipe
}
