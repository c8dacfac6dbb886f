//! Products of f32 by three bf16 each, against plain loops in f64.

use super::tests::{Case, FORMS, NN, NT, Random, SIZES, TN, bits, with_threads};
use super::*;

/// What the products of parts that [`gemm_f32`] leaves out add to an element's error, in `u · Σ|a||b|`, at most.
const PARTS_ERROR: f64 = 2.0 + 1.0 / 256.0;

/// How many roundings, at most, a sum over `k` products of [`gemm_f32`] goes through.
fn parts_summation_depth(k: usize) -> usize {
    17 + 6 * k.div_ceil(32)
}

/// Whether this machine has the path; says so where it hasn't.
fn is_here() -> bool {
    let here = Path::Amx.is_available();
    if !here {
        println!("skipped: no AMX here");
    }
    here
}

/// An integer of up to 11 bits, either sign: products of two and small sums of them are exact in f32, and need two parts.
fn eleven_bits(random: &mut Random) -> f32 {
    (random.bits() >> 53) as f32 - 1024.0
}

#[test]
fn every_form_sums_integers_of_several_parts_exactly() {
    if !is_here() {
        return;
    }
    for size in SIZES.into_iter().filter(|(_, _, depth)| *depth <= 8) {
        let case = Case::unrounded(size, eleven_bits);
        let truth: Vec<f32> = case.truth().iter().map(|(sum, _)| *sum as f32).collect();
        for form in FORMS {
            assert_eq!(case.product_in_f32(form, Threads::Pool), truth, "{size:?} {form:?}");
        }
    }
    for size in SIZES {
        let case = Case::unrounded(size, Random::small);
        let truth: Vec<f32> = case.truth().iter().map(|(sum, _)| *sum as f32).collect();
        let added: Vec<f32> = truth.iter().zip(&case.c).map(|(sum, c)| sum + c).collect();
        for form in FORMS {
            let (a, b) = case.stored(form);
            let mut c = case.c.clone();
            gemm_f32(a.matrix(), b.matrix(), &mut c, WriteMode::Accumulate, Threads::Pool);
            assert_eq!(c, added, "{size:?} {form:?}, added");
        }
    }
}

#[test]
fn products_in_f32_err_less_than_their_roundings_allow() {
    if !is_here() {
        return;
    }
    for size in [(40, 50, 1), (40, 50, 16), (40, 50, 100), (65, 70, 1000), (200, 40, 4096)] {
        // Magnitudes over six decades, so that no part is of one size.
        let case = Case::unrounded(size, |random| random.uniform() * 10f32.powi((random.bits() % 7) as i32 - 3));
        let truth = case.truth();
        let rounding = (parts_summation_depth(size.2) as f64 + PARTS_ERROR) * 2f64.powi(-24);
        for form in [NT, NN, TN] {
            for (i, (c, (sum, magnitude))) in case.product_in_f32(form, Threads::Pool).iter().zip(&truth).enumerate() {
                let error = (f64::from(*c) - sum).abs();
                let bound = rounding / (1.0 - rounding) * magnitude;
                assert!(error <= bound, "{size:?} {form:?} element {i}: off by {error:e}, allowed {bound:e}");
            }
        }
    }
}

/// One product alone: what three parts leave out, without a sum.
#[test]
fn a_single_product_is_off_by_less_than_a_rounding() {
    if !is_here() {
        return;
    }
    let mut random = Random::new(7);
    for _ in 0..2000 {
        let (a, b) = (random.uniform(), random.uniform());
        let mut c = [0f32];
        let (left, right) = ([a], [b]);
        let (left, right) = (Matrix::new(&left, 1, 1), Matrix::new(&right, 1, 1));
        gemm_f32(left, right, &mut c, WriteMode::Overwrite, Threads::One);
        let exact = f64::from(a) * f64::from(b);
        // Six parts, added one after the other: each sum is rounded, the largest last.
        let bound = (6.0 + PARTS_ERROR) * 2f64.powi(-24) * exact.abs();
        assert!((f64::from(c[0]) - exact).abs() <= bound, "{a:e} · {b:e} gave {:e}", c[0]);
    }
}

#[test]
fn threads_change_no_bits_of_products_in_f32() {
    if !is_here() {
        return;
    }
    for size in [(150, 140, 700), (700, 300, 256), (64, 1000, 1100)] {
        let case = Case::unrounded(size, Random::uniform);
        for form in [NT, NN, TN] {
            let single = with_threads(1, || case.product_in_f32(form, Threads::Pool));
            assert_eq!(
                bits(&case.product_in_f32(form, Threads::One)),
                bits(&single),
                "{size:?} {form:?} on this thread"
            );
            for threads in [2, 3, 7] {
                let several = with_threads(threads, || case.product_in_f32(form, Threads::Pool));
                assert_eq!(bits(&several), bits(&single), "{size:?} {form:?} on {threads} threads");
            }
        }
    }
}
