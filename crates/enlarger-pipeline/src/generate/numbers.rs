//! Knobs become numbers of the generative engine: the curves behind `docs/guides/generative.md`.
//!
//! At 0 they are what clarity-upscaler's published settings are; their ends follow the ranges that it advises. Nobody has judged here
//! how results of real checkpoints look.

use enlarger_diffusion::{
    engine::control_weights,
    prompt::pieces,
    sampler::{Schedule, evaluations},
};

use crate::{
    error::{InPart, Part, PipelineError},
    extent::Extent,
    request::{Creative, Crop, Engine, Generative, OptimizedFor, Sampler},
};

use super::{Diffuse, Merged, Parts, Piece, Prompts};

/// The places of the curves.
const KNOB: [f32; 5] = [-10.0, -5.0, 0.0, 5.0, 10.0];
/// How much of the picture becomes noise.
const DENOISE: [f32; 5] = [0.10, 0.22, 0.35, 0.55, 0.75];
/// Weight of the ControlNet.
const CONTROL: [f32; 5] = [0.2, 0.4, 0.6, 1.1, 1.6];
/// What is left of that weight at each residual further from the middle.
const DECAY: [f32; 5] = [0.825, 0.825, 0.825, 0.91, 1.0];
/// Classifier-free guidance.
const GUIDANCE: [f32; 5] = [3.0, 4.5, 6.0, 7.5, 9.0];
/// Weight of the prompt's words.
const WORDS: [f32; 5] = [0.7, 0.85, 1.0, 1.15, 1.3];
/// Each further pass makes less new.
pub(super) const FURTHER: f32 = 0.8;
/// Steps of a whole schedule.
pub(super) const STEPS: u32 = 18;
const LCM_STEPS: u32 = 8;
/// More steps make nothing better.
pub(crate) const MOST_STEPS: u32 = 150;
/// LoRAs beyond make noise.
const MOST_STRENGTH: f32 = 10.0;
pub(super) const FAULTS: &str = "worst quality, low quality, blurry, jpeg artifacts, watermark, text";

/// Numbers of a request, from which each pass takes its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generation {
    parts: Parts,
    prompt: Vec<Piece>,
    negative: Vec<Piece>,
    asked: Generative,
    denoise: f32,
    control_scales: Vec<f32>,
    pub guidance: f32,
    tile: u32,
    seed: u64,
    why: String,
    /// Share of what the result lacks of the source that is brought back after the last pass.
    pub back: f32,
}

/// What an engine changes: guidance, denoising, weight of the ControlNet.
fn offsets(engine: Engine) -> [f32; 3] {
    match engine {
        Engine::Automatic | Engine::MagnificSparkle => [0.0; 3],
        Engine::MagnificIllusio => [-1.0, 0.05, 0.0],
        Engine::MagnificSharpy => [0.0, -0.05, 0.2],
    }
}

/// What a preset adds to the prompt.
pub(super) fn words(of: OptimizedFor) -> &'static str {
    match of {
        OptimizedFor::Standard => "high quality, detailed",
        OptimizedFor::SoftPortraits => "portrait photo, natural skin texture, soft light",
        OptimizedFor::HardPortraits => "portrait photo, detailed skin, pores, sharp focus",
        OptimizedFor::ArtNIllustration => "illustration, clean lines, detailed drawing",
        OptimizedFor::VideogameAssets => "video game asset, detailed texture",
        OptimizedFor::NatureNLandscapes => "nature photo, detailed foliage, rock and bark texture",
        OptimizedFor::FilmsNPhotography => "photo, film grain, natural light, detailed",
        OptimizedFor::ThreeDRenders => "3d render, detailed materials, clean edges",
        OptimizedFor::ScienceFictionNHorror => "science fiction, dramatic light, intricate detail",
    }
}

/// Between the places of a curve lines are drawn.
pub(super) fn curve(curve: [f32; 5], knob: i8) -> f32 {
    let knob = f32::from(knob.clamp(-10, 10));
    let i = KNOB.iter().rposition(|&place| place <= knob).unwrap_or(0).min(3);
    curve[i] + (curve[i + 1] - curve[i]) * (knob - KNOB[i]) / (KNOB[i + 1] - KNOB[i])
}

/// A number as it stands in a plan: without digits that come of binary fractions.
pub(super) fn rounded(value: f32) -> f32 {
    (value * 1e4).round() / 1e4
}

/// What knobs mean, whatever draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dials {
    pub guidance: f32,
    /// How much of the picture becomes noise, 0 to 1.
    pub denoise: f32,
    /// Weight of the ControlNet.
    pub weight: f32,
    /// Share of what the result lacks of the source that is brought back after the last pass.
    pub back: f32,
}

impl Dials {
    pub fn of(knobs: &Creative, asked: &Generative) -> Self {
        let [guide, denoise, hold] = offsets(knobs.engine);
        let guidance = match asked.guidance {
            Some(guidance) => guidance,
            None if asked.sampler == Sampler::Lcm => 1.0,
            None => rounded((curve(GUIDANCE, knobs.hdr) + guide).max(1.0)),
        };
        Self {
            guidance,
            denoise: rounded((curve(DENOISE, knobs.creativity) + denoise).clamp(0.05, 0.95)),
            weight: rounded(curve(CONTROL, knobs.resemblance) + hold),
            back: 0.05 * f32::from(knobs.resemblance.clamp(0, 10)),
        }
    }

    /// What asks for the numbers, with the side of a tile in pixels.
    pub fn why(&self, knobs: &Creative, asked: &Generative, tile: u32, control: bool) -> String {
        let mut why = vec![
            format!("creativity {}: denoise {}", knobs.creativity, self.denoise),
            match asked.guidance {
                Some(guidance) => format!("guidance {guidance} as asked for"),
                None if asked.sampler == Sampler::Lcm => format!("sampler lcm: guidance {}", self.guidance),
                None => format!("hdr {}: guidance {}", knobs.hdr, self.guidance),
            },
            format!("fractality {}: tiles of {tile} px", knobs.fractality),
        ];
        if control {
            why.insert(1, format!("resemblance {}: ControlNet {}", knobs.resemblance, self.weight));
        }
        why.push(format!("optimized for {}: {:?}", knobs.optimized_for.name(), words(knobs.optimized_for)));
        if knobs.engine != Engine::Automatic {
            why.push(format!("engine {}", knobs.engine.short()));
        }
        why.join(", ")
    }
}

/// The numbers of a request's knobs.
///
/// # Errors
/// [`PipelineError::Request`] if a number of the request is out of range, or the prompt is too long.
pub(crate) fn generation(
    knobs: &Creative,
    asked: &Generative,
    prompts: &Prompts,
    parts: Parts,
    seed: u64,
) -> Result<Generation, PipelineError> {
    check(asked, &parts.loras)?;
    let dials = Dials::of(knobs, asked);
    let decay = curve(DECAY, knobs.resemblance);
    let control_scales = match parts.control {
        Some(_) => control_weights(parts.residuals, dials.weight, decay).into_iter().map(rounded).collect(),
        None => Vec::new(),
    };
    let tile = (curve(parts.tiles, knobs.fractality) / 8.0).round() as u32 * 8;
    let emphasis = rounded(curve(WORDS, knobs.fractality));
    let mut prompt = cut(&prompts.prompt).in_part(Part::Prompt)?;
    prompt.iter_mut().for_each(|piece| piece.weight = rounded(piece.weight * emphasis));
    let added = words(knobs.optimized_for);
    let comma = if prompt.is_empty() { "" } else { ", " };
    prompt.push(Piece { text: Some(format!("{comma}{added}")), weight: 1.0 });
    let negative = cut(if asked.negative.is_some() { &prompts.negative } else { FAULTS }).in_part(Part::Negative)?;
    let why = dials.why(knobs, asked, 8 * tile, parts.control.is_some());
    Ok(Generation {
        prompt,
        negative,
        asked: asked.clone(),
        denoise: dials.denoise,
        control_scales,
        guidance: dials.guidance,
        tile,
        seed,
        why,
        back: dials.back,
        parts,
    })
}

pub(super) fn check(asked: &Generative, loras: &[Merged]) -> Result<(), PipelineError> {
    let refuse = |part, what: String, hint: &str| Err(PipelineError::Request { what, hint: hint.into() }).in_part(part);
    if let Some(steps) = asked.steps.filter(|steps| !(1..=MOST_STEPS).contains(steps)) {
        return refuse(Part::Steps, format!("{steps} steps are not possible"), "choose 1 to 150; the default is 18");
    }
    if let Some(guidance) = asked.guidance.filter(|guidance| !(1.0..=30.0).contains(guidance)) {
        return refuse(
            Part::Guidance,
            format!("a guidance of {guidance} is not possible"),
            "choose 1 to 30; 6 is usual",
        );
    }
    if let Some(skip) = asked.clip_skip.filter(|skip| !(1..=12).contains(skip)) {
        return refuse(
            Part::ClipSkip,
            format!("a clip skip of {skip} is not possible"),
            "choose 1 to 12; 1 and 2 are usual",
        );
    }
    let out_of_range = |lora: &Merged| lora.strength.is_nan() || lora.strength.abs() > MOST_STRENGTH;
    if let Some((i, Merged { weights, strength })) = loras.iter().enumerate().find(|(_, lora)| out_of_range(lora)) {
        return refuse(
            // Those of prompts come last.
            if i < asked.loras.len() { Part::Loras } else { Part::Prompt },
            format!("the strength {strength} of {} is not possible", weights.name),
            "choose -10 to 10; 0.5 to 1 are usual",
        );
    }
    Ok(())
}

/// What of a prompt is a notation of A1111 or its extensions that has no meaning here: other networks, wildcards, choices.
fn foreign(text: &str) -> Option<&str> {
    let between = |open: &str, close: &str, with: char| {
        let start = text.find(open)?;
        let length = text[start + open.len()..].find(close)?;
        let whole = &text[start..start + open.len() + length + close.len()];
        let inner = &whole[open.len()..open.len() + length];
        (!inner.is_empty() && inner.contains(with) && !inner.contains(' ')).then_some(whole)
    };
    between("<", ">", ':').or_else(|| between("{", "}", '|')).or_else(|| {
        let (_, rest) = text.split_once("__")?;
        let (name, _) = rest.split_once("__")?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '/'));
        is_name.then_some(name)
    })
}

fn cut(prompt: &str) -> Result<Vec<Piece>, PipelineError> {
    let whole: Vec<_> = pieces(prompt)?;
    let blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let kept = whole.into_iter().filter(|(text, _)| !blank(text));
    Ok(kept.map(|(text, weight)| Piece { text, weight: rounded(weight) }).collect())
}

impl Generation {
    /// A sentence about the choice of files.
    pub fn notes(&self) -> Vec<String> {
        vec![self.parts.sentence()]
    }

    /// What these lack, and what of the request has no effect.
    pub fn idle(&self) -> Vec<String> {
        let mut idle = self.parts.notes.clone();
        if self.guidance == 1.0 && self.asked.negative.as_deref().is_some_and(|text| !text.trim().is_empty()) {
            idle.push("the negative prompt has no effect at guidance 1".into());
        }
        let texts = [&self.prompt, &self.negative].into_iter().flatten().filter_map(|piece| piece.text.as_deref());
        if let Some(foreign) = texts.filter_map(foreign).next() {
            idle.push(format!(
                "{foreign:?} is read as plain words: of A1111's notations, prompts take (words:1.3), [words], BREAK and <lora:NAME:0.5>"
            ));
        }
        idle
    }

    /// The sizes at which passes end: each twice as large, and the result.
    pub fn sizes(source: Extent, result: Extent) -> Vec<Extent> {
        let mut sizes = vec![result];
        let mut here = source.times(2);
        while here.width < result.width && here.height < result.height {
            sizes.insert(sizes.len() - 1, here);
            here = here.times(2);
        }
        sizes
    }

    pub fn seamless(&self) -> bool {
        self.asked.seamless
    }

    /// A pass at a size, counted from 0; areas that stay are given in pixels of `source`.
    ///
    /// # Errors
    /// [`PipelineError::Generative`] if there is no such schedule.
    pub fn pass(&self, number: u32, source: Extent, at: Extent) -> Result<Diffuse, PipelineError> {
        let denoise = self.denoise * FURTHER.powi(number as i32);
        let schedule = self.schedule(denoise)?;
        let (tile, steps) = (self.tile, schedule.evaluations());
        let stride = tile - tile / 4;
        // Multiples of two irrational shares fill the range evenly, whatever the number of steps (Roberts 2018, the R2 sequence).
        let moved = |step: usize, share: f64| (((step + 1) as f64 * share).fract() * f64::from(stride)) as u32;
        let shift = |step| [moved(step, 0.754_877_666), moved(step, 0.569_840_291)];
        Ok(Diffuse {
            at,
            checkpoint: self.parts.checkpoint.clone(),
            vae: self.parts.vae.clone(),
            control: self.parts.control.clone(),
            control_scales: self.control_scales.clone(),
            loras: self.parts.loras.clone(),
            embeddings: self.parts.embeddings.clone(),
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            clip_skip: self.asked.clip_skip.unwrap_or(1),
            sampler: self.asked.sampler,
            sigmas: schedule.sigmas,
            times: schedule.times,
            guidance: self.guidance,
            tile,
            overlap: tile / 4,
            shifts: (0..steps).map(shift).collect(),
            seed: self.seed.wrapping_add(u64::from(number)),
            seamless: self.asked.seamless,
            keep: kept(&self.asked, source, at),
            why: self.why.clone(),
        })
    }

    fn schedule(&self, denoise: f32) -> Result<Schedule, PipelineError> {
        let steps = |usual: u32| self.asked.steps.unwrap_or(usual) as usize;
        Ok(match self.asked.sampler {
            Sampler::Dpmpp2m => Schedule::karras(steps(STEPS), evaluations(steps(STEPS), denoise)?)?,
            Sampler::Euler | Sampler::EulerAncestral => {
                Schedule::uniform(steps(STEPS), evaluations(steps(STEPS), denoise)?)?
            }
            Sampler::Ddim => Schedule::ddim(steps(STEPS), evaluations(steps(STEPS), denoise)?)?,
            Sampler::Lcm => {
                // Three at the least, and no more than the times that there are of this strength.
                let share = (steps(LCM_STEPS) as f32 * denoise).round() as usize;
                let most = ((50.0 * denoise) as usize).max(1);
                Schedule::lcm(share.max(3).min(most), denoise)?
            }
        })
    }
}

/// Areas of the source that stay, on a canvas of another size.
pub(super) fn kept(asked: &Generative, source: Extent, at: Extent) -> Vec<Crop> {
    asked.keep.iter().map(|area| area.scaled(source, at)).collect()
}

#[cfg(test)]
mod tests {
    use enlarger_error::Explained;

    use super::*;
    use crate::generate::Weights;

    fn parts() -> Parts {
        let weights = |name: &str| Weights { name: name.into(), sha256: "00".into() };
        Parts {
            checkpoint: weights("a"),
            vae: None,
            control: Some(weights("tile")),
            residuals: 13,
            loras: Vec::new(),
            embeddings: Vec::new(),
            tiles: [128.0, 96.0, 64.0, 56.0, 48.0],
            notes: Vec::new(),
        }
    }

    fn pass(knobs: &Creative, asked: &Generative, number: u32) -> Diffuse {
        let prompts = Prompts { prompt: "a (wall:1.3)".into(), ..Prompts::default() };
        let at = Extent { width: 200, height: 100 };
        generation(knobs, asked, &prompts, parts(), 7).unwrap().pass(number, at, at.times(2)).unwrap()
    }

    #[test]
    fn knobs_at_rest_are_the_published_settings() {
        let step = pass(&Creative::default(), &Generative::default(), 0);
        assert_eq!((step.steps(), step.guidance, step.tile, step.overlap, step.seed), (7, 6.0, 64, 16, 7));
        assert_eq!((step.control_scales[12], step.control_scales[11]), (0.6, 0.495));
        assert!(step.control_scales[0] < 0.06, "the prompt counts for more: 0.825^12");
        let words: Vec<_> = step.prompt.iter().map(|p| (p.text.as_deref().unwrap_or("|"), p.weight)).collect();
        assert_eq!(words, [("a ", 1.0), ("wall", 1.3), (", high quality, detailed", 1.0)]);
        assert_eq!(step.negative[0].text.as_deref(), Some(FAULTS));
    }

    #[test]
    fn each_knob_moves_its_number_all_the_way() {
        let steps =
            |creativity| pass(&Creative { creativity, ..Creative::default() }, &Generative::default(), 0).steps();
        assert_eq!([-10, -5, 0, 5, 10].map(steps), [2, 4, 7, 10, 14]);
        let scales = |resemblance| {
            let step = pass(&Creative { resemblance, ..Creative::default() }, &Generative::default(), 0);
            (step.control_scales[12], step.control_scales[0])
        };
        assert_eq!([scales(-10).0, scales(-5).0, scales(5).0], [0.2, 0.4, 1.1]);
        assert_eq!(scales(10), (1.6, 1.6));
        let guidance = |hdr| pass(&Creative { hdr, ..Creative::default() }, &Generative::default(), 0).guidance;
        assert_eq!([-10, -2, 0, 5, 10].map(guidance), [3.0, 5.4, 6.0, 7.5, 9.0]);
        let tile = |fractality| {
            let step = pass(&Creative { fractality, ..Creative::default() }, &Generative::default(), 0);
            (step.tile, step.prompt[0].weight)
        };
        assert_eq!([-10, 0, 10].map(tile), [(128, 0.7), (64, 1.0), (48, 1.3)]);
    }

    #[test]
    fn further_passes_make_less_new_with_another_seed() {
        let steps = |number| {
            let step = pass(&Creative::default(), &Generative::default(), number);
            (step.steps(), step.seed)
        };
        assert_eq!([0, 1, 2].map(steps), [(7, 7), (6, 8), (5, 9)]);
        let sizes = |width: u32, height: u32| {
            let source = Extent { width: 100, height: 50 };
            Generation::sizes(source, Extent { width, height }).iter().map(|e| e.width).collect::<Vec<_>>()
        };
        assert_eq!(sizes(150, 75), [150]);
        assert_eq!(sizes(200, 100), [200]);
        assert_eq!(sizes(300, 150), [200, 300]);
        assert_eq!(sizes(1600, 800), [200, 400, 800, 1600]);
    }

    #[test]
    fn every_sampler_has_a_schedule_at_every_creativity() {
        for (&sampler, creativity) in Sampler::ALL.iter().flat_map(|s| [-10, 0, 10].map(|c| (s, c))) {
            for steps in [None, Some(1), Some(4), Some(150)] {
                let asked = Generative { sampler, steps, ..Generative::default() };
                let step = pass(&Creative { creativity, ..Creative::default() }, &asked, 3);
                assert!(
                    step.sigmas.len() == step.steps() + 1 && step.steps() > 0,
                    "{sampler:?} {creativity} {steps:?}"
                );
                assert_eq!(step.guidance == 1.0, sampler == Sampler::Lcm);
            }
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for asked in [
            Generative { steps: Some(0), ..Generative::default() },
            Generative { steps: Some(151), ..Generative::default() },
            Generative { guidance: Some(f32::NAN), ..Generative::default() },
            Generative { clip_skip: Some(0), ..Generative::default() },
        ] {
            let numbers = generation(&Creative::default(), &asked, &Prompts::default(), parts(), 0);
            assert!(numbers.is_err_and(|error| error.code() == "request" && error.part().is_some()), "{asked:?}");
        }
        let long = Prompts { prompt: "word ".repeat(10_000), ..Prompts::default() };
        let refused = generation(&Creative::default(), &Generative::default(), &long, parts(), 0);
        assert!(refused.unwrap_err().to_string().contains("50000 bytes"));
    }
}
