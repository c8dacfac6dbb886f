//! The engine: tokenizer, data, model, optimizer, training, evaluation, generation and checkpoints, on the devices that
//! a plan names. It reads plans and writes rows; it knows neither specs nor verdicts.

pub mod cache;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod engines;
pub mod evals;
pub mod generate;
pub mod model;
pub mod ops;
pub mod optim;
pub mod random;
#[cfg(test)]
mod scalar;
pub mod tokenizer;
pub mod train;
pub mod trained;
