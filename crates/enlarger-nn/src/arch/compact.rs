//! A plain stack of convolutions with pixel shuffle (SRVGGNetCompact, Wang et al. 2021).

use std::fmt::{Display, Formatter};

use rayon::prelude::*;

use crate::{
    architecture::{self, Architecture},
    cpu::{Bands, CpuKernels, Input, OnCpu, Slope, conv, tensor, widest},
    error::NnError,
    graph::{Graph, Millionths, Node},
    kernels::{BLOCK, Conv, Element, History, Map, Output, Scratch, reserve_small, zeroed},
    model::{Emit, Model, Report, Strip},
    tensor::StateDict,
};

/// A Compact network's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compact {
    /// How many times as wide and high the result is: any whole factor.
    pub scale: u32,
    /// Colours of the image and of the result.
    pub channels: usize,
    /// Channels between the convolutions.
    pub features: usize,
    /// Convolutions between the first and the last.
    pub convs: usize,
    /// What follows each convolution but the last.
    pub activation: Activation,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// A learned slope per channel.
    Prelu,
    /// max(x, 0).
    Relu,
}

impl Display for Compact {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compact {}x, {} convolutions, {} features", self.scale, self.convs, self.features)
    }
}

impl Compact {
    /// body.0 is a convolution, body.1 its activation, and so on; the last convolution has none.
    fn name(layer: usize) -> String {
        format!("body.{layer}")
    }

    /// Channels of the last convolution.
    fn last(&self) -> usize {
        self.channels * (self.scale as usize).pow(2)
    }
}

impl Architecture for Compact {
    fn scale(&self) -> u32 {
        self.scale
    }

    fn channels(&self) -> usize {
        self.channels
    }

    /// The whole receptive field, which is small.
    fn halo(&self) -> u32 {
        self.convs as u32 + 2
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let image = graph.image();
        let (mut features, mut channels) = (image, self.channels);
        for i in 0..=self.convs {
            let convolved = graph.conv(Self::name(2 * i), features, channels, self.features);
            features = match self.activation {
                Activation::Prelu => graph.prelu(convolved, Self::name(2 * i + 1)),
                Activation::Relu => graph.leaky_relu(convolved, Millionths::new(0.0)),
            };
            channels = self.features;
        }
        let last = graph.conv(Self::name(2 * self.convs + 2), features, self.features, self.last());
        let shuffled = graph.pixel_shuffle(last, self.scale as usize);
        let base = graph.upsample(image, self.scale as usize);
        graph.sum(vec![shuffled, base]);
        graph
    }

    fn on_cpu(&self, kernels: CpuKernels, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        kernels.load(self, weights)
    }
}

/// Recognises Compact networks.
pub struct Family;

impl architecture::Family for Family {
    fn name(&self) -> &'static str {
        "Compact (SRVGGNet)"
    }

    fn first_arrays(&self) -> &'static [&'static str] {
        &["body.0.weight"]
    }

    fn recognises(&self, weights: &StateDict) -> bool {
        let is_conv = |name| weights.0.get(name).is_some_and(|t| t.shape.len() == 4 && t.shape[2..] == [3, 3]);
        is_conv("body.0.weight") && is_conv("body.2.weight")
    }

    fn sizes(&self, weights: &StateDict) -> Result<Box<dyn Architecture>, NnError> {
        let convolutions = weights.0.iter().filter(|(_, tensor)| tensor.shape.len() == 4);
        let numbers: Vec<usize> = convolutions
            .filter_map(|(name, _)| name.strip_prefix("body.")?.strip_suffix(".weight")?.parse().ok())
            .collect();
        let last = numbers.iter().copied().max().unwrap_or_default();
        let first = weights.conv_shape("body.0.weight")?;
        let end = weights.conv_shape(&format!("body.{last}.weight"))?;
        let channels = first[1];
        let square = end[0] / channels;
        let scale = (1..=8).find(|s| s * s == square && square * channels == end[0]);
        let (Some(scale), true) = (scale, matches!(channels, 1 | 3) && numbers.len() >= 2) else {
            return Err(NnError::Architecture(format!(
                "the Compact model outputs {} channels for {channels}, which is not a whole scale from 1 to 8",
                end[0]
            )));
        };
        let learned = weights.0.get("body.1.weight").is_some_and(|tensor| tensor.shape.len() == 1);
        Ok(Box::new(Compact {
            scale: scale as u32,
            channels,
            features: first[0],
            convs: numbers.len() - 2,
            activation: if learned { Activation::Prelu } else { Activation::Relu },
        }))
    }

    /// Activations are compared as learned slopes, whatever they are in the file.
    fn sizes_of_graph(&self, graph: &Graph) -> Result<Option<Box<dyn Architecture>>, NnError> {
        let is_compact = |node: &Node| matches!(node, Node::PixelShuffle(..) | Node::Prelu(..));
        let [first, .., _] = graph.convs() else { return Ok(None) };
        if !graph.nodes().iter().any(is_compact) {
            return Ok(None);
        }
        let last_id = graph.nodes().iter().position(|node| *node == Node::Conv(graph.convs().len() - 1));
        let scale = graph.nodes().iter().find_map(|node| match node {
            Node::PixelShuffle(of, by) if Some(*of) == last_id => Some(*by),
            _ => None,
        });
        let scale = scale.unwrap_or(1);
        graph.same_colours(scale, 1)?;
        Ok(Some(Box::new(Compact {
            scale: u32::try_from(scale).unwrap_or(u32::MAX),
            channels: first.inputs,
            features: first.outputs,
            convs: graph.convs().len() - 2,
            activation: Activation::Prelu,
        })))
    }
}

/// On the CPU.
struct Fused<T: Element> {
    scale: usize,
    colours: usize,
    features: usize,
    /// All but the last, each with its activation.
    convs: Vec<Conv<T>>,
    last: Conv<T>,
}

impl OnCpu for Compact {
    fn load<T: Element>(&self, kernel: T::Kernel, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        let slope = |layer: usize| match self.activation {
            Activation::Relu => Ok(Slope::Same(0.0)),
            Activation::Prelu => {
                Ok(Slope::Each(tensor(weights, &format!("{}.weight", Self::name(layer)))?.data.clone()))
            }
        };
        let convs: Result<Vec<_>, NnError> = (0..=self.convs)
            .into_par_iter()
            .map(|i| {
                let inputs = [if i == 0 { self.channels } else { self.features }];
                conv::<T>(kernel, weights, &Self::name(2 * i), &inputs, slope(2 * i + 1)?)
            })
            .collect();
        let last = conv(kernel, weights, &Self::name(2 * self.convs + 2), &[self.features], Slope::Same(1.0))?;
        let (scale, colours, features) = (self.scale as usize, self.channels, self.features);
        Ok(Box::new(Fused { scale, colours, features, convs: convs?, last }))
    }
}

impl<T: Element> Fused<T> {
    fn channels(&self) -> usize {
        self.features.next_multiple_of(T::CHANNELS)
    }

    /// Memory that grows with the width: two rows of each layer, and 16 of the band and its result.
    fn bytes_per_column(&self) -> usize {
        let history = 2 * self.convs.len() * self.channels() * size_of::<T>();
        history + 16 * (2 * self.channels() * size_of::<T>() + 3 * self.last.outputs() * 4)
    }

    /// Pixel shuffle, plus the image enlarged by repetition.
    fn pixel_shuffle(&self, map: &mut Map<f32>, rgb: &[f32], result: &mut [f32]) {
        let (w, s) = (map.width, self.scale);
        let (channels, stride) = (map.channels, map.stride());
        let map = &*map.rows_mut();
        let outputs = self.last.outputs();
        result.par_chunks_mut(w * s * 3).enumerate().for_each(|(row, out)| {
            let (y, dy) = (row / s, row % s);
            for x in 0..w {
                let values = &map[y * stride + (x + 1) * channels..][..outputs];
                let base = &rgb[(y * w + x) * 3..][..3];
                for dx in 0..s {
                    let pixel = &mut out[(x * s + dx) * 3..][..3];
                    if self.colours == 3 {
                        for c in 0..3 {
                            pixel[c] = values[c * s * s + dy * s + dx] + base[c];
                        }
                    } else {
                        pixel.fill(values[dy * s + dx] + (base[0] + base[1] + base[2]) / 3.0);
                    }
                }
            }
        });
    }
}

impl<T: Element> Model for Fused<T> {
    fn widest(&self) -> u32 {
        widest(0, self.bytes_per_column(), 1)
    }

    fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let (w, h) = (strip.width, strip.height);
        let depth = self.convs.len() + 1;
        let bands = Bands::new(strip, 1, T::BAND);
        let history = || History::<T>::new(w, self.channels(), bands.keep(2));
        let mut histories = self.convs.iter().map(|_| history()).collect::<Result<Vec<_>, _>>()?;
        let mut current = Map::<T>::new(w, bands.room(), self.channels())?;
        let mut next = Map::<T>::new(w, bands.room(), self.channels())?;
        let mut last = Map::<f32>::new(w, bands.room(), self.last.outputs().next_multiple_of(BLOCK))?;
        let mut input = Input::<T>::new(strip, self.colours, 1, &bands)?;
        let mut rgb = zeroed(bands.room() * w * 3)?;
        let mut result = zeroed(rgb.len() * self.scale * self.scale)?;
        reserve_small()?;
        let mut scratch = Scratch::new();
        let mut done = 0;
        let share = |done: usize| done as f64 / (depth * h) as f64;
        for step in 0..bands.steps(depth) {
            for (i, conv) in self.convs.iter().enumerate() {
                report.done(share(done))?;
                let rows = bands.rows(step, i + 1);
                done += rows.len();
                next.hold(rows.clone());
                if i == 0 {
                    conv.run(&[input.read(&rows)], Output::map(&mut next), &mut scratch);
                } else {
                    conv.run(&[current.view(&histories[i - 1])], Output::map(&mut next), &mut scratch);
                    histories[i - 1].remember(&current);
                }
                std::mem::swap(&mut current, &mut next);
            }
            let rows = bands.rows(step, depth);
            done += rows.len();
            last.hold(rows.clone());
            let history = histories.last_mut().expect("there is a first convolution");
            self.last.run(&[current.view(history)], Output::wide(&mut last), &mut scratch);
            history.remember(&current);
            if !rows.is_empty() {
                let rgb = &mut rgb[..rows.len() * w * 3];
                (strip.read)(rows.clone(), rgb);
                let result = &mut result[..rgb.len() * self.scale * self.scale];
                self.pixel_shuffle(&mut last, rgb, result);
                emit(rows.start * self.scale, result);
            }
        }
        report.done(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{architecture::Family as _, tensor::Tensor};

    /// Arrays of these shapes; their values do not matter.
    fn arrays(shapes: &[(&str, &[usize])]) -> StateDict {
        let tensor = |shape: &[usize]| Tensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
        StateDict(shapes.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect())
    }

    const LARGE: Compact = Compact { scale: 4, channels: 3, features: 64, convs: 16, activation: Activation::Prelu };

    #[test]
    fn sizes_are_read_from_shapes() {
        let file = arrays(&[
            ("body.0.weight", &[8, 3, 3, 3]),
            ("body.1.weight", &[8]),
            ("body.2.weight", &[8, 8, 3, 3]),
            ("body.3.weight", &[8]),
            ("body.4.weight", &[27, 8, 3, 3]),
        ]);
        assert!(Family.recognises(&file));
        let found = Family.sizes(&file).expect("a network");
        assert_eq!((found.to_string().as_str(), found.channels()), ("Compact 3x, 1 convolutions, 8 features", 3));
        let relu = arrays(&[("body.0.weight", &[8, 1, 3, 3]), ("body.2.weight", &[4, 8, 3, 3])]);
        let found = Family.sizes(&relu).expect("a network of grey images");
        assert_eq!((found.scale(), found.channels(), found.graph().prelus().len()), (2, 1, 0));
        assert!(!Family.recognises(&arrays(&[("body.0.weight", &[8, 3, 3, 3]), ("body.2.weight", &[8, 8, 1, 1])])));
    }

    #[test]
    fn a_scale_that_is_not_whole_is_refused() {
        for last in [10, 13, 3 * 81, 5] {
            let file = arrays(&[("body.0.weight", &[8, 3, 3, 3]), ("body.2.weight", &[last, 8, 3, 3])]);
            let error = Family.sizes(&file).expect_err("refused").to_string();
            assert!(error.contains(&format!("outputs {last} channels for 3")), "{error}");
        }
        let two = arrays(&[("body.0.weight", &[8, 2, 3, 3]), ("body.2.weight", &[8, 8, 3, 3])]);
        assert!(Family.sizes(&two).is_err(), "two colours");
    }

    #[test]
    fn the_operations_of_animevideo_v3_are_counted_by_hand() {
        // 18 for each weight: 3 to 64, 16 times 64 to 64, 64 to 48 channels.
        assert_eq!(LARGE.graph().flops_per_pixel(), 18.0 * (3.0 * 64.0 + 16.0 * 64.0 * 64.0 + 64.0 * 48.0));
        assert_eq!((LARGE.halo(), LARGE.alignment()), (18, 1));
        assert_eq!(LARGE.graph().arrays().len(), 2 * 18 + 17);
    }
}
