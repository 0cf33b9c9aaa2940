//! Instruction sets as tokens. A token exists only where the CPU has the instructions: holding one is the proof that
//! kernels which need them may run, so that no function has to trust a flag.

/// Declares a token for some CPU features.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident: $($feature:tt)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(());

        impl $name {
            /// The token, if this CPU has the instructions.
            pub fn detect() -> Option<Self> {
                #[cfg(target_arch = "x86_64")]
                if true $(&& std::arch::is_x86_feature_detected!($feature))+ {
                    return Some(Self(()));
                }
                None
            }
        }
    };
}

token!(
    /// 256-bit vectors with fused multiply-add.
    Avx2: "avx2" "fma"
);
token!(
    /// The same, with conversions from and to 16-bit floats.
    Avx2F16c: "avx2" "fma" "f16c"
);
token!(
    /// 512-bit vectors.
    Avx512: "avx512f" "avx2" "fma"
);
token!(
    /// 512-bit vectors that multiply pairs of 16-bit integers.
    Avx512Vnni: "avx512f" "avx512bw" "avx512dq" "avx512vnni" "avx2" "fma" "f16c"
);

/// Intel's matrix unit on bfloat16, with the 512-bit vectors that finish its sums.
#[derive(Debug, Clone, Copy)]
pub struct AmxBf16(());

impl AmxBf16 {
    /// The token, if the CPU has the unit and the kernel lets this process use it.
    pub fn detect() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if amx::permitted() {
            return Some(Self(()));
        }
        None
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::{arch::x86_64::__cpuid_count, sync::OnceLock};

    /// arch_prctl(2): asks for permission to use a part of the extended processor state.
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    /// The tiles of the matrix unit.
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;

    /// Asks once per process.
    pub fn permitted() -> bool {
        static ANSWER: OnceLock<bool> = OnceLock::new();
        *ANSWER.get_or_init(|| {
            // Leaf 7: EDX bit 22 is AMX-BF16, bit 24 AMX-TILE (Intel SDM, vol. 2A, CPUID).
            let features = __cpuid_count(7, 0).edx;
            features & (1 << 22) != 0
                && features & (1 << 24) != 0
                && std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512bf16")
                // SAFETY: a system call that takes two numbers and touches no memory.
                && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
        })
    }
}

/// The CPU features that kernels use and this CPU has, as Linux names them.
pub fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512_vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512_bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ("amx_bf16", AmxBf16::detect().is_some()),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}
