//! ncnn's pair of files: `.param` names the layers in order, `.bin` has their values.
//!
//! Only the layers of the supported networks are understood. Arrays come out named by their order, as
//! `ncnn.0007.weight`, `.bias` and `.slope`; [`crate::architecture::detect`] gives them their real names.

use half::f16;

use super::count;
use crate::{
    error::NnError,
    tensor::{StateDict, Tensor},
};

/// The first line of every `.param` file.
const MAGIC: &str = "7767517";
/// Marks values of 16 bits; 0 marks 32 bits (ncnn's `ModelBin::load`).
const TAG_F16: u32 = 0x0130_6B47;

/// Whether this is a `.param` file in text form.
pub fn is_param(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC.as_bytes()) && matches!(bytes.get(MAGIC.len()), Some(b'\n' | b'\r'))
}

/// Reads a pair.
///
/// # Errors
/// [`NnError::Format`] if a layer is of another kind, or the values do not match the layers to the last byte.
pub fn read(param: &[u8], bin: &[u8]) -> Result<StateDict, NnError> {
    let text = std::str::from_utf8(param).map_err(|_| NnError::Format("the .param file is not text".into()))?;
    let mut values = Values { rest: bin };
    let mut dict = StateDict::default();
    let mut order = 0;
    for line in text.lines().skip(2).filter(|line| !line.trim().is_empty()) {
        let layer = Layer::parse(line)?;
        let name = |part: &str| format!("ncnn.{order:04}.{part}");
        match layer.kind {
            "Convolution" => {
                let (outputs, kernel, all) = (layer.number(0)?, layer.number(1)?, layer.number(6)?);
                let per_output = outputs.checked_mul(kernel).and_then(|n| n.checked_mul(kernel)).unwrap_or(0);
                if per_output == 0 || all % per_output != 0 {
                    return Err(NnError::Format(format!("layer {} has sizes that do not divide", layer.name)));
                }
                let shape = vec![outputs, all / per_output, kernel, kernel];
                dict.0.insert(name("weight"), Tensor { data: values.tagged(&shape)?, shape });
                if layer.number(5).unwrap_or(0) == 1 {
                    dict.0.insert(name("bias"), Tensor { shape: vec![outputs], data: values.raw(outputs)? });
                }
                order += 1;
            }
            "PReLU" => {
                let slopes = layer.number(0)?;
                dict.0.insert(name("slope"), Tensor { shape: vec![slopes], data: values.raw(slopes)? });
                order += 1;
            }
            "Input" | "Split" | "Concat" | "Eltwise" | "BinaryOp" | "Interp" | "PixelShuffle" | "ReLU" | "Crop" => {}
            other => {
                return Err(NnError::Architecture(format!(
                    "the ncnn network has a layer {other:?}; ESRGAN (RRDBNet) and Compact networks have none"
                )));
            }
        }
    }
    if !values.rest.is_empty() {
        return Err(NnError::Format(format!("the .bin file has {} bytes more than its layers", values.rest.len())));
    }
    Ok(dict)
}

struct Layer<'a> {
    kind: &'a str,
    name: &'a str,
    parameters: Vec<(i64, &'a str)>,
}

impl<'a> Layer<'a> {
    /// `kind name inputs outputs input.. output.. key=value..`
    fn parse(line: &'a str) -> Result<Self, NnError> {
        let broken = || NnError::Format(format!("the .param file has a broken line: {:?}", truncate(line)));
        let mut words = line.split_whitespace();
        let kind = words.next().ok_or_else(broken)?;
        let name = words.next().ok_or_else(broken)?;
        let parameters = words
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| Ok((key.parse().map_err(|_| broken())?, value)))
            .collect::<Result<_, NnError>>()?;
        Ok(Self { kind, name, parameters })
    }

    fn number(&self, key: i64) -> Result<usize, NnError> {
        let value = self.parameters.iter().find(|(k, _)| *k == key).and_then(|(_, v)| v.parse().ok());
        value.ok_or_else(|| NnError::Format(format!("layer {} lacks its parameter {key}", truncate(self.name))))
    }
}

fn truncate(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(at, _)| &text[..at])
}

struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], NnError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or_else(|| NnError::Format("the .bin file ends before its layers do".into()))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A tag, then values in the type it names, padded to 4 bytes.
    fn tagged(&mut self, shape: &[usize]) -> Result<Vec<f32>, NnError> {
        let n = count(shape).ok_or_else(|| NnError::Format("a layer is larger than any file".into()))?;
        let tag = self.take(4)?;
        match u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]]) {
            TAG_F16 => {
                let bytes = self.take((2 * n).next_multiple_of(4))?;
                Ok(bytes.chunks_exact(2).take(n).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
            }
            0 => self.raw(n),
            other => Err(NnError::Format(format!(
                "the .bin file has values of kind {other:#x}; 16 and 32 bit floats are read"
            ))),
        }
    }

    /// 32-bit floats without a tag.
    fn raw(&mut self, n: usize) -> Result<Vec<f32>, NnError> {
        let bytes =
            self.take(n.checked_mul(4).ok_or_else(|| NnError::Format("a layer is larger than any file".into()))?)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
