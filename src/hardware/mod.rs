//! What is here: the machine, its profiles, and this process's memory.

pub mod memory;
