//! Matrix products by bf16 instructions, with f32 sums, for training on the CPU.
//!
//! [`gemm`] rounds operands that are kept in f32 to bf16 while it packs them, and takes those in bf16 as they are; the sums go to an output in
//! f32, or are rounded once to one in bf16, which with [`WriteMode::Accumulate`] is widened and added first. A transposed view gives the products of a linear layer:
//! forward `X · Wᵀ`, input gradient `dY · W`, weight gradient `dYᵀ · X`. Where AMX is there, [`gemm_f32`] multiplies f32 by
//! the same tiles, without rounding the operands.
//!
//! # Arithmetic
//! Products of two bf16 are exact in f32, and are summed in f32, one chain an element in the order of the index (AMX: in
//! groups of 32). With `u = 2^-24`, an element's error is at most `depth · u · Σ|a||b|` to
//! first order; a sum that goes onto C begins with C, whose magnitude joins the sum. AVX512-BF16 and AMX read denormals
//! as zero and flush them to zero, which adds at most 2^-126 for each addition and `2^-126 (Σ|a| + Σ|b|)` for denormal
//! operands. Paths differ from each other within that bound; the f32 ones (portable, AVX2, AVX-512F) don't differ at all.
//! One path gives the same bits for any number of threads.
//!
//! # Paths
//! [`Path::chosen`] goes by the processor. Scratch is the thread's own and reused: after the first product of a size, none
//! allocates. Panics are for sizes that don't fit together, which is the caller's mistake. Refused: batches of products
//! (loop over them on a thread each with [`Threads::One`]).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_parts;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
mod interleave;
mod kernel;
mod operands;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod parts;
mod path;
mod portable;
mod product;
mod scratch;

#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;

pub(super) use operands::{Output, Source};
use path::Path;

use super::matrix::{Matrix, Threads, WriteMode};

/// `C = A · B` or `C += A · B` of (M, K) and (K, N) in bf16.
///
/// # Panics
/// If the sizes don't fit together or C is too short.
pub(super) fn gemm(a: Source, b: Source, c: Output, mode: WriteMode, threads: Threads) {
    gemm_by(Path::chosen(), a, b, c, mode, threads);
}

fn gemm_by(path: Path, a: Source, b: Source, c: Output, mode: WriteMode, threads: Threads) {
    debug_assert!(path.is_available(), "the path {path:?} isn't available here");
    // SAFETY: the path is available.
    unsafe {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => product::run::<avx2::Avx2>(&a, &b, c, mode, threads),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => product::run::<avx512::Avx512>(&a, &b, c, mode, threads),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => product::run::<avx512_bf16::Avx512Bf16>(&a, &b, c, mode, threads),
            #[cfg(target_arch = "x86_64")]
            Path::Amx => product::run::<amx::Amx>(&a, &b, c, mode, threads),
            _ => product::run::<portable::Portable>(&a, &b, c, mode, threads),
        }
    }
}

/// Whether [`gemm_f32`] multiplies faster than f32 vectors do: where products take AMX tiles.
pub(super) fn multiplies_f32() -> bool {
    Path::chosen() == Path::Amx
}

/// [`gemm`] without rounding the operands, about as exact as by f32 vectors: with `u = 2^-24` the error of an element is at
/// most `2.004 · u · Σ|a||b|` besides that of its sum. The products of parts that are left out add a1·b2 and a2·b1, of
/// `2^-24 |a·b|` each, and a2·b2, of `2^-32 |a·b|`. For each 32 indices a sum goes through one addition by each of six
/// pairs of parts, and before the first of them a chain of 16 and one sum of two chains.
///
/// # Panics
/// If the sizes don't fit together, C is too short, or AMX isn't available.
pub(super) fn gemm_f32(a: Matrix<f32>, b: Matrix<f32>, c: &mut [f32], mode: WriteMode, threads: Threads) {
    assert!(Path::Amx.is_available(), "products by parts need AMX");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AMX is available.
    unsafe {
        product::run::<amx_parts::AmxParts>(&Source::F32(a), &Source::F32(b), Output::F32(c), mode, threads);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (a, b, c, mode, threads);
}
