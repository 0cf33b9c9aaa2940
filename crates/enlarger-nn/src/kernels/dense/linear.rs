//! Linear layers.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    dispatch::{Dense, GoOn, Task, To, with_scratch},
    math::{Math, store_some},
    multiply::{PIECE, Right, Start, Sums, apart, multiply, pack_left},
};
use crate::{error::NnError, kernels::vector::Vector};

/// Outputs that weights are stored side by side of.
pub const PANEL: usize = 32;
/// The most rows of a task: with [`DEEP`] inputs each they stay in the second-level cache.
const ROWS: usize = 256;
/// Inputs that are multiplied at once.
const DEEP: usize = 192;
/// Outputs of a task, whole panels.
const OUTPUTS: usize = 4 * PANEL;

/// Weights of a linear layer, or of a convolution: `[panel of 32 outputs][input][32]`, the outputs of the last panel padded with
/// anything. The inputs of a 3x3 convolution are `[channel][row][column]`.
pub struct Matrix<'a> {
    /// Rows of the weights.
    pub outputs: usize,
    /// Columns of the weights.
    pub inputs: usize,
    /// Values in the order above.
    pub weights: Weights<'a>,
    /// One for each output.
    pub bias: Option<&'a [f32]>,
}

/// Values in the format of their file.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// IEEE 16 bits.
    F16(&'a [f16]),
    /// The upper half of 32 bits.
    Bf16(&'a [bf16]),
    /// 8 bits, and what each means.
    Bytes(&'a [u8], &'a [f32; 256]),
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Bytes(values, _) => values.len(),
        }
    }

    /// `count` values from `start` on, in 32 bits: where they are, or in `scratch`.
    ///
    /// # Safety
    /// The caller has V's instructions; there is room.
    #[inline(always)]
    pub(super) unsafe fn widened<V: Vector>(&self, start: usize, count: usize, scratch: *mut f32) -> *const f32 {
        let range = start..start + count;
        match self {
            Self::F32(values) => return values[range].as_ptr(),
            Self::F16(values) => {
                let values = &values[range];
                // Panels are whole vectors.
                for at in (0..count / V::LANES * V::LANES).step_by(V::LANES) {
                    // SAFETY: inside the slice; the caller's promise.
                    unsafe { V::load_f16(values.as_ptr().add(at)).store(scratch.add(at)) };
                }
            }
            Self::Bf16(values) => {
                for (i, value) in values[range].iter().enumerate() {
                    // SAFETY: the caller's promise, here and below.
                    unsafe { scratch.add(i).write(f32::from_bits(u32::from(value.to_bits()) << 16)) };
                }
            }
            Self::Bytes(values, meaning) => {
                for (i, &value) in values[range].iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { scratch.add(i).write(meaning[usize::from(value)]) };
                }
            }
        }
        scratch
    }
}

impl Matrix<'_> {
    pub(super) fn check(&self) {
        assert!(self.inputs > 0 && self.outputs > 0 && self.bias.is_none_or(|b| b.len() == self.outputs));
        assert_eq!(self.weights.len(), self.outputs.next_multiple_of(PANEL) * self.inputs);
    }
}

impl Dense {
    /// A linear layer on each row of `x`, `[rows][inputs]`; `to` is `[rows][outputs]`.
    ///
    /// # Errors
    /// [`NnError::Memory`] if a thread has not enough.
    ///
    /// # Panics
    /// If the slices have other sizes.
    pub fn linear(self, x: &[f32], w: &Matrix<'_>, to: &mut [f32], go_on: GoOn<'_>) -> Result<(), NnError> {
        w.check();
        let rows = x.len() / w.inputs;
        assert!(x.len() == rows * w.inputs && to.len() == rows * w.outputs);
        if rows == 0 {
            return Ok(());
        }
        // Blocks of about the same number of rows, whole ones of registers.
        let each = rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(12).min(rows);
        let across = w.outputs.div_ceil(OUTPUTS);
        let place = To(to.as_mut_ptr());
        (0..rows.div_ceil(each) * across).into_par_iter().with_max_len(1).try_for_each(|i| {
            if !go_on() {
                return Ok(());
            }
            let (first, output) = (i / across * each, i % across * OUTPUTS);
            let rows = each.min(rows - first);
            with_scratch(Block::floats(rows, w.inputs), |scratch| {
                self.run(Block { x, w, to: place, first, rows, output, scratch });
            })
        })
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
                    let at = (output / PANEL * inputs + input) * PANEL;
                    let weights = w.weights.widened::<V>(at, depth * PANEL, panel);
                    let right = Right { at: weights, apart: PANEL };
                    let groups = (end - output).min(PANEL) / PIECE;
                    let sums = Sums { at: to.at(first * outputs + output), rows: outputs, groups: PIECE };
                    let start = match w.bias {
                        _ if input > 0 => Start::Held,
                        Some(bias) => Start::Row(bias.as_ptr().add(output)),
                        None => Start::Zero,
                    };
                    multiply::<V>(left, right, [rows, depth, groups], sums, start);
                    if (end - output).min(PANEL) % PIECE > 0 {
                        let right = Right { at: weights.add(groups * PIECE), ..right };
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
