//! An array of weights in the number format of its file.

use std::sync::OnceLock;

use enlarger_nn::dense::Weights;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::error::{Error, Result, collect, reserved};

/// Values in the format of the file. They are widened to f32 when they are used.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32 bits.
    F32(Vec<f32>),
    /// IEEE 16 bits.
    F16(Vec<f16>),
    /// The upper half of 32 bits.
    Bf16(Vec<bf16>),
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinities (OCP 8-bit floating point, E4M3).
    F8E4M3(Vec<u8>),
    /// 8 bits: the upper half of IEEE 16 bits.
    F8E5M2(Vec<u8>),
}

/// An array, the last axis varying fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Lengths of the axes: linear `[out, in]`, convolution `[out, in, height, width]`.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Values,
}

/// Runs code on the vector inside, whatever its type.
macro_rules! each {
    ($values:expr, $vector:ident => $code:expr) => {
        match $values {
            Values::F32($vector) => Values::F32($code),
            Values::F16($vector) => Values::F16($code),
            Values::Bf16($vector) => Values::Bf16($code),
            Values::F8E4M3($vector) => Values::F8E4M3($code),
            Values::F8E5M2($vector) => Values::F8E5M2($code),
        }
    };
}

impl Array {
    /// An array of 32-bit values.
    pub fn new(shape: &[usize], values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape: shape.to_vec(), values: Values::F32(values) }
    }

    /// Reads little-endian bytes.
    ///
    /// # Errors
    /// [`Error::File`] if the type is not F64, which is narrowed to F32, F32, F16, BF16, F8_E4M3 or F8_E5M2; [`Error::Memory`].
    pub(crate) fn from_bytes(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Result<Self> {
        let values = match dtype {
            Dtype::F64 => Values::F32(collect(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32))?),
            Dtype::F32 => Values::F32(collect(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)))?),
            Dtype::F16 => Values::F16(collect(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)))?),
            Dtype::BF16 => Values::Bf16(collect(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b)))?),
            Dtype::F8_E4M3 => Values::F8E4M3(bytes),
            Dtype::F8_E5M2 => Values::F8E5M2(bytes),
            other => {
                return Err(Error::File(format!("{name} holds {other:?}; F64, F32, F16, BF16 and F8 are read")));
            }
        };
        Ok(Self { shape: shape.to_vec(), values })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of the values.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(v) => 4 * v.len(),
            Values::F16(v) => 2 * v.len(),
            Values::Bf16(v) => 2 * v.len(),
            Values::F8E4M3(v) | Values::F8E5M2(v) => v.len(),
        }
    }

    /// Widens the values from `start` into `to`.
    pub fn widen(&self, start: usize, to: &mut [f32]) {
        let range = start..start + to.len();
        match &self.values {
            Values::F32(v) => to.copy_from_slice(&v[range]),
            Values::F16(v) => v[range].convert_to_f32_slice(to),
            Values::Bf16(v) => v[range].convert_to_f32_slice(to),
            Values::F8E4M3(v) => to.iter_mut().zip(&v[range]).for_each(|(to, &v)| *to = E4M3[usize::from(v)]),
            Values::F8E5M2(v) => to.iter_mut().zip(&v[range]).for_each(|(to, &v)| *to = e5m2()[usize::from(v)]),
        }
    }

    /// The values as kernels read them.
    pub(crate) fn weights(&self) -> Weights<'_> {
        match &self.values {
            Values::F32(v) => Weights::F32(v),
            Values::F16(v) => Weights::F16(v),
            Values::Bf16(v) => Weights::Bf16(v),
            Values::F8E4M3(v) => Weights::Bytes(v, &E4M3),
            Values::F8E5M2(v) => Weights::Bytes(v, e5m2()),
        }
    }

    /// All values in 32 bits.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut values = crate::error::zeros(self.len())?;
        self.widen(0, &mut values);
        Ok(values)
    }

    /// The same shape with other values, rounded to the format of this array; F8 becomes F16, which keeps small sums.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn with_values(&self, values: &[f32]) -> Result<Self> {
        let values = match self.values {
            Values::F32(_) => Values::F32(collect(values.iter().copied())?),
            Values::Bf16(_) => Values::Bf16(collect(values.iter().map(|&v| bf16::from_f32(v)))?),
            _ => Values::F16(collect(values.iter().map(|&v| f16::from_f32(v)))?),
        };
        Ok(Self { shape: self.shape.clone(), values })
    }

    /// Rows `start..start + count` of the first axis.
    ///
    /// # Errors
    /// [`Error::Memory`], here and below.
    pub(crate) fn rows(self, start: usize, count: usize) -> Result<Self> {
        let row: usize = self.shape.iter().skip(1).product();
        let mut shape = self.shape;
        shape.iter_mut().take(1).for_each(|rows| *rows = count);
        let rows = start * row..(start + count) * row;
        Ok(Self { values: each!(self.values, v => collect(v[rows].iter().copied())?), shape })
    }

    /// `[a, b]` as `[b, a]`.
    pub(crate) fn transposed(self) -> Result<Self> {
        let &[a, b] = self.shape.as_slice() else { return Ok(self) };
        let order = |at: usize| (at % a) * b + at / a;
        Ok(Self { shape: vec![b, a], values: each!(self.values, v => collect((0..a * b).map(|at| v[order(at)]))?) })
    }

    /// `[out, in, height, width]` as `[out, height, width, in]`, the order in which channels-last pixels lie.
    pub(crate) fn channels_last(self) -> Result<Self> {
        let &[out, inputs, height, width] = self.shape.as_slice() else { return Ok(self) };
        let area = height * width;
        if area == 1 {
            return Ok(self);
        }
        let values = each!(self.values, v => {
            let mut to = reserved(v.len())?;
            for layer in v.chunks_exact(inputs * area) {
                for tap in 0..area {
                    to.extend(layer[tap..].iter().step_by(area).copied());
                }
            }
            to
        });
        Ok(Self { shape: vec![out, height, width, inputs], values })
    }

    /// `[out, ...]` as `[panels, ..., outputs of a panel]`, those of the last panel padded with zeros: outputs side by side, as
    /// they are multiplied.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub(crate) fn panels(self, outputs: usize) -> Result<Self> {
        let out = self.shape.first().copied().unwrap_or(0);
        let inputs: usize = self.shape.iter().skip(1).product();
        let values = each!(self.values, v => in_panels(&v, [out, inputs], outputs)?);
        let mut shape = self.shape;
        shape.iter_mut().take(1).for_each(|panels| *panels = out.div_ceil(outputs));
        shape.push(outputs);
        Ok(Self { shape, values })
    }
}

/// See [`Array::panels`].
fn in_panels<T: Copy + Default + Send + Sync>(values: &[T], [out, inputs]: [usize; 2], wide: usize) -> Result<Vec<T>> {
    let length = out.div_ceil(wide) * wide * inputs;
    let mut to = reserved(length)?;
    to.resize(length, T::default());
    to.par_chunks_exact_mut((wide * inputs).max(1)).zip(values.par_chunks((wide * inputs).max(1))).for_each(
        |(to, values)| {
            for (output, row) in values.chunks_exact(inputs).enumerate() {
                for (to, &value) in to[output..].iter_mut().step_by(wide).zip(row) {
                    *to = value;
                }
            }
        },
    );
    Ok(to)
}

/// What each byte means.
static E4M3: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        let (exponent, mantissa) = ((bits as u32 >> 3) & 15, bits as u32 & 7);
        let size = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            // Steps of 2^-9.
            (0, _) => mantissa as f32 / 512.0,
            _ => f32::from_bits(((exponent + 127 - 7) << 23) | (mantissa << 20)),
        };
        values[bits] = if bits & 128 != 0 { -size } else { size };
        bits += 1;
    }
    values
};

/// What each byte means.
fn e5m2() -> &'static [f32; 256] {
    static E5M2: OnceLock<[f32; 256]> = OnceLock::new();
    E5M2.get_or_init(|| std::array::from_fn(|bits| f16::from_bits((bits as u16) << 8).to_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_read_as_the_standard_says() {
        // OCP 8-bit floating point, revision 1.0, tables 1 and 2.
        let e4m3 = Array { shape: vec![5], values: Values::F8E4M3(vec![0x7e, 0x08, 0x01, 0xb8, 0x00]) };
        assert_eq!(e4m3.to_f32().unwrap(), [448.0, 0.015625, 0.001953125, -1.0, 0.0]);
        let e5m2 = Array { shape: vec![3], values: Values::F8E5M2(vec![0x7b, 0x04, 0xbc]) };
        assert_eq!(e5m2.to_f32().unwrap(), [57344.0, f32::powi(2.0, -14), -1.0]);
    }

    #[test]
    fn axes_change_places() {
        let array = Array::new(&[1, 2, 1, 3], (0..6).map(|v| v as f32).collect()).channels_last().unwrap();
        assert_eq!(array, Array::new(&[1, 1, 3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        let array = Array::new(&[2, 3], (0..6).map(|v| v as f32).collect());
        assert_eq!(array.clone().rows(1, 1).unwrap(), Array::new(&[1, 3], vec![3.0, 4.0, 5.0]));
        assert_eq!(array.transposed().unwrap(), Array::new(&[3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    }
}
