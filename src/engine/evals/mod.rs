//! Evaluations of a model: bits per byte and the CORE metric.
//!
//! Every evaluation is a function of a model and its inputs. It changes no file, looks at no clock, and holds nothing from
//! one call to the next, so the thousandth evaluation of a run costs what the first did.
//!
//! Refusals: no figure is given for an evaluation that could not be carried out in full; a task that can't be posed fails
//! before any model runs.

mod bits_per_byte;
pub mod core;
mod error;
#[cfg(test)]
mod tests;

pub use bits_per_byte::{SplitBits, bits_per_byte, bits_per_byte_by, bits_per_byte_of_split};
pub use error::EvalError;
