//! ncnn's pair of files: `.param` has the graph, a layer per line, and `.bin` the values of its layers in that order.
//!
//! The graph is compared with those of the supported networks ([`super::naming`]), which gives the arrays their names.

use half::f16;

use super::naming::Layers;
use crate::{
    arch::supported,
    error::{NnError, shortened},
    graph::{Id, Millionths},
    tensor::{StateDict, Tensor, count},
};

/// The first line of every `.param` file.
const MAGIC: &str = "7767517";
/// Marks values of 16 bits; 0 marks 32 bits (ncnn's `ModelBin::load`).
const TAG_F16: u32 = 0x0130_6B47;
/// ncnn marks a parameter that is an array by this, less its number.
const ARRAY: i64 = -23300;
/// The most layers that are read: ten times the largest community network.
const MAX_LAYERS: usize = 20_000;

/// Whether this is a `.param` file in text form.
pub fn is_param(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC.as_bytes()) && matches!(bytes.get(MAGIC.len()), Some(b'\n' | b'\r'))
}

/// Reads a pair. The arrays have the names that BasicSR gives them.
///
/// # Errors
/// [`NnError::Architecture`] with the layer's name if the graph is not that of a supported network, [`NnError::Format`]
/// if the values do not match the layers to the last byte.
pub fn read(param: &[u8], bin: &[u8]) -> Result<StateDict, NnError> {
    let text = std::str::from_utf8(param).map_err(|_| NnError::Format("the .param file is not text".into()))?;
    let mut reader = Reader { layers: Layers::default(), values: Values { rest: bin } };
    for line in text.lines().skip(2).filter(|line| !line.trim().is_empty()).take(MAX_LAYERS) {
        let layer = Layer::parse(line)?;
        let output = reader.layer(&layer)?;
        reader.layers.define(layer.name, &layer.outputs, output);
    }
    let left = reader.values.rest.len();
    if left > 0 {
        return Err(NnError::Format(format!("the .bin file has {left} bytes more than its layers need")));
    }
    reader.layers.into_weights()
}

struct Reader<'a> {
    layers: Layers,
    values: Values<'a>,
}

impl Reader<'_> {
    /// What a layer computes, with its values read.
    fn layer(&mut self, layer: &Layer<'_>) -> Result<Id, NnError> {
        let inputs =
            layer.inputs.iter().map(|name| self.layers.blob(layer.name, name)).collect::<Result<Vec<_>, _>>()?;
        let graph = &mut self.layers.graph;
        Ok(match (layer.kind, &*inputs) {
            ("Input", []) => graph.image(),
            ("Split" | "Noop", [input]) => *input,
            ("Convolution", [input]) => self.convolution(layer, *input)?,
            ("ReLU", [input]) => graph.leaky_relu(*input, Millionths::new(layer.number(0, 0.0)?)),
            ("PReLU", [input]) => {
                let slopes = self.values.raw(layer.size(0)?)?;
                self.layers.prelu(layer.name, *input, slopes)
            }
            ("Concat", [_, ..]) if layer.number(0, 0.0)? == 0.0 => graph.concat(&inputs),
            // Sums alone, each input with its weight.
            ("Eltwise", [_, ..]) if layer.number(0, 0.0)? == 1.0 => {
                let weights = layer.array(1)?.unwrap_or_else(|| vec![1.0; inputs.len()]);
                if weights.len() != inputs.len() {
                    return Err(layer.unknown());
                }
                let scaled = |(&input, weight)| graph.scale(input, Millionths::new(weight));
                let terms = inputs.iter().zip(weights).map(scaled).collect();
                graph.sum(terms)
            }
            ("BinaryOp", [a, b]) if layer.number(0, 0.0)? == 0.0 => graph.sum(vec![*a, *b]),
            ("BinaryOp", [a]) if layer.number(0, 0.0)? == 2.0 && layer.number(1, 0.0)? == 1.0 => {
                graph.scale(*a, Millionths::new(layer.number(2, 0.0)?))
            }
            // Nearest neighbour by whole factors.
            ("Interp", [input]) if layer.number(0, 0.0)? == 1.0 => {
                let (high, wide) = (layer.number(1, 1.0)?, layer.number(2, 1.0)?);
                let sizes = layer.number(3, 0.0)? + layer.number(4, 0.0)?;
                if high != wide || sizes != 0.0 || !(1.0..=16.0).contains(&high) || high.fract() != 0.0 {
                    return Err(layer.unknown());
                }
                graph.upsample(*input, high as usize)
            }
            ("PixelShuffle", [input]) if layer.number(1, 0.0)? == 0.0 => graph.pixel_shuffle(*input, layer.size(0)?),
            ("Reorg", [input]) if layer.number(1, 0.0)? == 0.0 => graph.pixel_unshuffle(*input, layer.size(0)?),
            _ => return Err(layer.unknown()),
        })
    }

    /// A convolution of 3x3 that keeps the size, and the activation that ncnn's optimizer puts into it.
    fn convolution(&mut self, layer: &Layer<'_>, input: Id) -> Result<Id, NnError> {
        let (outputs, kernel, all) = (layer.size(0)?, layer.size(1)?, layer.size(6)?);
        let side = kernel as f32;
        let plain = [(11, side, side), (2, 1.0, 1.0), (12, 1.0, 1.0), (3, 1.0, 1.0), (13, 1.0, 1.0)];
        let padding = [(4, 0.0, 1.0), (14, 1.0, 1.0), (15, 1.0, 1.0), (16, 1.0, 1.0), (18, 0.0, 0.0), (8, 0.0, 0.0)];
        for (key, default, needed) in plain.into_iter().chain(padding) {
            if kernel != 3 || layer.number(key, default)? != needed {
                return Err(layer.unknown());
            }
        }
        let per_output = outputs.checked_mul(9).unwrap_or(0);
        if per_output == 0 || all % per_output != 0 {
            return Err(NnError::Format(format!(
                "layer {} has sizes that contradict each other",
                shortened(layer.name)
            )));
        }
        let shape = vec![outputs, all / per_output, 3, 3];
        let weight = Tensor { data: self.values.tagged(&shape)?, shape };
        let bias = match layer.number(5, 0.0)? {
            1.0 => self.values.raw(outputs)?,
            _ => vec![0.0; outputs],
        };
        let bias = Tensor { shape: vec![outputs], data: bias };
        let output = self.layers.conv(layer.name, input, weight, bias);
        let graph = &mut self.layers.graph;
        match (layer.number(9, 0.0)?, layer.array(10)?.as_deref()) {
            (0.0, _) => Ok(output),
            (1.0, _) => Ok(graph.leaky_relu(output, Millionths::new(0.0))),
            (2.0, Some([slope])) => Ok(graph.leaky_relu(output, Millionths::new(*slope))),
            _ => Err(layer.unknown()),
        }
    }
}

struct Layer<'a> {
    kind: &'a str,
    name: &'a str,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    parameters: Vec<(i64, &'a str)>,
}

impl<'a> Layer<'a> {
    /// `kind name inputs outputs input.. output.. key=value..`
    fn parse(line: &'a str) -> Result<Self, NnError> {
        let broken = || NnError::Format(format!("the .param file has a broken line: {:?}", shortened(line)));
        let mut words = line.split_whitespace();
        let mut word = || words.next().ok_or_else(broken);
        let (kind, name) = (word()?, word()?);
        let mut size = || word()?.parse::<usize>().map_err(|_| broken());
        let (inputs, outputs) = (size()?, size()?);
        let mut blobs = |n: usize| (0..n).map(|_| words.next().ok_or_else(broken)).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (blobs(inputs)?, blobs(outputs)?);
        let parameters = words
            .map(|word| {
                let (key, value) = word.split_once('=').ok_or_else(broken)?;
                Ok((key.parse().map_err(|_| broken())?, value))
            })
            .collect::<Result<_, NnError>>()?;
        Ok(Self { kind, name, inputs, outputs, parameters })
    }

    fn parameter(&self, key: i64) -> Option<&'a str> {
        self.parameters.iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
    }

    fn number(&self, key: i64, default: f32) -> Result<f32, NnError> {
        self.parameter(key).map_or(Ok(default), |value| value.parse().map_err(|_| self.unknown()))
    }

    /// A size or a count, which must be there.
    fn size(&self, key: i64) -> Result<usize, NnError> {
        let value = self.parameter(key).and_then(|value| value.parse().ok());
        value.ok_or_else(|| NnError::Format(format!("layer {} lacks its parameter {key}", shortened(self.name))))
    }

    /// `-233xx=n,value..`
    fn array(&self, key: i64) -> Result<Option<Vec<f32>>, NnError> {
        let Some(text) = self.parameter(ARRAY - key) else { return Ok(None) };
        let values = text.split(',').skip(1).map(str::parse).collect::<Result<_, _>>();
        values.map(Some).map_err(|_| self.unknown())
    }

    fn unknown(&self) -> NnError {
        NnError::Architecture(format!(
            "layer {} ({}) of the ncnn model does something that {} models do not",
            shortened(self.name),
            shortened(self.kind),
            supported()
        ))
    }
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
                "the .bin file has values of type {other:#x}; 16-bit and 32-bit floats are supported"
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
