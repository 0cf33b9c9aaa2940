//! Work on tensors on its way to a card.

use std::{collections::VecDeque, time::Instant};

use crate::{
    devices::gpu::{
        card::{Batch, Bound, Buffer, Card, Ticket},
        engine::Pace,
    },
    error::NnError,
};

/// Kernels that are submitted at once: the card begins while further ones are prepared.
const RUNS: usize = 64;
/// Groups of threads that a kernel may have on an axis: Vulkan promises 65,535.
const GROUPS: u32 = 32_768;
/// Submissions that the card has before more are held back, so that little is left to do when somebody cancels.
const AHEAD: usize = 8;
/// Bytes that are on their way to a card before they are waited for: until then they take memory twice.
const STAGED: u64 = 64 << 20;

/// What is not submitted yet, and what is not known to be done.
pub struct Work {
    batch: Batch,
    runs: usize,
    flops: f64,
    flying: VecDeque<(Ticket, f64)>,
    /// When the last submission that was waited for was done, while the card has more to do.
    done: Option<Instant>,
    /// Bytes that were written since the last submission.
    staged: u64,
    pace: Pace,
}

impl Work {
    pub fn new() -> Self {
        let (batch, flying, pace) = (Batch::new(), VecDeque::new(), Pace::default());
        Self { batch, runs: 0, flops: 0.0, flying, done: None, staged: 0, pace }
    }

    /// Runs a kernel on groups of threads, of which `job` tells the first. Those on the first axis are cut into pieces that do not keep
    /// the card busy for long.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails.
    pub fn run(
        &mut self,
        card: &Card,
        bound: &Bound,
        job: &mut [u32],
        [across, y, z]: [u32; 3],
        flops: f64,
    ) -> Result<(), NnError> {
        let each = flops / f64::from(across.max(1));
        let mut first = 0;
        while first < across {
            let room = (self.pace.at_once() - self.flops) / each.max(1.0);
            if (room < 1.0 || self.runs >= RUNS) && self.runs > 0 {
                self.submit(card)?;
                continue;
            }
            let count = (room as u32).clamp(1, GROUPS).min(across - first);
            job[0] = first;
            self.batch.run(bound, bytemuck::cast_slice(job), [count, y, z]);
            self.flops += each * f64::from(count);
            self.runs += 1;
            first += count;
        }
        Ok(())
    }

    /// Submits what was prepared.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails.
    pub fn submit(&mut self, card: &Card) -> Result<(), NnError> {
        if self.runs == 0 {
            return Ok(());
        }
        let ticket = card.submit(std::mem::replace(&mut self.batch, Batch::new()))?;
        self.flying.push_back((ticket, self.flops));
        (self.runs, self.flops, self.staged) = (0, 0.0, 0);
        while self.flying.len() > AHEAD {
            let Some((ticket, flops)) = self.flying.pop_front() else { break };
            card.wait(&ticket)?;
            // The card is kept busy, so that is the time of this one. Small ones measure overhead.
            let before = self.done.replace(Instant::now());
            if let Some(before) = before.filter(|_| flops > 0.5 * self.pace.at_once()) {
                self.pace.learn(flops, before.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Writes once what was prepared is submitted, since buffers are used again.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails.
    pub fn write(&mut self, card: &Card, to: &Buffer, bytes: &[u8]) -> Result<(), NnError> {
        self.submit(card)?;
        card.write(to, 0, bytes);
        self.staged += bytes.len() as u64;
        if self.staged > STAGED {
            let ticket = card.submit(Batch::new())?;
            self.settle();
            card.wait(&ticket)?;
        }
        Ok(())
    }

    /// All that was submitted will have been waited for.
    fn settle(&mut self) {
        self.flying.clear();
        (self.done, self.staged) = (None, 0);
    }

    /// Submits what was prepared, and a copy of a buffer to another, which is for whoever waits for the ticket.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card fails.
    pub fn fetch(&mut self, card: &Card, from: &Buffer, to: &Buffer, bytes: u64) -> Result<Ticket, NnError> {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new());
        (self.runs, self.flops) = (0, 0.0);
        batch.copy((from, 0), (to, 0), bytes);
        let ticket = card.submit(batch)?;
        // Whoever waits for it waits for all before.
        self.settle();
        Ok(ticket)
    }
}
