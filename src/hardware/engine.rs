//! What the GPU engine would compute with.

use miette::Diagnostic;

/// Names and versions of the GPU and of the libraries that the GPU engine uses, or what is missing; none in a binary without CUDA.
#[cfg(feature = "cuda")]
pub fn gpu_engine() -> Option<Result<String, Box<dyn Diagnostic>>> {
    let opened = nanochat_cuda::Cuda::open(0, true).map_err(|error| Box::new(error) as Box<dyn Diagnostic>);
    Some(opened.map(|cuda| cuda.versions().to_string()))
}

/// None: this binary was built without CUDA.
#[cfg(not(feature = "cuda"))]
pub fn gpu_engine() -> Option<Result<String, Box<dyn Diagnostic>>> {
    None
}
