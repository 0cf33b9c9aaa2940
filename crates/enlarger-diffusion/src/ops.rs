//! The operations that the networks are made of. A device implements them; networks know nothing else of it.

use crate::{array::Array, error::Result};

/// How a convolution sees the pixels around the picture, which count as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `(kernel - 1) / 2` pixels on each side.
    Around,
    /// `(kernel - 1) / 2` pixels to the right and below only, as the VAE encoder reduces.
    After,
}

/// Functions of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x sigmoid(x).
    Silu,
    /// x Phi(x), by the error function, not its tanh approximation.
    Gelu,
    /// x sigmoid(1.702 x), of OpenAI's CLIP.
    QuickGelu,
}

/// Operations on a device, each finished when it returns.
///
/// Tensors are `[batch, height, width, channels]`, channels varying fastest; a text is one row whose width is its tokens.
/// Values are 32 bits wide outside; inside, a device may use fewer. An implementation that is cancelled answers
/// [`Error::Cancelled`](crate::Error::Cancelled) from its next operation on, and one without memory
/// [`Error::Memory`](crate::Error::Memory). Shapes come from files: those that do
/// not fit each other are [`Error::Weights`](crate::Error::Weights), never a panic.
pub trait Ops: Send + Sync {
    /// Values on the device. A clone is a reference.
    type Tensor: Clone + Send + Sync;
    /// Weights of a convolution or a linear layer, in the form that the device multiplies by, with the bias.
    type Weights: Send + Sync;
    /// Scale and shift of a normalisation.
    type Norm: Send + Sync;

    /// Values to the device.
    ///
    /// # Errors
    /// Like all operations: memory, cancelled.
    fn upload(&self, shape: [usize; 4], values: &[f32]) -> Result<Self::Tensor>;
    /// Values from the device.
    ///
    /// # Errors
    /// As above.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// The shape of a tensor.
    fn shape(&self, x: &Self::Tensor) -> [usize; 4];
    /// Takes weights, linear `[out, in]` or convolution `[out, in, height, width]`, and a bias `[out]`.
    ///
    /// # Errors
    /// As above.
    fn weights(&self, weight: Array, bias: Option<&Array>) -> Result<Self::Weights>;
    /// Takes scale and shift, `[channels]` each.
    ///
    /// # Errors
    /// As above.
    fn norm(&self, scale: &Array, shift: &Array) -> Result<Self::Norm>;

    /// A convolution. The result has `(size + padding - kernel) / stride + 1` rows and columns.
    ///
    /// # Errors
    /// As above.
    fn conv(&self, x: &Self::Tensor, w: &Self::Weights, stride: usize, padding: Padding) -> Result<Self::Tensor>;
    /// A linear layer on the channels of each pixel or token.
    ///
    /// # Errors
    /// As above.
    fn linear(&self, x: &Self::Tensor, w: &Self::Weights) -> Result<Self::Tensor>;
    /// Normalises each group of channels over the picture: `(x - mean) / sqrt(variance + epsilon) * scale + shift`, and SiLU
    /// if asked for.
    ///
    /// # Errors
    /// As above.
    fn group_norm(&self, x: &Self::Tensor, n: &Self::Norm, groups: usize, eps: f32, silu: bool)
    -> Result<Self::Tensor>;
    /// Normalises the channels of each pixel or token.
    ///
    /// # Errors
    /// As above.
    fn layer_norm(&self, x: &Self::Tensor, n: &Self::Norm, eps: f32) -> Result<Self::Tensor>;
    /// softmax(q kᵀ / sqrt(channels / heads)) v for each head, over all pixels or tokens; `causal` hides the later ones. A
    /// device never holds the whole matrix of scores.
    ///
    /// # Errors
    /// As above.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        heads: usize,
        causal: bool,
    ) -> Result<Self::Tensor>;
    /// A function of each value.
    ///
    /// # Errors
    /// As above.
    fn activate(&self, x: &Self::Tensor, activation: Activation) -> Result<Self::Tensor>;
    /// The first half of the channels times GELU of the second half.
    ///
    /// # Errors
    /// As above.
    fn geglu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// `a + scale * b`. An axis of `b` that is 1 long counts for all of `a`'s.
    ///
    /// # Errors
    /// As above.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor, scale: f32) -> Result<Self::Tensor>;
    /// The channels of `b` after those of `a`.
    ///
    /// # Errors
    /// As above.
    fn concat(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;
    /// Each pixel four times: twice as wide and high.
    ///
    /// # Errors
    /// As above.
    fn double(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// A 3x3 convolution of the picture that [`Self::group_norm`] with SiLU gives, and the sum with `add`, of the result's shape. A
    /// device may do all at once.
    ///
    /// # Errors
    /// As above.
    fn norm_conv(
        &self,
        x: &Self::Tensor,
        n: &Self::Norm,
        groups: usize,
        eps: f32,
        w: &Self::Weights,
        add: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor> {
        let sum = self.conv(&self.group_norm(x, n, groups, eps, true)?, w, 1, Padding::Around)?;
        add.map_or(Ok(sum.clone()), |add| self.add(&sum, add, 1.0))
    }
    /// A 3x3 convolution of the picture that [`Self::double`] gives. A device may do both at once.
    ///
    /// # Errors
    /// As above.
    fn double_conv(&self, x: &Self::Tensor, w: &Self::Weights) -> Result<Self::Tensor> {
        self.conv(&self.double(x)?, w, 1, Padding::Around)
    }
}
