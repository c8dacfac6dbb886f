//! Hand-written CPU kernels: one file an operation, its forward and backward beside each other.
//!
//! All work on slices, compute in f32 or f64 on elements that may be kept in bf16, take their threads from rayon's current pool, and give the same bits whatever the
//! number of threads: they part work over independent results, and sum in an order that sizes alone decide. The reference implementations
//! that tests hold them against are the elementary operations in the reference operations of the engine, `ops::reference`. This is the only place in the
//! program with `unsafe`. Layouts: token-major is (B, T, H·D), head-major is (B, H, T, D).

pub mod adamw;
pub mod attention;
pub mod constants;
pub mod decode_attention;
pub mod element;
pub mod embedding;
pub mod gemm;
mod gemm_bf16;
pub mod head;
pub mod lanes;
mod matrix;
pub mod muon;
pub mod norm;
pub mod ragged_attention;
pub mod residual;
pub mod rotary;
pub mod rows;
pub mod scratch;
mod simd;
pub mod smear;
pub mod squared_relu;
#[cfg(test)]
mod stored_tests;
pub mod value;
mod vector;

pub use element::{Element, Kind, Stored};
pub use scratch::Scratch;
use simd::vectorized;

/// Rows that one task works on where rows are independent.
pub const BLOCK_ROWS: usize = 32;
