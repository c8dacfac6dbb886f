//! What is here: the machine, the hardware profiles that it may match, and this process's memory.
//!
//! Looks, and says what it sees; decides nothing. A profile that the machine doesn't match is told with everything in
//! which it differs, never replaced by another.

mod machine;
pub mod memory;
mod profile;

pub use machine::{Gpu, Machine, this_machine};
pub use profile::{Mismatch, Profile, Requirements, check};
