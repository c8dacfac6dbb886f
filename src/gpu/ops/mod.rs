//! The step's operations as commands to a device.

mod embed;
mod head;
mod layer;
mod optimizer;
mod stream;

use nanochat_plan::ModelShape;
use nanochat_plan::gpu::SUM_BLOCKS;
use nanochat_plan::shape::{head_dim, kv_dim};
use nanochat_step::{Arena, Batch, Coefficients, Matrix, Network, Op, Ops, Region, WriteMode};

use crate::batch::PreparedBatch;
use crate::memory::DeviceMemory;
use crate::{Address, Device, DeviceError, Dtype, Graph, Kernel, Launch, Operand, Output, Product};

/// Channels of a vector of the kernels.
const VECTOR: usize = 8;
/// Threads of a block of the row kernels, eight warps.
const ROW_THREADS: u32 = 256;
/// Rows of such a block.
const BLOCK_ROWS: usize = 8;
/// Most channels of a head.
const MOST_HEAD_CHANNELS: usize = 256;
/// Most blocks of a kernel that takes elements in strides of the grid.
const MOST_BLOCKS: usize = 4096;

/// A device with the memory of one network, which carries operations out.
///
/// Operations can't fail one by one: what goes wrong is kept, everything after it is left out, and [`GpuOps::check`] gives it.
#[derive(Debug)]
pub struct GpuOps<D> {
    device: D,
    memory: DeviceMemory,
    batch: PreparedBatch,
    tokens: usize,
    /// Muon's groups in the order of their members in the device's list.
    muon: Vec<(usize, usize)>,
    failure: Option<DeviceError>,
}

impl<D: Device> GpuOps<D> {
    /// Allocates everything for training a network on a device.
    pub fn new(mut device: D, network: &Network, micro_steps: usize, storage: Dtype) -> Result<Self, DeviceError> {
        check_shape(network.shape())?;
        let memory = DeviceMemory::new(&mut device, network, micro_steps, storage)?;
        let tokens = network.activations().batch().tokens();
        let batch = PreparedBatch::new(tokens, network.shape().vocab_size);
        Ok(Self { device, memory, batch, tokens, muon: Vec::new(), failure: None })
    }

    /// The first thing that went wrong since the last call.
    pub fn check(&mut self) -> Result<(), DeviceError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// How activations are stored.
    pub fn storage(&self) -> Dtype {
        self.memory.storage
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device, for commands of another kind.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Where things lie.
    pub fn memory(&self) -> &DeviceMemory {
        &self.memory
    }

    /// The elements of a region that is stored in f32, when all that was asked for is done.
    pub fn read(&self, region: Region) -> Result<Vec<f32>, DeviceError> {
        debug_assert_eq!(self.memory.dtype(region.arena), Dtype::F32);
        let mut elements = vec![0.0f32; region.len];
        self.device.download(self.memory.at(region), bytemuck::cast_slice_mut(&mut elements))?;
        Ok(elements)
    }

    /// Fills a region that is stored in f32; of weights, their copies too.
    pub fn write(&mut self, region: Region, elements: &[f32]) -> Result<(), DeviceError> {
        debug_assert_eq!((self.memory.dtype(region.arena), elements.len()), (Dtype::F32, region.len));
        self.device.upload(self.memory.at(region), bytemuck::cast_slice(elements))?;
        if region.arena == Arena::Weights && self.memory.copy(region) != Address::NOWHERE {
            let arguments = [self.memory.at(region).0, self.memory.copy(region).0, region.len as u64];
            self.launch(Kernel::CopyWeights, grid(region.len), ROW_THREADS, &arguments)?;
        }
        Ok(())
    }

    /// Records what `operations` ask for, to be replayed.
    pub fn record(&mut self, operations: impl FnOnce(&mut Self)) -> Result<Graph, DeviceError> {
        self.device.begin_recording()?;
        operations(self);
        let graph = self.device.end_recording();
        self.check()?;
        graph
    }

    /// Carries out what was recorded.
    pub fn replay(&mut self, graph: Graph) -> Result<(), DeviceError> {
        self.device.replay(graph)
    }

    fn launch(&mut self, kernel: Kernel, grid: u32, threads: u32, arguments: &[u64]) -> Result<(), DeviceError> {
        let storage = self.memory.storage;
        self.device.launch(Launch { kernel, storage, grid, threads, arguments })
    }

    /// A kernel with a warp a row.
    fn launch_rows(&mut self, kernel: Kernel, rows: usize, arguments: &[u64]) -> Result<(), DeviceError> {
        self.launch(kernel, rows.div_ceil(BLOCK_ROWS).max(1) as u32, ROW_THREADS, arguments)
    }

    /// Adds what the blocks of a kernel summed, `stride` values each of which the `first` belong elsewhere, to the elements of a
    /// region.
    fn finish_sums(&mut self, blocks: usize, [first, stride]: [usize; 2], onto: Region) -> Result<(), DeviceError> {
        let partials = self.memory.partials.plus(4 * first).0;
        let arguments = [partials, self.at(onto), blocks as u64, onto.len as u64, stride as u64];
        self.launch_rows(Kernel::FinishSums, onto.len, &arguments)
    }

    /// A region's address as a kernel's argument.
    fn at(&self, region: Region) -> u64 {
        self.memory.at(region).0
    }

    /// The address of a part of the batch.
    fn batch_at(&self, place: usize) -> u64 {
        self.memory.batch.plus(place).0
    }

    fn operand(&self, matrix: Matrix) -> Operand {
        debug_assert_eq!(matrix.stride, matrix.columns, "products take matrices without gaps");
        let Matrix { region, rows, columns, transposed, .. } = matrix;
        Operand { at: self.memory.operand(region), rows, columns, transposed }
    }

    fn product(&mut self, a: Matrix, b: Matrix, out: Region, mode: WriteMode) -> Result<(), DeviceError> {
        let at = self.memory.at(out);
        let product = Product {
            dtype: self.memory.storage,
            a: self.operand(a),
            b: self.operand(b),
            c: at,
            out: Output { at, dtype: self.memory.dtype(out.arena) },
            count: 1,
            alpha: 1.0,
            beta: if mode == WriteMode::Accumulate { 1.0 } else { 0.0 },
        };
        self.device.product(&product)
    }

    fn carry_out(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        match *op {
            Op::Zero { out } => self.device.zero(self.memory.at(out), out.len * self.memory.dtype(out.arena).bytes()),
            Op::Add { from, onto } => {
                let arguments = [self.at(from), self.at(onto), onto.len as u64];
                self.launch(Kernel::Add, grid(onto.len / VECTOR), ROW_THREADS, &arguments)
            }
            Op::Product { a, b, out, mode } => self.product(a, b, out, mode),
            Op::Embed { .. } | Op::EmbedBackward { .. } => self.embedding(op),
            Op::Norm { .. }
            | Op::Mix { .. }
            | Op::Backout { .. }
            | Op::NormBackward { .. }
            | Op::MixBackward { .. }
            | Op::BackoutBackward { .. } => self.stream(op),
            Op::QueryKeyValue { .. }
            | Op::Attend { .. }
            | Op::MlpOutput { .. }
            | Op::MlpOutputBackward { .. }
            | Op::AttendBackward { .. }
            | Op::QueryKeyValueBackward { .. } => self.layer(op),
            Op::Head { .. } | Op::MeanLoss { .. } => self.head(op),
            Op::AdamW { .. } | Op::Muon { .. } => self.optimize(op),
        }
    }

    fn keep(&mut self, result: Result<(), DeviceError>) {
        self.failure = self.failure.take().or(result.err());
    }
}

impl<D: Device> Ops for GpuOps<D> {
    fn load_batch(&mut self, batch: Batch<'_>, factor: f64) {
        self.batch.fill(batch, factor);
        let result = self.device.upload(self.memory.batch, self.batch.bytes());
        self.keep(result);
    }

    fn load_coefficients(&mut self, coefficients: &Coefficients) {
        let result = self.upload_coefficients(coefficients);
        self.keep(result);
    }

    fn run(&mut self, op: &Op<'_>) {
        if self.failure.is_none() {
            let result = self.carry_out(op);
            self.keep(result);
        }
    }
}

/// Blocks for so many elements, one a thread.
fn grid(elements: usize) -> u32 {
    elements.div_ceil(ROW_THREADS as usize).clamp(1, MOST_BLOCKS) as u32
}

/// Blocks of a kernel that sums over rows.
fn sum_blocks(rows: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS).clamp(1, SUM_BLOCKS)
}

/// Refuses shapes that the kernels' vectors don't fit.
fn check_shape(shape: &ModelShape) -> Result<(), DeviceError> {
    let size = head_dim(shape);
    let refuse = |what: String| Err(DeviceError::Shape { what });
    if !shape.n_embd.is_multiple_of(VECTOR) || !kv_dim(shape).is_multiple_of(VECTOR) {
        return refuse(format!("a width of {} with {} channels of keys", shape.n_embd, kv_dim(shape)));
    }
    if !size.is_multiple_of(VECTOR) || size > MOST_HEAD_CHANNELS {
        return refuse(format!("heads of {size} channels"));
    }
    Ok(())
}
