//! Operations on tensors on a card, for networks that are no graphs of convolutions. [`crate::dense`] has those of the CPU.
//!
//! Operations are prepared in order and run when enough have come together, or when values are asked for. Values and weights are
//! 16-bit floats or f32, sums f32. Channels are in fours: a tensor of 3 channels has room for 4.

mod memory;
pub(super) mod proof;
#[cfg(test)]
mod tests;
mod text;
mod work;

use std::{
    collections::HashMap,
    fmt::{Debug, Formatter},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use self::{
    memory::{Held, Memory},
    text::{DEPTH, FIELDS, Kind, PIXELS, SLICE, SPAN, THREADS, outputs, parts},
    work::Work,
};
pub use super::budget::Share;
use super::{card::Kernel, engine::Engine, kernel::Store};
use crate::error::NnError;

/// What values of a tensor are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// 16-bit floats.
    Half,
    /// 32-bit floats.
    Full,
}

impl Width {
    fn store(self) -> Store {
        match self {
            Self::Half => Store::F16,
            Self::Full => Store::F32,
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        self.store().bytes()
    }
}

/// A card's operations on tensors. Several threads may use it at once.
pub struct Tensors {
    engine: Arc<Engine>,
    memory: Arc<Memory>,
    work: Mutex<Work>,
    kernels: Mutex<HashMap<Kind, State>>,
    /// When a kernel was tested.
    tested: Condvar,
    /// What makes kernels' texts.
    text: fn(&Kind) -> String,
    /// What tests a kernel before its first use.
    prove: fn(&Self, Kind) -> Result<(), NnError>,
}

enum State {
    Testing(Kernel, ThreadId),
    Proven(Kernel),
}

impl Debug for Tensors {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tensors")
    }
}

/// `[batch, height, width, channels]` on a card. A clone is a reference.
#[derive(Clone)]
pub struct Tensor {
    /// Batch, height, width and channels.
    pub shape: [usize; 4],
    width: Width,
    held: Arc<Held>,
}

/// Weights of a convolution or a linear layer, and biases.
pub struct Filters {
    weights: Held,
    bias: Held,
    store: Store,
    wide: bool,
    /// Channels of the result.
    pub outputs: usize,
    /// Channels of the source.
    pub inputs: usize,
    /// Sides of its square.
    pub kernel: usize,
}

/// Scale and shift of a normalisation.
pub struct Affine {
    held: Held,
    /// How many channels it is for.
    pub channels: usize,
}

/// A convolution of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Pixels of the source from one of the result to the next.
    pub stride: usize,
    /// Pixels of zeros above and to the left.
    pub before: usize,
    /// Pixels of zeros on both sides together.
    pub around: usize,
    /// Whether each pixel of the source counts as four.
    pub doubled: bool,
}

impl Walk {
    /// One that keeps the size.
    pub fn around(kernel: usize) -> Self {
        Self { stride: 1, before: (kernel - 1) / 2, around: kernel - 1, doubled: false }
    }
}

/// Functions of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// x sigmoid(x).
    Silu,
    /// x Phi(x).
    Gelu,
    /// x sigmoid(1.702 x).
    QuickGelu,
}

fn fours(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// Groups of threads of which each computes a four.
fn groups(fours: usize) -> [u32; 3] {
    [fours.div_ceil(THREADS as usize) as u32, 1, 1]
}

/// Operations that moving a four of values counts as.
const MOVE: f64 = 64.0;

impl Tensor {
    fn pixels(&self) -> usize {
        self.shape[..3].iter().product()
    }

    fn fours(&self) -> usize {
        self.pixels() * fours(self.shape[3])
    }

    /// # Errors
    /// [`NnError::Device`] if a part of the channels does not begin with a four.
    fn whole(channels: usize) -> Result<u32, NnError> {
        if channels.is_multiple_of(4) {
            Ok((channels / 4) as u32)
        } else {
            Err(NnError::Device(format!("its kernels work on channels in fours, not on {channels}")))
        }
    }
}

impl Tensors {
    /// `prove` tests a kernel before its first use.
    pub(super) fn new(engine: Arc<Engine>, prove: fn(&Self, Kind) -> Result<(), NnError>) -> Self {
        let memory = Arc::new(Memory::new(engine.clone()));
        let work = Mutex::new(Work::new());
        Self { engine, memory, work, kernels: Mutex::default(), tested: Condvar::new(), text: Kind::text, prove }
    }

    /// What values are kept in as the user asks for it.
    pub fn width(&self) -> Width {
        if self.engine.store == Store::F16 { Width::Half } else { Width::Full }
    }

    /// Bytes of the card's memory that may be used, by upscaling networks, too.
    pub fn budget(&self) -> u64 {
        self.engine.budget.bytes
    }

    /// What the networks that are on the card need of it to run.
    pub fn networks(&self) -> u64 {
        self.engine.budget.for_networks()
    }

    /// Leaves so many bytes for tensors, until the result is dropped: networks take what is left.
    pub fn reserve(&self, bytes: u64) -> Share {
        self.engine.budget.reserve(bytes)
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.memory.peak()
    }

    /// Gives memory back that is kept for further tensors.
    pub fn trim(&self) {
        self.memory.trim();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel, compiled and tested when it is first needed.
    fn kernel(&self, kind: Kind) -> Result<Kernel, NnError> {
        let lock = || self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kernels = lock();
        loop {
            match kernels.get(&kind) {
                Some(State::Proven(kernel)) => return Ok(kernel.clone()),
                // The test itself uses it.
                Some(State::Testing(kernel, by)) if *by == thread::current().id() => return Ok(kernel.clone()),
                Some(State::Testing(..)) => {
                    kernels = self.tested.wait(kernels).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        let kernel = self.engine.card.compile(&(self.text)(&kind))?;
        kernels.insert(kind, State::Testing(kernel.clone(), thread::current().id()));
        drop(kernels);
        let proven = (self.prove)(self, kind);
        let mut kernels = lock();
        kernels.remove(&kind);
        if proven.is_ok() {
            kernels.insert(kind, State::Proven(kernel.clone()));
        }
        self.tested.notify_all();
        proven.map(|()| kernel)
    }

    fn run(&self, kind: Kind, buffers: &[&Held], fields: &[u32], groups: [u32; 3], flops: f64) -> Result<(), NnError> {
        let kernel = self.kernel(kind)?;
        let buffers: Vec<_> = (0..).zip(buffers).map(|(at, held)| (at, &held.buffer)).collect();
        let bound = self.engine.card.bind(&kernel, &buffers);
        let mut job = [0; FIELDS];
        job[1..=fields.len()].copy_from_slice(fields);
        self.work().run(&self.engine.card, &bound, &mut job, groups, flops)
    }

    fn tensor(&self, shape: [usize; 4], width: Width) -> Result<Tensor, NnError> {
        let fours = shape[..3].iter().try_fold(fours(shape[3]), |a, &b| a.checked_mul(b));
        // Places are 32 bits wide.
        let fours = fours.filter(|&fours| fours < 1 << 30).ok_or(NnError::Memory { bytes: usize::MAX })?;
        Ok(Tensor { shape, width, held: Arc::new(self.memory.take((fours * 4 * width.bytes()) as u64, true)?) })
    }

    fn write(&self, to: &Held, bytes: &[u8]) -> Result<(), NnError> {
        self.work().write(&self.engine.card, &to.buffer, bytes)
    }

    fn fixed(&self, bytes: &[u8]) -> Result<Held, NnError> {
        let held = self.memory.take(bytes.len() as u64, false)?;
        self.write(&held, bytes)?;
        Ok(held)
    }

    /// Values to the card.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails, [`NnError::DeviceMemory`] beyond its budget, as all operations.
    pub fn upload(&self, shape: [usize; 4], values: &[f32], width: Width) -> Result<Tensor, NnError> {
        let tensor = self.tensor(shape, width)?;
        let channels = shape[3];
        let bytes = if channels.is_multiple_of(4) {
            width.store().pack(values)
        } else {
            let mut padded = vec![0.0; 4 * tensor.fours()];
            let to = padded.chunks_exact_mut(4 * fours(channels));
            to.zip(values.chunks_exact(channels)).for_each(|(to, from)| to[..channels].copy_from_slice(from));
            width.store().pack(&padded)
        };
        self.write(&tensor.held, &bytes)?;
        Ok(tensor)
    }

    /// Values from the card, once all work for them is done.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn download(&self, x: &Tensor) -> Result<Vec<f32>, NnError> {
        let bytes = (4 * x.fours() * x.width.bytes()) as u64;
        let staging = self.engine.card.staging(bytes)?;
        let ticket = self.work().fetch(&self.engine.card, &x.held.buffer, &staging, bytes)?;
        let values = self.engine.card.read(&ticket, &staging, bytes, |bytes| match x.width {
            Width::Half => {
                let halves: &[u16] = bytemuck::cast_slice(bytes);
                halves.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect::<Vec<f32>>()
            }
            Width::Full => bytemuck::pod_collect_to_vec(bytes),
        })?;
        let channels = x.shape[3];
        if channels.is_multiple_of(4) {
            return Ok(values);
        }
        Ok(values.chunks_exact(4 * fours(channels)).flat_map(|pixel| &pixel[..channels]).copied().collect())
    }

    /// Weights `[outputs][inputs][kernel][kernel]`, kept in 16 bits or in full, and biases. `widen` fills a slice with the weights from
    /// a place on.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn filters(
        &self,
        [outputs, inputs, kernel]: [usize; 3],
        width: Width,
        widen: &(dyn Fn(usize, &mut [f32]) + Sync),
        bias: Option<&[f32]>,
    ) -> Result<Filters, NnError> {
        let (store, wide) = (width.store(), outputs > 4 * text::outputs(false) as usize);
        let weights = self.fixed(&packed([outputs, inputs, kernel], store, wide, widen))?;
        let mut biases = bias.map_or_else(|| vec![0.0; outputs], <[f32]>::to_vec);
        biases.resize(4 * fours(outputs), 0.0);
        let bias = self.fixed(bytemuck::cast_slice(&biases))?;
        Ok(Filters { weights, bias, store, wide, outputs, inputs, kernel })
    }

    /// Scale and shift, which are as many as channels.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn affine(&self, scale: &[f32], shift: &[f32]) -> Result<Affine, NnError> {
        let mut both = Vec::new();
        for values in [scale, shift] {
            both.extend_from_slice(values);
            both.resize(both.len().next_multiple_of(4), 0.0);
        }
        Ok(Affine { held: self.fixed(bytemuck::cast_slice(&both))?, channels: scale.len() })
    }

    /// A convolution, and the sum with `add`, of the result's shape.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn conv(&self, x: &Tensor, w: &Filters, walk: Walk, add: Option<&Tensor>) -> Result<Tensor, NnError> {
        let [batch, height, width, _] = x.shape;
        let times = 1 + usize::from(walk.doubled);
        let result = |size: usize| (size * times + walk.around - w.kernel) / walk.stride + 1;
        let to = self.tensor([batch, result(height), result(width), w.outputs], x.width)?;
        let (channels, made) = (fours(w.inputs), fours(w.outputs));
        let fields = [
            to.pixels(),
            to.shape[2],
            to.shape[1],
            width * times,
            height * times,
            channels,
            made,
            w.kernel,
            walk.stride,
            walk.before,
            usize::from(walk.doubled),
            usize::from(add.is_some()),
        ];
        let kind = Kind::Conv { wide: w.wide, store: x.width.store(), weights: w.store };
        let tiles = [to.pixels().div_ceil(PIXELS as usize) as u32, made.div_ceil(outputs(w.wide) as usize) as u32, 1];
        let flops = 2.0 * (to.pixels() * w.kernel * w.kernel * w.inputs * w.outputs) as f64;
        let buffers = [&*x.held, &w.weights, &w.bias, &*add.unwrap_or(x).held, &*to.held];
        self.run(kind, &buffers, &fields.map(|field| field as u32), tiles, flops)?;
        Ok(to)
    }

    /// Normalises groups of channels over each picture, and applies SiLU if asked for.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn group_norm(&self, x: &Tensor, n: &Affine, number: usize, eps: f32, silu: bool) -> Result<Tensor, NnError> {
        let [batch, height, width, channels] = x.shape;
        let (area, store) = (height * width, x.width.store());
        let (count, slices) = (fours(channels), area.div_ceil(SLICE as usize));
        let moments = self.memory.take((2 * batch * slices * count * 16) as u64, true)?;
        let each = batch * slices * count;
        let fields = [each, count, slices, area].map(|field| field as u32);
        self.run(Kind::Moments(store), &[&x.held, &moments], &fields, groups(each), MOVE * x.fours() as f64)?;
        let factors = self.memory.take((2 * batch * count * 16) as u64, true)?;
        let fields = [channels as u32, number as u32, slices as u32, area as u32, eps.to_bits()];
        let all = [(batch * number) as u32, 1, 1];
        self.run(Kind::Factors, &[&moments, &n.held, &factors], &fields, all, MOVE * each as f64)?;
        let to = self.tensor(x.shape, x.width)?;
        let fields = [x.fours(), count, area, usize::from(silu)].map(|field| field as u32);
        let buffers = [&*x.held, &factors, &*to.held];
        self.run(Kind::Normalize(store), &buffers, &fields, groups(x.fours()), MOVE * x.fours() as f64)?;
        Ok(to)
    }

    /// Normalises the channels of each pixel or token.
    ///
    /// # Errors
    /// As [`Self::upload`]; [`NnError::Device`] if channels are not in fours.
    pub fn layer_norm(&self, x: &Tensor, n: &Affine, eps: f32) -> Result<Tensor, NnError> {
        let count = Tensor::whole(x.shape[3])?;
        let to = self.tensor(x.shape, x.width)?;
        let buffers = [&*x.held, &n.held, &*to.held];
        let all = [x.pixels() as u32, 1, 1];
        self.run(Kind::LayerNorm(x.width.store()), &buffers, &[count, eps.to_bits()], all, MOVE * x.fours() as f64)?;
        Ok(to)
    }

    /// softmax(q kᵀ / sqrt(width of a head)) v for each head, over all pixels; `causal` hides the later ones.
    ///
    /// # Errors
    /// As [`Self::upload`]; [`NnError::Device`] if the channels of a head are not in fours.
    pub fn attention(&self, [q, k, v]: [&Tensor; 3], heads: usize, causal: bool) -> Result<Tensor, NnError> {
        let [batch, height, width, channels] = q.shape;
        let (queries, keys) = (height * width, k.shape[1] * k.shape[2]);
        let each = channels / heads;
        let head = Tensor::whole(each)?;
        let to = self.tensor(q.shape, q.width)?;
        let scale = 1.0 / (each as f32).sqrt();
        let fields = [queries as u32, keys as u32, heads as u32, u32::from(causal), scale.to_bits()];
        let all = [queries.div_ceil(SPAN as usize) as u32, heads as u32 * parts(head), batch as u32];
        let scores = 2.0 * (batch * queries * keys * channels) as f64;
        let flops = scores * f64::from(parts(head) + 1);
        let kind = Kind::Attention { width: head, store: q.width.store() };
        self.run(kind, &[&q.held, &k.held, &v.held, &to.held], &fields, all, flops)?;
        Ok(to)
    }

    /// A function of each value.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn activate(&self, x: &Tensor, function: Function) -> Result<Tensor, NnError> {
        let to = self.tensor(x.shape, x.width)?;
        let fields = [x.fours() as u32, function as u32];
        let flops = MOVE * x.fours() as f64;
        self.run(Kind::Activate(x.width.store()), &[&x.held, &to.held], &fields, groups(x.fours()), flops)?;
        Ok(to)
    }

    /// The first half of the channels times GELU of the second.
    ///
    /// # Errors
    /// As [`Self::upload`]; [`NnError::Device`] if a half is not in fours.
    pub fn gate(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let [batch, height, width, channels] = x.shape;
        let half = Tensor::whole(channels / 2)?;
        let to = self.tensor([batch, height, width, channels / 2], x.width)?;
        let flops = MOVE * x.fours() as f64;
        let fields = [to.fours() as u32, half];
        self.run(Kind::Gate(x.width.store()), &[&x.held, &to.held], &fields, groups(to.fours()), flops)?;
        Ok(to)
    }

    /// `a + scale * b`. An axis of `b` that is 1 long counts for all of `a`'s.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor, NnError> {
        let to = self.tensor(a.shape, a.width)?;
        let step = |axis: usize, step: usize| if b.shape[axis] == 1 { 0 } else { step as u32 };
        let fields = [
            a.fours() as u32,
            fours(a.shape[3]) as u32,
            a.shape[2] as u32,
            a.shape[1] as u32,
            scale.to_bits(),
            step(2, 1),
            step(1, b.shape[2]),
            step(0, b.shape[1] * b.shape[2]),
        ];
        let flops = MOVE * a.fours() as f64;
        self.run(Kind::Add(a.width.store()), &[&a.held, &b.held, &to.held], &fields, groups(a.fours()), flops)?;
        Ok(to)
    }

    /// The channels of `b` after those of `a`.
    ///
    /// # Errors
    /// As [`Self::upload`]; [`NnError::Device`] if `a`'s channels are not in fours.
    pub fn concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, NnError> {
        let [batch, height, width, first] = a.shape;
        let one = Tensor::whole(first)?;
        let to = self.tensor([batch, height, width, first + b.shape[3]], a.width)?;
        let fields = [to.fours() as u32, one, fours(b.shape[3]) as u32];
        let flops = MOVE * to.fours() as f64;
        self.run(Kind::Concat(a.width.store()), &[&a.held, &b.held, &to.held], &fields, groups(to.fours()), flops)?;
        Ok(to)
    }

    /// Each pixel four times: twice as wide and high.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn double(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let [batch, height, width, channels] = x.shape;
        let to = self.tensor([batch, 2 * height, 2 * width, channels], x.width)?;
        let fields = [to.fours() as u32, fours(channels) as u32, width as u32];
        let flops = MOVE * to.fours() as f64;
        self.run(Kind::Double(x.width.store()), &[&x.held, &to.held], &fields, groups(to.fours()), flops)?;
        Ok(to)
    }

    /// Loses the card, as a driver that crashes does.
    #[cfg(test)]
    fn lose(&self) {
        self.engine.card.lose();
    }
}

/// Weights as kernels read them: `[tiles of outputs][taps][blocks of inputs][inputs of a block][outputs of a tile]`.
fn packed(
    [outputs, inputs, kernel]: [usize; 3],
    store: Store,
    wide: bool,
    widen: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Vec<u8> {
    let (tile, block, taps) = (4 * text::outputs(wide) as usize, 4 * DEPTH as usize, kernel * kernel);
    let blocks = inputs.div_ceil(block);
    let size = taps * blocks * block * tile;
    let mut all = vec![0; outputs.div_ceil(tile) * size * store.bytes()];
    all.par_chunks_exact_mut(size * store.bytes()).enumerate().for_each(|(at, to)| {
        let (mut packed, mut row) = (vec![0.0; size], vec![0.0; inputs * taps]);
        for output in at * tile..((at + 1) * tile).min(outputs) {
            widen(output * inputs * taps, &mut row);
            for (input, values) in row.chunks_exact(taps).enumerate() {
                for (tap, &value) in values.iter().enumerate() {
                    packed[((tap * blocks + input / block) * block + input % block) * tile + output % tile] = value;
                }
            }
        }
        match store {
            Store::F32 => to.copy_from_slice(bytemuck::cast_slice(&packed)),
            Store::F16 => {
                let mut halves = vec![f16::ZERO; size];
                halves.convert_from_f32_slice(&packed);
                to.chunks_exact_mut(2).zip(&halves).for_each(|(to, half)| to.copy_from_slice(&half.to_le_bytes()));
            }
        }
    });
    all
}
