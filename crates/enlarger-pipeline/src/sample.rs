//! Samples of 8 and 16 bits as numbers from 0 to 1.

/// One sample.
pub(crate) trait Sample: Copy + Send + Sync {
    /// 0..=1.
    fn to_float(self) -> f32;
    /// The nearest; what lies outside of 0..=1 gives its end, NaN gives 0.
    fn from_float(value: f32) -> Self;
    /// This one moved towards another by a share of 0..=1.
    fn mixed(self, other: Self, share: f32) -> Self;
}

macro_rules! sample {
    ($type:ty) => {
        impl Sample for $type {
            #[inline(always)]
            fn to_float(self) -> f32 {
                f32::from(self) * (1.0 / <$type>::MAX as f32)
            }
            #[inline(always)]
            fn from_float(value: f32) -> Self {
                // By way of i32, which processors convert to many at once.
                (value.clamp(0.0, 1.0) * <$type>::MAX as f32 + 0.5) as i32 as Self
            }
            #[inline(always)]
            fn mixed(self, other: Self, share: f32) -> Self {
                let (old, new) = (f32::from(self), f32::from(other));
                (old + share * (new - old) + 0.5) as i32 as Self
            }
        }
    };
}

sample!(u8);
sample!(u16);
