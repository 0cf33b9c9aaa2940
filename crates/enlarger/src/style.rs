//! The knobs as flags.

use clap::{
    Arg, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use enlarger_pipeline::{Creative, Engine, Flavor, Knob, Knobs, OptimizedFor, Precision, Style};

use crate::{machine::whole, printer::Hinted};

/// The creative flags or the precision flags, not both.
#[derive(Debug, Args)]
pub struct StyleArgs {
    #[command(flatten)]
    creative: CreativeArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Creative style: may add detail (see docs/concepts/style.md)")]
struct CreativeArgs {
    #[command(flatten)]
    knobs: KnobFlags<Creative>,
    /// Which models and filters to use.
    #[arg(long, value_parser = choice(Engine::ALL, Engine::name, Engine::short, Engine::what))]
    engine: Option<Engine>,
    /// What the image shows.
    #[arg(long, value_name = "WHAT", value_parser = choice(
        OptimizedFor::ALL, OptimizedFor::name, OptimizedFor::name, OptimizedFor::what,
    ))]
    optimized_for: Option<OptimizedFor>,
    /// Words describing the image: they guide the generative engine. Without a checkpoint, they only select a preset (--optimized-for).
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Precision style: adds no detail (any of these flags selects it)")]
struct PrecisionArgs {
    #[command(flatten)]
    knobs: KnobFlags<Precision>,
    /// What kind of image it is [default: detected].
    #[arg(long, value_parser = choice(Flavor::ALL, Flavor::name, Flavor::name, Flavor::what))]
    flavor: Option<Flavor>,
}

impl StyleArgs {
    /// The style of a request with these flags.
    ///
    /// # Errors
    /// If flags of both families are given; it ends the program with code 2.
    pub fn style(&self) -> anyhow::Result<Style> {
        let Self { creative, precision } = self;
        match (creative.given(), precision.given()) {
            (Some(inventing), Some(faithful)) => Err(Hinted::usage(
                format!("--{inventing} (Creative) and --{faithful} (Precision) cannot be combined"),
                "leave one of them out; `enlarger upscale --help` lists the flags of each style",
            )),
            (None, Some(_)) => {
                Ok(Style::Precision(Precision { flavor: precision.flavor, ..precision.knobs.settings() }))
            }
            (_, None) => Ok(Style::Creative(Creative {
                engine: creative.engine.unwrap_or_default(),
                optimized_for: creative.optimized_for.unwrap_or_default(),
                prompt: creative.prompt.clone(),
                ..creative.knobs.settings()
            })),
        }
    }
}

impl CreativeArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<String> {
        let others = [
            ("engine", self.engine.is_some()),
            ("optimized-for", self.optimized_for.is_some()),
            ("prompt", self.prompt.is_some()),
        ];
        let other = || others.iter().find(|(_, given)| *given).map(|(flag, _)| (*flag).to_owned());
        self.knobs.first().or_else(other)
    }
}

impl PrecisionArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<String> {
        self.knobs.first().or_else(|| self.flavor.map(|_| "flavor".to_owned()))
    }
}

/// The flags of a family's knobs that were given, with their values.
#[derive(Debug)]
struct KnobFlags<F: Knobs>(Vec<(&'static Knob<F>, i64)>);

impl<F: Knobs> KnobFlags<F> {
    /// The first that was given.
    fn first(&self) -> Option<String> {
        self.0.first().map(|(knob, _)| flag(knob))
    }

    /// The family's settings with them.
    fn settings(&self) -> F {
        let mut settings = F::default();
        self.0.iter().for_each(|(knob, value)| (knob.set)(&mut settings, *value));
        settings
    }
}

fn flag<F>(knob: &Knob<F>) -> String {
    knob.name.replace('_', "-")
}

impl<F: Knobs> Args for KnobFlags<F> {
    fn augment_args(command: Command) -> Command {
        F::KNOBS.iter().fold(command, |command, knob| {
            let (least, most) = (knob.range.start(), knob.range.end());
            let usual = if knob.default == 0 { String::new() } else { format!(", default {}", knob.default) };
            let help = format!("{} [{least} to {most}{usual}]", knob.help);
            let arg = Arg::new(knob.name).long(flag(knob)).value_name("N").help(help);
            command.arg(arg.allow_hyphen_values(true).value_parser(whole::<i64>(knob.range.clone())))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: Knobs> FromArgMatches for KnobFlags<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |knob: &'static Knob<F>| matches.get_one::<i64>(knob.name).map(|value| (knob, *value));
        Ok(Self(F::KNOBS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A choice by its short name or its name on the wire, with its help text.
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
