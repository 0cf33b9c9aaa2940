//! A plan in words.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    enlarger::Estimate,
    facts::Facts,
    plan::{Extent, Plan, Step},
};

/// What was measured of a picture, what will be done to it and what that costs; some ten lines for people.
pub fn explain(facts: &Facts, plan: &Plan, estimate: &Estimate) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("a string takes all");
    line(format!(
        "measured  {}x{}, {} bits: {} (noise {:.1}/255, blocks {:.3}, flatness {:.2})",
        facts.width,
        facts.height,
        facts.bits,
        facts.content.words(),
        facts.noise,
        facts.blockiness,
        facts.flatness
    ));
    for (index, step) in plan.steps.iter().enumerate() {
        line(format!("{:8}  {}", format!("step {}", index + 1), words(step)));
    }
    for note in &plan.notes {
        line(format!("note      {note}"));
    }
    line(format!("result    {}, {} bits, seed {}", size(plan.result), plan.bits, plan.seed));
    line(format!(
        "cost      about {:.1} s here if nothing else runs, at most {} MB",
        estimate.seconds,
        estimate.bytes >> 20
    ));
    text
}

fn size(extent: Extent) -> String {
    format!("{}x{}", extent.width, extent.height)
}

fn words(step: &Step) -> String {
    match step {
        Step::Network { model, from, halve, mix, .. } => {
            let mixed = mix.as_ref().map_or(String::new(), |m| format!(", with {} of {}", m.share, m.model));
            let halved = if *halve { ", its result halved" } else { "" };
            format!("network {model}{mixed}: {} to {}{halved}", size(*from), size(step.ends_at(*from)))
        }
        Step::Resample { to, kernel } => format!("resample to {} ({kernel:?})", size(*to)),
        Step::Look(filter) => {
            let Ok(Value::Object(fields)) = serde_json::to_value(filter) else { unreachable!("a filter has fields") };
            let numbers = fields.iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
            let numbers: Vec<String> =
                numbers.map(|(name, value)| format!("{name} {}", (value * 1000.0).round() / 1000.0)).collect();
            format!("filter {}: {}", fields["filter"].as_str().unwrap_or_default(), numbers.join(", "))
        }
    }
}
