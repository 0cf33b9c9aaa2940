//! The autoencoder between pixels and latents, eight times smaller.

use crate::{
    error::{Error, Result},
    layers::{GROUPS, PixelAttention, Resnet, check_groups},
    ops::{Ops, Padding},
    weights::Weights,
};

struct Level<O: Ops> {
    resnets: Vec<Resnet<O>>,
    resample: Option<O::Weights>,
}

struct Middle<O: Ops>(Resnet<O>, PixelAttention<O>, Resnet<O>);

struct Half<O: Ops> {
    conv_in: O::Weights,
    levels: Vec<Level<O>>,
    middle: Middle<O>,
    norm_out: O::Norm,
    conv_out: O::Weights,
}

/// Makes latents of pixels and pixels of latents.
pub struct Vae<O: Ops> {
    encoder: Half<O>,
    decoder: Half<O>,
    quant: Option<O::Weights>,
    post_quant: Option<O::Weights>,
    scale: f32,
}

impl<O: Ops> Half<O> {
    fn load(ops: &O, w: &Weights, name: &str, blocks: &str, resampler: &str) -> Result<Self> {
        let levels = (0..w.count(&format!("{name}.{blocks}."))).map(|i| {
            let level = format!("{name}.{blocks}.{i}");
            let resnets = (0..w.count(&format!("{level}.resnets.")))
                .map(|j| Resnet::load(ops, w, &format!("{level}.resnets.{j}"), 1e-6))
                .collect::<Result<_>>()?;
            let resample = format!("{level}.{resampler}.0.conv");
            let resample = w.has(&resample).then(|| w.layer(ops, &resample)).transpose()?;
            Ok(Level { resnets, resample })
        });
        if !w.has(&format!("{name}.{blocks}.0.")) {
            return Err(Error::Weights(format!("the {name} of the VAE has no levels")));
        }
        let middle = |i| Resnet::load(ops, w, &format!("{name}.mid_block.resnets.{i}"), 1e-6);
        check_groups(w, &format!("{name}.conv_norm_out"))?;
        Ok(Self {
            conv_in: w.layer(ops, &format!("{name}.conv_in"))?,
            levels: levels.collect::<Result<_>>()?,
            middle: Middle(
                middle(0)?,
                PixelAttention::load(ops, w, &format!("{name}.mid_block.attentions.0"))?,
                middle(1)?,
            ),
            norm_out: w.norm(ops, &format!("{name}.conv_norm_out"))?,
            conv_out: w.layer(ops, &format!("{name}.conv_out"))?,
        })
    }

    fn finish(&self, ops: &O, x: &O::Tensor) -> Result<O::Tensor> {
        ops.norm_conv(x, &self.norm_out, GROUPS, 1e-6, &self.conv_out, None)
    }
}

impl<O: Ops> Middle<O> {
    fn run(&self, ops: &O, x: &O::Tensor) -> Result<O::Tensor> {
        let x = self.0.run(ops, x, None)?;
        self.2.run(ops, &self.1.run(ops, &x)?, None)
    }
}

impl<O: Ops> Vae<O> {
    /// Reads a VAE. `scale` brings latents to unit variance: 0.18215 for SD 1.x and 2.x, 0.13025 for SDXL.
    ///
    /// # Errors
    /// [`Error::Weights`] if arrays are missing or latents have other than 4 channels; memory and files.
    pub fn load(ops: &O, w: &Weights, scale: f32) -> Result<Self> {
        let channels = w.length("decoder.conv_in.weight", 1)?;
        if channels != 4 {
            return Err(Error::Unsupported(format!(
                "this VAE has latents of {channels} channels, for another family; those of SD 1.x, 2.x and SDXL have 4"
            )));
        }
        let optional = |name: &str| w.has(&format!("{name}.")).then(|| w.layer(ops, name)).transpose();
        Ok(Self {
            encoder: Half::load(ops, w, "encoder", "down_blocks", "downsamplers")?,
            decoder: Half::load(ops, w, "decoder", "up_blocks", "upsamplers")?,
            quant: optional("quant_conv")?,
            post_quant: optional("post_quant_conv")?,
            scale,
        })
    }

    /// Latents `[batch, height / 8, width / 8, 4]` of pixels `[batch, height, width, 3]` in -1..1, whose sides are multiples of
    /// 8: the mean of the distribution, scaled.
    ///
    /// # Errors
    /// [`Error::Request`] for other sides; cancelled, memory.
    pub fn encode(&self, ops: &O, pixels: &O::Tensor) -> Result<O::Tensor> {
        let [batch, height, width, _] = ops.shape(pixels);
        let multiple = 1usize << (self.encoder.levels.len() - 1);
        if height % multiple != 0 || width % multiple != 0 || height * width == 0 {
            return Err(Error::Request(format!("{width}x{height} pixels: sides must be multiples of {multiple}")));
        }
        let mut x = ops.conv(pixels, &self.encoder.conv_in, 1, Padding::Around)?;
        for level in &self.encoder.levels {
            for resnet in &level.resnets {
                x = resnet.run(ops, &x, None)?;
            }
            if let Some(conv) = &level.resample {
                x = ops.conv(&x, conv, 2, Padding::After)?;
            }
        }
        x = self.encoder.finish(ops, &self.encoder.middle.run(ops, &x)?)?;
        if let Some(conv) = &self.quant {
            x = ops.linear(&x, conv)?;
        }
        // Mean, then logarithm of the variance.
        let [_, height, width, channels] = ops.shape(&x);
        let moments = ops.download(&x)?;
        let mean: Vec<f32> =
            moments.chunks_exact(channels).flat_map(|m| m[..channels / 2].iter().map(|v| v * self.scale)).collect();
        ops.upload([batch, height, width, channels / 2], &mean)
    }

    /// Pixels `[batch, 8 height, 8 width, 3]`, about -1..1, of scaled latents.
    ///
    /// # Errors
    /// Cancelled, memory.
    pub fn decode(&self, ops: &O, latents: &O::Tensor) -> Result<O::Tensor> {
        let values: Vec<f32> = ops.download(latents)?.iter().map(|v| v / self.scale).collect();
        let mut x = ops.upload(ops.shape(latents), &values)?;
        if let Some(conv) = &self.post_quant {
            x = ops.linear(&x, conv)?;
        }
        x = ops.conv(&x, &self.decoder.conv_in, 1, Padding::Around)?;
        x = self.decoder.middle.run(ops, &x)?;
        for level in &self.decoder.levels {
            for resnet in &level.resnets {
                x = resnet.run(ops, &x, None)?;
            }
            if let Some(conv) = &level.resample {
                x = ops.double_conv(&x, conv)?;
            }
        }
        self.decoder.finish(ops, &x)
    }
}
