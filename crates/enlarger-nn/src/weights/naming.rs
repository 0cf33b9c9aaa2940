//! Names for the arrays of a file that has a graph of layers: the graph is compared, layer by layer, with that of the
//! network that it could be. A file that is not that network to the last layer is refused.

use std::collections::HashMap;

use crate::{
    arch,
    error::{NnError, shortened},
    graph::{Graph, Id, Millionths, Node},
    tensor::{StateDict, Tensor},
};

/// A network as a file has it: layers without the architecture's names.
#[derive(Default)]
pub struct Layers {
    /// Convolutions and slopes have the names of their layers in the file.
    pub graph: Graph,
    /// Weight and bias of each convolution.
    convs: Vec<[Tensor; 2]>,
    /// Values of each learned slope: one per channel, or one for all.
    prelus: Vec<Vec<f32>>,
    blobs: HashMap<String, Id>,
    last: Id,
    last_layer: String,
}

impl Layers {
    /// Names a layer's results; the last layer's is the network's.
    pub fn define(&mut self, layer: &str, names: &[&str], id: Id) {
        self.blobs.extend(names.iter().map(|name| ((*name).to_owned(), id)));
        self.last_layer = layer.to_owned();
        self.last = id;
    }

    /// # Errors
    /// [`NnError::Format`] if no earlier layer has made it.
    pub fn blob(&self, layer: &str, name: &str) -> Result<Id, NnError> {
        let error = || format!("layer {} reads {}, which no layer makes", shortened(layer), shortened(name));
        self.blobs.get(name).copied().ok_or_else(|| NnError::Format(error()))
    }

    /// A convolution with its weight, `[outputs][inputs][3][3]`, and bias.
    pub fn conv(&mut self, layer: &str, input: Id, weight: Tensor, bias: Tensor) -> Id {
        let id = self.graph.conv(layer, input, weight.shape[1], weight.shape[0]);
        self.convs.push([weight, bias]);
        id
    }

    /// A learned slope.
    pub fn prelu(&mut self, layer: &str, of: Id, slopes: Vec<f32>) -> Id {
        self.prelus.push(slopes);
        self.graph.prelu(of, layer)
    }

    /// The network's arrays by their canonical names.
    ///
    /// # Errors
    /// [`NnError::Architecture`] with the name of the first layer that does not fit.
    pub fn into_weights(self) -> Result<StateDict, NnError> {
        let (family, network) = arch::detect_graph(&self.graph)?;
        let expected = network.graph();
        let (layers, result) = (self.convs.len(), self.last);
        let mut walk = Walk { file: self, family, next: 0, weights: StateDict::default() };
        let ended = walk.along(&expected)?;
        if walk.next != layers || ended != Some(result) {
            let Layers { graph, last_layer, .. } = &walk.file;
            let layer = graph.convs().get(walk.next).map_or(last_layer, |conv| &conv.name);
            return Err(NnError::Architecture(format!(
                "the ncnn model does not end like a {family} model; see its layer {}",
                shortened(layer)
            )));
        }
        Ok(walk.weights)
    }
}

/// Walks through a network as it should be, and finds each of its layers in the file.
struct Walk {
    file: Layers,
    family: &'static str,
    /// The next convolution of the file.
    next: usize,
    weights: StateDict,
}

impl Walk {
    /// Returns what the file has in the place of the result.
    fn along(&mut self, expected: &Graph) -> Result<Option<Id>, NnError> {
        // What the file has in the place of each node.
        let mut ids: Vec<Id> = Vec::with_capacity(expected.nodes().len());
        for node in expected.nodes() {
            let all = |of: &[Id]| of.iter().map(|&of| ids[of]).collect::<Vec<_>>();
            let id = match *node {
                Node::Conv(at) => {
                    let conv = &expected.convs()[at];
                    self.conv(&conv.name, ids[conv.input])?
                }
                Node::Prelu(of, at) => self.prelu(&expected.prelus()[at], ids[of]),
                Node::Image => self.file.graph.image(),
                Node::LeakyRelu(of, slope) => self.file.graph.leaky_relu(ids[of], slope),
                Node::Concat(ref of) => self.file.graph.concat(&all(of)),
                Node::Scale(of, by) => self.file.graph.scale(ids[of], by),
                Node::Sum(ref of) => self.file.graph.sum(all(of)),
                Node::Upsample(of, by) => self.file.graph.upsample(ids[of], by),
                Node::PixelShuffle(of, by) => self.file.graph.pixel_shuffle(ids[of], by),
                Node::PixelUnshuffle(of, by) => self.file.graph.pixel_unshuffle(ids[of], by),
            };
            ids.push(id);
        }
        Ok(ids.last().copied())
    }

    /// The next convolution, which must read `input`, and takes its name.
    fn conv(&mut self, name: &str, input: Id) -> Result<Id, NnError> {
        let (Some(conv), Some(arrays)) = (self.file.graph.convs().get(self.next), self.file.convs.get_mut(self.next))
        else {
            return Err(NnError::Architecture(format!(
                "the ncnn model has fewer convolutions than {} models have",
                self.family
            )));
        };
        if conv.input != input {
            return Err(NnError::Architecture(format!(
                "layer {} of the ncnn model does not read what {name} of {} models reads",
                shortened(&conv.name),
                self.family
            )));
        }
        for (tensor, part) in arrays.iter_mut().zip(["weight", "bias"]) {
            let empty = Tensor { shape: Vec::new(), data: Vec::new() };
            self.weights.0.insert(format!("{name}.{part}"), std::mem::replace(tensor, empty));
        }
        self.next += 1;
        Ok(self.file.graph.convolved(self.next - 1))
    }

    /// A learned slope after `of`, if that is what the next convolution reads. Any activation with one slope for all
    /// channels has as many equal ones, and without an activation they are 1.
    fn prelu(&mut self, name: &str, of: Id) -> Id {
        let Layers { graph, prelus, .. } = &self.file;
        let channels = graph.convs()[self.next - 1].outputs;
        let read = graph.convs().get(self.next).map(|conv| (conv.input, &graph.nodes()[conv.input]));
        let (id, mut slopes) = match read {
            Some((id, &Node::Prelu(from, at))) if from == of => (id, prelus[at].clone()),
            Some((id, &Node::LeakyRelu(from, slope))) if from == of => (id, vec![Millionths::value(slope)]),
            _ => (of, vec![1.0]),
        };
        if let [slope] = slopes[..] {
            slopes = vec![slope; channels];
        }
        self.weights.0.insert(format!("{name}.weight"), Tensor { shape: vec![slopes.len()], data: slopes });
        id
    }
}
