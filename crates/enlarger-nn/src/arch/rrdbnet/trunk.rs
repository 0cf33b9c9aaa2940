//! An RRDBNet on the CPU: the trunk of dense blocks, in bands of rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    sizes::{DENSE, RESIDUAL, RrdbNet, SLOPE},
    tail::{Tail, TailConvs},
};
use crate::{
    cpu::{Bands, Input, OnCpu, Slope, conv, widest},
    error::NnError,
    kernels::{Conv, Element, History, Map, Output, Scratch, View, reserve_small},
    model::{Emit, Model, Report, Strip},
    tensor::StateDict,
};

struct Fused<T: Element> {
    sizes: RrdbNet,
    first: Conv<T>,
    /// Three dense blocks each.
    blocks: Vec<[[Conv<T>; DENSE]; 3]>,
    body: Conv<T>,
    tail: TailConvs<T>,
}

impl OnCpu for RrdbNet {
    fn load<T: Element>(&self, kernel: T::Kernel, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        let conv =
            |name: &str, inputs: &[usize], slope: f32| conv::<T>(kernel, weights, name, inputs, Slope::Same(slope));
        let dense = |block: usize, dense: usize, k: usize| {
            let mut inputs = vec![self.features];
            inputs.resize(k, self.growth);
            conv(&Self::dense_name(block, dense, k), &inputs, if k < DENSE { SLOPE } else { 1.0 })
        };
        let five = |block, d| -> Result<[Conv<T>; DENSE], NnError> {
            Ok([
                dense(block, d, 1)?,
                dense(block, d, 2)?,
                dense(block, d, 3)?,
                dense(block, d, 4)?,
                dense(block, d, 5)?,
            ])
        };
        let blocks: Result<Vec<_>, NnError> =
            (0..self.blocks).into_par_iter().map(|b| Ok([five(b, 1)?, five(b, 2)?, five(b, 3)?])).collect();
        let ups: Result<Vec<_>, NnError> =
            (1..=self.upsamplings).map(|up| conv(&format!("conv_up{up}"), &[self.features], SLOPE)).collect();
        Ok(Box::new(Fused {
            sizes: *self,
            first: conv("conv_first", &[self.read()], 1.0)?,
            blocks: blocks?,
            body: conv("conv_body", &[self.features], 1.0)?,
            tail: TailConvs {
                channels: self.features.next_multiple_of(T::CHANNELS),
                ups: ups?,
                high: conv("conv_hr", &[self.features], SLOPE)?,
                last: conv("conv_last", &[self.features], 1.0)?,
            },
        }))
    }
}

impl<T: Element> Fused<T> {
    /// Memory of the weights, of which nearly all are in blocks.
    fn bytes_of_weights(&self) -> usize {
        self.blocks.iter().flatten().flatten().map(Conv::bytes).sum()
    }

    /// Memory that grows with the width: what is remembered of each block, the smallest band's maps, and the tail's.
    fn bytes_per_column(&self) -> usize {
        let (features, growth) = self.channels();
        let wide = if T::HOLDS_RESIDUALS { 0 } else { size_of::<f32>() };
        let sum = |keep: [usize; 3]| keep.iter().sum::<usize>();
        let remembered = (sum(Trunk::<T>::KEPT) * features + 3 * GROWTH_KEPT.iter().sum::<usize>() * growth)
            * size_of::<T>()
            + sum(WIDE_KEPT) * features * wide;
        let band = 4 * features * (size_of::<T>() + wide) + (4 * growth + features) * size_of::<T>();
        self.blocks.len() * remembered + Bands::LEAST * band + self.tail.bytes_per_column()
    }

    /// Channels of the trunk's maps, and of those that dense blocks add.
    fn channels(&self) -> (usize, usize) {
        let padded = |channels: usize| channels.next_multiple_of(T::CHANNELS);
        (padded(self.sizes.features), padded(self.sizes.growth))
    }
}

impl<T: Element> Model for Fused<T> {
    fn widest(&self) -> u32 {
        widest(self.bytes_of_weights(), self.bytes_per_column(), self.sizes.unshuffle)
    }

    fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let RrdbNet { unshuffle, channels: colours, .. } = self.sizes;
        let (w, h) = (strip.width / unshuffle, strip.height / unshuffle);
        let bands = Bands::new(strip, unshuffle, T::BAND);
        let (features, growth) = self.channels();
        let room = bands.room();
        let mut scratch = Scratch::new();
        let mut input = Input::<T>::new(strip, colours, unshuffle, &bands)?;
        let trunk = || Trunk::<T>::new(w, room, features);
        let mut trunks = [trunk()?, trunk()?, trunk()?];
        let mut shallow = trunk()?;
        let mut body = Map::<T>::new(w, room, features)?;
        let map = || Map::<T>::new(w, room, growth);
        let mut growths = [map()?, map()?, map()?, map()?];
        let dense = |d: usize| DenseHistory::<T>::new(w, features, growth, d, &bands);
        let mut histories = Vec::new();
        for _ in &self.blocks {
            histories.push([dense(0)?, dense(1)?, dense(2)?]);
        }
        let mut tail = Tail::new(&self.tail, w, h)?;
        reserve_small()?;

        let depth = 2 + 3 * DENSE * self.blocks.len();
        // The tail costs about as much as two blocks.
        let work = (self.blocks.len() as f64 + 2.0) * h as f64;
        let mut done = 0;
        // Which trunk the next block reads.
        let mut at = 0;
        for step in 0..bands.steps(depth) {
            let rows = bands.rows(step, 1);
            let output = trunks[at].output(rows.clone());
            self.first.run(&[input.read(&rows)], output, &mut scratch);
            for (b, (block, history)) in self.blocks.iter().zip(&mut histories).enumerate() {
                let depth = 1 + 3 * DENSE * b;
                let mut dense = |d: usize, history: &mut DenseHistory<T>, from: &Trunk<T>, to: &mut Trunk<T>, outer| {
                    let depth = depth + DENSE * d;
                    for k in 0..DENSE - 1 {
                        let (before, rest) = growths.split_at_mut(k);
                        rest[0].hold(bands.rows(step, depth + 1 + k));
                        let sources = history.sources(from, before);
                        block[d][k].run(&sources, Output::map(&mut rest[0]), &mut scratch);
                    }
                    let output = to.output(bands.rows(step, depth + DENSE));
                    let residual = Some(from.residual(Some(&history.trunk)));
                    let output = Output { gain: RESIDUAL, residual, outer, ..output };
                    block[d][DENSE - 1].run(&history.sources(from, &growths), output, &mut scratch);
                    for (history, map) in history.growths.iter_mut().zip(&growths) {
                        history.remember(map);
                    }
                };
                let [outer, one, two] =
                    trunks.get_disjoint_mut([at, (at + 1) % 3, (at + 2) % 3]).expect("three different ones");
                let [first, second, third] = history;
                dense(0, first, outer, one, None);
                dense(1, second, one, two, None);
                // The third overwrites it.
                second.trunk.remember(one);
                dense(2, third, two, one, Some(outer.residual(Some(&first.trunk))));
                third.trunk.remember(two);
                first.trunk.remember(outer);
                at = (at + 1) % 3;
                done += bands.rows(step, depth + 3 * DENSE).len();
                report.done(done as f64 / work)?;
            }
            let rows = bands.rows(step, depth);
            // Computed again: keeping it would take as much memory as a block.
            self.first.run(&[input.read(&rows)], shallow.output(rows.clone()), &mut scratch);
            body.hold(rows.clone());
            let output = Output { residual: Some(shallow.residual(None)), ..Output::map(&mut body) };
            self.body.run(&[trunks[at].map.view(&tail.trunk)], output, &mut scratch);
            tail.trunk.remember(&trunks[at].map);
            tail.run(&body, &mut scratch, emit);
            done += 2 * rows.len();
            report.done(done as f64 / work)?;
        }
        Ok(())
    }
}

/// Rows of the four maps that a dense block adds which are read after the rows of the last band: the fifth convolution is
/// five rows behind, and looks one back.
const GROWTH_KEPT: [usize; DENSE - 1] = [5, 4, 3, 2];
/// Rows of the trunk that a convolution five rows behind reads.
const TRUNK_KEPT: usize = DENSE + 1;
/// Rows of the trunk before each dense block that are added to a result after it: to the dense block's, five rows
/// behind, and to the whole block's, fifteen.
const WIDE_KEPT: [usize; 3] = [3 * DENSE, DENSE, DENSE];

/// Features as convolutions read them, and as residuals are added to them.
struct Trunk<T> {
    map: Map<T>,
    /// `None` if maps are precise enough themselves.
    wide: Option<Map<f32>>,
}

impl<T: Element> Trunk<T> {
    /// Rows of `map` to remember.
    const KEPT: [usize; 3] = if T::HOLDS_RESIDUALS { [3 * DENSE, TRUNK_KEPT, TRUNK_KEPT] } else { [TRUNK_KEPT; 3] };

    fn new(width: usize, rows: usize, channels: usize) -> Result<Self, NnError> {
        let wide = if T::HOLDS_RESIDUALS { None } else { Some(Map::new(width, rows, channels)?) };
        Ok(Self { map: Map::new(width, rows, channels)?, wide })
    }

    fn output(&mut self, rows: Range<usize>) -> Output<'_, T> {
        self.map.hold(rows.clone());
        if let Some(wide) = &mut self.wide {
            wide.hold(rows);
        }
        Output { wide: self.wide.as_mut(), ..Output::map(&mut self.map) }
    }

    /// As residuals are read from it; without a history, the held rows alone.
    fn residual<'a>(&'a self, history: Option<&'a TrunkHistory<T>>) -> View<'a, T::Residual> {
        let map = history.map_or_else(|| self.map.alone(), |history| self.map.view(&history.map));
        let wide = |wide: &'a Map<f32>| history.map_or_else(|| wide.alone(), |history| wide.view(&history.wide));
        T::residual(map, self.wide.as_ref().map(wide))
    }
}

struct TrunkHistory<T> {
    map: History<T>,
    wide: History<f32>,
}

impl<T: Element> TrunkHistory<T> {
    fn remember(&mut self, trunk: &Trunk<T>) {
        self.map.remember(&trunk.map);
        if let Some(wide) = &trunk.wide {
            self.wide.remember(wide);
        }
    }
}

/// What the convolutions of a dense block read of rows before the band.
struct DenseHistory<T> {
    trunk: TrunkHistory<T>,
    growths: [History<T>; DENSE - 1],
}

impl<T: Element> DenseHistory<T> {
    /// For dense block `d` of a block.
    fn new(width: usize, features: usize, growth: usize, d: usize, bands: &Bands) -> Result<Self, NnError> {
        let wide = if T::HOLDS_RESIDUALS { 0 } else { bands.keep(WIDE_KEPT[d]) };
        let map = |k: usize| History::new(width, growth, bands.keep(GROWTH_KEPT[k]));
        Ok(Self {
            trunk: TrunkHistory {
                map: History::new(width, features, bands.keep(Trunk::<T>::KEPT[d]))?,
                wide: History::new(width, features, wide)?,
            },
            growths: [map(0)?, map(1)?, map(2)?, map(3)?],
        })
    }

    /// What the convolution after so many of the added maps reads.
    fn sources<'a>(&'a self, trunk: &'a Trunk<T>, growths: &'a [Map<T>]) -> Vec<View<'a, T>> {
        let mut sources = vec![trunk.map.view(&self.trunk.map)];
        sources.extend(growths.iter().zip(&self.growths).map(|(map, history)| map.view(history)));
        sources
    }
}
