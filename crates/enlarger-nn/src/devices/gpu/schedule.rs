//! When each row of a strip is computed, where it lies until it was last read, and how much memory that takes.
//!
//! A strip is computed in bands of rows. A convolution looks one row ahead, so it is that many rows behind what it reads (its
//! *lag*). A map holds the rows of a band and, above them, those that are read again: they are copied to a memory of their
//! own after the last reader of a band, and back before the first writer of the next one. In between other maps use the place.

use std::{collections::HashMap, ops::Range};

use super::program::{BLOCK, Kind, Map, Place, Program};

/// The fewest rows of a band, in units.
pub const LEAST_BAND: usize = 16;
/// Pixels of a band, in units: enough work for all cores of a card at each convolution.
const PIXELS: usize = 1 << 17;

/// The order of a strip's rows.
#[derive(Debug)]
pub struct Schedule {
    /// In units.
    pub width: usize,
    height: usize,
    band: usize,
    pub steps: usize,
    /// Of each operation, in rows that it reads.
    lags: Vec<usize>,
    /// Rows per unit that each operation computes, before they are shuffled.
    sizes: Vec<usize>,
    pub maps: Vec<Held>,
    /// Bytes of the places that maps take turns in.
    pub slots: Vec<u64>,
}

/// How a map is kept.
#[derive(Debug, Clone)]
pub struct Held {
    /// Lag of the first value that is written to it, in its rows.
    lead: usize,
    /// Rows above those that are remembered between bands.
    pub keep: usize,
    /// Rows of a band.
    pub rows: usize,
    /// Bytes of a row.
    pub row: u64,
    /// The operations from the first that writes it to the last that reads it.
    pub first: usize,
    pub last: usize,
    pub slot: usize,
}

impl Schedule {
    /// For maps of values of so many bytes, and a strip of this size in units. `band` is in units, too; `None` is enough for
    /// a card to be busy.
    pub fn new(program: &Program, value: usize, width: usize, height: usize, band: Option<usize>) -> Self {
        let band = band.unwrap_or_else(|| PIXELS.div_ceil(width)).max(LEAST_BAND);
        // What does not fill two bands is done in one.
        let whole = height < 2 * band;
        let band = if whole { height } else { band };
        let sizes: Vec<usize> = program.ops.iter().map(|op| program.maps[op.to.map].size / op.shuffle).collect();
        let mut schedule = Self {
            width,
            height,
            band,
            steps: 1,
            lags: vec![0; program.ops.len()],
            sizes,
            maps: program.maps.iter().map(|map| held(map, program.colours, value, width, band)).collect(),
            slots: Vec::new(),
        };
        if !whole {
            schedule.stagger(program);
        }
        schedule.remember(program);
        schedule.place();
        schedule
    }

    /// Lets each operation wait for the rows that it reads.
    fn stagger(&mut self, program: &Program) {
        let mut lag_of: HashMap<Place, usize> = HashMap::new();
        // The image has none.
        let lag = |lags: &HashMap<Place, usize>, place| lags.get(&place).copied().unwrap_or(0);
        let result = program.ops.last().map_or(0, |op| op.to.map);
        // Rows of the result for a pixel of the image.
        let scale = (program.maps[result].size / program.unit).max(1);
        for (at, op) in program.ops.iter().enumerate() {
            let read = sources(&op.inputs).map(|block| lag(&lag_of, Place { map: op.from, block }));
            let mut least = read.max().unwrap_or(0) * op.upsampled + 1;
            for add in &op.adds {
                least = least.max((add.upsampled * lag(&lag_of, add.place)).div_ceil(op.shuffle));
            }
            while op.to.map == result && !(least * op.shuffle).is_multiple_of(scale) {
                least += 1;
            }
            self.lags[at] = least;
            lag_of.insert(op.to, least * op.shuffle);
        }
        let last = program.ops.len() - 1;
        let behind = self.lags[last].div_ceil(self.sizes[last]);
        self.steps = (self.height + behind).div_ceil(self.band);
    }

    /// Finds how long each map, and how many rows of it, are needed.
    fn remember(&mut self, program: &Program) {
        let written = |map: usize| program.ops.iter().enumerate().filter(move |(_, op)| op.to.map == map);
        for map in 0..self.maps.len() {
            let lags = || written(map).map(|(at, op)| self.lags[at] * op.shuffle);
            let (lead, most) = (lags().min().unwrap_or(0), lags().max().unwrap_or(0));
            let mut oldest = most;
            let mut last = written(map).map(|(at, _)| at).max().unwrap_or(0);
            for (at, op) in program.ops.iter().enumerate() {
                if op.from == map {
                    oldest = oldest.max((self.lags[at] + 1).div_ceil(op.upsampled));
                    last = last.max(at);
                }
                for add in op.adds.iter().filter(|add| add.place.map == map) {
                    oldest = oldest.max((self.lags[at] * op.shuffle).div_ceil(add.upsampled));
                    last = last.max(at);
                }
            }
            let first = written(map).map(|(at, _)| at).min().unwrap_or(0);
            let keep = if self.steps > 1 { oldest - lead } else { 0 };
            self.maps[map] = Held { lead, keep, first, last, ..self.maps[map].clone() };
        }
    }

    /// Gives each map a place that no other uses at the same time.
    fn place(&mut self) {
        let mut free: Vec<usize> = Vec::new();
        for op in 0..self.lags.len() {
            for map in 0..self.maps.len() {
                if self.maps[map].first != op {
                    continue;
                }
                let bytes = self.maps[map].bytes();
                // The place that grows least.
                let best = (0..free.len()).min_by_key(|&at| self.slots[free[at]].abs_diff(bytes));
                let slot = best.map(|at| free.swap_remove(at)).unwrap_or_else(|| {
                    self.slots.push(0);
                    self.slots.len() - 1
                });
                self.slots[slot] = self.slots[slot].max(bytes);
                self.maps[map].slot = slot;
            }
            free.extend(self.maps.iter().filter(|map| map.last == op).map(|map| map.slot));
        }
    }

    /// Rows that an operation computes in a step, before they are shuffled.
    pub fn rows(&self, step: usize, op: usize) -> Range<usize> {
        let size = self.sizes[op];
        let row = |step: usize| (step * self.band * size).saturating_sub(self.lags[op]).min(self.height * size);
        row(step)..row(step + 1)
    }

    /// Columns and rows of what an operation computes.
    pub fn sides(&self, op: usize) -> (usize, usize) {
        (self.width * self.sizes[op], self.height * self.sizes[op])
    }

    /// Rows of a map that is the image which are new in a step.
    pub fn image_rows(&self, step: usize, size: usize) -> Range<usize> {
        let row = |step: usize| (step * self.band).min(self.height) * size;
        row(step)..row(step + 1)
    }

    /// What is added to the number of a map's row to find its place in a step.
    pub fn origin(&self, step: usize, map: usize) -> i32 {
        let held = &self.maps[map];
        (held.lead + held.keep) as i32 - (step * held.rows) as i32
    }

    /// Bytes of all maps and of what is remembered of them.
    pub fn bytes(&self) -> u64 {
        let remembered: u64 = self.maps.iter().map(|map| map.keep as u64 * map.row).sum();
        self.slots.iter().sum::<u64>() + remembered
    }
}

impl Held {
    /// Of its rows and those above.
    fn bytes(&self) -> u64 {
        (self.keep + self.rows) as u64 * self.row
    }
}

fn held(map: &Map, colours: usize, value: usize, width: usize, band: usize) -> Held {
    let bytes = match map.kind {
        Kind::Image { unshuffle } => (colours * unshuffle * unshuffle).next_multiple_of(BLOCK) * value,
        Kind::Features { blocks } => blocks * BLOCK * value,
        Kind::Result => colours * size_of::<f32>(),
    };
    let row = (width * map.size * bytes) as u64;
    Held { lead: 0, keep: 0, rows: band * map.size, row, first: 0, last: 0, slot: 0 }
}

/// The first block of each value that an operation reads.
pub fn sources(inputs: &[usize]) -> impl Iterator<Item = usize> {
    inputs.iter().scan(0, |next, channels| {
        let block = *next;
        *next += channels.div_ceil(BLOCK);
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arch::{Activation, Compact, RrdbNet},
        architecture::Architecture,
    };

    fn programs() -> Vec<Program> {
        let rrdb = |unshuffle| RrdbNet { unshuffle, channels: 3, features: 16, blocks: 2, growth: 8, upsamplings: 2 };
        let compact = |scale| Compact { scale, channels: 3, features: 16, convs: 3, activation: Activation::Prelu };
        let graphs = [rrdb(1).graph(), rrdb(2).graph(), rrdb(4).graph(), compact(3).graph(), compact(4).graph()];
        graphs.iter().map(|graph| Program::new(graph, 3).expect("it is supported")).collect()
    }

    /// Plays a schedule, remembering which row of which value lies where.
    fn play(program: &Program, height: usize, band: usize) {
        let schedule = Schedule::new(program, 2, 10, height, Some(band));
        let mut done = vec![0; program.ops.len()];
        for step in 0..schedule.steps {
            for (at, op) in program.ops.iter().enumerate() {
                let rows = schedule.rows(step, at);
                assert_eq!(rows.start, done[at], "every row once, none left out");
                done[at] = rows.end;
                // What an operation reads was written, and is not forgotten.
                let there = |map: usize, row: usize, block: usize| {
                    let writer = program.ops.iter().position(|op| op.to == Place { map, block });
                    let written = match writer {
                        Some(writer) => done[writer] * program.ops[writer].shuffle,
                        None => schedule.image_rows(step, program.maps[map].size).end,
                    };
                    let place = row as i32 + schedule.origin(step, map);
                    let room = schedule.maps[map].keep + schedule.maps[map].rows;
                    row < written && (0..room as i32).contains(&place)
                };
                for y in rows.clone() {
                    for row in y.saturating_sub(1)..(y + 2).min(schedule.sides(at).1) {
                        assert!(sources(&op.inputs).all(|block| there(op.from, row / op.upsampled, block)));
                    }
                    for add in &op.adds {
                        let row = (y * op.shuffle + op.shuffle - 1) / add.upsampled;
                        assert!(there(add.place.map, row, add.place.block), "{step} {at} {row} {add:?}");
                    }
                    let place = (y * op.shuffle) as i32 + schedule.origin(step, op.to.map);
                    assert!(place >= 0, "there is room for what is written");
                }
            }
        }
        let ends: Vec<usize> = (0..done.len()).map(|at| schedule.sides(at).1).collect();
        assert_eq!(done, ends, "all rows are computed");
    }

    #[test]
    fn every_row_is_computed_once_after_and_while_what_it_reads_is_there() {
        for program in programs() {
            for (height, band) in [(100, 16), (37, 16), (64, 24), (33, 100), (1, 16)] {
                play(&program, height, band);
            }
        }
    }

    #[test]
    fn maps_that_are_needed_at_the_same_time_have_places_of_their_own() {
        for program in programs() {
            let schedule = Schedule::new(&program, 2, 10, 100, Some(16));
            for (a, one) in schedule.maps.iter().enumerate() {
                assert!(schedule.slots[one.slot] >= one.bytes());
                for two in &schedule.maps[a + 1..] {
                    let apart = one.last < two.first || two.last < one.first;
                    assert!(apart || one.slot != two.slot, "{one:?} {two:?}");
                }
            }
        }
    }

    #[test]
    fn memory_grows_with_the_width_and_not_with_the_height() {
        for program in programs() {
            let bytes = |width, height| Schedule::new(&program, 2, width, height, Some(16)).bytes();
            assert_eq!(bytes(30, 100), 3 * bytes(10, 100));
            assert_eq!(bytes(10, 10_000), bytes(10, 100));
        }
    }
}
