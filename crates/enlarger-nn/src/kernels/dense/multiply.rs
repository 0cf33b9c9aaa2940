//! The product of a block of two matrices: the one loop in which most time is spent.

use crate::kernels::vector::Vector;

/// Left matrices are cut into pieces of this many columns, and results into groups of as many.
pub const PIECE: usize = 16;

/// A left matrix: `[piece][row][PIECE]`, with `apart` values from a piece to the next.
#[derive(Clone, Copy)]
pub struct Left {
    pub at: *const f32,
    pub apart: usize,
}

/// A right matrix: rows `apart` values from each other.
#[derive(Clone, Copy)]
pub struct Right {
    pub at: *const f32,
    pub apart: usize,
}

/// A result: groups of [`PIECE`] columns `groups` values from each other, in rows `rows` values from each other.
#[derive(Clone, Copy)]
pub struct Sums {
    pub at: *mut f32,
    pub rows: usize,
    pub groups: usize,
}

/// What sums begin with.
#[derive(Clone, Copy)]
pub enum Start {
    Zero,
    /// What the result holds.
    Held,
    /// The same for all rows: as many values as the result has columns.
    Row(*const f32),
}

/// The values between two pieces of so many rows. An odd number of cache lines, so that the same place of each piece is
/// in another set of the cache.
pub fn apart(rows: usize) -> usize {
    (rows | 1) * PIECE
}

/// `rows` rows of `groups` groups of columns.
///
/// # Safety
/// The matrices have `depth` columns and rows, the result has room, and the caller has V's instructions.
#[inline(always)]
pub unsafe fn multiply<V: Vector>(
    left: Left,
    right: Right,
    [rows, depth, groups]: [usize; 3],
    sums: Sums,
    start: Start,
) {
    let mut group = 0;
    while group < groups {
        // SAFETY: the caller's promise.
        unsafe {
            let right = Right { at: right.at.add(group * PIECE), ..right };
            let sums = Sums { at: sums.at.add(group * sums.groups), ..sums };
            let start = match start {
                Start::Row(at) => Start::Row(at.add(group * PIECE)),
                other => other,
            };
            let size = [rows, depth];
            // As many sums as there are registers for, beside a row of the right matrix.
            match (V::LANES, groups - group) {
                (16, 1) => tall::<V, 12, 1>(left, right, size, sums, start),
                (16, 3) => tall::<V, 8, 3>(left, right, size, sums, start),
                (16, _) => tall::<V, 12, 2>(left, right, size, sums, start),
                (8, _) => tall::<V, 6, 2>(left, right, size, sums, start),
                _ => tall::<V, 4, 4>(left, right, size, sums, start),
            }
            group += match (V::LANES, groups - group) {
                (16, 3) => 3,
                (16, 2..) => 2,
                _ => 1,
            };
        }
    }
}

/// Brings a cache line near, as the processor does not by itself where rows are cut into pieces. The place may be any.
#[inline(always)]
pub fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it reads nothing, so no place is wrong.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same for a cache line that will be written.
#[inline(always)]
pub fn prefetch_to_write(at: *mut f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it reads and writes nothing, so no place is wrong.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `WIDE` vectors of columns.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn tall<V: Vector, const TALL: usize, const WIDE: usize>(
    left: Left,
    right: Right,
    [rows, depth]: [usize; 2],
    sums: Sums,
    start: Start,
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: the caller's promise.
        unsafe {
            let left = Left { at: left.at.add(row * PIECE), ..left };
            let sums = Sums { at: sums.at.add(row * sums.rows), ..sums };
            if rows - row >= TALL {
                block::<V, TALL, WIDE>(left, right, depth, sums, start);
                row += TALL;
            } else if rows - row >= 4 {
                block::<V, 4, WIDE>(left, right, depth, sums, start);
                row += 4;
            } else {
                block::<V, 1, WIDE>(left, right, depth, sums, start);
                row += 1;
            }
        }
    }
}

/// `TALL` rows, summed in registers.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn block<V: Vector, const TALL: usize, const WIDE: usize>(
    left: Left,
    right: Right,
    depth: usize,
    to: Sums,
    start: Start,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let place = |row: usize, i: usize| {
            let column = i * V::LANES;
            to.at.add(row * to.rows + column / PIECE * to.groups + column % PIECE)
        };
        let mut sums = [[V::splat(0.0); WIDE]; TALL];
        match start {
            Start::Zero => {}
            Start::Held => {
                for t in 0..TALL {
                    for i in 0..WIDE {
                        sums[t][i] = V::load(place(t, i));
                    }
                }
            }
            Start::Row(row) => {
                for i in 0..WIDE {
                    let value = V::load(row.add(i * V::LANES));
                    for t in 0..TALL {
                        sums[t][i] = value;
                    }
                }
            }
        }
        let mut right_at = right.at;
        for piece in 0..depth.div_ceil(PIECE) {
            let left = left.at.add(piece * left.apart);
            for t in 0..TALL {
                // Of the next rows.
                prefetch(left.wrapping_add((TALL + t) * PIECE));
            }
            for c in 0..PIECE.min(depth - piece * PIECE) {
                let row: [V; WIDE] = std::array::from_fn(|i| V::load(right_at.add(i * V::LANES)));
                for t in 0..TALL {
                    let value = V::splat(*left.add(t * PIECE + c));
                    for i in 0..WIDE {
                        sums[t][i] = sums[t][i].fma(value, row[i]);
                    }
                }
                right_at = right_at.add(right.apart);
            }
        }
        for t in 0..TALL {
            for i in 0..WIDE {
                sums[t][i].store(place(t, i));
            }
        }
    }
}

/// Copies `rows` rows of `depth` values, `stride` from each other, into a [`Left`] of as many rows; what is beyond the depth is
/// undefined. Values are multiplied by `scale`.
///
/// # Safety
/// There are as many values, and room for the pieces.
#[inline(always)]
pub unsafe fn pack_left<V: Vector>(
    from: *const f32,
    stride: usize,
    [rows, depth]: [usize; 2],
    scale: f32,
    to: *mut f32,
) -> Left {
    // SAFETY: the caller's promise.
    unsafe {
        let (apart, scale) = (apart(rows), V::splat(scale));
        for row in 0..rows {
            let (from, to) = (from.add(row * stride), to.add(row * PIECE));
            for column in (0..depth / V::LANES * V::LANES).step_by(V::LANES) {
                let to = to.add(column / PIECE * apart + column % PIECE);
                V::load(from.add(column)).mul(scale).store(to);
            }
            let rest = depth / V::LANES * V::LANES;
            if rest < depth {
                let values = super::math::load_some::<V>(from.add(rest), depth - rest);
                values.mul(scale).store(to.add(rest / PIECE * apart + rest % PIECE));
            }
        }
        Left { at: to, apart }
    }
}
