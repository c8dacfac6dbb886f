//! Copies to the GPU that the host doesn't wait for: through a ring of pinned buffers.

use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags};
use nanochat_gpu::{Address, DeviceError};

use crate::error::{failed, not_allocated};
use crate::gpu::Gpu;

/// Buffers of the ring, and bytes of each: several batches of 65,536 tokens.
const BUFFERS: usize = 4;
const BYTES: usize = 4 << 20;

/// One buffer, and the event after which the GPU has taken what is in it.
#[derive(Debug)]
struct Buffer {
    at: *mut u8,
    taken: CUevent,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Staging {
    buffers: Vec<Buffer>,
    next: usize,
}

impl Staging {
    /// The GPU's context must be bound, here and in every other call.
    pub(crate) fn new() -> Result<Self, DeviceError> {
        let mut staging = Self { buffers: Vec::with_capacity(BUFFERS), next: 0 };
        for _ in 0..BUFFERS {
            let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING);
            let taken = event.map_err(|error| failed("a new event", error))?;
            staging.buffers.push(Buffer { at: std::ptr::null_mut(), taken });
            // SAFETY: host memory that only this ring refers to; it is written before it is read.
            let at = unsafe { result::malloc_host(BYTES, 0) }.map_err(|error| not_allocated(BYTES, error))?;
            if let Some(buffer) = staging.buffers.last_mut() {
                buffer.at = at.cast();
            }
        }
        Ok(staging)
    }

    /// Copies in the stream's order. The bytes were read when this returns. Waits only where the GPU hasn't yet taken what lies
    /// in the buffer that comes next.
    pub(crate) fn upload(&mut self, gpu: &Gpu, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        let command = |error| failed(format!("a copy of {} bytes to the GPU", bytes.len()), error);
        for (index, part) in bytes.chunks(BYTES).enumerate() {
            let buffer = &self.buffers[self.next];
            self.next = (self.next + 1) % self.buffers.len();
            // SAFETY: the event lives as long as the ring; one that was never recorded is over at once.
            unsafe { result::event::synchronize(buffer.taken) }.map_err(command)?;
            // SAFETY: the buffer has `BYTES` bytes, of which a part has no more, and the GPU reads none of them any more.
            let staged = unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), buffer.at, part.len());
                std::slice::from_raw_parts(buffer.at, part.len())
            };
            // SAFETY: the buffer stays as it is until its event says that the copy is done; the target is the caller's.
            unsafe { result::memcpy_htod_async(to.plus(index * BYTES).0, staged, gpu.stream()) }.map_err(command)?;
            // SAFETY: event and stream are of the bound context.
            unsafe { result::event::record(buffer.taken, gpu.stream()) }.map_err(command)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for buffer in &self.buffers {
            // SAFETY: made by this ring; the owner has waited for the stream, so that nothing reads the buffer.
            unsafe {
                let _ = result::event::destroy(buffer.taken);
                if !buffer.at.is_null() {
                    let _ = result::free_host(buffer.at.cast());
                }
            }
        }
    }
}
