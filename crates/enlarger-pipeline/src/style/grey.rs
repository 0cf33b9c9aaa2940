//! Pictures without colour stay grey: networks add some to pupils and noise.

use enlarger_image::Picture;

use super::slab::{change_rows, colours};

/// See [`Filter::Grey`](super::Filter::Grey). The mean, because networks add any colour with equal likelihood.
pub(super) fn grey(picture: &mut Picture) {
    let (height, n) = (picture.height as usize, colours(picture));
    change_rows(picture, 0..height, |_, line| {
        for pixel in line.chunks_exact_mut(n) {
            let mean = pixel.iter().sum::<f32>() / n as f32;
            pixel.fill(mean);
        }
    });
}
