//! Samples of 8 and 16 bits: one trait for both, so that what is done with pixels is written once.

use std::{fmt::Debug, hash::Hash};

use crate::Samples;

/// A sample: `u8` or `u16`, each over its full range. No other type can be one.
pub trait Sample: sealed::Sealed + bytemuck::Pod + Debug + Default + Hash + Ord + Send + Sync {
    /// Bits of a sample: 8 or 16.
    const BITS: u8;
    /// White, and fully opaque.
    const MAX: Self;

    /// 0..=255 or 0..=65535.
    fn value(self) -> u32;
    /// 0..=1, within one unit in the last place.
    fn to_float(self) -> f32;
    /// The nearest; what lies outside of 0..=1 gives its end, NaN gives 0.
    fn from_float(value: f32) -> Self;
    /// The nearest to `value / most`, where `value <= most` and `1 <= most <= 65535`.
    fn from_ratio(value: u32, most: u32) -> Self;
    /// This one moved towards another by a share of 0..=1.
    fn mixed(self, other: Self, share: f32) -> Self;

    /// 0..=1, to the nearest; cast to `f32`, the nearest of those.
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self.value()) / f64::from(Self::MAX.value())
    }
    /// The same in 8 bits, rounded to the nearest. 65535 is 255 * 257.
    #[inline(always)]
    fn to_u8(self) -> u8 {
        (if Self::BITS == 8 { self.value() } else { (self.value() + 128) / 257 }) as u8
    }
    /// The same in 16 bits, exactly.
    #[inline(always)]
    fn to_u16(self) -> u16 {
        (if Self::BITS == 8 { self.value() * 257 } else { self.value() }) as u16
    }
}

mod sealed {
    use crate::Samples;

    pub trait Sealed: Sized {
        fn wrap(samples: Vec<Self>) -> Samples;
        fn slice(samples: &Samples) -> Option<&[Self]>;
    }
}

macro_rules! sample {
    ($type:ty, $variant:ident) => {
        impl Sample for $type {
            const BITS: u8 = <$type>::BITS as u8;
            const MAX: Self = <$type>::MAX;

            #[inline(always)]
            fn value(self) -> u32 {
                self.into()
            }
            #[inline(always)]
            fn to_float(self) -> f32 {
                f32::from(self) * (1.0 / <$type>::MAX as f32)
            }
            #[inline(always)]
            #[allow(clippy::manual_clamp, reason = "NaN would stay NaN")]
            fn from_float(value: f32) -> Self {
                whole(value.max(0.0).min(1.0) * <$type>::MAX as f32 + 0.5) as Self
            }
            #[inline(always)]
            fn from_ratio(value: u32, most: u32) -> Self {
                ((value * u32::from(<$type>::MAX) + most / 2) / most) as Self
            }
            #[inline(always)]
            fn mixed(self, other: Self, share: f32) -> Self {
                let (old, new) = (f32::from(self), f32::from(other));
                whole(old + share * (new - old) + 0.5) as Self
            }
        }

        impl sealed::Sealed for $type {
            fn wrap(samples: Vec<Self>) -> Samples {
                Samples::$variant(samples)
            }
            fn slice(samples: &Samples) -> Option<&[Self]> {
                if let Samples::$variant(samples) = samples { Some(samples) } else { None }
            }
        }
    };
}

sample!(u8, U8);
sample!(u16, U16);

/// The whole part of 0 to 2^22, in the low 22 bits. What `as` does costs three times as much, since it also bounds.
#[inline(always)]
fn whole(value: f32) -> u32 {
    // From here on floats are whole numbers, so adding rounds to one.
    const WHOLE: f32 = 8_388_608.0;
    let rounded = value + WHOLE;
    (if rounded - WHOLE > value { rounded - 1.0 } else { rounded }).to_bits()
}

impl<T: Sample> From<Vec<T>> for Samples {
    fn from(samples: Vec<T>) -> Self {
        T::wrap(samples)
    }
}

impl Samples {
    /// The samples, if they are of this type.
    pub fn as_slice<T: Sample>(&self) -> Option<&[T]> {
        T::slice(self)
    }

    /// The samples, which are known to be of this type.
    ///
    /// # Panics
    /// If they are of the other.
    pub fn of_depth<T: Sample>(&self) -> &[T] {
        T::slice(self).expect("both pictures have one depth")
    }
}

/// Evaluates an expression for [`Samples`] of either depth, owned or borrowed: `name` is their vector in it.
///
/// ```
/// use enlarger_image::{Sample, Samples, with_samples};
///
/// let samples = Samples::from(vec![0_u16, 40_000, 65_535]);
/// let brightest = with_samples!(&samples, s => s.iter().map(|s| s.to_u8()).max());
/// assert_eq!(brightest, Some(255));
/// ```
#[macro_export]
macro_rules! with_samples {
    ($samples:expr, $name:ident => $body:expr) => {
        match $samples {
            $crate::Samples::U8($name) => $body,
            $crate::Samples::U16($name) => $body,
        }
    };
}

/// Weights of red, green and blue in luminance: those of ITU-R BT.601, on encoded values, as JPEG has them.
pub const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// Luminance of red, green and blue; see [`LUMA`].
#[inline(always)]
pub fn luma([r, g, b]: [f32; 3]) -> f32 {
    const WEIGHTS: [f32; 3] = [LUMA[0] as f32, LUMA[1] as f32, LUMA[2] as f32];
    WEIGHTS[0] * r + WEIGHTS[1] * g + WEIGHTS[2] * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_the_nearest_and_what_is_out_of_range_gives_an_end() {
        for step in -1_000..=1_000_000 {
            let value = step as f32 * 1.001e-6;
            assert_eq!(u8::from_float(value), (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8, "{value}");
            assert_eq!(u16::from_float(value), (value.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16, "{value}");
        }
        for (value, byte) in [(f32::NAN, 0), (f32::INFINITY, 255), (f32::NEG_INFINITY, 0), (1e30, 255), (-0.0, 0)] {
            assert_eq!(u8::from_float(value), byte, "{value}");
        }
        for value in 0..=u8::MAX {
            assert_eq!(u8::from_float(value.to_float()), value);
        }
    }

    #[test]
    fn depths_change_to_the_nearest_and_back() {
        for value in 0..=u16::MAX {
            let nearest = (f64::from(value) / 257.0).round() as u8;
            assert_eq!((value.to_u8(), u8::from_ratio(value.into(), 65_535)), (nearest, nearest), "{value}");
            assert_eq!((value.to_u16(), u16::from_ratio(value.into(), 65_535)), (value, value));
            assert_eq!(value.to_f64() as f32, f32::from(value) / 65535.0, "{value}");
        }
        for value in 0..=u8::MAX {
            assert_eq!((value.to_u8(), value.to_u16().to_u8()), (value, value));
            assert_eq!(value.to_f64() as f32, f32::from(value) / 255.0, "{value}");
        }
    }

    #[test]
    fn ratios_are_the_nearest_for_every_number_of_bits() {
        for most in (1..=16).map(|bits| (1_u32 << bits) - 1) {
            for value in (0..=most).step_by(1 + most as usize / 1000).chain([most]) {
                let share = f64::from(value) / f64::from(most);
                assert_eq!(u8::from_ratio(value, most), (share * 255.0).round() as u8, "{value} of {most}");
                assert_eq!(u16::from_ratio(value, most), (share * 65_535.0).round() as u16, "{value} of {most}");
            }
        }
    }

    #[test]
    fn samples_move_towards_others_by_a_share() {
        for (old, new, share, expected) in
            [(10_u8, 20, 0.0, 10), (10, 20, 1.0, 20), (0, 255, 0.5, 128), (255, 0, 0.25, 191)]
        {
            assert_eq!(old.mixed(new, share), expected, "{old} {new} {share}");
        }
        assert_eq!(1_000_u16.mixed(60_000, 0.5), 30_500);
    }

    #[test]
    fn only_samples_of_a_depth_are_given_as_such() {
        let samples = Samples::from(vec![1_u8, 2]);
        assert_eq!((samples.as_slice::<u8>(), samples.as_slice::<u16>()), (Some(&[1, 2][..]), None));
    }

    #[test]
    fn weights_of_luminance_sum_to_one() {
        assert!((LUMA.iter().sum::<f64>() - 1.0).abs() < 1e-12 && luma([1.0; 3]) == 1.0);
        assert_eq!(luma([0.0, 1.0, 0.0]), 0.587);
    }
}
