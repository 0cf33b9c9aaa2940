//! What a processor could do at most: multiplications and additions that touch no memory.

use std::{hint::black_box, time::Instant};

use super::{Isa, Vector};

/// Sums that do not wait for each other: enough for two units of a latency of five, and few enough for 16 registers.
const SUMS: usize = 12;
/// Steps between two looks at the clock: some ten milliseconds at most.
const STEPS: usize = 1 << 20;
/// Looks at the clock.
const ROUNDS: usize = 12;

/// The most f32 operations per second that an instruction set gives on so many threads at once, a multiplication and an
/// addition each being one. On [`Isa::Amx`] vectors of AVX-512 are measured: the matrix unit has no f32. Takes about 0.1 s.
///
/// # Panics
/// If this processor lacks the instruction set; [`Backend::resolve`](super::Backend::resolve) gives one that is there.
pub fn peak_flops(isa: Isa, threads: usize) -> f64 {
    assert!(super::Backend { isa, ..Default::default() }.resolve().is_ok(), "this processor does not offer {isa:?}");
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(move || one(isa))).collect();
        running.into_iter().map(|thread| thread.join().expect("it only computes")).sum()
    })
}

/// The best round of one thread.
fn one(isa: Isa) -> f64 {
    let round = || {
        let started = Instant::now();
        let lanes = match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller has checked that the processor has it.
            Isa::Amx | Isa::Avx512 => unsafe { avx512() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2() },
            // SAFETY: arrays need no instruction set.
            _ => unsafe { steps::<[f32; 4]>() },
        };
        (2 * lanes * SUMS * STEPS) as f64 / started.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512() -> usize {
    // SAFETY: AVX-512 is enabled here.
    unsafe { steps::<std::arch::x86_64::__m512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2() -> usize {
    // SAFETY: AVX2 and FMA are enabled here.
    unsafe { steps::<std::arch::x86_64::__m256>() }
}

/// Gives the vectors' lanes.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn steps<V: Vector>() -> usize {
    // SAFETY: the caller's promise; the buffer has room for a vector.
    unsafe {
        // Values that stay finite, and that the compiler does not know.
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
