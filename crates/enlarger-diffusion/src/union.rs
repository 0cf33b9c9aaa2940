//! What a ControlNet for several kinds of pictures has besides others: it is told which kind it follows, by the embedded step and by
//! what a small transformer adds to the picture.

use crate::{
    array::Array,
    error::Result,
    layers::sinusoids,
    ops::{Activation, Ops},
    weights::Weights,
};

/// By these weights a ControlNet is known as one for several kinds: a row for each.
pub(crate) const KINDS: &str = "task_embedding";
/// The kind that an enlarged source is, as diffusers' example of image to image has it. Before ProMax there were six kinds, without it.
pub(crate) const TILE: usize = 6;

/// The layers that others do not have, which follow a tile. As in diffusers' `ControlNetUnionModel`, whose attention looks from picture
/// to picture of a batch, all of which are one here: what it gives is its value, projected.
pub(crate) struct Union<O: Ops> {
    /// What the kind adds to the embedded step, `[1, 1, 1, width]`.
    pub step: O::Tensor,
    /// What stands for the kind, `[1, 1, 1, channels]`.
    kind: O::Tensor,
    layers: Vec<Layer<O>>,
    project: O::Weights,
}

struct Layer<O: Ops> {
    norms: [O::Norm; 2],
    attention: [O::Weights; 2],
    spread: O::Weights,
    gather: O::Weights,
}

impl<O: Ops> Union<O> {
    /// Reads the layers, if the ControlNet has them.
    ///
    /// # Errors
    /// As [`Weights::get`]; memory.
    pub fn load(ops: &O, w: &Weights) -> Result<Option<Self>> {
        if !w.has(KINDS) {
            return Ok(None);
        }
        let (kinds, channels) = (w.length(KINDS, 0)?, w.length(KINDS, 1)?);
        let chosen: Vec<f32> = (0..kinds).map(|kind| f32::from(u8::from(kind == TILE))).collect();
        let width = w.length("control_add_embedding.linear_1.weight", 1)?;
        let wave = ops.upload([1, 1, 1, width], &sinusoids(&chosen, width / kinds))?;
        let first = ops.linear(&wave, &w.layer(ops, "control_add_embedding.linear_1")?)?;
        let second = w.layer(ops, "control_add_embedding.linear_2")?;
        let layer = |i: usize| -> Result<Layer<O>> {
            let name = format!("transformer_layes.{i}");
            // Queries, keys and values are joined.
            let value = |part: &str| -> Result<Array> {
                w.get(&format!("{name}.attn.in_proj_{part}"))?.rows(2 * channels, channels)
            };
            Ok(Layer {
                norms: [w.norm(ops, &format!("{name}.ln_1"))?, w.norm(ops, &format!("{name}.ln_2"))?],
                attention: [
                    ops.weights(value("weight")?, Some(&value("bias")?))?,
                    w.layer(ops, &format!("{name}.attn.out_proj"))?,
                ],
                spread: w.layer(ops, &format!("{name}.mlp.c_fc"))?,
                gather: w.layer(ops, &format!("{name}.mlp.c_proj"))?,
            })
        };
        Ok(Some(Self {
            step: ops.linear(&ops.activate(&first, Activation::Silu)?, &second)?,
            kind: ops.upload([1, 1, 1, channels], &w.get(KINDS)?.rows(TILE, 1)?.to_f32()?)?,
            layers: (0..w.count("transformer_layes.")).map(layer).collect::<Result<_>>()?,
            project: w.layer(ops, "spatial_ch_projs")?,
        }))
    }

    /// An embedded picture, `[batch, height, width, channels]`, as the ControlNet is to see it.
    ///
    /// # Errors
    /// Memory, cancelled.
    pub fn tell(&self, ops: &O, picture: &O::Tensor) -> Result<O::Tensor> {
        let mut x = ops.add(&self.mean(ops, picture)?, &self.kind, 1.0)?;
        for layer in &self.layers {
            let [value, out] = &layer.attention;
            let seen = ops.linear(&ops.linear(&ops.layer_norm(&x, &layer.norms[0], 1e-5)?, value)?, out)?;
            x = ops.add(&x, &seen, 1.0)?;
            let spread = ops.linear(&ops.layer_norm(&x, &layer.norms[1], 1e-5)?, &layer.spread)?;
            x = ops.add(&x, &ops.linear(&ops.activate(&spread, Activation::QuickGelu)?, &layer.gather)?, 1.0)?;
        }
        ops.add(picture, &ops.linear(&x, &self.project)?, 1.0)
    }

    /// The mean of each picture's pixels, `[batch, 1, 1, channels]`.
    fn mean(&self, ops: &O, picture: &O::Tensor) -> Result<O::Tensor> {
        let [batch, height, width, channels] = ops.shape(picture);
        let mut means = vec![0.0; batch * channels];
        for (mean, pixels) in
            means.chunks_exact_mut(channels).zip(ops.download(picture)?.chunks_exact(height * width * channels))
        {
            for pixel in pixels.chunks_exact(channels) {
                mean.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += value / (height * width) as f32);
            }
        }
        ops.upload([batch, 1, 1, channels], &means)
    }
}
