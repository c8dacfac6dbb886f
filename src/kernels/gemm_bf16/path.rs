//! Which instruction set carries a product: what this machine has, and what is preferred.
//!
//! The choice depends on the processor alone, never on a timing, so that a run's elements can be had again.

use std::sync::OnceLock;

/// One implementation of the products, named after the instructions it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Plain Rust; always there, and the reference implementation of the others.
    Portable,
    /// AVX2 with FMA: bf16 widened to f32, 8 lanes.
    Avx2,
    /// AVX-512F, BW and VL: bf16 widened to f32, 16 lanes.
    Avx512,
    /// AVX512-BF16: pairs of bf16 multiplied into f32 lanes (`vdpbf16ps`).
    Avx512Bf16,
    /// AMX-BF16: tiles of 16 × 32 bf16 multiplied into 16 × 16 f32 (`tdpbf16ps`).
    Amx,
}

impl Path {
    /// Whether this machine and its operating system run this path. Asking for AMX requests the process's permission.
    pub fn is_available(self) -> bool {
        match self {
            Path::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => features::avx2(),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => features::avx512(),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => features::avx512_bf16(),
            #[cfg(target_arch = "x86_64")]
            Path::Amx => features::amx(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The path that products take: the best for this processor.
    ///
    /// AMX comes first. AVX512-BF16 follows except on Intel, where `vdpbf16ps` starts every other cycle only
    /// (measured: 120 GFLOP/s a core against 240 of f32 FMA), so that widening to f32 is twice as fast.
    pub fn chosen() -> Path {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(best)
    }
}

fn best() -> Path {
    #[cfg(target_arch = "x86_64")]
    let is_intel = features::is_intel();
    #[cfg(not(target_arch = "x86_64"))]
    let is_intel = false;
    let preferred = match is_intel {
        true => [Path::Amx, Path::Avx512, Path::Avx512Bf16, Path::Avx2],
        false => [Path::Amx, Path::Avx512Bf16, Path::Avx512, Path::Avx2],
    };
    preferred.into_iter().find(|path| path.is_available()).unwrap_or(Path::Portable)
}

#[cfg(target_arch = "x86_64")]
mod features {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    pub fn is_intel() -> bool {
        let leaf = __cpuid(0);
        [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
    }

    pub fn avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    pub fn avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
    }

    pub fn avx512_bf16() -> bool {
        avx512() && is_x86_feature_detected!("avx512bf16")
    }

    /// AMX: the processor has it (CPUID leaf 7: edx bits 22 and 24), the packers' AVX512-BF16 is there, and the operating
    /// system grants its state.
    pub fn amx() -> bool {
        static GRANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *GRANTED.get_or_init(|| {
            let bits = 1 << 22 | 1 << 24;
            __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & bits == bits && avx512_bf16() && tile_state_is_granted()
        })
    }

    /// Linux saves the tiles' 8 KiB of state only for processes that ask (`ARCH_REQ_XCOMP_PERM`, Linux 5.16); a kernel
    /// without the call, or one that refuses, leaves AMX unavailable. The permission holds for all threads.
    #[cfg(target_os = "linux")]
    fn tile_state_is_granted() -> bool {
        const ARCH_GET_XCOMP_PERM: libc::c_long = 0x1022;
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        let tile_bits = 3u64 << 17;
        let mut granted = 0u64;
        // SAFETY: the first call passes two integers, the second a pointer to a u64 that outlives it, as
        // arch_prctl(2) and the kernel's documentation of the extended state (x86/xstate) ask for.
        unsafe {
            libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0
                && libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut granted) == 0
                && granted & tile_bits == tile_bits
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn tile_state_is_granted() -> bool {
        false
    }
}
