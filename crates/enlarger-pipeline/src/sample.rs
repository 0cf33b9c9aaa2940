//! Rows of samples as numbers from 0 to 1, and back.

use enlarger_image::{Picture, Sample, luma, with_samples};
use multiversion::multiversion;

/// Many numbers as samples.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn from_floats<T: Sample>(values: &[f32], samples: &mut [T]) {
    samples.iter_mut().zip(values).for_each(|(sample, &value)| *sample = T::from_float(value));
}

/// One row of luminance, 0..=1.
pub(crate) fn read_luma(picture: &Picture, row: usize, line: &mut [f32]) {
    let n = picture.channels.count();
    let range = row * picture.width as usize * n..(row + 1) * picture.width as usize * n;
    with_samples!(&picture.samples, s => weigh(&s[range], n, line));
}

fn weigh<T: Sample>(samples: &[T], n: usize, line: &mut [f32]) {
    for (pixel, value) in samples.chunks_exact(n).zip(line) {
        *value = match pixel {
            [r, g, b, ..] => luma([r, g, b].map(|colour| colour.to_float())),
            _ => pixel[0].to_float(),
        };
    }
}
