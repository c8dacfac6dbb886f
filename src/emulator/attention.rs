//! Attention over packed rows, by the processor's kernels in f32.

use nanochat_gpu::{Address, AttentionCall, Dtype};
use nanochat_kernels::Scratch;
use nanochat_kernels::attention::{self, Inputs, Outputs, Saved, Shape};
use nanochat_kernels::gemm::ComputeDtype;

use crate::memory::Memory;

/// Sizes of an attention with its packed rows.
struct Packed {
    shape: Shape,
    /// Elements of a row.
    width: usize,
}

impl Packed {
    fn new(call: &AttentionCall) -> Self {
        let nanochat_gpu::AttentionCall { shape, .. } = *call;
        let (rows, length, heads, groups) = (shape.rows, shape.length, shape.heads, shape.groups);
        let compute_dtype = ComputeDtype::Full;
        let (size, window) = (shape.size, shape.window);
        let width = (heads + 2 * groups) * size;
        Self { shape: Shape { rows, length, heads, groups, size, window, compute_dtype }, width }
    }

    fn tokens(&self) -> usize {
        self.shape.rows * self.shape.length
    }

    /// `count` heads from the head `first` on, of rows of `width` elements, head-major.
    fn heads(&self, packed: &[f32], width: usize, first: usize, count: usize) -> Vec<f32> {
        let Shape { rows, length, size, .. } = self.shape;
        let mut heads = Vec::with_capacity(rows * count * length * size);
        for row in 0..rows {
            for head in first..first + count {
                for position in 0..length {
                    heads.extend_from_slice(&packed[(row * length + position) * width + head * size..][..size]);
                }
            }
        }
        heads
    }

    /// The other way round.
    fn put(&self, heads: &[f32], packed: &mut [f32], width: usize, first: usize, count: usize) {
        let Shape { rows, length, size, .. } = self.shape;
        let mut vectors = heads.chunks_exact(size);
        for row in 0..rows {
            for head in first..first + count {
                for position in 0..length {
                    let to = &mut packed[(row * length + position) * width + head * size..][..size];
                    to.copy_from_slice(vectors.next().unwrap_or_default());
                }
            }
        }
    }

    /// Queries, keys and values.
    fn parts(&self, packed: &[f32]) -> [Vec<f32>; 3] {
        let Shape { heads, groups, .. } = self.shape;
        [(0, heads), (heads, groups), (heads + groups, groups)]
            .map(|(first, count)| self.heads(packed, self.width, first, count))
    }

    fn scratch(&self) -> Scratch<f32> {
        let mut scratch = Scratch::default();
        scratch.reserve(self.shape.workspace_elements());
        scratch
    }
}

pub(crate) fn forward(memory: &mut Memory, call: &AttentionCall) {
    let packed = Packed::new(call);
    let (tokens, heads) = (packed.tokens(), packed.shape.heads);
    let [q, k, v] = packed.parts(&memory.read(call.qkv, tokens * packed.width, call.dtype));
    let width = heads * packed.shape.size;
    let (mut out, mut log_sum) = (vec![0.0; tokens * width], vec![0.0; tokens * heads]);
    let inputs = Inputs { q: &q, k: &k, v: &v };
    attention::forward(packed.shape, inputs, &mut out, &mut log_sum, &packed.scratch());
    let mut result = vec![0.0; tokens * width];
    packed.put(&out, &mut result, width, 0, heads);
    memory.write(call.out, &result, call.dtype);
    memory.write(call.log_sum, &log_sum, Dtype::F32);
}

pub(crate) fn backward(memory: &mut Memory, call: &AttentionCall, dout: Address, dqkv: Address) {
    let packed = Packed::new(call);
    let Shape { heads, groups, size, .. } = packed.shape;
    let (tokens, width) = (packed.tokens(), heads * size);
    let [q, k, v] = packed.parts(&memory.read(call.qkv, tokens * packed.width, call.dtype));
    let lse = memory.read(call.log_sum, tokens * heads, Dtype::F32);
    let [attended, dattended] = [call.out, dout].map(|at| memory.read(at, tokens * width, call.dtype));
    let (mut dout, mut delta) = (vec![0.0; tokens * width], vec![0.0; tokens * heads]);
    attention::prepare_backward(&dattended, &attended, packed.shape, &mut dout, &mut delta);
    let [mut dq, mut dk, mut dv] = [heads, groups, groups].map(|count| vec![0.0; tokens * count * size]);
    attention::backward(
        packed.shape,
        Inputs { q: &q, k: &k, v: &v },
        Saved { lse: &lse, dout: &dout, delta: &delta },
        Outputs { dq: &mut dq, dk: &mut dk, dv: &mut dv },
        &packed.scratch(),
    );
    let mut gradient = vec![0.0; tokens * packed.width];
    for (part, first, count) in [(dq, 0, heads), (dk, heads, groups), (dv, heads + groups, groups)] {
        packed.put(&part, &mut gradient, packed.width, first, count);
    }
    memory.write(dqkv, &gradient, call.dtype);
}
