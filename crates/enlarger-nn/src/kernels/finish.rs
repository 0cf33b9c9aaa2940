//! What follows a convolution's sums: bias, activation, residuals, and the way into feature maps.

use super::{
    map::{Map, View},
    packed::GROUP,
    value::{Float, Value},
    vector::Vector,
};

/// Where a convolution's result goes, and what is added to it. The computed rows are those that the maps hold, the same
/// in both.
pub struct Output<'a, T: Value> {
    /// The result as the next convolution reads it.
    pub map: Option<&'a mut Map<T>>,
    /// The result in f32.
    pub wide: Option<&'a mut Map<f32>>,
    /// What is added: `v * gain + residual`, and then `v * gain + outer`.
    pub gain: f32,
    pub residual: Option<View<'a, T::Residual>>,
    pub outer: Option<View<'a, T::Residual>>,
}

impl<'a, T: Value> Output<'a, T> {
    /// Just bias and activation.
    pub fn map(map: &'a mut Map<T>) -> Self {
        Self { map: Some(map), wide: None, gain: 1.0, residual: None, outer: None }
    }

    /// Just bias and activation, in f32.
    pub fn wide(map: &'a mut Map<f32>) -> Self {
        Self { map: None, wide: Some(map), gain: 1.0, residual: None, outer: None }
    }
}

/// The held rows of a map that several threads write at different places.
struct Base<T> {
    first: *mut T,
    stride: usize,
    channels: usize,
}

impl<T: Copy + Default> Base<T> {
    fn new(map: Option<&mut Map<T>>) -> Self {
        map.map_or(Self { first: std::ptr::null_mut(), stride: 0, channels: 0 }, |map| Self {
            stride: map.stride(),
            channels: map.channels,
            // Past the border.
            first: map.rows_mut().as_mut_ptr().wrapping_add(map.channels),
        })
    }

    fn row(&self, y: usize) -> *mut T {
        // Wrapping, since there may be no map.
        self.first.wrapping_add(y * self.stride)
    }
}

/// An [`Output`] that tasks share.
pub struct Target<'a, T: Value> {
    bias: &'a [f32],
    slope: &'a [f32],
    pub start: usize,
    pub height: usize,
    pub width: usize,
    /// Outputs to store, a multiple of 16.
    pub outputs: usize,
    map: Base<T>,
    wide: Base<f32>,
    gain: f32,
    residual: Option<View<'a, T::Residual>>,
    outer: Option<View<'a, T::Residual>>,
}

// SAFETY: the pointers are into maps that are borrowed for 'a; tasks write different pixels of them, which
// `Target::put` asks of its callers.
unsafe impl<T: Value> Sync for Target<'_, T> {}

/// One row of a target.
pub struct Row<T: Value> {
    map: *mut T,
    wide: *mut f32,
    residual: *const T::Residual,
    outer: *const T::Residual,
}

impl<'a, T: Value> Target<'a, T> {
    /// For a convolution of `outputs` outputs; `bias` and `slope` are padded.
    pub fn new(outputs: usize, bias: &'a [f32], slope: &'a [f32], output: Output<'a, T>) -> Self {
        let Output { map, wide, gain, residual, outer } = output;
        let held = |rows: &std::ops::Range<usize>, width: usize| (rows.clone(), width);
        let (rows, width) = map
            .as_ref()
            .map(|m| held(&m.rows, m.width))
            .or_else(|| wide.as_ref().map(|m| held(&m.rows, m.width)))
            .expect("a result goes somewhere");
        let outputs = outputs.next_multiple_of(GROUP);
        if let Some(map) = &map {
            assert!(map.channels >= outputs);
        }
        if let Some(wide) = &wide {
            assert!(wide.channels >= outputs && wide.rows == rows && wide.width == width);
        }
        for view in residual.iter().chain(&outer) {
            assert!(view.channels >= outputs && view.width == width);
        }
        assert!(bias.len() >= outputs && slope.len() >= outputs);
        Self {
            bias,
            slope,
            start: rows.start,
            height: rows.len(),
            width,
            outputs,
            map: Base::new(map),
            wide: Base::new(wide),
            gain,
            residual,
            outer,
        }
    }

    /// The `y`th of the rows to compute.
    #[inline(always)]
    pub fn row(&self, y: usize) -> Row<T> {
        assert!(y < self.height);
        let at = (self.start + y) as isize;
        let residual = match &self.residual {
            Some(view) => view.row(at)[view.channels..].as_ptr(),
            None => std::ptr::null(),
        };
        let outer = match &self.outer {
            Some(view) => view.row(at)[view.channels..].as_ptr(),
            None => std::ptr::null(),
        };
        Row { map: self.map.row(y), wide: self.wide.row(y), residual, outer }
    }

    /// What finishes outputs `output..output + V::LANES`.
    ///
    /// # Safety
    /// `output + V::LANES <= outputs`, and the CPU has V's instructions.
    #[inline(always)]
    pub unsafe fn finish<V: Vector>(&self, output: usize) -> Finish<V> {
        // SAFETY: `new` checked that there are as many values.
        unsafe {
            Finish {
                output,
                bias: V::load(self.bias.as_ptr().add(output)),
                slope: V::load(self.slope.as_ptr().add(output)),
                gain: V::splat(self.gain),
            }
        }
    }

    /// Finishes sums at one pixel.
    ///
    /// # Safety
    /// `x < width`, the row and `finish` are this target's, the CPU has V's instructions, and no one else writes
    /// the same pixel and outputs meanwhile.
    #[inline(always)]
    pub unsafe fn put<V: Vector>(&self, row: &Row<T>, x: usize, finish: &Finish<V>, sums: V) {
        let &Finish { output, bias, slope, gain } = finish;
        // SAFETY: `new` checked that all maps have this width and as many channels.
        unsafe {
            let zero = V::splat(0.0);
            let v = sums.add(bias);
            let mut v = v.max(zero).fma(slope, v.min(zero));
            for (base, view) in [(row.residual, &self.residual), (row.outer, &self.outer)] {
                if let Some(view) = view {
                    v = T::Residual::load::<V>(base.add(x * view.channels + output)).fma(v, gain);
                }
            }
            if !row.wide.is_null() {
                v.store(row.wide.add(x * self.wide.channels + output));
            }
            if !row.map.is_null() {
                T::store(v, row.map.add(x * self.map.channels + output));
            }
        }
    }
}

/// What is done with the sums of some outputs.
pub struct Finish<V> {
    output: usize,
    bias: V,
    slope: V,
    gain: V,
}
