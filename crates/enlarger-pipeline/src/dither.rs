//! Photos in few colours, such as GIFs and scans in black and white. What stands in for the colours that they lack, dots of others, makes
//! them look drawn, and networks draw it. Smoothed they look like the photos that they are.

use std::collections::HashSet;

use enlarger_image::{ImageError, Picture, Sample, with_samples};
use rayon::prelude::*;

/// The colours that a GIF can have.
const COLOURS: usize = 256;
/// Levels of grey that are few, if there are gaps between them: any grey picture has 256 at most.
const GREYS: usize = 64;
/// Pixels of pictures that have many enough for their colours to be few.
const LEAST: usize = 64 * 64;

/// How often a picture is to be smoothed to look like the photo that it may be; 0 if its colours are many. Of 12 photos of 240 pixels the classifier
/// took 4 to 12 for drawings, in 256 or 64 colours chosen for each or in 216 for all, and none of them smoothed once; of 12 in black and white 12,
/// smoothed once 12, twice none. Of 25 drawings and pages in 256 or 64 colours 18 to 22 still look drawn. In black and white, networks draw the dots
/// of dark and light areas, which lie far apart, unless they are smoothed four times.
pub(crate) fn rounds(picture: &Picture) -> u8 {
    if picture.channels.has_alpha() || picture.width as usize * picture.height as usize <= LEAST {
        return 0;
    }
    match with_samples!(&picture.samples, samples => colours(samples, picture.channels.count())) {
        Some(2) => 4,
        Some(3..=COLOURS) => 1,
        _ => 0,
    }
}

/// How many there are, `None` if they are not few.
fn colours<T: Sample>(samples: &[T], channels: usize) -> Option<usize> {
    let mut colours = HashSet::new();
    let is_grey = |pixel: &[T]| pixel.iter().all(|sample| *sample == pixel[0]);
    for pair in samples.chunks_exact(channels) {
        if colours.insert(pair) && colours.len() > COLOURS {
            return None;
        }
    }
    if !colours.iter().all(|colour| is_grey(colour)) {
        return Some(colours.len());
    }
    let levels = || colours.iter().map(|colour| (colour[0].value() * 255 / T::MAX.value()) as usize);
    let span = levels().max()? - levels().min()? + 1;
    (colours.len() <= GREYS && 2 * colours.len() <= span).then_some(colours.len())
}

/// An opaque picture after so many rounds of averaging each pixel with its neighbours, by the weights 1, 2 and 1 across and down.
///
/// # Errors
/// [`ImageError::OutOfMemory`] if there is no memory for a copy.
pub(crate) fn smoothed(picture: &Picture, rounds: u8) -> Result<Picture, ImageError> {
    let mut smooth = picture.try_clone()?;
    for _ in 0..rounds {
        let from = smooth.try_clone()?;
        let (row, n) = (picture.width as usize * picture.channels.count(), picture.channels.count());
        with_samples!(&mut smooth.samples, to => smooth_samples(&from, to, row, n));
    }
    Ok(smooth)
}

fn smooth_samples<T: Sample>(from: &Picture, to: &mut [T], row: usize, n: usize) {
    let height = from.height as usize;
    to.par_chunks_exact_mut(row).enumerate().for_each(|(y, to)| {
        let lines = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
        let sums: Vec<u32> = with_samples!(&from.samples, samples => {
            let [above, here, below] = lines.map(|y| &samples[y * row..][..row]);
            (0..row).map(|i| above[i].value() + 2 * here[i].value() + below[i].value()).collect()
        });
        for (i, sample) in to.iter_mut().enumerate() {
            let left = if i < n { i } else { i - n };
            let right = if i + n < row { i + n } else { i };
            *sample = T::from_ratio((sums[left] + 2 * sums[i] + sums[right] + 8) / 16, T::MAX.value());
        }
    });
}

#[cfg(test)]
mod tests {
    use enlarger_image::{Channels, Metadata, Samples};

    use super::*;

    fn picture(channels: Channels, side: u32, sample: impl Fn(u32) -> u8) -> Picture {
        let count = side * side * channels.count() as u32;
        let samples = Samples::U8((0..count).map(sample).collect());
        Picture { width: side, height: side, channels, samples, metadata: Metadata::default() }
    }

    #[test]
    fn what_has_few_colours_is_smoothed_and_black_and_white_most() {
        assert_eq!(rounds(&picture(Channels::Gray, 80, |i| if i % 3 == 0 { 255 } else { 0 })), 4);
        assert_eq!(rounds(&picture(Channels::Gray, 80, |i| (i % 16 * 17) as u8)), 1);
        assert_eq!(rounds(&picture(Channels::Rgb, 80, |i| (i % 200) as u8)), 1);
        assert_eq!(rounds(&picture(Channels::Gray, 80, |i| (i % 256) as u8)), 0, "as many greys as 8 bits hold");
        assert_eq!(rounds(&picture(Channels::Gray, 80, |i| (100 + i % 40) as u8)), 0, "a flat grey photo");
        assert_eq!(rounds(&picture(Channels::Rgb, 80, |i| (i % 251) as u8 ^ (i / 700) as u8)), 0, "many colours");
        assert_eq!(rounds(&picture(Channels::Gray, 16, |i| if i % 3 == 0 { 255 } else { 0 })), 0, "an icon");
        assert_eq!(rounds(&picture(Channels::Gray, 80, |_| 7)), 0, "one colour");
    }

    #[test]
    fn smoothing_averages_by_binomial_weights_and_keeps_the_sum() {
        let dot = |i| if i == 12 { 160 } else { 0 };
        let Samples::U8(once) = smoothed(&picture(Channels::Gray, 5, dot), 1).expect("there is room").samples else {
            unreachable!("it has 8 bits")
        };
        assert_eq!(once[6..9], [10, 20, 10]);
        assert_eq!(once[11..14], [20, 40, 20]);
        assert_eq!(once.iter().map(|&v| u32::from(v)).sum::<u32>(), 160);
        let flat = picture(Channels::Rgb, 7, |i| (i % 3 * 50) as u8);
        assert!(smoothed(&flat, 2).expect("there is room").samples == flat.samples);
    }
}
