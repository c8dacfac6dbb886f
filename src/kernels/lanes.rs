//! Sums in a fixed order: sixteen lanes side by side, then a tree, then what is left over. The order depends on the length
//! alone, so that a sum has the same bits whatever the vector width or the number of threads.

use super::{Element, Stored};

/// Elements that are summed side by side.
pub const LANES: usize = 16;

/// Sum of `term` over 0..length; `term` must be cheap and without side effects.
#[inline(always)]
pub fn sum<T: Element>(length: usize, mut term: impl FnMut(usize) -> T) -> T {
    let whole = length - length % LANES;
    let mut lanes = [T::ZERO; LANES];
    let mut start = 0;
    while start < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
        start += LANES;
    }
    let mut total = tree(lanes);
    for index in whole..length {
        total += term(index);
    }
    total
}

/// Sum of a slice.
#[inline(always)]
pub fn total<T: Element>(elements: &[T]) -> T {
    let (whole, rest) = elements.as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for chunk in whole {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += *number;
        }
    }
    let mut total = tree(lanes);
    for number in rest {
        total += *number;
    }
    total
}

/// Sum of the products of two slices of equal length.
#[inline(always)]
pub fn dot<T: Element>(a: &[impl Stored<Element = T>], b: &[impl Stored<Element = T>]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            lanes[lane] += a[lane].load() * b[lane].load();
        }
    }
    let mut total = tree(lanes);
    for (a, b) in a_rest.iter().zip(b_rest) {
        total += a.load() * b.load();
    }
    total
}

/// The largest of at least one number.
#[inline(always)]
pub fn maximum<T: Element>(elements: &[T]) -> T {
    let mut lanes = [elements[0]; LANES];
    let (whole, rest) = elements.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = lane.larger(*number);
        }
    }
    lanes.iter().chain(rest).fold(elements[0], |largest, number| largest.larger(*number))
}

/// The lanes added pairwise.
#[inline(always)]
pub fn tree<T: Element>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
