//! Limits a result to colours that its source has at the same place.

use enlarger_image::Picture;

use super::slab::{change_rows, colours, read_colours};

/// What a colour may always lie beyond those around it: rounding of what changes slowly.
const ROUNDING: f32 = 1.0 / 255.0;

/// See [`Filter::Bound`](super::Filter::Bound).
pub(super) fn bound(picture: &mut Picture, source: &Picture, over: f32) {
    let (width, height, n) = (picture.width as usize, picture.height as usize, colours(picture));
    let columns: Vec<[usize; 2]> = (0..width).map(|x| around(x, width, source.width as usize)).collect();
    change_rows(picture, 0..height, |row, line| {
        let rows = around(row, height, source.height as usize).map(|y| read_colours(source, y));
        for (pixel, columns) in line.chunks_exact_mut(n).zip(&columns) {
            for (c, colour) in pixel.iter_mut().enumerate() {
                let corners = columns.map(|x| rows.each_ref().map(|row| row[x * n + c])).concat();
                let low = corners.iter().copied().fold(f32::MAX, f32::min);
                let high = corners.iter().copied().fold(f32::MIN, f32::max);
                let more = over * (high - low) + ROUNDING;
                *colour = colour.clamp(low - more, high + more);
            }
        }
    });
}

/// The two pixels of a side of `from` between whose middles a pixel's of a side of `side` lies.
fn around(at: usize, side: usize, from: usize) -> [usize; 2] {
    let place = (at as f64 + 0.5) * from as f64 / side as f64 - 0.5;
    [0.0, 1.0].map(|next| (place.floor() + next).clamp(0.0, from as f64 - 1.0) as usize)
}
