//! An RRDBNet on the CPU: what follows the trunk.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    error::NnError,
    kernels::{BLOCK, Conv, Element, History, Map, Output, Scratch, zeroed},
    model::Emit,
};

/// Pixels of a band that the tail takes at once: less than the trunk, since it works at 16 times the pixels.
const TAIL_PIXELS: usize = 4 << 10;
/// Rows before the band that a convolution reads.
const BEHIND: usize = 2;

/// The convolutions after the trunk.
pub struct TailConvs<T: Element> {
    /// Of maps, padded.
    pub channels: usize,
    /// One per upsampling.
    pub ups: Vec<Conv<T>>,
    pub high: Conv<T>,
    pub last: Conv<T>,
}

impl<T: Element> TailConvs<T> {
    /// Memory that grows with the width.
    pub fn bytes_per_column(&self) -> usize {
        // A map for each upsampling, perhaps one in between, and two at the last scale.
        let map = |upsamplings: usize| rows(4, 1 << upsamplings) << upsamplings;
        let each = if T::READS_UPSAMPLED { 1 } else { 2 };
        let maps = (1..=self.ups.len()).map(|i| each * map(i)).sum::<usize>() + 2 * map(self.ups.len());
        maps * self.channels * size_of::<T>()
    }
}

/// Rows of a map: the last band flushes what was held back, less than two rows of features.
const fn rows(band: usize, scale: usize) -> usize {
    (band + 2) * scale + BEHIND
}

/// A run of what follows the trunk: upsamplings, and the last convolutions. It works on bands of its own.
pub struct Tail<'a, T: Element> {
    net: &'a TailConvs<T>,
    height: usize,
    band: usize,
    /// Of the trunk, for the trunk's last convolution.
    pub trunk: History<T>,
    /// Of features, for what follows the trunk.
    features: History<T>,
    stages: Vec<Stage<T>>,
    high: Map<T>,
    high_history: History<T>,
    result: Map<f32>,
    rgb: Vec<f32>,
}

/// An upsampling and its convolution.
struct Stage<T> {
    /// What the convolution reads, if kernels cannot read its source upsampled.
    copy: Option<(Map<T>, History<T>)>,
    result: Map<T>,
    history: History<T>,
}

impl<'a, T: Element> Tail<'a, T> {
    /// # Errors
    /// [`NnError::Memory`] if there is not enough.
    pub fn new(net: &'a TailConvs<T>, width: usize, height: usize) -> Result<Self, NnError> {
        let band = (TAIL_PIXELS / width).next_multiple_of(4).max(4);
        let channels = net.channels;
        let map = |scale: usize| Map::<T>::new(width * scale, rows(band, scale), channels);
        let history = |scale: usize| History::<T>::new(width * scale, channels, BEHIND);
        let mut stages = Vec::new();
        for i in 1..=net.ups.len() {
            let scale = 1 << i;
            stages.push(Stage {
                copy: if T::READS_UPSAMPLED { None } else { Some((map(scale)?, history(scale)?)) },
                result: map(scale)?,
                history: history(scale)?,
            });
        }
        let scale = 1 << net.ups.len();
        let colours = net.last.outputs().next_multiple_of(BLOCK);
        Ok(Self {
            net,
            height,
            band,
            trunk: history(1)?,
            features: history(1)?,
            stages,
            high: map(scale)?,
            // Rows that do not make a multiple of the scale are left for the next band.
            high_history: History::new(width * scale, channels, BEHIND + scale - 1)?,
            result: Map::new(width * scale, rows(band, scale), colours)?,
            rgb: zeroed(rows(band, scale) * width * scale * 3)?,
        })
    }

    /// Takes the next rows of features, and emits what can be computed of them.
    pub fn run(&mut self, features: &Map<T>, scratch: &mut Scratch, emit: &mut Emit<'_>) {
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
            for i in 0..self.stages.len() {
                let (before, rest) = self.stages.split_at_mut(i);
                let Stage { copy, result, .. } = &mut rest[0];
                let (source, history) =
                    before.last_mut().map_or((features, None), |last| (&last.result, Some(&mut last.history)));
                let rows = span(scale, depth);
                (scale, depth) = (2 * scale, 2 * depth + 1);
                result.hold(span(scale, depth));
                if let Some((copy, history)) = copy {
                    upsample(source, &rows, copy);
                    net.ups[i].run(&[copy.view(history)], Output::map(result), scratch);
                    history.remember(copy);
                } else {
                    let view = source.view(history.as_deref().unwrap_or(&self.features)).upsampled();
                    net.ups[i].run(&[view], Output::map(result), scratch);
                }
                if let Some(history) = history {
                    history.remember(source);
                }
            }
            let source = match self.stages.last() {
                Some(last) => last.result.view(&last.history),
                None => features.view(&self.features),
            };
            self.high.hold(span(scale, depth + 1));
            net.high.run(&[source], Output::map(&mut self.high), scratch);
            if let Some(last) = self.stages.last_mut() {
                last.history.remember(&last.result);
            }
            // Results are handed over in multiples of the scale.
            let whole = |row: usize| row / scale * scale;
            let rows = span(scale, depth + 2);
            let rows = whole(rows.start)..whole(rows.end);
            self.result.hold(rows.clone());
            net.last.run(&[self.high.view(&self.high_history)], Output::wide(&mut self.result), scratch);
            self.high_history.remember(&self.high);
            if !rows.is_empty() {
                let rgb = &mut self.rgb[..rows.len() * self.result.width * 3];
                to_rgb(&mut self.result, net.last.outputs(), rgb);
                emit(rows.start, rgb);
            }
            from = to;
        }
        self.features.remember(features);
    }
}

/// Some rows at twice the size, each pixel repeated.
fn upsample<T: Element>(map: &Map<T>, rows: &Range<usize>, out: &mut Map<T>) {
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
