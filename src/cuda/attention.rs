//! Attention by cuDNN, through `attention.cpp`.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

use nanochat_gpu::{Address, AttentionCall, DeviceError, Dtype};
use nanochat_step::Attention;

use crate::gpu::Gpu;
use crate::libraries::CUDNN_NAME;
use crate::versions;

/// What `attention.cpp` builds for one pass of one shape.
#[repr(C)]
struct AttentionPlan {
    _private: [u8; 0],
}

/// `AttentionShape` in `attention.cpp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct AttentionShape {
    rows: i64,
    length: i64,
    heads: i64,
    key_heads: i64,
    size: i64,
    window: i64,
}

impl AttentionShape {
    fn of(shape: &Attention) -> Self {
        let Attention { rows, length, heads, groups, size, window } = *shape;
        let [rows, length, heads, key_heads, size] = [rows, length, heads, groups, size].map(|count| count as i64);
        // A window beyond the row sees all of it.
        Self { rows, length, heads, key_heads, size, window: window.min(shape.length) as i64 }
    }
}

unsafe extern "C" {
    fn attention_problem() -> *const c_char;
    fn attention_load(library: *const c_char) -> c_int;
    fn attention_version(version: *mut usize) -> c_int;
    fn attention_open(stream: *mut c_void, handle: *mut *mut c_void) -> c_int;
    fn attention_close(handle: *mut c_void);
    fn attention_plan(
        handle: *mut c_void,
        shape: *const AttentionShape,
        backwards: c_int,
        deterministic: c_int,
        plan: *mut *mut AttentionPlan,
        workspace: *mut i64,
    ) -> c_int;
    fn attention_free(plan: *mut AttentionPlan);
    fn attention_forward(
        handle: *mut c_void,
        plan: *mut AttentionPlan,
        qkv: *mut c_void,
        out: *mut c_void,
        log_sum: *mut c_void,
        workspace: *mut c_void,
    ) -> c_int;
    fn attention_backward(
        handle: *mut c_void,
        plan: *mut AttentionPlan,
        qkv: *mut c_void,
        out: *mut c_void,
        log_sum: *mut c_void,
        dout: *mut c_void,
        dqkv: *mut c_void,
        workspace: *mut c_void,
    ) -> c_int;
}

/// A pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Forward,
    Backward,
}

#[derive(Debug)]
struct Plan {
    built: *mut AttentionPlan,
    workspace: Address,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: built by `attention_plan`; the owner has waited for the stream.
        unsafe { attention_free(self.built) };
    }
}

/// cuDNN with its plans, each built once.
#[derive(Debug)]
pub(crate) struct Attentions {
    /// Freed before the handle, which they were built with.
    plans: HashMap<(AttentionShape, Pass), Plan>,
    handle: Handle,
    deterministic: bool,
    version: String,
    /// The largest workspace, which passes share, since one stream runs one at a time.
    workspace: (Address, usize),
}

#[derive(Debug)]
struct Handle(*mut c_void);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by `attention_open`; its owner has waited for the stream.
        unsafe { attention_close(self.0) };
    }
}

impl Attentions {
    /// Loads cuDNN and opens it on the GPU's stream. With `deterministic` the backward pass gives the same bits every time.
    pub(crate) fn new(gpu: &Gpu, deterministic: bool) -> Result<Self, DeviceError> {
        let name = CString::new(CUDNN_NAME).unwrap_or_default();
        let (mut version, mut handle) = (0, std::ptr::null_mut());
        // SAFETY: the name ends in a NUL; one number and one handle are written. The stream is alive, and its context bound.
        unsafe {
            done("loading cuDNN", attention_load(name.as_ptr()))?;
            done("cuDNN's version", attention_version(&raw mut version))?;
            done("opening cuDNN", attention_open(gpu.stream().cast(), &raw mut handle))?;
        }
        let version = versions::version(version);
        let workspace = (Address::NOWHERE, 0);
        Ok(Self { plans: HashMap::new(), handle: Handle(handle), deterministic, version, workspace })
    }

    /// Version of cuDNN.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Builds what a pass needs, where that wasn't done yet. `recording` forbids it: it allocates.
    fn prepare(
        &mut self,
        gpu: &mut Gpu,
        call: &AttentionCall,
        pass: Pass,
        recording: bool,
    ) -> Result<(*mut AttentionPlan, Address), DeviceError> {
        check(call)?;
        let key = (AttentionShape::of(&call.shape), pass);
        if let Some(plan) = self.plans.get(&key) {
            return Ok((plan.built, plan.workspace));
        }
        if recording {
            return Err(crate::error::not_recorded(&name(call, pass), "its shape must come once before"));
        }
        let (mut built, mut bytes) = (std::ptr::null_mut(), 0);
        let backwards = c_int::from(pass == Pass::Backward);
        let deterministic = c_int::from(self.deterministic);
        // SAFETY: the handle is open; a plan and a number are written.
        let status =
            unsafe { attention_plan(self.handle.0, &key.0, backwards, deterministic, &raw mut built, &raw mut bytes) };
        done(&name(call, pass), status)?;
        let mut plan = Plan { built, workspace: Address::NOWHERE };
        plan.workspace = self.room(gpu, usize::try_from(bytes).unwrap_or(0))?;
        let prepared = (plan.built, plan.workspace);
        self.plans.insert(key, plan);
        Ok(prepared)
    }

    /// A workspace of at least so many bytes. Smaller ones stay, since plans and recordings name them.
    fn room(&mut self, gpu: &mut Gpu, bytes: usize) -> Result<Address, DeviceError> {
        if bytes > self.workspace.1 {
            self.workspace = (gpu.allocate(bytes)?, bytes);
        }
        Ok(self.workspace.0)
    }

    pub(crate) fn forward(&mut self, gpu: &mut Gpu, call: &AttentionCall, recording: bool) -> Result<(), DeviceError> {
        let (plan, workspace) = self.prepare(gpu, call, Pass::Forward, recording)?;
        let [qkv, out, log_sum, workspace] = [call.qkv, call.out, call.log_sum, workspace].map(pointer);
        // SAFETY: handle and plan are alive. Addresses are the caller's, of buffers as large as the call's shape says, and the
        // workspace is as large as the plan asked for.
        let status = unsafe { attention_forward(self.handle.0, plan, qkv, out, log_sum, workspace) };
        done(&name(call, Pass::Forward), status)
    }

    pub(crate) fn backward(
        &mut self,
        gpu: &mut Gpu,
        call: &AttentionCall,
        [dout, dqkv]: [Address; 2],
        recording: bool,
    ) -> Result<(), DeviceError> {
        let (plan, workspace) = self.prepare(gpu, call, Pass::Backward, recording)?;
        let [qkv, out, log_sum] = [call.qkv, call.out, call.log_sum].map(pointer);
        let [dout, dqkv, workspace] = [dout, dqkv, workspace].map(pointer);
        // SAFETY: as in `forward`.
        let status = unsafe { attention_backward(self.handle.0, plan, qkv, out, log_sum, dout, dqkv, workspace) };
        done(&name(call, Pass::Backward), status)
    }
}

fn pointer(at: Address) -> *mut c_void {
    at.0 as *mut c_void
}

/// cuDNN's fused attention takes bf16 alone.
fn check(call: &AttentionCall) -> Result<(), DeviceError> {
    match call.dtype {
        Dtype::Bf16 => Ok(()),
        Dtype::F32 => Err(DeviceError::Failed {
            command: "attention in f32".into(),
            reason: "cuDNN computes it in bf16 alone; on a GPU f32 trains with the reference engine".into(),
        }),
    }
}

fn name(call: &AttentionCall, pass: Pass) -> String {
    let Attention { rows, length, heads, groups, size, window } = call.shape;
    let pass = if pass == Pass::Forward { "attention" } else { "attention's backward pass" };
    format!("{pass} of {rows} × {length} tokens, {heads} heads of {size} over {groups}, window {window}")
}

fn done(command: &str, status: c_int) -> Result<(), DeviceError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: a text of this thread that ends in a NUL and stays until its next failure.
    let reason = unsafe { CStr::from_ptr(attention_problem()) };
    Err(DeviceError::Failed { command: command.into(), reason: format!("cuDNN: {}", reason.to_string_lossy()) })
}
