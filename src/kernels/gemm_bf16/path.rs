//! Which instruction set carries a product: what this machine has, what is preferred, and the override for tests.
//!
//! The choice depends on the processor alone, never on a timing, so that a run's elements can be had again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// One implementation of the products, named after the instructions it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Path {
    /// Plain Rust; always there, and the reference implementation of the others.
    Portable = 1,
    /// AVX2 with FMA: bf16 widened to f32, 8 lanes.
    Avx2 = 2,
    /// AVX-512F and BW: bf16 widened to f32, 16 lanes.
    Avx512 = 3,
    /// AVX512-BF16: pairs of bf16 multiplied into f32 lanes (`vdpbf16ps`).
    Avx512Bf16 = 4,
    /// AMX-BF16: tiles of 16 × 32 bf16 multiplied into 16 × 16 f32 (`tdpbf16ps`).
    Amx = 5,
}

/// The refusal of [`select`]: this machine lacks the instructions, or its operating system doesn't allow them.
#[derive(Debug, thiserror::Error)]
#[error("matrix products by {} aren't available on this machine; available: {available}", .path.name())]
pub struct Unavailable {
    /// The path asked for.
    pub path: Path,
    /// The names of those that are there, best last.
    pub available: String,
}

impl Path {
    /// All paths, the plainest first.
    pub const ALL: [Path; 5] = [Path::Portable, Path::Avx2, Path::Avx512, Path::Avx512Bf16, Path::Amx];

    /// The name under which results report this path.
    pub fn name(self) -> &'static str {
        match self {
            Path::Portable => "portable",
            Path::Avx2 => "avx2-fma",
            Path::Avx512 => "avx512f",
            Path::Avx512Bf16 => "avx512-bf16",
            Path::Amx => "amx-bf16",
        }
    }

    /// Whether this machine and its operating system run this path. Asking for AMX requests the process's permission.
    pub fn is_available(self) -> bool {
        match self {
            Path::Portable => true,
            Path::Avx2 => features::avx2(),
            Path::Avx512 => features::avx512(),
            Path::Avx512Bf16 => features::avx512_bf16(),
            Path::Amx => features::amx(),
        }
    }

    /// The paths this machine can run, the plainest first.
    pub fn available() -> impl Iterator<Item = Path> {
        Path::ALL.into_iter().filter(|path| path.is_available())
    }

    /// The path that products take unless told otherwise: the one selected, or else the best for this processor.
    ///
    /// AMX comes first. AVX512-BF16 follows except on Intel, where `vdpbf16ps` starts every other cycle only
    /// (measured: 120 GFLOP/s a core against 240 of f32 FMA), so that widening to f32 is twice as fast.
    pub fn chosen() -> Path {
        static BEST: OnceLock<Path> = OnceLock::new();
        from_number(SELECTED.load(Ordering::Relaxed)).unwrap_or_else(|| *BEST.get_or_init(best))
    }

    /// How many roundings, at most, a sum over `k` products goes through on the way to an output element, one for
    /// each f32 addition in the longest chain. With `u = 2^-24` the error of an element is at most about
    /// `depth · u · Σ|a||b|` (Higham 2002, section 4.2), because products of two bf16 are exact in f32.
    pub fn summation_depth(self, k: usize) -> usize {
        match self {
            // For each 32 indices two chains of 16, their sum, and one addition to the accumulator.
            Path::Amx => 16 + k.div_ceil(32),
            // One chain over k, whatever the lanes: they hold different elements.
            _ => k,
        }
    }
}

/// Makes every later product whose path isn't named take `path`, in the whole process; `None` restores the choice by
/// processor. For tests and benchmarks; operands packed before keep theirs.
///
/// # Errors
/// [`Unavailable`] when this machine can't run `path`.
pub fn select(path: Option<Path>) -> Result<(), Unavailable> {
    if let Some(path) = path.filter(|path| !path.is_available()) {
        let available = Path::available().map(Path::name).collect::<Vec<_>>().join(", ");
        return Err(Unavailable { path, available });
    }
    SELECTED.store(path.map_or(0, |path| path as u8), Ordering::Relaxed);
    Ok(())
}

/// The path selected by hand as its number, or 0.
static SELECTED: AtomicU8 = AtomicU8::new(0);

fn from_number(number: u8) -> Option<Path> {
    Path::ALL.into_iter().find(|path| *path as u8 == number)
}

fn best() -> Path {
    let preferred = match features::is_intel() {
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
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
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

#[cfg(not(target_arch = "x86_64"))]
mod features {
    pub fn is_intel() -> bool {
        false
    }
    pub fn avx2() -> bool {
        false
    }
    pub fn avx512() -> bool {
        false
    }
    pub fn avx512_bf16() -> bool {
        false
    }
    pub fn amx() -> bool {
        false
    }
}
