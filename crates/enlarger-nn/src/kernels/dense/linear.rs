//! Linear layers.

use rayon::prelude::*;

use super::{
    Dense, GoOn, Task, To,
    math::{Math, store_some},
    multiply::{PIECE, Right, Start, Sums, apart, multiply, pack_left},
    with_scratch,
};

/// Outputs that weights are stored side by side of.
pub const PANEL: usize = 32;
/// The most rows of a task: with [`DEEP`] inputs each they stay in the second-level cache.
const ROWS: usize = 256;
/// Inputs that are multiplied at once.
const DEEP: usize = 256;
/// Outputs of a task, whole panels.
const OUTPUTS: usize = 4 * PANEL;

/// Weights of a linear layer, or of a convolution: `[panel of 32 outputs][input][32]`, the outputs of the last panel padded with
/// anything. The inputs of a 3x3 convolution are `[channel][row][column]`.
pub struct Matrix<'a> {
    /// Rows of the weights.
    pub outputs: usize,
    /// Columns of the weights.
    pub inputs: usize,
    /// Widens values, in the order above, from one on.
    pub widen: &'a (dyn Fn(usize, &mut [f32]) + Sync),
    /// One for each output.
    pub bias: Option<&'a [f32]>,
}

impl Dense {
    /// A linear layer on each row of `x`, `[rows][inputs]`; `to` is `[rows][outputs]`.
    ///
    /// # Panics
    /// If the slices have other sizes.
    pub fn linear(self, x: &[f32], w: &Matrix<'_>, to: &mut [f32], go_on: GoOn<'_>) {
        assert!(w.inputs > 0 && w.outputs > 0 && w.bias.is_none_or(|b| b.len() == w.outputs));
        let rows = x.len() / w.inputs;
        assert!(x.len() == rows * w.inputs && to.len() == rows * w.outputs);
        if rows == 0 {
            return;
        }
        // Blocks of about the same number of rows, whole ones of registers.
        let each = rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(12).min(rows);
        let across = w.outputs.div_ceil(OUTPUTS);
        let place = To(to.as_mut_ptr());
        (0..rows.div_ceil(each) * across).into_par_iter().with_max_len(1).for_each(|i| {
            if !go_on() {
                return;
            }
            let (first, output) = (i / across * each, i % across * OUTPUTS);
            let rows = each.min(rows - first);
            with_scratch(Block::floats(rows, w.inputs), |scratch| {
                self.run(Block { x, w, to: place, first, rows, output, scratch });
            });
        });
    }
}

/// Some rows and outputs.
struct Block<'a> {
    x: &'a [f32],
    w: &'a Matrix<'a>,
    to: To,
    first: usize,
    rows: usize,
    output: usize,
    scratch: *mut f32,
}

impl Block<'_> {
    /// The scratch memory: rows of the left matrix, a panel of the right one, and outputs that do not fill a group.
    fn floats(rows: usize, inputs: usize) -> usize {
        let deep = DEEP.min(inputs);
        apart(rows) * deep.div_ceil(PIECE) + deep * PANEL + rows * PIECE + PIECE
    }
}

impl Task for Block<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { x, w, to, first, rows, output, scratch } = self;
        let Matrix { outputs, inputs, .. } = *w;
        let deep = DEEP.min(inputs);
        let end = (output + OUTPUTS).min(outputs);
        let rest = end % PIECE;
        // SAFETY: rows and outputs are inside the slices, as `linear` checked, and no other task has the same; the scratch
        // memory is as `floats` says.
        unsafe {
            let panel = scratch.add(apart(rows) * deep.div_ceil(PIECE));
            let sums_of_rest = panel.add(deep * PANEL);
            let bias_of_rest = sums_of_rest.add(rows * PIECE);
            for i in 0..PIECE {
                let bias = w.bias.filter(|_| i < rest).map_or(0.0, |b| b[end - rest + i]);
                bias_of_rest.add(i).write(bias);
            }
            for input in (0..inputs).step_by(deep) {
                let depth = deep.min(inputs - input);
                let from = x.as_ptr().add(first * inputs + input);
                let left = pack_left::<V>(from, inputs, [rows, depth], 1.0, scratch);
                for output in (output..end).step_by(PANEL) {
                    (w.widen)(
                        (output / PANEL * inputs + input) * PANEL,
                        std::slice::from_raw_parts_mut(panel, depth * PANEL),
                    );
                    let right = Right { at: panel, apart: PANEL };
                    let groups = (end - output).min(PANEL) / PIECE;
                    let sums = Sums { at: to.at(first * outputs + output), rows: outputs, groups: PIECE };
                    let start = match w.bias {
                        _ if input > 0 => Start::Held,
                        Some(bias) => Start::Row(bias.as_ptr().add(output)),
                        None => Start::Zero,
                    };
                    multiply::<V>(left, right, [rows, depth, groups], sums, start);
                    if (end - output).min(PANEL) % PIECE > 0 {
                        let right = Right { at: panel.add(groups * PIECE), ..right };
                        let sums = Sums { at: sums_of_rest, rows: PIECE, groups: 0 };
                        let start = if input > 0 { Start::Held } else { Start::Row(bias_of_rest) };
                        multiply::<V>(left, right, [rows, depth, 1], sums, start);
                    }
                }
            }
            if rest > 0 {
                for row in 0..rows {
                    for lane in (0..rest).step_by(V::LANES) {
                        let values = V::load(sums_of_rest.add(row * PIECE + lane));
                        let to = to.at((first + row) * outputs + end - rest + lane);
                        store_some(values, to, V::LANES.min(rest - lane));
                    }
                }
            }
        }
    }
}
