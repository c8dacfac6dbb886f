//! The kernels in the GPU's memory.

use std::ffi::{CString, c_void};

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUfunction, CUmodule};
use nanochat_gpu::{DeviceError, Dtype, KERNELS, Kernel, Launch};

use crate::error::failed;
use crate::gpu::Gpu;

/// The kernels for compute capability 9.0, and a form that the driver compiles for others.
static CUBIN: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.cubin")));
static PTX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const CUBIN_CAPABILITY: (i32, i32) = (9, 0);

/// Most arguments of a kernel.
const MOST_ARGUMENTS: usize = 32;
/// The two forms of every kernel.
const FORMS: [Dtype; 2] = [Dtype::F32, Dtype::Bf16];

/// An object file, where the loader finds its tables aligned.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

#[derive(Debug, Clone, Copy)]
struct Loaded {
    function: CUfunction,
    arguments: usize,
}

/// All kernels, loaded.
#[derive(Debug)]
pub(crate) struct Kernels {
    module: CUmodule,
    /// By kernel and form.
    loaded: Vec<Loaded>,
}

impl Kernels {
    /// Loads them; the GPU's context must be bound.
    pub(crate) fn load(gpu: &Gpu) -> Result<Self, DeviceError> {
        let module = if gpu.capability == CUBIN_CAPABILITY { load_module(&CUBIN.0) } else { load_text(PTX) };
        let mut kernels = Self { module: module?, loaded: Vec::with_capacity(KERNELS.len() * FORMS.len()) };
        for kernel in KERNELS {
            for storage in FORMS {
                let loaded = find(kernels.module, kernel.symbol(storage))?;
                kernels.loaded.push(loaded);
            }
        }
        Ok(kernels)
    }

    fn get(&self, kernel: Kernel, storage: Dtype) -> Option<Loaded> {
        let form = FORMS.iter().position(|form| *form == storage)?;
        self.loaded.get(kernel as usize * FORMS.len() + form).copied()
    }

    /// Launches one in the stream's order.
    pub(crate) fn launch(&self, gpu: &Gpu, launch: Launch<'_>) -> Result<(), DeviceError> {
        let Launch { kernel, storage, grid, threads, arguments } = launch;
        let symbol = kernel.symbol(storage);
        let known = self.get(kernel, storage).filter(|loaded| loaded.arguments == arguments.len());
        let Some(loaded) = known else {
            let takes = self.get(kernel, storage).map_or(0, |loaded| loaded.arguments);
            let reason = format!("it takes {takes} arguments, not {}", arguments.len());
            return Err(DeviceError::Failed { command: symbol.into(), reason });
        };
        let mut pointers = [std::ptr::null_mut::<c_void>(); MOST_ARGUMENTS];
        for (pointer, word) in pointers.iter_mut().zip(arguments) {
            *pointer = std::ptr::from_ref(word).cast_mut().cast();
        }
        // SAFETY: the function is of a module that stays loaded. It takes as many arguments as there are words, of at most eight
        // bytes each, and reads them before this returns. What it does to memory is what the caller asks of it.
        unsafe {
            result::launch_kernel(
                loaded.function,
                (grid, 1, 1),
                (threads, 1, 1),
                0,
                gpu.stream(),
                &mut pointers[..arguments.len()],
            )
        }
        .map_err(|error| failed(symbol, error))
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // SAFETY: loaded here, and the owner has waited for the stream, so that none of its kernels runs.
        let _ = unsafe { result::module::unload(self.module) };
    }
}

fn load_module(image: &[u8]) -> Result<CUmodule, DeviceError> {
    // SAFETY: a whole object file of CUDA's compiler.
    unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(|error| failed("loading the kernels", error))
}

/// The driver takes PTX as a text that ends in a NUL.
fn load_text(text: &[u8]) -> Result<CUmodule, DeviceError> {
    let text = CString::new(text)
        .map_err(|error| DeviceError::Failed { command: "loading the kernels".into(), reason: error.to_string() })?;
    load_module(text.as_bytes_with_nul())
}

fn find(module: CUmodule, symbol: &str) -> Result<Loaded, DeviceError> {
    let bad = |reason: String| DeviceError::Failed { command: format!("loading the kernel {symbol}"), reason };
    let name = CString::new(symbol).map_err(|error| bad(error.to_string()))?;
    // SAFETY: the module is loaded.
    let function = unsafe { result::module::get_function(module, name) };
    let function = function.map_err(|error| failed(format!("loading the kernel {symbol}"), error))?;
    let arguments = count_arguments(function);
    if arguments > MOST_ARGUMENTS {
        return Err(bad(format!("it takes more than {MOST_ARGUMENTS} arguments")));
    }
    Ok(Loaded { function, arguments })
}

/// The driver tells where each argument lies, and fails at the first that there isn't.
fn count_arguments(function: CUfunction) -> usize {
    let exists = |index: &usize| {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the function is of a loaded module; the driver only writes two numbers.
        unsafe { sys::cuFuncGetParamInfo(function, *index, &raw mut offset, &raw mut size) }.result().is_ok()
    };
    (0..=MOST_ARGUMENTS).take_while(exists).count()
}
