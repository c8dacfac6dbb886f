//! Whether the libraries are there, before anything calls them: a call of a missing one would end the program.

use std::error::Error;

use libloading::Library;
use nanochat_gpu::DeviceError;

/// A library with the file names that the loader knows it by, and how to get it.
struct Needed {
    library: &'static str,
    names: &'static [&'static str],
    remedy: &'static str,
}

const DRIVER: Needed = Needed {
    library: "the NVIDIA driver (libcuda)",
    names: &["libcuda.so", "libcuda.so.1"],
    remedy: "install the driver, or give the container access to the GPU (`--gpus all`)",
};
const RUNTIME: Needed = Needed {
    library: "the CUDA runtime (libcudart)",
    names: &["libcudart.so.13", "libcudart.so.12"],
    remedy: "put its folder on LD_LIBRARY_PATH: a CUDA toolkit's lib64, or site-packages/nvidia/cu13/lib of the Python package \
             nvidia-cuda-runtime",
};
const CUBLAS_LT: Needed = Needed {
    library: "cuBLASLt (libcublasLt)",
    names: &["libcublasLt.so", "libcublasLt.so.13", "libcublasLt.so.12"],
    remedy: "put its folder on LD_LIBRARY_PATH: a CUDA toolkit's lib64, or site-packages/nvidia/cu13/lib of the Python package \
             nvidia-cublas",
};
const CUDNN: Needed = Needed {
    library: "cuDNN (libcudnn)",
    names: &[CUDNN_NAME],
    remedy: "put its folder on LD_LIBRARY_PATH: site-packages/nvidia/cudnn/lib of the Python package nvidia-cudnn-cu13 (9.10 or \
             newer)",
};

/// The name that cuDNN is loaded by.
pub(crate) const CUDNN_NAME: &str = "libcudnn.so.9";

/// Finds all libraries, or says which one is missing.
pub(crate) fn check() -> Result<(), DeviceError> {
    [DRIVER, RUNTIME, CUBLAS_LT, CUDNN].iter().try_for_each(Needed::find)
}

impl Needed {
    fn find(&self) -> Result<(), DeviceError> {
        let mut reason = String::new();
        for name in self.names {
            // SAFETY: NVIDIA's libraries initialise nothing but themselves when they are loaded.
            match unsafe { Library::new(*name) } {
                Ok(library) => {
                    // Stays loaded: it is called soon.
                    std::mem::forget(library);
                    return Ok(());
                }
                // What the loader says is the error's source.
                Err(error) => reason = error.source().map_or_else(|| error.to_string(), ToString::to_string),
            }
        }
        Err(DeviceError::Library { library: self.library, reason, remedy: self.remedy.into() })
    }
}
