//! Turning stored pixels upright.

use bytemuck::Zeroable;

use crate::{ImageError, Samples, picture::zeroed};

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
    Ok(match samples {
        Samples::U8(s) => Samples::U8(by_count(s, w, h, n, orientation)?),
        Samples::U16(s) => Samples::U16(by_count(s, w, h, n, orientation)?),
    })
}

fn by_count<T: Copy + Zeroable>(
    samples: Vec<T>,
    w: usize,
    h: usize,
    n: usize,
    orientation: u8,
) -> Result<Vec<T>, ImageError> {
    match n {
        1 => turn::<T, 1>(samples, w, h, orientation),
        2 => turn::<T, 2>(samples, w, h, orientation),
        3 => turn::<T, 3>(samples, w, h, orientation),
        _ => turn::<T, 4>(samples, w, h, orientation),
    }
}

fn turn<T: Copy + Zeroable, const N: usize>(
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

fn transpose<T: Copy + Zeroable, const N: usize>(
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
