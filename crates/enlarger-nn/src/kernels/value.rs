//! Number formats of feature maps.

use half::{bf16, f16};

use super::{map::View, vector::Vector};

/// A number format that feature maps are stored in.
pub trait Value: Copy + Default + Send + Sync + 'static {
    /// What residuals are kept in: the same if it is precise enough, else f32.
    type Residual: Float;
    /// Whether [`Self::Residual`] is the same, so that no second map need be kept.
    const HOLDS_RESIDUALS: bool;
    /// A map as residuals are read from it: itself, or what was stored beside it in f32.
    fn residual<'a>(map: View<'a, Self>, wide: Option<View<'a, f32>>) -> View<'a, Self::Residual>;
    /// Rounds to nearest.
    fn from_f32(value: f32) -> Self;
    /// # Safety
    /// As [`Vector::store`].
    unsafe fn store<V: Vector>(values: V, to: *mut Self);
}

/// A [`Value`] that kernels compute with in f32.
pub trait Float: Value {
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
}

macro_rules! float {
    ($type:ty, $load:ident, $store:ident, $from_f32:expr) => {
        impl Value for $type {
            type Residual = Self;
            const HOLDS_RESIDUALS: bool = true;
            fn residual<'a>(map: View<'a, Self>, _: Option<View<'a, f32>>) -> View<'a, Self> {
                map
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
            #[inline(always)]
            unsafe fn store<V: Vector>(values: V, to: *mut Self) {
                // SAFETY: the caller's promise.
                unsafe { values.$store(to) }
            }
        }

        impl Float for $type {
            #[inline(always)]
            unsafe fn load<V: Vector>(from: *const Self) -> V {
                // SAFETY: the caller's promise.
                unsafe { V::$load(from) }
            }
        }
    };
}

float!(f32, load, store, std::convert::identity);
float!(f16, load_f16, store_f16, f16::from_f32);

impl Value for bf16 {
    type Residual = f32;
    const HOLDS_RESIDUALS: bool = false;
    fn residual<'a>(_: View<'a, Self>, wide: Option<View<'a, f32>>) -> View<'a, f32> {
        wide.expect("kept beside each bfloat16 map that is a residual")
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(values: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { values.store_bf16(to) }
    }
}
