//! A network on a card.

use std::{sync::Arc, time::Instant};

use rayon::prelude::*;

use super::{
    budget::Share,
    card::{Batch, Bound, Buffer, Kernel, Ticket},
    check::Check,
    engine::Engine,
    kernel::{Job, Kind, View, binding},
    program::{self, BLOCK, Op, Place, Program, Slope},
    schedule::{Held, LEAST_BAND, Schedule},
    tile::Matrix,
};
use crate::{
    architecture::Architecture,
    cpu::tensor,
    error::NnError,
    model::{Emit, Report, Strip},
    tensor::StateDict,
};

/// Columns that a strip always has: narrower ones would be mostly halo.
const LEAST_COLUMNS: u64 = 256;

/// A convolution with its weights.
struct Layer {
    kind: Kind,
    kernel: Kernel,
    weights: Buffer,
    floats: Buffer,
}

/// A network with its weights on a card.
pub struct CardModel {
    pub engine: Arc<Engine>,
    /// The card's units for matrices, if its kernels use them.
    pub matrix: Option<Matrix>,
    program: Program,
    layers: Vec<Layer>,
    /// The bytes of the weights, as a part of the card's budget.
    weights: Share,
}

impl CardModel {
    /// Brings weights to a card.
    ///
    /// # Errors
    /// [`NnError::Weights`] as for the CPU, [`NnError::DeviceMemory`] if the budget is too small for it,
    /// [`NnError::Device`] if the card fails or the graph is not supported.
    pub fn new(engine: Arc<Engine>, network: &dyn Architecture, weights: &StateDict) -> Result<Self, NnError> {
        let graph = network.graph();
        let program = Program::new(&graph, network.channels())?;
        let matrix = engine.matrix();
        let kind = |op: &Op| Kind::of(op, engine.store, program.colours_of(op), matrix);
        let kinds: Vec<Kind> = program.ops.iter().map(kind).collect();
        let bytes = kinds.iter().zip(&program.ops).map(|(kind, op)| kind.bytes(op)).sum();
        let share = engine.budget.weights(bytes);
        let mut model = Self { engine, matrix, program, layers: Vec::new(), weights: share };
        model.check_room(network.halo())?;
        for (op, kind) in model.program.ops.iter().zip(kinds) {
            let conv = &graph.convs()[op.conv];
            let (filters, bias) = conv_arrays(weights, &conv.name, conv.inputs, conv.outputs)?;
            let slopes = match op.slope {
                Slope::Same(slope) => vec![slope.value(); op.outputs],
                Slope::Each(at) => slopes(weights, &graph.prelus()[at], op.outputs)?,
            };
            let upload = |bytes: &[u8]| {
                let buffer = model.engine.card.buffer(bytes.len() as u64)?;
                model.engine.card.write(&buffer, 0, bytes);
                Ok::<_, NnError>(buffer)
            };
            let weights = upload(&kind.pack_weights(op, filters))?;
            let floats = upload(&kind.pack_floats(bias, &slopes))?;
            model.layers.push(Layer { kernel: model.engine.kernel(&kind)?, kind, weights, floats });
        }
        Ok(model)
    }

    /// # Errors
    /// [`NnError::DeviceMemory`] if not even a narrow strip fits the budget, [`NnError::Device`] if the card's buffers are too
    /// small for one.
    fn check_room(&self, halo: u32) -> Result<(), NnError> {
        let least = LEAST_COLUMNS.max(3 * u64::from(halo)).div_ceil(self.program.unit as u64);
        let maps = least * self.per_column();
        let (needed, budget) = (self.weights.bytes + maps, self.engine.budget.bytes);
        if needed > budget {
            return Err(NnError::DeviceMemory { needed, budget });
        }
        if self.columns() < least {
            return Err(NnError::Device("its buffers are too small for this model".into()));
        }
        self.engine.budget.network_needs(maps);
        Ok(())
    }

    /// The schedule of a strip of this size in units, in as large bands as memory allows.
    fn schedule(&self, width: usize, height: usize, band: Option<usize>) -> Schedule {
        let mut schedule = Schedule::new(&self.program, self.engine.store.bytes(), width, height, band);
        let mut band = schedule.maps[0].rows / self.program.maps[0].size;
        while !self.fits(&schedule) && band > LEAST_BAND {
            band = (band / 2).max(LEAST_BAND);
            schedule = Schedule::new(&self.program, self.engine.store.bytes(), width, height, Some(band));
        }
        schedule
    }

    fn fits(&self, schedule: &Schedule) -> bool {
        let whole = schedule.slots.iter().all(|&bytes| bytes <= self.engine.card.most_bytes());
        whole && self.total(schedule) <= self.engine.budget.for_maps()
    }

    /// Bytes of a schedule's maps, and of the two buffers that results are read from.
    fn total(&self, schedule: &Schedule) -> u64 {
        let result = schedule.maps[self.result()].clone();
        schedule.bytes() + 2 * result.rows as u64 * result.row
    }

    /// The map of the result.
    fn result(&self) -> usize {
        self.program.ops.last().map_or(0, |op| op.to.map)
    }

    /// The schedule of the narrowest strip, higher than two bands.
    fn narrow(&self) -> Schedule {
        Schedule::new(&self.program, self.engine.store.bytes(), 1, 4 * LEAST_BAND, Some(LEAST_BAND))
    }

    fn per_column(&self) -> u64 {
        self.total(&self.narrow())
    }

    /// The most columns of units that fit the budget.
    fn columns(&self) -> u64 {
        let slot = self.narrow().slots.into_iter().max().unwrap_or(1);
        let by_budget = self.engine.budget.bytes.saturating_sub(self.weights.bytes) / self.per_column();
        by_budget.min(self.engine.card.most_bytes() / slot)
    }

    /// The widest strip in pixels of the image.
    pub fn widest(&self) -> u32 {
        u32::try_from(self.columns() * self.program.unit as u64).unwrap_or(u32::MAX)
    }

    /// Runs down a strip.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails or computes what cannot be right; rows that were emitted are right.
    pub fn run(&self, strip: &Strip<'_>, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let _turn = self.engine.turn();
        Run::new(self, strip)?.all(report, emit)
    }
}

/// The arrays of a convolution.
fn conv_arrays<'a>(
    weights: &'a StateDict,
    name: &str,
    inputs: usize,
    outputs: usize,
) -> Result<(&'a [f32], &'a [f32]), NnError> {
    let filters = tensor(weights, &format!("{name}.weight"))?;
    let bias = tensor(weights, &format!("{name}.bias"))?;
    if filters.shape != [outputs, inputs, 3, 3]
        || filters.data.len() != outputs * inputs * 9
        || bias.data.len() != outputs
    {
        return Err(NnError::Weights(format!(
            "{name} has shape {:?} and {} biases; expected [{outputs}, {inputs}, 3, 3]",
            filters.shape,
            bias.data.len()
        )));
    }
    Ok((&filters.data, &bias.data))
}

/// The learned slopes of a layer.
fn slopes(weights: &StateDict, name: &str, outputs: usize) -> Result<Vec<f32>, NnError> {
    let slopes = &tensor(weights, &format!("{name}.weight"))?.data;
    if slopes.len() != outputs {
        return Err(NnError::Weights(format!("{name} has {} slopes for {outputs} outputs", slopes.len())));
    }
    Ok(slopes.clone())
}

/// A strip that is being computed.
struct Run<'a> {
    model: &'a CardModel,
    strip: &'a Strip<'a>,
    schedule: Schedule,
    slots: Vec<Buffer>,
    /// Rows that are remembered of each map.
    remembered: Vec<Option<Buffer>>,
    bound: Vec<Bound>,
    staging: [Buffer; 2],
    check: Check,
    /// Operations that were submitted.
    done: f64,
    /// Submitted work whose end is not known, with its operations.
    flying: Option<(Ticket, f64, Instant)>,
}

/// Rows of a result that are on their way.
struct Fetched {
    ticket: Ticket,
    step: usize,
}

impl<'a> Run<'a> {
    fn new(model: &'a CardModel, strip: &'a Strip<'a>) -> Result<Self, NnError> {
        let (card, unit) = (&model.engine.card, model.program.unit);
        let band = strip.band.map(|band| band / unit);
        let schedule = model.schedule(strip.width / unit, strip.height / unit, band);
        let slots = schedule.slots.iter().map(|&bytes| card.buffer(bytes)).collect::<Result<Vec<_>, _>>()?;
        let remember = |map: &Held| {
            let bytes = map.keep as u64 * map.row;
            if bytes > 0 { card.buffer(bytes).map(Some) } else { Ok(None) }
        };
        let remembered = schedule.maps.iter().map(remember).collect::<Result<Vec<_>, _>>()?;
        let buffer = |map: usize| &slots[schedule.maps[map].slot];
        let bind = |(op, layer): (&Op, &Layer)| {
            let mut buffers = vec![
                (binding::WEIGHTS, &layer.weights),
                (binding::FLOATS, &layer.floats),
                (binding::TO, buffer(op.to.map)),
            ];
            if !layer.kind.in_place {
                buffers.push((binding::FROM, buffer(op.from)));
            }
            buffers.extend(op.adds.iter().zip(binding::ADDS).map(|(add, at)| (at, buffer(add.place.map))));
            card.bind(&layer.kernel, &buffers)
        };
        let bound = model.program.ops.iter().zip(&model.layers).map(bind).collect();
        let result = &schedule.maps[model.result()];
        let staging = || card.staging(result.rows as u64 * result.row);
        let staging = [staging()?, staging()?];
        let scale = model.program.maps[model.result()].size / unit;
        let check = Check::new(strip.width, strip.height, scale, model.program.colours);
        Ok(Self { model, strip, schedule, slots, remembered, bound, staging, check, done: 0.0, flying: None })
    }

    fn all(mut self, report: &Report<'_>, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let mut before: Option<Fetched> = None;
        for step in 0..self.schedule.steps {
            self.upload(step);
            let ticket = self.step(step, report)?;
            // The card is busy with this step while the result of the one before is taken.
            if let Some(before) = before.replace(Fetched { ticket, step }) {
                self.emit(&before, emit)?;
            }
        }
        if let Some(last) = before {
            self.emit(&last, emit)?;
        }
        report.done(1.0)
    }

    /// Brings the image's rows of a step to the card.
    fn upload(&mut self, step: usize) {
        let Strip { width, read, .. } = *self.strip;
        let (card, store) = (&self.model.engine.card, self.model.engine.store);
        let colours = self.model.program.colours;
        let unit = self.model.program.unit;
        let units = self.schedule.image_rows(step, 1);
        if units.is_empty() {
            return;
        }
        let mut rgb = vec![0.0; units.len() * unit * width * 3];
        read(units.start * unit..units.end * unit, &mut rgb);
        self.check.source(units.start * unit, &rgb);
        for (at, map) in self.model.program.maps.iter().enumerate() {
            let program::Kind::Image { unshuffle } = map.kind else { continue };
            let rows = self.schedule.image_rows(step, map.size);
            let packed = store.pack(&image(&rgb, width, colours, unshuffle));
            let held = &self.schedule.maps[at];
            let first = (rows.start as i32 + self.schedule.origin(step, at)) as u64;
            card.write(&self.slots[held.slot], first * held.row, &packed);
        }
    }

    /// Submits a step. The last submission copies its result.
    fn step(&mut self, step: usize, report: &Report<'_>) -> Result<Ticket, NnError> {
        let ops = &self.model.program.ops;
        let (mut batch, mut flops) = (Batch::new(), 0.0);
        let total: f64 = (0..ops.len()).map(|at| self.flops(at, self.schedule.sides(at).1)).sum();
        for at in 0..ops.len() {
            self.recall(step, at, &mut batch);
            let mut rows = self.schedule.rows(step, at);
            while !rows.is_empty() {
                // As many rows as fit what is left of the time, in whole tiles.
                let room = self.model.engine.at_once() - flops;
                let fit = (room / self.flops(at, 8)).max(0.0) as usize * 8;
                if fit == 0 && !batch.is_empty() {
                    report.done((self.done / total).min(1.0))?;
                    self.submit(std::mem::replace(&mut batch, Batch::new()), flops)?;
                    flops = 0.0;
                    continue;
                }
                let end = (rows.start + fit.max(8)).min(rows.end);
                let part = rows.start..end;
                let job = self.job(step, at, part.start, part.end);
                let layer = &self.model.layers[at];
                let groups = layer.kind.groups(job.width, part.len() as u32, ops[at].outputs);
                batch.run(&self.bound[at], bytemuck::bytes_of(&job), groups);
                flops += self.flops(at, part.len());
                rows.start = end;
            }
            self.save(step, at, &mut batch);
        }
        let held = &self.schedule.maps[self.model.result()];
        let bytes = held.rows as u64 * held.row;
        batch.copy((&self.slots[held.slot], 0), (&self.staging[step % 2], 0), bytes);
        report.done((self.done / total).min(1.0))?;
        self.submit(batch, flops)
    }

    /// Submits work when what was submitted before the last time is done.
    fn submit(&mut self, batch: Batch, flops: f64) -> Result<Ticket, NnError> {
        let engine = &self.model.engine;
        let ticket = engine.card.submit(batch)?;
        let now = Instant::now();
        if let Some((before, flops, since)) = self.flying.take() {
            engine.card.wait(&before)?;
            if flops > 0.0 {
                engine.learn(flops, since.elapsed().as_secs_f64());
            }
        }
        self.done += flops;
        self.flying = Some((ticket.clone(), flops, now));
        Ok(ticket)
    }

    /// Operations of so many rows.
    fn flops(&self, op: usize, rows: usize) -> f64 {
        self.model.program.ops[op].flops() * (self.schedule.sides(op).0 * rows) as f64
    }

    /// Copies the remembered rows of maps back that an operation is the first to use.
    fn recall(&self, step: usize, op: usize, batch: &mut Batch) {
        for (map, held) in self.schedule.maps.iter().enumerate() {
            if let (true, true, Some(remembered)) = (held.first == op, step > 0, &self.remembered[map]) {
                batch.copy((remembered, 0), (&self.slots[held.slot], 0), held.keep as u64 * held.row);
            }
        }
    }

    /// Remembers rows of maps that an operation is the last to use.
    fn save(&self, step: usize, op: usize, batch: &mut Batch) {
        for (map, held) in self.schedule.maps.iter().enumerate() {
            if let (true, true, Some(remembered)) =
                (held.last == op, step + 1 < self.schedule.steps, &self.remembered[map])
            {
                let last = held.rows as u64 * held.row;
                batch.copy((&self.slots[held.slot], last), (remembered, 0), held.keep as u64 * held.row);
            }
        }
    }

    /// What a kernel is told of some rows.
    fn job(&self, step: usize, at: usize, start: usize, end: usize) -> Job {
        let op = &self.model.program.ops[at];
        let (width, height) = self.schedule.sides(at);
        let view = |place: Place| self.view(step, place);
        let mut job = Job {
            width: width as u32,
            height: height as u32,
            start: start as u32,
            end: end as u32,
            blocks: op.inputs.iter().map(|channels| channels.div_ceil(BLOCK)).sum::<usize>() as u32,
            outputs: op.outputs as u32,
            gain: op.gain,
            source: view(Place { map: op.from, block: 0 }),
            to: view(op.to),
            ..Job::default()
        };
        for (at, add) in op.adds.iter().enumerate() {
            (job.adds[at], job.gains[at]) = (view(add.place), add.gain);
        }
        job
    }

    fn view(&self, step: usize, place: Place) -> View {
        let (map, held) = (&self.model.program.maps[place.map], &self.schedule.maps[place.map]);
        // Fours of values.
        let four = 4 * self.model.engine.store.bytes() as u64;
        View {
            origin: self.schedule.origin(step, place.map),
            row: (held.row / four) as u32,
            block: (self.schedule.width * map.size * BLOCK / 4) as u32,
            first: place.block as u32,
        }
    }

    /// Hands the rows of a step on, if they can be right.
    fn emit(&mut self, fetched: &Fetched, emit: &mut Emit<'_>) -> Result<(), NnError> {
        let ops = &self.model.program.ops;
        let (last, op) = (ops.len() - 1, &ops[ops.len() - 1]);
        let rows = self.schedule.rows(fetched.step, last);
        let rows = rows.start * op.shuffle..rows.end * op.shuffle;
        if rows.is_empty() {
            return Ok(());
        }
        let held = &self.schedule.maps[self.model.result()];
        let first = (rows.start as i32 + self.schedule.origin(fetched.step, self.model.result())) as usize;
        let (row, colours) = (held.row as usize / size_of::<f32>(), self.model.program.colours);
        let staging = &self.staging[fetched.step % 2];
        let bytes = held.rows as u64 * held.row;
        let rgb = self.model.engine.card.read(&fetched.ticket, staging, bytes, |bytes| {
            let values: &[f32] = bytemuck::cast_slice(bytes);
            let values = &values[first * row..][..rows.len() * row];
            if colours == 3 { values.to_vec() } else { values.iter().flat_map(|&value| [value; 3]).collect() }
        })?;
        self.check.result(rows.start, &rgb)?;
        emit(rows.start, &rgb);
        Ok(())
    }
}

/// The image as a map: squares of `r` x `r` pixels are channels (`c * r * r + dy * r + dx`); one colour is the mean of three.
fn image(rgb: &[f32], width: usize, colours: usize, r: usize) -> Vec<f32> {
    let blocks = (colours * r * r).div_ceil(BLOCK);
    let columns = width / r;
    let mut map = vec![0.0; rgb.len() / (width * 3 * r) * blocks * columns * BLOCK];
    map.par_chunks_exact_mut(blocks * columns * BLOCK).zip(rgb.par_chunks_exact(width * 3 * r)).for_each(
        |(row, rgb)| {
            for channel in 0..colours * r * r {
                let (colour, dy, dx) = (channel / (r * r), channel % (r * r) / r, channel % r);
                for x in 0..columns {
                    let rgb = &rgb[(dy * width + x * r + dx) * 3..][..3];
                    let value = if colours == 1 { (rgb[0] + rgb[1] + rgb[2]) / 3.0 } else { rgb[colour] };
                    row[(channel / BLOCK * columns + x) * BLOCK + channel % BLOCK] = value;
                }
            }
        },
    );
    map
}
