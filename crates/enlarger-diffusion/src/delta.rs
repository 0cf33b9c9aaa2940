//! What a LoRA changes of one array.

use std::sync::Arc;

use crate::{
    error::{Result, zeros},
    file::Safetensors,
};

/// Names of two small arrays in a file, whose product is added to a larger one.
#[derive(Debug, Clone)]
pub(crate) struct Delta {
    pub file: Arc<Safetensors>,
    pub down: String,
    pub up: String,
    pub alpha: Option<String>,
    pub strength: f32,
}

impl Delta {
    /// Adds strength * alpha / rank * up * down.
    pub fn add_to(&self, values: &mut [f32]) -> Result<()> {
        let (down, up) = (self.file.read(&self.down)?, self.file.read(&self.up)?);
        let (rank, outputs) = (down.shape[0], up.shape[0]);
        if rank == 0 || outputs == 0 || values.len() < outputs {
            return Ok(());
        }
        let alpha = match &self.alpha {
            Some(alpha) => self.file.read(alpha)?.to_f32()?.first().copied().unwrap_or(rank as f32),
            None => rank as f32,
        };
        let scale = self.strength * alpha / rank as f32;
        let (down, up) = (down.to_f32()?, up.to_f32()?);
        let inputs = values.len() / outputs;
        let mut row_sum = zeros(inputs)?;
        for (row, up) in values.chunks_exact_mut(inputs).zip(up.chunks_exact(rank)) {
            row_sum.fill(0.0);
            for (down, up) in down.chunks_exact(inputs).zip(up) {
                row_sum.iter_mut().zip(down).for_each(|(sum, down)| *sum += up * down);
            }
            row.iter_mut().zip(&row_sum).for_each(|(v, sum)| *v += scale * sum);
        }
        Ok(())
    }
}
