//! Limits a result to colours that its source has at the same place.

use std::ops::RangeInclusive;

use enlarger_image::Picture;

use super::slab::{change_rows, colours, read_colours};

/// What a colour may always lie beyond those around it: rounding of what changes slowly.
const ROUNDING: f32 = 1.0 / 255.0;

/// See [`Filter::Bound`](super::Filter::Bound). `reach` pixels of the source around the four count as well.
pub(super) fn bound(picture: &mut Picture, source: &Picture, over: f32, reach: u32) {
    let (width, height, n) = (picture.width as usize, picture.height as usize, colours(picture));
    let (source_width, source_height, reach) = (source.width as usize, source.height as usize, reach as usize);
    let columns: Vec<usize> = (0..width).map(|x| behind(x, width, source_width)).collect();
    let windows: Vec<_> = (0..=source_width).map(|x| window(x, reach, source_width)).collect();
    change_rows(picture, 0..height, |row, line| {
        let rows = window(behind(row, height, source_height), reach, source_height);
        let mut low = read_colours(source, *rows.start());
        let mut high = low.clone();
        for y in rows.skip(1) {
            for (i, value) in read_colours(source, y).into_iter().enumerate() {
                low[i] = low[i].min(value);
                high[i] = high[i].max(value);
            }
        }
        let limits = |window: &RangeInclusive<usize>, c: usize| {
            let low = window.clone().map(|x| low[x * n + c]).fold(f32::MAX, f32::min);
            let high = window.clone().map(|x| high[x * n + c]).fold(f32::MIN, f32::max);
            let more = over * (high - low) + ROUNDING;
            [low - more, high + more]
        };
        let limits: Vec<[f32; 2]> =
            windows.iter().flat_map(|window| (0..n).map(move |c| (window, c))).map(|(w, c)| limits(w, c)).collect();
        for (pixel, column) in line.chunks_exact_mut(n).zip(&columns) {
            for (colour, [low, high]) in pixel.iter_mut().zip(&limits[column * n..]) {
                *colour = colour.clamp(*low, *high);
            }
        }
    });
}

/// The pixel of a side of `from` whose middle is the first behind that of a pixel of a side of `side`; `from` if there is none.
fn behind(at: usize, side: usize, from: usize) -> usize {
    let place = (at as f64 + 0.5) * from as f64 / side as f64 - 0.5;
    (place.floor() + 1.0).clamp(0.0, from as f64) as usize
}

/// The pixels before and behind such a place, and as many more as `reach` says on both sides.
fn window(behind: usize, reach: usize, from: usize) -> RangeInclusive<usize> {
    behind.saturating_sub(1 + reach)..=(behind + reach).min(from - 1)
}
