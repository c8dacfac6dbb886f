//! What a run is expected to cost on its profile.
//!
//! On a CPU the engine's arenas are those of the layouts, to the byte; the rest is what threads work on, packed operands, and
//! the process itself. On NVIDIA GPUs in bf16 the engine's allocations are those of `gpu.rs`, to the byte, and libraries have workspaces
//! besides. In f32, and on other GPUs, the reference operations work, whose memory `reference.rs` counts; `experiments/LOG.md` has what was
//! measured of both.

use super::activations::{ActivationLayout, BatchSize, Chunks, Pass, Storage};
use super::gpu::{GpuSizes, library_bytes};
use super::parameters::{ALIGNMENT, ParameterLayout};
use super::reference::{COPIES, numbers_per_row, rows_at_once};
use super::shape::MLP_EXPANSION;
use super::{Derived, DeviceKind, Estimate, EvalPlan, ModelShape, Precision, Profile};

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes of the program itself, a small corpus and its tokenizer.
const PROCESS_BYTES: f64 = 54e6;
/// Bytes of CUDA's context, kernels and libraries on a GPU.
const DEVICE_BYTES: f64 = 600e6;
/// Threads where neither the profile says how many nor what the machine must have.
const USUAL_THREADS: u64 = 2;
/// Most tokens of validation batches that are kept between evaluations, at [`TOKEN_BYTES`] each.
pub const CACHED_TOKENS: u64 = 8 << 20;
/// Bytes of a token of a batch with its target.
const TOKEN_BYTES: f64 = 8.0;

/// Memory of one device and time of all.
pub fn estimate(derived: &Derived, profile: &Profile, eval: &EvalPlan) -> Estimate {
    let rate = profile.peak_tflops.map(|tflops| tflops * 1e12 * profile.efficiency * profile.device_count as f64);
    Estimate {
        memory_gib: memory_bytes(derived, profile, eval) / GIB,
        seconds: rate.map(|rate| derived.total_flops as f64 / rate),
    }
}

/// Peak bytes of one device.
fn memory_bytes(derived: &Derived, profile: &Profile, eval: &EvalPlan) -> f64 {
    let model = &derived.model;
    let batch = BatchSize { rows: profile.device_batch_size as usize, length: model.sequence_len };
    let micro_steps = derived.total_batch_size / (batch.tokens() as u64 * profile.device_count).max(1);
    if profile.device == DeviceKind::Cuda && profile.dtype == Precision::Bf16 {
        let engine = GpuSizes::new(model, batch, micro_steps as usize, profile.dtype).total();
        // A model's weights lie there besides: those that the engine begins with, and later the copy that CORE is taken of.
        let weights = 4.0 * derived.parameters.total as f64;
        return DEVICE_BYTES + weights + (engine + library_bytes(model, batch)) as f64;
    }
    if profile.device != DeviceKind::Cpu {
        let total = derived.parameters.total as f64;
        let matrices = derived.parameters.transformer_matrices as f64;
        // Weights and gradients; Muon's momentum of the matrices; Adam's two moments of the rest. All in f32.
        let state = 8.0 * total + 4.0 * matrices + 8.0 * (total - matrices);
        let rows = batch.rows.min(rows_at_once(model, batch.length)) as f64;
        return DEVICE_BYTES + state + 4.0 * (COPIES * total + rows * numbers_per_row(model, batch.length));
    }
    // The CORE metric is taken of a copy of the model.
    let core = eval.core.as_ref().map_or(0.0, |_| 4.0 * derived.parameters.total as f64);
    let validation = TOKEN_BYTES * if eval.tokens <= CACHED_TOKENS { eval.tokens as f64 } else { 0.0 };
    let arenas = arena_bytes(&derived.model, batch, micro_steps as usize, profile.dtype) as f64;
    PROCESS_BYTES + arenas + workspace_bytes(derived, batch, profile) + core + validation
}

/// Bytes of the engine's arenas on a CPU: weights, gradients, both moments, factors and mean losses in f32, and activations in the run's
/// precision.
pub fn arena_bytes(model: &ModelShape, batch: BatchSize, micro_steps: usize, dtype: Precision) -> u64 {
    let parameters = ParameterLayout::new(model);
    let activations = ActivationLayout::new(model, batch, Pass::Training, Chunks::CPU);
    let state = 3 * parameters.elements() + parameters.second_elements();
    let full = state + activations.elements(Storage::Full) + micro_steps.next_multiple_of(ALIGNMENT);
    let working = match dtype {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    (4 * full + working * activations.elements(Storage::Working)) as u64
}

/// Bytes that products and the optimizer work on besides: Muon's matrices a thread, and in bf16 the largest packed operand.
fn workspace_bytes(derived: &Derived, batch: BatchSize, profile: &Profile) -> f64 {
    let asked = [Some(profile.threads), profile.requirements.min_cores];
    let threads = asked.into_iter().flatten().find(|threads| *threads > 0).unwrap_or(USUAL_THREADS);
    let width = derived.model.n_embd;
    let hidden = MLP_EXPANSION * width;
    // A matrix and its update, and the two squares of Polar Express, of the largest matrix.
    let muon = threads as f64 * 4.0 * (2 * hidden * width + 2 * width * width) as f64;
    let packed = match profile.dtype {
        Precision::F32 => 0,
        Precision::Bf16 => 2 * (batch.tokens() * hidden).max(derived.model.vocab_size * width),
    };
    muon + packed as f64
}
