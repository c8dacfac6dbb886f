//! A GPU on the processor, for tests.
//!
//! Kernels are the GPU engine's own, compiled by a C++ compiler against `emulator.h`, which runs a block's threads as fibers.
//! Products and attention, which libraries do on a GPU, are the processor's kernels in f32 over the same memory, rounded once.
//! Threads run in an order that can be changed: results that hang on it have a barrier missing. Memory around every allocation
//! holds a pattern, which is looked at after every kernel.

mod attention;
mod memory;
mod product;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char};

use nanochat_gpu::{Address, AttentionCall, Device, DeviceError, Graph, Launch, Product};

use memory::Memory;

unsafe extern "C" {
    fn emulator_launch(
        name: *const c_char,
        grid: u32,
        threads: u32,
        order: u32,
        words: *const u64,
        count: usize,
    ) -> *const c_char;
}

/// One thing that a device does.
#[derive(Debug, Clone, PartialEq)]
enum Command {
    Zero(Address, usize),
    Launch { name: String, grid: u32, threads: u32, arguments: Vec<u64> },
    Product(Product),
    Attend(AttentionCall),
    AttendBackward(AttentionCall, Address, Address),
}

/// The device.
#[derive(Debug, Default)]
pub struct Emulator {
    memory: Memory,
    order: u32,
    recording: Option<Vec<Command>>,
    graphs: Vec<Vec<Command>>,
    launches: Vec<String>,
}

impl Emulator {
    /// A device whose threads run in that order: 0 is theirs, others are permutations.
    pub fn with_order(order: u32) -> Self {
        Self { order, ..Self::default() }
    }

    /// Runs a kernel by its symbol.
    pub fn launch_named(&mut self, name: &str, grid: u32, threads: u32, arguments: &[u64]) -> Result<(), DeviceError> {
        let arguments = arguments.to_vec();
        self.take(Command::Launch { name: name.into(), grid, threads, arguments })
    }

    /// Names of the kernels launched so far, in order.
    pub fn launches(&self) -> &[String] {
        &self.launches
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> u64 {
        self.memory.total()
    }

    /// Fills memory with NaN patterns, as what holds nothing.
    pub fn poison(&mut self, at: Address, bytes: usize) {
        self.memory.bytes_mut(at, bytes).fill(0xff);
    }

    /// Records a command, or carries it out.
    fn take(&mut self, command: Command) -> Result<(), DeviceError> {
        match &mut self.recording {
            Some(recorded) => {
                recorded.push(command);
                Ok(())
            }
            None => self.carry_out(&command),
        }
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), DeviceError> {
        match command {
            Command::Zero(at, bytes) => self.memory.bytes_mut(*at, *bytes).fill(0),
            Command::Launch { name, grid, threads, arguments } => {
                self.run_kernel(name, *grid, *threads, arguments)?;
                self.launches.push(name.clone());
            }
            Command::Product(product) => product::multiply(&mut self.memory, product),
            Command::Attend(call) => attention::forward(&mut self.memory, call),
            Command::AttendBackward(call, dout, dqkv) => attention::backward(&mut self.memory, call, *dout, *dqkv),
        }
        Ok(())
    }

    fn run_kernel(&mut self, name: &str, grid: u32, threads: u32, arguments: &[u64]) -> Result<(), DeviceError> {
        let failed = |reason: String| DeviceError::Failed { command: name.into(), reason };
        let symbol = CString::new(name).map_err(|_| failed("its name has a NUL".into()))?;
        // SAFETY: the words live through the call, and the kernel reads no more of them than it checks to be there. Addresses
        // among them lie in this device's memory, which nothing else refers to meanwhile, since it is borrowed mutably; what
        // a kernel writes outside is what the patterns around allocations are for.
        let problem =
            unsafe { emulator_launch(symbol.as_ptr(), grid, threads, self.order, arguments.as_ptr(), arguments.len()) };
        if !problem.is_null() {
            // SAFETY: a NUL-terminated text of this thread, which stays until its next launch.
            let text = unsafe { CStr::from_ptr(problem) };
            return Err(failed(text.to_string_lossy().into_owned()));
        }
        self.memory.check().map_err(failed)
    }
}

impl Device for Emulator {
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        Ok(self.memory.allocate(bytes))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        if self.recording.is_some() {
            return Err(DeviceError::Failed { command: "a copy".into(), reason: "it can't be recorded".into() });
        }
        self.memory.bytes_mut(to, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        bytes.copy_from_slice(self.memory.bytes(from, bytes.len()));
        Ok(())
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), DeviceError> {
        self.take(Command::Zero(at, bytes))
    }

    fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        let Launch { kernel, storage, grid, threads, arguments } = launch;
        self.launch_named(kernel.symbol(storage), grid, threads, arguments)
    }

    fn product(&mut self, product: &Product) -> Result<(), DeviceError> {
        self.take(Command::Product(*product))
    }

    fn attend(&mut self, call: &AttentionCall) -> Result<(), DeviceError> {
        self.take(Command::Attend(*call))
    }

    fn attend_backward(&mut self, call: &AttentionCall, dout: Address, dqkv: Address) -> Result<(), DeviceError> {
        self.take(Command::AttendBackward(*call, dout, dqkv))
    }

    fn begin_recording(&mut self) -> Result<(), DeviceError> {
        self.recording = Some(Vec::new());
        Ok(())
    }

    fn end_recording(&mut self) -> Result<Graph, DeviceError> {
        self.graphs.push(self.recording.take().unwrap_or_default());
        Ok(Graph(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: Graph) -> Result<(), DeviceError> {
        let commands = self.graphs.get(graph.0).cloned().unwrap_or_default();
        commands.iter().try_for_each(|command| self.carry_out(command))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
