//! ONNX files: the messages of the format, a builder of graphs, and an evaluator of the operators that this program uses.

mod builder;
mod evaluate;
pub mod proto;

pub use builder::{Builder, Size, Value, whole};
pub use evaluate::{Evaluator, Values};
