//! Turning stored pixels upright.

use crate::{ImageError, Sample, Samples, picture::zeroed, with_samples};

/// Side of the squares in which a picture is turned: what a square touches fits into the first-level cache.
const SQUARE: usize = 32;

/// Turns pixels upright. `width` and `height` are those stored, `n` is samples per pixel, `orientation` is EXIF's, 1..=8.
/// 5..=8 swap width and height, and take a second buffer.
pub(crate) fn upright(
    samples: Samples,
    width: u32,
    height: u32,
    n: usize,
    orientation: u8,
) -> Result<Samples, ImageError> {
    let (w, h) = (width as usize, height as usize);
    Ok(with_samples!(samples, s => match n {
        1 => turn::<_, 1>(s, w, h, orientation),
        2 => turn::<_, 2>(s, w, h, orientation),
        3 => turn::<_, 3>(s, w, h, orientation),
        _ => turn::<_, 4>(s, w, h, orientation),
    }?
    .into()))
}

fn turn<T: Sample, const N: usize>(
    mut samples: Vec<T>,
    w: usize,
    h: usize,
    orientation: u8,
) -> Result<Vec<T>, ImageError> {
    let (pixels, _) = samples.as_chunks_mut::<N>();
    match orientation {
        2 => pixels.chunks_exact_mut(w).for_each(<[_]>::reverse),
        3 => pixels.reverse(),
        4 => {
            for y in 0..h / 2 {
                let (top, bottom) = pixels.split_at_mut((h - 1 - y) * w);
                top[y * w..(y + 1) * w].swap_with_slice(&mut bottom[..w]);
            }
        }
        // In the upright picture, of width h: x and y of the stored pixel that lies at (x, y).
        5 => return transpose::<T, N>(pixels, w, h, |x, y| (y, x)),
        6 => return transpose::<T, N>(pixels, w, h, |x, y| (y, h - 1 - x)),
        7 => return transpose::<T, N>(pixels, w, h, |x, y| (w - 1 - y, h - 1 - x)),
        8 => return transpose::<T, N>(pixels, w, h, |x, y| (w - 1 - y, x)),
        _ => {}
    }
    Ok(samples)
}

fn transpose<T: Sample, const N: usize>(
    stored: &[[T; N]],
    w: usize,
    h: usize,
    from: impl Fn(usize, usize) -> (usize, usize),
) -> Result<Vec<T>, ImageError> {
    let mut out = zeroed((stored.len() * N) as u64)?;
    let (upright, _) = out.as_chunks_mut::<N>();
    for top in (0..w).step_by(SQUARE) {
        for left in (0..h).step_by(SQUARE) {
            for y in top..(top + SQUARE).min(w) {
                for x in left..(left + SQUARE).min(h) {
                    let (sx, sy) = from(x, y);
                    upright[y * h + x] = stored[sy * w + sx];
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF 2.3, section 4.6.4: which corner of what is seen the first stored row and column lie at.
    #[test]
    fn stored_pixels_are_turned_as_exif_says() {
        // Stored: a b c
        //         d e f
        let cases = ["abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"];
        for (orientation, expected) in (1..).zip(cases) {
            for n in 1..=4 {
                let repeated = |letters: &str| letters.bytes().flat_map(|letter| vec![letter; n]).collect::<Vec<_>>();
                let stored = Samples::from(repeated("abcdef"));
                let turned = upright(stored, 3, 2, n, orientation).expect("there is room");
                assert_eq!(turned, Samples::from(repeated(expected)), "orientation {orientation}, {n} samples");
            }
        }
    }

    #[test]
    fn pictures_larger_than_a_square_are_turned_whole() {
        let (w, h) = (2 * SQUARE + 3, SQUARE + 5);
        let stored: Vec<u16> = (0..w * h).map(|i| i as u16).collect();
        let turned = upright(stored.clone().into(), w as u32, h as u32, 1, 6).expect("there is room");
        let turned = turned.as_slice::<u16>().expect("the depth stays");
        // A quarter clockwise: the first row becomes the last column.
        assert!((0..w).all(|x| turned[x * h + h - 1] == stored[x]));
        let back = upright(turned.to_vec().into(), h as u32, w as u32, 1, 8).expect("there is room");
        assert_eq!(back, stored.into());
    }
}
