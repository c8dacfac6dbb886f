//! Matrix products of bf16 with f32 sums, for training on the CPU.
//!
//! [`gemm`] multiplies two [`Matrix`] views: `C = A · B`, `C += A · B`, or `C` rounded to bf16. A transposed view gives the
//! products of a linear layer: forward `X · Wᵀ`, input gradient `dY · W`, weight gradient `dYᵀ · X`. An operand in f32 is
//! rounded to bf16 while it is packed. A weight that several products use is packed once as [`PackedB`] and goes in by
//! [`gemm_packed`].
//!
//! # Arithmetic
//! Products of two bf16 are exact in f32, and are summed in f32, one chain an element in the order of the index (AMX: in
//! groups of 32, see [`Path::summation_depth`]). With `u = 2^-24`, an element's error is at most `depth · u · Σ|a||b|` to
//! first order; a sum that goes onto C begins with C, whose magnitude joins the sum. AVX512-BF16 and AMX read denormals
//! as zero and flush them to zero, which adds at most 2^-126 for each addition and `2^-126 (Σ|a| + Σ|b|)` for denormal
//! operands. Paths differ from each other within that bound; the f32 ones (portable, AVX2, AVX-512F) don't differ at all.
//! One path gives the same bits for any number of threads, for an operand packed ahead or not, and for a C in f32 or,
//! up to its one rounding, in bf16.
//!
//! # Paths
//! [`Path::chosen`] goes by the processor; [`path`] names it for results. Scratch is the thread's own and reused: after
//! the first product of a size, none allocates. Panics are for sizes that don't fit together, which is the caller's
//! mistake. Refused: batches of products (loop over them on a thread each with [`gemm_on_this_thread`]).
//!
//! Where AMX is there, [`gemm_f32`] multiplies f32 by the same tiles, without rounding the operands.

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
mod convert;
#[cfg(target_arch = "x86_64")]
mod interleave;
mod kernel;
mod matrix;
mod packed;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod parts;
mod path;
mod portable;
mod product;
mod scratch;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;

pub use convert::{narrow, widen};
pub use matrix::{Matrix, Output};
pub use packed::PackedB;
pub use path::{Path, Unavailable, select};

use product::{Right, Sizes};

/// The name of the path that products take in this process, as results report it.
pub fn path() -> &'static str {
    Path::chosen().name()
}

/// `C = A · B` of (M, K) and (K, N), on rayon's current pool.
///
/// # Panics
/// If the sizes don't fit together or C is too short.
pub fn gemm(a: Matrix, b: Matrix, c: Output) {
    gemm_by(Path::chosen(), a, b, c, false);
}

/// [`gemm`] on the calling thread alone, for a product that is one of many tasks.
///
/// # Panics
/// As [`gemm`].
pub fn gemm_on_this_thread(a: Matrix, b: Matrix, c: Output) {
    gemm_by(Path::chosen(), a, b, c, true);
}

/// `C = A · B` of (M, K) and (K, N) with B packed ahead, on rayon's current pool, by the path that B is packed for.
///
/// # Panics
/// If the sizes don't fit together or C is too short.
pub fn gemm_packed(a: Matrix, b: &PackedB, c: Output) {
    gemm_packed_by(a, b, c, false);
}

/// [`gemm_packed`] on the calling thread alone.
///
/// # Panics
/// As [`gemm_packed`].
pub fn gemm_packed_on_this_thread(a: Matrix, b: &PackedB, c: Output) {
    gemm_packed_by(a, b, c, true);
}

fn gemm_packed_by(a: Matrix, b: &PackedB, c: Output, on_this_thread: bool) {
    run(b.path(), &a, Right::Packed(b.elements().as_ptr()), c, (b.rows(), b.columns()), on_this_thread);
}

/// Whether [`gemm_f32`] multiplies faster than f32 vectors do: where products take AMX tiles.
pub fn multiplies_f32() -> bool {
    Path::chosen() == Path::Amx
}

/// `C = A · B` of (M, K) and (K, N) in f32, about as exact as by f32 vectors: with `u = 2^-24` the error of an element
/// is at most [`PARTS_ERROR`]` · u · Σ|a||b|` besides that of its sum, whose chain is [`parts_summation_depth`] long. The
/// operands are those made by [`Matrix::rounded`], which are not rounded here.
///
/// # Panics
/// If the sizes don't fit together, C is too short, an operand is in bf16, or [`multiplies_f32`] is false.
pub fn gemm_f32(a: Matrix, b: Matrix, c: Output, on_this_thread: bool) {
    assert!(Path::Amx.is_available(), "products by parts need AMX");
    assert_eq!(a.columns, b.rows, "A's columns must be B's rows");
    let sizes = Sizes { rows: a.rows, columns: b.columns, depth: b.rows };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AMX is available.
    unsafe {
        product::run::<amx_parts::AmxParts>(&a, Right::Plain(&b), c, sizes, on_this_thread);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (c, sizes, on_this_thread);
}

/// What the products of parts that [`gemm_f32`] leaves out add to an element's error, in `u · Σ|a||b|`, at most: a1·b2 and
/// a2·b1, of `2^-24 |a·b|` each, and a2·b2, of `2^-32 |a·b|`.
pub const PARTS_ERROR: f64 = 2.0 + 1.0 / 256.0;

/// How many roundings, at most, a sum over `k` products of [`gemm_f32`] goes through: for each 32 indices one addition to
/// the accumulator by each of six pairs of parts, and before the first of them a chain of 16 and one sum of two chains.
pub fn parts_summation_depth(k: usize) -> usize {
    17 + 6 * k.div_ceil(32)
}

/// A product by a path that this machine has; `Path::chosen` and [`PackedB`] see to that.
fn gemm_by(path: Path, a: Matrix, b: Matrix, c: Output, on_this_thread: bool) {
    assert!(path.is_available(), "the path {} isn't available here", path.name());
    run(path, &a, Right::Plain(&b), c, (b.rows, b.columns), on_this_thread);
}

fn run(path: Path, a: &Matrix, b: Right, c: Output, (depth, columns): (usize, usize), on_this_thread: bool) {
    assert_eq!(a.columns, depth, "A's columns must be B's rows");
    let sizes = Sizes { rows: a.rows, columns, depth };
    // SAFETY: a path is available wherever a caller gets it from, and a packed B is packed for its own path.
    by_path!(path, K => unsafe { product::run::<K>(a, b, c, sizes, on_this_thread) })
}

/// Evaluates an expression with `$kernel` as the type of a path's kernels.
macro_rules! by_path {
    ($path:expr, $kernel:ident => $expression:expr) => {
        match $path {
            #[cfg(target_arch = "x86_64")]
            $crate::gemm_bf16::Path::Avx2 => {
                type $kernel = $crate::gemm_bf16::avx2::Avx2;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::gemm_bf16::Path::Avx512 => {
                type $kernel = $crate::gemm_bf16::avx512::Avx512;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::gemm_bf16::Path::Avx512Bf16 => {
                type $kernel = $crate::gemm_bf16::avx512_bf16::Avx512Bf16;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::gemm_bf16::Path::Amx => {
                type $kernel = $crate::gemm_bf16::amx::Amx;
                $expression
            }
            _ => {
                type $kernel = $crate::gemm_bf16::portable::Portable;
                $expression
            }
        }
    };
}
use by_path;
