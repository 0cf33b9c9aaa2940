//! A [`Request`] becomes a [`Plan`], a plan becomes pixels.
//!
//! ```text
//! bytes ──decode──▶ Picture ──survey──▶ Statistics ──plan──▶ Plan ──run──▶ Picture ──encode──▶ bytes
//! ```
//!
//! [`plan()`] is a pure function of statistics, request and available models; its result is plain data. Nothing after
//! it looks at a knob again. [`Enlarger::job`] is the whole path, shared exactly by the command line and the service.
//!
//! ```
//! use std::io::Cursor;
//!
//! use enlarger_image::{Channels, EncodeOptions, Limits, Metadata, Picture, Samples, encode, header};
//! use enlarger_pipeline::{Enlarger, EnlargerOptions, Output, Quality, Request, Size, Unwatched};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let samples = Samples::from((0..12 * 8 * 3).map(|i| (i * 7) as u8).collect::<Vec<_>>());
//! # let picture = Picture { width: 12, height: 8, channels: Channels::Rgb, samples, metadata: Metadata::default() };
//! # let mut png = Cursor::new(Vec::new());
//! # encode(&picture, &EncodeOptions::default(), &mut png)?;
//! # let (bytes, limits) = (png.into_inner(), Limits::default());
//! let enlarger = Enlarger::new(EnlargerOptions::default())?;
//! let request = Request { size: Size::Factor(3.0), quality: Quality::Draft, ..Request::default() };
//!
//! // What would be done to these 12 x 8 pixels, and what that costs.
//! let explanation = enlarger.dry_run(&bytes, &request, &limits, &Unwatched)?;
//! assert_eq!((explanation.estimate.output_width, explanation.estimate.output_height), (36, 24));
//!
//! let mut result = Cursor::new(Vec::new());
//! let outcome = enlarger.job(&bytes, &request, &Output::default(), &limits, &mut result, &Unwatched)?;
//! assert_eq!(outcome.plan, explanation.plan);
//! assert_eq!(header(result.get_ref(), &limits)?.width, 36);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//!
//! | | |
//! |---|---|
//! | [`Request`], [`Knob`] | what a person asks for; each knob is one row of a table |
//! | [`Statistics`] | what is measured of a picture: a small classifier, faces, grain, regions |
//! | [`Plan`], [`Step`] | what is done: networks, resampling, filters, in order |
//! | [`Filter`] | what a style does to pixels, in `style/`, each filter in a file |
//! | `run`, `canvas` | a plan becomes pixels; a network's results are laid down strip by strip |
//! | [`Generative`], [`Diffuse`], [`Redraw`] | the generative engine: which files or workflow, and what a pass does with them |
//! | [`Difference`] | how far a result departs from its source |
//! | [`resize()`] | classic resampling |

mod bench;
mod blend;
mod canvas;
mod classifier;
mod difference;
mod dither;
mod enlarger;
mod error;
mod explain;
mod explicit;
mod extent;
mod faces;
mod generate;
mod json;
mod knobs;
mod lanes;
mod layers;
mod memory;
mod names;
mod networks;
mod omit;
mod plan;
mod quantized;
mod reduce;
mod request;
mod resize;
mod run;
mod sample;
mod self_test;
mod statistics;
mod style;
mod watch;

pub use bench::{Speed, bench};
pub use difference::Difference;
pub use enlarger::{Enlarger, EnlargerOptions, Outcome, Output, Timings};
pub use enlarger_nn::Health;
pub use error::{Part, PipelineError};
pub use explain::{Estimate, Explanation, human_bytes, human_seconds};
pub use explicit::{EXPLICIT, explicit};
pub use extent::Extent;
pub use generate::{Diffuse, Merged, Pass, Piece, Redraw, RemoteGenerator, Weights};
pub use json::to_json;
pub use knobs::{Knob, Knobs};
pub use lanes::{Lane, LaneStatus};
pub use memory::{Memory, cores};
pub use names::{NamePattern, numbered, remove_leftovers, temporary_in};
pub use plan::{AlphaWay, Ensemble, Mix, Patch, Plan, Step, plan};
pub use request::{
    Creative, Crop, Engine, Flavor, Generative, Lora, OptimizedFor, Precision, Quality, Request, Sampler, Size, Style,
};
pub use resize::{Resampling, resize};
pub use self_test::{SelfTest, self_test};
pub use statistics::{Condition, Content, Region, Statistics, Subject};
pub use style::{Face, Filter};
pub use watch::{Progress, Stage, Unwatched, Watch};
