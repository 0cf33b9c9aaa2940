//! A picture of any size through a network, tile by tile.

use std::ops::{ControlFlow, Range};

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use crate::{
    error::NnError,
    network::{Network, Strip},
};

/// Where pixels come from.
pub trait Source: Sync {
    /// Pixels across.
    fn width(&self) -> u32;
    /// Pixels down.
    fn height(&self) -> u32;
    /// Fills `rgb` with the rectangle's interleaved RGB in 0..=1; the rectangle lies inside the picture.
    fn read(&self, x: u32, y: u32, w: u32, h: u32, rgb: &mut [f32]);
}

/// Where pixels go.
pub trait Sink: Sync {
    /// Takes a rectangle of the result, interleaved RGB, not clamped. Rectangles do not overlap, come in any order and
    /// from several threads, and start and end at multiples of the network's scale.
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]);
}

/// Threads for [`upscale`] and what is done with its result. One pool for one job: those who wait in a pool take up whatever
/// else is to be done in it, were it another job.
///
/// # Errors
/// [`NnError::Threads`] if so many (0 is one) cannot be had.
pub fn pool(threads: usize) -> Result<ThreadPool, NnError> {
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| NnError::Threads { count: threads, reason: error.to_string() })
}

/// How a network runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Side of a tile in source pixels, without its halo, 1 to any number; `None` lets the network choose, and more than
    /// it would choose changes nothing. The picture is cut into strips of this width, and a network runs down a strip in
    /// bands of this height (but at least 16).
    pub tile: Option<u32>,
    /// Source pixels that a strip sees to its left and right; `None` is [`Network::halo`]. Less is faster, and seams
    /// may show. There are no seams between bands.
    pub halo: Option<u32>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Strips done.
    pub done: usize,
    /// Strips in all; see [`RunOptions::tile`].
    pub total: usize,
    /// Share of the work that is done, 0.0 to 1.0; moves within strips, too.
    pub fraction: f64,
}

/// Enlarges a picture by the network's scale. Memory is bounded, whatever the picture's size: each convolution keeps
/// the few rows that the next band needs, so that nothing is computed twice but the halos of strips.
///
/// Runs in the rayon pool that it is called in, see [`pool`]; elsewhere it would go to and from the global one some thousand
/// times per megapixel. The result does not depend on how many threads that has; it depends on the tile by less than 1/255.
///
/// # Errors
/// [`NnError::Cancelled`] if `progress` breaks, which is asked some twenty times per band; [`NnError::Memory`] if
/// feature maps find no room.
pub fn upscale(
    network: &Network,
    source: &dyn Source,
    sink: &dyn Sink,
    options: &RunOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<(), NnError> {
    let unit = network.unshuffle() as u32;
    let halo = options.halo.unwrap_or(network.halo()).next_multiple_of(unit);
    let count = match options.tile {
        Some(tile) => source.width().div_ceil(tile.max(unit)),
        None => 1,
    };
    let count = count.max(pieces(source.width(), halo, network.widest()));
    let columns = cuts(source.width(), count, halo, unit);
    let total = columns.len();
    for (index, &column) in columns.iter().enumerate() {
        let step = |share: f64| {
            let done = if share < 1.0 { index } else { index + 1 };
            progress(Progress { done, total, fraction: (index as f64 + share) / total as f64 })
        };
        one(network, source, sink, column, options.tile, &step)?;
    }
    Ok(())
}

/// A strip's extent: what it makes, and what it sees.
#[derive(Debug, Clone, Copy)]
struct Cut {
    start: u32,
    end: u32,
    seen_start: u32,
    seen_end: u32,
}

/// Into how many strips a picture is cut: few, since halos are computed twice, but none sees more than `widest`
/// columns.
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
    tile: Option<u32>,
    step: &(dyn Fn(f64) -> ControlFlow<()> + Sync),
) -> Result<(), NnError> {
    let seen = column.seen_end - column.seen_start;
    let unit = network.unshuffle();
    let strip = Strip {
        width: (seen as usize).next_multiple_of(unit),
        height: (source.height() as usize).next_multiple_of(unit),
        band: tile.map(|tile| tile as usize),
        read: &|rows, rgb| read(source, column, rows, rgb),
    };
    let scale = network.scale() as usize;
    let left = (column.start - column.seen_start) as usize * scale;
    let width = (column.end - column.start) as usize * scale;
    let (stride, height) = (strip.width * scale * 3, source.height() as usize * scale);
    network.run(&strip, step, &mut |y, rows| {
        // Converting and storing take a while, too: all threads do it.
        rows.par_chunks(PIECE * scale * stride).enumerate().for_each(|(piece, rows)| {
            let y = y + piece * PIECE * scale;
            let count = (rows.len() / stride).min(height.saturating_sub(y));
            let write = |part: &[f32]| {
                sink.write(column.start * network.scale(), y as u32, width as u32, count as u32, part);
            };
            if count == 0 {
                // Padding below the picture.
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

/// Rows of a strip; past the picture, its last row and column are repeated.
fn read(source: &dyn Source, column: Cut, rows: Range<usize>, rgb: &mut [f32]) {
    let seen = column.seen_end - column.seen_start;
    let (stride, line) = (rgb.len() / rows.len().max(1), seen as usize * 3);
    let there = rows.len().min(source.height() as usize - rows.start);
    if there > 0 {
        source.read(column.seen_start, rows.start as u32, seen, there as u32, &mut rgb[..there * line]);
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
