//! A [`Request`] becomes a [`Plan`], a plan becomes pixels.
//!
//! ```text
//! bytes ──decode──▶ Picture ──survey──▶ Statistics ──plan──▶ Plan ──run──▶ Picture ──encode──▶ bytes
//! ```
//!
//! [`plan()`] is a pure function of statistics, request and available models; its result is plain data. Nothing after
//! it looks at a knob again. [`Enlarger::job`] is the whole path, shared exactly by the command line and the service.

mod bench;
mod blend;
mod canvas;
mod classifier;
mod difference;
mod enlarger;
mod error;
mod explain;
mod extent;
mod faces;
mod knobs;
mod layers;
mod memory;
mod networks;
mod plan;
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
pub use error::PipelineError;
pub use explain::{Estimate, Explanation, human_seconds};
pub use extent::Extent;
pub use knobs::{Knob, Knobs};
pub use memory::Memory;
pub use plan::{AlphaWay, Ensemble, Mix, Patch, Plan, Step, plan};
pub use request::{Creative, Crop, Engine, Flavor, OptimizedFor, Precision, Quality, Request, Size, Style};
pub use resize::{Resampling, resize, to_depth};
pub use self_test::{SelfTest, self_test};
pub use statistics::{Condition, Content, Region, Statistics, Subject};
pub use style::{Face, Filter};
pub use watch::{Progress, Stage, Unwatched, Watch};
