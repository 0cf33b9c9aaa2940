//! Runs a network on an image of any size, strip by strip.

use std::ops::{ControlFlow, Range};

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use crate::{
    error::NnError,
    model::{Report, Strip},
    network::Network,
};

/// Where pixels come from.
pub trait Source: Sync {
    /// Width in pixels.
    fn width(&self) -> u32;
    /// Height in pixels.
    fn height(&self) -> u32;
    /// Fills `rgb` with the rectangle's interleaved RGB in 0..=1; the rectangle lies inside the image.
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]);
}

/// Where pixels go.
pub trait Sink: Sync {
    /// Takes a rectangle of the result, interleaved RGB, not clamped. Rectangles do not overlap, come in any order and
    /// from several threads, and start and end at multiples of the network's scale.
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]);
}

/// Threads for [`upscale`] and for what is done with its result. Each job needs a pool of its own: a thread that waits in a
/// pool takes up other work in it, even another job's. `threads` of 0 is 1.
///
/// # Errors
/// [`NnError::Threads`] if the system does not start them.
pub fn pool(threads: usize) -> Result<ThreadPool, NnError> {
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| NnError::Threads { count: threads, reason: error.to_string() })
}

/// How a network runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Width of a strip in pixels of the image, without its halo, 1 or more; `None` lets the network choose, and more than
    /// it would choose changes nothing. It is also the height of bands, which is at least 16.
    pub strip: Option<u32>,
    /// Pixels that a strip sees to its left and right; `None` is [`Network::halo`]. Less is faster, and seams may show.
    /// There are no seams between bands.
    pub halo: Option<u32>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunProgress {
    /// Strips done.
    pub done: usize,
    /// Strips in all; see [`RunOptions::strip`].
    pub total: usize,
    /// Share of the work that is done, 0.0 to 1.0; moves within strips, too.
    pub fraction: f64,
}

/// Enlarges an image by the network's scale. Memory is bounded, whatever the image's size: each convolution keeps the few
/// rows that the next band needs, so that only the halos of strips are computed twice.
///
/// Runs in the rayon pool that it is called in, see [`pool`]; outside one it would go to and from the global one some
/// thousand times per megapixel. The result does not depend on the number of threads, and by less than 1/255 on the width
/// of strips.
///
/// Returns sentences about what went wrong and was mended, such as a GPU that failed; usually none.
///
/// # Errors
/// [`NnError::Cancelled`] if `progress`, which is called some twenty times per band, breaks; [`NnError::Memory`] if there is
/// not enough for feature maps.
pub fn upscale(
    network: &Network,
    source: &dyn Source,
    sink: &dyn Sink,
    options: &RunOptions,
    progress: &(dyn Fn(RunProgress) -> ControlFlow<()> + Sync),
) -> Result<Vec<String>, NnError> {
    let unit = network.alignment() as u32;
    let halo = options.halo.unwrap_or(network.halo()).next_multiple_of(unit);
    let count = match options.strip {
        Some(strip) => source.width().div_ceil(strip.max(unit)),
        None => 1,
    };
    let count = count.max(pieces(source.width(), halo, network.widest()));
    let columns = cuts(source.width(), count, halo, unit);
    let total = columns.len();
    let mut notes: Vec<String> = Vec::new();
    for (index, &column) in columns.iter().enumerate() {
        let report = |share: f64| {
            let done = if share < 1.0 { index } else { index + 1 };
            progress(RunProgress { done, total, fraction: (index as f64 + share) / total as f64 })
        };
        let report = Report::new(&report);
        one(network, source, sink, column, options.strip, &report)?;
        notes.extend(report.into_notes());
    }
    notes.dedup();
    Ok(notes)
}

/// The columns of a strip: those of its result, and those it sees.
#[derive(Debug, Clone, Copy)]
struct Cut {
    start: u32,
    end: u32,
    seen_start: u32,
    seen_end: u32,
}

/// The number of strips that an image is cut into: few, since halos are computed twice, but none sees more than
/// `widest` columns.
fn pieces(width: u32, halo: u32, widest: u32) -> u32 {
    let useful = widest.saturating_sub(2 * halo).max(1);
    if width <= widest { 1 } else { width.div_ceil(useful) }
}

/// Cuts a side into `pieces` of nearly equal size.
fn cuts(side: u32, pieces: u32, halo: u32, unit: u32) -> Vec<Cut> {
    let step = side.div_ceil(pieces.max(1)).next_multiple_of(unit);
    (0..side)
        .step_by(step as usize)
        .map(|start| {
            let end = (start + step).min(side);
            Cut { start, end, seen_start: start.saturating_sub(halo), seen_end: (end + halo).min(side) }
        })
        .collect()
}

fn one(
    network: &Network,
    source: &dyn Source,
    sink: &dyn Sink,
    column: Cut,
    band: Option<u32>,
    report: &Report<'_>,
) -> Result<(), NnError> {
    let seen = column.seen_end - column.seen_start;
    let unit = network.alignment();
    let strip = Strip {
        width: (seen as usize).next_multiple_of(unit),
        height: (source.height() as usize).next_multiple_of(unit),
        band: band.map(|band| band as usize),
        read: &|rows, rgb| read(source, column, rows, rgb),
    };
    let scale = network.scale() as usize;
    let left = (column.start - column.seen_start) as usize * scale;
    let width = (column.end - column.start) as usize * scale;
    let (stride, height) = (strip.width * scale * 3, source.height() as usize * scale);
    network.run(&strip, report, &mut |y, rows| {
        // Converting and storing take a while, too: all threads do it.
        rows.par_chunks(PIECE * scale * stride).enumerate().for_each(|(piece, rows)| {
            let y = y + piece * PIECE * scale;
            let count = (rows.len() / stride).min(height.saturating_sub(y));
            let write = |part: &[f32]| {
                sink.write(column.start * network.scale(), y as u32, width as u32, count as u32, part);
            };
            if count == 0 {
                // Padding below the image.
            } else if width * 3 == stride {
                write(&rows[..count * stride]);
            } else {
                let mut part = Vec::with_capacity(count * width * 3);
                for line in rows.chunks_exact(stride).take(count) {
                    part.extend_from_slice(&line[left * 3..(left + width) * 3]);
                }
                write(&part);
            }
        });
    })
}

/// Source rows whose result is handed over at once.
const PIECE: usize = 4;

/// Rows of a strip; past the image, its last row and column are repeated.
fn read(source: &dyn Source, column: Cut, rows: Range<usize>, rgb: &mut [f32]) {
    let seen = column.seen_end - column.seen_start;
    let (stride, line) = (rgb.len() / rows.len().max(1), seen as usize * 3);
    let height = source.height() as usize;
    let first = rows.start.min(height - 1);
    let there = rows.len().min(height - first);
    if there > 0 {
        source.read(column.seen_start, first as u32, seen, there as u32, &mut rgb[..there * line]);
    }
    if stride > line || rows.len() > there {
        for y in (0..rows.len()).rev() {
            let from = y.min(there - 1) * line;
            rgb.copy_within(from..from + line, y * stride);
            for x in line..stride {
                rgb[y * stride + x] = rgb[y * stride + x - 3];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_an_image_once_and_none_is_wider_than_allowed() {
        for (width, halo, widest, unit) in
            [(1000, 64, 400, 1), (1001, 64, 400, 2), (5, 18, 256, 1), (777, 256, 1024, 4)]
        {
            let cuts = cuts(width, pieces(width, halo, widest), halo, unit);
            assert!(cuts.iter().all(|cut| cut.start % unit == 0 && cut.seen_end - cut.seen_start <= widest));
            assert_eq!((cuts[0].start, cuts[cuts.len() - 1].end), (0, width));
            assert!(cuts.windows(2).all(|pair| pair[0].end == pair[1].start), "no gap, no overlap");
            for cut in &cuts {
                assert_eq!(cut.seen_start, cut.start.saturating_sub(halo));
                assert_eq!(cut.seen_end, (cut.end + halo).min(width));
            }
        }
        assert_eq!(pieces(400, 64, 400), 1, "what fits is not cut");
        assert_eq!(pieces(401, 64, 400), 2);
    }

    #[test]
    fn rows_and_columns_past_the_image_repeat_its_last() {
        struct Ramp;
        impl Source for Ramp {
            fn width(&self) -> u32 {
                3
            }
            fn height(&self) -> u32 {
                3
            }
            fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]) {
                let pixels = (y..y + h).flat_map(|y| (x..x + w).map(move |x| (10 * y + x) as f32));
                rgb.chunks_exact_mut(3).zip(pixels).for_each(|(rgb, value)| rgb.fill(value));
            }
        }
        let column = Cut { start: 0, end: 3, seen_start: 0, seen_end: 3 };
        let mut rgb = [0.0; 4 * 4 * 3];
        read(&Ramp, column, 0..4, &mut rgb);
        let seen: Vec<f32> = rgb.chunks_exact(3).map(|rgb| rgb[0]).collect();
        let mut padding = [0.0; 4 * 3];
        read(&Ramp, column, 3..4, &mut padding);
        let last = [20.0, 21.0, 22.0, 22.0];
        assert_eq!([0, 3, 6, 9].map(|at| padding[at]), last, "a row that is past the image as a whole");
        assert_eq!(seen, [[0.0, 1.0, 2.0, 2.0], [10.0, 11.0, 12.0, 12.0], last, last].concat());
    }
}
