//! The training step on a GPU.
//!
//! [`GpuOps`] carries the step's operations out on a [`Device`]: one allocation an arena, raw addresses, nothing allocated and
//! nothing read back inside a step. A device copies, launches kernels, multiplies matrices and attends; everything else is a
//! kernel in `kernels/`, CUDA C++ that a C++ compiler takes too, so that tests run it on a processor (`nanochat-emulator`).
//!
//! Streams and what products read and write are stored in bf16 or in f32; sums, factors, weights, gradients and the
//! optimizer's state are in f32 always. In bf16 every weight also has a copy in bf16, which the optimizer writes. Every sum
//! has a fixed order, so equal inputs give equal bits.

mod batch;
mod device;
mod dtype;
mod kernel;
mod memory;
mod ops;

pub use batch::{Header, PreparedBatch};
pub use device::{Address, AttentionCall, Device, DeviceError, Graph, Launch, Operand, Output, Product};
pub use dtype::Dtype;
pub use kernel::{KERNELS, Kernel};
pub use memory::DeviceMemory;
pub use ops::GpuOps;
