//! Runs a picture through the complete enlarger, as users do.

use std::io::Cursor;

use enlarger_image::{EncodeOptions, Format, Limits, Picture};
use enlarger_pipeline::{Enlarger, Outcome, Output, Request, Unwatched};

use crate::photos::rgb8;

/// The result as 8-bit RGB, and what was done.
pub fn run(enlarger: &Enlarger, input: &Picture, request: &Request) -> anyhow::Result<(Picture, Outcome)> {
    let mut bytes = Cursor::new(Vec::new());
    let options = EncodeOptions { format: Format::Png, ..EncodeOptions::default() };
    enlarger_image::encode(input, &options, &mut bytes)?;
    let mut out = Cursor::new(Vec::new());
    let limits = Limits::default();
    let outcome = enlarger.job(bytes.get_ref(), request, &Output::default(), &limits, &mut out, &Unwatched)?;
    Ok((rgb8(enlarger_image::decode(out.get_ref(), &limits)?.picture), outcome))
}
