//! What networks cost, told from shapes alone: nothing is loaded.
//!
//! Operations are counted as torch's FlopCounter does it: two for each multiplication that is added.

use crate::{clip::CHUNK, weights::Weights};

/// Bytes of a value while it is computed.
const VALUE: f64 = 4.0;

/// What running a network once costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of maps and patches at the most expensive layer, above the weights.
    pub bytes: u64,
}

/// A UNet or a ControlNet on one canvas of `height` x `width` latents under `tokens` tokens of text.
pub fn unet(w: &Weights, [height, width]: [usize; 2], tokens: usize) -> Cost {
    let levels = w.count("down_blocks.");
    let area = (height * width) as f64;
    let at = |level: usize| area / 4f64.powi(level as i32);
    let mut cost = Cost::default();
    let mut carried = 0.0;
    for (name, shape) in layers(w) {
        let index = |prefix: &str| index(name, prefix);
        let pixels = if let Some(level) = index("down_blocks.") {
            at(if name.contains(".downsamplers.") { level + 1 } else { level })
        } else if let Some(block) = index("up_blocks.") {
            let level = levels.saturating_sub(1 + block);
            at(if name.contains(".upsamplers.") { level.saturating_sub(1) } else { level })
        } else if name.starts_with("mid_block.") || name.starts_with("controlnet_mid_block") {
            at(levels.saturating_sub(1))
        } else if let Some(map) = index("controlnet_down_blocks.") {
            // Three maps to a level: the first is that of `conv_in`, and each level ends with its halved map.
            at((map / 3).min(levels.saturating_sub(1)))
        } else if let Some(block) = index("controlnet_cond_embedding.blocks.") {
            64.0 * area / 4f64.powi(block.div_ceil(2) as i32)
        } else if name.starts_with("controlnet_cond_embedding.conv_in") {
            64.0 * area
        } else if ["embedding", "transformer_layes.", "spatial_ch_projs."].iter().any(|part| name.contains(part)) {
            1.0
        } else {
            area
        };
        let of_text = name.contains(".attn2.to_k.") || name.contains(".attn2.to_v.");
        let pixels = match () {
            () if of_text => tokens as f64,
            () if name.contains("time_emb_proj") => 1.0,
            () => pixels,
        };
        cost.layer(&shape, pixels);
        if name.ends_with(".attn1.to_q.weight") {
            cost.attention(shape[0], pixels, pixels);
        }
        if name.ends_with(".attn2.to_q.weight") {
            cost.attention(shape[0], pixels, tokens as f64);
        }
        if name.starts_with("down_blocks.") && name.ends_with("conv2.weight") {
            carried += VALUE * pixels * shape[0] as f64;
        }
    }
    cost.bytes += carried as u64;
    cost
}

/// The half of a VAE that makes latents, on one picture of `height` x `width` pixels.
pub fn encoder(w: &Weights, size: [usize; 2]) -> Cost {
    vae(w, "encoder.", size)
}

/// The half of a VAE that makes pixels.
pub fn decoder(w: &Weights, size: [usize; 2]) -> Cost {
    vae(w, "decoder.", size)
}

fn vae(w: &Weights, half: &str, [height, width]: [usize; 2]) -> Cost {
    let area = (height * width) as f64;
    let blocks = |name| w.count(&format!("{half}{name}."));
    let levels = blocks("down_blocks").max(blocks("up_blocks"));
    let at = |level: usize| area / 4f64.powi(level as i32);
    let deepest = levels.saturating_sub(1);
    let mut cost = Cost::default();
    for (name, shape) in layers(w).filter(|(name, _)| name.starts_with(half)) {
        let inner = &name[half.len()..];
        let pixels = if let Some(level) = index(inner, "down_blocks.") {
            at(if inner.contains(".downsamplers.") { level + 1 } else { level })
        } else if let Some(block) = index(inner, "up_blocks.") {
            at(deepest.saturating_sub(block + usize::from(inner.contains(".upsamplers."))))
        } else if inner.starts_with(if half == "encoder." { "conv_in" } else { "conv_out" }) {
            area
        } else {
            at(deepest)
        };
        cost.layer(&shape, pixels);
        if name.ends_with(".to_q.weight") {
            cost.attention(shape[0], pixels, pixels);
        }
    }
    cost
}

/// A text encoder on one chunk.
pub fn text(w: &Weights) -> Cost {
    let mut cost = Cost::default();
    for (_, shape) in layers(w).filter(|(name, _)| name.starts_with("encoder.")) {
        cost.layer(&shape, CHUNK as f64);
    }
    cost
}

/// Names and shapes of all layers that multiply.
fn layers(w: &Weights) -> impl Iterator<Item = (&str, Vec<usize>)> {
    let shape = |name: &'_ str| w.shape(name).filter(|shape| shape.len() >= 2 && shape.iter().all(|&l| l > 0));
    w.names().filter(|name| name.ends_with(".weight")).filter_map(move |name| Some((name, shape(name)?)))
}

/// The number after a prefix. No network has more than 255 of anything.
fn index(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.split('.').next()?.parse::<u8>().ok().map(usize::from)
}

impl Cost {
    fn layer(&mut self, shape: &[usize], pixels: f64) {
        let values: f64 = shape.iter().map(|&l| l as f64).product();
        self.flops += 2.0 * values * pixels;
        // What goes in, what comes out, and what is carried around both.
        let maps = VALUE * pixels * (2.0 * shape[0] as f64 + 2.0 * shape[1] as f64);
        self.bytes = self.bytes.max(maps as u64);
    }

    fn attention(&mut self, channels: usize, queries: f64, keys: f64) {
        self.flops += 4.0 * channels as f64 * queries * keys;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, sync::Arc};

    use super::*;
    use crate::{file::Safetensors, weights::Part};

    /// SD 1.5 in its full size, from the names of the small one of the tests: ten times the channels, with the text and the VAE's
    /// channels set right. The file has no bytes on disk behind its header.
    fn full_size(folder: &std::path::Path) -> Arc<Safetensors> {
        let keys = include_str!("../tests/reference/sd15.keys");
        let mut at = 0usize;
        let mut entries = serde_json::Map::new();
        for line in keys.lines().filter(|line| !line.starts_with("lora_")) {
            let (name, shape) = line.split_once(' ').unwrap();
            let mut shape: Vec<usize> = shape.split('x').map(|l| l.parse().unwrap()).collect();
            if name.starts_with("first_stage_model.") {
                vae_channels(name, &mut shape);
            } else if name.starts_with("model.") || name.starts_with("control_model.") {
                let hint = name.contains("input_hint_block");
                for (axis, l) in shape.iter_mut().enumerate() {
                    let text = axis == 1 && (name.contains("attn2.to_k") || name.contains("attn2.to_v"));
                    match () {
                        () if text => *l = 768,
                        () if axis > 1 || *l < 8 || hint && !(axis == 0 && name.contains("block.14")) => {}
                        () => *l *= 10,
                    }
                }
            }
            let from = at;
            at += 2 * shape.iter().product::<usize>();
            entries
                .insert(name.into(), serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [from, at]}));
        }
        let path = folder.join("full.safetensors");
        let header = serde_json::to_vec(&entries).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(&header).unwrap();
        file.set_len((8 + header.len() + at) as u64).unwrap();
        Arc::new(Safetensors::open(&path).unwrap())
    }

    /// 128, 256, 512 and 512 channels.
    fn vae_channels(name: &str, shape: &mut [usize]) {
        const CHANNELS: [usize; 4] = [128, 256, 512, 512];
        let level = |prefix: &str| -> Option<usize> { name.split_once(prefix)?.1.split('.').next()?.parse().ok() };
        let [out, input] = if let Some(l) = level("encoder.down.") {
            let first =
                name.contains("block.0.conv1") || name.contains("nin_shortcut") || name.contains("block.0.norm1");
            [CHANNELS[l], if first { CHANNELS[l.saturating_sub(1)] } else { CHANNELS[l] }]
        } else if let Some(l) = level("decoder.up.") {
            let first =
                name.contains("block.0.conv1") || name.contains("nin_shortcut") || name.contains("block.0.norm1");
            [CHANNELS[l], if first { CHANNELS[(l + 1).min(3)] } else { CHANNELS[l] }]
        } else if name.contains("encoder.conv_in") || name.contains("decoder.conv_out") {
            [128, 128]
        } else {
            [512, 512]
        };
        let widen = |l: &mut usize, to| {
            if *l >= 32 {
                *l = to
            }
        };
        widen(&mut shape[0], out);
        if let Some(l) = shape.get_mut(1) {
            widen(l, input);
        }
    }

    #[test]
    fn costs_are_what_torch_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = full_size(folder.path());
        let part = |prefix, part| Weights::new(&file, prefix, part);
        let unet = part("model.diffusion_model.", Part::Unet);
        let control = part("control_model.", Part::Unet);
        let vae = part("first_stage_model.", Part::Vae);
        // torch 2.15's FlopCounter on meta tensors of diffusers' networks, in TFLOP.
        for (what, got, expected) in [
            ("UNet at 64x64", super::unet(&unet, [64, 64], 77), 0.803e12),
            ("UNet at 96x96", super::unet(&unet, [96, 96], 77), 2.15e12),
            ("UNet at 128x128", super::unet(&unet, [128, 128], 77), 4.67e12),
            ("ControlNet", super::unet(&control, [64, 64], 77), 0.283e12),
            ("decoder", decoder(&vae, [512, 512]), 2.51e12),
            ("encoder", encoder(&vae, [512, 512]), 1.12e12),
        ] {
            println!("{what}: {:.3} TFLOP, {} MB", got.flops / 1e12, got.bytes >> 20);
            assert!((got.flops / expected - 1.0).abs() < 0.03, "{what}: {:.4e}, not {expected:.4e}", got.flops);
        }
        // 859.5, 361.3 and 83.7 million parameters of 16 bits.
        assert!((unet.bytes() as f64 / 1.719e9 - 1.0).abs() < 0.01, "{}", unet.bytes());
        assert!((control.bytes() as f64 / 0.7226e9 - 1.0).abs() < 0.01, "{}", control.bytes());
        assert!((vae.bytes() as f64 / 0.1673e9 - 1.0).abs() < 0.02, "{}", vae.bytes());
    }
}
