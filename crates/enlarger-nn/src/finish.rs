//! What follows a convolution: bias, activation, residuals, and the way back into feature maps.

use crate::kernels::{Conv, Element, Isa};

/// What is done with a convolution's output `v` after bias and activation.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// `v * gain`.
    pub gain: f32,
    /// Then the trunk's old value is added, if it is written at all.
    pub accumulate: bool,
    /// Then, `v * gain` plus this, rows of the trunk's layout.
    pub outer: Option<&'a [f32]>,
}

impl Finish<'_> {
    /// Nothing but bias and activation.
    pub const PLAIN: Finish<'static> = Finish { gain: 1.0, accumulate: false, outer: None };
}

/// One row: `sums` is `[x][padded outputs]`; `map` a row of a feature map from its first real pixel on; `trunk` and
/// `outer` rows of `[x][outputs]`.
pub struct Row<'a, T> {
    pub sums: &'a [f32],
    pub map: Option<&'a mut [T]>,
    pub map_channels: usize,
    pub trunk: Option<&'a mut [f32]>,
    pub outer: Option<&'a [f32]>,
}

/// Finishes a row of `width` pixels.
pub fn row<T: Element>(isa: Isa, conv: &Conv<T>, finish: &Finish<'_>, width: usize, row: Row<'_, T>) {
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: a backend is resolved only if the processor has its instruction set; AMX implies AVX-512.
        Isa::Avx512 | Isa::Amx => return unsafe { row_avx512(conv, finish, width, row) },
        // SAFETY: as above.
        Isa::Avx2 => return unsafe { row_avx2(conv, finish, width, row) },
        _ => {}
    }
    let _ = isa;
    body(conv, finish, width, row);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn row_avx512<T: Element>(conv: &Conv<T>, finish: &Finish<'_>, width: usize, row: Row<'_, T>) {
    body(conv, finish, width, row);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn row_avx2<T: Element>(conv: &Conv<T>, finish: &Finish<'_>, width: usize, row: Row<'_, T>) {
    body(conv, finish, width, row);
}

#[inline(always)]
fn body<T: Element>(conv: &Conv<T>, finish: &Finish<'_>, width: usize, row: Row<'_, T>) {
    let n = conv.outputs;
    let (bias, slope) = (&conv.bias[..n], &conv.slope[..n]);
    let mut values = [0.0f32; 256];
    let values = &mut values[..n];
    let Row { sums, mut map, map_channels, mut trunk, outer } = row;
    for x in 0..width {
        let sums = &sums[x * conv.padded_outputs..][..n];
        for i in 0..n {
            let v = sums[i] + bias[i];
            values[i] = v.max(0.0) + slope[i] * v.min(0.0);
        }
        if let Some(trunk) = trunk.as_deref_mut() {
            let old = &mut trunk[x * n..][..n];
            for i in 0..n {
                values[i] = values[i] * finish.gain + if finish.accumulate { old[i] } else { 0.0 };
            }
            if let Some(outer) = outer {
                let outer = &outer[x * n..][..n];
                for i in 0..n {
                    values[i] = values[i] * finish.gain + outer[i];
                }
            }
            old.copy_from_slice(values);
        }
        if let Some(map) = map.as_deref_mut() {
            let to = &mut map[x * map_channels..][..n];
            for i in 0..n {
                to[i] = T::from_f32(values[i]);
            }
        }
    }
}
