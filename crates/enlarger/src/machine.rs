//! How the machine is used: device, precision and threads.

use std::{num::NonZeroUsize, ops::RangeInclusive, sync::Arc};

use clap::{Args, builder::PossibleValuesParser};
use enlarger_error::Explained;
use enlarger_nn::{Backend, Device, GpuChoice, NnError, Precision, devices::Memory};
use enlarger_pipeline::{Lane, cores};
use enlarger_server::config::megabytes;
use serde::de::DeserializeOwned;

use crate::{dirs, gpus, printer::Hinted};

/// What `--isa` takes for the fastest.
const AUTO: &str = "auto";

/// For diagnosis, so every command has it and no help shows it: see docs/reference/configuration.md.
#[derive(Debug, Clone, Args)]
pub struct IsaArgs {
    /// auto, or a device's name: portable, avx2, avx512 or amx.
    #[arg(long, env = "ENLARGER_ISA", hide = true, default_value = AUTO, value_parser = devices())]
    isa: String,
}

impl IsaArgs {
    /// The devices that were asked for, in this precision: GPUs, or the CPU. What GPUs learn of themselves is remembered.
    ///
    /// # Errors
    /// A sentence with a hint, and exit code 2, if this machine does not have them.
    pub fn devices(
        self,
        precision: Precision,
        gpu: GpuArgs,
        memory: Arc<Memory>,
    ) -> anyhow::Result<Vec<Arc<dyn Device>>> {
        let device = (self.isa != AUTO).then_some(self.isa);
        let gpu_memory = gpu.gpu_memory.filter(|&megabytes| megabytes > 0).map(|megabytes| megabytes << 20);
        let asked = Backend { device, precision, gpu: gpu.gpu, gpu_memory };
        gpus::open(&asked, memory).map_err(|error| match error.downcast::<NnError>() {
            Ok(error @ NnError::Backend(_)) => Hinted::usage(
                error.to_string(),
                "leave --precision and ENLARGER_ISA out, or choose one of the kernels that `enlarger doctor` lists",
            ),
            Ok(error) => Hinted::usage(error.to_string(), error.hint().unwrap_or_default().into_owned()),
            Err(error) => error,
        })
    }
}

/// Under which these flags stand in help.
pub const HEADING: &str = "Machine";

/// Whether a GPU is used, which one, and how much of it.
#[derive(Debug, Clone, Args)]
pub struct GpuArgs {
    /// GPU to run models on: none, auto (the fastest, if it is faster than the CPU), all (each that is), part of its name, or pci: and
    /// its address; several with commas (see `enlarger doctor`).
    #[arg(long, env = "ENLARGER_GPU", value_name = "GPU", default_value = "none", value_parser = gpu, help_heading = HEADING)]
    pub gpu: GpuChoice,
    /// Maximum GPU memory to use, in MB [default: 70% of dedicated memory, or 25% of memory shared with the CPU].
    #[arg(long, env = "ENLARGER_GPU_MEMORY", value_name = "MB", value_parser = megabytes, allow_hyphen_values = true, help_heading = HEADING, hide_short_help = true)]
    pub gpu_memory: Option<u64>,
}

fn gpu(text: &str) -> Result<GpuChoice, String> {
    if text.trim().is_empty() {
        return Err("expected none, auto, all, part of a GPU's name, or pci: and its address".into());
    }
    text.parse()
}

fn devices() -> PossibleValuesParser {
    PossibleValuesParser::new([AUTO].into_iter().chain(Backend::names()))
}

/// What all computing commands share.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Number of threads [default: all cores].
    #[arg(short, long, env = "ENLARGER_THREADS", value_name = "N", value_parser = threads, help_heading = HEADING)]
    pub threads: Option<NonZeroUsize>,
    /// Arithmetic: auto (fastest), f32, int16 (x86 CPUs since about 2015) or bf16 (CPUs with AMX).
    #[arg(long, env = "ENLARGER_PRECISION", default_value = "auto", value_parser = word::<Precision>, help_heading = HEADING, hide_short_help = true)]
    precision: Precision,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    isa: IsaArgs,
}

impl MachineArgs {
    /// The devices that were asked for.
    ///
    /// # Errors
    /// As [`IsaArgs::devices`].
    pub fn devices(&self) -> anyhow::Result<Vec<Arc<dyn Device>>> {
        self.isa.clone().devices(self.precision, self.gpu.clone(), gpus::memory(dirs::data_dir())?)
    }

    /// The same, to run jobs on.
    ///
    /// # Errors
    /// As [`IsaArgs::devices`].
    pub fn lanes(&self) -> anyhow::Result<Vec<Lane>> {
        Ok(self.devices()?.into_iter().map(|device| Lane { slots: Lane::usual(&*device), device }).collect())
    }
}

/// Warns if fewer threads are used than were asked for.
pub fn warn_of_threads(asked: Option<NonZeroUsize>) {
    let cores = cores();
    if let Some(asked) = asked.filter(|asked| *asked > cores) {
        say!("warning: this machine can run only {cores} threads at once; using {cores} instead of {asked}");
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a number of at least 1\nhint: leave it out to use all cores".into())
}

/// A whole number within a range.
pub fn whole<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse::<i64>().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A word as configuration files and the API spell it.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
