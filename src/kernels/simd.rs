//! Runs loops with the widest vectors that the processor has, decided at run time.
//!
//! Kernels are plain Rust loops over lanes; compiled under a target feature, the same loop uses wider registers. Products
//! and sums are fused only where a loop says so, so that all widths give the same bits.
//!
//! [`vectorized!`] is a macro, so that every width has its own closure that is surely inlined: one that isn't is compiled
//! for the narrowest vectors.

use std::sync::OnceLock;

/// Vector widths that a loop can be compiled for.
#[derive(Debug, Clone, Copy)]
pub enum Width {
    /// What every processor of the target has.
    Base,
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Says that AVX2 and FMA were detected: only [`width`] makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

/// Says that AVX-512 F, VL, DQ, BW and FMA were detected: only [`width`] makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

/// The widest vectors that this processor has.
pub fn width() -> Width {
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
                return Width::Avx512(Avx512(()));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Width::Avx2(Avx2(()));
            }
        }
        Width::Base
    })
}

/// Evaluates an expression, compiled once for each vector width. Functions that it calls, and
/// closures that it hands to iterators, must be inlined to gain.
macro_rules! vectorized {
    ($work:expr) => {
        match $crate::simd::width() {
            $crate::simd::Width::Base => $work,
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Width::Avx2(avx2) => avx2.call(
                #[inline(always)]
                || $work,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Width::Avx512(avx512) => avx512.call(
                #[inline(always)]
                || $work,
            ),
        }
    };
}
pub(crate) use vectorized;

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Calls `work` where vectors of 256 bits are compiled for.
    #[inline(always)]
    pub fn call<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        fn with<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the features were detected on this processor, and `work` itself needs none.
        unsafe { with(work) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// Calls `work` where vectors of 512 bits are compiled for.
    #[inline(always)]
    pub fn call<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "fma,avx512f,avx512vl,avx512dq,avx512bw")]
        fn with<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the features were detected on this processor, and `work` itself needs none.
        unsafe { with(work) }
    }
}
