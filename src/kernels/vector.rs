//! Sixteen f32 side by side in registers, written out for each processor: where a kernel's accumulators must stay in
//! registers, the compiler can't be left to find the vectors by itself.
//!
//! All kinds give the same bits: products are fused with their sums, and the sixteen are added pairwise as
//! [`super::lanes::tree`] adds them.

use half::bf16;

use super::lanes::{LANES, tree};

/// A kind of register, or of several together.
pub(super) trait Vector: Copy {
    /// Zeros.
    ///
    /// # Safety
    /// The processor has what the kind needs; so for all others.
    unsafe fn zero() -> Self;
    /// The elements in f32.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn of_f32(elements: &[f32; LANES]) -> Self;
    /// The elements in bf16, widened.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn of_bf16(elements: &[bf16; LANES]) -> Self;
    /// `self + a · b`, rounded once.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    /// `self + other`.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn plus(self, other: Self) -> Self;
    /// The sum of the sixteen.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn sum(self) -> f32;
    /// Asks for the memory there, which need not exist, ahead of its use.
    fn prefetch(_place: *const u8) {}
}

/// A type that weights are kept in.
pub(super) trait Weight: Copy + Send + Sync {
    /// In f32.
    fn wide(self) -> f32;
    /// Sixteen in f32.
    ///
    /// # Safety
    /// As [`Vector::zero`].
    unsafe fn vector<V: Vector>(elements: &[Self; LANES]) -> V;
}

impl Weight for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn vector<V: Vector>(elements: &[Self; LANES]) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::of_f32(elements) }
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    unsafe fn vector<V: Vector>(elements: &[Self; LANES]) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::of_bf16(elements) }
    }
}

/// Plain Rust, the reference implementation of the others.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Vector for Plain {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn of_f32(elements: &[f32; LANES]) -> Self {
        Self(*elements)
    }

    #[inline(always)]
    unsafe fn of_bf16(elements: &[bf16; LANES]) -> Self {
        Self(elements.map(Weight::wide))
    }

    #[inline(always)]
    unsafe fn plus_product(mut self, a: Self, b: Self) -> Self {
        for (lane, sum) in self.0.iter_mut().enumerate() {
            *sum = a.0[lane].mul_add(b.0[lane], *sum);
        }
        self
    }

    #[inline(always)]
    unsafe fn plus(mut self, other: Self) -> Self {
        for (sum, other) in self.0.iter_mut().zip(other.0) {
            *sum += other;
        }
        self
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        tree(self.0)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2Pair, Avx512Whole};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{LANES, Vector};

    /// The eight elements and their sum, added pairwise.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn sum_of_eight(eight: __m256) -> f32 {
        // SAFETY: as the caller promises.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Whole(__m512);

    impl Vector for Avx512Whole {
        #[inline(always)]
        fn prefetch(place: *const u8) {
            // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 processor has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the caller promises; so for all others.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn of_f32(elements: &[f32; LANES]) -> Self {
            // SAFETY: sixteen elements are read, which are there.
            Self(unsafe { _mm512_loadu_ps(elements.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn of_bf16(elements: &[bf16; LANES]) -> Self {
            // SAFETY: sixteen elements are read, which are there.
            unsafe {
                let narrow = _mm256_loadu_si256(elements.as_ptr().cast());
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow))))
            }
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as the caller promises.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: as the caller promises.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as the caller promises.
            unsafe { sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))) }
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Pair(__m256, __m256);

    impl Vector for Avx2Pair {
        #[inline(always)]
        fn prefetch(place: *const u8) {
            // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 processor has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the caller promises; so for all others.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn of_f32(elements: &[f32; LANES]) -> Self {
            // SAFETY: sixteen elements are read, which are there.
            unsafe { Self(_mm256_loadu_ps(elements.as_ptr()), _mm256_loadu_ps(elements.as_ptr().add(8))) }
        }

        #[inline(always)]
        unsafe fn of_bf16(elements: &[bf16; LANES]) -> Self {
            // SAFETY: sixteen elements are read, which are there.
            unsafe {
                let widened = |from: *const bf16| {
                    let narrow = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(narrow))
                };
                Self(widened(elements.as_ptr()), widened(elements.as_ptr().add(8)))
            }
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as the caller promises.
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: as the caller promises.
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as the caller promises.
            unsafe { sum_of_eight(_mm256_add_ps(self.0, self.1)) }
        }
    }
}

/// Evaluates an expression with `$kind` as the widest kind of vector that this processor has, compiled for its features.
macro_rules! by_vector {
    ($kind:ident => $work:expr) => {
        match $crate::simd::width() {
            $crate::simd::Width::Base => {
                type $kind = $crate::vector::Plain;
                $work
            }
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Width::Avx2(avx2) => avx2.call(
                #[inline(always)]
                || {
                    type $kind = $crate::vector::Avx2Pair;
                    $work
                },
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Width::Avx512(avx512) => avx512.call(
                #[inline(always)]
                || {
                    type $kind = $crate::vector::Avx512Whole;
                    $work
                },
            ),
        }
    };
}
pub(super) use by_vector;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of products of each kind against plain Rust, to the bit.
    #[test]
    fn all_kinds_give_the_same_bits() {
        let elements = |seed: u32| -> [f32; LANES] {
            std::array::from_fn(|at| ((at as u32 + seed).wrapping_mul(2654435761) >> 8) as f32 * 1e-4 - 700.0)
        };
        let (a, b) = (elements(1), elements(50));
        let narrow = b.map(bf16::from_f32);
        #[inline(always)]
        fn sums<V: Vector>(a: &[f32; LANES], b: &[f32; LANES], narrow: &[bf16; LANES]) -> [f32; 2] {
            // SAFETY: called for plain Rust, and where the processor was found to have the features.
            unsafe {
                let (a, zero) = (V::of_f32(a), V::zero());
                let once = zero.plus_product(a, V::of_f32(b));
                let wide = <bf16 as Weight>::vector::<V>(narrow);
                [once.plus_product(a, a).sum(), once.plus_product(a, wide).plus(a).sum()]
            }
        }
        let plain = sums::<Plain>(&a, &b, &narrow);
        let widest = by_vector!(V => sums::<V>(&a, &b, &narrow));
        assert_eq!(plain.map(f32::to_bits), widest.map(f32::to_bits));
        let exact: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(b) + f64::from(*a).powi(2)).sum();
        assert!((f64::from(plain[0]) / exact - 1.0).abs() < 1e-5, "{} {exact}", plain[0]);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[target_feature(enable = "avx2,fma")]
            fn pair(a: &[f32; LANES], b: &[f32; LANES], narrow: &[bf16; LANES]) -> [f32; 2] {
                sums::<Avx2Pair>(a, b, narrow)
            }
            // SAFETY: the features were detected.
            let pair = unsafe { pair(&a, &b, &narrow) };
            assert_eq!(plain.map(f32::to_bits), pair.map(f32::to_bits));
        }
    }
}
