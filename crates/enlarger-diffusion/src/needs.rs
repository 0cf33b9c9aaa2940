//! What networks need of their files, told from headers alone: each array must be there, of a shape that fits the others. A network that
//! lacks a bias, or has a kernel of another size, would draw something else without a word.

use crate::{
    clip::{CHUNK, END},
    error::{Error, Result},
    layers::{GROUPS, Heads},
    unet::heads,
    union::{KINDS, TILE},
    weights::Weights,
};

/// Channels of latents, and how many times the VAE halves a picture.
const LATENTS: usize = 4;
const HALVINGS: usize = 3;
/// How wide a head of a text encoder is.
const HEAD: usize = 64;

/// A UNet: the channels of the maps that it carries across and of the one in the middle, to which a ControlNet adds.
///
/// # Errors
/// [`Error::Weights`] naming the array that is missing or has another shape, and its file. The same for all functions here.
pub fn unet(w: &Weights) -> Result<Vec<usize>> {
    let needs = Needs::of(w);
    let Encoder { maps, time } = needs.encoder()?;
    let mut across = maps.clone();
    let mut channels = across.pop().unwrap_or(0);
    let blocks = w.count("up_blocks.");
    for i in 0..blocks {
        let level = format!("up_blocks.{i}");
        for j in 0..w.count(&format!("{level}.resnets.")) {
            let carried = across.pop().ok_or_else(|| w.misfit("has more maps on the way up than on the way down"))?;
            channels = needs.block(&level, j, channels + carried, time)?;
        }
        needs.attentions_are_whole(&level)?;
        if w.has(&format!("{level}.upsamplers.")) {
            channels = needs.conv(&format!("{level}.upsamplers.0.conv"), 3, channels)?;
        }
    }
    if !across.is_empty() {
        return Err(w.misfit("has fewer maps on the way up than on the way down"));
    }
    needs.group_norm("conv_norm_out", channels)?;
    needs.conv_to("conv_out", 3, channels, LATENTS)?;
    Ok(maps)
}

/// A ControlNet for a UNet with these maps.
pub fn control(w: &Weights, unet: &[usize]) -> Result<()> {
    let needs = Needs::of(w);
    let Encoder { maps, time } = needs.encoder()?;
    let hint = "controlnet_cond_embedding";
    let mut channels = needs.conv(&format!("{hint}.conv_in"), 3, 3)?;
    for i in 0..w.count(&format!("{hint}.blocks.")) {
        channels = needs.conv(&format!("{hint}.blocks.{i}"), 3, channels)?;
    }
    needs.conv_to(&format!("{hint}.conv_out"), 3, channels, maps[0])?;
    if w.has(KINDS) {
        needs.union(maps[0], time)?;
    }
    if maps.len() != unet.len() {
        return Err(w.misfit(&format!("gives {} residuals, and the checkpoint takes {}", maps.len(), unet.len())));
    }
    let names = (0..maps.len() - 1).map(|i| format!("controlnet_down_blocks.{i}"));
    for ((name, from), to) in names.chain(["controlnet_mid_block".to_owned()]).zip(&maps).zip(unet) {
        needs.linear_to(&name, *from, *to)?;
    }
    Ok(())
}

/// A VAE.
pub fn vae(w: &Weights) -> Result<()> {
    let needs = Needs::of(w);
    let channels = needs.conv("encoder.conv_in", 3, 3)?;
    let channels = needs.levels("encoder", "down_blocks", "downsamplers", channels)?;
    let channels = needs.middle("encoder", channels)?;
    needs.group_norm("encoder.conv_norm_out", channels)?;
    needs.conv_to("encoder.conv_out", 3, channels, 2 * LATENTS)?;
    if w.has("quant_conv.") {
        needs.linear_to("quant_conv", 2 * LATENTS, 2 * LATENTS)?;
    }
    if w.has("post_quant_conv.") {
        needs.linear_to("post_quant_conv", LATENTS, LATENTS)?;
    }
    let channels = needs.conv("decoder.conv_in", 3, LATENTS)?;
    let channels = needs.middle("decoder", channels)?;
    let channels = needs.levels("decoder", "up_blocks", "upsamplers", channels)?;
    needs.group_norm("decoder.conv_norm_out", channels)?;
    needs.conv_to("decoder.conv_out", 3, channels, 3)
}

/// A text encoder: how wide its states are. `projected` says whether its projection is needed.
pub fn text(w: &Weights, projected: bool) -> Result<usize> {
    let needs = Needs::of(w);
    let words = "embeddings.token_embedding.weight";
    let width = match needs.shape(words)?.as_slice() {
        &[vocabulary, width] if vocabulary > END as usize && width > 0 && width.is_multiple_of(HEAD) => width,
        shape => {
            let what = format!("has the shape {shape:?}, not {} words of whole heads of {HEAD} values", END + 1);
            return Err(w.misfit_of(words, &what));
        }
    };
    needs.array("embeddings.position_embedding.weight", &[CHUNK, width])?;
    let layers = w.count("encoder.layers.");
    if layers == 0 {
        return Err(w.lacks("encoder.layers.0.layer_norm1.weight"));
    }
    for i in 0..layers {
        let name = format!("encoder.layers.{i}");
        needs.norm(&format!("{name}.layer_norm1"), width)?;
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            needs.linear_to(&format!("{name}.self_attn.{part}"), width, width)?;
        }
        needs.norm(&format!("{name}.layer_norm2"), width)?;
        let wide = needs.linear(&format!("{name}.mlp.fc1"), width)?;
        needs.linear_to(&format!("{name}.mlp.fc2"), wide, width)?;
    }
    needs.norm("final_layer_norm", width)?;
    if projected || w.has("text_projection.") {
        needs.product("text_projection", width)?;
    }
    Ok(width)
}

/// How wide the text is that a UNet or ControlNet looks at; 0 if it looks at none.
pub fn text_width(w: &Weights) -> usize {
    let name = w.names().find(|name| name.ends_with(".attn2.to_k.weight"));
    name.and_then(|name| w.shape(name)?.get(1).copied()).unwrap_or(0)
}

/// What the half of a UNet that goes down has.
struct Encoder {
    /// Channels of the maps that are carried across, the middle's at the end.
    maps: Vec<usize>,
    /// Width of the embedded step.
    time: usize,
}

struct Needs<'a> {
    w: &'a Weights,
    heads: Heads,
    /// Width of the text.
    text: usize,
}

impl<'a> Needs<'a> {
    fn of(w: &'a Weights) -> Self {
        Self { w, heads: heads(w), text: text_width(w) }
    }

    fn encoder(&self) -> Result<Encoder> {
        let w = self.w;
        let steps = "time_embedding.linear_1";
        let time = self.linear(steps, w.length(&format!("{steps}.weight"), 1)?)?;
        let time = self.linear("time_embedding.linear_2", time)?;
        if w.has("add_embedding.") {
            let sizes = "add_embedding.linear_1";
            let wide = self.linear(sizes, w.length(&format!("{sizes}.weight"), 1)?)?;
            self.linear_to("add_embedding.linear_2", wide, time)?;
        }
        let mut channels = self.conv("conv_in", 3, LATENTS)?;
        let mut maps = vec![channels];
        let levels = w.count("down_blocks.");
        for i in 0..levels {
            let level = format!("down_blocks.{i}");
            for j in 0..w.count(&format!("{level}.resnets.")) {
                channels = self.block(&level, j, channels, time)?;
                maps.push(channels);
            }
            self.attentions_are_whole(&level)?;
            if i + 1 < levels {
                channels = self.conv(&format!("{level}.downsamplers.0.conv"), 3, channels)?;
                maps.push(channels);
            }
        }
        channels = self.resnet("mid_block.resnets.0", channels, time)?;
        if w.has("mid_block.attentions.0.") {
            self.transformer("mid_block.attentions.0", channels)?;
        }
        maps.push(self.resnet("mid_block.resnets.1", channels, time)?);
        Ok(Encoder { maps, time })
    }

    /// What a union ControlNet has besides others.
    fn union(&self, channels: usize, time: usize) -> Result<()> {
        let kinds = self.outputs(KINDS)?;
        if kinds <= TILE {
            return Err(self.w.misfit(&format!("follows {kinds} kinds of pictures, of which none is a tile")));
        }
        self.array(KINDS, &[kinds, channels])?;
        let layers = self.w.count("transformer_layes.");
        for i in 0..layers.max(1) {
            let layer = format!("transformer_layes.{i}");
            self.norm(&format!("{layer}.ln_1"), channels)?;
            self.array(&format!("{layer}.attn.in_proj_weight"), &[3 * channels, channels])?;
            self.array(&format!("{layer}.attn.in_proj_bias"), &[3 * channels])?;
            self.linear_to(&format!("{layer}.attn.out_proj"), channels, channels)?;
            self.norm(&format!("{layer}.ln_2"), channels)?;
            let wide = self.linear(&format!("{layer}.mlp.c_fc"), channels)?;
            self.linear_to(&format!("{layer}.mlp.c_proj"), wide, channels)?;
        }
        self.linear_to("spatial_ch_projs", channels, channels)?;
        let waves = self.w.length("control_add_embedding.linear_1.weight", 1)?;
        if !waves.is_multiple_of(2 * kinds) {
            return Err(self.w.misfit(&format!(
                "embeds {kinds} kinds of pictures by {waves} values, which are not as many for each"
            )));
        }
        let wide = self.linear("control_add_embedding.linear_1", waves)?;
        self.linear_to("control_add_embedding.linear_2", wide, time)
    }

    /// A residual block of a level, and the transformer behind it if there is one.
    fn block(&self, level: &str, i: usize, inputs: usize, time: usize) -> Result<usize> {
        let channels = self.resnet(&format!("{level}.resnets.{i}"), inputs, time)?;
        if self.w.has(&format!("{level}.attentions.")) {
            self.transformer(&format!("{level}.attentions.{i}"), channels)?;
        }
        Ok(channels)
    }

    /// There are as many transformers as residual blocks, or none.
    fn attentions_are_whole(&self, level: &str) -> Result<()> {
        let [blocks, attentions] = ["resnets", "attentions"].map(|part| self.w.count(&format!("{level}.{part}.")));
        if blocks == 0 || attentions > blocks {
            return Err(self.w.lacks(&format!("{level}.resnets.{blocks}.conv1.weight")));
        }
        Ok(())
    }

    /// `time` is 0 in a VAE, which knows no steps.
    fn resnet(&self, name: &str, inputs: usize, time: usize) -> Result<usize> {
        self.group_norm(&format!("{name}.norm1"), inputs)?;
        let outputs = self.conv(&format!("{name}.conv1"), 3, inputs)?;
        if time > 0 {
            self.linear_to(&format!("{name}.time_emb_proj"), time, outputs)?;
        }
        self.group_norm(&format!("{name}.norm2"), outputs)?;
        self.conv_to(&format!("{name}.conv2"), 3, outputs, outputs)?;
        let shortcut = format!("{name}.conv_shortcut");
        if inputs != outputs || self.w.has(&format!("{shortcut}.")) {
            self.linear_to(&shortcut, inputs, outputs)?;
        }
        Ok(outputs)
    }

    fn transformer(&self, name: &str, channels: usize) -> Result<()> {
        self.group_norm(&format!("{name}.norm"), channels)?;
        let width = self.linear(&format!("{name}.proj_in"), channels)?;
        let blocks = self.w.count(&format!("{name}.transformer_blocks."));
        for i in 0..blocks.max(1) {
            let block = format!("{name}.transformer_blocks.{i}");
            for norm in ["norm1", "norm2", "norm3"] {
                self.norm(&format!("{block}.{norm}"), width)?;
            }
            for (attention, seen) in [("attn1", width), ("attn2", self.text)] {
                let part = |part: &str| format!("{block}.{attention}.{part}");
                let inner = self.product(&part("to_q"), width)?;
                let heads = self.heads.of(inner);
                if !inner.is_multiple_of(heads) || heads == 0 {
                    return Err(self.w.misfit(&format!("has {inner} channels at {block}, not {heads} equal heads")));
                }
                self.product_to(&part("to_k"), seen, inner)?;
                self.product_to(&part("to_v"), seen, inner)?;
                self.linear_to(&part("to_out.0"), inner, width)?;
            }
            let wide = self.linear(&format!("{block}.ff.net.0.proj"), width)?;
            self.linear_to(&format!("{block}.ff.net.2"), wide / 2, width)?;
        }
        self.linear_to(&format!("{name}.proj_out"), width, channels)
    }

    /// All levels of one half of a VAE.
    fn levels(&self, half: &str, blocks: &str, resampler: &str, mut channels: usize) -> Result<usize> {
        let w = self.w;
        let mut sampled = 0;
        for i in 0..w.count(&format!("{half}.{blocks}.")) {
            let level = format!("{half}.{blocks}.{i}");
            for j in 0..w.count(&format!("{level}.resnets.")).max(1) {
                channels = self.resnet(&format!("{level}.resnets.{j}"), channels, 0)?;
            }
            if w.has(&format!("{level}.{resampler}.")) {
                channels = self.conv(&format!("{level}.{resampler}.0.conv"), 3, channels)?;
                sampled += 1;
            }
        }
        if sampled != HALVINGS {
            return Err(w.misfit(&format!("has {sampled} {resampler} in the VAE's {half}, not {HALVINGS}")));
        }
        Ok(channels)
    }

    /// The middle of one half of a VAE.
    fn middle(&self, half: &str, channels: usize) -> Result<usize> {
        let channels = self.resnet(&format!("{half}.mid_block.resnets.0"), channels, 0)?;
        let attention = format!("{half}.mid_block.attentions.0");
        self.group_norm(&format!("{attention}.group_norm"), channels)?;
        for part in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.linear_to(&format!("{attention}.{part}"), channels, channels)?;
        }
        self.resnet(&format!("{half}.mid_block.resnets.1"), channels, 0)
    }

    /// A convolution; gives its outputs.
    fn conv(&self, name: &str, kernel: usize, inputs: usize) -> Result<usize> {
        let weight = format!("{name}.weight");
        let outputs = self.outputs(&weight)?;
        self.array(&weight, &[outputs, inputs, kernel, kernel])?;
        self.array(&format!("{name}.bias"), &[outputs])?;
        Ok(outputs)
    }

    fn conv_to(&self, name: &str, kernel: usize, inputs: usize, outputs: usize) -> Result<()> {
        self.conv(name, kernel, inputs)?;
        self.array(&format!("{name}.weight"), &[outputs, inputs, kernel, kernel])
    }

    /// A linear layer, or a convolution of one pixel; gives its outputs.
    fn linear(&self, name: &str, inputs: usize) -> Result<usize> {
        let outputs = self.product(name, inputs)?;
        self.array(&format!("{name}.bias"), &[outputs])?;
        Ok(outputs)
    }

    fn linear_to(&self, name: &str, inputs: usize, outputs: usize) -> Result<()> {
        self.product_to(name, inputs, outputs)?;
        self.array(&format!("{name}.bias"), &[outputs])
    }

    /// A linear layer without bias; gives its outputs.
    fn product(&self, name: &str, inputs: usize) -> Result<usize> {
        let outputs = self.outputs(&format!("{name}.weight"))?;
        self.product_to(name, inputs, outputs)?;
        Ok(outputs)
    }

    fn product_to(&self, name: &str, inputs: usize, outputs: usize) -> Result<()> {
        let weight = format!("{name}.weight");
        if self.shape(&weight)? == [outputs, inputs, 1, 1] {
            return Ok(());
        }
        self.array(&weight, &[outputs, inputs])
    }

    fn norm(&self, name: &str, channels: usize) -> Result<()> {
        self.array(&format!("{name}.weight"), &[channels])?;
        self.array(&format!("{name}.bias"), &[channels])
    }

    /// A normalisation of whole groups.
    fn group_norm(&self, name: &str, channels: usize) -> Result<()> {
        if !channels.is_multiple_of(GROUPS) {
            return Err(self.w.misfit(&format!("has {channels} channels at {name}, not whole groups of {GROUPS}")));
        }
        self.norm(name, channels)
    }

    /// The first axis of an array.
    fn outputs(&self, name: &str) -> Result<usize> {
        let shape = self.shape(name)?;
        shape.first().copied().filter(|&l| l > 0).ok_or_else(|| self.other(name, &shape, &[1]))
    }

    fn array(&self, name: &str, expected: &[usize]) -> Result<()> {
        let shape = self.shape(name)?;
        if shape == expected { Ok(()) } else { Err(self.other(name, &shape, expected)) }
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>> {
        self.w.shape(name).ok_or_else(|| self.w.lacks(name))
    }

    fn other(&self, name: &str, shape: &[usize], expected: &[usize]) -> Error {
        self.w.misfit_of(name, &format!("has the shape {shape:?}, not {expected:?}"))
    }
}
