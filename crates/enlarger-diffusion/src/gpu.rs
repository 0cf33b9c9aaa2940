//! The operations on a GPU, in 16-bit floats or f32 with sums in f32, by the kernels of `enlarger-nn`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use enlarger_nn::devices::gpu::tensors::{Affine, Filters, Function, Tensor, Tensors, Walk, Width};

use crate::{
    array::{Array, Values},
    bundle::Costs,
    error::{Error, Result},
    ops::{Activation, Ops, Padding},
    shapes,
};

/// A GPU. Clones share it.
#[derive(Debug, Clone)]
pub struct Gpu {
    tensors: Arc<Tensors>,
    cancelled: Arc<AtomicBool>,
    width: Width,
}

impl Gpu {
    /// Operations that stop with [`Error::Cancelled`] once the flag is set, in the precision that was asked for.
    pub fn cancelled_by(tensors: Arc<Tensors>, cancelled: Arc<AtomicBool>) -> Self {
        let width = tensors.width();
        Self { tensors, cancelled, width }
    }

    /// The same with values in 32 bits, if they were not: it takes the same weights.
    pub fn wider(&self) -> Option<Self> {
        (self.width == Width::Half).then(|| Self { width: Width::Full, ..self.clone() })
    }

    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Eighths of the bytes that maps are counted with: buffers are reused when they are a little too large, and kernels write to others than
/// they read from.
const MAPS_EIGHTHS: u64 = 12;

/// Bytes of a GPU's memory that networks need.
pub fn need(tensors: &Tensors, costs: &Costs) -> u64 {
    let weights = match tensors.width() {
        Width::Half => 2 * costs.parameters,
        Width::Full => costs.loaded.max(2 * costs.parameters),
    };
    weights + costs.maps / 4 * tensors.width().bytes() as u64 / 8 * MAPS_EIGHTHS
}

fn shape(w: &Filters) -> [usize; 4] {
    [w.outputs, w.inputs, w.kernel, w.kernel]
}

impl Ops for Gpu {
    type Tensor = Tensor;
    type Weights = Filters;
    type Norm = Affine;

    fn upload(&self, shape: [usize; 4], values: &[f32]) -> Result<Tensor> {
        self.go_on()?;
        shapes::fit(shape.iter().product::<usize>() == values.len(), "an upload", &[&shape, &[values.len()]])?;
        Ok(self.tensors.upload(shape, values, self.width)?)
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.go_on()?;
        Ok(self.tensors.download(x)?)
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn weights(&self, weight: Array, bias: Option<&Array>) -> Result<Filters> {
        self.go_on()?;
        let (outputs, inputs, kernel) = shapes::layer(&weight.shape, bias.map(Array::len))?;
        let [height, width] = kernel;
        shapes::fit(height == width, "a layer's weights", &[&weight.shape])?;
        // Those of files in 16 or 8 bits lose nothing in 16.
        let whole = self.width == Width::Full && matches!(weight.values, Values::F32(_) | Values::Bf16(_));
        let kept = if whole { Width::Full } else { Width::Half };
        let bias = bias.map(Array::to_f32).transpose()?;
        let widen = |from: usize, to: &mut [f32]| weight.widen(from, to);
        Ok(self.tensors.filters([outputs, inputs, height], kept, &widen, bias.as_deref())?)
    }

    fn norm(&self, scale: &Array, shift: &Array) -> Result<Affine> {
        self.go_on()?;
        shapes::fit(scale.len() == shift.len(), "a normalisation", &[&scale.shape, &shift.shape])?;
        Ok(self.tensors.affine(&scale.to_f32()?, &shift.to_f32()?)?)
    }

    fn conv(&self, x: &Tensor, w: &Filters, stride: usize, padding: Padding) -> Result<Tensor> {
        self.go_on()?;
        let (_, [before, _]) = shapes::conv(&x.shape, shape(w), stride, padding)?;
        let around = if padding == Padding::Around { w.kernel - 1 } else { (w.kernel - 1) / 2 };
        Ok(self.tensors.conv(x, w, Walk { stride, before, around, doubled: false }, None)?)
    }

    fn linear(&self, x: &Tensor, w: &Filters) -> Result<Tensor> {
        self.go_on()?;
        shapes::linear(&x.shape, shape(w))?;
        Ok(self.tensors.conv(x, w, Walk::around(1), None)?)
    }

    fn group_norm(&self, x: &Tensor, n: &Affine, groups: usize, eps: f32, silu: bool) -> Result<Tensor> {
        self.go_on()?;
        shapes::group_norm(&x.shape, n.channels, groups)?;
        Ok(self.tensors.group_norm(x, n, groups, eps, silu)?)
    }

    fn layer_norm(&self, x: &Tensor, n: &Affine, eps: f32) -> Result<Tensor> {
        self.go_on()?;
        shapes::layer_norm(&x.shape, n.channels)?;
        Ok(self.tensors.layer_norm(x, n, eps)?)
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        self.go_on()?;
        shapes::attention(&q.shape, &k.shape, &v.shape, heads)?;
        Ok(self.tensors.attention([q, k, v], heads, causal)?)
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.go_on()?;
        let function = match activation {
            Activation::Silu => Function::Silu,
            Activation::Gelu => Function::Gelu,
            Activation::QuickGelu => Function::QuickGelu,
        };
        Ok(self.tensors.activate(x, function)?)
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        self.go_on()?;
        shapes::gate(&x.shape)?;
        Ok(self.tensors.gate(x)?)
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        self.go_on()?;
        shapes::sum(&a.shape, &b.shape)?;
        Ok(self.tensors.add(a, b, scale)?)
    }

    fn concat(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.go_on()?;
        shapes::concat(&a.shape, &b.shape)?;
        Ok(self.tensors.concat(a, b)?)
    }

    fn double(&self, x: &Tensor) -> Result<Tensor> {
        self.go_on()?;
        shapes::double(&x.shape)?;
        Ok(self.tensors.double(x)?)
    }

    fn norm_conv(
        &self,
        x: &Tensor,
        n: &Affine,
        groups: usize,
        eps: f32,
        w: &Filters,
        add: Option<&Tensor>,
    ) -> Result<Tensor> {
        shapes::same_conv(&x.shape, shape(w), add.map(|add| &add.shape))?;
        let normed = self.group_norm(x, n, groups, eps, true)?;
        Ok(self.tensors.conv(&normed, w, Walk::around(3), add)?)
    }

    fn double_conv(&self, x: &Tensor, w: &Filters) -> Result<Tensor> {
        self.go_on()?;
        shapes::same_conv(&x.shape, shape(w), None)?;
        shapes::double(&x.shape)?;
        Ok(self.tensors.conv(x, w, Walk { doubled: true, ..Walk::around(3) }, None)?)
    }
}
