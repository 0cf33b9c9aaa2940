//! What a graph of layers computes, compared with what the supported networks compute.
//!
//! Each result is an expression over earlier ones, and equal expressions have equal numbers. So a network is known by
//! walking through what it should be: every convolution must read the very expression that it reads there.

use std::collections::HashMap;

use super::shortened;
use crate::{
    error::NnError,
    tensor::{StateDict, Tensor},
};

/// An expression's number.
pub type Id = usize;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Expression {
    Picture,
    /// The result of a convolution, by its place in the file.
    Convolved(usize),
    /// Times a slope where it is below zero.
    Rectified(Id, Real),
    /// The same, with a slope per channel: which of [`Graph::slopes`].
    Sloped(Id, usize),
    Concatenated(Vec<Id>),
    Scaled(Id, Real),
    /// In ascending order: addition commutes.
    Sum(Vec<Id>),
    /// By repetition.
    Enlarged(Id, usize),
    Shuffled(Id, usize),
    Unshuffled(Id, usize),
}

/// A number written in a file, in millionths.
type Real = i64;

fn real(value: f32) -> Real {
    (f64::from(value) * 1e6).round() as Real
}

/// A convolution of 3x3 with its values.
pub struct Convolution {
    /// The layer's name in the file.
    pub layer: String,
    pub input: Id,
    /// Read, and made.
    pub channels: [usize; 2],
    pub weight: Tensor,
    pub bias: Tensor,
}

#[derive(Default)]
pub struct Graph {
    expressions: Vec<Expression>,
    ids: HashMap<Expression, Id>,
    blobs: HashMap<String, Id>,
    convolutions: Vec<Convolution>,
    slopes: Vec<Vec<f32>>,
    last: Id,
    last_layer: String,
}

impl Graph {
    fn id(&mut self, expression: Expression) -> Id {
        *self.ids.entry(expression).or_insert_with_key(|expression| {
            self.expressions.push(expression.clone());
            self.expressions.len() - 1
        })
    }

    /// Names a layer's results; the last layer's is the network's.
    pub fn define(&mut self, layer: &str, names: &[&str], id: Id) {
        self.blobs.extend(names.iter().map(|name| ((*name).to_owned(), id)));
        self.last_layer = layer.to_owned();
        self.last = id;
    }

    /// # Errors
    /// [`NnError::Format`] if no layer before has made it.
    pub fn blob(&self, layer: &str, name: &str) -> Result<Id, NnError> {
        let told = || format!("layer {} reads {}, which no layer makes", shortened(layer), shortened(name));
        self.blobs.get(name).copied().ok_or_else(|| NnError::Format(told()))
    }

    pub fn picture(&mut self) -> Id {
        self.id(Expression::Picture)
    }

    pub fn convolved(&mut self, convolution: Convolution) -> Id {
        self.convolutions.push(convolution);
        self.id(Expression::Convolved(self.convolutions.len() - 1))
    }

    pub fn rectified(&mut self, of: Id, slope: f32) -> Id {
        self.id(Expression::Rectified(of, real(slope)))
    }

    pub fn sloped(&mut self, of: Id, slopes: Vec<f32>) -> Id {
        self.slopes.push(slopes);
        self.id(Expression::Sloped(of, self.slopes.len() - 1))
    }

    pub fn concatenated(&mut self, of: &[Id]) -> Id {
        self.id(Expression::Concatenated(of.to_vec()))
    }

    pub fn scaled(&mut self, of: Id, by: f32) -> Id {
        if by == 1.0 { of } else { self.id(Expression::Scaled(of, real(by))) }
    }

    pub fn sum(&mut self, mut of: Vec<Id>) -> Id {
        of.sort_unstable();
        self.id(Expression::Sum(of))
    }

    pub fn enlarged(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Expression::Enlarged(of, by)) }
    }

    pub fn shuffled(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Expression::Shuffled(of, by)) }
    }

    pub fn unshuffled(&mut self, of: Id, by: usize) -> Id {
        if by == 1 { of } else { self.id(Expression::Unshuffled(of, by)) }
    }

    /// The network's arrays by the names that BasicSR gives them.
    ///
    /// # Errors
    /// [`NnError::Architecture`] with the name of the first layer that does not fit.
    pub fn into_weights(mut self) -> Result<StateDict, NnError> {
        let compact = self.expressions.iter().any(|e| matches!(e, Expression::Shuffled(..) | Expression::Sloped(..)));
        let (result, last) = (self.last, self.convolutions.len());
        let mut walk = Walk { graph: &mut self, kind: "", next: 0, weights: StateDict::default() };
        let expected = if compact { walk.compact()? } else { walk.rrdbnet()? };
        let Walk { kind, next, weights, .. } = walk;
        if next != last || expected != result {
            let layer = self.convolutions.get(next).map_or(&self.last_layer, |convolution| &convolution.layer);
            return Err(NnError::Architecture(format!(
                "the ncnn network does not end as {kind} does; see its layer {}",
                shortened(layer)
            )));
        }
        Ok(weights)
    }
}

/// Walks through a network as it should be.
struct Walk<'a> {
    graph: &'a mut Graph,
    kind: &'static str,
    next: usize,
    weights: StateDict,
}

impl Walk<'_> {
    /// The next convolution, which must read `input`, and takes its name.
    fn convolution(&mut self, name: &str, input: Id) -> Result<Id, NnError> {
        let Some(convolution) = self.graph.convolutions.get_mut(self.next) else {
            return Err(NnError::Architecture(format!("the ncnn network has too few convolutions for {}", self.kind)));
        };
        if convolution.input != input {
            return Err(NnError::Architecture(format!(
                "layer {} of the ncnn network reads something else than {name} of {} does",
                shortened(&convolution.layer),
                self.kind
            )));
        }
        let empty = || Tensor { shape: Vec::new(), data: Vec::new() };
        self.weights.0.insert(format!("{name}.weight"), std::mem::replace(&mut convolution.weight, empty()));
        self.weights.0.insert(format!("{name}.bias"), std::mem::replace(&mut convolution.bias, empty()));
        self.next += 1;
        Ok(self.graph.id(Expression::Convolved(self.next - 1)))
    }

    /// What the next convolution reads.
    fn read(&self) -> Option<&Expression> {
        let convolution = self.graph.convolutions.get(self.next)?;
        Some(&self.graph.expressions[convolution.input])
    }

    /// Residual in residual dense blocks (ESRGAN).
    fn rrdbnet(&mut self) -> Result<Id, NnError> {
        self.kind = "an ESRGAN network (RRDBNet)";
        let by = match self.read() {
            Some(&Expression::Unshuffled(_, by)) => by,
            _ => 1,
        };
        self.colours(1, by)?;
        let picture = self.graph.picture();
        let colours = self.graph.unshuffled(picture, by);
        let first = self.convolution("conv_first", colours)?;
        let ups = self.graph.expressions.iter().filter(|e| matches!(e, Expression::Enlarged(..))).count();
        // 15 convolutions per block; first, body, high and last; one per doubling.
        let blocks = self.graph.convolutions.len().saturating_sub(4 + ups) / 15;
        let mut trunk = first;
        for block in 0..blocks {
            let before = trunk;
            for dense in 1..=3 {
                let mut grown = vec![trunk];
                for k in 1..=4 {
                    let all = if k == 1 { trunk } else { self.graph.concatenated(&grown) };
                    let convolved = self.convolution(&format!("body.{block}.rdb{dense}.conv{k}"), all)?;
                    grown.push(self.graph.rectified(convolved, 0.2));
                }
                let all = self.graph.concatenated(&grown);
                let convolved = self.convolution(&format!("body.{block}.rdb{dense}.conv5"), all)?;
                trunk = self.residual(convolved, trunk);
            }
            trunk = self.residual(trunk, before);
        }
        let body = self.convolution("conv_body", trunk)?;
        let mut features = self.graph.sum(vec![first, body]);
        for up in 1..=ups {
            if let Some(&Expression::Enlarged(_, by)) = self.read()
                && by != 2
            {
                return Err(NnError::Architecture(format!(
                    "the ncnn network enlarges {by} times before its layer {}; ESRGAN networks that double the size are supported",
                    shortened(&self.graph.convolutions[self.next].layer)
                )));
            }
            let doubled = self.graph.enlarged(features, 2);
            let convolved = self.convolution(&format!("conv_up{up}"), doubled)?;
            features = self.graph.rectified(convolved, 0.2);
        }
        let high = self.convolution("conv_hr", features)?;
        let high = self.graph.rectified(high, 0.2);
        self.convolution("conv_last", high)
    }

    /// The picture has as many colours as the result, whatever was shuffled to or from channels.
    fn colours(&self, shuffled: usize, unshuffled: usize) -> Result<(), NnError> {
        let [first, .., last] = &*self.graph.convolutions else { return Ok(()) };
        let size = |channels: usize, by: usize| by.checked_mul(by).and_then(|pixels| channels.checked_mul(pixels));
        if size(first.channels[0], shuffled) == size(last.channels[1], unshuffled) {
            return Ok(());
        }
        Err(NnError::Architecture(format!(
            "layer {} of the ncnn network makes other colours than layer {} reads",
            shortened(&last.layer),
            shortened(&first.layer)
        )))
    }

    fn residual(&mut self, of: Id, trunk: Id) -> Id {
        let scaled = self.graph.scaled(of, 0.2);
        self.graph.sum(vec![scaled, trunk])
    }

    /// A stack of convolutions with pixel shuffle (SRVGGNetCompact).
    fn compact(&mut self) -> Result<Id, NnError> {
        self.kind = "a Compact network (SRVGGNet)";
        let picture = self.graph.picture();
        let mut features = picture;
        for at in 0..self.graph.convolutions.len().saturating_sub(1) {
            let outputs = self.graph.convolutions[at].channels[1];
            let convolved = self.convolution(&format!("body.{}", 2 * at), features)?;
            // One slope for all channels is as many equal ones.
            let (mut slopes, read) = match self.read() {
                Some(&Expression::Sloped(_, slopes)) => {
                    (self.graph.slopes[slopes].clone(), Expression::Sloped(convolved, slopes))
                }
                Some(&Expression::Rectified(_, slope)) => {
                    (vec![(slope as f64 / 1e6) as f32], Expression::Rectified(convolved, slope))
                }
                _ => (vec![1.0], Expression::Convolved(at)),
            };
            if let [slope] = slopes[..] {
                slopes = vec![slope; outputs];
            }
            features = self.graph.id(read);
            let slopes = Tensor { shape: vec![slopes.len()], data: slopes };
            self.weights.0.insert(format!("body.{}.weight", 2 * at + 1), slopes);
        }
        let last = self.graph.convolutions.len().saturating_sub(1);
        let convolved = self.convolution(&format!("body.{}", 2 * last), features)?;
        let by = self.graph.expressions.iter().find_map(|e| match e {
            Expression::Shuffled(of, by) if *of == convolved => Some(*by),
            _ => None,
        });
        let by = by.unwrap_or(1);
        self.colours(by, 1)?;
        let shuffled = self.graph.shuffled(convolved, by);
        let base = self.graph.enlarged(picture, by);
        Ok(self.graph.sum(vec![shuffled, base]))
    }
}
