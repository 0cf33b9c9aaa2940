//! One set of operations for all vector widths, so that each kernel is written once.

use half::{bf16, f16};

/// Some f32 side by side.
///
/// # Safety
/// All functions need the vectors' instruction set, and pointers valid for [`Self::LANES`] values. They are inlined
/// into callers that enable the set, or else vectors would travel through memory.
pub trait Vector: Copy {
    const LANES: usize;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn load_f16(from: *const f16) -> Self;
    /// Rounds to nearest; what is too large becomes the largest finite value.
    unsafe fn store_f16(self, to: *mut f16);
    /// Rounds to nearest, ties to even.
    unsafe fn store_bf16(self, to: *mut bf16);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self + a * b`.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
}

/// Vectors that multiply 16-bit integers, too.
///
/// # Safety
/// As for [`Vector`].
pub trait Int16Vector: Vector {
    /// As many 32-bit integers, or pairs of 16-bit ones.
    type Sums: Copy;
    unsafe fn zeros() -> Self::Sums;
    unsafe fn load_pairs(from: *const i32) -> Self::Sums;
    /// The same two in every lane.
    unsafe fn splat_pair(from: *const i16) -> Self::Sums;
    /// Adds both products of each pair.
    unsafe fn dot(sums: Self::Sums, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    unsafe fn store_integers(values: Self::Sums, to: *mut i32);
    unsafe fn load_integers(from: *const i32) -> Self;
    /// Rounds to 16 bits.
    unsafe fn narrow(self, to: *mut i16);
    /// Rounds to 16 bits: one of `low`, one of `high`, and so on.
    unsafe fn pairs(low: Self, high: Self) -> Self::Sums;
    /// The larger of this and the other's absolute values.
    unsafe fn max_abs(self, other: Self) -> Self;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
}

/// The largest finite 16-bit float.
const MOST: f32 = 65504.0;

impl<const N: usize> Vector for [f32; N] {
    const LANES: usize = N;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f16; N]>().read_unaligned().map(f16::to_f32) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        let rounded = self.map(|v| f16::from_f32(v.clamp(-MOST, MOST)));
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f16; N]>().write_unaligned(rounded) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[bf16; N]>().write_unaligned(self.map(bf16::from_f32)) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; N]
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        if cfg!(target_arch = "aarch64") {
            // All of these CPUs have the instruction; elsewhere this would call a function.
            return std::array::from_fn(|i| a[i].mul_add(b[i], self[i]));
        }
        std::array::from_fn(|i| self[i] + a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].max(other[i]))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].min(other[i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::{Int16Vector, MOST, Vector};

    /// Implements a trait for both widths: each function has a body for 256 bits and one for 512.
    macro_rules! both {
        ($trait:ident { $(const LANES = $short:expr, $long:expr;)? $(type Sums = $narrow:ty, $wide:ty;)?
            $(fn $name:ident $arguments:tt $(-> $result:ty)? { $avx2:expr } { $avx512:expr })* }) => {
            both!(@impl $trait __m256 { $(const LANES = $short;)? $(type Sums = $narrow;)?
                $(fn $name $arguments $(-> $result)? { $avx2 })* });
            both!(@impl $trait __m512 { $(const LANES = $long;)? $(type Sums = $wide;)?
                $(fn $name $arguments $(-> $result)? { $avx512 })* });
        };
        (@impl $trait:ident $vector:ty { $(const LANES = $lanes:expr;)? $(type Sums = $sums:ty;)?
            $(fn $name:ident $arguments:tt $(-> $result:ty)? { $body:expr })* }) => {
            impl $trait for $vector {
                $(const LANES: usize = $lanes;)?
                $(type Sums = $sums;)?
                $(
                    #[inline(always)]
                    unsafe fn $name $arguments $(-> $result)? {
                        // SAFETY: the caller's promise.
                        unsafe { $body }
                    }
                )*
            }
        };
    }

    both!(Vector {
        const LANES = 8, 16;
        fn load(from: *const f32) -> Self { _mm256_loadu_ps(from) } { _mm512_loadu_ps(from) }
        fn store(self, to: *mut f32) { _mm256_storeu_ps(to, self) } { _mm512_storeu_ps(to, self) }
        fn load_f16(from: *const f16) -> Self
            { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
            { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        fn store_f16(self, to: *mut f16)
            {{
                let limited = self.max(Self::splat(-MOST)).min(Self::splat(MOST));
                _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(limited))
            }}
            {{
                let limited = self.max(Self::splat(-MOST)).min(Self::splat(MOST));
                _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(limited))
            }}
        fn store_bf16(self, to: *mut bf16)
            {{
                let mut values = [0.0; 8];
                _mm256_storeu_ps(values.as_mut_ptr(), self);
                values.store_bf16(to)
            }}
            {{
                // Needs AVX-512 BF16, which only the kernels that store bfloat16 ask for.
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(self));
                _mm256_storeu_si256(to.cast(), rounded)
            }}
        fn splat(value: f32) -> Self { _mm256_set1_ps(value) } { _mm512_set1_ps(value) }
        fn add(self, other: Self) -> Self { _mm256_add_ps(self, other) } { _mm512_add_ps(self, other) }
        fn sub(self, other: Self) -> Self { _mm256_sub_ps(self, other) } { _mm512_sub_ps(self, other) }
        fn mul(self, other: Self) -> Self { _mm256_mul_ps(self, other) } { _mm512_mul_ps(self, other) }
        fn div(self, other: Self) -> Self { _mm256_div_ps(self, other) } { _mm512_div_ps(self, other) }
        fn fma(self, a: Self, b: Self) -> Self { _mm256_fmadd_ps(a, b, self) } { _mm512_fmadd_ps(a, b, self) }
        fn max(self, other: Self) -> Self { _mm256_max_ps(self, other) } { _mm512_max_ps(self, other) }
        fn min(self, other: Self) -> Self { _mm256_min_ps(self, other) } { _mm512_min_ps(self, other) }
    });

    both!(Int16Vector {
        type Sums = __m256i, __m512i;
        fn zeros() -> Self::Sums { _mm256_setzero_si256() } { _mm512_setzero_si512() }
        fn load_pairs(from: *const i32) -> Self::Sums
            { _mm256_loadu_si256(from.cast()) }
            { _mm512_loadu_si512(from.cast()) }
        fn splat_pair(from: *const i16) -> Self::Sums
            { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
            { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        fn dot(sums: Self::Sums, a: Self::Sums, b: Self::Sums) -> Self::Sums
            { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
            { _mm512_dpwssd_epi32(sums, a, b) }
        fn store_integers(values: Self::Sums, to: *mut i32)
            { _mm256_storeu_si256(to.cast(), values) }
            { _mm512_storeu_si512(to.cast(), values) }
        fn load_integers(from: *const i32) -> Self
            { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) }
            { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) }
        fn narrow(self, to: *mut i16)
            {{
                let wide = _mm256_cvtps_epi32(self);
                let low = _mm256_castsi256_si128(wide);
                _mm_storeu_si128(to.cast(), _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(wide)))
            }}
            { _mm256_storeu_si256(to.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self))) }
        fn pairs(low: Self, high: Self) -> Self::Sums
            {{
                let (low, high) = (_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
                _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(0xFFFF)), _mm256_slli_epi32::<16>(high))
            }}
            {{
                let (low, high) = (_mm512_cvtps_epi32(low), _mm512_cvtps_epi32(high));
                _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32::<16>(high))
            }}
        fn max_abs(self, other: Self) -> Self
            { _mm256_max_ps(self, _mm256_andnot_ps(_mm256_set1_ps(-0.0), other)) }
            // The larger of both absolute values, without its sign.
            { _mm512_range_ps::<0b1011>(self, other) }
        fn largest(self) -> f32
            {{
                let four = _mm_max_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }}
            { _mm256_max_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self)).largest() }
    });
}
