//! What UNet, ControlNet and VAE share: residual blocks and transformers of pixels.

use crate::{
    error::{Error, Result},
    ops::Ops,
    weights::Weights,
};

/// Groups of every group normalisation of these networks.
pub(crate) const GROUPS: usize = 32;

/// Two 3x3 convolutions with normalisation around which the input is carried, and the time step added between them.
pub(crate) struct Resnet<O: Ops> {
    norm1: O::Norm,
    conv1: O::Weights,
    time: Option<O::Weights>,
    norm2: O::Norm,
    conv2: O::Weights,
    shortcut: Option<O::Weights>,
    eps: f32,
}

impl<O: Ops> Resnet<O> {
    pub fn load(ops: &O, w: &Weights, name: &str, eps: f32) -> Result<Self> {
        check_groups(w, &format!("{name}.norm1"))?;
        check_groups(w, &format!("{name}.norm2"))?;
        let optional = |part: &str| {
            let part = format!("{name}.{part}");
            w.has(&format!("{part}.")).then(|| w.layer(ops, &part)).transpose()
        };
        Ok(Self {
            norm1: w.norm(ops, &format!("{name}.norm1"))?,
            conv1: w.layer(ops, &format!("{name}.conv1"))?,
            time: optional("time_emb_proj")?,
            norm2: w.norm(ops, &format!("{name}.norm2"))?,
            conv2: w.layer(ops, &format!("{name}.conv2"))?,
            shortcut: optional("conv_shortcut")?,
            eps,
        })
    }

    /// `time` is SiLU of the embedded step, `[batch, 1, 1, channels]`.
    pub fn run(&self, ops: &O, x: &O::Tensor, time: Option<&O::Tensor>) -> Result<O::Tensor> {
        let mut h = ops.norm_conv(x, &self.norm1, GROUPS, self.eps, &self.conv1, None)?;
        if let (Some(weights), Some(time)) = (&self.time, time) {
            h = ops.add(&h, &ops.linear(time, weights)?, 1.0)?;
        }
        let shortcut = self.shortcut.as_ref().map(|shortcut| ops.linear(x, shortcut)).transpose()?;
        ops.norm_conv(&h, &self.norm2, GROUPS, self.eps, &self.conv2, Some(shortcut.as_ref().unwrap_or(x)))
    }
}

/// Attention with its projections.
pub(crate) struct Attention<O: Ops> {
    q: O::Weights,
    k: O::Weights,
    v: O::Weights,
    out: O::Weights,
    heads: usize,
}

impl<O: Ops> Attention<O> {
    /// `names` of queries, keys, values and result.
    pub fn load(ops: &O, w: &Weights, name: &str, names: [&str; 4], heads: usize) -> Result<Self> {
        let width = w.length(&format!("{name}.{}.weight", names[0]), 0)?;
        if heads == 0 || width % heads != 0 {
            return Err(Error::Weights(format!(
                "the {width} channels of an attention layer cannot be split evenly into {heads} heads"
            )));
        }
        let [q, k, v, out] = names.map(|part| w.layer(ops, &format!("{name}.{part}")));
        Ok(Self { q: q?, k: k?, v: v?, out: out?, heads })
    }

    pub fn run(&self, ops: &O, x: &O::Tensor, context: &O::Tensor, causal: bool) -> Result<O::Tensor> {
        let (q, k, v) = (ops.linear(x, &self.q)?, ops.linear(context, &self.k)?, ops.linear(context, &self.v)?);
        ops.linear(&ops.attention(&q, &k, &v, self.heads, causal)?, &self.out)
    }
}

const PROJECTIONS: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];

struct Block<O: Ops> {
    norms: [O::Norm; 3],
    to_itself: Attention<O>,
    to_text: Attention<O>,
    spread: O::Weights,
    gather: O::Weights,
}

/// A transformer over the pixels of a map, which look at each other and at the text.
pub(crate) struct Transformer<O: Ops> {
    norm: O::Norm,
    into: O::Weights,
    blocks: Vec<Block<O>>,
    out: O::Weights,
}

impl<O: Ops> Transformer<O> {
    pub fn load(ops: &O, w: &Weights, name: &str, heads: Heads) -> Result<Self> {
        check_groups(w, &format!("{name}.norm"))?;
        let width = w.length(&format!("{name}.proj_in.weight"), 0)?;
        let heads = heads.of(width);
        let block = |i: usize| -> Result<Block<O>> {
            let name = format!("{name}.transformer_blocks.{i}");
            let [a, b, c] = ["norm1", "norm2", "norm3"].map(|norm| w.norm(ops, &format!("{name}.{norm}")));
            Ok(Block {
                norms: [a?, b?, c?],
                to_itself: Attention::load(ops, w, &format!("{name}.attn1"), PROJECTIONS, heads)?,
                to_text: Attention::load(ops, w, &format!("{name}.attn2"), PROJECTIONS, heads)?,
                spread: w.layer(ops, &format!("{name}.ff.net.0.proj"))?,
                gather: w.layer(ops, &format!("{name}.ff.net.2"))?,
            })
        };
        let blocks = (0..w.count(&format!("{name}.transformer_blocks."))).map(block).collect::<Result<_>>()?;
        Ok(Self {
            norm: w.norm(ops, &format!("{name}.norm"))?,
            into: w.layer(ops, &format!("{name}.proj_in"))?,
            blocks,
            out: w.layer(ops, &format!("{name}.proj_out"))?,
        })
    }

    pub fn run(&self, ops: &O, x: &O::Tensor, text: &O::Tensor) -> Result<O::Tensor> {
        let mut h = ops.linear(&ops.group_norm(x, &self.norm, GROUPS, 1e-6, false)?, &self.into)?;
        for block in &self.blocks {
            let normed = ops.layer_norm(&h, &block.norms[0], 1e-5)?;
            h = ops.add(&h, &block.to_itself.run(ops, &normed, &normed, false)?, 1.0)?;
            let normed = ops.layer_norm(&h, &block.norms[1], 1e-5)?;
            h = ops.add(&h, &block.to_text.run(ops, &normed, text, false)?, 1.0)?;
            let normed = ops.layer_norm(&h, &block.norms[2], 1e-5)?;
            let spread = ops.geglu(&ops.linear(&normed, &block.spread)?)?;
            h = ops.add(&h, &ops.linear(&spread, &block.gather)?, 1.0)?;
        }
        ops.add(&ops.linear(&h, &self.out)?, x, 1.0)
    }
}

/// The attention of the VAE: one head over all pixels.
pub(crate) struct PixelAttention<O: Ops> {
    norm: O::Norm,
    attention: Attention<O>,
}

impl<O: Ops> PixelAttention<O> {
    pub fn load(ops: &O, w: &Weights, name: &str) -> Result<Self> {
        check_groups(w, &format!("{name}.group_norm"))?;
        let norm = w.norm(ops, &format!("{name}.group_norm"))?;
        Ok(Self { norm, attention: Attention::load(ops, w, name, PROJECTIONS, 1)? })
    }

    pub fn run(&self, ops: &O, x: &O::Tensor) -> Result<O::Tensor> {
        let normed = ops.group_norm(x, &self.norm, GROUPS, 1e-6, false)?;
        ops.add(x, &self.attention.run(ops, &normed, &normed, false)?, 1.0)
    }
}

/// How many heads an attention has, which no array tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// So many, whatever the width (SD 1.x: 8).
    Count(usize),
    /// As many as have this width (SD 2.x, SDXL, CLIP: 64).
    Width(usize),
}

impl Heads {
    pub(crate) fn of(self, width: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Width(each) => width / each.max(1),
        }
    }
}

/// Group normalisation needs whole groups.
pub(crate) fn check_groups(w: &Weights, norm: &str) -> Result<()> {
    let channels = w.length(&format!("{norm}.weight"), 0)?;
    if channels % GROUPS == 0 {
        Ok(())
    } else {
        Err(Error::Weights(format!("{norm} has {channels} channels, not whole groups of {GROUPS}")))
    }
}

/// Cosines, then sines, of the values times 10000^(-i / half), as "Attention is all you need" has it; diffusers'
/// `flip_sin_to_cos`.
pub(crate) fn sinusoids(values: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let angle = |v: f32, i: usize| v * (-(10000f32.ln()) * i as f32 / half as f32).exp();
    let one = |&v: &f32| (0..half).map(move |i| angle(v, i).cos()).chain((0..half).map(move |i| angle(v, i).sin()));
    values.iter().flat_map(one).collect()
}
