//! The CPU, once for each instruction set and arithmetic that there are kernels for.

use std::sync::Arc;

use crate::{
    architecture::Architecture,
    cpu::CpuKernels,
    device::{Arithmetic, Device},
    error::NnError,
    kernels::{Peak, floats},
    model::Model,
    tensor::StateDict,
};

#[derive(Debug)]
struct Cpu {
    name: &'static str,
    title: &'static str,
    arithmetic: Arithmetic,
    kernels: CpuKernels,
    peak: Option<Peak>,
}

impl Device for Cpu {
    fn name(&self) -> &str {
        self.name
    }

    fn title(&self) -> &str {
        self.title
    }

    fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    fn load(&self, network: &dyn Architecture, weights: &StateDict) -> Result<Box<dyn Model>, NnError> {
        network.on_cpu(self.kernels, weights)
    }

    fn peak_flops(&self, threads: usize) -> Option<f64> {
        self.peak.map(|peak| peak.flops(threads))
    }
}

type Found = Vec<Arc<dyn Device>>;

/// One device, if there is one.
fn found(cpu: Option<Cpu>) -> Found {
    cpu.into_iter().map(|cpu| Arc::new(cpu) as Arc<dyn Device>).collect()
}

pub fn portable_f32() -> Found {
    found(Some(Cpu {
        name: "portable",
        title: "portable",
        arithmetic: Arithmetic::F32,
        kernels: CpuKernels::f32(floats::portable()),
        peak: Some(Peak::portable()),
    }))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Arithmetic, Cpu, CpuKernels, Found, Peak, floats, found};
    use crate::kernels::{
        int16,
        isa::{AmxBf16, Avx2, Avx2F16c, Avx512, Avx512Vnni},
    };

    /// The matrix unit has no f32: its peak is that of the vectors beside it.
    pub fn amx_bf16() -> Found {
        found(AmxBf16::detect().map(|amx| Cpu {
            name: "amx",
            title: "AMX",
            arithmetic: Arithmetic::Bf16,
            kernels: CpuKernels::bf16(amx),
            peak: Avx512::detect().map(Peak::avx512),
        }))
    }

    pub fn avx512_int16() -> Found {
        found(Avx512Vnni::detect().map(|isa| avx512(Arithmetic::Int16, CpuKernels::int16(int16::avx512(isa)))))
    }

    pub fn avx512_f32() -> Found {
        found(Avx512::detect().map(|isa| avx512(Arithmetic::F32, CpuKernels::f32(floats::avx512(isa)))))
    }

    pub fn avx2_int16() -> Found {
        found(Avx2F16c::detect().map(|isa| avx2(Arithmetic::Int16, CpuKernels::int16(int16::avx2(isa)))))
    }

    pub fn avx2_f32() -> Found {
        found(Avx2::detect().map(|isa| avx2(Arithmetic::F32, CpuKernels::f32(floats::avx2(isa)))))
    }

    fn avx512(arithmetic: Arithmetic, kernels: CpuKernels) -> Cpu {
        Cpu { name: "avx512", title: "AVX-512", arithmetic, kernels, peak: Avx512::detect().map(Peak::avx512) }
    }

    fn avx2(arithmetic: Arithmetic, kernels: CpuKernels) -> Cpu {
        Cpu { name: "avx2", title: "AVX2", arithmetic, kernels, peak: Avx2::detect().map(Peak::avx2) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    use super::Found;

    /// Not on this CPU.
    pub fn amx_bf16() -> Found {
        Vec::new()
    }
    pub use self::{amx_bf16 as avx512_int16, amx_bf16 as avx512_f32, amx_bf16 as avx2_int16, amx_bf16 as avx2_f32};
}

pub use x86::{amx_bf16, avx2_f32, avx2_int16, avx512_f32, avx512_int16};
