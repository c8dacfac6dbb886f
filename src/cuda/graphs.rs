//! Recorded commands as CUDA graphs.

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use nanochat_gpu::{DeviceError, Graph};

use crate::error::failed;
use crate::gpu::Gpu;

/// What was recorded, ready to be launched.
#[derive(Debug, Default)]
pub(crate) struct Graphs {
    recording: bool,
    recorded: Vec<CUgraphExec>,
}

impl Graphs {
    /// Whether commands are recorded.
    pub(crate) fn recording(&self) -> bool {
        self.recording
    }

    pub(crate) fn begin(&mut self, gpu: &Gpu) -> Result<(), DeviceError> {
        if self.recording {
            let reason = "it goes on already".into();
            return Err(DeviceError::Failed { command: "the beginning of a recording".into(), reason });
        }
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as the GPU.
        unsafe { result::stream::begin_capture(gpu.stream(), mode) }
            .map_err(|error| failed("the beginning of a recording", error))?;
        self.recording = true;
        Ok(())
    }

    pub(crate) fn end(&mut self, gpu: &Gpu) -> Result<Graph, DeviceError> {
        let command = "the end of a recording";
        if !std::mem::take(&mut self.recording) {
            return Err(DeviceError::Failed { command: command.into(), reason: "none was begun".into() });
        }
        // SAFETY: the stream records, as the flag says.
        let graph = unsafe { result::stream::end_capture(gpu.stream()) }.map_err(|error| failed(command, error))?;
        if graph.is_null() {
            let reason = "a command in it was not allowed".into();
            return Err(DeviceError::Failed { command: command.into(), reason });
        }
        // SAFETY: the graph was just recorded; it isn't used after it is destroyed.
        let made = unsafe {
            let made = result::graph::instantiate(graph, CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            made
        };
        self.recorded.push(made.map_err(|error| failed(command, error))?);
        Ok(Graph(self.recorded.len() - 1))
    }

    pub(crate) fn replay(&self, gpu: &Gpu, graph: Graph) -> Result<(), DeviceError> {
        let Some(recorded) = self.recorded.get(graph.0) else {
            let reason = format!("there is no recording {}", graph.0);
            return Err(DeviceError::Failed { command: "a replay".into(), reason });
        };
        // SAFETY: the graph lives as long as this; the memory that its commands name is freed after it.
        unsafe { result::graph::launch(*recorded, gpu.stream()) }.map_err(|error| failed("a replay", error))
    }
}

impl Drop for Graphs {
    fn drop(&mut self) {
        for graph in &self.recorded {
            // SAFETY: made here, and the owner has waited for the stream.
            let _ = unsafe { result::graph::exec_destroy(*graph) };
        }
    }
}
