//! Memory of tensors, which is used again: the system takes longer to hand out fresh pages than to compute what is in them.

use std::{
    ops::{Deref, DerefMut, Range},
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError},
};

use enlarger_nn::dense::large;

use crate::error::{Error, Result};

/// Floats of a slab at least: 1 GB of addresses, to which the system gives memory where they are first written.
const SLAB: usize = 256 << 20;

/// Floats of a cache line: vectors that straddle two take twice as long.
const LINE: usize = 16;

/// Slabs that buffers are cut from, each from the lowest place where it fits: whatever its size, most of it was used before. They
/// are freed with the last clone and buffer.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<Slab>>>);

#[derive(Debug)]
struct Slab {
    /// Only buffers touch what is in it.
    values: Vec<f32>,
    /// Whole cache lines, the lowest first. No two touch.
    free: Vec<Range<usize>>,
}

/// Some values. When it is dropped, its memory is given back.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<f32>,
    length: usize,
    memory: Memory,
}

// SAFETY: a buffer owns its part of a slab, as a vector would.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// Floats that so many take: whole cache lines, at least one, so that each buffer has a place of its own.
fn lines(length: usize) -> usize {
    length.max(1).next_multiple_of(LINE)
}

impl Slab {
    fn new(length: usize) -> Result<Self> {
        let values = large(length + LINE)?;
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Ok(Self { values, free: std::iter::once(start..start + length).collect() })
    }

    fn take(&mut self, length: usize) -> Option<NonNull<f32>> {
        let i = self.free.iter().position(|range| range.len() >= length)?;
        let place = self.free[i].start;
        self.free[i].start += length;
        if self.free[i].is_empty() {
            self.free.remove(i);
        }
        NonNull::new(self.values.as_mut_ptr().wrapping_add(place))
    }

    fn give_back(&mut self, range: Range<usize>) {
        let i = self.free.partition_point(|free| free.start < range.start);
        self.free.insert(i, range);
        for i in [i, i.wrapping_sub(1)] {
            if let Some([a, b]) = self.free.get(i..).and_then(<[_]>::first_chunk)
                && a.end == b.start
            {
                self.free[i].end = b.end;
                self.free.remove(i + 1);
            }
        }
    }
}

impl Memory {
    /// So many values, whatever they are.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn take(&self, length: usize) -> Result<Buffer> {
        if length > isize::MAX as usize / size_of::<f32>() - 2 * LINE {
            return Err(Error::Memory { bytes: length.saturating_mul(size_of::<f32>()) });
        }
        let whole = lines(length);
        let start = self.with(|slabs| {
            if let Some(start) = slabs.iter_mut().find_map(|slab| slab.take(whole)) {
                return Ok(start);
            }
            // Where addresses are short, too.
            let mut slab = Slab::new(whole.max(SLAB)).or_else(|_| Slab::new(whole))?;
            let start = slab.take(whole);
            slabs.push(slab);
            start.ok_or(Error::Memory { bytes: whole * size_of::<f32>() })
        })?;
        Ok(Buffer { start, length, memory: self.clone() })
    }

    fn with<R>(&self, run: impl FnOnce(&mut Vec<Slab>) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.with(|slabs| {
            for slab in &mut *slabs {
                let bytes = (self.start.as_ptr() as usize).wrapping_sub(slab.values.as_ptr() as usize);
                let place = bytes / size_of::<f32>();
                if place < slab.values.len() {
                    slab.give_back(place..place + lines(self.length));
                    break;
                }
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: these are values of a slab, which lives as long as a buffer of it, and no other buffer has them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_whatever_the_sizes() {
        let memory = Memory::default();
        let [one, two, other] = [1000, 500, 10].map(|length| memory.take(length).unwrap());
        let (first, second) = (one.as_ptr(), two.as_ptr());
        drop(one);
        let again = memory.take(600).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (first, 600));
        assert_eq!(memory.take(400).unwrap().as_ptr(), first.wrapping_add(608), "the rest of the first one's");
        drop(again);
        drop(two);
        assert!(memory.take(1500).unwrap().as_ptr() == first && second > first, "neighbours become one");
        drop(other);
        assert_eq!(memory.take(SLAB).unwrap().as_ptr(), first, "all of a slab");
        assert_eq!(memory.with(|slabs| slabs.len()), 1);
    }

    #[test]
    fn buffers_do_not_overlap_and_begin_on_a_cache_line() {
        let memory = Memory::default();
        let mut held: Vec<(usize, Buffer)> = Vec::new();
        for step in 0..2000 {
            let random = step * 7919 % 1009;
            if random % 5 < 2 && !held.is_empty() {
                let (mark, buffer) = held.swap_remove(random % held.len());
                assert!(buffer.iter().all(|&v| v == mark as f32));
            } else {
                let mut buffer = memory.take(random * random % 5000).unwrap();
                assert_eq!(buffer.as_ptr() as usize % (LINE * size_of::<f32>()), 0);
                buffer.fill(step as f32);
                held.push((step, buffer));
            }
        }
        assert!(held.iter().all(|(mark, buffer)| buffer.iter().all(|&v| v == *mark as f32)));
    }

    #[test]
    fn more_than_a_slab_has_a_slab_of_its_own() {
        let memory = Memory::default();
        let one = memory.take(10).unwrap();
        let large = memory.take(SLAB + 1).unwrap();
        assert_eq!((large.len(), memory.with(|slabs| slabs.len())), (SLAB + 1, 2));
        drop((one, large));
        assert_eq!(memory.take(SLAB + 1).unwrap().len(), SLAB + 1);
        assert_eq!(memory.with(|slabs| slabs.len()), 2);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let memory = Memory::default();
        for length in [usize::MAX, usize::MAX / 8, 1 << 58] {
            assert!(matches!(memory.take(length), Err(Error::Memory { .. })));
        }
        assert_eq!(memory.with(|slabs| slabs.len()), 0);
    }
}
