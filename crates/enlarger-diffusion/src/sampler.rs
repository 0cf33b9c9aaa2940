//! Samplers: from noisy latents to clean ones, by a few predictions of noise.
//!
//! Latents are kept as picture + sigma * noise (Karras et al. 2022, "Elucidating the design space"), whatever the sampler; a
//! network sees them divided by sqrt(sigma² + 1). All arithmetic is on the whole canvas, in 32 bits.

use crate::error::{Error, Result};

/// Which way the latents are made clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// DPM-Solver++(2M) (Lu et al. 2022): second order by the prediction before; no noise inside.
    Dpmpp2m,
    /// Euler's method.
    Euler,
    /// Euler's method with fresh noise at each step.
    EulerAncestral,
    /// DDIM (Song et al. 2020) without noise: Euler's method, on a [`Schedule::ddim`].
    Ddim,
    /// Latent consistency (Luo et al. 2023), for networks distilled so, on a [`Schedule::lcm`].
    Lcm,
}

/// What a network was trained to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Noise,
    /// v (Salimans and Ho 2022), of SD 2.x at 768 pixels and some SDXL.
    V,
}

/// How much noise there is before each evaluation. Plain numbers, so that a plan can hold them.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Falling; one more than evaluations. The last is 0, except DDIM's.
    pub sigmas: Vec<f32>,
    /// The time that the network is told at each evaluation, 0 to 999.
    pub times: Vec<f32>,
}

/// Steps of training.
const TRAINED: usize = 1000;

/// Sigma of each step of training: the variance rises as the square of a line from sqrt(0.00085) to sqrt(0.012), of Stable
/// Diffusion's configuration.
fn trained() -> Vec<f64> {
    let (from, to) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let mut kept = 1.0;
    (0..TRAINED)
        .map(|i| {
            kept *= 1.0 - (from + (to - from) * i as f64 / (TRAINED - 1) as f64).powi(2);
            ((1.0 - kept) / kept).sqrt()
        })
        .collect()
}

/// The time that has a sigma, between two steps by the logarithm, as k-diffusion has it.
fn time(trained: &[f64], sigma: f64) -> f64 {
    let above = trained.partition_point(|&s| s < sigma);
    if above == 0 || above == TRAINED {
        return above.min(TRAINED - 1) as f64;
    }
    let (low, high) = (trained[above - 1].ln(), trained[above].ln());
    (above - 1) as f64 + (sigma.ln() - low) / (high - low)
}

/// How many evaluations an image takes whose noise is `strength` (0 to 1) of a schedule of `steps`, as A1111 counts: 7 of 18
/// at 0.35.
///
/// # Errors
/// [`Error::Request`] for other strengths or no steps, or more than 1000.
pub fn evaluations(steps: usize, strength: f32) -> Result<usize> {
    if !(1..=TRAINED).contains(&steps) || !(0.0..=1.0).contains(&strength) {
        return Err(Error::Request(format!(
            "{steps} steps at strength {strength}; hint: use 1 to 1000 steps and a strength from 0 to 1"
        )));
    }
    Ok(((steps as f32 * strength) as usize).min(steps - 1) + 1)
}

impl Schedule {
    /// Karras' schedule (rho 7) of `steps`, of which the last `evaluations` are used. Times are between steps of training.
    ///
    /// # Errors
    /// [`Error::Request`] if there are no steps, or fewer than evaluations; so for all schedules.
    pub fn karras(steps: usize, evaluations: usize) -> Result<Self> {
        check(steps, evaluations)?;
        let trained = trained();
        let (low, high) = (trained[0].powf(1.0 / 7.0), trained[TRAINED - 1].powf(1.0 / 7.0));
        let sigma = |i: usize| (high + (low - high) * i as f64 / (steps.max(2) - 1) as f64).powi(7);
        let sigmas: Vec<f64> = (steps - evaluations..steps).map(sigma).collect();
        let times = sigmas.iter().map(|&s| time(&trained, s) as f32).collect();
        Ok(Self { sigmas: sigmas.iter().map(|&s| s as f32).chain([0.0]).collect(), times })
    }

    /// Equal distances between times, for Euler and Euler ancestral.
    ///
    /// # Errors
    /// As above.
    pub fn uniform(steps: usize, evaluations: usize) -> Result<Self> {
        let mut schedule = Self::ddim(steps, evaluations)?;
        *schedule.sigmas.last_mut().expect("a schedule ends") = 0.0;
        Ok(schedule)
    }

    /// Times at whole distances, one after 0, down to step 0 of the training, whose noise stays.
    ///
    /// # Errors
    /// As above.
    pub fn ddim(steps: usize, evaluations: usize) -> Result<Self> {
        check(steps, evaluations)?;
        let trained = trained();
        let distance = TRAINED / steps;
        let times: Vec<usize> = (0..evaluations).rev().map(|i| (i * distance + 1).min(TRAINED - 1)).collect();
        let sigmas = times.iter().map(|&t| trained[t] as f32).chain([trained[0] as f32]).collect();
        Ok(Self { sigmas, times: times.iter().map(|&t| t as f32).collect() })
    }

    /// Evaluations at equal distances of the 50 times that networks are distilled at, of which `strength` is used.
    ///
    /// # Errors
    /// As above; more than the 50 times of that strength are too many.
    pub fn lcm(evaluations: usize, strength: f32) -> Result<Self> {
        let origin = (50.0 * strength.min(1.0)) as usize;
        check(origin, evaluations)?;
        let trained = trained();
        let at = |i: usize| (origin - 1 - i * origin / evaluations + 1) * (TRAINED / 50) - 1;
        let times: Vec<usize> = (0..evaluations).map(at).collect();
        let sigmas = times.iter().map(|&t| trained[t] as f32).chain([0.0]).collect();
        Ok(Self { sigmas, times: times.iter().map(|&t| t as f32).collect() })
    }

    /// How often the network is asked.
    pub fn evaluations(&self) -> usize {
        self.times.len()
    }

    fn sound(&self) -> bool {
        self.sigmas.len() == self.times.len() + 1
            && !self.times.is_empty()
            && self.sigmas.iter().chain(&self.times).all(|v| v.is_finite() && *v >= 0.0)
            && self.sigmas[..self.times.len()].iter().all(|&s| s > 0.0)
            && self.sigmas.is_sorted_by(|a, b| a >= b)
    }
}

fn check(steps: usize, evaluations: usize) -> Result<()> {
    if evaluations == 0 || evaluations > steps || steps > TRAINED {
        return Err(Error::Request(format!(
            "{evaluations} evaluations of {steps} steps: 1 to all of at most {TRAINED} are possible"
        )));
    }
    Ok(())
}

/// Makes latents clean. `start` is the picture, `noise` of unit variance of the same length; `predict` answers a network's
/// prediction for `(latents / sqrt(sigma² + 1), time, evaluation)`; `fresh` gives noise for the samplers that draw some, by the
/// number of the evaluation.
///
/// # Errors
/// [`Error::Request`] if the schedule is not falling or lengths differ, [`Error::NotANumber`] naming the evaluation, and what
/// `predict` answers.
pub fn sample(
    sampler: Sampler,
    schedule: &Schedule,
    prediction: Prediction,
    start: &[f32],
    noise: &[f32],
    mut predict: impl FnMut(&[f32], f32, usize) -> Result<Vec<f32>>,
    mut fresh: impl FnMut(usize) -> Vec<f32>,
) -> Result<Vec<f32>> {
    if !schedule.sound() || start.len() != noise.len() {
        return Err(Error::Request("a schedule of sigmas must fall, with one time for each but the last".into()));
    }
    let mut x: Vec<f32> = start.iter().zip(noise).map(|(s, n)| s + schedule.sigmas[0] * n).collect();
    let mut before: Option<Vec<f32>> = None;
    for (i, &time) in schedule.times.iter().enumerate() {
        let (sigma, next) = (schedule.sigmas[i], schedule.sigmas[i + 1]);
        let norm = (sigma * sigma + 1.0).sqrt();
        let seen: Vec<f32> = x.iter().map(|v| v / norm).collect();
        let predicted = predict(&seen, time, i)?;
        if predicted.len() != x.len() {
            return Err(Error::Request("a prediction of another size than the latents".into()));
        }
        if predicted.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotANumber(format!("evaluation {} of {}", i + 1, schedule.evaluations())));
        }
        let clean: Vec<f32> = match prediction {
            Prediction::Noise => x.iter().zip(&predicted).map(|(x, e)| x - sigma * e).collect(),
            Prediction::V => seen.iter().zip(&predicted).map(|(x, v)| (x - sigma * v) / norm).collect(),
        };
        match sampler {
            Sampler::Euler | Sampler::Ddim => toward(&mut x, &clean, next / sigma),
            Sampler::EulerAncestral => {
                let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).max(0.0).sqrt();
                let down = (next * next - up * up).max(0.0).sqrt();
                toward(&mut x, &clean, down / sigma);
                if next > 0.0 {
                    x.iter_mut().zip(fresh(i)).for_each(|(x, n)| *x += up * n);
                }
            }
            Sampler::Dpmpp2m => {
                let step = (sigma / next).ln();
                let ratio = next / sigma;
                match &before {
                    Some(before) if next > 0.0 => {
                        let last = (schedule.sigmas[i - 1] / sigma).ln();
                        let r = 0.5 * step / last;
                        for ((x, c), b) in x.iter_mut().zip(&clean).zip(before) {
                            *x = ratio * *x + (1.0 - ratio) * (c + r * (c - b));
                        }
                    }
                    _ => toward(&mut x, &clean, ratio),
                }
            }
            Sampler::Lcm => {
                // The boundary of a consistency model: at time 0 it leaves what it sees. Times count tenfold, sigma of data 0.5.
                let t = 10.0 * time;
                let (skip, out) = (0.25 / (t * t + 0.25), t / (t * t + 0.25).sqrt());
                let last = next == 0.0;
                let mut draw = if last { Vec::new().into_iter() } else { fresh(i).into_iter() };
                for ((x, seen), c) in x.iter_mut().zip(&seen).zip(&clean) {
                    *x = skip * seen + out * c;
                    // The result is a variance-preserving picture: sigma of noise is added to it as it is.
                    if !last {
                        *x += next * draw.next().unwrap_or(0.0);
                    }
                }
            }
        }
        before = Some(clean);
    }
    // DDIM ends with a little noise, in proportion to the picture as the network sees it.
    let last = schedule.sigmas.last().copied().unwrap_or(0.0);
    let norm = (last * last + 1.0).sqrt();
    x.iter_mut().for_each(|v| *v /= norm);
    Ok(x)
}

/// `ratio` of what is left between the latents and the clean ones.
fn toward(x: &mut [f32], clean: &[f32], ratio: f32) {
    x.iter_mut().zip(clean).for_each(|(x, c)| *x = c + ratio * (*x - c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_takes_the_share_of_steps_that_a1111_takes() {
        let of_18 = [0.0, 0.10, 0.22, 0.35, 0.55, 0.75, 1.0].map(|s| evaluations(18, s).unwrap());
        assert_eq!(of_18, [1, 2, 4, 7, 10, 14, 18]);
        assert!(evaluations(0, 0.5).is_err() && evaluations(18, 1.5).is_err() && evaluations(18, f32::NAN).is_err());
    }

    #[test]
    fn a_v_prediction_is_as_good_as_the_noise_it_was_made_of() {
        let schedule = Schedule::karras(10, 6).unwrap();
        let (start, noise) = ([0.3f32, -1.0, 0.0], [1.0, 0.5, -2.0]);
        let eps = |x: &[f32]| x.iter().map(|v| 0.7 * v.tanh()).collect::<Vec<_>>();
        let none = |_| Vec::new();
        let a =
            sample(Sampler::Dpmpp2m, &schedule, Prediction::Noise, &start, &noise, |x, _, _| Ok(eps(x)), none).unwrap();
        // v = alpha eps - sigma x0 with alpha = 1 / sqrt(sigma² + 1), in the scale of the network.
        let v = |x: &[f32], _: f32, i: usize| {
            let sigma = schedule.sigmas[i];
            let norm = (sigma * sigma + 1.0).sqrt();
            let clean = |x: f32, e: f32| x * norm - sigma * e;
            Ok(x.iter().zip(eps(x)).map(|(&x, e)| (e - sigma * clean(x, e)) / norm).collect())
        };
        let b = sample(Sampler::Dpmpp2m, &schedule, Prediction::V, &start, &noise, v, none).unwrap();
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn what_is_not_a_number_stops_the_loop_and_says_where() {
        let schedule = Schedule::karras(4, 4).unwrap();
        let predict = |x: &[f32], _: f32, i: usize| Ok(vec![if i == 2 { f32::NAN } else { 0.0 }; x.len()]);
        let result = sample(Sampler::Euler, &schedule, Prediction::Noise, &[0.0], &[1.0], predict, |_| Vec::new());
        assert_eq!(result, Err(Error::NotANumber("evaluation 3 of 4".into())));
    }
}
