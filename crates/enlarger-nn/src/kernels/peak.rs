//! The peak of a CPU: multiplications and additions that touch no memory.

use std::{hint::black_box, time::Instant};

use super::{
    isa::{Avx2, Avx512},
    vector::Vector,
};

/// Sums that do not wait for each other: enough for two units of a latency of five, and few enough for 16 registers.
const SUMS: usize = 12;
/// Steps between two looks at the clock: some ten milliseconds at most.
const STEPS: usize = 1 << 20;
/// Looks at the clock.
const ROUNDS: usize = 12;

/// A loop of multiplications and additions on the vectors of an instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// Returns the vectors' lanes.
    run: fn() -> usize,
}

impl Peak {
    pub fn portable() -> Self {
        // SAFETY: arrays need no instruction set.
        Self { run: || unsafe { steps::<[f32; 4]>() } }
    }

    #[cfg(target_arch = "x86_64")]
    pub fn avx2(_: Avx2) -> Self {
        #[target_feature(enable = "avx2,fma")]
        fn run() -> usize {
            // SAFETY: AVX2 and FMA are enabled here.
            unsafe { steps::<std::arch::x86_64::__m256>() }
        }
        // SAFETY: the token proves that the CPU has them.
        Self { run: || unsafe { run() } }
    }

    #[cfg(target_arch = "x86_64")]
    pub fn avx512(_: Avx512) -> Self {
        #[target_feature(enable = "avx512f")]
        fn run() -> usize {
            // SAFETY: AVX-512 is enabled here.
            unsafe { steps::<std::arch::x86_64::__m512>() }
        }
        // SAFETY: the token proves that the CPU has it.
        Self { run: || unsafe { run() } }
    }

    /// The most f32 operations per second on this many threads at once, a multiplication and an addition each being one.
    /// Takes about 0.1 s.
    pub fn flops(self, threads: usize) -> f64 {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(move || self.best())).collect();
            running.into_iter().map(|thread| thread.join().expect("it only computes")).sum()
        })
    }

    /// The best round of one thread.
    fn best(self) -> f64 {
        let round = || {
            let started = Instant::now();
            let lanes = (self.run)();
            (2 * lanes * SUMS * STEPS) as f64 / started.elapsed().as_secs_f64()
        };
        (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
    }
}

/// Returns the vectors' lanes.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn steps<V: Vector>() -> usize {
    // SAFETY: the caller's promise; the buffer has room for a vector.
    unsafe {
        // Values that stay finite and that the compiler cannot know.
        let (a, b) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [b; SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = b.fma(*sum, a);
            }
        }
        let mut values = [0.0; 16];
        for sum in sums {
            sum.store(values.as_mut_ptr());
            black_box(&values);
        }
    }
    V::LANES
}
