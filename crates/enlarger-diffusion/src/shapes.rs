//! What shapes operations take and give. Shapes come from files, so they are checked where they meet; all devices ask here.

use crate::{
    error::{Error, Result},
    ops::Padding,
};

/// Refuses shapes that do not fit.
pub(crate) fn fit(fits: bool, what: &str, shapes: &[&[usize]]) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::Weights(format!("the shapes of {what} do not fit: {shapes:?}"))) }
}

/// Outputs, inputs and the kernel's height and width of a layer's weights, `[out, in]` or `[out, in, height, width]`, with a bias of
/// so many values.
pub(crate) fn layer(shape: &[usize], bias: Option<usize>) -> Result<(usize, usize, [usize; 2])> {
    let (outputs, inputs, kernel) = match *shape {
        [out, inputs] => (out, inputs, [1, 1]),
        [out, inputs, height, width] => (out, inputs, [height, width]),
        _ => return Err(Error::Weights(format!("a layer's weights have the shape {shape:?}"))),
    };
    if shape.contains(&0) || bias.is_some_and(|bias| bias != outputs) {
        return Err(Error::Weights(format!("a layer of {outputs} outputs has weights or a bias of another size")));
    }
    Ok((outputs, inputs, kernel))
}

/// The result of a convolution by weights `[outputs, inputs, height, width]`: its shape, and the pixels of zeros above and to the left.
pub(crate) fn conv(x: &[usize; 4], w: [usize; 4], stride: usize, padding: Padding) -> Result<([usize; 4], [usize; 2])> {
    let [batch, height, width, channels] = *x;
    let [outputs, inputs, kh, kw] = w;
    let (before, around) = match padding {
        Padding::Around => ([(kh - 1) / 2, (kw - 1) / 2], 2),
        Padding::After => ([0, 0], 1),
    };
    let fits = |size: usize, before: usize, k: usize| k % 2 == 1 && size + before >= k.div_ceil(2);
    let fits = channels == inputs && stride > 0 && fits(height, before[0], kh) && fits(width, before[1], kw);
    fit(fits, "a convolution", &[x, &w])?;
    let size = |size: usize, k: usize| (size + around * ((k - 1) / 2) - k) / stride + 1;
    Ok(([batch, size(height, kh), size(width, kw), outputs], before))
}

pub(crate) fn linear(x: &[usize; 4], w: [usize; 4]) -> Result<()> {
    fit(x[3] == w[1] && w[2..] == [1, 1], "a linear layer", &[x, &w])
}

/// A 3x3 convolution whose result is as large as its source, and has the shape of what is added.
pub(crate) fn same_conv(x: &[usize; 4], w: [usize; 4], add: Option<&[usize; 4]>) -> Result<()> {
    let [batch, height, width, channels] = *x;
    let fits = w[1..] == [channels, 3, 3] && add.is_none_or(|add| *add == [batch, height, width, w[0]]);
    fit(fits, "a convolution", &[x, &w])
}

pub(crate) fn group_norm(x: &[usize; 4], norm: usize, groups: usize) -> Result<()> {
    let [_, height, width, channels] = *x;
    let fits = norm == channels && groups > 0 && channels > 0 && channels % groups == 0;
    fit(fits && height * width > 0, "a group normalisation", &[x, &[norm]])
}

pub(crate) fn layer_norm(x: &[usize; 4], norm: usize) -> Result<()> {
    fit(norm == x[3] && norm > 0, "a layer normalisation", &[x, &[norm]])
}

pub(crate) fn attention(q: &[usize; 4], k: &[usize; 4], v: &[usize; 4], heads: usize) -> Result<()> {
    let fits = k == v && k[3] == q[3] && k[0] == q[0] && k[1] * k[2] > 0 && heads > 0 && q[3].is_multiple_of(heads);
    fit(fits, "an attention", &[q, k, v])
}

pub(crate) fn gate(x: &[usize; 4]) -> Result<()> {
    fit(x[3] >= 2 && x[3].is_multiple_of(2), "a gate", &[x])
}

pub(crate) fn sum(a: &[usize; 4], b: &[usize; 4]) -> Result<()> {
    let fits = |axis: usize| b[axis] == a[axis] || b[axis] == 1;
    fit((0..3).all(fits) && b[3] == a[3] && a[3] > 0, "a sum", &[a, b])
}

pub(crate) fn concat(a: &[usize; 4], b: &[usize; 4]) -> Result<()> {
    fit(a[..3] == b[..3] && a[3] > 0 && b[3] > 0, "a concatenation", &[a, b])
}

pub(crate) fn double(x: &[usize; 4]) -> Result<()> {
    fit(x[2] > 0 && x[3] > 0, "a picture to enlarge", &[x])
}
