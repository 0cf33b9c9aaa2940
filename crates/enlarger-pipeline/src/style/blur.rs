//! Gaussian and box means of buffers of rows. Beyond its edges a buffer repeats its last values.

use rayon::prelude::*;

/// Rows (and columns) that a Gaussian of this deviation looks at on each side.
pub(super) fn reach(sigma: f32) -> usize {
    (3.0 * sigma).ceil() as usize
}

/// A Gaussian of this deviation in pixels, cut off at three deviations: `2 * reach + 1` weights whose sum is 1.
pub(super) fn kernel(sigma: f32) -> Vec<f32> {
    let r = reach(sigma) as i64;
    let mut kernel: Vec<f32> = (-r..=r).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    kernel
}

/// A row's convolution with a kernel.
pub(super) fn across(line: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; line.len()];
    let padded = padded(line, kernel.len() / 2);
    for (i, k) in kernel.iter().enumerate() {
        for (o, v) in out.iter_mut().zip(&padded[i..]) {
            *o += k * v;
        }
    }
    out
}

/// Convolution with a Gaussian of this deviation in pixels, see [`kernel`].
pub(super) fn gaussian(values: &[f32], width: usize, sigma: f32) -> Vec<f32> {
    let kernel = kernel(sigma);
    let wide: Vec<f32> = values.par_chunks(width).flat_map_iter(|line| across(line, &kernel)).collect();
    down(&wide, width, reach(sigma) as i64, |out, rows| {
        for (k, row) in kernel.iter().zip(rows) {
            for (o, v) in out.iter_mut().zip(*row) {
                *o += k * v;
            }
        }
    })
}

/// Means of squares of `2 r + 1` pixels, in time that does not depend on `r`.
pub(super) fn mean(values: &[f32], width: usize, r: usize) -> Vec<f32> {
    let height = values.len() / width;
    let scale = 1.0 / (2 * r + 1) as f32;
    let mut across = vec![0.0; values.len()];
    across.par_chunks_mut(width).zip(values.par_chunks(width)).for_each(|(out, line)| {
        let padded = padded(line, r);
        // f64: a running sum must not drift along a wide row.
        let mut sum: f64 = padded[..2 * r].iter().map(|&v| f64::from(v)).sum();
        for (x, o) in out.iter_mut().enumerate() {
            sum += f64::from(padded[x + 2 * r]);
            *o = sum as f32 * scale;
            sum -= f64::from(padded[x]);
        }
    });
    let row = |y: i64| &across[y.clamp(0, height as i64 - 1) as usize * width..][..width];
    let mut out = vec![0.0; values.len()];
    // Columns in groups, so that threads share the work and lines of cache are used whole.
    const COLUMNS: usize = 64;
    let groups: Vec<usize> = (0..width).step_by(COLUMNS).collect();
    let done: Vec<Vec<f32>> = groups
        .par_iter()
        .map(|&x| {
            let n = COLUMNS.min(width - x);
            let mut sums = vec![0.0f64; n];
            let mut add = |y: i64, sign: f64| {
                for (s, &v) in sums.iter_mut().zip(&row(y)[x..x + n]) {
                    *s += sign * f64::from(v);
                }
                sums.clone()
            };
            let r = r as i64;
            (-r..r).for_each(|y| drop(add(y, 1.0)));
            let mut part = Vec::with_capacity(n * height);
            for y in 0..height as i64 {
                part.extend(add(y + r, 1.0).iter().map(|&s| s as f32 * scale));
                add(y - r, -1.0);
            }
            part
        })
        .collect();
    for (&x, part) in groups.iter().zip(&done) {
        let n = COLUMNS.min(width - x);
        for (line, values) in out.chunks_exact_mut(width).zip(part.chunks_exact(n)) {
            line[x..x + n].copy_from_slice(values);
        }
    }
    out
}

/// Makes each row from the `2 r + 1` rows around it.
fn down(values: &[f32], width: usize, r: i64, make: impl Fn(&mut [f32], &[&[f32]]) + Sync) -> Vec<f32> {
    let last = (values.len() / width) as i64 - 1;
    let mut out = vec![0.0; values.len()];
    out.par_chunks_mut(width).enumerate().for_each(|(y, line)| {
        let rows: Vec<&[f32]> =
            (-r..=r).map(|i| &values[(y as i64 + i).clamp(0, last) as usize * width..][..width]).collect();
        make(line, &rows);
    });
    out
}

fn padded(line: &[f32], r: usize) -> Vec<f32> {
    let mut padded = Vec::with_capacity(line.len() + 2 * r);
    padded.extend(std::iter::repeat_n(line[0], r));
    padded.extend_from_slice(line);
    padded.extend(std::iter::repeat_n(line[line.len() - 1], r));
    padded
}
