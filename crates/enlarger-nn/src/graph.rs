//! What a network computes, as a graph of its layers.
//!
//! Architectures describe themselves by it. Names of weights and the number of operations are read from it, graphs in
//! files are compared with it, and a device without code for an architecture can run it layer by layer.
//!
//! Each result is an expression over earlier ones, and equal expressions have equal numbers.

use std::collections::{BTreeSet, HashMap};

use crate::error::{NnError, shortened};

/// The number of a node; its operands have smaller ones.
pub type Id = usize;

/// A number in millionths, so that equal ones compare equal however they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Millionths(i64);

impl Millionths {
    /// Rounds to the nearest.
    pub fn new(value: f32) -> Self {
        Self((f64::from(value) * 1e6).round() as i64)
    }

    /// As a float.
    pub fn value(self) -> f32 {
        (self.0 as f64 / 1e6) as f32
    }
}

/// One result. Maps are `[channels][height][width]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Node {
    /// The image: colours from 0 to 1.
    Image,
    /// A convolution of 3x3 with bias that keeps the size, zeros lying beyond the edges: which of [`Graph::convs`].
    Conv(usize),
    /// max(x, 0) + slope * min(x, 0).
    LeakyRelu(Id, Millionths),
    /// The same, with a learned slope per channel: which of [`Graph::prelus`].
    Prelu(Id, usize),
    /// The channels of all, one map after the other.
    Concat(Vec<Id>),
    /// Times a number.
    Scale(Id, Millionths),
    /// In ascending order: addition commutes.
    Sum(Vec<Id>),
    /// To a multiple of both sides, each pixel repeated.
    Upsample(Id, usize),
    /// Channels `c * r * r + dy * r + dx` to pixels of blocks of `r` x `r`.
    PixelShuffle(Id, usize),
    /// The inverse.
    PixelUnshuffle(Id, usize),
}

/// A convolution of 3x3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvLayer {
    /// Its arrays are `NAME.weight`, `[outputs][inputs][3][3]`, and `NAME.bias`, `[outputs]`.
    pub name: String,
    /// What it reads.
    pub input: Id,
    /// Channels it reads.
    pub inputs: usize,
    /// Channels it makes.
    pub outputs: usize,
}

/// A graph of layers. The last node that was added is its result.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
    convs: Vec<ConvLayer>,
    prelus: Vec<String>,
}

impl Graph {
    /// All nodes, operands before what reads them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All convolutions in the order they were added.
    pub fn convs(&self) -> &[ConvLayer] {
        &self.convs
    }

    /// The learned slopes: `NAME.weight` is the array of each, `[channels]`.
    pub fn prelus(&self) -> &[String] {
        &self.prelus
    }

    /// The number of a node, which is added unless there is one like it.
    fn id(&mut self, node: Node) -> Id {
        *self.ids.entry(node).or_insert_with_key(|node| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        })
    }

    /// [`Node::Image`].
    pub fn image(&mut self) -> Id {
        self.id(Node::Image)
    }

    /// [`Node::Conv`].
    pub fn conv(&mut self, name: impl Into<String>, input: Id, inputs: usize, outputs: usize) -> Id {
        self.convs.push(ConvLayer { name: name.into(), input, inputs, outputs });
        self.id(Node::Conv(self.convs.len() - 1))
    }

    /// The result of a convolution that was added, by its place among them.
    pub(crate) fn convolved(&mut self, at: usize) -> Id {
        self.id(Node::Conv(at))
    }

    /// [`Node::LeakyRelu`].
    pub fn leaky_relu(&mut self, of: Id, slope: Millionths) -> Id {
        self.id(Node::LeakyRelu(of, slope))
    }

    /// [`Node::Prelu`].
    pub fn prelu(&mut self, of: Id, name: impl Into<String>) -> Id {
        self.prelus.push(name.into());
        self.id(Node::Prelu(of, self.prelus.len() - 1))
    }

    /// [`Node::Concat`].
    pub fn concat(&mut self, of: &[Id]) -> Id {
        if let [one] = *of { one } else { self.id(Node::Concat(of.to_vec())) }
    }

    /// [`Node::Scale`].
    pub fn scale(&mut self, of: Id, by: Millionths) -> Id {
        if by == Millionths::new(1.0) { of } else { self.id(Node::Scale(of, by)) }
    }

    /// [`Node::Sum`].
    pub fn sum(&mut self, mut of: Vec<Id>) -> Id {
        of.sort_unstable();
        self.id(Node::Sum(of))
    }

    /// [`Node::Upsample`].
    pub fn upsample(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Node::Upsample(of, by)) }
    }

    /// [`Node::PixelShuffle`].
    pub fn pixel_shuffle(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Node::PixelShuffle(of, by)) }
    }

    /// [`Node::PixelUnshuffle`].
    pub fn pixel_unshuffle(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Node::PixelUnshuffle(of, by)) }
    }

    /// # Errors
    /// [`NnError::Architecture`] unless the last convolution, whose result is shuffled by one number, makes as many colours
    /// as the first reads, which were unshuffled by another.
    pub(crate) fn same_colours(&self, shuffled: usize, unshuffled: usize) -> Result<(), NnError> {
        let [first, .., last] = &*self.convs else { return Ok(()) };
        let size = |channels: usize, by: usize| by.checked_mul(by).and_then(|pixels| channels.checked_mul(pixels));
        if size(first.inputs, shuffled) == size(last.outputs, unshuffled) {
            return Ok(());
        }
        Err(NnError::Architecture(format!(
            "the model reads and writes different numbers of color channels (layers {} and {})",
            shortened(&first.name),
            shortened(&last.name)
        )))
    }

    /// The names of all arrays that the network computes with.
    pub fn arrays(&self) -> BTreeSet<String> {
        let of_conv = |conv: &ConvLayer| [format!("{}.weight", conv.name), format!("{}.bias", conv.name)];
        let prelus = self.prelus.iter().map(|name| format!("{name}.weight"));
        self.convs.iter().flat_map(of_conv).chain(prelus).collect()
    }

    /// Operations per pixel of the image if all convolutions are computed directly, a multiplication and an addition
    /// each being one. Biases, activations and sums do not count.
    pub fn flops_per_pixel(&self) -> f64 {
        let sizes = self.sizes();
        let flops = |conv: &ConvLayer| {
            let (up, down) = sizes[conv.input];
            (2 * 9 * conv.inputs * conv.outputs * up * up) as f64 / (down * down) as f64
        };
        self.convs.iter().map(flops).sum()
    }

    /// How many times as wide and high as the image each node is, as a fraction.
    pub(crate) fn sizes(&self) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let size = match *node {
                Node::Image => (1, 1),
                Node::Conv(at) => sizes[self.convs[at].input],
                Node::Concat(ref of) | Node::Sum(ref of) => of.first().map_or((1, 1), |&of| sizes[of]),
                Node::LeakyRelu(of, _) | Node::Prelu(of, _) | Node::Scale(of, _) => sizes[of],
                Node::Upsample(of, by) | Node::PixelShuffle(of, by) => (sizes[of].0.saturating_mul(by), sizes[of].1),
                Node::PixelUnshuffle(of, by) => (sizes[of].0, sizes[of].1.saturating_mul(by)),
            };
            sizes.push(size);
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_one_node() {
        let mut graph = Graph::default();
        let image = graph.image();
        let (a, b) = (graph.conv("a", image, 3, 8), graph.conv("b", image, 3, 8));
        assert_ne!(a, b, "convolutions differ by their weights");
        assert_eq!(graph.sum(vec![a, b]), graph.sum(vec![b, a]));
        assert_ne!(graph.concat(&[a, b]), graph.concat(&[b, a]));
        assert_eq!((graph.concat(&[a]), graph.upsample(a, 1), graph.scale(a, Millionths::new(1.0))), (a, a, a));
        assert_eq!(Millionths::new(0.2), Millionths::new("2.000000e-01".parse().expect("a number")));
        assert_eq!(Millionths::new(0.2).value(), 0.2);
    }

    #[test]
    fn operations_are_counted_at_the_size_they_run_at() {
        let mut graph = Graph::default();
        let image = graph.image();
        let halved = graph.pixel_unshuffle(image, 2);
        let conv = graph.conv("a", halved, 12, 10);
        let doubled = graph.upsample(conv, 4);
        graph.conv("b", doubled, 10, 3);
        // A quarter of the pixels, then 16 quarters.
        assert_eq!(graph.flops_per_pixel(), 18.0 * (12.0 * 10.0 / 4.0 + 10.0 * 3.0 * 4.0));
    }
}
