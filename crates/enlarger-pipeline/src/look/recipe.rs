//! Knobs become numbers: the curves of `docs/look.md`.

use crate::request::{Creative, Look, Precision};

use super::{Filter, presets};

/// What knobs ask for besides the passes themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recipe {
    /// Share of the source that is drawn anew from half its size before anything else; 0 for none.
    pub redraw: f32,
    /// Filters on the source, before the network.
    pub before: Vec<Filter>,
    /// Filters on the result.
    pub after: Vec<Filter>,
}

/// What a look means at this factor, where `network` is the one that makes the result. At neutral knobs and the standard
/// preset there is nothing to do.
pub(crate) fn recipe(look: &Look, network: &str, factor: f32) -> Recipe {
    match look {
        Look::Creative(knobs) => creative(knobs, network, factor),
        Look::Precision(knobs) => precision(knobs, factor),
    }
}

/// Lengths are in pixels of the source, times the factor: what is seen as texture does not change with the size of the
/// result.
fn creative(knobs: &Creative, network: &str, factor: f32) -> Recipe {
    let preset = presets::preset(knobs.optimized_for);
    let unit = |knob: i8| f32::from(knob.clamp(-10, 10)) / 10.0;
    let up = |knob: i8| unit(knob).max(0.0);
    let down = |knob: i8| (-unit(knob)).max(0.0);
    let mut recipe = Recipe { redraw: down(knobs.resemblance), ..Recipe::default() };

    let resemblance = up(knobs.resemblance);
    if resemblance > 0.0 {
        recipe.after.push(Filter::Keep { share: 0.6 * resemblance });
        recipe.after.push(Filter::Match { rounds: 2, strength: resemblance });
    }

    let invent = up(knobs.creativity) * preset.invent;
    if invent > 0.0 {
        // What a network makes of noise looks like what is there; random texture on the result looks like grain.
        let inventive = presets::makes_texture(network);
        if inventive {
            recipe.before.push(Filter::Renoise { gain: 0.6 * invent, most: 9.0 / 255.0 });
        }
        recipe.after.push(Filter::Texture { gain: if inventive { 0.3 } else { 1.0 } * invent, radius: factor });
    }
    if knobs.creativity < 0 {
        recipe.after.push(Filter::Detail { gain: -0.9 * down(knobs.creativity), radius: factor, edge: 0.08 });
    }

    let intricate = up(knobs.fractality) * preset.invent;
    if intricate > 0.0 {
        let octaves = if intricate > 0.5 { 2 } else { 1 };
        recipe.after.push(Filter::Echo { gain: intricate, octaves, radius: factor });
        recipe.after.push(Filter::Detail { gain: intricate, radius: 0.35 * factor, edge: 0.1 });
    }
    if knobs.fractality < 0 {
        recipe.after.push(Filter::Detail { gain: -0.9 * down(knobs.fractality), radius: 0.5 * factor, edge: 0.5 });
    }

    let hdr = unit(knobs.hdr) * preset.dynamic + preset.contrast;
    if hdr != 0.0 {
        let (fine, broad) = if hdr > 0.0 { (0.8 * hdr, 0.4 * hdr) } else { (0.5 * hdr, 0.25 * hdr) };
        recipe.after.push(Filter::Tone { fine, broad, radius: 6.0 * factor });
    }

    let crisp = preset.crisp + presets::engine(knobs.engine).crisp;
    if crisp != 0.0 {
        recipe.after.push(Filter::Detail { gain: crisp, radius: 0.4 * factor, edge: 0.1 });
    }
    recipe
}

fn precision(knobs: &Precision, factor: f32) -> Recipe {
    let unit = |knob: u8| f32::from(knob.min(100)) / 100.0;
    let mut recipe = Recipe::default();
    if knobs.ultra_detail > 0 {
        recipe.after.push(Filter::Detail { gain: 1.5 * unit(knobs.ultra_detail), radius: 0.3 * factor, edge: 0.08 });
    }
    if knobs.sharpen > 0 {
        recipe.after.push(Filter::Sharpen { amount: 2.5 * unit(knobs.sharpen), radius: 0.4 * factor, overshoot: 0.05 });
    }
    if knobs.smart_grain > 0 {
        recipe.after.push(Filter::Grain { deviation: 0.08 * unit(knobs.smart_grain), size: 0.3 * factor.sqrt() });
    }
    recipe
}
