//! Pixel art is enlarged by whole pixels: its edges are its pixels, and its colours a palette.

use crate::{extent::Extent, request::Crop, resize::Resampling, statistics::Statistics};

use super::{AlphaWay, Plan, Step};

/// Plans for art that consists of squares of this many pixels.
pub(super) fn plan(
    statistics: &Statistics,
    crop: Option<Crop>,
    [source, result]: [Extent; 2],
    square: u32,
    seed: u64,
    mut notes: Vec<String>,
    idle: Vec<String>,
) -> Plan {
    notes.push(match square {
        1 => "pixel art: enlarged by whole pixels in the source's colors; the sliders have no effect".into(),
        _ => format!(
            "pixel art in {square}x{square} blocks: enlarged by whole pixels in the source's colors; the \
            sliders have no effect"
        ),
    });
    let alpha = if statistics.transparent { AlphaWay::Whole } else { AlphaWay::Opaque };
    let aligned = crop.is_none_or(|part| part.x.is_multiple_of(square) && part.y.is_multiple_of(square));
    let steps = steps(source, result, if aligned { square } else { 1 });
    Plan {
        version: 1,
        crop,
        source,
        smoothed: 0,
        reduced: None,
        result,
        bits: statistics.bits,
        alpha,
        seed,
        halo: None,
        steps,
        notes,
        idle,
    }
}

/// Back to its true pixels, then each to a whole square. Where the result's size is not a multiple of theirs, some
/// squares are larger at first and made smaller by area averaging: all are of one size then, and their borders a pixel
/// soft at most.
fn steps(source: Extent, result: Extent, square: u32) -> Vec<Step> {
    // A part whose sides are not whole squares may start within one.
    let square = if source.width.is_multiple_of(square) && source.height.is_multiple_of(square) { square } else { 1 };
    let drawn = Extent { width: source.width / square, height: source.height / square };
    let times = |drawn: u32, result: u32| drawn * result.div_ceil(drawn);
    let whole = Extent { width: times(drawn.width, result.width), height: times(drawn.height, result.height) };
    let resample = |to, kernel| Step::Resample { to, kernel };
    let mut steps = Vec::new();
    if drawn != source {
        steps.push(resample(drawn, Resampling::Nearest));
    }
    steps.push(resample(whole, Resampling::Nearest));
    if whole != result {
        steps.push(resample(result, Resampling::Box));
    }
    steps
}
