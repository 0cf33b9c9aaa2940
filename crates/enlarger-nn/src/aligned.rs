//! Memory that begins on a cache line.

use std::ops::{Deref, DerefMut};

use crate::error::NnError;

/// Bytes of a cache line, which is also the longest vector: loads that straddle two lines cost twice.
const LINE: usize = 64;

/// A fixed number of values, of which the first is on a cache line.
pub struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Aligned<T> {
    /// Nothing.
    pub const fn empty() -> Self {
        Self { data: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Copy + Default> Aligned<T> {
    /// Zeros, or [`NnError::Memory`] where there is no room for them.
    pub fn zeroed(len: usize) -> Result<Self, NnError> {
        let data: Vec<T> = zeroed(len + LINE / size_of::<T>())?;
        let start = data.as_ptr().align_offset(LINE);
        Ok(Self { data, start, len })
    }

    /// A copy.
    pub fn copy(values: &[T]) -> Result<Self, NnError> {
        let mut copy = Self::zeroed(values.len())?;
        copy.copy_from_slice(values);
        Ok(copy)
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// Zeros, or [`NnError::Memory`] where there is no room for them.
pub fn zeroed<T: Copy + Default>(count: usize) -> Result<Vec<T>, NnError> {
    let mut data = Vec::new();
    data.try_reserve_exact(count).map_err(|_| NnError::Memory { bytes: count.saturating_mul(size_of::<T>()) })?;
    data.resize(count, T::default());
    Ok(data)
}

/// What runs of kernels take besides maps: scratch memory, and what threads need.
const SMALL: usize = 16 << 20;

/// Room for the small things that are not asked for one by one, or [`NnError::Memory`]. To be called when maps have theirs.
pub fn room_for_small() -> Result<(), NnError> {
    Vec::<u8>::new().try_reserve_exact(SMALL).map_err(|_| NnError::Memory { bytes: SMALL })
}
