//! LoRAs: small changes of a network's weights, added when the weights are read.
//!
//! For a layer W, a LoRA has `down` `[rank, in]` (or `[rank, in, height, width]`), `up` `[out, rank]`, and `alpha`: the layer
//! becomes W + strength * alpha / rank * up * down (Hu et al. 2021; `alpha` is `rank` where the file has none).

use std::{collections::HashMap, sync::Arc};

use crate::{
    delta::Delta,
    error::{Error, Result, shortened},
    file::Safetensors,
    weights::Weights,
};

/// The highest rank that is taken: trained ones have up to some hundreds, and up times down is computed in memory.
const MOST_RANK: usize = 4096;

/// A LoRA file, by kohya's names (`lora_unet_..`, `lora_te_..`) or PEFT's (`unet.….lora_A.weight`).
#[derive(Debug)]
pub struct Lora {
    file: Arc<Safetensors>,
    /// Modules with dots as underscores, to the names of down, up and alpha.
    modules: HashMap<String, (String, String, Option<String>)>,
}

/// The network that a LoRA is merged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The UNet.
    Unet,
    /// The text encoder, or the first of two.
    Text,
    /// The second text encoder of SDXL.
    SecondText,
}

impl Lora {
    /// Lists what a file changes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for LoHa, LoKr, DoRA and the like, and if there is no LoRA in the file; [`Error::Weights`] if a layer lacks
    /// one of its two arrays.
    pub fn new(file: &Arc<Safetensors>) -> Result<Self> {
        let names = file.names();
        for (part, kind) in
            [("hada_", "LoHa"), ("lokr_", "LoKr"), ("dora_scale", "DoRA"), ("lora_mid", "Tucker LoRA"), ("oft_", "OFT")]
        {
            if names.iter().any(|n| n.contains(part)) {
                return Err(Error::Unsupported(format!(
                    "{} is a {kind}, which is not supported; hint: LoRAs with up and down weights are",
                    file.name()
                )));
            }
        }
        let ends = [
            (".lora_down.weight", ".lora_up.weight"),
            (".lora_A.weight", ".lora_B.weight"),
            (".lora.down.weight", ".lora.up.weight"),
            (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        ];
        let mut modules = HashMap::new();
        let lacks = |name: &str| Err(Error::Weights(format!("{} lacks {}", file.name(), shortened(name))));
        for name in &names {
            let Some((module, end)) = ends.iter().find_map(|(d, u)| Some((name.strip_suffix(d)?, u))) else {
                let down = ends.iter().find_map(|(d, u)| Some(format!("{}{d}", name.strip_suffix(u)?)));
                match down.filter(|down| file.shape(down).is_none()) {
                    Some(down) => return lacks(&down),
                    None => continue,
                }
            };
            let (down, up, alpha) = (name, format!("{module}{end}"), format!("{module}.alpha"));
            if file.shape(&up).is_none() {
                return lacks(&up);
            }
            let alpha = match file.shape(&alpha) {
                None => None,
                Some(shape) if shape.iter().product::<usize>() == 1 => Some(alpha),
                Some(shape) => {
                    let (file, alpha) = (file.name(), shortened(&alpha));
                    return Err(Error::Weights(format!(
                        "{alpha} of {file} has the shape {shape:?} instead of one number"
                    )));
                }
            };
            let module = module.strip_prefix("base_model.model.").unwrap_or(module);
            modules.insert(module.replace('.', "_"), (down.clone(), up, alpha));
        }
        if modules.is_empty() {
            return Err(Error::Unsupported(format!("{} is not a LoRA", file.name())));
        }
        Ok(Self { file: file.clone(), modules })
    }

    /// How many layers the file changes, in all networks.
    pub fn layers(&self) -> usize {
        self.modules.len()
    }

    /// Adds the changes to the layers of a network, with a strength (1: as trained; negative values turn it round). Returns how
    /// many layers they were.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the shapes are those of another family.
    pub fn merge(&self, weights: &mut Weights, target: Target, strength: f32) -> Result<usize> {
        let prefixes: &[&str] = match target {
            Target::Unet => &["lora_unet_", "unet_", "diffusion_model_", "model_diffusion_model_"],
            Target::Text => &[
                "lora_te_text_model_",
                "lora_te1_text_model_",
                "text_encoder_text_model_",
                "text_encoder_",
                "lora_te_",
                "lora_te1_",
            ],
            Target::SecondText => {
                &["lora_te2_text_model_", "text_encoder_2_text_model_", "text_encoder_2_", "lora_te2_"]
            }
        };
        let mut changes = Vec::new();
        for (ours, theirs) in weights.modules() {
            let found = [ours, theirs]
                .iter()
                .map(|name| name.replace('.', "_"))
                .find_map(|name| prefixes.iter().find_map(|prefix| self.modules.get(&format!("{prefix}{name}"))));
            let Some((down, up, alpha)) = found else { continue };
            let name = format!("{ours}.weight");
            let shape = weights.shape(&name).unwrap_or_default();
            let (d, u) = (self.file.shape(down).unwrap_or(&[]), self.file.shape(up).unwrap_or(&[]));
            let rank = d.first().copied().unwrap_or(0);
            if !(1..=MOST_RANK).contains(&rank) {
                let (file, layer) = (self.file.name(), shortened(ours));
                return Err(Error::Weights(format!(
                    "{file} has a rank of {rank} at {layer}; 1 to {MOST_RANK} are possible"
                )));
            }
            let fits = d.len() >= 2
                && u.len() >= 2
                && shape.len() >= 2
                && u[0] == shape[0]
                && u[1] == d[0]
                && u[2..].iter().all(|&l| l == 1)
                && d[1..].iter().product::<usize>() == shape[1..].iter().product::<usize>();
            if !fits {
                return Err(Error::Unsupported(format!(
                    "the LoRA {} is for a different model family than the checkpoint: {} has {shape:?}, the LoRA {d:?} and {u:?}",
                    self.file.name(),
                    shortened(ours)
                )));
            }
            let delta =
                Delta { file: self.file.clone(), down: down.clone(), up: up.clone(), alpha: alpha.clone(), strength };
            changes.push((name, delta));
        }
        let count = changes.len();
        for (name, delta) in changes {
            weights.change(name, delta);
        }
        Ok(count)
    }
}
