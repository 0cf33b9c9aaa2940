//! An RRDBNet's sizes, and its layers.

use std::fmt::{Display, Formatter};

use crate::graph::{Graph, Id, Millionths};

/// Slope below zero of ESRGAN's activations (Wang et al. 2018, section 3.1).
pub const SLOPE: f32 = 0.2;
/// Gain of its residuals (the same).
pub const RESIDUAL: f32 = 0.2;
/// Convolutions of a dense block.
pub const DENSE: usize = 5;

/// An RRDBNet's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RrdbNet {
    /// Blocks of so many pixels squared are channels of the first convolution: 1 for 4x networks, 2 for 2x, 4 for 1x.
    pub unshuffle: usize,
    /// Colours of the image and of the result.
    pub channels: usize,
    /// Channels of the trunk.
    pub features: usize,
    /// Residual in residual blocks, of three dense blocks each.
    pub blocks: usize,
    /// Channels that each convolution of a dense block adds.
    pub growth: usize,
    /// How often the size is doubled after the trunk.
    pub upsamplings: usize,
}

impl Display for RrdbNet {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { unshuffle, features, blocks, growth, upsamplings, .. } = self;
        let scale = (1 << upsamplings) / unshuffle;
        write!(f, "RRDBNet {scale}x, {blocks} blocks, {features} features, growth {growth}")
    }
}

impl RrdbNet {
    /// The name of a convolution in a dense block; blocks count from 0, the rest from 1.
    pub(crate) fn dense_name(block: usize, dense: usize, conv: usize) -> String {
        format!("body.{block}.rdb{dense}.conv{conv}")
    }

    /// Channels that the first convolution reads.
    pub(crate) fn read(&self) -> usize {
        self.channels * self.unshuffle * self.unshuffle
    }

    /// Its graph.
    pub(crate) fn layers(&self) -> Graph {
        let mut graph = Graph::default();
        let features = self.features;
        let image = graph.image();
        let colours = graph.pixel_unshuffle(image, self.unshuffle);
        let first = graph.conv("conv_first", colours, self.read(), features);
        let mut trunk = first;
        for block in 0..self.blocks {
            let before = trunk;
            for dense in 1..=3 {
                trunk = self.dense_block(&mut graph, block, dense, trunk);
            }
            trunk = residual(&mut graph, trunk, before);
        }
        let body = graph.conv("conv_body", trunk, features, features);
        let mut map = graph.sum(vec![first, body]);
        for up in 1..=self.upsamplings {
            let doubled = graph.upsample(map, 2);
            let convolved = graph.conv(format!("conv_up{up}"), doubled, features, features);
            map = graph.leaky_relu(convolved, Millionths::new(SLOPE));
        }
        let high = graph.conv("conv_hr", map, features, features);
        let high = graph.leaky_relu(high, Millionths::new(SLOPE));
        graph.conv("conv_last", high, features, self.channels);
        graph
    }

    fn dense_block(&self, graph: &mut Graph, block: usize, dense: usize, trunk: Id) -> Id {
        let mut maps = vec![trunk];
        let conv = |graph: &mut Graph, maps: &[Id], k: usize, outputs: usize| {
            let all = graph.concat(maps);
            graph.conv(Self::dense_name(block, dense, k), all, self.features + (k - 1) * self.growth, outputs)
        };
        for k in 1..DENSE {
            let convolved = conv(graph, &maps, k, self.growth);
            maps.push(graph.leaky_relu(convolved, Millionths::new(SLOPE)));
        }
        let last = conv(graph, &maps, DENSE, self.features);
        residual(graph, last, trunk)
    }
}

fn residual(graph: &mut Graph, of: Id, trunk: Id) -> Id {
    let scaled = graph.scale(of, Millionths::new(RESIDUAL));
    graph.sum(vec![scaled, trunk])
}
