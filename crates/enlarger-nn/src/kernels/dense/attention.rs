//! softmax(q k^T / sqrt(width)) v, in blocks of queries and keys, as FlashAttention does (Dao et al. 2022): what was summed so far is
//! scaled when a larger score comes, so no whole row of scores is ever held.

use rayon::prelude::*;

use super::{
    dispatch::{Dense, GoOn, Task, To, with_scratch},
    linear::PANEL,
    math::{Math, exp, fold, store_some},
    multiply::{Left, PIECE, Right, Start, Sums, apart, multiply, pack_left},
};
use crate::error::NnError;

/// Queries of a task.
const QUERIES: usize = 96;
/// Keys at a time: their scores stay in the second-level cache.
const KEYS: usize = 512;
/// The score of a key that is not seen: its weight is nothing beside that of any other.
const HIDDEN: f32 = -3e38;

/// An attention: `q` is `[batch][queries][heads * width]`, `k` and `v` are `[batch][keys][heads * width]`.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Pictures or texts.
    pub batch: usize,
    /// Pixels or tokens that look.
    pub queries: usize,
    /// Pixels or tokens that are looked at.
    pub keys: usize,
    /// Parts of the channels that look on their own.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Whether a query sees no keys behind its own place.
    pub causal: bool,
}

impl Attention {
    fn panels(&self) -> usize {
        self.keys.div_ceil(PANEL)
    }

    /// A head's keys, `[panel][width][PANEL]`.
    fn key_floats(&self) -> usize {
        self.panels() * PANEL * self.width
    }

    /// A head's values, `[keys][width, whole groups]`.
    fn value_floats(&self) -> usize {
        self.keys * self.width.next_multiple_of(PIECE)
    }

    /// Floats that [`Dense::attention`] works in.
    pub fn workspace(&self) -> usize {
        self.batch * self.heads * (self.key_floats() + self.value_floats())
    }

    /// Scratch memory of a task: queries, scores, sums, and for each query its largest score and the sum of its weights.
    fn floats(&self) -> usize {
        let wide = self.width.next_multiple_of(PIECE);
        let keys = self.keys.min(KEYS).next_multiple_of(PANEL);
        apart(QUERIES) * (wide + keys) / PIECE + QUERIES * wide + 2 * QUERIES
    }
}

impl Dense {
    /// Computes an attention; `workspace` is as long as [`Attention::workspace`] says.
    ///
    /// # Errors
    /// [`NnError::Memory`] if a thread has not enough.
    ///
    /// # Panics
    /// If the slices have other sizes.
    pub fn attention(
        self,
        [q, k, v]: [&[f32]; 3],
        shape: &Attention,
        to: &mut [f32],
        workspace: &mut [f32],
        go_on: GoOn<'_>,
    ) -> Result<(), NnError> {
        let Attention { batch, queries, keys, heads, width, .. } = *shape;
        assert!(q.len() == batch * queries * heads * width && to.len() == q.len());
        assert!(k.len() == batch * keys * heads * width && v.len() == k.len() && keys > 0);
        assert!(workspace.len() >= shape.workspace());
        if to.is_empty() {
            return Ok(());
        }
        let (keys_of, values_of) = workspace.split_at_mut(batch * heads * shape.key_floats());
        let values_of = &mut values_of[..batch * heads * shape.value_floats()];
        let pack = keys_of.par_chunks_exact_mut(PANEL * width).enumerate();
        pack.for_each(|(i, to)| {
            let (head, panel) = (i / shape.panels(), i % shape.panels());
            to.fill(0.0);
            for key in 0..PANEL.min(keys - panel * PANEL) {
                let at = ((head / heads * keys + panel * PANEL + key) * heads + head % heads) * width;
                for (to, &value) in to[key..].iter_mut().step_by(PANEL).zip(&k[at..at + width]) {
                    *to = value;
                }
            }
        });
        let wide = width.next_multiple_of(PIECE);
        values_of.par_chunks_exact_mut(wide).enumerate().for_each(|(i, to)| {
            let (head, key) = (i / keys, i % keys);
            let at = ((head / heads * keys + key) * heads + head % heads) * width;
            to[..width].copy_from_slice(&v[at..at + width]);
            to[width..].fill(0.0);
        });
        let (keys_of, values_of, to) = (&*keys_of, &*values_of, To(to.as_mut_ptr()));
        let blocks = queries.div_ceil(QUERIES);
        (0..batch * heads * blocks).into_par_iter().with_max_len(1).try_for_each(|i| {
            if !go_on() {
                return Ok(());
            }
            let (head, first) = (i / blocks, i % blocks * QUERIES);
            let k = &keys_of[head * shape.key_floats()..][..shape.key_floats()];
            let v = &values_of[head * shape.value_floats()..][..shape.value_floats()];
            with_scratch(shape.floats(), |scratch| self.run(Queries { shape, q, k, v, head, first, to, scratch }))
        })
    }
}

/// Some queries of a head.
struct Queries<'a> {
    shape: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    head: usize,
    first: usize,
    to: To,
    scratch: *mut f32,
}

impl Task for Queries<'_> {
    #[inline(always)]
    unsafe fn run<V: Math>(self) {
        let Self { shape, q, k, v, head, first, to, scratch } = self;
        let &Attention { queries, keys, heads, width, causal, .. } = shape;
        let rows = QUERIES.min(queries - first);
        let wide = width.next_multiple_of(PIECE);
        let at = ((head / heads * queries + first) * heads + head % heads) * width;
        let apart = apart(rows);
        // SAFETY: the scratch memory is as `floats` says; slices have the sizes that `attention` checked, and no other task has
        // the same queries of the same head.
        unsafe {
            let scores = scratch.add(apart * wide / PIECE);
            let sums = scores.add(apart * keys.min(KEYS).next_multiple_of(PANEL) / PIECE);
            let largest = sums.add(QUERIES * wide);
            let weight = largest.add(QUERIES);
            for row in 0..rows {
                largest.add(row).write(HIDDEN);
                weight.add(row).write(0.0);
            }
            let q =
                pack_left::<V>(q.as_ptr().add(at), heads * width, [rows, width], 1.0 / (width as f32).sqrt(), scratch);
            for start in (0..keys).step_by(KEYS) {
                if causal && start >= first + rows {
                    break;
                }
                let count = KEYS.min(keys - start);
                for panel in (0..count).step_by(PANEL) {
                    let right = Right { at: k.as_ptr().add((start + panel) * width), apart: PANEL };
                    let to = Sums { at: scores.add(panel / PIECE * apart), rows: PIECE, groups: apart };
                    multiply::<V>(q, right, [rows, width, PANEL / PIECE], to, Start::Zero);
                }
                for row in 0..rows {
                    let scores = scores.add(row * PIECE);
                    let seen = if causal { (first + row + 1).saturating_sub(start).min(count) } else { count };
                    for key in seen..count.next_multiple_of(PIECE) {
                        scores.add(key / PIECE * apart + key % PIECE).write(HIDDEN);
                    }
                    let factor = soften::<V>(scores, apart, count.div_ceil(PIECE), largest.add(row), weight.add(row));
                    if start > 0 && factor != 1.0 {
                        for column in (0..wide).step_by(V::LANES) {
                            let sum = sums.add(row * wide + column);
                            V::load(sum).mul(V::splat(factor)).store(sum);
                        }
                    }
                }
                let left = Left { at: scores, apart };
                let right = Right { at: v.as_ptr().add(start * wide), apart: wide };
                let to = Sums { at: sums, rows: wide, groups: PIECE };
                let begin = if start > 0 { Start::Held } else { Start::Zero };
                multiply::<V>(left, right, [rows, count, wide / PIECE], to, begin);
            }
            for row in 0..rows {
                let over = V::splat(1.0 / *weight.add(row));
                for column in (0..width).step_by(V::LANES) {
                    let values = V::load(sums.add(row * wide + column)).mul(over);
                    let to = to.at(at + row * heads * width + column);
                    store_some(values, to, V::LANES.min(width - column));
                }
            }
        }
    }
}

/// Makes weights of a row of scores, `pieces` pieces of it; returns what earlier weights are to be multiplied by.
///
/// # Safety
/// There are as many pieces, and the caller has V's instructions.
#[inline(always)]
unsafe fn soften<V: Math>(scores: *mut f32, apart: usize, pieces: usize, largest: *mut f32, weight: *mut f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let before = *largest;
        let mut most = V::splat(before);
        for piece in 0..pieces {
            for lane in (0..PIECE).step_by(V::LANES) {
                most = most.max(V::load(scores.add(piece * apart + lane)));
            }
        }
        let most = fold(most, f32::max);
        let mut sum = V::splat(0.0);
        let minus = V::splat(-most);
        for piece in 0..pieces {
            for lane in (0..PIECE).step_by(V::LANES) {
                let at = scores.add(piece * apart + lane);
                let value = exp(V::load(at).add(minus));
                value.store(at);
                sum = sum.add(value);
            }
        }
        let factor = exp(V::splat(before - most));
        let factor = fold(factor, |a, _| a);
        *weight = *weight * factor + fold(sum, |a, b| a + b);
        *largest = most;
        factor
    }
}
