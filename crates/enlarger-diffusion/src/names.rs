//! Names of arrays. Inside, each network has one naming, that of diffusers and transformers; files of one part have the
//! older one of latent diffusion (LDM) and OpenCLIP, which these tables rename. What is not an array of the network, such as
//! `alphas_cumprod` or `position_ids`, has no name here.

/// An array of a file under its name inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name inside.
    pub name: String,
    /// Which third of the rows, where queries, keys and values are joined.
    pub third: Option<u8>,
    /// Rows and columns have changed places.
    pub transposed: bool,
}

/// The UNet (after `model.diffusion_model.`) or a ControlNet (after `control_model.`): LDM to diffusers. Names that are
/// diffusers' already stay.
pub fn unet(name: &str) -> Option<String> {
    let top = [
        ("time_embed.0.", "time_embedding.linear_1."),
        ("time_embed.2.", "time_embedding.linear_2."),
        ("label_emb.0.0.", "add_embedding.linear_1."),
        ("label_emb.0.2.", "add_embedding.linear_2."),
        ("input_blocks.0.0.", "conv_in."),
        ("out.0.", "conv_norm_out."),
        ("out.2.", "conv_out."),
        ("middle_block_out.0.", "controlnet_mid_block."),
        ("middle_block.0.", "mid_block.resnets.0."),
        ("middle_block.1.", "mid_block.attentions.0."),
        ("middle_block.2.", "mid_block.resnets.1."),
    ];
    for (ldm, ours) in top {
        if let Some(rest) = name.strip_prefix(ldm) {
            return Some(format!("{ours}{}", resnet(rest)));
        }
    }
    if let Some(rest) = name.strip_prefix("zero_convs.") {
        let (index, rest) = number(rest)?;
        return Some(format!("controlnet_down_blocks.{index}.{}", rest.strip_prefix("0.")?));
    }
    if let Some(rest) = name.strip_prefix("input_hint_block.") {
        let (index, rest) = number(rest)?;
        return match index {
            0 => Some(format!("controlnet_cond_embedding.conv_in.{rest}")),
            14 => Some(format!("controlnet_cond_embedding.conv_out.{rest}")),
            2..14 if index % 2 == 0 => Some(format!("controlnet_cond_embedding.blocks.{}.{rest}", index / 2 - 1)),
            _ => None,
        };
    }
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        let (index, rest) = number(rest)?;
        let index = index.checked_sub(1)?;
        let (level, at) = (index / 3, index % 3);
        return if let Some(rest) = rest.strip_prefix("0.op.") {
            (at == 2).then(|| format!("down_blocks.{level}.downsamplers.0.conv.{rest}"))
        } else if let Some(rest) = rest.strip_prefix("0.") {
            Some(format!("down_blocks.{level}.resnets.{at}.{}", resnet(rest)))
        } else {
            Some(format!("down_blocks.{level}.attentions.{at}.{}", rest.strip_prefix("1.")?))
        };
    }
    if let Some(rest) = name.strip_prefix("output_blocks.") {
        let (index, rest) = number(rest)?;
        let (level, at) = (index / 3, index % 3);
        let (part, rest) = number(rest)?;
        return match (part, rest.strip_prefix("conv.")) {
            (1 | 2, Some(rest)) => Some(format!("up_blocks.{level}.upsamplers.0.conv.{rest}")),
            (0, None) => Some(format!("up_blocks.{level}.resnets.{at}.{}", resnet(rest))),
            (1, None) => Some(format!("up_blocks.{level}.attentions.{at}.{rest}")),
            _ => None,
        };
    }
    let ours = [
        "conv_in.",
        "time_embedding.",
        "add_embedding.",
        "down_blocks.",
        "mid_block.",
        "up_blocks.",
        "conv_norm_out.",
        "conv_out.",
        "controlnet_",
        "task_embedding",
        "transformer_layes.",
        "spatial_ch_projs.",
        "control_add_embedding.",
    ];
    ours.iter().any(|prefix| name.starts_with(prefix)).then(|| name.to_owned())
}

/// A VAE (after `first_stage_model.`) of `levels` resolutions: LDM to diffusers, and diffusers' first names of its attention.
pub fn vae(name: &str, levels: usize) -> Option<String> {
    let name = name
        .replace("nin_shortcut.", "conv_shortcut.")
        .replace("norm_out.", "conv_norm_out.")
        .replace("conv_conv_norm_out.", "conv_norm_out.")
        .replace("mid.block_1.", "mid_block.resnets.0.")
        .replace("mid.block_2.", "mid_block.resnets.1.")
        .replace("mid.attn_1.", "mid_block.attentions.0.");
    let name = match name.split_once("attentions.0.") {
        Some((before, rest)) => {
            let table = [
                ("norm.", "group_norm."),
                ("q.", "to_q."),
                ("k.", "to_k."),
                ("v.", "to_v."),
                ("proj_out.", "to_out.0."),
                ("query.", "to_q."),
                ("key.", "to_k."),
                ("value.", "to_v."),
                ("proj_attn.", "to_out.0."),
            ];
            let renamed = table.iter().find_map(|(ldm, ours)| Some(format!("{ours}{}", rest.strip_prefix(ldm)?)));
            format!("{before}attentions.0.{}", renamed.unwrap_or_else(|| rest.to_owned()))
        }
        None => name,
    };
    for (side, ours, sampler) in
        [("encoder.down.", "encoder.down_blocks.", "down"), ("decoder.up.", "decoder.up_blocks.", "up")]
    {
        let Some(rest) = name.strip_prefix(side) else { continue };
        let (level, rest) = number(rest)?;
        let level = if sampler == "up" { (levels - 1).checked_sub(level)? } else { level };
        return if let Some(rest) = rest.strip_prefix("block.") {
            Some(format!("{ours}{level}.resnets.{rest}"))
        } else {
            Some(format!("{ours}{level}.{sampler}samplers.0.{}", rest.strip_prefix(sampler)?.strip_prefix("sample.")?))
        };
    }
    let ours = ["encoder.", "decoder.", "quant_conv.", "post_quant_conv."];
    ours.iter().any(|prefix| name.starts_with(prefix)).then_some(name)
}

/// A text encoder of transformers, with or without its prefix `text_model.`.
pub fn clip(name: &str) -> Option<String> {
    let name = name.strip_prefix("text_model.").unwrap_or(name);
    let ours = [
        "embeddings.token_embedding.",
        "embeddings.position_embedding.",
        "encoder.",
        "final_layer_norm.",
        "text_projection.",
    ];
    ours.iter().any(|prefix| name.starts_with(prefix)).then(|| name.to_owned())
}

/// A text encoder of OpenCLIP (after `conditioner.embedders.1.model.` or `cond_stage_model.model.`): each array is one, or
/// three where queries, keys and values are joined.
pub fn open_clip(name: &str) -> Vec<Renamed> {
    let plain = |name: String| vec![Renamed { name, third: None, transposed: false }];
    match name {
        "text_projection" => {
            return vec![Renamed { name: "text_projection.weight".into(), third: None, transposed: true }];
        }
        "text_projection.weight" => return plain(name.into()),
        "positional_embedding" => return plain("embeddings.position_embedding.weight".into()),
        "token_embedding.weight" => return plain("embeddings.token_embedding.weight".into()),
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("ln_final.") {
        return plain(format!("final_layer_norm.{rest}"));
    }
    let Some((layer, rest)) = name.strip_prefix("transformer.resblocks.").and_then(number) else { return Vec::new() };
    let layer = format!("encoder.layers.{layer}.");
    if let Some(rest) = rest.strip_prefix("attn.in_proj_") {
        let third = |(at, letter)| Renamed {
            name: format!("{layer}self_attn.{letter}_proj.{rest}"),
            third: Some(at),
            transposed: false,
        };
        return [(0, 'q'), (1, 'k'), (2, 'v')].map(third).to_vec();
    }
    let table = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
        ("attn.out_proj.", "self_attn.out_proj."),
    ];
    table
        .iter()
        .find_map(|(theirs, ours)| Some(plain(format!("{layer}{ours}{}", rest.strip_prefix(theirs)?))))
        .unwrap_or_default()
}

fn resnet(rest: &str) -> String {
    let table = [
        ("in_layers.0.", "norm1."),
        ("in_layers.2.", "conv1."),
        ("emb_layers.1.", "time_emb_proj."),
        ("out_layers.0.", "norm2."),
        ("out_layers.3.", "conv2."),
        ("skip_connection.", "conv_shortcut."),
    ];
    let renamed = table.iter().find_map(|(ldm, ours)| Some(format!("{ours}{}", rest.strip_prefix(ldm)?)));
    renamed.unwrap_or_else(|| rest.to_owned())
}

/// `12.rest` as 12 and `rest`.
fn number(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once('.')?;
    Some((number.parse().ok()?, rest))
}
