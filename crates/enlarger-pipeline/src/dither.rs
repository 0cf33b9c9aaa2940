//! Photos in few colours, such as GIFs and scans in black and white. What stands in for the colours that they lack, dots of others, makes
//! them look drawn, and networks draw it. Smoothed they look like the photos that they are.

use std::collections::HashSet;

use enlarger_image::{Channels, ImageError, Metadata, Picture, Sample, Samples, with_samples};
use rayon::prelude::*;

use crate::sample::read_luma;

/// The colours that a GIF can have.
const COLOURS: usize = 256;
/// Levels of grey that are few, if there are gaps between them: any grey picture has 256 at most.
const GREYS: usize = 64;
/// Pixels of pictures that have many enough for their colours to be few.
const LEAST: usize = 64 * 64;

/// What a picture in few colours needs, each in rounds of smoothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dither {
    /// To look like the photo that it may be.
    pub to_see: u8,
    /// To be enlarged; 0 where networks clean it better themselves.
    pub to_enlarge: u8,
}

/// What a picture needs whose colours are few.
///
/// Of 12 photos of 240 pixels the classifier took 4 to 12 for drawings, in 256 or 64 colours chosen for each, and none of them smoothed once; of 12
/// in black and white 12, smoothed once 12, twice none. Of 25 drawings and pages in 256 or 64 colours 18 to 22 still look drawn.
///
/// How strong its dots are says whether it is enlarged as it is: nine photos in 256 and 64 colours chosen for each have an SSIMULACRA2 of 13.6 and
/// -1.3 if the networks for damaged photos clean them, and of -3.7 and -12.7 smoothed before; by eye they are as clean, and crisper. In the 216
/// colours of the web their dots stay without smoothing. In black and white, networks draw the dots of dark and light areas, which
/// lie far apart, unless they are smoothed four times.
pub(crate) fn found(picture: &Picture) -> Option<Dither> {
    if picture.channels.has_alpha() || picture.width as usize * picture.height as usize <= LEAST {
        return None;
    }
    match with_samples!(&picture.samples, samples => colours(samples, picture.channels.count())) {
        Some(2) => Some(Dither { to_see: 2, to_enlarge: 4 }),
        Some(3..=COLOURS) if dots(picture).is_ok_and(|dots| dots > STRONG) => Some(Dither { to_see: 2, to_enlarge: 2 }),
        Some(3..=COLOURS) => Some(Dither { to_see: 1, to_enlarge: 0 }),
        _ => None,
    }
}

/// Eighteen photos at 112, 240 and 480 pixels had dots of 10.3/255 and more in the colours of the web; of 16 colours chosen for each three quarters
/// had 5.3 to 6.7 and more, of 64 three quarters had up to 5.4.
const STRONG: f32 = 6.5 / 255.0;

/// How strong the dots of a picture's middle are: the deviation from its smoothed luminance where that is calm, 0..=1.
///
/// # Errors
/// As [`smoothed`].
fn dots(picture: &Picture) -> Result<f32, ImageError> {
    /// Pixels across and down that are looked at.
    const MOST: usize = 1024;
    /// How little more smoothing changes what is calm.
    const CALM: f32 = 2.0 / 255.0;
    let [width, height] = [picture.width, picture.height].map(|side| side as usize);
    let [w, h] = [width, height].map(|side| side.min(MOST));
    let mut line = vec![0.0; width];
    let mut luminance = Vec::with_capacity(w * h);
    for y in 0..h {
        read_luma(picture, (height - h) / 2 + y, &mut line);
        luminance.extend(line[(width - w) / 2..][..w].iter().map(|value| (value * f32::from(u16::MAX)).round() as u16));
    }
    let (channels, samples) = (Channels::Gray, Samples::U16(luminance));
    let middle = Picture { width: w as u32, height: h as u32, channels, samples, metadata: Metadata::default() };
    let once = smoothed(&middle, 1)?;
    let more = smoothed(&once, 2)?;
    let values = |picture: &Picture| -> Vec<f32> {
        with_samples!(&picture.samples, samples => samples.iter().map(|sample| sample.to_float()).collect())
    };
    let [middle, once, more] = [&middle, &once, &more].map(values);
    let calm = middle.iter().zip(&once).zip(&more).filter(|((_, once), more)| (*once - *more).abs() < CALM);
    let (sum, count) = calm.fold((0.0, 0), |(sum, count), ((here, once), _)| (sum + (here - once).powi(2), count + 1));
    Ok(if count < LEAST_CALM { 0.0 } else { (sum / count as f32).sqrt() })
}

/// Fewer calm pixels say nothing of dots.
const LEAST_CALM: usize = 50;

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
    use super::*;

    fn picture(channels: Channels, side: u32, sample: impl Fn(u32) -> u8) -> Picture {
        let count = side * side * channels.count() as u32;
        let samples = Samples::U8((0..count).map(sample).collect());
        Picture { width: side, height: side, channels, samples, metadata: Metadata::default() }
    }

    #[test]
    fn what_has_few_colours_is_seen_smoothed_and_enlarged_so_if_its_dots_are_strong() {
        let of = |channels, side, sample: &dyn Fn(u32) -> u8| {
            found(&picture(channels, side, sample)).map(|dither| (dither.to_see, dither.to_enlarge))
        };
        let (gray, rgb) = (Channels::Gray, Channels::Rgb);
        assert_eq!(of(gray, 80, &|i| if i % 3 == 0 { 255 } else { 0 }), Some((2, 4)));
        // Dots like those of a chess board, strong and weak.
        let dots = |strength| move |i: u32| 100 + strength * ((i + i / 80) % 2) as u8 + (i / 1600) as u8;
        assert_eq!(of(gray, 80, &dots(40)), Some((2, 2)));
        assert_eq!(of(gray, 80, &|i| (100 + i % 40) as u8), None, "a flat grey photo");
        assert_eq!(of(rgb, 80, &|i| if i % 3 == 0 { 90 } else { dots(40)(i / 3) }), Some((2, 2)));
        assert_eq!(of(rgb, 80, &|i| if i % 3 == 0 { 90 } else { dots(12)(i / 3) }), Some((1, 0)));
        assert_eq!(of(gray, 80, &|i| (i % 256) as u8), None, "as many greys as 8 bits hold");
        assert_eq!(of(rgb, 80, &|i| (i % 251) as u8 ^ (i / 700) as u8), None, "many colours");
        assert_eq!(of(gray, 16, &|i| if i % 3 == 0 { 255 } else { 0 }), None, "an icon");
        assert_eq!(of(gray, 80, &|_| 7), None, "one colour");
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
