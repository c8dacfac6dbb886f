//! Marks between commands, by which the GPU tells how long they took.

use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags};
use nanochat_gpu::DeviceError;

use crate::error::failed;
use crate::gpu::Gpu;

/// Events, made once and used again.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    events: Vec<CUevent>,
    set: usize,
}

impl Marks {
    /// Sets a mark after all commands so far.
    pub(crate) fn set(&mut self, gpu: &Gpu) -> Result<(), DeviceError> {
        if self.set == self.events.len() {
            let event = result::event::create(CUevent_flags::CU_EVENT_DEFAULT);
            self.events.push(event.map_err(|error| failed("a new event", error))?);
        }
        // SAFETY: event and stream are of the bound context, and alive.
        unsafe { result::event::record(self.events[self.set], gpu.stream()) }
            .map_err(|error| failed("a mark", error))?;
        self.set += 1;
        Ok(())
    }

    /// Seconds from each mark to the next one, which are forgotten.
    pub(crate) fn take(&mut self, gpu: &Gpu) -> Result<Vec<f64>, DeviceError> {
        gpu.synchronize()?;
        let set = &self.events[..std::mem::take(&mut self.set)];
        let between = |pair: &[CUevent]| {
            // SAFETY: both events were recorded in the stream, which was waited for.
            let milliseconds = unsafe { result::event::elapsed(pair[0], pair[1]) };
            Ok(f64::from(milliseconds.map_err(|error| failed("the time between marks", error))?) / 1e3)
        };
        set.windows(2).map(between).collect()
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        for event in &self.events {
            // SAFETY: made here, and the owner has waited for the stream.
            let _ = unsafe { result::event::destroy(*event) };
        }
    }
}
