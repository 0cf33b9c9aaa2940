//! A plain stack of convolutions with pixel shuffle (SRVGGNetCompact).

use rayon::prelude::*;

use crate::{
    aligned::{room_for_small, zeroed},
    error::NnError,
    kernels::{Conv, Element, Memory, Output},
    map::{BLOCK, History, Map},
    network::{Emit, Input, Job, Schedule, Slope, load, tensor},
    spec::{Activation, Architecture},
    tensor::StateDict,
};

pub(crate) struct Compact<T> {
    scale: usize,
    features: usize,
    /// All but the last, each with its activation.
    convs: Vec<Conv<T>>,
    last: Conv<T>,
}

impl<T: Element> Compact<T> {
    pub fn build(architecture: &Architecture, weights: &StateDict) -> Result<Self, NnError> {
        let Architecture::Compact { scale, channels_in, features, convs, activation, .. } = *architecture else {
            unreachable!("called for this architecture only");
        };
        let slope = |at: usize| match activation {
            Activation::Relu => Ok(Slope::Same(0.0)),
            Activation::LeakyRelu => Ok(Slope::Same(0.1)),
            Activation::Prelu => Ok(Slope::Each(tensor(weights, &format!("body.{at}.weight"))?.data.clone())),
        };
        // body.0 is a convolution, body.1 its activation, and so on; the last convolution has none.
        let layers: Result<Vec<_>, NnError> = (0..=convs)
            .into_par_iter()
            .map(|i| {
                let inputs = [if i == 0 { channels_in } else { features }];
                load(weights, &format!("body.{}", 2 * i), &inputs, slope(2 * i + 1)?)
            })
            .collect();
        let last = load(weights, &format!("body.{}", 2 * (convs + 1)), &[features], Slope::Same(1.0))?;
        Ok(Self { scale: scale as usize, features, convs: layers?, last })
    }

    fn channels(&self) -> usize {
        self.features.next_multiple_of(T::CHANNELS)
    }

    /// Memory that grows with the width: two rows of each layer, and 16 of the band and its result.
    pub fn bytes_per_column(&self) -> usize {
        let history = 2 * self.convs.len() * self.channels() * size_of::<T>();
        history + 16 * (2 * self.channels() * size_of::<T>() + 3 * self.last.outputs * 4)
    }

    pub fn run(&self, job: &Job<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let (w, h) = (job.strip.width, job.strip.height);
        let depth = self.convs.len() + 1;
        let schedule = Schedule::new(job.strip, 1, T::BAND);
        let history = || History::<T>::new(w, self.channels(), schedule.keep(2));
        let mut histories = self.convs.iter().map(|_| history()).collect::<Result<Vec<_>, _>>()?;
        let mut current = Map::<T>::new(w, schedule.room(), self.channels())?;
        let mut next = Map::<T>::new(w, schedule.room(), self.channels())?;
        let mut shuffled = Map::<f32>::new(w, schedule.room(), self.last.outputs.next_multiple_of(BLOCK))?;
        let mut input = Input::<T>::new(job, 1, &schedule)?;
        let mut rgb = zeroed(schedule.room() * w * 3)?;
        let mut result = zeroed(rgb.len() * self.scale * self.scale)?;
        room_for_small()?;
        let mut memory = Memory::new();
        let mut done = 0;
        let share = |done: usize| done as f64 / (depth * h) as f64;
        for step in 0..schedule.steps(depth) {
            for (i, conv) in self.convs.iter().enumerate() {
                job.step(share(done))?;
                let rows = schedule.rows(step, i + 1);
                done += rows.len();
                next.hold(rows.clone());
                if i == 0 {
                    conv.run(job.isa, &[input.read(job, &rows)], Output::map(&mut next), &mut memory);
                } else {
                    conv.run(job.isa, &[current.view(&histories[i - 1])], Output::map(&mut next), &mut memory);
                    histories[i - 1].remember(&current);
                }
                std::mem::swap(&mut current, &mut next);
            }
            let rows = schedule.rows(step, depth);
            done += rows.len();
            shuffled.hold(rows.clone());
            let history = histories.last_mut().expect("there is a first convolution");
            self.last.run(job.isa, &[current.view(history)], Output::wide(&mut shuffled), &mut memory);
            history.remember(&current);
            if !rows.is_empty() {
                let rgb = &mut rgb[..rows.len() * w * 3];
                (job.strip.read)(rows.clone(), rgb);
                let result = &mut result[..rgb.len() * self.scale * self.scale];
                self.unshuffle(&mut shuffled, rgb, result);
                emit(rows.start * self.scale, result);
            }
        }
        job.step(1.0)
    }

    /// Pixel shuffle, plus the input enlarged by repetition.
    fn unshuffle(&self, shuffled: &mut Map<f32>, rgb: &[f32], result: &mut [f32]) {
        let (w, s) = (shuffled.width, self.scale);
        let (channels, stride) = (shuffled.channels, shuffled.stride());
        let shuffled = &*shuffled.rows_mut();
        let colours = self.last.outputs / (s * s);
        result.par_chunks_mut(w * s * 3).enumerate().for_each(|(row, out)| {
            let (y, dy) = (row / s, row % s);
            for x in 0..w {
                let values = &shuffled[y * stride + (x + 1) * channels..][..self.last.outputs];
                let base = &rgb[(y * w + x) * 3..][..3];
                for dx in 0..s {
                    let pixel = &mut out[(x * s + dx) * 3..][..3];
                    if colours == 3 {
                        for c in 0..3 {
                            pixel[c] = values[c * s * s + dy * s + dx] + base[c];
                        }
                    } else {
                        pixel.fill(values[dy * s + dx] + (base[0] + base[1] + base[2]) / 3.0);
                    }
                }
            }
        });
    }
}
