//! Reverse-mode differentiation of single numbers.

/// A number on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(usize);

/// All numbers of a computation in the order they were made, each with its slope in those it was made from.
#[derive(Debug, Default)]
pub struct Tape {
    values: Vec<f64>,
    /// Origins and slopes of all numbers, one after the other.
    slopes: Vec<(Number, f64)>,
    /// Where the slopes of each number end.
    ends: Vec<usize>,
}

impl Tape {
    /// A given number, made from nothing.
    pub fn leaf(&mut self, value: f64) -> Number {
        self.made(value, [])
    }

    /// The value of a number.
    pub fn value(&self, number: Number) -> f64 {
        self.values[number.0]
    }

    /// A number of that value, with its slope in each of the numbers it was made from.
    fn made(&mut self, value: f64, slopes: impl IntoIterator<Item = (Number, f64)>) -> Number {
        self.values.push(value);
        self.slopes.extend(slopes);
        self.ends.push(self.slopes.len());
        Number(self.values.len() - 1)
    }

    /// a + b.
    pub fn add(&mut self, a: Number, b: Number) -> Number {
        self.made(self.value(a) + self.value(b), [(a, 1.0), (b, 1.0)])
    }

    /// a · b.
    pub fn multiply(&mut self, a: Number, b: Number) -> Number {
        let (x, y) = (self.value(a), self.value(b));
        self.made(x * y, [(a, y), (b, x)])
    }

    /// a / b.
    pub fn divide(&mut self, a: Number, b: Number) -> Number {
        let (x, y) = (self.value(a), self.value(b));
        self.made(x / y, [(a, 1.0 / y), (b, -x / (y * y))])
    }

    /// factor · a + shift, both constant.
    pub fn affine(&mut self, a: Number, factor: f64, shift: f64) -> Number {
        self.made(factor * self.value(a) + shift, [(a, factor)])
    }

    /// e^a.
    pub fn exp(&mut self, a: Number) -> Number {
        let value = self.value(a).exp();
        self.made(value, [(a, value)])
    }

    /// The natural logarithm of a.
    pub fn ln(&mut self, a: Number) -> Number {
        let x = self.value(a);
        self.made(x.ln(), [(a, 1.0 / x)])
    }

    /// √a.
    pub fn sqrt(&mut self, a: Number) -> Number {
        let root = self.value(a).sqrt();
        self.made(root, [(a, 0.5 / root)])
    }

    /// tanh a.
    pub fn tanh(&mut self, a: Number) -> Number {
        let value = self.value(a).tanh();
        self.made(value, [(a, 1.0 - value * value)])
    }

    /// 1 / (1 + e^−a).
    pub fn sigmoid(&mut self, a: Number) -> Number {
        let value = 1.0 / (1.0 + (-self.value(a)).exp());
        self.made(value, [(a, value * (1.0 - value))])
    }

    /// max(a, 0)².
    pub fn squared_relu(&mut self, a: Number) -> Number {
        let positive = self.value(a).max(0.0);
        self.made(positive * positive, [(a, 2.0 * positive)])
    }

    /// Sum of the numbers.
    pub fn sum(&mut self, numbers: &[Number]) -> Number {
        let value = numbers.iter().map(|number| self.value(*number)).sum();
        self.made(value, numbers.iter().map(|number| (*number, 1.0)))
    }

    /// Sum of the products of corresponding numbers.
    pub fn dot(&mut self, a: &[Number], b: &[Number]) -> Number {
        let pairs = || a.iter().zip(b);
        let value = pairs().map(|(a, b)| self.value(*a) * self.value(*b)).sum();
        let slopes: Vec<(Number, f64)> =
            pairs().flat_map(|(a, b)| [(*a, self.value(*b)), (*b, self.value(*a))]).collect();
        self.made(value, slopes)
    }

    /// The slope of `result` in every number of the tape.
    pub fn gradient(&self, result: Number) -> Gradient {
        let mut slopes = vec![0.0; self.values.len()];
        slopes[result.0] = 1.0;
        for index in (0..=result.0).rev() {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            for (origin, slope) in &self.slopes[start..self.ends[index]] {
                slopes[origin.0] += slopes[index] * slope;
            }
        }
        Gradient(slopes)
    }
}

/// The slopes of one number in all numbers of its tape.
#[derive(Debug)]
pub struct Gradient(Vec<f64>);

impl Gradient {
    /// The slope in one number.
    pub fn of(&self, number: Number) -> f64 {
        self.0[number.0]
    }
}
