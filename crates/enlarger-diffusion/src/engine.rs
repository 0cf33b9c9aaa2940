//! Image to image: a picture becomes latents, is given noise, and is made clean again under a prompt.

use std::ops::ControlFlow;

use crate::{
    error::{Error, Result},
    noise::Noise,
    ops::Ops,
    sampler::{Prediction, Sampler, Schedule, sample},
    unet::{Context, ControlNet, Unet},
    vae::Vae,
};

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
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Pixels `[height, width, 3]` in 0..1; sides are multiples of 64 (SD) or 32 (SDXL).
    pub pixels: &'a [f32],
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
    /// Of unit variance, `[height / 8, width / 8, 4]`.
    pub noise: &'a [f32],
    /// For Euler ancestral and LCM, which draw fresh noise at each step: that of this seed plus the number of the step.
    pub step_seed: u64,
    /// The picture that the ControlNet follows, as `pixels`, and a weight for each of its residuals.
    pub control: Option<(&'a [f32], &'a [f32])>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Evaluations that are done.
    pub done: usize,
    /// All evaluations.
    pub of: usize,
}

/// Weights of a ControlNet's `count` residuals, from the outermost to the middle: `weight`, times `decay` for each step away from
/// the middle. A decay of 0.825 lets the prompt count for more, as refiners' upscaler has it; 1 is even.
pub fn control_weights(count: usize, weight: f32, decay: f32) -> Vec<f32> {
    (0..count).map(|i| weight * decay.powi((count - 1 - i) as i32)).collect()
}

impl<O: Ops> Model<O> {
    /// Runs a request: pixels `[height, width, 3]`, cut to 0..1.
    ///
    /// # Errors
    /// [`Error::Request`] if sizes do not fit, [`Error::NotANumber`], [`Error::Cancelled`] if `progress` breaks or the device is
    /// cancelled, memory.
    pub fn run(
        &self,
        ops: &O,
        request: &Request<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        let latents = self.latents(ops, request, progress)?;
        let latents = ops.upload([1, request.height / 8, request.width / 8, 4], &latents)?;
        let pixels = ops.download(&self.vae.decode(ops, &latents)?)?;
        if pixels.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotANumber("the VAE's decoder".into()));
        }
        Ok(pixels.iter().map(|v| (v / 2.0 + 0.5).clamp(0.0, 1.0)).collect())
    }

    /// Runs a request up to the clean latents `[height / 8, width / 8, 4]`, scaled.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn latents(
        &self,
        ops: &O,
        request: &Request<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        let Request { width, height, .. } = *request;
        let length = height.checked_mul(width).and_then(|area| area.checked_mul(3)).unwrap_or(0);
        if length == 0 || request.pixels.len() != length || width % 8 != 0 || height % 8 != 0 {
            return Err(Error::Request(format!(
                "{width}x{height} pixels: sides must be multiples of 8, and all pixels be there"
            )));
        }
        if !request.guidance.is_finite() {
            return Err(Error::Request("the guidance must be a number".into()));
        }
        let shape = [1, height / 8, width / 8, 4];
        let signed: Vec<f32> = request.pixels.iter().map(|v| v * 2.0 - 1.0).collect();
        let start = ops.download(&self.vae.encode(ops, &ops.upload([1, height, width, 3], &signed)?)?)?;
        let control = match (&self.control, request.control) {
            (Some(net), Some((picture, weights))) if picture.len() == length => {
                Some((net, net.hint(ops, &ops.upload([1, height, width, 3], picture)?)?, weights))
            }
            (_, None) => None,
            (None, _) => return Err(Error::Request("there is no ControlNet to follow the picture".into())),
            _ => return Err(Error::Request("the picture to follow must be as large as the picture".into())),
        };
        let contexts = self.contexts(ops, request)?;
        let of = request.schedule.evaluations();
        let predict = |x: &[f32], time: f32, done: usize| {
            if progress(Progress { done, of }).is_break() {
                return Err(Error::Cancelled);
            }
            let mut predicted = Vec::new();
            for (context, batch) in &contexts {
                let x = ops.upload([*batch, shape[1], shape[2], shape[3]], &x.repeat(*batch))?;
                let residuals = match &control {
                    Some((net, hint, weights)) => Some((net.run(ops, &x, time, context, hint)?, *weights)),
                    None => None,
                };
                let residuals = residuals.as_ref().map(|(residuals, weights)| (residuals, *weights));
                predicted.extend(ops.download(&self.unet.run(ops, &x, time, context, residuals)?)?);
            }
            if predicted.len() == x.len() {
                return Ok(predicted);
            }
            let (without, with) = predicted.split_at(x.len());
            Ok(without.iter().zip(with).map(|(off, on)| off + request.guidance * (on - off)).collect())
        };
        let fresh = |step: usize| Noise::new(request.step_seed.wrapping_add(step as u64)).latents(shape[1], shape[2]);
        let latents =
            sample(request.sampler, request.schedule, self.prediction, &start, request.noise, predict, fresh)?;
        let _ = progress(Progress { done: of, of });
        Ok(latents)
    }

    /// Contexts and how many pictures each is for: negative and positive prompt at once if they are equally long.
    fn contexts(&self, ops: &O, request: &Request<'_>) -> Result<Vec<(Context<O::Tensor>, usize)>> {
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
}
