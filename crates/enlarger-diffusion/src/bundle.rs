//! Files that make a model together. Opening reads their headers alone and tells whether they fit; loading reads the weights.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    clip::{Clip, END},
    cost::{self, Cost},
    engine::{Conditioning, Model, canvas, check, vae_tiles},
    error::{Error, Result},
    family::{Checkpoint, Family, Kind, recognise},
    file::Safetensors,
    layers::Heads,
    lora::{Lora, Target},
    needs,
    ops::{Activation, Ops},
    prompt::{Embedding, Piece, Tokenizer, encode},
    sampler::Prediction,
    tiles::Tiles,
    unet::{ControlNet, Unet, heads},
    vae::Vae,
    weights::{Part, Weights},
};

/// Where the files are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    /// A checkpoint in one file, or a folder as diffusers saves it.
    pub checkpoint: PathBuf,
    /// A VAE instead of the checkpoint's.
    pub vae: Option<PathBuf>,
    /// A ControlNet.
    pub control: Option<PathBuf>,
    /// LoRAs and their strengths.
    pub loras: Vec<(PathBuf, f32)>,
    /// Embeddings; their names without extension are the words of prompts that stand for them.
    pub embeddings: Vec<PathBuf>,
}

/// Files that fit each other. Their weights are not in memory.
#[derive(Debug)]
pub struct Bundle {
    checkpoint: Checkpoint,
    /// Channels of the maps that the UNet carries across, which a ControlNet has to fit.
    maps: Vec<usize>,
    control: Option<Weights>,
    embeddings: Vec<(String, Embedding)>,
}

/// What a request costs, before anything is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Costs {
    /// Floating-point operations: text, encoding, predictions, decoding.
    pub flops: [f64; 4],
    /// Bytes of weights that are read from memory while they run.
    pub streamed: [f64; 4],
    /// Tiles: encoded, predicted over all steps, decoded.
    pub tiles: [usize; 3],
    /// Bytes of weights that are read from files: of the networks that stay in memory.
    pub loaded: u64,
    /// The same of the text encoders, which do not stay.
    pub texts: u64,
    /// Bytes of weights that stay in memory while it runs.
    pub resident: u64,
    /// Bytes at the most, weights included.
    pub peak: u64,
    /// Weights of the networks that stay in memory.
    pub parameters: u64,
    /// Bytes of maps at the most, in 32 bits.
    pub maps: u64,
}

impl Costs {
    /// All operations.
    pub fn total(&self) -> f64 {
        self.flops.iter().sum()
    }

    /// Operations as long as those of large maps: what small ones take is mostly spent on reading and transforming weights.
    pub fn work(&self) -> [f64; 4] {
        std::array::from_fn(|i| self.flops[i] + PER_BYTE * self.streamed[i])
    }
}

/// What decides the cost of a request.
#[derive(Debug, Clone, Copy)]
pub struct Size<'a> {
    /// Of the picture, in pixels.
    pub width: usize,
    /// Of the picture, in pixels.
    pub height: usize,
    /// How it is cut.
    pub tiles: &'a Tiles,
    /// How often the network is asked about each tile.
    pub steps: usize,
    /// Whether it is asked with the prompt and the negative prompt.
    pub guided: bool,
    /// Chunks of the longer prompt.
    pub chunks: usize,
}

impl Bundle {
    /// Opens files and checks that they go together.
    ///
    /// # Errors
    /// [`Error::File`] if a header is damaged, [`Error::Unsupported`] naming both files if they are of different families, or saying
    /// which part is missing; [`Error::Weights`] naming an array that is missing or has another shape than the networks need.
    pub fn open(files: &Files) -> Result<Self> {
        let mut bundle = Self::of(Checkpoint::open(&files.checkpoint)?, files.vae.as_deref())?;
        if let Some(path) = &files.control {
            bundle.add_control(path)?;
        }
        for (path, strength) in &files.loras {
            bundle.add_lora(path, *strength)?;
        }
        for path in &files.embeddings {
            bundle.add_embedding(path)?;
        }
        Ok(bundle)
    }

    /// A checkpoint with its own VAE, or that of a file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(mut checkpoint: Checkpoint, other_vae: Option<&Path>) -> Result<Self> {
        if let Some(path) = other_vae {
            checkpoint.vae = vae(path)?;
        }
        let Checkpoint { name, family, unet, vae, text, second_text, .. } = &checkpoint;
        let lacks = |what: &str, hint: &str| Err(Error::Unsupported(format!("{name} has no {what}; hint: {hint}")));
        if vae.is_empty() {
            return lacks("VAE", "specify a VAE file, or use a checkpoint that has one");
        }
        if text.is_empty() || *family == Family::Sdxl && second_text.is_empty() {
            return lacks("text encoder", "use a checkpoint that has one: single-file checkpoints usually do");
        }
        let maps = needs::unet(unet)?;
        needs::vae(vae)?;
        let first = needs::text(text, false)?;
        let width = if *family == Family::Sdxl { first + needs::text(second_text, true)? } else { first };
        let taken = needs::text_width(unet);
        if taken != width {
            return Err(unet.misfit(&format!("takes text of a width of {taken}, and its text encoder gives {width}")));
        }
        Ok(Self { checkpoint, maps, control: None, embeddings: Vec::new() })
    }

    /// Adds a ControlNet, in place of one that was added before.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn add_control(&mut self, path: &Path) -> Result<()> {
        let file = Arc::new(Safetensors::open(path)?);
        match recognise(&file)? {
            Kind::Control { family, .. } => self.fits(family, "a ControlNet", &file)?,
            other => return Err(other.instead_of("a ControlNet", &file)),
        }
        let control = below(&file, "control_model.", Part::Unet);
        needs::control(&control, &self.maps)?;
        self.control = Some(control);
        Ok(())
    }

    /// Adds a LoRA to the weights that it is for. Returns how many of its layers the checkpoint does not have.
    ///
    /// # Errors
    /// As [`Self::open`]; the bundle is of no use then.
    pub fn add_lora(&mut self, path: &Path, strength: f32) -> Result<usize> {
        let file = Arc::new(Safetensors::open(path)?);
        match recognise(&file)? {
            Kind::Lora { family: Some(other) } => self.fits(other, "a LoRA", &file)?,
            Kind::Lora { family: None } => {}
            other => return Err(other.instead_of("a LoRA", &file)),
        }
        let lora = Lora::new(&file)?;
        let Checkpoint { name, family, unet, text, second_text, .. } = &mut self.checkpoint;
        let mut changed = lora.merge(unet, Target::Unet, strength)?;
        changed += lora.merge(text, Target::Text, strength)?;
        changed += lora.merge(second_text, Target::SecondText, strength)?;
        if changed == 0 {
            return Err(Error::Unsupported(format!(
                "{} changes no layer of {name}; hint: use a LoRA for {family}",
                file.name()
            )));
        }
        Ok(lora.layers().saturating_sub(changed))
    }

    /// Adds an embedding. Its file's name without extension is the word of prompts that stands for it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn add_embedding(&mut self, path: &Path) -> Result<()> {
        let file = Safetensors::open(path)?;
        if let Kind::Embedding { family } = recognise(&file)? {
            self.fits(family, "an embedding", &file)?;
        }
        let word = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.embeddings.push((word, Embedding::read(&file)?));
        Ok(())
    }

    fn fits(&self, other: Family, what: &str, file: &Safetensors) -> Result<()> {
        let Checkpoint { name, family, .. } = &self.checkpoint;
        if other == *family {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} is {what} for {other}, and {name} is a checkpoint of {family}; hint: use {what} for {family}",
            file.name()
        )))
    }

    /// What the network was trained to predict.
    pub fn prediction(&self) -> Prediction {
        self.checkpoint.prediction
    }

    /// Which family the files are of.
    pub fn family(&self) -> Family {
        self.checkpoint.family
    }

    /// Weights of a ControlNet that the UNet takes: one for each map that is carried across, and the middle.
    pub fn residuals(&self) -> usize {
        let w = &self.checkpoint.unet;
        let levels = w.count("down_blocks.");
        let maps = |i: usize| {
            let level = format!("down_blocks.{i}");
            w.count(&format!("{level}.resnets.")) + usize::from(w.has(&format!("{level}.downsamplers.")))
        };
        2 + (0..levels).map(maps).sum::<usize>()
    }

    /// What a request of this size costs.
    ///
    /// # Errors
    /// [`Error::Request`] if the tiles do not fit a network.
    pub fn cost(&self, size: &Size<'_>) -> Result<Costs> {
        let Checkpoint { unet, vae, text, second_text, .. } = &self.checkpoint;
        let area = canvas(size.height, size.width, size.tiles.wrap);
        let grids: Vec<_> = (0..size.steps).map(|step| size.tiles.grid(area, step)).collect::<Result<_>>()?;
        let tokens = size.chunks.max(1) * crate::clip::CHUNK;
        let asked = if size.guided { 2.0 } else { 1.0 };
        let mut most = Cost::default();
        let (mut predictions, mut predicted) = (0.0, 0);
        if let Some(grid) = grids.first() {
            let tile = grid.tile(0).size();
            most = cost::unet(unet, tile, tokens);
            if let Some(control) = &self.control {
                let control = cost::unet(control, tile, tokens);
                most = Cost { flops: most.flops + control.flops, bytes: most.bytes.max(control.bytes) };
            }
            predicted = grids.iter().map(|grid| grid.count()).sum();
            predictions = asked * most.flops * predicted as f64;
        }
        let grid = vae_tiles(size.tiles.wrap).grid(area, 0)?;
        let tile = grid.tile(0).size().map(|side| 8 * side);
        let (encoder, decoder) = (cost::encoder(vae, tile), cost::decoder(vae, tile));
        let (encoded, count) = (grid.count(), grid.count() as f64);
        let words = asked * size.chunks.max(1) as f64;
        let reading = words * (cost::text(text).flops + cost::text(second_text).flops);
        // Canvases of latents: picture, noise, the sampler's two and the blended prediction. Pixels: a band of decoded tiles.
        let canvases = 4 * 4 * 6 * (area[0] * area[1]) as u64;
        let band = 4 * 3 * 64 * area[1] as u64 * if size.tiles.wrap { area[0] } else { 2 * tile[0] / 8 } as u64;
        let asked_bytes = unet.bytes() + self.control.as_ref().map_or(0, Weights::bytes);
        let loaded = asked_bytes + vae.bytes();
        let resident = loaded + canvases;
        let running = (asked as u64 * most.bytes).max(encoder.bytes).max(decoder.bytes + band) + PATCHES;
        let parameters = |w: Option<&Weights>| w.map_or(0, Weights::parameters);
        let texts = text.bytes() + second_text.bytes();
        // Both prompts are asked at once, so weights are read once for both. Of a VAE each half has about half.
        let half = count * vae.bytes() as f64 / 2.0;
        Ok(Costs {
            flops: [reading, count * encoder.flops, predictions, count * decoder.flops],
            streamed: [words * texts as f64, half, predicted as f64 * asked_bytes as f64, half],
            tiles: [encoded, predicted, encoded],
            loaded,
            texts,
            resident,
            peak: (resident + running).max(texts + PATCHES),
            parameters: [Some(unet), Some(vae), self.control.as_ref()].map(parameters).iter().sum(),
            maps: (asked as u64 * most.bytes).max(encoder.bytes).max(decoder.bytes),
        })
    }

    /// Encodes prompts. The text encoders are read for it, and given back.
    ///
    /// # Errors
    /// [`Error::Weights`] if an encoder is damaged, [`Error::Request`] for an embedding of another family; files, memory, cancelled.
    pub fn read<O: Ops>(
        &self,
        ops: &O,
        prompts: &[&[Piece]],
        clip_skip: usize,
        tile: [usize; 2],
    ) -> Result<Vec<Conditioning>> {
        let tokenizer = self.tokenizer();
        let encoder = |w: &Weights, activation, pad, skip, normed| -> Result<Vec<_>> {
            let clip = Clip::load(ops, w, activation, Heads::Width(64))?;
            let one = |prompt: &&[Piece]| {
                let chunks = tokenizer.chunks_of(prompt, clip.width(), pad)?;
                Ok((encode(ops, &clip, &chunks, skip, normed)?, clip.width()))
            };
            prompts.iter().map(one).collect()
        };
        let Checkpoint { family, text, second_text, .. } = &self.checkpoint;
        let whose = || "the text encoder".to_owned();
        let plain = |(prompt, width): (crate::prompt::Prompt, usize)| {
            check(&prompt.hidden, whose)?;
            Ok(Conditioning { hidden: prompt.hidden, width, added: None })
        };
        match family {
            Family::Sd1 => {
                encoder(text, Activation::QuickGelu, END, clip_skip.max(1) - 1, true)?.into_iter().map(plain).collect()
            }
            // Trained on the last layer but one.
            Family::Sd2 => {
                encoder(text, Activation::Gelu, 0, clip_skip.max(2) - 1, true)?.into_iter().map(plain).collect()
            }
            Family::Sdxl => {
                let skip = clip_skip.max(2) - 1;
                let first = encoder(text, Activation::QuickGelu, END, skip, false)?;
                let second = encoder(second_text, Activation::Gelu, 0, skip, false)?;
                let [height, width] = tile.map(|side| 8.0 * side as f32);
                let joined = first.into_iter().zip(second).map(|((a, wide_a), (b, wide_b))| {
                    let rows = a.hidden.chunks_exact(wide_a).zip(b.hidden.chunks_exact(wide_b));
                    let hidden: Vec<f32> = rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect();
                    check(&hidden, whose)?;
                    let pooled =
                        b.pooled.ok_or_else(|| Error::Weights("the second text encoder has no projection".into()))?;
                    // Each tile counts as a picture of its own.
                    let sizes = [height, width, 0.0, 0.0, height, width];
                    Ok(Conditioning { hidden, width: wide_a + wide_b, added: Some((pooled, sizes)) })
                });
                joined.collect()
            }
        }
    }

    /// Reads the weights of all networks but the text encoders.
    ///
    /// # Errors
    /// [`Error::Weights`] if arrays are missing or do not fit; files, memory.
    pub fn load<O: Ops>(&self, ops: &O) -> Result<Model<O>> {
        let Checkpoint { family, prediction, unet, vae, .. } = &self.checkpoint;
        Ok(Model {
            unet: Unet::load(ops, unet, heads(unet))?,
            prediction: *prediction,
            vae: Vae::load(ops, vae, family.latent_scale())?,
            control: match &self.control {
                Some(control) => Some(ControlNet::load(ops, control, heads(control))?),
                None => None,
            },
        })
    }

    /// It knows the words that stand for embeddings.
    fn tokenizer(&self) -> Tokenizer {
        let mut tokenizer = Tokenizer::default();
        for (word, embedding) in &self.embeddings {
            tokenizer.add(word, embedding.clone());
        }
        tokenizer
    }

    /// How many chunks the longest of some prompts has.
    ///
    /// # Errors
    /// [`Error::Request`] for an embedding of another family.
    pub fn chunks(&self, prompts: &[&[Piece]]) -> Result<usize> {
        let tokenizer = self.tokenizer();
        let width = self.checkpoint.text.length("embeddings.token_embedding.weight", 1)?;
        prompts.iter().try_fold(1, |most, prompt| Ok(most.max(tokenizer.chunks_of(prompt, width, END)?.len())))
    }
}

/// Operations that take as long as reading and transforming a byte of weights. A UNet of 1.72 GB was asked 12 times about one tile, with
/// guidance: 0.84 CPU seconds each at 8x8 latents, 1.23 at 16x16, which are 0.023 and 0.095 TFLOP.
const PER_BYTE: f64 = 75.0;

/// Patches of pixels and widened weights that the CPU holds at a time, and what else is small.
const PATCHES: u64 = 64 << 20;

/// A VAE in a file of its own.
fn vae(path: &Path) -> Result<Weights> {
    let file = Arc::new(Safetensors::open(path)?);
    match recognise(&file)? {
        Kind::Vae | Kind::Checkpoint { vae: true, .. } => {}
        other => return Err(other.instead_of("a VAE", &file)),
    }
    Ok(below(&file, "first_stage_model.", Part::Vae))
}

/// Weights whose names may begin with a prefix.
fn below(file: &Arc<Safetensors>, prefix: &str, part: Part) -> Weights {
    let prefixed = file.names().iter().any(|name| name.starts_with(prefix));
    Weights::new(file, if prefixed { prefix } else { "" }, part)
}
