//! What a device has to do for the step.

use miette::Diagnostic;
use nanochat_step::Attention;
use thiserror::Error;

use crate::{Dtype, Kernel};

/// An address in a device's memory; 0 is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// No address, for operands that a kernel does without.
    pub const NOWHERE: Self = Self(0);

    /// So many bytes further.
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A kernel with its grid and its arguments, one word each: addresses, sizes, or the bits of an f32 in the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: Kernel,
    /// Which of its two forms.
    pub storage: Dtype,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block, a multiple of 32, at most 1,024.
    pub threads: u32,
    /// Its arguments in order.
    pub arguments: &'a [u64],
}

/// An operand of a product: a row-major matrix, taken as it is or transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Its first element.
    pub at: Address,
    /// Rows as they are stored.
    pub rows: usize,
    /// Columns as they are stored.
    pub columns: usize,
    /// Whether the product takes it transposed.
    pub transposed: bool,
}

impl Operand {
    /// Rows and columns as the product takes it.
    pub fn taken(&self) -> [usize; 2] {
        if self.transposed { [self.columns, self.rows] } else { [self.rows, self.columns] }
    }
}

/// Where a product goes: a row-major matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    /// Its first element.
    pub at: Address,
    /// How it is stored.
    pub dtype: Dtype,
}

/// `count` products `alpha · a b + beta · c` of matrices that lie one after the other, with sums in f32, rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// How the operands are stored. Without rounding: TF32 is off.
    pub dtype: Dtype,
    /// The left operand.
    pub a: Operand,
    /// The right operand.
    pub b: Operand,
    /// What is added: of the output's size and type, and the output itself or apart from it.
    pub c: Address,
    /// The result, apart from the operands.
    pub out: Output,
    /// How many matrices.
    pub count: usize,
    /// Factor on the product.
    pub alpha: f32,
    /// Factor on what is added; with 0, `c` is not read.
    pub beta: f32,
}

/// A causal attention with grouped queries and a sliding window, over packed rows of queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionCall {
    /// Sizes; a query attends to itself and `window` tokens before it.
    pub shape: Attention,
    /// How everything but the logarithms is stored.
    pub dtype: Dtype,
    /// Queries, keys and values: N rows of (H + 2·G)·D elements.
    pub qkv: Address,
    /// The result, N × H·D.
    pub out: Address,
    /// Logarithms of the sums of exponentials, (B, H, T), in f32.
    pub log_sum: Address,
}

/// A recorded sequence of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Graph(pub usize);

/// Carries commands out, in the order in which they are given. Commands may still be under way when a call returns; `download`
/// and `synchronize` wait for all of them, and errors of earlier commands may come up there.
pub trait Device {
    /// Memory of its own, zeroed, at an address that is a multiple of 256.
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError>;

    /// Copies to the device; the bytes may change once this returns.
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from the device, when all earlier commands are done.
    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Fills with zeros.
    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), DeviceError>;

    /// Launches a kernel.
    fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError>;

    /// Multiplies matrices.
    fn product(&mut self, product: &Product) -> Result<(), DeviceError>;

    /// Attends.
    fn attend(&mut self, call: &AttentionCall) -> Result<(), DeviceError>;

    /// From the gradient of the result to those of queries, keys and values, which lie as these do.
    fn attend_backward(&mut self, call: &AttentionCall, dout: Address, dqkv: Address) -> Result<(), DeviceError>;

    /// Begins to record commands instead of carrying them out. What is copied is not recorded, and must not be asked for.
    fn begin_recording(&mut self) -> Result<(), DeviceError>;

    /// What was recorded.
    fn end_recording(&mut self) -> Result<Graph, DeviceError>;

    /// Carries out what was recorded.
    fn replay(&mut self, graph: Graph) -> Result<(), DeviceError>;

    /// Waits until everything is done.
    fn synchronize(&self) -> Result<(), DeviceError>;
}

/// What a device could not do.
#[derive(Debug, Clone, Error, Diagnostic, PartialEq, Eq)]
pub enum DeviceError {
    /// Its memory is too small.
    #[error("the GPU has no {bytes} bytes left")]
    #[diagnostic(help(
        "take a smaller `hardware.device_batch_size`; `nanochat plan` shows the memory that a run needs, and `nanochat doctor` what is free"
    ))]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A library or the driver is missing or too old.
    #[error("{library} can't be used: {reason}")]
    #[diagnostic(help("{remedy}"))]
    Library {
        /// Which one.
        library: &'static str,
        /// What it or the loader said.
        reason: String,
        /// What to install.
        remedy: String,
    },
    /// A command failed.
    #[error("{command} failed on the GPU: {reason}")]
    #[diagnostic(help(
        "`nanochat doctor` shows whether the GPU works; if it does, please report this with the run's plan, and train with `engine: reference` meanwhile"
    ))]
    Failed {
        /// The kernel or call.
        command: String,
        /// What was said about it.
        reason: String,
    },
    /// The model's sizes are not what the kernels take.
    #[error("the GPU engine can't take {what}")]
    #[diagnostic(help(
        "it takes widths in multiples of 8, heads of an even size in multiples of 8 up to 256 channels; other shapes train on the CPU"
    ))]
    Shape {
        /// What is wrong.
        what: String,
    },
}
