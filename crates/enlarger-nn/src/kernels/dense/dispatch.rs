//! Code that is compiled for each instruction set, and what its tasks work with.

use std::cell::RefCell;

use super::math::Math;
#[cfg(target_arch = "x86_64")]
use crate::kernels::isa::{Avx2F16c, Avx512};
use crate::{error::NnError, kernels::memory::large};

/// The operations, on the vectors of an instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Dense(Isa);

#[derive(Debug, Clone, Copy)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2F16c),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Whether to go on: asked before each task, of which the longest takes some hundredths of a second. What is left out stays undefined.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// Code that is compiled for each instruction set.
pub trait Task {
    /// # Safety
    /// The CPU has V's instructions. Implementations are inlined into functions that enable them.
    unsafe fn run<V: Math>(self);
}

/// Floats of scratch memory that begin a page of 2 MB and end one.
const SCRATCH_PAGE: usize = 512 << 10;

thread_local! {
    /// Of the task that a thread is at. Tasks do not wait for other tasks, so they do not meet.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Floats on a cache line that a thread may use while it runs `task`, which is not called if there is no memory.
pub fn with_scratch(floats: usize, task: impl FnOnce(*mut f32)) -> Result<(), NnError> {
    SCRATCH.with_borrow_mut(|scratch| {
        let whole = floats.next_multiple_of(SCRATCH_PAGE) + SCRATCH_PAGE;
        if scratch.len() < whole {
            *scratch = large(whole)?;
        }
        let start = scratch.as_ptr().align_offset(SCRATCH_PAGE * size_of::<f32>());
        task(scratch[start.min(SCRATCH_PAGE)..].as_mut_ptr());
        Ok(())
    })
}

/// Values that tasks write at different places.
#[derive(Clone, Copy)]
pub struct To(pub *mut f32);

impl To {
    pub fn at(self, place: usize) -> *mut f32 {
        self.0.wrapping_add(place)
    }
}

// SAFETY: whoever makes one sees to it that tasks write different places.
unsafe impl Send for To {}
// SAFETY: as above.
unsafe impl Sync for To {}

impl Dense {
    /// The fastest that this CPU has.
    pub fn detect() -> Self {
        Self::all()[0]
    }

    /// All that this CPU has, the fastest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx512::detect().map(|isa| Self(Isa::Avx512(isa))));
            all.extend(Avx2F16c::detect().map(|isa| Self(Isa::Avx2(isa))));
        }
        all.push(Self(Isa::Portable));
        all
    }

    pub(crate) fn run(self, task: impl Task) {
        match self.0 {
            // SAFETY: arrays need no instruction set.
            Isa::Portable => unsafe { task.run::<[f32; 4]>() },
            // SAFETY: the tokens prove that the CPU has the instructions.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => unsafe { x86::avx2(task) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => unsafe { x86::avx512(task) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::Task;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn avx2(task: impl Task) {
        // SAFETY: this function enables the instructions.
        unsafe { task.run::<__m256>() }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub fn avx512(task: impl Task) {
        // SAFETY: as above.
        unsafe { task.run::<__m512>() }
    }
}
