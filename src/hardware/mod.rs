//! What is here: the machine, the hardware profiles that it may match, and this process's memory.
//!
//! Looks, and says what it sees; decides nothing. A profile that the machine doesn't match is told with everything in
//! which it differs, never replaced by another; nor is a device that can't be opened.

mod cuda;
mod device;
mod fit;
mod machine;
mod measure;
pub mod memory;
mod place;
mod process;
mod profile;

pub use cuda::{Built, built};
pub use device::{Capability, DeviceError, DeviceMemory, device_memory, has_room, is_out_of_memory, open_device};
pub use fit::{TooLarge, fits};
pub use machine::{Gpu, Machine, this_machine};
pub use measure::{
    DeviceRates, GPU_FLOATS, GPU_SIDE, Rates, copy_gbs, device_copy_gbs, device_tflops, measure, measure_device,
    read_gbs,
};
pub use place::{Cache, caches, free_bytes, is_writable};
pub use process::process_age_seconds;
pub use profile::{Mismatch, Profile, Requirements, check};
