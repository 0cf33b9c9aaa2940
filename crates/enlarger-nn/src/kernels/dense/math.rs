//! Vectors for functions of single values, and those functions.

use crate::kernels::vector::Vector;

/// Vectors for functions of single values.
///
/// # Safety
/// As for [`Vector`].
pub trait Math: Vector {
    /// Cuts to a range; what is NaN stays so.
    unsafe fn clamp(self, low: f32, high: f32) -> Self;
    /// Moves bits 23 places up, to where the exponent is.
    unsafe fn exponent(self) -> Self;
    /// `self / divisor` within 2^-23 of its size, where the divisor is 1 to 2^126.
    #[inline(always)]
    unsafe fn over(self, divisor: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.div(divisor) }
    }
}

impl<const N: usize> Math for [f32; N] {
    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        self.map(|v| v.clamp(low, high))
    }
    #[inline(always)]
    unsafe fn exponent(self) -> Self {
        self.map(|v| f32::from_bits(v.to_bits() << 23))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Math, Vector};

    // `max` and `min` give the second if one is NaN.
    impl Math for __m256 {
        #[inline(always)]
        unsafe fn clamp(self, low: f32, high: f32) -> Self {
            // SAFETY: the caller's promise.
            unsafe { Self::splat(high).min(Self::splat(low).max(self)) }
        }
        #[inline(always)]
        unsafe fn exponent(self) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self))) }
        }
    }

    impl Math for __m512 {
        #[inline(always)]
        unsafe fn clamp(self, low: f32, high: f32) -> Self {
            // SAFETY: the caller's promise.
            unsafe { Self::splat(high).min(Self::splat(low).max(self)) }
        }
        #[inline(always)]
        unsafe fn exponent(self) -> Self {
            // SAFETY: the caller's promise.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self))) }
        }
        // A division takes 16 cycles. A reciprocal of 14 bits, and a step of Newton's method.
        #[inline(always)]
        unsafe fn over(self, divisor: Self) -> Self {
            // SAFETY: the caller's promise.
            unsafe {
                let near = _mm512_rcp14_ps(divisor);
                self.mul(_mm512_fmadd_ps(near, _mm512_fnmadd_ps(divisor, near, Self::splat(1.0)), near))
            }
        }
    }
}

/// e^x within 1e-6 of its size; of less than -87.3 and more than 88.3, what it is there.
///
/// x is n ln 2 + r with |r| at most ln 2 / 2, and e^r its Taylor polynomial, whose next term is less than 6e-9.
///
/// # Safety
/// The caller has V's instructions, here and below.
#[inline(always)]
pub unsafe fn exp<V: Math>(x: V) -> V {
    /// Adding it leaves no bits behind the point.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    // SAFETY: the caller's promise.
    unsafe {
        let x = x.clamp(-87.3, 88.3);
        let n = V::splat(ROUND).fma(x, V::splat(std::f32::consts::LOG2_E)).sub(V::splat(ROUND));
        let r = x.fma(n, V::splat(-HIGH)).fma(n, V::splat(-LOW));
        let mut sum = V::splat(1.0 / 5040.0);
        for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = V::splat(factor).fma(sum, r);
        }
        // 2^23 + 127 + n has the exponent's bits lowest.
        sum.mul(n.add(V::splat(8_388_608.0 + 127.0)).exponent())
    }
}

/// x Phi(x).
///
/// erfc(u) is e^(-u^2) t p(t), t = 1 / (1 + 0.35 u), the form of Hastings (1955, "Approximations for Digital Computers"); p was
/// fitted to scipy's `erfcx` for u up to 7, within 3e-8 of its size.
#[inline(always)]
pub unsafe fn gelu<V: Math>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(0.0);
        let size = x.max(zero.sub(x));
        let t = V::splat(1.0).div(V::splat(1.0).fma(size, V::splat(0.35 * std::f32::consts::FRAC_1_SQRT_2)));
        let mut p = V::splat(0.059_128_024);
        for factor in [
            -0.358_067_28,
            0.734_953_5,
            -0.591_069_9,
            0.538_946_3,
            0.002_934_970_6,
            0.223_007_72,
            0.192_406_24,
            0.197_760_4,
        ] {
            p = V::splat(factor).fma(p, t);
        }
        let tail = exp(x.mul(x).mul(V::splat(-0.5))).mul(t).mul(p);
        zero.max(x).sub(size.mul(tail).mul(V::splat(0.5)))
    }
}

#[inline(always)]
pub unsafe fn silu<V: Math>(x: V, slope: f32) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.over(V::splat(1.0).add(exp(x.mul(V::splat(-slope))))) }
}

/// The first `count` values, and zeros.
///
/// # Safety
/// There are `count` values, at most as many as lanes.
#[inline(always)]
pub unsafe fn load_some<V: Vector>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's promise; no vector has more than 16 lanes.
    unsafe {
        if count == V::LANES {
            return V::load(from);
        }
        let mut values = [0.0; 16];
        std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count);
        V::load(values.as_ptr())
    }
}

/// Stores the first `count` lanes.
///
/// # Safety
/// As above.
#[inline(always)]
pub unsafe fn store_some<V: Vector>(values: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if count == V::LANES {
            return values.store(to);
        }
        let mut lanes = [0.0; 16];
        values.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
    }
}

/// Lanes as they are combined: the sum or the largest.
#[inline(always)]
pub unsafe fn fold<V: Vector>(values: V, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: no vector has more lanes.
    unsafe { values.store(lanes.as_mut_ptr()) };
    lanes[1..V::LANES].iter().fold(lanes[0], |a, &b| of(a, b))
}
