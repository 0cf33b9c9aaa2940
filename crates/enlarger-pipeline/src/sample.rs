//! Samples of 8 and 16 bits as numbers from 0 to 1.

use enlarger_image::{Picture, Samples};
use multiversion::multiversion;

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
            #[allow(clippy::manual_clamp, reason = "NaN would stay NaN")]
            fn from_float(value: f32) -> Self {
                whole(value.max(0.0).min(1.0) * <$type>::MAX as f32 + 0.5) as Self
            }
            #[inline(always)]
            fn mixed(self, other: Self, share: f32) -> Self {
                let (old, new) = (f32::from(self), f32::from(other));
                whole(old + share * (new - old) + 0.5) as Self
            }
        }
    };
}

sample!(u8);
sample!(u16);

/// The whole part of 0 to 2^22, in the low 22 bits. `as` costs three times as much, because it also saturates.
#[inline(always)]
fn whole(value: f32) -> u32 {
    // From here on floats are whole numbers, so adding rounds to one.
    const WHOLE: f32 = 8_388_608.0;
    let rounded = value + WHOLE;
    (if rounded - WHOLE > value { rounded - 1.0 } else { rounded }).to_bits()
}

/// Many numbers as samples.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn from_floats<T: Sample>(values: &[f32], samples: &mut [T]) {
    samples.iter_mut().zip(values).for_each(|(sample, &value)| *sample = T::from_float(value));
}

/// Luminance of red, green and blue (BT.601 weights).
#[inline(always)]
pub(crate) fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// One row of luminance (BT.601 weights on encoded values), 0..=1.
pub(crate) fn read_luma(picture: &Picture, row: usize, line: &mut [f32]) {
    let n = picture.channels.count();
    let range = row * picture.width as usize * n..(row + 1) * picture.width as usize * n;
    match &picture.samples {
        Samples::U8(s) => weigh(&s[range], n, line),
        Samples::U16(s) => weigh(&s[range], n, line),
    }
}

fn weigh<T: Sample>(samples: &[T], n: usize, line: &mut [f32]) {
    for (pixel, value) in samples.chunks_exact(n).zip(line) {
        *value = match pixel {
            [r, g, b, ..] => luma([r, g, b].map(|colour| colour.to_float())),
            _ => pixel[0].to_float(),
        };
    }
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
}
