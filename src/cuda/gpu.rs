//! The GPU as the driver gives it: its context, one stream, memory.

use cudarc::driver::result::stream::StreamKind;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUstream};
use nanochat_gpu::{Address, DeviceError};

use crate::error::{failed, not_allocated};
use crate::versions;

/// The lowest compute capability that multiplies bf16.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// The release of CUDA that compiled the kernels.
pub(crate) const COMPILER_CUDA: &str = env!("NANOCHAT_CUDA_RELEASE");

/// One GPU's primary context, which other libraries of the process use too, and a stream of our own.
#[derive(Debug)]
pub(crate) struct Gpu {
    context: CUcontext,
    stream: CUstream,
    allocations: Vec<CUdeviceptr>,
    pub(crate) name: String,
    pub(crate) capability: (i32, i32),
    /// The release of CUDA that the driver supports, as its number.
    pub(crate) driver_cuda: i32,
}

impl Gpu {
    /// Opens a GPU by its number among those that the process sees. The driver's library must be there.
    pub(crate) fn open(ordinal: usize) -> Result<Self, DeviceError> {
        result::init().map_err(|error| unusable_driver(&error))?;
        let driver_cuda = driver_release()?;
        check_driver(driver_cuda)?;
        let device = find(ordinal)?;
        let name = result::device::get_name(device).map_err(|error| failed("the GPU's name", error))?;
        let capability = capability(device)?;
        check_capability(&name, capability)?;
        // SAFETY: the device was given by the driver.
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|error| failed("opening the GPU", error))?;
        let (stream, allocations) = (std::ptr::null_mut(), Vec::new());
        let mut gpu = Self { context, stream, allocations, name, capability, driver_cuda };
        gpu.bind()?;
        gpu.stream = result::stream::create(StreamKind::NonBlocking).map_err(|error| failed("a new stream", error))?;
        Ok(gpu)
    }

    /// Makes the context the calling thread's, which every call of the driver and of its libraries needs.
    pub(crate) fn bind(&self) -> Result<(), DeviceError> {
        // SAFETY: the context was retained, and stays.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| failed("the GPU's context", error))
    }

    /// The stream that everything goes to.
    pub(crate) fn stream(&self) -> CUstream {
        self.stream
    }

    /// Memory at a multiple of 256 bytes, filled with zeros, until the GPU is dropped.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        // SAFETY: the context is bound. The memory is written before anyone can read it.
        let at = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|error| not_allocated(bytes, error))?;
        self.allocations.push(at);
        self.zero(Address(at), bytes)?;
        Ok(Address(at))
    }

    /// Fills with zeros, in the stream's order.
    pub(crate) fn zero(&self, at: Address, bytes: usize) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's address is in memory that was allocated here; nothing on the host refers to it.
        unsafe { result::memset_d8_async(at.0, 0, bytes, self.stream) }
            .map_err(|error| failed(format!("zeroing {bytes} bytes"), error))
    }

    /// Copies within the GPU's memory, in the stream's order.
    pub(crate) fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: both addresses are the caller's, in memory that was allocated here.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream) }
            .map_err(|error| failed(format!("a copy of {bytes} bytes"), error))
    }

    /// Copies to the host when all earlier commands are done.
    pub(crate) fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let count = bytes.len();
        // SAFETY: the bytes are borrowed until the stream has done the copy, which is waited for also where it failed.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream) };
        let waited = self.synchronize();
        copied.map_err(|error| failed(format!("a copy of {count} bytes from the GPU"), error))?;
        waited
    }

    /// Waits for all commands.
    pub(crate) fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives until this is dropped.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|error| failed("waiting for the GPU", error))
    }

    /// Free and total bytes.
    pub(crate) fn memory(&self) -> Result<(usize, usize), DeviceError> {
        result::mem_get_info().map_err(|error| failed("the GPU's free memory", error))
    }
}

impl Drop for Gpu {
    /// Errors are of no use any more: the process may be ending because of one. The context stays as long as the process, since
    /// libraries keep what they loaded into it, for when a GPU is opened again.
    fn drop(&mut self) {
        if self.bind().is_ok() {
            for at in &self.allocations {
                // SAFETY: allocated here, freed once, and the stream is waited for by the owner's drop before.
                let _ = unsafe { result::free_sync(*at) };
            }
            if !self.stream.is_null() {
                // SAFETY: created here, and nobody else has it any more.
                let _ = unsafe { result::stream::destroy(self.stream) };
            }
        }
    }
}

fn find(ordinal: usize) -> Result<CUdevice, DeviceError> {
    let count = result::device::get_count().map_err(|error| unusable_driver(&error))?;
    let missing = || DeviceError::Library {
        library: "the NVIDIA driver",
        reason: format!("it gives this process {count} GPUs, and number {ordinal} was asked for"),
        remedy: "check `nvidia-smi`, and whether CUDA_VISIBLE_DEVICES hides GPUs".into(),
    };
    let number = i32::try_from(ordinal).ok().filter(|number| *number < count).ok_or_else(missing)?;
    result::device::get(number).map_err(|error| failed(format!("GPU number {ordinal}"), error))
}

fn capability(device: CUdevice) -> Result<(i32, i32), DeviceError> {
    let ask = |what| {
        // SAFETY: the device was given by the driver, which only writes one number.
        let answer = unsafe { result::device::get_attribute(device, what) };
        answer.map_err(|error| failed("the GPU's compute capability", error))
    };
    let major = ask(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    Ok((major, ask(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?))
}

fn check_capability(name: &str, found: (i32, i32)) -> Result<(), DeviceError> {
    if found >= LEAST_CAPABILITY {
        return Ok(());
    }
    let (least, found) = (format!("{}.{}", LEAST_CAPABILITY.0, LEAST_CAPABILITY.1), format!("{}.{}", found.0, found.1));
    Err(DeviceError::Library {
        library: "this GPU",
        reason: format!("{name} has compute capability {found}, and the kernels need {least}"),
        remedy: "choose another GPU with CUDA_VISIBLE_DEVICES, or a CPU profile".into(),
    })
}

fn driver_release() -> Result<i32, DeviceError> {
    let mut number = 0;
    // SAFETY: the driver only writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut number) }
        .result()
        .map_err(|error| failed("the driver's version", error))?;
    Ok(number)
}

/// Kernels run on drivers of their compiler's major release and later ones.
fn check_driver(supported: i32) -> Result<(), DeviceError> {
    let compiler: i32 = COMPILER_CUDA.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if supported / 1000 >= compiler {
        return Ok(());
    }
    Err(DeviceError::Library {
        library: "the NVIDIA driver",
        reason: format!(
            "it supports CUDA {}, and the kernels were compiled with CUDA {COMPILER_CUDA}",
            versions::release(supported)
        ),
        remedy: format!(
            "install a driver for CUDA {COMPILER_CUDA} (580 or newer for 13.0), or build with an older toolkit"
        ),
    })
}

fn unusable_driver(error: &DriverError) -> DeviceError {
    DeviceError::Library {
        library: "the NVIDIA driver",
        reason: format!("{:?}", error.0),
        remedy: "check `nvidia-smi`, whether CUDA_VISIBLE_DEVICES hides all GPUs, and whether the container has access to them \
                 (`--gpus all`)"
            .into(),
    }
}
