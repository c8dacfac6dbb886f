//! Float types that the kernels work in: f32 for training, f64 for gradient checks; and types that elements are kept in between operations,
//! which besides these are bf16.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use half::bf16;

/// A type that elements are kept in. Kernels widen what they read, compute in [`Stored::Element`], and round what they write, to nearest
/// with ties to even.
pub trait Stored: Copy + Debug + Default + PartialEq + Send + Sync + bytemuck::Pod + 'static {
    /// What kernels compute in.
    type Element: Element;

    /// Which type it is.
    const KIND: Kind;

    /// The same number.
    fn load(self) -> Self::Element;
    /// The nearest number of this type.
    fn store(value: Self::Element) -> Self;

    /// `self + value`, rounded once.
    #[inline(always)]
    fn plus(self, value: Self::Element) -> Self {
        Self::store(self.load() + value)
    }
}

/// The types that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// f32.
    F32,
    /// f64.
    F64,
    /// bf16.
    Bf16,
}

/// Rounds to nearest, ties to even; a NaN stays one, made quiet.
#[inline(always)]
pub(super) fn round(number: f32) -> bf16 {
    let bits = number.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    bf16::from_bits(if number.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded })
}

/// The f32 that a bf16 stands for: exact.
#[inline(always)]
pub(super) fn widened(number: bf16) -> f32 {
    f32::from_bits(u32::from(number.to_bits()) << 16)
}

impl Stored for bf16 {
    type Element = f32;

    const KIND: Kind = Kind::Bf16;

    #[inline(always)]
    fn load(self) -> f32 {
        widened(self)
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        round(value)
    }
}

/// A float type of the kernels. The elementary functions are written without branches, so that loops over them vectorise,
/// and with fused multiplications, so that they give the same bits on every processor.
pub trait Element:
    Stored<Element = Self>
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + SubAssign
{
    /// Whether the type is f32; it is f64 otherwise.
    const IS_F32: bool;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// The same number in f64.
    fn wide(self) -> f64;
    /// √x.
    fn root(self) -> Self;
    /// `self · factor + term`, rounded once: the same bits on every processor.
    fn multiply_add(self, factor: Self, term: Self) -> Self;
    /// The larger of two elements.
    fn larger(self, other: Self) -> Self;
    /// e^x.
    fn exponential(self) -> Self;
    /// tanh x.
    fn hyperbolic_tangent(self) -> Self;

    /// 1 / (1 + e^−x).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::of(0.5) * (self * Self::of(0.5)).hyperbolic_tangent() + Self::of(0.5)
    }
}

/// What both types compute by the same words.
macro_rules! shared_functions {
    () => {
        #[inline(always)]
        fn root(self) -> Self {
            self.sqrt()
        }

        #[inline(always)]
        fn multiply_add(self, factor: Self, term: Self) -> Self {
            self.mul_add(factor, term)
        }

        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            if self > other { self } else { other }
        }
    };
}

/// What both types are kept in: themselves.
macro_rules! kept_as_itself {
    ($type:ty, $kind:expr) => {
        impl Stored for $type {
            type Element = Self;

            const KIND: Kind = $kind;

            #[inline(always)]
            fn load(self) -> Self {
                self
            }

            #[inline(always)]
            fn store(value: Self) -> Self {
                value
            }
        }
    };
}
kept_as_itself!(f32, Kind::F32);
kept_as_itself!(f64, Kind::F64);

impl Element for f32 {
    const IS_F32: bool = true;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    shared_functions!();

    /// Relative error below 2e-7 for results that are normal numbers; smaller ones come out as the least normal number.
    #[inline(always)]
    fn exponential(self) -> Self {
        // x = n ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that n ln 2 is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x > -87.0 { x } else { -87.0 };
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = (-n).mul_add(LN2_LOW, (-n).mul_add(LN2_HIGH, x));
        let r2 = r * r;
        let low = r.mul_add(1.987_569_1e-4, 1.398_199_9e-3).mul_add(r2, r.mul_add(8.333_452e-3, 4.166_579_6e-2));
        let series = low.mul_add(r2, r.mul_add(1.666_666_5e-1, 0.5)).mul_add(r2, r) + 1.0;
        let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
        series * Self::from_bits(exponent)
    }

    /// Relative error below 4e-7.
    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        // A rational function on [−7.9, 7.9], outside of which tanh rounds to ±1.
        const LIMIT: f32 = 7.905_311;
        let x = if self > LIMIT { LIMIT } else { self };
        let x = if x > -LIMIT { x } else { -LIMIT };
        let x2 = x * x;
        let top = x2.mul_add(-2.760_768_5e-16, 2.000_188e-13);
        let top = top.mul_add(x2, -8.604_672e-11);
        let top = top.mul_add(x2, 5.122_297e-8);
        let top = top.mul_add(x2, 1.485_722_4e-5);
        let top = top.mul_add(x2, 6.372_619_3e-4);
        let top = top.mul_add(x2, 4.893_524_6e-3) * x;
        let bottom = x2.mul_add(1.198_258_4e-6, 1.185_347_1e-4);
        let bottom = bottom.mul_add(x2, 2.268_434_6e-3);
        top / bottom.mul_add(x2, 4.893_525e-3)
    }
}

impl Element for f64 {
    const IS_F32: bool = false;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    shared_functions!();

    #[inline(always)]
    fn exponential(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        self.tanh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_rounded_to_bf16_as_ieee_says_and_stay_what_they_are_otherwise() {
        let bits =
            |number: f32| (0..=u16::MAX).map(move |low| f32::from_bits(number.to_bits() & !0xffff | u32::from(low)));
        let numbers = [1.0, -3.3, 1e-39, 3.3e38, -0.0, f32::INFINITY];
        for number in numbers.into_iter().flat_map(bits).chain([f32::MAX, f32::MIN_POSITIVE]) {
            let (ours, reference) = (bf16::store(number), bf16::from_f32(number));
            assert!(ours == reference || ours.is_nan() && reference.is_nan(), "{number:e}: {ours} for {reference}");
        }
        assert!((bf16::store(1.0).plus(0.5).load(), f32::store(0.1).load()) == (1.5, 0.1));
    }

    /// Elements from −limit to limit.
    fn grid(limit: f32) -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(move |index| limit * index as f32 / 20_000.0)
    }

    #[test]
    fn exponentials_are_accurate() {
        for x in grid(86.0).chain(grid(1.0)) {
            let exact = f64::from(x).exp();
            let error = (f64::from(x.exponential()) / exact - 1.0).abs();
            assert!(error < 2e-7, "e^{x}: {error:e}");
        }
        assert!((-1000f32).exponential() < 1.7e-38);
        assert!(1000f32.exponential() > 1.6e38);
    }

    #[test]
    fn hyperbolic_tangents_are_accurate() {
        for x in grid(12.0).chain(grid(0.01)).filter(|x| *x != 0.0) {
            let exact = f64::from(x).tanh();
            let error = (f64::from(x.hyperbolic_tangent()) / exact - 1.0).abs();
            assert!(error < 4e-7, "tanh {x}: {error:e}");
        }
    }
}
