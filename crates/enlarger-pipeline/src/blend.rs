//! Blends a piece into a picture without a seam.

use enlarger_image::{Picture, Sample, with_samples};
use rayon::prelude::*;

/// Blends a piece of the same channels and depth into a picture at `start`. It fades within `rim` pixels of its sides,
/// except sides on the picture's border.
pub(crate) fn blend(picture: &mut Picture, piece: &Picture, start: [u32; 2], rim: u32) {
    let n = picture.channels.count();
    let [x, y] = start.map(|start| start as usize);
    let across = weights([x, piece.width as usize, picture.width as usize], rim as usize);
    let down = weights([y, piece.height as usize, picture.height as usize], rim as usize);
    let row = picture.width as usize * n;
    let from = &piece.samples;
    with_samples!(&mut picture.samples, to => lay(&mut to[y * row..], from.of_depth(), [row, x * n, n], &across, &down));
}

/// Weights of a piece's pixels along a side, where it lies `start` from the picture's.
fn weights([start, length, whole]: [usize; 3], rim: usize) -> Vec<f32> {
    let fade = |from_side: usize| ((from_side as f32 + 0.5) / rim as f32).min(1.0);
    (0..length)
        .map(|i| {
            let before = if start == 0 { 1.0 } else { fade(i) };
            let behind = if start + length == whole { 1.0 } else { fade(length - 1 - i) };
            before.min(behind)
        })
        .collect()
}

fn lay<T: Sample>(to: &mut [T], from: &[T], [row, left, n]: [usize; 3], across: &[f32], down: &[f32]) {
    let lines = to.par_chunks_mut(row).zip(from.par_chunks(across.len() * n)).zip(down);
    lines.for_each(|((to, from), down)| {
        for ((to, from), across) in to[left..].chunks_exact_mut(n).zip(from.chunks_exact(n)).zip(across) {
            let share = down.min(*across);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = to.mixed(*from, share));
        }
    });
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    fn grey(width: u32, height: u32, value: u8) -> Picture {
        let samples = Samples::U8(vec![value; (width * height) as usize]);
        Picture { width, height, channels: Channels::Gray, samples, metadata: Metadata::default() }
    }

    #[test]
    fn a_piece_fades_at_its_sides_but_for_those_of_the_picture() {
        let mut picture = grey(20, 10, 0);
        blend(&mut picture, &grey(8, 6, 200), [4, 0], 4);
        let Samples::U8(samples) = &picture.samples else { unreachable!("it has 8 bits") };
        let rows: Vec<&[u8]> = samples.chunks_exact(20).collect();
        assert_eq!(rows[0][3..13], [0, 25, 75, 125, 175, 175, 125, 75, 25, 0]);
        let column: Vec<u8> = rows.iter().map(|row| row[7]).collect();
        assert_eq!(column, [175, 175, 175, 125, 75, 25, 0, 0, 0, 0]);
    }
}
