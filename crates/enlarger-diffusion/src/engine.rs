//! Image to image: a picture becomes latents, is given noise, and is made clean again under a prompt.

use std::{borrow::Borrow, ops::ControlFlow};

use crate::{
    error::{Error, Result},
    noise::Noise,
    ops::Ops,
    sampler::{Prediction, Sampler, Schedule, sample},
    tiles::{Pixels, Tile, Tiles, read_beyond},
    unet::{Context, ControlNet, Unet},
    vae::Vae,
};

/// Latents of a side of the VAE's tiles, and by how many they overlap: 512 and 64 pixels.
const VAE_TILE: [usize; 2] = [64, 8];

/// Networks that belong together.
pub struct Model<O: Ops> {
    /// Predicts.
    pub unet: Unet<O>,
    /// What it was trained to predict.
    pub prediction: Prediction,
    /// Between pixels and latents.
    pub vae: Vae<O>,
    /// Holds the result to a picture.
    pub control: Option<ControlNet<O>>,
}

/// An encoded prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditioning {
    /// Hidden states `[tokens, width]`. SDXL: those of both encoders side by side.
    pub hidden: Vec<f32>,
    /// How wide a state is: 768 for SD 1.x, 1024 for 2.x, 2048 for SDXL.
    pub width: usize,
    /// SDXL: the pooled text of the second encoder, and original height and width, top and left of the crop, target height and
    /// width, in pixels.
    pub added: Option<(Vec<f32>, [f32; 6])>,
}

/// What is asked for.
#[derive(Clone)]
pub struct Request<'a> {
    /// The picture, which is mirrored at its right and lower border up to multiples of 64 pixels.
    pub pixels: &'a dyn Pixels,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// What the result shall show.
    pub prompt: &'a Conditioning,
    /// What it shall not show; not asked at a guidance of 1.
    pub negative: &'a Conditioning,
    /// Classifier-free guidance: how far to go from the negative prompt to the prompt; 1 asks once per step.
    pub guidance: f32,
    /// How the latents are made clean.
    pub sampler: Sampler,
    /// How much noise there is at each step: the last part of a schedule.
    pub schedule: &'a Schedule,
    /// Of unit variance, `[height, width, 4]` of the [`canvas`].
    pub noise: &'a [f32],
    /// For Euler ancestral and LCM, which draw fresh noise at each step: that of this seed plus the number of the step.
    pub step_seed: u64,
    /// The picture that the ControlNet follows, as large as `pixels`, and a weight for each of its residuals.
    pub control: Option<(&'a dyn Pixels, &'a [f32])>,
    /// How the canvas is cut.
    pub tiles: &'a Tiles,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The VAE makes latents.
    Encode,
    /// The UNet predicts, tile by tile at each step.
    Predict,
    /// The VAE makes pixels.
    Decode,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub part: Part,
    /// Tiles of this part that are done, of all steps.
    pub done: usize,
    /// All tiles of this part.
    pub of: usize,
}

/// Latents down and across of a picture of so many pixels: multiples of 8. One that wraps keeps its size, so that has to be a
/// multiple of 8 pixels.
pub fn canvas(height: usize, width: usize, wrap: bool) -> [usize; 2] {
    [height, width].map(|side| if wrap { side.div_ceil(8) } else { side.div_ceil(64) * 8 })
}

/// Weights of a ControlNet's `count` residuals, from the outermost to the middle: `weight`, times `decay` for each step away from
/// the middle. A decay of 0.825 lets the prompt count for more, as refiners' upscaler has it; 1 is even.
pub fn control_weights(count: usize, weight: f32, decay: f32) -> Vec<f32> {
    (0..count).map(|i| weight * decay.powi((count - 1 - i) as i32)).collect()
}

/// The networks of a model as a request asks them: values go in and values come out, so that another device can go on in between.
pub trait Networks {
    /// Latents `[height / 8, width / 8, 4]`, scaled, of pixels `[height, width, 3]` in -1..1.
    ///
    /// # Errors
    /// [`Error::Device`] if a GPU fails; memory, cancelled.
    fn encode(&self, pixels: &[f32], size: [usize; 2]) -> Result<Vec<f32>>;

    /// What the network predicts of a tile, for each of the prompts that it is asked about, one after the other.
    ///
    /// # Errors
    /// As above; [`Error::Request`] if there is no ControlNet to follow a picture.
    fn predict(&self, asked: &Asked<'_>) -> Result<Vec<f32>>;

    /// Pixels `[8 height, 8 width, 3]`, about -1..1, of scaled latents.
    ///
    /// # Errors
    /// As above.
    fn decode(&self, latents: &[f32], size: [usize; 2]) -> Result<Vec<f32>>;

    /// What the network was trained to predict.
    fn prediction(&self) -> Prediction;
}

/// What networks are asked about a tile of latents.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `[height, width, 4]`.
    pub latents: &'a [f32],
    /// Height and width.
    pub size: [usize; 2],
    /// The time that the network is told.
    pub time: f32,
    /// Pixels for the ControlNet, `[8 height, 8 width, 3]` in 0..1, and the weights of its residuals.
    pub control: Option<(&'a [f32], &'a [f32])>,
}

/// A model on a device under the prompts of a request.
pub struct Prompted<O: Ops, M: Borrow<Model<O>>> {
    model: M,
    ops: O,
    /// Contexts and how many pictures each is for.
    contexts: Vec<(Context<O::Tensor>, usize)>,
}

impl<O: Ops, M: Borrow<Model<O>>> Prompted<O, M> {
    /// Brings the prompts of a request to the device.
    ///
    /// # Errors
    /// [`Error::Request`] if they have no or other hidden states; memory, cancelled.
    pub fn new(model: M, ops: O, request: &Request<'_>) -> Result<Self> {
        let contexts = contexts(&ops, request)?;
        Ok(Self { model, ops, contexts })
    }
}

impl<O: Ops, M: Borrow<Model<O>>> Networks for Prompted<O, M> {
    fn encode(&self, pixels: &[f32], [height, width]: [usize; 2]) -> Result<Vec<f32>> {
        let (ops, vae) = (&self.ops, &self.model.borrow().vae);
        ops.download(&vae.encode(ops, &ops.upload([1, height, width, 3], pixels)?)?)
    }

    fn predict(&self, asked: &Asked<'_>) -> Result<Vec<f32>> {
        let (ops, model) = (&self.ops, self.model.borrow());
        let Asked { latents, size: [tall, wide], time, control } = *asked;
        let control = match (&model.control, control) {
            (Some(net), Some((pixels, weights))) => {
                Some((net, net.hint(ops, &ops.upload([1, 8 * tall, 8 * wide, 3], pixels)?)?, weights))
            }
            (_, None) => None,
            (None, _) => return Err(Error::Request("there is no ControlNet to follow the picture".into())),
        };
        let mut predicted = Vec::new();
        for (context, batch) in &self.contexts {
            let x = ops.upload([*batch, tall, wide, 4], &latents.repeat(*batch))?;
            let residuals = match &control {
                Some((net, hint, weights)) => Some((net.run(ops, &x, time, context, hint)?, *weights)),
                None => None,
            };
            let residuals = residuals.as_ref().map(|(residuals, weights)| (residuals, *weights));
            predicted.extend(ops.download(&model.unet.run(ops, &x, time, context, residuals)?)?);
        }
        Ok(predicted)
    }

    fn decode(&self, latents: &[f32], [height, width]: [usize; 2]) -> Result<Vec<f32>> {
        let (ops, vae) = (&self.ops, &self.model.borrow().vae);
        ops.download(&vae.decode(ops, &ops.upload([1, height, width, 4], latents)?)?)
    }

    fn prediction(&self) -> Prediction {
        self.model.borrow().prediction
    }
}

/// Runs a request: pixels `[height, width, 3]`, cut to 0..1.
///
/// # Errors
/// As [`run_rows`].
pub fn run(
    networks: &dyn Networks,
    request: &Request<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<f32>> {
    let mut pixels = Vec::new();
    run_rows(networks, request, progress, &mut |_, rows| {
        pixels.try_reserve(rows.len()).map_err(|_| Error::Memory { bytes: 4 * rows.len() })?;
        pixels.extend_from_slice(rows);
        Ok(())
    })?;
    Ok(pixels)
}

/// Runs a request and gives its pixels away from top to bottom: `rows` gets the number of a row, and the values of that and
/// some more, `[rows, width, 3]` in 0..1.
///
/// # Errors
/// [`Error::Request`] if sizes do not fit, [`Error::NotANumber`] naming tile and step, [`Error::Cancelled`] if `progress` breaks
/// or the device is cancelled, memory, and what `rows` answers.
pub fn run_rows(
    networks: &dyn Networks,
    request: &Request<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    rows: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let latents = latents(networks, request, progress)?;
    let Request { width, height, tiles, .. } = *request;
    let size = canvas(height, width, tiles.wrap);
    let small = vae_tiles(tiles.wrap).grid(size, 0)?;
    let decode = |tile: &Tile<'_>| {
        told(progress, Part::Decode, tile.number, tile.of)?;
        let cut = small.tile(tile.number).cut(&latents, 4)?;
        let pixels = networks.decode(&cut, tile.size().map(|side| side / 8))?;
        check(&pixels, || format!("the VAE's decoder, in tile {} of {},", tile.number + 1, tile.of))?;
        Ok(pixels)
    };
    let (line, across) = (3 * width, 24 * size[1]);
    let mut cut = Vec::new();
    small.times(8).blend_rows(3, decode, |first, pixels| {
        cut.clear();
        for row in pixels.chunks_exact(across).take(height.saturating_sub(first)) {
            cut.extend(row[..line].iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)));
        }
        if cut.is_empty() { Ok(()) } else { rows(first, &cut) }
    })
}

/// Runs a request up to the clean latents of the [`canvas`], `[height, width, 4]`, scaled.
///
/// # Errors
/// As [`run_rows`].
pub fn latents(
    networks: &dyn Networks,
    request: &Request<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<f32>> {
    let Request { width, height, tiles, .. } = *request;
    if width == 0 || height == 0 || tiles.wrap && (width % 8 != 0 || height % 8 != 0) {
        return Err(Error::Request(format!(
            "{width}x{height} pixels: there must be some, and sides that wrap must be multiples of 8"
        )));
    }
    if !request.guidance.is_finite() {
        return Err(Error::Request("the guidance must be a number".into()));
    }
    let size = canvas(height, width, tiles.wrap);
    if request.noise.len() != size[0] * size[1] * 4 {
        return Err(Error::Request(format!("noise for other than {}x{} latents", size[1], size[0])));
    }
    let seen = |picture: &dyn Pixels, tile: &Tile<'_>| {
        let [y, x] = [8 * tile.row.start, 8 * tile.column.start];
        read_beyond(picture, [height, width], [y, x], tile.size().map(|side| 8 * side), tiles.wrap)
    };
    let start = vae_tiles(tiles.wrap).grid(size, 0)?.blend(4, |tile| {
        told(progress, Part::Encode, tile.number, tile.of)?;
        let mut pixels = seen(request.pixels, tile)?;
        pixels.iter_mut().for_each(|v| *v = *v * 2.0 - 1.0);
        let latents = networks.encode(&pixels, tile.size().map(|side| 8 * side))?;
        check(&latents, || format!("the VAE's encoder, in tile {} of {},", tile.number + 1, tile.of))?;
        Ok(latents)
    })?;
    let steps = request.schedule.evaluations();
    let grids: Vec<_> = (0..steps).map(|step| tiles.grid(size, step)).collect::<Result<_>>()?;
    let of = grids.iter().map(|grid| grid.count()).sum();
    let mut done = 0;
    let predict = |x: &[f32], time: f32, step: usize| {
        grids[step].blend(4, |tile| {
            told(progress, Part::Predict, done, of)?;
            done += 1;
            let (x, size) = (tile.cut(x, 4)?, tile.size());
            let control = match request.control {
                Some((picture, weights)) => Some((seen(picture, tile)?, weights)),
                None => None,
            };
            let control = control.as_ref().map(|(pixels, weights)| (&pixels[..], *weights));
            let predicted = networks.predict(&Asked { latents: &x, size, time, control })?;
            check(&predicted, || format!("tile {} of {} in step {} of {steps}", tile.number + 1, tile.of, step + 1))?;
            if predicted.len() == x.len() {
                return Ok(predicted);
            }
            let (without, with) = predicted.split_at(x.len());
            Ok(without.iter().zip(with).map(|(off, on)| off + request.guidance * (on - off)).collect())
        })
    };
    let fresh = |step: usize| Noise::new(request.step_seed.wrapping_add(step as u64)).latents(size[0], size[1]);
    let prediction = networks.prediction();
    let latents = sample(request.sampler, request.schedule, prediction, &start, request.noise, predict, fresh)?;
    told(progress, Part::Predict, of, of)?;
    Ok(latents)
}

/// Contexts and how many pictures each is for: negative and positive prompt at once if they are equally long.
fn contexts<O: Ops>(ops: &O, request: &Request<'_>) -> Result<Vec<(Context<O::Tensor>, usize)>> {
    let one = |all: &[&Conditioning]| -> Result<(Context<O::Tensor>, usize)> {
        let join = |of: &dyn Fn(&Conditioning) -> Vec<f32>| all.iter().flat_map(|c| of(c)).collect::<Vec<f32>>();
        let width = all[0].width;
        if all.iter().any(|c| c.width == 0 || c.hidden.is_empty() || c.hidden.len() % c.width != 0) {
            return Err(Error::Request("a prompt without hidden states".into()));
        }
        let text = ops.upload([all.len(), 1, all[0].hidden.len() / width, width], &join(&|c| c.hidden.clone()))?;
        let added = match &all[0].added {
            Some((pooled, sizes)) => {
                let all_pooled = join(&|c| c.added.as_ref().map_or_else(Vec::new, |a| a.0.clone()));
                if all_pooled.len() != pooled.len() * all.len() {
                    return Err(Error::Request("prompt and negative prompt are of different encoders".into()));
                }
                Some((ops.upload([all.len(), 1, 1, pooled.len()], &all_pooled)?, *sizes))
            }
            None => None,
        };
        Ok((Context { text, added }, all.len()))
    };
    let (off, on) = (request.negative, request.prompt);
    if request.guidance == 1.0 {
        Ok(vec![one(&[on])?])
    } else if off.width == on.width && off.hidden.len() == on.hidden.len() {
        Ok(vec![one(&[off, on])?])
    } else {
        Ok(vec![one(&[off])?, one(&[on])?])
    }
}

/// How the VAE cuts a canvas.
pub(crate) fn vae_tiles(wrap: bool) -> Tiles {
    let [side, overlap] = VAE_TILE;
    Tiles { side, overlap, shifts: Vec::new(), wrap }
}

fn told(progress: &mut dyn FnMut(Progress) -> ControlFlow<()>, part: Part, done: usize, of: usize) -> Result<()> {
    if progress(Progress { part, done, of }).is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Refuses values that are not numbers; `whose` they are.
pub(crate) fn check(values: &[f32], whose: impl FnOnce() -> String) -> Result<()> {
    if values.iter().all(|v| v.is_finite()) { Ok(()) } else { Err(Error::NotANumber(whose())) }
}
