//! Text encoders: CLIP-L of SD 1.x and SDXL, OpenCLIP-H of SD 2.x and OpenCLIP-G of SDXL.

use crate::{
    array::Array,
    error::{Error, Result},
    layers::{Attention, Heads},
    ops::{Activation, Ops},
    weights::Weights,
};

struct Layer<O: Ops> {
    norm1: O::Norm,
    attention: Attention<O>,
    norm2: O::Norm,
    spread: O::Weights,
    gather: O::Weights,
}

/// A text encoder.
pub struct Clip<O: Ops> {
    tokens: Array,
    positions: Vec<f32>,
    layers: Vec<Layer<O>>,
    norm: O::Norm,
    projection: Option<O::Weights>,
    activation: Activation,
    width: usize,
}

/// A token of a chunk: a number of the vocabulary, or a vector of a textual-inversion embedding.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// 0 to 49407.
    Word(u32),
    /// As wide as the encoder.
    Vector(Vec<f32>),
}

/// What an encoder makes of a chunk.
pub struct Encoded<T> {
    /// Hidden states `[1, 1, 77, width]` after all layers but `skip`.
    pub hidden: T,
    /// The last layer's state at the first end of text, normalised and projected, `[width]`; only of encoders with a
    /// projection.
    pub pooled: Option<Vec<f32>>,
}

/// Tokens of a chunk, with start and end.
pub const CHUNK: usize = 77;
/// Start of text.
pub const START: u32 = 49406;
/// End of text.
pub const END: u32 = 49407;

impl<O: Ops> Clip<O> {
    /// Reads a text encoder. `activation` is QuickGELU for OpenAI's, GELU for OpenCLIP's; heads are 64 wide.
    ///
    /// # Errors
    /// [`Error::Weights`] if arrays are missing or do not fit each other; memory and files.
    pub fn load(ops: &O, w: &Weights, activation: Activation, heads: Heads) -> Result<Self> {
        let tokens = w.get("embeddings.token_embedding.weight")?;
        let positions = w.get("embeddings.position_embedding.weight")?;
        let &[vocabulary, width] = tokens.shape.as_slice() else {
            return Err(Error::Weights("the vocabulary of the text encoder is not a table".into()));
        };
        if width == 0
            || w.count("encoder.layers.") == 0
            || vocabulary <= END as usize
            || positions.shape != [CHUNK, width]
        {
            return Err(Error::Weights(format!(
                "the text encoder has {vocabulary} words and {:?} positions",
                positions.shape
            )));
        }
        let layer = |i: usize| -> Result<Layer<O>> {
            let name = format!("encoder.layers.{i}");
            let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
            Ok(Layer {
                norm1: w.norm(ops, &format!("{name}.layer_norm1"))?,
                attention: Attention::load(ops, w, &format!("{name}.self_attn"), names, heads.of(width))?,
                norm2: w.norm(ops, &format!("{name}.layer_norm2"))?,
                spread: w.layer(ops, &format!("{name}.mlp.fc1"))?,
                gather: w.layer(ops, &format!("{name}.mlp.fc2"))?,
            })
        };
        Ok(Self {
            positions: positions.to_f32()?,
            layers: (0..w.count("encoder.layers.")).map(layer).collect::<Result<_>>()?,
            norm: w.norm(ops, "final_layer_norm")?,
            projection: w.has("text_projection.").then(|| w.layer(ops, "text_projection")).transpose()?,
            activation,
            width,
            tokens,
        })
    }

    /// Values of each hidden state.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Encodes a chunk of [`CHUNK`] tokens. `skip` layers at the end are left out (A1111's clip skip less one); `normed`
    /// says whether the final normalisation follows (SD 1.x, 2.x: yes; SDXL: no).
    ///
    /// # Errors
    /// [`Error::Request`] if tokens are unknown, vectors have another width, or there are not so many layers to skip.
    pub fn encode(&self, ops: &O, tokens: &[Token], skip: usize, normed: bool) -> Result<Encoded<O::Tensor>> {
        if tokens.len() != CHUNK || skip >= self.layers.len().max(1) {
            return Err(Error::Request(format!(
                "a text of {} tokens with {skip} layers left out; chunks have {CHUNK}, the encoder {} layers",
                tokens.len(),
                self.layers.len()
            )));
        }
        let mut values = self.positions.clone();
        let mut row = vec![0.0; self.width];
        for (to, token) in values.chunks_exact_mut(self.width).zip(tokens) {
            match token {
                Token::Word(word) if (*word as usize) < self.tokens.shape[0] => {
                    self.tokens.widen(*word as usize * self.width, &mut row);
                }
                Token::Vector(vector) if vector.len() == self.width => row.copy_from_slice(vector),
                _ => return Err(Error::Request("the prompt has a token that the text encoder does not know".into())),
            }
            to.iter_mut().zip(&row).for_each(|(to, v)| *to += v);
        }
        let mut x = ops.upload([1, 1, CHUNK, self.width], &values)?;
        let mut hidden = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let normed = ops.layer_norm(&x, &layer.norm1, 1e-5)?;
            x = ops.add(&x, &layer.attention.run(ops, &normed, &normed, true)?, 1.0)?;
            let normed = ops.layer_norm(&x, &layer.norm2, 1e-5)?;
            let spread = ops.activate(&ops.linear(&normed, &layer.spread)?, self.activation)?;
            x = ops.add(&x, &ops.linear(&spread, &layer.gather)?, 1.0)?;
            if i + 1 == self.layers.len() - skip {
                hidden = x.clone();
            }
        }
        if normed {
            hidden = ops.layer_norm(&hidden, &self.norm, 1e-5)?;
        }
        let pooled = match &self.projection {
            Some(projection) => {
                let last = ops.download(&ops.layer_norm(&x, &self.norm, 1e-5)?)?;
                let end = tokens.iter().position(|t| *t == Token::Word(END)).unwrap_or(CHUNK - 1);
                let end = ops.upload([1, 1, 1, self.width], &last[end * self.width..][..self.width])?;
                Some(ops.download(&ops.linear(&end, projection)?)?)
            }
            None => None,
        };
        Ok(Encoded { hidden, pooled })
    }
}
