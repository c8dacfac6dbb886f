//! The machine, the hardware profiles that it may match, and its measured rates.
//!
//! This room reports and decides nothing. A profile that the machine doesn't match gives an error with every difference; it
//! is never replaced by another one.

mod engine;
mod fit;
mod load;
mod machine;
mod measure;
mod place;
mod process;
mod profile;

pub use engine::gpu_engine;
pub use fit::{TooLarge, fits};
pub use load::{ProcessorTime, boot, calibration, processor_time};
pub use machine::{Machine, this_machine};
pub use measure::{
    DeviceRates, GPU_FLOATS, GPU_SIDE, Rates, copy_gbs, device_copy_gbs, device_tflops, measure, measure_device,
    read_gbs,
};
pub use place::{Cache, caches, free_bytes, is_writable};
pub use process::process_age_seconds;
pub use profile::{Mismatch, check};
