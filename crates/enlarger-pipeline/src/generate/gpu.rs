//! The generative engine's networks on GPUs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use enlarger_diffusion::{
    Error,
    bundle::Costs,
    engine::{Model, Networks, Prompted, Request},
    gpu::{Gpu, need},
    ladder::Ladder,
};
use enlarger_nn::{
    Device,
    devices::gpu::{
        tensors::{Share, Tensors},
        tensors_of, took_over,
    },
};

use super::{
    kept::{Kept, lock},
    pace::calibrate,
};

/// GPUs that were used, by their names.
#[derive(Default)]
pub(super) struct Gpus(Mutex<HashMap<String, Arc<OnGpu>>>);

/// A GPU with the model that ran there last.
pub(super) struct OnGpu {
    title: String,
    tensors: Arc<Tensors>,
    pub kept: Kept<Model<Gpu>>,
    /// Operations per second, as measured by passes or a calibration.
    pub speed: Mutex<Option<f64>>,
}

impl Gpus {
    /// A device, if it is a GPU; or why it does not draw, as a sentence.
    pub fn of(&self, device: &dyn Device, costs: &Costs) -> Result<Option<Arc<OnGpu>>, String> {
        let Some(tensors) = tensors_of(device) else { return Ok(None) };
        let title = device.title();
        let tensors = tensors.map_err(|error| format!("the CPU draws instead of the GPU {title}: {error}"))?;
        let (needed, budget) = (need(&tensors, costs) + tensors.networks(), tensors.budget());
        if needed > budget {
            let megabytes = needed.div_ceil(1 << 20);
            return Err(format!(
                "the CPU draws instead of the GPU {title}, of whose memory {megabytes} MB are needed and {} MB may be used; allow it with --gpu-memory {megabytes}",
                budget >> 20
            ));
        }
        let mut all = lock(&self.0);
        // One that was lost and opened again has lost its models, too.
        let known = all.get(title).filter(|gpu| Arc::ptr_eq(&gpu.tensors, &tensors)).cloned();
        Ok(Some(known.unwrap_or_else(|| {
            let gpu = OnGpu { title: title.to_owned(), tensors, kept: Kept::default(), speed: Mutex::default() };
            let gpu = Arc::new(gpu);
            all.insert(title.to_owned(), gpu.clone());
            gpu
        })))
    }
}

/// Counts that the CPU draws in place of a GPU.
pub(super) fn count(device: &dyn Device, why: &str) {
    took_over(device, why);
}

impl OnGpu {
    /// Adds it to the devices of a request. Where 16 bits are too few, as for the VAE of some checkpoints, it computes in 32.
    pub fn add_to<'a>(
        &self,
        ladder: &mut Ladder<'a>,
        request: &'a Request<'a>,
        cancelled: &Arc<AtomicBool>,
        model: impl Fn(&Gpu) -> Result<Arc<Model<Gpu>>, Error> + Clone + 'a,
    ) {
        let ops = Gpu::cancelled_by(self.tensors.clone(), cancelled.clone());
        for (ops, bits) in [(Some(ops.clone()), ""), (ops.wider(), " in 32 bits")] {
            let (Some(ops), model) = (ops, model.clone()) else { continue };
            ladder.add(&format!("GPU {}{bits}", self.title), move || {
                Ok(Box::new(Prompted::new(model(&ops)?, ops.clone(), request)?) as Box<dyn Networks + 'a>)
            });
        }
    }

    /// Keeps memory for a pass, as long as the result lives.
    pub fn reserve(&self, costs: &Costs) -> Share {
        self.tensors.reserve(need(&self.tensors, costs))
    }

    /// After a pass: frees what only that needed, and the weights of one that did not go well.
    pub fn rest(&self, well: bool) {
        if !well {
            self.kept.give_back();
        }
        self.tensors.trim();
    }

    /// Operations per second. Kernels are compiled and tested before they are measured.
    ///
    /// # Errors
    /// [`Error::Device`] if it fails.
    pub fn calibrate(&self) -> Result<f64, Error> {
        let ops = Gpu::cancelled_by(self.tensors.clone(), Arc::default());
        calibrate(&ops)?;
        calibrate(&ops)
    }
}
