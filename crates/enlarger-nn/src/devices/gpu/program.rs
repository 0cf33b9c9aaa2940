//! A network's graph as convolutions that run one after the other, each with all that follows it up to the next.
//!
//! Nothing here knows a card. Values that one convolution reads together lie side by side in one map, so that
//! concatenation is writing at an offset. Upsampling is a way of reading, a sum is added where a value is written.

use std::collections::HashMap;

use crate::{
    error::NnError,
    graph::{Graph, Id, Millionths, Node},
};

/// Channels of a map lie in blocks of so many.
pub const BLOCK: usize = 8;
/// The most maps that are added to a result where it is written: kernels have so many bindings for them.
pub const MOST_ADDS: usize = 2;

/// A network as a card runs it. A *unit* is a square of pixels of the image that the coarsest map has one pixel for.
#[derive(Debug)]
pub struct Program {
    /// Sides of a unit in pixels of the image.
    pub unit: usize,
    pub maps: Vec<Map>,
    /// In computable order; the last one makes the result.
    pub ops: Vec<Op>,
    /// Colours of the result.
    pub colours: usize,
}

/// Where values are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Columns, and rows, per unit.
    pub size: usize,
    pub kind: Kind,
}

/// What a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The image, squares of so many pixels being channels.
    Image { unshuffle: usize },
    /// So many blocks of channels.
    Features { blocks: usize },
    /// Colours in f32, as they are emitted.
    Result,
}

/// A convolution: `gain * activation(conv(from)) + adds`, shuffled, to a map.
#[derive(Debug)]
pub struct Op {
    /// Which of [`Graph::convs`].
    pub conv: usize,
    /// The map that it reads, from its first block on.
    pub from: usize,
    /// How many times as large as the map it is read.
    pub upsampled: usize,
    /// Channels of the values that it reads: each begins at a new block.
    pub inputs: Vec<usize>,
    pub outputs: usize,
    pub slope: Slope,
    pub gain: f32,
    /// In pixels of what is written.
    pub adds: Vec<Add>,
    pub shuffle: usize,
    pub to: Place,
}

/// The slope below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slope {
    Same(Millionths),
    /// Which of [`Graph::prelus`].
    Each(usize),
}

/// Blocks of a map from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub map: usize,
    pub block: usize,
}

/// What is added to a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Add {
    pub place: Place,
    /// How many times as large as the map it is read.
    pub upsampled: usize,
    pub gain: f32,
}

impl Op {
    /// Operations per pixel that it reads, a multiplication and an addition each being one.
    pub fn flops(&self) -> f64 {
        (2 * 9 * self.inputs.iter().sum::<usize>() * self.outputs) as f64
    }
}

impl Program {
    /// The colours that an operation makes, if it makes the result.
    pub fn colours_of(&self, op: &Op) -> Option<usize> {
        (self.maps[op.to.map].kind == Kind::Result).then_some(self.colours)
    }

    /// Lowers a graph of an image with so many colours.
    ///
    /// # Errors
    /// [`NnError::Device`] if it has layers that do not follow a convolution in one of the ways described above.
    pub fn new(graph: &Graph, colours: usize) -> Result<Self, NnError> {
        let sizes = graph.sizes();
        let unit = sizes.iter().map(|&(_, down)| down).max().unwrap_or(1);
        let units = |id: Id| sizes[id].0 * unit / sizes[id].1;
        let chains = chains(graph)?;
        let ends: HashMap<Id, usize> = chains.iter().enumerate().map(|(at, chain)| (chain.end, at)).collect();
        let mut places = Places::default();
        for (id, node) in graph.nodes().iter().enumerate() {
            if let Some(unshuffle) = image(graph, id) {
                places.own(id, Map { size: units(id), kind: Kind::Image { unshuffle } });
            } else if *node == Node::Image {
                return Err(unsupported("reads the image in a way of its own"));
            }
        }
        let last = chains.last().ok_or_else(|| unsupported("has no convolutions"))?;
        if last.end + 1 != graph.nodes().len() {
            return Err(unsupported("does not end with a convolution and what is added to it"));
        }
        places.own(last.end, Map { size: units(last.end), kind: Kind::Result });
        // A value that several convolutions read has one place only: the longest row of values first, which the others begin.
        let mut rows: Vec<Vec<Id>> = chains.iter().map(|chain| members(graph, chain.input.base)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.len()));
        for row in &rows {
            let blocks = |id: &Id| ends.get(id).map(|&at| chains[at].outputs(graph).div_ceil(BLOCK));
            places.row(row, units(row[0]), blocks)?;
        }
        for chain in &chains {
            let blocks = chain.outputs(graph).div_ceil(BLOCK);
            if !places.of.contains_key(&chain.end) {
                places.own(chain.end, Map { size: units(chain.end), kind: Kind::Features { blocks } });
            }
        }
        let channels = |id: Id| match image(graph, id) {
            Some(unshuffle) => colours * unshuffle * unshuffle,
            None => ends.get(&id).map_or(0, |&at| chains[at].outputs(graph)),
        };
        let ops = chains.iter().map(|chain| chain.op(graph, &places, channels)).collect::<Result<_, _>>()?;
        Ok(Self { unit, maps: places.maps, ops, colours })
    }
}

fn unsupported(what: &str) -> NnError {
    NnError::Device(format!("it does not run models like this one, which {what}"))
}

/// Squares of how many pixels are channels, if a node is the image.
fn image(graph: &Graph, id: Id) -> Option<usize> {
    match graph.nodes()[id] {
        Node::Image => Some(1),
        Node::PixelUnshuffle(of, by) if graph.nodes()[of] == Node::Image => Some(by),
        _ => None,
    }
}

/// The values that lie side by side in a node, in this order.
fn members(graph: &Graph, id: Id) -> Vec<Id> {
    match &graph.nodes()[id] {
        Node::Concat(of) => of.iter().flat_map(|&of| members(graph, of)).collect(),
        _ => vec![id],
    }
}

/// A node as it is read: enlarged, and times a number.
#[derive(Debug, Clone, Copy)]
struct Read {
    base: Id,
    upsampled: usize,
    gain: f32,
}

impl Read {
    fn new(graph: &Graph, of: Id) -> Self {
        match graph.nodes()[of] {
            Node::Upsample(of, by) => {
                let read = Self::new(graph, of);
                Self { upsampled: read.upsampled * by, ..read }
            }
            Node::Scale(of, by) => {
                let read = Self::new(graph, of);
                Self { gain: read.gain * by.value(), ..read }
            }
            _ => Self { base: of, upsampled: 1, gain: 1.0 },
        }
    }
}

/// A convolution with the nodes that only it is read by, one after the other.
#[derive(Debug)]
struct Chain {
    conv: usize,
    input: Read,
    slope: Slope,
    gain: f32,
    adds: Vec<Read>,
    shuffle: usize,
    /// The last of these nodes: what is kept.
    end: Id,
}

fn chains(graph: &Graph) -> Result<Vec<Chain>, NnError> {
    let mut readers: Vec<Vec<Id>> = vec![Vec::new(); graph.nodes().len()];
    for (id, node) in graph.nodes().iter().enumerate() {
        match node {
            Node::Image => {}
            Node::Conv(at) => readers[graph.convs()[*at].input].push(id),
            Node::Concat(of) | Node::Sum(of) => of.iter().for_each(|&of| readers[of].push(id)),
            Node::LeakyRelu(of, _)
            | Node::Prelu(of, _)
            | Node::Scale(of, _)
            | Node::Upsample(of, _)
            | Node::PixelShuffle(of, _)
            | Node::PixelUnshuffle(of, _) => readers[*of].push(id),
        }
    }
    let mut chains: Vec<Chain> = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let Node::Conv(conv) = *node else { continue };
        let input = Read::new(graph, graph.convs()[conv].input);
        let kept = |id: Id| image(graph, id).is_some() || chains.iter().any(|chain| chain.end == id);
        if input.gain != 1.0 || !members(graph, input.base).into_iter().all(kept) {
            return Err(unsupported("has layers between convolutions that are not supported there"));
        }
        let slope = Slope::Same(Millionths::new(1.0));
        let mut chain = Chain { conv, input, slope, gain: 1.0, adds: Vec::new(), shuffle: 1, end: id };
        while let [reader] = *readers[chain.end]
            && chain.absorb(graph, reader, kept)
        {
            chain.end = reader;
        }
        chains.push(chain);
    }
    Ok(chains)
}

impl Chain {
    fn outputs(&self, graph: &Graph) -> usize {
        graph.convs()[self.conv].outputs / (self.shuffle * self.shuffle)
    }

    /// Whether the node that reads the last one can be computed where that is written.
    fn absorb(&mut self, graph: &Graph, reader: Id, kept: impl Fn(Id) -> bool) -> bool {
        let bare = self.slope == Slope::Same(Millionths::new(1.0)) && self.gain == 1.0;
        match graph.nodes()[reader] {
            Node::LeakyRelu(_, slope) if bare && self.adds.is_empty() => self.slope = Slope::Same(slope),
            Node::Prelu(_, at) if bare && self.adds.is_empty() => self.slope = Slope::Each(at),
            Node::PixelShuffle(_, by) if self.shuffle == 1 && self.adds.is_empty() => self.shuffle = by,
            Node::Scale(_, by) => {
                self.gain *= by.value();
                self.adds.iter_mut().for_each(|add| add.gain *= by.value());
            }
            Node::Sum(ref of) => {
                let others: Vec<Read> =
                    of.iter().filter(|&&of| of != self.end).map(|&of| Read::new(graph, of)).collect();
                let fits = self.adds.len() + others.len() <= MOST_ADDS;
                if others.len() + 1 != of.len() || !fits || !others.iter().all(|add| kept(add.base)) {
                    return false;
                }
                self.adds.extend(others);
            }
            _ => return false,
        }
        true
    }

    fn op(&self, graph: &Graph, places: &Places, channels: impl Fn(Id) -> usize) -> Result<Op, NnError> {
        let layer = &graph.convs()[self.conv];
        let inputs = members(graph, self.input.base);
        let first = places.of[&inputs[0]];
        let to = places.of[&self.end];
        if self.shuffle > 1 && places.maps[to.map].kind != Kind::Result {
            return Err(unsupported("shuffles pixels before its end"));
        }
        let add = |read: &Read| Add { place: places.of[&read.base], upsampled: read.upsampled, gain: read.gain };
        Ok(Op {
            conv: self.conv,
            from: first.map,
            upsampled: self.input.upsampled,
            inputs: inputs.into_iter().map(channels).collect(),
            outputs: layer.outputs,
            slope: self.slope,
            gain: self.gain,
            adds: self.adds.iter().map(add).collect(),
            shuffle: self.shuffle,
            to,
        })
    }
}

/// Where each value lies.
#[derive(Default)]
struct Places {
    maps: Vec<Map>,
    of: HashMap<Id, Place>,
}

impl Places {
    /// Gives a value a map of its own.
    fn own(&mut self, id: Id, map: Map) {
        self.of.insert(id, Place { map: self.maps.len(), block: 0 });
        self.maps.push(map);
    }

    /// Puts values side by side, in a map of their own or where they are.
    fn row(&mut self, row: &[Id], size: usize, blocks: impl Fn(&Id) -> Option<usize>) -> Result<(), NnError> {
        let scattered = || unsupported("reads the same values side by side in different orders");
        if row.iter().any(|id| self.of.contains_key(id)) {
            let map = self.of.get(&row[0]).ok_or_else(scattered)?.map;
            let mut block = 0;
            for id in row {
                if self.of.get(id) != Some(&Place { map, block }) {
                    return Err(scattered());
                }
                block += blocks(id).unwrap_or_default();
            }
            return Ok(());
        }
        let mut at = 0;
        for id in row {
            self.of.insert(*id, Place { map: self.maps.len(), block: at });
            at += blocks(id).ok_or_else(scattered)?;
        }
        self.maps.push(Map { size, kind: Kind::Features { blocks: at } });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arch::{Activation, Compact, RrdbNet},
        architecture::Architecture,
    };

    #[test]
    fn a_dense_block_is_one_map_and_each_of_its_sums_is_part_of_a_convolution() {
        let network = RrdbNet { unshuffle: 1, channels: 3, features: 64, blocks: 2, growth: 32, upsamplings: 2 };
        let program = Program::new(&network.graph(), 3).expect("it is supported");
        assert_eq!(program.ops.len(), network.graph().convs().len(), "one operation for each convolution");
        // The image, six dense blocks, the trunk's end and the sum after it, two upsamplings, the last but one, the result.
        assert_eq!(program.maps.len(), 13);
        let wide = program.maps.iter().filter(|map| map.kind == Kind::Features { blocks: 24 }).count();
        assert_eq!(wide, 6, "192 channels each");
        let last_of_block = &program.ops[15];
        assert_eq!(last_of_block.adds.iter().map(|add| add.gain).collect::<Vec<_>>(), [0.2, 1.0]);
        assert!((last_of_block.gain - 0.04).abs() < 1e-6);
        assert_eq!((program.unit, program.colours), (1, 3));
    }

    #[test]
    fn a_compact_network_adds_the_image_to_its_shuffled_result() {
        let network = Compact { scale: 3, channels: 3, features: 24, convs: 2, activation: Activation::Prelu };
        let program = Program::new(&network.graph(), 3).expect("it is supported");
        let last = program.ops.last().expect("there are four");
        assert_eq!((last.shuffle, last.adds[0].upsampled, last.adds[0].gain), (3, 3, 1.0));
        assert_eq!(program.maps[last.to.map], Map { size: 3, kind: Kind::Result });
        assert_eq!(program.ops[1].slope, Slope::Each(1));
    }
}
