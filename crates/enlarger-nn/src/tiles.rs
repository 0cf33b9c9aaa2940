//! A picture of any size through a network, tile by tile.

use std::ops::ControlFlow;

use crate::{
    error::NnError,
    map::BLOCK,
    network::{Network, Tile},
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
    /// Takes a rectangle of the result, interleaved RGB, not clamped. Rectangles do not overlap, come in any order,
    /// and start and end at multiples of the network's scale.
    fn write(&self, x: u32, y: u32, w: u32, h: u32, rgb: &[f32]);
}

/// How a network runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Threads; 0 is one.
    pub threads: usize,
    /// Side of a tile in source pixels, without its halo; `None` lets the network choose.
    pub tile: Option<u32>,
    /// Source pixels that a tile sees around itself; `None` is [`Network::halo`]. Less is faster, and seams may show.
    pub halo: Option<u32>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Tiles done.
    pub done: usize,
    /// Tiles in all.
    pub total: usize,
    /// Share of the work that is done, 0.0 to 1.0; moves within tiles, too.
    pub fraction: f64,
}

/// Enlarges a picture by the network's scale. Memory is bounded by the tile, whatever the picture's size.
///
/// The result does not depend on `threads`; it depends on the tile by less than 1/255.
///
/// # Errors
/// [`NnError::Cancelled`] if `progress` breaks, which is asked some twenty times per tile.
pub fn upscale(
    network: &Network,
    source: &dyn Source,
    sink: &dyn Sink,
    options: &RunOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<(), NnError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .build()
        .map_err(|e| NnError::Backend(format!("threads: {e}")))?;
    let unit = network.unshuffle() as u32;
    let halo = options.halo.unwrap_or(network.halo()).next_multiple_of(unit);
    let (across, down) = match options.tile {
        Some(tile) => (source.width().div_ceil(tile.max(unit)), source.height().div_ceil(tile.max(unit))),
        None => pieces(source.width(), source.height(), halo, network.tile_pixels()),
    };
    let (columns, rows) = (cuts(source.width(), across, halo, unit), cuts(source.height(), down, halo, unit));
    let total = columns.len() * rows.len();
    let cells = rows.iter().flat_map(|&row| columns.iter().map(move |&column| (column, row)));
    for (index, (column, row)) in cells.enumerate() {
        let step = |share: f64| {
            let done = if share < 1.0 { index } else { index + 1 };
            progress(Progress { done, total, fraction: (index as f64 + share) / total as f64 })
        };
        if pool.install(|| one(network, source, sink, column, row, &step)).is_break() {
            return Err(NnError::Cancelled);
        }
    }
    Ok(())
}

/// A tile's extent along one side: what it makes, and what it sees.
#[derive(Debug, Clone, Copy)]
struct Cut {
    start: u32,
    end: u32,
    seen_start: u32,
    seen_end: u32,
}

/// Into how many columns and rows a picture is cut: as few pixels as possible are computed twice, while no tile sees
/// more than `most` pixels.
fn pieces(width: u32, height: u32, halo: u32, most: u64) -> (u32, u32) {
    let seen = |side: u32, n: u32| u64::from((side.div_ceil(n) + 2 * halo).min(side));
    // Kernels work on whole blocks of columns.
    let columns = |n: u32| seen(width, n).next_multiple_of(BLOCK as u64);
    let cost = |(across, down): (u32, u32)| columns(across) * u64::from(across) * seen(height, down) * u64::from(down);
    let fits =
        |across: u32| (1..=height).find(|&down| columns(across) * seen(height, down) <= most).map(|d| (across, d));
    let rough = u64::from(width) * u64::from(height) / most;
    let candidates = (1..=width.min(rough as u32 + 16)).filter_map(fits);
    candidates.min_by_key(|&piece| cost(piece)).unwrap_or((width, height))
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
    row: Cut,
    step: &(dyn Fn(f64) -> ControlFlow<()> + Sync),
) -> ControlFlow<()> {
    let (w, h) = (column.seen_end - column.seen_start, row.seen_end - row.seen_start);
    let mut rgb = vec![0.0; (w * h * 3) as usize];
    source.read(column.seen_start, row.seen_start, w, h, &mut rgb);
    let tile = padded(Tile { width: w as usize, height: h as usize, rgb }, network.unshuffle());

    let scale = network.scale() as usize;
    let left = (column.start - column.seen_start) as usize * scale;
    let width = (column.end - column.start) as usize * scale;
    let stride = tile.width * scale * 3;
    let (first, last) = ((row.start - row.seen_start) as usize * scale, (row.end - row.seen_start) as usize * scale);
    network.run(&tile, step, &mut |y, rows| {
        let count = rows.len() / stride;
        let (from, to) = (y.max(first), (y + count).min(last));
        if from >= to {
            return;
        }
        let mut part = Vec::with_capacity((to - from) * width * 3);
        for line in rows.chunks_exact(stride).skip(from - y).take(to - from) {
            part.extend_from_slice(&line[left * 3..(left + width) * 3]);
        }
        let y = row.start as usize * scale + from - first;
        sink.write(column.start * network.scale(), y as u32, width as u32, (to - from) as u32, &part);
    })
}

/// Repeats the last row and column until both sides are multiples of `unit`.
fn padded(tile: Tile, unit: usize) -> Tile {
    let (width, height) = (tile.width.next_multiple_of(unit), tile.height.next_multiple_of(unit));
    if (width, height) == (tile.width, tile.height) {
        return tile;
    }
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let line = &tile.rgb[y.min(tile.height - 1) * tile.width * 3..][..tile.width * 3];
        rgb.extend_from_slice(line);
        for _ in tile.width..width {
            rgb.extend_from_slice(&line[line.len() - 3..]);
        }
    }
    Tile { width, height, rgb }
}
