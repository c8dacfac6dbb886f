//! An NVIDIA GPU as a [`nanochat_gpu::Device`].
//!
//! [`Cuda`] gives everything to one stream of its own, by raw addresses: kernels that `build.rs` compiled, products by cuBLASLt,
//! attention by cuDNN. What a command needs besides (descriptions of products, plans of attention, their workspaces) is made when
//! a shape first comes, and kept; a step that ran once allocates nothing and can be recorded as a CUDA graph. The libraries are
//! loaded when a GPU is opened, so that the program starts without them and can say what is missing.
//!
//! Without the feature `cuda` the crate is empty.

#[cfg(feature = "cuda")]
mod attention;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod error;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod graphs;
#[cfg(feature = "cuda")]
mod kernels;
#[cfg(any(test, feature = "cuda"))]
mod layout;
#[cfg(feature = "cuda")]
mod libraries;
#[cfg(feature = "cuda")]
mod marks;
#[cfg(feature = "cuda")]
mod products;
#[cfg(any(test, feature = "cuda"))]
mod ranks;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(any(test, feature = "cuda"))]
mod versions;

#[cfg(feature = "cuda")]
pub use device::Cuda;
#[cfg(any(test, feature = "cuda"))]
pub use versions::Versions;
