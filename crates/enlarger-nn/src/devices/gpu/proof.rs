//! The self-test of a kernel: before its first use on a card it computes a small map, and a textbook convolution in f64 tells
//! what that has to be.

use half::f16;

use super::{
    card::{Batch, Buffer, Card, Kernel},
    kernel::{Job, Kind, Store, View, binding},
    program::{BLOCK, Op, Place, Slope},
};
use crate::{error::NnError, graph::Millionths};

/// Blocks of channels that are read.
const READ: usize = 2;
/// What may be off: the result's rounding in 16 bits, or that of sums in f32.
const OFF_F16: f64 = 2e-3;
const OFF_F32: f64 = 1e-4;
const GAIN: f32 = 0.5;
const ADDED: [f32; 2] = [1.0, -0.25];
const SLOPE: f32 = 0.1;

/// A map on a card, and what it holds.
struct Map {
    columns: usize,
    blocks: usize,
    values: Vec<f32>,
    buffer: Buffer,
}

impl Map {
    /// Noise, as a map of this kind keeps it.
    fn noise(
        card: &Card,
        store: Store,
        (columns, rows): (usize, usize),
        blocks: usize,
        seed: u32,
    ) -> Result<Self, NnError> {
        let values: Vec<f32> = noise(seed, columns * rows * blocks * BLOCK);
        let values: Vec<f32> = match store {
            Store::F16 => values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
            Store::F32 => values,
        };
        let packed = store.pack(&values);
        let buffer = card.buffer(packed.len() as u64)?;
        card.write(&buffer, 0, &packed);
        Ok(Self { columns, blocks, values, buffer })
    }

    fn at(&self, x: usize, y: usize, channel: usize) -> usize {
        ((y * self.blocks + channel / BLOCK) * self.columns + x) * BLOCK + channel % BLOCK
    }

    fn view(&self, first: usize) -> View {
        let block = self.columns * BLOCK / 4;
        View { origin: 0, row: (self.blocks * block) as u32, block: block as u32, first: first as u32 }
    }
}

/// Numbers in -1..1 (xorshift).
fn noise(mut seed: u32, count: usize) -> Vec<f32> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Runs a kernel and compares.
///
/// # Errors
/// [`NnError::Device`] if the card fails, or computes something else.
pub fn prove(card: &Card, kind: &Kind, kernel: &Kernel) -> Result<(), NnError> {
    let (shuffle, colours) = kind.result.unwrap_or((1, 0));
    let outputs = if kind.result.is_some() { colours * shuffle * shuffle } else { kind.outputs };
    // All maps have whole pixels, and more than one tile is computed.
    let whole = |least: usize| {
        let fits = |side: &usize| {
            side.is_multiple_of(kind.upsampled) && kind.adds.iter().all(|add| (side * shuffle).is_multiple_of(*add))
        };
        (least..).find(fits).unwrap_or(least)
    };
    let (width, height) = (whole(17), whole(9));
    let (across, down) = (width * shuffle, height * shuffle);
    let blocks = if kind.in_place { READ + outputs.div_ceil(BLOCK) } else { READ };
    let source = Map::noise(card, kind.store, (width / kind.upsampled, height / kind.upsampled), blocks, 1)?;
    let adds: Vec<Map> = (2..)
        .zip(&kind.adds)
        .map(|(seed, &up)| {
            let blocks = if kind.result.is_some() { colours } else { outputs }.div_ceil(BLOCK);
            Map::noise(card, kind.store, (across / up, down / up), blocks, seed)
        })
        .collect::<Result<_, _>>()?;
    let slope = Slope::Same(Millionths::new(SLOPE));
    let op = Op {
        conv: 0,
        from: 0,
        upsampled: kind.upsampled,
        inputs: vec![READ * BLOCK],
        outputs,
        slope,
        gain: GAIN,
        adds: Vec::new(),
        shuffle,
        to: Place { map: usize::from(!kind.in_place), block: 0 },
    };
    let weights: Vec<f32> = noise(9, outputs * READ * BLOCK * 9).iter().map(|weight| weight / 8.0).collect();
    let bias = noise(10, outputs);
    let upload = |bytes: &[u8]| {
        let buffer = card.buffer(bytes.len() as u64)?;
        card.write(&buffer, 0, bytes);
        Ok::<_, NnError>(buffer)
    };
    let filters = upload(&kind.pack_weights(&op, &weights))?;
    let floats = upload(&kind.pack_floats(&bias, &vec![SLOPE; outputs]))?;
    let (to, to_view, bytes) = match kind.result {
        Some(_) => (card.buffer((across * down * colours * 4) as u64)?, View::default(), across * down * colours * 4),
        None if kind.in_place => (source.buffer.clone(), source.view(READ), source.values.len() * kind.store.bytes()),
        None => {
            let map = Map::noise(card, kind.store, (width, height), outputs.div_ceil(BLOCK), 3)?;
            (map.buffer.clone(), map.view(0), map.values.len() * kind.store.bytes())
        }
    };
    let mut buffers = vec![(binding::WEIGHTS, &filters), (binding::FLOATS, &floats), (binding::TO, &to)];
    if !kind.in_place {
        buffers.push((binding::FROM, &source.buffer));
    }
    buffers.extend(adds.iter().zip(binding::ADDS).map(|(add, at)| (at, &add.buffer)));
    let mut job = Job {
        width: width as u32,
        height: height as u32,
        end: height as u32,
        blocks: READ as u32,
        outputs: outputs as u32,
        gain: GAIN,
        source: source.view(0),
        to: to_view,
        ..Job::default()
    };
    for (at, add) in adds.iter().enumerate() {
        (job.adds[at], job.gains[at]) = (add.view(0), ADDED[at]);
    }
    let mut batch = Batch::new();
    let groups = kind.groups(width as u32, height as u32, outputs);
    batch.run(&card.bind(kernel, &buffers), bytemuck::bytes_of(&job), groups);
    let staging = card.staging(bytes as u64)?;
    batch.copy((&to, 0), (&staging, 0), bytes as u64);
    let ticket = card.submit(batch)?;
    let result: Vec<f32> = card.read(&ticket, &staging, bytes as u64, |bytes| match (kind.result, kind.store) {
        (None, Store::F16) => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytemuck::pod_collect_to_vec(bytes),
    })?;

    let weight = |value: f32| match kind.store {
        Store::F16 => f16::from_f32(value).to_f64(),
        Store::F32 => f64::from(value),
    };
    let allowed = if kind.store == Store::F16 { OFF_F16 } else { OFF_F32 };
    for (y, x, output) in places(height, width, outputs) {
        let mut sum = f64::from(bias[output]);
        for tap in 0..9 {
            let (sy, sx) = ((y + tap / 3).wrapping_sub(1), (x + tap % 3).wrapping_sub(1));
            if sy < height && sx < width {
                for channel in 0..READ * BLOCK {
                    let value = source.values[source.at(sx / kind.upsampled, sy / kind.upsampled, channel)];
                    sum += f64::from(value) * weight(weights[(output * READ * BLOCK + channel) * 9 + tap]);
                }
            }
        }
        let mut expected = f64::from(GAIN) * if sum < 0.0 { f64::from(SLOPE) * sum } else { sum };
        let (square, colour) = (output % (shuffle * shuffle), output / (shuffle * shuffle));
        let (ty, tx) = (y * shuffle + square / shuffle, x * shuffle + square % shuffle);
        for ((add, &up), gain) in adds.iter().zip(&kind.adds).zip(ADDED) {
            expected += f64::from(gain * add.values[add.at(tx / up, ty / up, colour)]);
        }
        let at = match kind.result {
            Some(_) => (ty * across + tx) * colours + colour,
            None => {
                let (first, blocks) = if kind.in_place { (READ, blocks) } else { (0, outputs.div_ceil(BLOCK)) };
                ((y * blocks + first + output / BLOCK) * width + x) * BLOCK + output % BLOCK
            }
        };
        let got = f64::from(result[at]);
        // What is not a number is not near anything.
        let near = (got - expected).abs() <= allowed * expected.abs().max(1.0);
        if !near {
            return Err(NnError::Device(format!("its self-test gave {got:.4} instead of {expected:.4}")));
        }
    }
    Ok(())
}

fn places(height: usize, width: usize, outputs: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..height).flat_map(move |y| (0..width).flat_map(move |x| (0..outputs).map(move |output| (y, x, output))))
}
