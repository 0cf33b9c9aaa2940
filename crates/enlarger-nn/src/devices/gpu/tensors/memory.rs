//! A card's memory for tensors: buffers that nobody uses any more are used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    devices::gpu::{card::Buffer, engine::Engine},
    error::NnError,
};

/// An idle buffer serves if it is at most this many eighths too large.
const SPARE_EIGHTHS: u64 = 2;

/// Memory within the card's budget.
pub struct Memory {
    engine: Arc<Engine>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<(u64, Buffer)>,
    /// Bytes of all buffers, in use or idle.
    held: u64,
    /// Bytes of the idle ones.
    unused: u64,
    /// The most bytes that were in use at once.
    peak: u64,
}

/// A buffer, which is given back when it is dropped. Work that was submitted before is done before what uses it next.
pub struct Held {
    pub buffer: Buffer,
    bytes: u64,
    /// Whether it is kept for the next one that needs as much.
    reused: bool,
    memory: Arc<Memory>,
}

impl Memory {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, state: Mutex::default() }
    }

    /// A buffer for what is computed, or for weights, which are not `reused`.
    ///
    /// # Errors
    /// [`NnError::DeviceMemory`] beyond the budget, [`NnError::Device`] if the card has no buffers of this size or fails.
    pub fn take(self: &Arc<Self>, bytes: u64, reused: bool) -> Result<Held, NnError> {
        let bytes = bytes.max(16);
        if bytes > self.engine.card.most_bytes() {
            return Err(NnError::Device(format!(
                "its buffers have at most {} MB, and {} MB are needed",
                self.engine.card.most_bytes() >> 20,
                bytes.div_ceil(1 << 20)
            )));
        }
        let mut state = self.state();
        let fits = |there: u64| there >= bytes && there <= bytes + bytes / 8 * SPARE_EIGHTHS;
        let best =
            (0..state.idle.len()).filter(|&at| reused && fits(state.idle[at].0)).min_by_key(|&at| state.idle[at].0);
        let (bytes, buffer) = if let Some(best) = best {
            let (bytes, buffer) = state.idle.swap_remove(best);
            state.unused -= bytes;
            (bytes, buffer)
        } else {
            let budget = self.engine.budget.bytes;
            if state.held + bytes > budget {
                self.free(&mut state);
            }
            if state.held + bytes > budget {
                return Err(NnError::DeviceMemory { needed: state.held + bytes, budget });
            }
            let buffer = self.engine.card.buffer(bytes)?;
            state.held += bytes;
            self.engine.budget.tensors_take(state.held);
            (bytes, buffer)
        };
        state.peak = state.peak.max(state.held - state.unused);
        Ok(Held { buffer, bytes, reused, memory: self.clone() })
    }

    /// Frees what nobody uses.
    pub fn trim(&self) {
        self.free(&mut self.state());
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.state().peak
    }

    fn free(&self, state: &mut State) {
        state.idle.clear();
        state.held -= std::mem::take(&mut state.unused);
        self.engine.budget.tensors_take(state.held);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        if self.reused {
            state.idle.push((self.bytes, self.buffer.clone()));
            state.unused += self.bytes;
        } else {
            state.held -= self.bytes;
            self.memory.engine.budget.tensors_take(state.held);
        }
    }
}
