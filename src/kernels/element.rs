//! Float types that the kernels work in: f32 for training, f64 for gradient checks.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A float type of the kernels. The elementary functions are written without branches, so that loops over them vectorise,
/// and with fused multiplications, so that they give the same bits on every processor.
pub trait Element:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + SubAssign
    + bytemuck::Pod
    + 'static
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
