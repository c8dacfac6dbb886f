//! The device: what the parts do, in one stream's order.

use nanochat_gpu::{Address, AttentionCall, Device, DeviceError, Graph, Launch, Product};

use crate::attention::Attentions;
use crate::error::not_recorded;
use crate::gpu::{COMPILER_CUDA, Gpu};
use crate::graphs::Graphs;
use crate::kernels::Kernels;
use crate::libraries;
use crate::marks::Marks;
use crate::products::Products;
use crate::staging::Staging;
use crate::versions::{self, Versions};

/// An NVIDIA GPU.
///
/// Fields are dropped in their order: what uses the GPU before the GPU.
#[derive(Debug)]
pub struct Cuda {
    graphs: Graphs,
    marks: Marks,
    attentions: Attentions,
    products: Products,
    staging: Staging,
    kernels: Kernels,
    gpu: Gpu,
}

// SAFETY: all pointers are handles of the driver and its libraries, which any thread may use as long as one does at a time:
// every command borrows the device, and those that don't borrow it mutably only wait or copy. Each binds the context to its thread.
unsafe impl Send for Cuda {}

impl Cuda {
    /// Opens a GPU by its number among those that the process sees. With `deterministic`, attention's backward pass gives the same
    /// bits every time, as all other commands do.
    ///
    /// # Errors
    /// The driver or a library that is missing or too old, a GPU that is too old, too little memory.
    pub fn open(ordinal: usize, deterministic: bool) -> Result<Self, DeviceError> {
        libraries::check()?;
        let mut gpu = Gpu::open(ordinal)?;
        let kernels = Kernels::load(&gpu)?;
        let staging = Staging::new()?;
        let products = Products::new(&mut gpu)?;
        let attentions = Attentions::new(&gpu, deterministic)?;
        let (graphs, marks) = (Graphs::default(), Marks::default());
        Ok(Self { graphs, marks, attentions, products, staging, kernels, gpu })
    }

    /// Names and versions of what computes.
    pub fn versions(&self) -> Versions {
        let (major, minor) = self.gpu.capability;
        Versions {
            gpu: self.gpu.name.clone(),
            compute_capability: format!("{major}.{minor}"),
            driver_cuda: versions::release(self.gpu.driver_cuda),
            compiler_cuda: COMPILER_CUDA.into(),
            cublas_lt: self.products.version().into(),
            cudnn: self.attentions.version().into(),
        }
    }

    /// Free and total bytes of the GPU's memory.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        self.gpu.bind()?;
        self.gpu.memory()
    }

    /// How many algorithms cuBLASLt proposes for a product, for measurements.
    ///
    /// # Errors
    /// A product that it can't do.
    pub fn product_algorithms(&mut self, product: &Product) -> Result<usize, DeviceError> {
        self.gpu.bind()?;
        self.products.proposals(product)
    }

    /// Multiplies by the algorithm in that place of the proposals, for measurements.
    ///
    /// # Errors
    /// As [`Device::product`], and a place beyond the proposals.
    pub fn product_by(&mut self, product: &Product, algorithm: usize) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.products.multiply_by(&self.gpu, product, algorithm)
    }

    /// Copies within the GPU's memory, for measurements.
    ///
    /// # Errors
    /// What the driver says.
    pub fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.gpu.copy(from, to, bytes)
    }

    /// Sets a mark after all commands so far, for measurements.
    ///
    /// # Errors
    /// What the driver says.
    pub fn mark(&mut self) -> Result<(), DeviceError> {
        self.refuse_recording("a mark", "it is for measurements alone")?;
        self.gpu.bind()?;
        self.marks.set(&self.gpu)
    }

    /// Waits, and gives the seconds from each mark since the last call to the next one.
    ///
    /// # Errors
    /// What the driver says, of earlier commands too.
    pub fn seconds_between_marks(&mut self) -> Result<Vec<f64>, DeviceError> {
        self.gpu.bind()?;
        self.marks.take(&self.gpu)
    }

    fn refuse_recording(&self, command: &str, reason: &str) -> Result<(), DeviceError> {
        if self.graphs.recording() { Err(not_recorded(command, reason)) } else { Ok(()) }
    }
}

impl Drop for Cuda {
    /// Waits, so that the parts can be freed.
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            if self.graphs.recording() {
                let _ = self.graphs.end(&self.gpu);
            }
            let _ = self.gpu.synchronize();
        }
    }
}

impl Device for Cuda {
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        self.refuse_recording("an allocation", "memory is allocated before")?;
        self.gpu.bind()?;
        self.gpu.allocate(bytes)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.refuse_recording("a copy to the GPU", "what is copied changes from step to step")?;
        self.gpu.bind()?;
        self.staging.upload(&self.gpu, to, bytes)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.refuse_recording("a copy from the GPU", "it would wait for what isn't carried out")?;
        self.gpu.bind()?;
        self.gpu.download(from, bytes)
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.gpu.zero(at, bytes)
    }

    fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.kernels.launch(&self.gpu, launch)
    }

    fn product(&mut self, product: &Product) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.products.multiply(&self.gpu, product)
    }

    fn attend(&mut self, call: &AttentionCall) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.attentions.forward(&mut self.gpu, call, self.graphs.recording())
    }

    fn attend_backward(&mut self, call: &AttentionCall, dout: Address, dqkv: Address) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.attentions.backward(&mut self.gpu, call, [dout, dqkv], self.graphs.recording())
    }

    fn begin_recording(&mut self) -> Result<(), DeviceError> {
        self.gpu.bind()?;
        self.graphs.begin(&self.gpu)
    }

    fn end_recording(&mut self) -> Result<Graph, DeviceError> {
        self.gpu.bind()?;
        self.graphs.end(&self.gpu)
    }

    fn replay(&mut self, graph: Graph) -> Result<(), DeviceError> {
        self.refuse_recording("a replay", "recordings aren't nested")?;
        self.gpu.bind()?;
        self.graphs.replay(&self.gpu, graph)
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.refuse_recording("waiting for the GPU", "nothing is carried out meanwhile")?;
        self.gpu.bind()?;
        self.gpu.synchronize()
    }
}
