//! The device's memory: allocations with patterns around them.

use nanochat_gpu::{Address, Dtype};

/// Bytes of a block, and what allocations are aligned to.
const BLOCK: usize = 256;
/// Blocks of pattern before and after an allocation.
const GUARD: usize = 4;
/// The pattern.
const PATTERN: u8 = 0xa5;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(256))]
struct Block([u8; BLOCK]);

#[derive(Debug)]
struct Allocation {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Allocation {
    fn start(&self) -> u64 {
        self.blocks[GUARD..].as_ptr() as u64
    }

    fn all(&self) -> &[u8] {
        // SAFETY: blocks are arrays of bytes without padding.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * BLOCK) }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.blocks.len() * BLOCK) }
    }
}

/// All allocations.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: Vec<Allocation>,
}

impl Memory {
    pub(crate) fn allocate(&mut self, bytes: usize) -> Address {
        let blocks = vec![Block([PATTERN; BLOCK]); bytes.div_ceil(BLOCK) + 2 * GUARD];
        let mut allocation = Allocation { blocks, bytes };
        allocation.all_mut()[GUARD * BLOCK..][..bytes].fill(0);
        let start = allocation.start();
        self.allocations.push(allocation);
        Address(start)
    }

    /// The allocation that holds these bytes, and where in it they begin.
    fn find(&self, at: Address, bytes: usize) -> (usize, usize) {
        let holds = |allocation: &Allocation| {
            let start = allocation.start();
            at.0 >= start && at.0 + bytes as u64 <= start + allocation.bytes as u64
        };
        let place = self.allocations.iter().position(holds);
        let place = place.unwrap_or_else(|| panic!("{bytes} bytes at {at:?} were not allocated"));
        (place, (at.0 - self.allocations[place].start()) as usize + GUARD * BLOCK)
    }

    pub(crate) fn bytes(&self, at: Address, bytes: usize) -> &[u8] {
        let (allocation, offset) = self.find(at, bytes);
        &self.allocations[allocation].all()[offset..][..bytes]
    }

    pub(crate) fn bytes_mut(&mut self, at: Address, bytes: usize) -> &mut [u8] {
        let (allocation, offset) = self.find(at, bytes);
        &mut self.allocations[allocation].all_mut()[offset..][..bytes]
    }

    /// Whether the patterns are whole.
    pub(crate) fn check(&self) -> Result<(), String> {
        for allocation in &self.allocations {
            let all = allocation.all();
            let (before, rest) = all.split_at(GUARD * BLOCK);
            let after = &rest[allocation.bytes..];
            if before.iter().chain(after).any(|byte| *byte != PATTERN) {
                return Err(format!("it wrote outside an allocation of {} bytes", allocation.bytes));
            }
        }
        Ok(())
    }

    /// Bytes of all allocations.
    pub(crate) fn total(&self) -> u64 {
        self.allocations.iter().map(|allocation| allocation.bytes as u64).sum()
    }

    /// Elements as f32.
    pub(crate) fn read(&self, at: Address, elements: usize, dtype: Dtype) -> Vec<f32> {
        let bytes = self.bytes(at, elements * dtype.bytes());
        match dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::Bf16 => {
                let wide = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                bytes.as_chunks().0.iter().map(wide).collect()
            }
        }
    }

    /// Writes elements, rounded to the nearest.
    pub(crate) fn write(&mut self, at: Address, elements: &[f32], dtype: Dtype) {
        let bytes = self.bytes_mut(at, elements.len() * dtype.bytes());
        match dtype {
            Dtype::F32 => {
                for (bytes, element) in bytes.as_chunks_mut().0.iter_mut().zip(elements) {
                    *bytes = element.to_le_bytes();
                }
            }
            Dtype::Bf16 => {
                for (bytes, element) in bytes.as_chunks_mut().0.iter_mut().zip(elements) {
                    *bytes = rounded(*element).to_le_bytes();
                }
            }
        }
    }
}

/// An f32 as bf16, ties to even.
fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() { 0x7fff } else { ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16 }
}
