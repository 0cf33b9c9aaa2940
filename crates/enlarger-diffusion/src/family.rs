//! What a file is, told from its header alone, and where the parts of a checkpoint are.

use std::{fmt, fs::File, io::Read, path::Path, sync::Arc};

use crate::{
    error::{Error, Result, shortened},
    file::Safetensors,
    sampler::Prediction,
    union,
    weights::{Part, Weights},
};

/// Bytes of a configuration file that are read.
const LARGEST_CONFIG: u64 = 1 << 20;

/// Networks that fit each other are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1.x, 512 pixels a side.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// Stable Diffusion XL, 1024 pixels a side.
    Sdxl,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sd1 => "SD 1.x",
            Self::Sd2 => "SD 2.x",
            Self::Sdxl => "SDXL",
        })
    }
}

impl Family {
    /// By the width of the text that attention looks at.
    fn of_text(width: usize) -> Option<Self> {
        match width {
            768 => Some(Self::Sd1),
            1024 => Some(Self::Sd2),
            2048 => Some(Self::Sdxl),
            _ => None,
        }
    }

    /// What brings latents of the family's VAE to unit variance.
    pub fn latent_scale(self) -> f32 {
        match self {
            Self::Sd1 | Self::Sd2 => 0.18215,
            Self::Sdxl => 0.13025,
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A UNet, mostly with VAE and text encoders.
    Checkpoint {
        /// Which.
        family: Family,
        /// Noise, unless the file says otherwise. SD 2.x at 768 pixels predicts v and does not say so.
        prediction: Prediction,
        /// Whether pixels can be read and written without another file.
        vae: bool,
        /// Whether prompts can be read without another file.
        text: bool,
    },
    /// An autoencoder. That of SDXL has the same names and shapes as those of SD 1.x and 2.x, so the header does not tell which.
    Vae,
    /// A ControlNet.
    Control {
        /// That it fits.
        family: Family,
        /// Whether it follows several kinds of pictures, tiles among them.
        union: bool,
    },
    /// A LoRA.
    Lora {
        /// That it fits; unknown if it changes no attention to text.
        family: Option<Family>,
    },
    /// A textual-inversion embedding.
    Embedding {
        /// That it fits.
        family: Family,
    },
}

impl Kind {
    /// That a file is this and not what was wanted, such as "a LoRA".
    pub(crate) fn instead_of(&self, wanted: &str, file: &Safetensors) -> Error {
        // As they are spoken: an SD 1.x checkpoint.
        let article = if matches!(self, Self::Embedding { .. } | Self::Checkpoint { .. }) { "an" } else { "a" };
        Error::Unsupported(format!("{} is {article} {self}, not {wanted}", file.name()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { family, vae, text, .. } => {
                write!(f, "{family} checkpoint")?;
                match (vae, text) {
                    (true, true) => Ok(()),
                    (false, true) => f.write_str(" without VAE"),
                    (true, false) => f.write_str(" without text encoder"),
                    (false, false) => f.write_str(" without a VAE or text encoder"),
                }
            }
            Self::Vae => f.write_str("VAE for SD 1.x, 2.x or SDXL"),
            Self::Control { family, union: false } => write!(f, "ControlNet for {family}"),
            Self::Control { family, union: true } => write!(f, "union ControlNet for {family}"),
            Self::Lora { family: Some(family) } => write!(f, "LoRA for {family}"),
            Self::Lora { family: None } => f.write_str("LoRA"),
            Self::Embedding { family } => write!(f, "embedding for {family}"),
        }
    }
}

/// Parts of names that only unsupported networks have, and what they are called.
const UNSUPPORTED: [(&str, &str); 13] = [
    ("double_blocks.", "a network of the Flux family"),
    ("double_blocks_", "a LoRA of the Flux family"),
    ("single_transformer_blocks", "a network of the Flux family"),
    ("joint_blocks", "a network of Stable Diffusion 3"),
    ("cap_embedder", "a network of the Z-Image or Lumina family"),
    ("img_mod", "a network of the Qwen-Image family"),
    ("lllite", "a ControlNet-LLLite"),
    ("adapter.body.", "a T2I adapter"),
    ("ip_adapter.", "an IP adapter"),
    ("hada_", "a LoHa"),
    ("lokr_", "a LoKr"),
    ("dora_scale", "a DoRA"),
    ("motion_modules", "a motion module"),
];

const SUPPORTED: &str = "hint: checkpoints, LoRAs and ControlNets of SD 1.x, SD 2.x and SDXL are read";

/// Tells what a file is by the names and shapes in its header.
///
/// # Errors
/// [`Error::Unsupported`] names what it is, or says that nothing is known of it, and what would fit.
pub fn recognise(file: &Safetensors) -> Result<Kind> {
    let names = file.names();
    let refusal =
        |what: &str| Error::Unsupported(format!("{} is {what}, which is not supported; {SUPPORTED}", file.name()));
    let refuse = |what: &str| Err(refusal(what));
    if let Some((_, what)) = UNSUPPORTED.iter().find(|(part, _)| names.iter().any(|n| n.contains(part))) {
        return refuse(what);
    }
    let width_at = |end: &str, axis: usize| {
        names.iter().find(|n| n.ends_with(end)).and_then(|n| file.shape(n)?.get(axis).copied())
    };
    let any = |part: &str| names.iter().any(|n| n.contains(part));
    let family = |width: Option<usize>| match width.and_then(Family::of_text) {
        Some(family) => Ok(family),
        None => Err(refusal(
            &width.map_or("of an unknown family".to_owned(), |w| format!("for a text encoder of width {w}")),
        )),
    };

    // The first of two matrices, which has the inputs of the layer; blocks are called down, too.
    let downs = [".lora_down.weight", ".lora_A.weight", ".lora.down.weight"];
    if downs.iter().any(|down| any(down)) {
        let width = names
            .iter()
            .filter(|n| n.contains("attn2_to_k") || n.contains("attn2.to_k"))
            .find(|n| downs.iter().any(|down| n.contains(down)))
            .and_then(|n| file.shape(n)?.get(1).copied());
        return match width {
            Some(width) => Ok(Kind::Lora { family: Some(family(Some(width))?) }),
            None => Ok(Kind::Lora { family: any("lora_te2_").then_some(Family::Sdxl) }),
        };
    }
    if any("controlnet_cond_embedding.conv_in.weight") || any("input_hint_block.0.weight") {
        let kinds = file.shape(union::KINDS).and_then(|shape| shape.first().copied());
        if kinds.is_some_and(|kinds| kinds <= union::TILE) {
            return refuse("a union ControlNet that follows no tiles, as ProMax does");
        }
        return Ok(Kind::Control { family: family(width_at("attn2.to_k.weight", 1))?, union: kinds.is_some() });
    }
    for (name, axis) in
        [("model.diffusion_model.input_blocks.0.0.weight", 1), ("conv_in.weight", 1), ("input_blocks.0.0.weight", 1)]
    {
        let Some(&inputs) = file.shape(name).and_then(|s| s.get(axis)) else { continue };
        if !any("attn2.to_k.weight") {
            break;
        }
        match inputs {
            4 => {}
            8 => return refuse("a checkpoint that edits by instructions (InstructPix2Pix)"),
            9 => return refuse("a checkpoint for inpainting"),
            5 => return refuse("a checkpoint that follows depth"),
            _ => return refuse(&format!("a checkpoint of {inputs} channels")),
        }
        let width = width_at("attn2.to_k.weight", 1);
        if width == Some(1280) {
            return refuse("the SDXL refiner");
        }
        return Ok(Kind::Checkpoint {
            family: family(width)?,
            // An array of this name, or a note as Stability AI's specification has it.
            prediction: match file.note("modelspec.prediction_type") {
                _ if any("v_pred") => Prediction::V,
                Some(note) if note.eq_ignore_ascii_case("v") => Prediction::V,
                _ => Prediction::Noise,
            },
            vae: any("first_stage_model.decoder."),
            text: any("cond_stage_model.") || any("conditioner.embedders."),
        });
    }
    if let Some(shape) = width_at("decoder.conv_in.weight", 1) {
        return if shape == 4 {
            Ok(Kind::Vae)
        } else {
            refuse(&format!("a VAE of {shape} channels, for a different model family"))
        };
    }
    if file.shape("clip_g").is_some() {
        return Ok(Kind::Embedding { family: Family::Sdxl });
    }
    if let Some(shape) = file.shape("emb_params") {
        return Ok(Kind::Embedding { family: family(shape.get(1).copied())? });
    }
    Err(Error::Unsupported(format!(
        "{} is not recognized as part of a Stable Diffusion model; {SUPPORTED}",
        file.name()
    )))
}

/// The parts of a checkpoint, ready to be loaded.
#[derive(Debug)]
pub struct Checkpoint {
    /// Of its file or folder, for people.
    pub name: String,
    /// Which.
    pub family: Family,
    /// What the UNet predicts.
    pub prediction: Prediction,
    /// The UNet.
    pub unet: Weights,
    /// The VAE; empty if the checkpoint has none.
    pub vae: Weights,
    /// The text encoder; empty if the checkpoint has none.
    pub text: Weights,
    /// The second text encoder of SDXL; empty for others.
    pub second_text: Weights,
}

impl Checkpoint {
    /// Opens a checkpoint in one file, or a folder as diffusers saves it (`unet/`, `vae/`, `text_encoder/`, ...).
    ///
    /// # Errors
    /// [`Error::File`] if headers are damaged, [`Error::Unsupported`] if it is something else.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::folder(path);
        }
        let file = Arc::new(Safetensors::open(path)?);
        let (family, prediction) = match recognise(&file)? {
            Kind::Checkpoint { family, prediction, .. } => (family, prediction),
            other => return Err(other.instead_of("a checkpoint", &file)),
        };
        Ok(Self::parts(&file, family, prediction))
    }

    fn parts(file: &Arc<Safetensors>, family: Family, prediction: Prediction) -> Self {
        let part = |prefix, part| Weights::new(file, prefix, part);
        let prefixed = file.names().iter().any(|n| n.starts_with("model.diffusion_model."));
        let (text, second_text) = match family {
            Family::Sd1 => (part("cond_stage_model.transformer.", Part::Clip), Weights::default()),
            Family::Sd2 => (part("cond_stage_model.model.", Part::OpenClip), Weights::default()),
            Family::Sdxl => (
                part("conditioner.embedders.0.transformer.", Part::Clip),
                part("conditioner.embedders.1.model.", Part::OpenClip),
            ),
        };
        let unet = part(if prefixed { "model.diffusion_model." } else { "" }, Part::Unet);
        Self {
            name: file.name(),
            family,
            prediction,
            unet,
            vae: part("first_stage_model.", Part::Vae),
            text,
            second_text,
        }
    }

    fn folder(path: &Path) -> Result<Self> {
        let part = |name: &str, part: Part| -> Result<Weights> {
            let mut weights = Weights::default();
            for file in arrays_of(&path.join(name))? {
                weights.extend(&Arc::new(file), "", part);
            }
            Ok(weights)
        };
        let files = arrays_of(&path.join("unet"))?;
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let name = shortened(&name);
        let first = files
            .first()
            .ok_or_else(|| Error::Unsupported(format!("{name} is not a checkpoint: it lacks unet/*.safetensors")))?;
        let (family, prediction) = match files.iter().find_map(|f| recognise(f).ok()) {
            Some(Kind::Checkpoint { family, prediction, .. }) => (family, prediction),
            _ => return recognise(first).and_then(|_| Err(Error::Unsupported("unet/ holds no UNet".into()))),
        };
        Ok(Self {
            prediction: predicts(path)?.unwrap_or(prediction),
            name,
            family,
            unet: part("unet", Part::Unet)?,
            vae: part("vae", Part::Vae)?,
            text: part("text_encoder", Part::Clip)?,
            second_text: part("text_encoder_2", Part::Clip)?,
        })
    }
}

/// What a folder's network predicts, as its `scheduler/scheduler_config.json` says; `None` if it says nothing.
fn predicts(folder: &Path) -> Result<Option<Prediction>> {
    let Ok(file) = File::open(folder.join("scheduler/scheduler_config.json")) else { return Ok(None) };
    let config: Option<serde_json::Value> = serde_json::from_reader(file.take(LARGEST_CONFIG)).ok();
    let damaged = || {
        Error::File(format!(
            "scheduler/scheduler_config.json of {} is not JSON",
            shortened(&folder.display().to_string())
        ))
    };
    match config.ok_or_else(damaged)?["prediction_type"].as_str() {
        None => Ok(None),
        Some("epsilon") => Ok(Some(Prediction::Noise)),
        Some("v_prediction") => Ok(Some(Prediction::V)),
        Some(other) => Err(Error::Unsupported(format!(
            "its scheduler says that it predicts {:?}; hint: checkpoints that predict epsilon or v_prediction are supported",
            shortened(other)
        ))),
    }
}

/// The safetensors files of a folder, sorted; of several variants (`.fp16.`, `.non_ema.`) the one without, or else the first.
fn arrays_of(folder: &Path) -> Result<Vec<Safetensors>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    // `diffusion_pytorch_model.fp16-00001-of-00002` is a shard of the variant fp16.
    let variant = |p: &Path| {
        let stem = p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        stem.split_once('.').map(|(_, v)| v.split('-').next().unwrap_or("").to_owned()).unwrap_or_default()
    };
    let chosen = paths.iter().map(|p| variant(p)).min();
    paths.iter().filter(|p| Some(variant(p)) == chosen).map(|p| Safetensors::open(p)).collect()
}
