//! The knobs as flags.

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use enlarger_pipeline::{Creative, Engine, Flavor, Look, OptimizedFor, Precision};

use crate::{machine::whole, printer::Hinted};

/// The creative knobs, or those of precision; not both.
#[derive(Debug, Args)]
#[command(next_help_heading = "Look (what each does: docs/look.md)")]
pub struct LookArgs {
    /// Invent detail (up to 10) or restrain (down to -10).
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i8>(-10..=10))]
    creativity: Option<i8>,
    /// Local contrast, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i8>(-10..=10))]
    hdr: Option<i8>,
    /// Closeness to the original, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i8>(-10..=10))]
    resemblance: Option<i8>,
    /// Detail within detail, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = whole::<i8>(-10..=10))]
    fractality: Option<i8>,
    /// Which networks and treatment.
    #[arg(long, value_parser = choice(Engine::ALL, Engine::name, Engine::short, Engine::what))]
    engine: Option<Engine>,
    /// What is in the picture.
    #[arg(long, value_name = "WHAT", value_parser = choice(
        OptimizedFor::ALL, OptimizedFor::name, OptimizedFor::name, OptimizedFor::what,
    ))]
    optimized_for: Option<OptimizedFor>,
    /// Words about the picture; without a generative engine they can only choose what it is optimized for.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Sharpen edges, 0 to 100. With any of the flags from here on nothing is invented, and the others are 7, 7 and 30.
    #[arg(long, value_name = "N", value_parser = whole::<u8>(0..=100))]
    sharpen: Option<u8>,
    /// Photographic grain against a plastic look, 0 to 100.
    #[arg(long, value_name = "N", value_parser = whole::<u8>(0..=100))]
    smart_grain: Option<u8>,
    /// Gain of the finest detail, 0 to 100.
    #[arg(long, value_name = "N", value_parser = whole::<u8>(0..=100))]
    ultra_detail: Option<u8>,
    /// Which network, instead of one by what is measured of the picture.
    #[arg(long, value_parser = choice(Flavor::ALL, Flavor::name, Flavor::name, Flavor::what))]
    flavor: Option<Flavor>,
    /// Seed of everything random; by default it follows from the picture and the flags.
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u64>,
}

impl LookArgs {
    /// What a request says of it.
    ///
    /// # Errors
    /// If flags of both families are given; it ends the program with code 2.
    pub fn look(&self) -> anyhow::Result<Look> {
        let creative = [
            ("--creativity", self.creativity.is_some()),
            ("--hdr", self.hdr.is_some()),
            ("--resemblance", self.resemblance.is_some()),
            ("--fractality", self.fractality.is_some()),
            ("--engine", self.engine.is_some()),
            ("--optimized-for", self.optimized_for.is_some()),
            ("--prompt", self.prompt.is_some()),
        ];
        let precision = [
            ("--sharpen", self.sharpen.is_some()),
            ("--smart-grain", self.smart_grain.is_some()),
            ("--ultra-detail", self.ultra_detail.is_some()),
            ("--flavor", self.flavor.is_some()),
        ];
        let given = |flags: &[(&'static str, bool)]| flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
        if let (Some(inventing), Some(faithful)) = (given(&creative), given(&precision)) {
            return Err(Hinted::usage(
                format!("{inventing} may invent detail and {faithful} must not: a picture is enlarged in one manner"),
                "leave out one of them; `enlarger upscale --help` tells which flags go together",
            ));
        }
        if given(&precision).is_some() {
            let usual = Precision::default();
            return Ok(Look::Precision(Precision {
                sharpen: self.sharpen.unwrap_or(usual.sharpen),
                smart_grain: self.smart_grain.unwrap_or(usual.smart_grain),
                ultra_detail: self.ultra_detail.unwrap_or(usual.ultra_detail),
                flavor: self.flavor,
            }));
        }
        Ok(Look::Creative(Creative {
            creativity: self.creativity.unwrap_or_default(),
            hdr: self.hdr.unwrap_or_default(),
            resemblance: self.resemblance.unwrap_or_default(),
            fractality: self.fractality.unwrap_or_default(),
            engine: self.engine.unwrap_or_default(),
            optimized_for: self.optimized_for.unwrap_or_default(),
            prompt: self.prompt.clone(),
        }))
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A choice by the name that is shown or by that on the wire, with what it is in the help.
pub fn choice<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    shown: fn(T) -> &'static str,
    what: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let values = all.iter().map(|one| PossibleValue::new(shown(*one)).alias(name(*one)).help(what(*one)));
    PossibleValuesParser::new(values).map(move |word| {
        let one = all.iter().find(|one| word == shown(**one) || word == name(**one));
        *one.expect("the parser takes no other words")
    })
}
