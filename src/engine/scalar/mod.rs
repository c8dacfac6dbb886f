//! A second, independent implementation of the model in plain f64 numbers, for tests to hold the tensor model against.
//!
//! Small and obviously right is all it aims for: one number at a time, one loop a formula, and a gradient by reverse
//! accumulation over a tape of every operation. It shares no code with the tensor model but the shape's arithmetic, and is
//! far too slow for anything but a handful of tokens.

mod gpt;
mod tape;

#[cfg(test)]
mod tests;

pub use gpt::evaluate;
pub use tape::{Number, Tape};
