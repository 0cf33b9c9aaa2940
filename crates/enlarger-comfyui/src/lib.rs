//! Runs workflows in somebody's ComfyUI: a picture goes in, a picture comes out.
//!
//! [`Workflow`] is a file in ComfyUI's API format whose nodes have titles that begin with `enlarger:`. They name [`Place`]s: where the
//! picture, the prompt and numbers go in, and where the result comes out. [`ComfyUi`] says what the program has for a workflow
//! ([`Offer`]), and runs it. It blocks, asks its caller every tenth of a second whether to go on, and takes back what it has queued if not.
//!
//! ```
//! use enlarger_comfyui::{Place, Workflow};
//!
//! let workflow = Workflow::bundled(true);
//! assert!(workflow.has(Place::Hint));
//! let told = Workflow::parse("page.json", br#"{"nodes": [], "links": []}"#).unwrap_err();
//! assert!(told.to_string().contains("format of ComfyUI's page"));
//! ```

mod client;
mod error;
mod workflow;

pub use client::{ComfyUi, Offer, Stored};
pub use enlarger_egress::Unanswered;
pub use error::Error;
pub use workflow::{Filled, Place, Workflow};
