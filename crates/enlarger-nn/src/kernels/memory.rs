//! Memory aligned to cache lines, whose allocation may fail without ending the process.

use std::alloc::Layout;

use aligned_vec::{AVec, ConstAlign};

use crate::error::NnError;

/// Bytes of a cache line, which is also the longest vector: a load that straddles two lines costs twice.
const LINE: usize = 64;

/// Values of which the first is at the start of a cache line.
pub type Aligned<T> = AVec<T, ConstAlign<LINE>>;

/// Zeros at the start of a cache line.
///
/// # Errors
/// [`NnError::Memory`] if there is not enough memory.
pub fn aligned<T: Copy + Default>(len: usize) -> Result<Aligned<T>, NnError> {
    // aligned-vec 0.6.4 does not refuse the last few sizes that round up to more than there can be.
    if len.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize - LINE) {
        return Err(missing::<T>(len));
    }
    let mut data = Aligned::new(LINE);
    data.try_reserve_exact(len).map_err(|_| missing::<T>(len))?;
    // Its `resize` writes value by value; copying a slice is as fast as memory.
    let zeros = [T::default(); 1024];
    while data.len() < len {
        data.extend_from_slice(&zeros[..zeros.len().min(len - data.len())]);
    }
    Ok(data)
}

/// Zeros.
///
/// # Errors
/// [`NnError::Memory`] if there is not enough memory.
pub fn zeroed<T: Copy + Default>(len: usize) -> Result<Vec<T>, NnError> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| missing::<T>(len))?;
    data.resize(len, T::default());
    Ok(data)
}

/// Zeros in pages of 2 MB, if there are many and the system has such: they are found and made available faster.
///
/// # Errors
/// [`NnError::Memory`] if there is not enough memory.
pub fn large(len: usize) -> Result<Vec<f32>, NnError> {
    let layout = Layout::array::<f32>(len).map_err(|_| missing::<f32>(len))?;
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout is not empty.
    let data = unsafe { std::alloc::alloc_zeroed(layout) };
    if data.is_null() {
        return Err(missing::<f32>(len));
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if layout.size() >= 2 * HUGE {
        let start = (data as usize).next_multiple_of(HUGE);
        let end = (data as usize + layout.size()) / HUGE * HUGE;
        // SAFETY: madvise(2) changes how these pages are made, not what is in them; if it fails, they stay small.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
    // SAFETY: it was allocated as a vector of `len` values is, all zero.
    Ok(unsafe { Vec::from_raw_parts(data.cast(), len, len) })
}

/// Bytes of a large page.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const HUGE: usize = 2 << 20;

fn missing<T>(len: usize) -> NnError {
    NnError::Memory { bytes: len.saturating_mul(size_of::<T>()) }
}

/// What a run allocates besides its feature maps: scratch memory, and what threads need.
const SMALL: usize = 16 << 20;

/// Checks that there is memory for the small allocations whose failure would abort the process. Call it once all
/// feature maps are allocated.
///
/// # Errors
/// [`NnError::Memory`] if there is not.
pub fn reserve_small() -> Result<(), NnError> {
    Vec::<u8>::new().try_reserve_exact(SMALL).map_err(|_| missing::<u8>(SMALL))
}

/// Scratch memory that convolutions share, one after the other. It only grows.
pub struct Scratch(Aligned<f32>);

impl Scratch {
    /// None yet.
    pub fn new() -> Self {
        Self(Aligned::new(LINE))
    }

    /// At least `len` floats on a cache line, with undefined contents.
    pub fn floats(&mut self, len: usize) -> *mut f32 {
        if self.0.len() < len {
            self.0.resize(len, 0.0);
        }
        self.0.as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_on_a_cache_line_and_is_zero() {
        for len in [1, 3, 1000] {
            let data = aligned::<u16>(len).expect("a few bytes");
            assert_eq!(data.as_ptr() as usize % LINE, 0);
            assert!(data.len() == len && data.iter().all(|&v| v == 0));
        }
        assert_eq!(Scratch::new().floats(100) as usize % LINE, 0);
    }

    #[test]
    fn large_memory_is_zero() {
        for len in [0, 5, (6 << 20) + 1] {
            let data = large(len).expect("a few megabytes");
            assert!(data.len() == len && data.iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn too_much_memory_is_an_error() {
        for len in [usize::MAX, usize::MAX / 8, 1 << 58] {
            assert!(matches!(aligned::<f32>(len), Err(NnError::Memory { .. })), "{len}");
            assert!(matches!(zeroed::<f32>(len), Err(NnError::Memory { .. })), "{len}");
            assert!(matches!(large(len), Err(NnError::Memory { .. })), "{len}");
        }
    }
}
