//! The knobs as flags.

use clap::{Args, builder::RangedI64ValueParser};
use enlarger_pipeline::{Creative, Engine, Flavor, Look, OptimizedFor, Precision};

use crate::machine::word;

/// The creative knobs, or those of precision; not both.
#[derive(Debug, Args)]
#[command(next_help_heading = "Look (what each does: docs/look.md)")]
pub struct LookArgs {
    /// Invent detail (up to 10) or restrain (down to -10).
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = signed())]
    creativity: Option<i8>,
    /// Local contrast, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = signed())]
    hdr: Option<i8>,
    /// Closeness to the original, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = signed())]
    resemblance: Option<i8>,
    /// Detail within detail, -10 to 10.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = signed())]
    fractality: Option<i8>,
    /// automatic, illusio (smooth), sharpy (crisp) or sparkle (between).
    #[arg(long, value_parser = engine)]
    engine: Option<Engine>,
    /// What is in the picture: soft_portraits, hard_portraits, art_n_illustration, videogame_assets,
    /// nature_n_landscapes, films_n_photography, 3d_renders or science_fiction_n_horror.
    #[arg(long, value_name = "WHAT", value_parser = word::<OptimizedFor>)]
    optimized_for: Option<OptimizedFor>,
    /// Words about the picture; without a generative engine they can only choose what it is optimized for.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Sharpen edges, 0 to 100. With any of the flags from here on nothing is invented, and the others are 7, 7 and 30.
    #[arg(long, value_name = "N", conflicts_with_all = CREATIVE, value_parser = percent())]
    sharpen: Option<u8>,
    /// Photographic grain against a plastic look, 0 to 100.
    #[arg(long, value_name = "N", conflicts_with_all = CREATIVE, value_parser = percent())]
    smart_grain: Option<u8>,
    /// Gain of the finest detail, 0 to 100.
    #[arg(long, value_name = "N", conflicts_with_all = CREATIVE, value_parser = percent())]
    ultra_detail: Option<u8>,
    /// sublime (art), photo or photo_denoiser.
    #[arg(long, conflicts_with_all = CREATIVE, value_parser = word::<Flavor>)]
    flavor: Option<Flavor>,
    /// Seed of everything random; by default it follows from the picture and the flags.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

const CREATIVE: [&str; 7] = ["creativity", "hdr", "resemblance", "fractality", "engine", "optimized_for", "prompt"];

impl LookArgs {
    /// What a request says of it.
    pub fn look(&self) -> Look {
        let numbers = [self.sharpen, self.smart_grain, self.ultra_detail];
        if numbers.iter().any(Option::is_some) || self.flavor.is_some() {
            let usual = Precision::default();
            return Look::Precision(Precision {
                sharpen: self.sharpen.unwrap_or(usual.sharpen),
                smart_grain: self.smart_grain.unwrap_or(usual.smart_grain),
                ultra_detail: self.ultra_detail.unwrap_or(usual.ultra_detail),
                flavor: self.flavor,
            });
        }
        Look::Creative(Creative {
            creativity: self.creativity.unwrap_or_default(),
            hdr: self.hdr.unwrap_or_default(),
            resemblance: self.resemblance.unwrap_or_default(),
            fractality: self.fractality.unwrap_or_default(),
            engine: self.engine.unwrap_or_default(),
            optimized_for: self.optimized_for.unwrap_or_default(),
            prompt: self.prompt.clone(),
        })
    }
}

fn signed() -> RangedI64ValueParser<i8> {
    RangedI64ValueParser::new().range(-10..=10)
}

fn percent() -> RangedI64ValueParser<u8> {
    RangedI64ValueParser::new().range(0..=100)
}

/// As the API spells it, or without the maker's name.
fn engine(text: &str) -> Result<Engine, String> {
    word(&format!("magnific_{text}")).or_else(|_| word(text))
}
