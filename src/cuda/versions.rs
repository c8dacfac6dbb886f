//! What computes, for the records.

/// Names and versions of the GPU and of what drives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Model of the GPU.
    pub gpu: String,
    /// Its compute capability, such as `9.0`.
    pub compute_capability: String,
    /// The release of CUDA that the driver supports, such as `13.0`.
    pub driver_cuda: String,
    /// The release of CUDA that compiled the kernels.
    pub compiler_cuda: String,
    /// Version of cuBLASLt, such as `13.1.0`.
    pub cublas_lt: String,
    /// Version of cuDNN, such as `9.19.0`.
    pub cudnn: String,
}

impl std::fmt::Display for Versions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gpu, compute_capability, driver_cuda, compiler_cuda, cublas_lt, cudnn } = self;
        write!(formatter, "{gpu}, compute capability {compute_capability}, driver for CUDA {driver_cuda}, ")?;
        write!(formatter, "cuBLASLt {cublas_lt}, cuDNN {cudnn}; kernels compiled with CUDA {compiler_cuda}")
    }
}

/// A driver's number for a release of CUDA as text: 13010 is 13.1.
pub(crate) fn release(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// A library's number for its version as text: 91900 is 9.19.0.
pub(crate) fn version(number: usize) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_versions_are_read() {
        assert_eq!(release(13_000), "13.0");
        assert_eq!(release(12_080), "12.8");
        assert_eq!(version(91_900), "9.19.0");
        assert_eq!(version(130_100), "13.1.0");
    }
}
