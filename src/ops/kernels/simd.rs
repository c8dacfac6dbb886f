//! Runs loops with the widest vectors that the processor has, decided at run time.
//!
//! Kernels are plain Rust loops over lanes; compiled under a target feature, the same loop uses wider registers. Products
//! and sums are fused only where a loop says so, so that all widths give the same bits.

use std::sync::OnceLock;

/// Vector widths that a loop can be compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// What every processor of the target has.
    Base,
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

fn width() -> Width {
    static WIDTH: OnceLock<Width> = OnceLock::new();
    *WIDTH.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            if wide {
                return Width::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Width::Avx2;
            }
        }
        Width::Base
    })
}

/// Calls `work`, compiled for the widest vectors at hand. What it calls must be inlined to gain.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    match width() {
        Width::Base => work(),
        // SAFETY: the feature was detected on this processor, and `work` itself needs none.
        #[cfg(target_arch = "x86_64")]
        Width::Avx2 => unsafe { with_avx2(work) },
        // SAFETY: the features were detected on this processor, and `work` itself needs none.
        #[cfg(target_arch = "x86_64")]
        Width::Avx512 => unsafe { with_avx512(work) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma,avx512f,avx512vl,avx512dq,avx512bw")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}
