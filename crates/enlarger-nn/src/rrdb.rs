//! Residual in residual dense blocks (ESRGAN).

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    aligned::{room_for_small, zeroed},
    error::NnError,
    kernels::{Conv, Element, Memory, Output},
    map::{BLOCK, History, Map, View},
    network::{Emit, Input, Job, Schedule, Slope, load, tensor},
    spec::Architecture,
    tensor::StateDict,
};

/// Slope below zero of ESRGAN's activations, and the gain of its residuals (Wang et al. 2018, section 3.1).
const SLOPE: f32 = 0.2;
const RESIDUAL: f32 = 0.2;
/// Pixels of a band that the upsampling tail takes at once: less, since it works at 16 times the pixels.
const TAIL_PIXELS: usize = 4 << 10;
/// Depth of a dense block: its convolutions.
const DENSE: usize = 5;

pub(crate) struct Rrdb<T> {
    pub unshuffle: usize,
    features: usize,
    growth: usize,
    first: Conv<T>,
    /// Three dense blocks of five convolutions each.
    blocks: Vec<[[Conv<T>; DENSE]; 3]>,
    body: Conv<T>,
    /// One per doubling.
    ups: Vec<Conv<T>>,
    high: Conv<T>,
    last: Conv<T>,
}

impl<T: Element> Rrdb<T> {
    pub fn build(architecture: &Architecture, weights: &StateDict) -> Result<Self, NnError> {
        let Architecture::RrdbNet { channels_in, blocks, growth, features, .. } = *architecture else {
            unreachable!("called for this architecture only");
        };
        let conv = |name: &str, inputs: &[usize], slope: f32| load(weights, name, inputs, Slope::Same(slope));
        let seen = tensor(weights, "conv_first.weight")?.shape.get(1).copied().unwrap_or_default();
        let unshuffle = (1..=4)
            .find(|r| channels_in * r * r == seen)
            .ok_or_else(|| NnError::Weights(format!("conv_first reads {seen} channels")))?;
        let dense = |block: usize, dense: usize, k: usize| {
            let mut inputs = vec![features];
            inputs.resize(k, growth);
            let slope = if k < 5 { SLOPE } else { 1.0 };
            conv(&format!("body.{block}.rdb{dense}.conv{k}"), &inputs, slope)
        };
        let five = |block, d| -> Result<[Conv<T>; 5], NnError> {
            Ok([
                dense(block, d, 1)?,
                dense(block, d, 2)?,
                dense(block, d, 3)?,
                dense(block, d, 4)?,
                dense(block, d, 5)?,
            ])
        };
        let blocks: Result<Vec<_>, NnError> =
            (0..blocks).into_par_iter().map(|b| Ok([five(b, 1)?, five(b, 2)?, five(b, 3)?])).collect();
        let ups: Result<Vec<_>, NnError> = (1..=4)
            .map(|i| format!("conv_up{i}"))
            .take_while(|name| weights.0.contains_key(&format!("{name}.weight")))
            .map(|name| conv(&name, &[features], SLOPE))
            .collect();
        Ok(Self {
            unshuffle,
            features,
            growth,
            first: conv("conv_first", &[seen], 1.0)?,
            blocks: blocks?,
            body: conv("conv_body", &[features], 1.0)?,
            ups: ups?,
            high: conv("conv_hr", &[features], SLOPE)?,
            last: conv("conv_last", &[features], 1.0)?,
        })
    }

    /// Memory of the weights.
    pub fn weights(&self) -> usize {
        let blocks = self.blocks.iter().flatten().flatten();
        blocks.map(|conv| conv.weights.len() * size_of::<T>()).sum()
    }

    /// Memory that grows with the width: what is remembered of each block, the smallest band's maps, and the tail's.
    pub fn bytes_per_column(&self) -> usize {
        let features = self.channels(self.features);
        let grown = self.channels(self.growth);
        let wide = if T::WIDE { 0 } else { size_of::<f32>() };
        let sum = |keep: [usize; 3]| keep.iter().sum::<usize>();
        let remembered = (sum(Trunk::<T>::KEPT) * features + 3 * GROWN_KEPT.iter().sum::<usize>() * grown)
            * size_of::<T>()
            + sum(WIDE_KEPT) * features * wide;
        let band = 4 * features * (size_of::<T>() + wide) + (4 * grown + features) * size_of::<T>();
        // A map for each doubling, perhaps one in between, and two at the last scale.
        let map = |doublings: usize| Tail::<T>::rows(4, 1 << doublings) << doublings;
        let each = if T::DOUBLED { 1 } else { 2 };
        let tail = (1..=self.ups.len()).map(|i| each * map(i)).sum::<usize>() + 2 * map(self.ups.len());
        self.blocks.len() * remembered + Schedule::LEAST * band + tail * features * size_of::<T>()
    }

    fn channels(&self, channels: usize) -> usize {
        channels.next_multiple_of(T::CHANNELS)
    }

    pub fn run(&self, job: &Job<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let (w, h) = (job.strip.width / self.unshuffle, job.strip.height / self.unshuffle);
        let schedule = Schedule::new(job.strip, self.unshuffle, T::BAND);
        let (features, growth) = (self.channels(self.features), self.channels(self.growth));
        let room = schedule.room();
        let mut memory = Memory::new();
        let mut input = Input::<T>::new(job, self.unshuffle, &schedule)?;
        let trunk = || Trunk::<T>::new(w, room, features);
        let mut trunks = [trunk()?, trunk()?, trunk()?];
        let mut shallow = trunk()?;
        let mut body = Map::<T>::new(w, room, features)?;
        let grow = || Map::<T>::new(w, room, growth);
        let mut grown = [grow()?, grow()?, grow()?, grow()?];
        let dense = |d: usize| DenseHistory::<T>::new(w, features, growth, d, &schedule);
        let mut histories = Vec::new();
        for _ in &self.blocks {
            histories.push([dense(0)?, dense(1)?, dense(2)?]);
        }
        let mut tail = Tail::new(self, w, h)?;
        room_for_small()?;

        let depth = 2 + 3 * DENSE * self.blocks.len();
        // The tail costs about as much as two blocks.
        let work = (self.blocks.len() as f64 + 2.0) * h as f64;
        let mut done = 0;
        // Which trunk the next block reads.
        let mut at = 0;
        for step in 0..schedule.steps(depth) {
            let rows = schedule.rows(step, 1);
            let output = trunks[at].output(rows.clone());
            self.first.run(job.isa, &[input.read(job, &rows)], output, &mut memory);
            for (b, (block, history)) in self.blocks.iter().zip(&mut histories).enumerate() {
                let depth = 1 + 3 * DENSE * b;
                let mut dense = |d: usize, history: &mut DenseHistory<T>, from: &Trunk<T>, to: &mut Trunk<T>, outer| {
                    let depth = depth + DENSE * d;
                    for k in 0..DENSE - 1 {
                        let (before, rest) = grown.split_at_mut(k);
                        rest[0].hold(schedule.rows(step, depth + 1 + k));
                        let sources = history.sources(from, before);
                        block[d][k].run(job.isa, &sources, Output::map(&mut rest[0]), &mut memory);
                    }
                    let output = to.output(schedule.rows(step, depth + DENSE));
                    let residual = Some(from.wide(&history.trunk));
                    let output = Output { gain: RESIDUAL, residual, outer, ..output };
                    block[d][DENSE - 1].run(job.isa, &history.sources(from, &grown), output, &mut memory);
                    for (history, map) in history.grown.iter_mut().zip(&grown) {
                        history.remember(map);
                    }
                };
                let [outer, one, two] =
                    trunks.get_disjoint_mut([at, (at + 1) % 3, (at + 2) % 3]).expect("three different ones");
                let [first, second, third] = history;
                dense(0, first, outer, one, None);
                dense(1, second, one, two, None);
                // Its place is the third's now.
                second.trunk.remember(one);
                dense(2, third, two, one, Some(outer.wide(&first.trunk)));
                third.trunk.remember(two);
                first.trunk.remember(outer);
                at = (at + 1) % 3;
                done += schedule.rows(step, depth + 3 * DENSE).len();
                job.step(done as f64 / work)?;
            }
            let rows = schedule.rows(step, depth);
            // Computed again: to remember it all the way would take as much memory as a block does.
            self.first.run(job.isa, &[input.read(job, &rows)], shallow.output(rows.clone()), &mut memory);
            body.hold(rows.clone());
            let output = Output { residual: Some(shallow.wide(TrunkHistory::NONE)), ..Output::map(&mut body) };
            self.body.run(job.isa, &[trunks[at].map.view(&tail.trunk)], output, &mut memory);
            tail.trunk.remember(&trunks[at].map);
            tail.run(job, &body, &mut memory, emit)?;
            done += 2 * rows.len();
            job.step(done as f64 / work)?;
        }
        Ok(())
    }
}

/// Rows of a dense block's four grown maps that are read after the rows of the last band: the fifth convolution is
/// five rows behind, and looks one back.
const GROWN_KEPT: [usize; DENSE - 1] = [5, 4, 3, 2];
/// Rows of the trunk that a convolution five rows behind reads.
const TRUNK_KEPT: usize = DENSE + 1;
/// Rows of the trunk before each dense block that are added to a result after it: to the dense block's, five rows
/// behind, and to the whole block's, fifteen.
const WIDE_KEPT: [usize; 3] = [3 * DENSE, DENSE, DENSE];

/// Features as convolutions read them, and as residuals are added to them.
struct Trunk<T> {
    map: Map<T>,
    /// None if maps are precise enough themselves.
    wide: Option<Map<f32>>,
}

impl<T: Element> Trunk<T> {
    /// Rows of `map` to remember.
    const KEPT: [usize; 3] = if T::WIDE { [3 * DENSE, TRUNK_KEPT, TRUNK_KEPT] } else { [TRUNK_KEPT; 3] };

    fn new(width: usize, rows: usize, channels: usize) -> Result<Self, NnError> {
        let wide = if T::WIDE { None } else { Some(Map::new(width, rows, channels)?) };
        Ok(Self { map: Map::new(width, rows, channels)?, wide })
    }

    fn output(&mut self, rows: Range<usize>) -> Output<'_, T> {
        self.map.hold(rows.clone());
        if let Some(wide) = &mut self.wide {
            wide.hold(rows);
        }
        Output { wide: self.wide.as_mut(), ..Output::map(&mut self.map) }
    }

    fn wide<'a>(&'a self, history: &'a TrunkHistory<T>) -> View<'a, T::Wide> {
        T::wide(self.map.view(&history.map), self.wide.as_ref().map(|wide| wide.view(&history.wide)))
    }
}

struct TrunkHistory<T> {
    map: History<T>,
    wide: History<f32>,
}

impl<T: Element> TrunkHistory<T> {
    const NONE: &Self = &Self { map: History::NONE, wide: History::NONE };

    fn remember(&mut self, trunk: &Trunk<T>) {
        self.map.remember(&trunk.map);
        if let Some(wide) = &trunk.wide {
            self.wide.remember(wide);
        }
    }
}

struct DenseHistory<T> {
    trunk: TrunkHistory<T>,
    grown: [History<T>; DENSE - 1],
}

impl<T: Element> DenseHistory<T> {
    /// For the `d`th dense block of a block.
    fn new(width: usize, features: usize, growth: usize, d: usize, schedule: &Schedule) -> Result<Self, NnError> {
        let wide = if T::WIDE { 0 } else { schedule.keep(WIDE_KEPT[d]) };
        let grown = |k: usize| History::new(width, growth, schedule.keep(GROWN_KEPT[k]));
        Ok(Self {
            trunk: TrunkHistory {
                map: History::new(width, features, schedule.keep(Trunk::<T>::KEPT[d]))?,
                wide: History::new(width, features, wide)?,
            },
            grown: [grown(0)?, grown(1)?, grown(2)?, grown(3)?],
        })
    }

    /// What the convolution after so many grown maps reads.
    fn sources<'a>(&'a self, trunk: &'a Trunk<T>, grown: &'a [Map<T>]) -> Vec<View<'a, T>> {
        let mut sources = vec![trunk.map.view(&self.trunk.map)];
        sources.extend(grown.iter().zip(&self.grown).map(|(map, history)| map.view(history)));
        sources
    }
}

/// What follows the trunk: doublings, and the last convolutions. It works on bands of its own.
struct Tail<'a, T> {
    net: &'a Rrdb<T>,
    height: usize,
    band: usize,
    /// Of the trunk, for the trunk's last convolution.
    trunk: History<T>,
    /// Of features, for what follows the trunk.
    features: History<T>,
    doublings: Vec<Doubling<T>>,
    high: Map<T>,
    high_history: History<T>,
    result: Map<f32>,
    rgb: Vec<f32>,
}

struct Doubling<T> {
    /// What the convolution reads, if kernels cannot read its source as twice as large.
    copy: Option<(Map<T>, History<T>)>,
    result: Map<T>,
    history: History<T>,
}

/// Rows behind the band that a convolution reads.
const BEHIND: usize = 2;

impl<'a, T: Element> Tail<'a, T> {
    fn new(net: &'a Rrdb<T>, width: usize, height: usize) -> Result<Self, NnError> {
        let band = (TAIL_PIXELS / width).next_multiple_of(4).max(4);
        let channels = net.channels(net.features);
        let map = |scale: usize| Map::<T>::new(width * scale, Self::rows(band, scale), channels);
        let history = |scale: usize| History::<T>::new(width * scale, channels, BEHIND);
        let mut doublings = Vec::new();
        for i in 1..=net.ups.len() {
            let scale = 1 << i;
            doublings.push(Doubling {
                copy: if T::DOUBLED { None } else { Some((map(scale)?, history(scale)?)) },
                result: map(scale)?,
                history: history(scale)?,
            });
        }
        let scale = 1 << net.ups.len();
        let colours = net.last.outputs.next_multiple_of(BLOCK);
        Ok(Self {
            net,
            height,
            band,
            trunk: history(1)?,
            features: history(1)?,
            doublings,
            high: map(scale)?,
            // Rows that do not make a multiple of the scale are left for the next band.
            high_history: History::new(width * scale, channels, BEHIND + scale - 1)?,
            result: Map::new(width * scale, Self::rows(band, scale), colours)?,
            rgb: zeroed(Self::rows(band, scale) * width * scale * 3)?,
        })
    }

    /// Rows of a map: the last band flushes what was held back, less than two rows of features.
    const fn rows(band: usize, scale: usize) -> usize {
        (band + 2) * scale + BEHIND
    }

    /// Takes the next rows of features.
    fn run(
        &mut self,
        job: &Job<'_>,
        features: &Map<T>,
        memory: &mut Memory,
        emit: &mut Emit<'_>,
    ) -> Result<(), NnError> {
        let Self { net, height, .. } = *self;
        let mut from = features.rows.start;
        while from < features.rows.end {
            let to = (from + self.band).min(features.rows.end);
            // As far as rows can be computed at a scale, `depth` convolutions after features up to an edge.
            let edge = |edge: usize, scale: usize, depth: usize| {
                if edge == height { height * scale } else { (edge * scale).saturating_sub(depth) }
            };
            let span = |scale: usize, depth: usize| edge(from, scale, depth)..edge(to, scale, depth);
            let (mut scale, mut depth) = (1, 0);
            for i in 0..self.doublings.len() {
                let (before, rest) = self.doublings.split_at_mut(i);
                let Doubling { copy, result, .. } = &mut rest[0];
                let (source, history) =
                    before.last_mut().map_or((features, None), |last| (&last.result, Some(&mut last.history)));
                let rows = span(scale, depth);
                (scale, depth) = (2 * scale, 2 * depth + 1);
                result.hold(span(scale, depth));
                if let Some((copy, history)) = copy {
                    double(source, &rows, copy);
                    net.ups[i].run(job.isa, &[copy.view(history)], Output::map(result), memory);
                    history.remember(copy);
                } else {
                    let view = source.view(history.as_deref().unwrap_or(&self.features)).doubled();
                    net.ups[i].run(job.isa, &[view], Output::map(result), memory);
                }
                if let Some(history) = history {
                    history.remember(source);
                }
            }
            let source = match self.doublings.last() {
                Some(last) => last.result.view(&last.history),
                None => features.view(&self.features),
            };
            self.high.hold(span(scale, depth + 1));
            net.high.run(job.isa, &[source], Output::map(&mut self.high), memory);
            if let Some(last) = self.doublings.last_mut() {
                last.history.remember(&last.result);
            }
            // Results are handed over in multiples of the scale.
            let whole = |row: usize| row / scale * scale;
            let rows = span(scale, depth + 2);
            let rows = whole(rows.start)..whole(rows.end);
            self.result.hold(rows.clone());
            net.last.run(job.isa, &[self.high.view(&self.high_history)], Output::wide(&mut self.result), memory);
            self.high_history.remember(&self.high);
            if !rows.is_empty() {
                let rgb = &mut self.rgb[..rows.len() * self.result.width * 3];
                to_rgb(&mut self.result, net.last.outputs, rgb);
                emit(rows.start, rgb);
            }
            from = to;
        }
        self.features.remember(features);
        Ok(())
    }
}

/// Some rows at twice the size by repetition.
fn double<T: Element>(map: &Map<T>, rows: &Range<usize>, out: &mut Map<T>) {
    out.hold(2 * rows.start..2 * rows.end);
    let (c, stride, start) = (map.channels, out.stride(), rows.start);
    let source = map.alone();
    out.rows_mut().par_chunks_mut(stride).enumerate().for_each(|(y, row)| {
        let source = &source.row((start + y / 2) as isize)[c..][..map.width * c];
        for (pair, pixel) in row[c..].chunks_exact_mut(2 * c).zip(source.chunks_exact(c)) {
            pair[..c].copy_from_slice(pixel);
            pair[c..].copy_from_slice(pixel);
        }
    });
}

/// Interleaved RGB of a result of one or three colours.
fn to_rgb(map: &mut Map<f32>, colours: usize, rgb: &mut [f32]) {
    let (c, stride, width) = (map.channels, map.stride(), map.width);
    let rows = map.rows_mut();
    rgb.par_chunks_mut(width * 3).zip(rows.par_chunks(stride)).for_each(|(rgb, row)| {
        for (rgb, pixel) in rgb.chunks_exact_mut(3).zip(row[c..].chunks_exact(c)) {
            for (i, value) in rgb.iter_mut().enumerate() {
                *value = pixel[i.min(colours - 1)];
            }
        }
    });
}
