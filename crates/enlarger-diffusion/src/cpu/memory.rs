//! Memory of tensors, which is used again: fresh memory costs more time than what is computed in it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use enlarger_nn::dense::large;

use crate::error::Result;

/// Floats that are kept for later at most.
const KEPT: usize = 128 << 20;

/// Floats of a cache line: vectors that straddle two take twice as long.
const LINE: usize = 16;

/// What tensors gave back. When there are no tensors, nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    /// The oldest first.
    free: Vec<Vec<f32>>,
    /// Buffers that are in use.
    used: usize,
}

/// Some values. When it is dropped, its memory is given back.
#[derive(Debug)]
pub struct Buffer {
    /// At least `length` from a cache line's start on.
    values: Vec<f32>,
    start: usize,
    length: usize,
    memory: Memory,
}

impl Memory {
    /// So many values, whatever they are.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub fn take(&self, length: usize) -> Result<Buffer> {
        let whole = length.saturating_add(LINE);
        let found = self.with(|shelf| {
            shelf.used += 1;
            let fits = |values: &Vec<f32>| values.len() >= whole && values.len() / 2 <= whole;
            let best = (0..shelf.free.len()).filter(|&i| fits(&shelf.free[i])).min_by_key(|&i| shelf.free[i].len());
            best.map(|i| shelf.free.remove(i))
        });
        let buffer = |values: Vec<f32>| {
            let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
            Buffer { values, start, length, memory: self.clone() }
        };
        if let Some(values) = found {
            return Ok(buffer(values));
        }
        let fresh = large(whole).or_else(|_| {
            self.with(|shelf| shelf.free.clear());
            large(whole)
        });
        fresh.map(buffer).map_err(|error| {
            self.with(|shelf| shelf.used -= 1);
            error.into()
        })
    }

    fn with<R>(&self, run: impl FnOnce(&mut Shelf) -> R) -> R {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.memory.with(|shelf| {
            shelf.used -= 1;
            shelf.free.push(values);
            let mut kept: usize = shelf.free.iter().map(Vec::len).sum();
            let too_old = shelf.free.iter().take_while(|values| {
                let over = kept > KEPT;
                kept -= values.len();
                over
            });
            let too_old = if shelf.used == 0 { shelf.free.len() } else { too_old.count() };
            shelf.free.drain(..too_old);
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn memory_is_used_again_while_there_are_tensors_and_then_freed() {
        let memory = Memory::default();
        let one = memory.take(1000).unwrap();
        let place = one.as_ptr();
        let other = memory.take(10).unwrap();
        drop(one);
        let again = memory.take(600).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 600));
        drop(again);
        assert_ne!(memory.take(400).unwrap().as_ptr(), place, "less than half of it");
        drop(other);
        assert_eq!(memory.with(|shelf| (shelf.free.len(), shelf.used)), (0, 0));
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let memory = Memory::default();
        assert!(matches!(memory.take(usize::MAX / 8), Err(Error::Memory { .. })));
        assert_eq!(memory.with(|shelf| shelf.used), 0);
    }
}
