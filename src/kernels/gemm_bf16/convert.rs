//! Conversions between slices of f32 and bf16, on the calling thread.

use half::bf16;

use super::kernel::Sums;
use super::{Path, portable};

/// Rounds f32 to bf16: to nearest, ties to even; denormals are kept, NaNs stay NaNs (made quiet).
///
/// # Panics
/// If the lengths differ.
pub fn narrow(from: &[f32], to: &mut [bf16]) {
    assert_eq!(from.len(), to.len(), "a conversion needs slices of equal length");
    let sums = Sums { from: from.as_ptr(), stride: from.len(), rows: 1, columns: from.len() };
    // SAFETY: both slices are `columns` long and can't overlap; the features of an available path are there.
    unsafe {
        match vectors() {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => super::avx512::narrow(&sums, to.as_mut_ptr(), to.len()),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => super::avx2::narrow(&sums, to.as_mut_ptr(), to.len()),
            _ => portable::narrow(&sums, to.as_mut_ptr(), to.len()),
        }
    }
}

/// Widens bf16 to f32, exactly.
///
/// # Panics
/// If the lengths differ.
pub fn widen(from: &[bf16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "a conversion needs slices of equal length");
    // SAFETY: both slices are as long and can't overlap; the features of an available path are there.
    unsafe {
        match vectors() {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => super::avx512::widen(from.as_ptr(), from.len(), to.as_mut_ptr()),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => super::avx2::widen(from.as_ptr(), from.len(), to.as_mut_ptr()),
            _ => portable::widen(from.as_ptr(), from.len(), to.as_mut_ptr()),
        }
    }
}

/// The widest vectors that are there. All three convert to the same bits.
fn vectors() -> Path {
    [Path::Avx512, Path::Avx2].into_iter().find(|path| path.is_available()).unwrap_or(Path::Portable)
}
