//! The UNet that predicts noise, and the ControlNet, which is its first half with a picture to follow.

use crate::{
    error::{Error, Result},
    layers::{GROUPS, Heads, Resnet, Transformer, check_groups, sinusoids},
    ops::{Activation, Ops, Padding},
    union::Union,
    weights::Weights,
};

/// What a network is told of the text.
#[derive(Clone)]
pub struct Context<T> {
    /// Hidden states of the tokens, `[batch, 1, tokens, width]`.
    pub text: T,
    /// SDXL: the pooled text `[batch, 1, 1, width]`, and original height and width, top and left of the crop, target height and
    /// width in pixels.
    pub added: Option<(T, [f32; 6])>,
}

struct Level<O: Ops> {
    resnets: Vec<Resnet<O>>,
    attentions: Vec<Transformer<O>>,
    resample: Option<O::Weights>,
}

/// The half that goes down, shared with ControlNets.
struct Encoder<O: Ops> {
    time: [O::Weights; 2],
    time_width: usize,
    added: Option<([O::Weights; 2], usize)>,
    conv_in: O::Weights,
    down: Vec<Level<O>>,
    middle: (Resnet<O>, Option<Transformer<O>>, Resnet<O>),
}

/// Predicts the noise in a latent picture (or v, as the checkpoint was trained).
pub struct Unet<O: Ops> {
    encoder: Encoder<O>,
    up: Vec<Level<O>>,
    norm_out: O::Norm,
    conv_out: O::Weights,
}

/// Residuals of a ControlNet, to be added to a UNet's: one for each map that is carried across, then the middle.
pub struct Residuals<T>(Vec<T>);

impl<T> Residuals<T> {
    /// One tensor for each map: 13 for SD 1.x, 10 for SDXL.
    pub fn tensors(&self) -> &[T] {
        &self.0
    }
}

impl<O: Ops> Level<O> {
    fn load(ops: &O, w: &Weights, name: &str, resampler: &str, heads: Heads) -> Result<Self> {
        let all =
            |part: &'static str| (0..w.count(&format!("{name}.{part}."))).map(move |i| format!("{name}.{part}.{i}"));
        let resample = format!("{name}.{resampler}.0.conv");
        let level = Self {
            resnets: all("resnets").map(|n| Resnet::load(ops, w, &n, 1e-5)).collect::<Result<_>>()?,
            attentions: all("attentions").map(|n| Transformer::load(ops, w, &n, heads)).collect::<Result<_>>()?,
            resample: w.has(&resample).then(|| w.layer(ops, &resample)).transpose()?,
        };
        if level.resnets.is_empty() || !(level.attentions.is_empty() || level.attentions.len() == level.resnets.len()) {
            return Err(Error::Weights(format!("{name} lacks blocks")));
        }
        Ok(level)
    }

    fn block(&self, ops: &O, i: usize, x: &O::Tensor, time: &O::Tensor, text: &O::Tensor) -> Result<O::Tensor> {
        let x = self.resnets[i].run(ops, x, Some(time))?;
        match self.attentions.get(i) {
            Some(attention) => attention.run(ops, &x, text),
            None => Ok(x),
        }
    }
}

impl<O: Ops> Encoder<O> {
    fn load(ops: &O, w: &Weights, heads: Heads) -> Result<Self> {
        let levels = w.count("down_blocks.");
        let down: Vec<_> = (0..levels)
            .map(|i| Level::load(ops, w, &format!("down_blocks.{i}"), "downsamplers", heads))
            .collect::<Result<_>>()?;
        let depth = down.iter().position(|level| level.resample.is_none());
        if levels == 0 || depth != Some(levels - 1) {
            return Err(Error::Weights("the levels of the UNet are not whole".into()));
        }
        let pair = |name: &str| -> Result<[O::Weights; 2]> {
            Ok([w.layer(ops, &format!("{name}.linear_1"))?, w.layer(ops, &format!("{name}.linear_2"))?])
        };
        let added = if w.has("add_embedding.") {
            Some((pair("add_embedding")?, w.length("add_embedding.linear_1.weight", 1)?))
        } else {
            None
        };
        let middle = |i| Resnet::load(ops, w, &format!("mid_block.resnets.{i}"), 1e-5);
        let attention = w.has("mid_block.attentions.0.");
        Ok(Self {
            time: pair("time_embedding")?,
            time_width: w.length("time_embedding.linear_1.weight", 1)?,
            added,
            conv_in: w.layer(ops, "conv_in")?,
            down,
            middle: (
                middle(0)?,
                attention.then(|| Transformer::load(ops, w, "mid_block.attentions.0", heads)).transpose()?,
                middle(1)?,
            ),
        })
    }

    /// SiLU of the embedded step and of what is `more`, which every residual block takes.
    fn embed(
        &self,
        ops: &O,
        batch: usize,
        step: f32,
        context: &Context<O::Tensor>,
        more: Option<&O::Tensor>,
    ) -> Result<O::Tensor> {
        let two = |x: &O::Tensor, [a, b]: &[O::Weights; 2]| {
            ops.linear(&ops.activate(&ops.linear(x, a)?, Activation::Silu)?, b)
        };
        let wave = sinusoids(&[step], self.time_width);
        let mut time = two(&ops.upload([batch, 1, 1, self.time_width], &wave.repeat(batch))?, &self.time)?;
        if let Some(more) = more {
            time = ops.add(&time, more, 1.0)?;
        }
        match (&self.added, &context.added) {
            (Some((layers, width)), Some((pooled, sizes))) => {
                let each = width.checked_sub(ops.shape(pooled)[3]).unwrap_or(0) / 6;
                let wave = sinusoids(sizes, each);
                let wave = ops.upload([batch, 1, 1, 6 * each], &wave.repeat(batch))?;
                let added = ops.concat(pooled, &wave)?;
                if ops.shape(&added)[3] != *width {
                    return Err(Error::Weights("the second text encoder does not fit the UNet".into()));
                }
                time = ops.add(&time, &two(&added, layers)?, 1.0)?;
            }
            (None, _) => {}
            (Some(_), None) => {
                return Err(Error::Request("this network needs the pooled text and sizes of SDXL".into()));
            }
        }
        ops.activate(&time, Activation::Silu)
    }

    /// All maps on the way down, and the one in the middle at the end.
    fn run(&self, ops: &O, x: O::Tensor, time: &O::Tensor, text: &O::Tensor) -> Result<Vec<O::Tensor>> {
        let mut maps = vec![x.clone()];
        let mut x = x;
        for level in &self.down {
            for i in 0..level.resnets.len() {
                x = level.block(ops, i, &x, time, text)?;
                maps.push(x.clone());
            }
            if let Some(conv) = &level.resample {
                x = ops.conv(&x, conv, 2, Padding::Around)?;
                maps.push(x.clone());
            }
        }
        x = self.middle.0.run(ops, &x, Some(time))?;
        if let Some(attention) = &self.middle.1 {
            x = attention.run(ops, &x, text)?;
        }
        maps.push(self.middle.2.run(ops, &x, Some(time))?);
        Ok(maps)
    }

    /// The first map, and the embedded step with what is `more`.
    fn begin(
        &self,
        ops: &O,
        x: &O::Tensor,
        step: f32,
        context: &Context<O::Tensor>,
        more: Option<&O::Tensor>,
    ) -> Result<(O::Tensor, O::Tensor)> {
        let [batch, height, width, _] = ops.shape(x);
        let multiple = 1 << (self.down.len() - 1);
        if height == 0 || width == 0 || height % multiple != 0 || width % multiple != 0 {
            return Err(Error::Request(format!(
                "latents of {width}x{height} cannot be halved evenly: the sides must be multiples of {multiple}"
            )));
        }
        Ok((ops.conv(x, &self.conv_in, 1, Padding::Around)?, self.embed(ops, batch, step, context, more)?))
    }
}

impl<O: Ops> Unet<O> {
    /// Reads a UNet. All sizes come from the shapes of the arrays, but `heads`: see [`heads`].
    ///
    /// # Errors
    /// [`Error::Weights`] if arrays are missing or do not fit each other; memory and files.
    pub fn load(ops: &O, w: &Weights, heads: Heads) -> Result<Self> {
        let encoder = Encoder::load(ops, w, heads)?;
        let up: Vec<Level<O>> = (0..w.count("up_blocks."))
            .map(|i| Level::load(ops, w, &format!("up_blocks.{i}"), "upsamplers", heads))
            .collect::<Result<_>>()?;
        let maps = 1 + encoder.down.iter().map(|l| l.resnets.len() + usize::from(l.resample.is_some())).sum::<usize>();
        if up.iter().map(|level| level.resnets.len()).sum::<usize>() != maps {
            return Err(Error::Weights("the UNet takes other maps on the way up than it made on the way down".into()));
        }
        check_groups(w, "conv_norm_out")?;
        Ok(Self { encoder, up, norm_out: w.norm(ops, "conv_norm_out")?, conv_out: w.layer(ops, "conv_out")? })
    }

    /// Predicts the noise of `x`, `[batch, height, width, 4]` of multiples of 8 (SDXL: 4), divided by `sqrt(sigma^2 + 1)`, at
    /// the time `step` (0 to 999). `control` holds residuals and their weights, one for each.
    ///
    /// # Errors
    /// [`Error::Request`] if sizes or residuals do not fit; cancelled, memory.
    pub fn run(
        &self,
        ops: &O,
        x: &O::Tensor,
        step: f32,
        context: &Context<O::Tensor>,
        control: Option<(&Residuals<O::Tensor>, &[f32])>,
    ) -> Result<O::Tensor> {
        let (x, time) = self.encoder.begin(ops, x, step, context, None)?;
        let mut maps = self.encoder.run(ops, x, &time, &context.text)?;
        if let Some((residuals, scales)) = control {
            if residuals.0.len() != maps.len() || scales.len() != maps.len() {
                return Err(Error::Request(format!(
                    "the ControlNet gives {} residuals with {} weights, the checkpoint takes {}; hint: use one for the same family",
                    residuals.0.len(),
                    scales.len(),
                    maps.len()
                )));
            }
            for ((map, residual), &scale) in maps.iter_mut().zip(&residuals.0).zip(scales) {
                *map = ops.add(map, residual, scale)?;
            }
        }
        let whole = || Error::Weights("the UNet is incomplete".into());
        let mut x = maps.pop().ok_or_else(whole)?;
        for level in &self.up {
            for i in 0..level.resnets.len() {
                let joined = ops.concat(&x, &maps.pop().ok_or_else(whole)?)?;
                x = level.block(ops, i, &joined, &time, &context.text)?;
            }
            if let Some(conv) = &level.resample {
                x = ops.double_conv(&x, conv)?;
            }
        }
        ops.norm_conv(&x, &self.norm_out, GROUPS, 1e-5, &self.conv_out, None)
    }
}

/// A ControlNet: holds a UNet to a picture. One for several kinds of pictures is told that it is a tile.
pub struct ControlNet<O: Ops> {
    encoder: Encoder<O>,
    hint: Vec<O::Weights>,
    union: Option<Union<O>>,
    out: Vec<O::Weights>,
}

impl<O: Ops> ControlNet<O> {
    /// Reads a ControlNet.
    ///
    /// # Errors
    /// As [`Unet::load`].
    pub fn load(ops: &O, w: &Weights, heads: Heads) -> Result<Self> {
        let encoder = Encoder::load(ops, w, heads)?;
        let middle = (0..w.count("controlnet_cond_embedding.blocks.")).map(|i| format!("blocks.{i}"));
        let hint = std::iter::once("conv_in".to_owned()).chain(middle).chain(["conv_out".to_owned()]);
        let out = (0..w.count("controlnet_down_blocks.")).map(|i| format!("controlnet_down_blocks.{i}"));
        Ok(Self {
            encoder,
            hint: hint.map(|n| w.layer(ops, &format!("controlnet_cond_embedding.{n}"))).collect::<Result<_>>()?,
            union: Union::load(ops, w)?,
            out: out.chain(["controlnet_mid_block".to_owned()]).map(|n| w.layer(ops, &n)).collect::<Result<_>>()?,
        })
    }

    /// Embeds the picture to follow, `[batch, 8 height, 8 width, 3]` in 0..1, once for all steps.
    ///
    /// # Errors
    /// Cancelled, memory.
    pub fn hint(&self, ops: &O, picture: &O::Tensor) -> Result<O::Tensor> {
        let mut x = picture.clone();
        for (i, conv) in self.hint.iter().enumerate() {
            // in, (same, halved) three times, out; SiLU between.
            let halves = i > 0 && i % 2 == 0 && i + 1 < self.hint.len();
            x = ops.conv(&x, conv, if halves { 2 } else { 1 }, Padding::Around)?;
            if i + 1 < self.hint.len() {
                x = ops.activate(&x, Activation::Silu)?;
            }
        }
        match &self.union {
            Some(union) => union.tell(ops, &x),
            None => Ok(x),
        }
    }

    /// Residuals for a UNet that sees the same `x`, `step` and `context`; `hint` is embedded.
    ///
    /// # Errors
    /// [`Error::Request`] if sizes do not fit; cancelled, memory.
    pub fn run(
        &self,
        ops: &O,
        x: &O::Tensor,
        step: f32,
        context: &Context<O::Tensor>,
        hint: &O::Tensor,
    ) -> Result<Residuals<O::Tensor>> {
        let (x, time) = self.encoder.begin(ops, x, step, context, self.union.as_ref().map(|union| &union.step))?;
        if ops.shape(&x)[1..] != ops.shape(hint)[1..] {
            return Err(Error::Request("the picture to follow must be 8 times as large as the latents".into()));
        }
        let maps = self.encoder.run(ops, ops.add(&x, hint, 1.0)?, &time, &context.text)?;
        if maps.len() != self.out.len() {
            return Err(Error::Weights("the ControlNet is incomplete".into()));
        }
        maps.iter().zip(&self.out).map(|(map, conv)| ops.linear(map, conv)).collect::<Result<_>>().map(Residuals)
    }
}

/// Heads by family: SD 1.x has 8 at every level and 1x1 convolutions around its transformers, later ones are 64 wide with
/// linear layers.
pub fn heads(w: &Weights) -> Heads {
    let linear =
        w.names().find(|n| n.ends_with(".proj_in.weight")).and_then(|n| w.shape(n)).is_some_and(|s| s.len() == 2);
    if linear { Heads::Width(64) } else { Heads::Count(8) }
}
