//! Direct convolution in plain Rust, for any processor; what the other kernels are compared with.

use rayon::prelude::*;

use super::{Conv, finish::Target};
use crate::map::{BLOCK, View};

/// Pixels and outputs whose sums are kept in registers.
const PIXELS: usize = 4;
const OUTPUTS: usize = 8;

pub fn convolve(conv: &Conv<f32>, sources: &[View<'_, f32>], target: &Target<'_, f32>) {
    (0..target.height).into_par_iter().for_each(|y| {
        let row = target.row(y);
        let at = (target.start + y) as isize;
        for x in (0..target.width.next_multiple_of(BLOCK)).step_by(PIXELS) {
            for output in (0..target.outputs).step_by(OUTPUTS) {
                // SAFETY: outputs are a multiple of `OUTPUTS`.
                let finish = unsafe { target.finish::<[f32; OUTPUTS]>(output) };
                let sums = sums(conv, sources, at, x, output);
                for (p, &sums) in sums.iter().enumerate().take(target.width.saturating_sub(x)) {
                    // SAFETY: the pixel is inside the row, and each row belongs to one task.
                    unsafe { target.put(&row, x + p, &finish, sums) };
                }
            }
        }
    });
}

fn sums(conv: &Conv<f32>, sources: &[View<'_, f32>], y: isize, x: usize, output: usize) -> [[f32; OUTPUTS]; PIXELS] {
    let channels: usize = conv.inputs.iter().sum();
    let group = &conv.weights[output / 16 * channels * 9 * 16..][..channels * 9 * 16];
    let lane = output % 16;
    let mut sums = [[0.0; OUTPUTS]; PIXELS];
    let mut weights = group.chunks_exact(9 * 16);
    for source in sources {
        let c = source.channels;
        let rows: [&[f32]; 3] = std::array::from_fn(|i| &source.row(y + i as isize - 1)[x * c..][..(PIXELS + 2) * c]);
        for (channel, weights) in (0..c).zip(&mut weights) {
            for tap in 0..9 {
                let w: &[f32; OUTPUTS] = weights[tap * 16 + lane..][..OUTPUTS].try_into().expect("as many");
                for (p, sums) in sums.iter_mut().enumerate() {
                    let a = rows[tap / 3][(p + tap % 3) * c + channel];
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum += a * w;
                    }
                }
            }
        }
    }
    sums
}
