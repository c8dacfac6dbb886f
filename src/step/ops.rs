//! The operations that a step is made of, and what carries them out.

use nanochat_kernels::adamw;
use nanochat_plan::parameters::Span;

/// A flat arena of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arena {
    /// The parameters.
    Weights,
    /// Their gradients, summed over the micro-steps of a step.
    Gradients,
    /// First moments, or momentum.
    First,
    /// Second moments.
    Second,
    /// Activations and workspaces.
    Activations,
    /// The mean loss of every micro-step of a step.
    Losses,
}

/// Consecutive elements of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// The arena.
    pub arena: Arena,
    /// The first element.
    pub offset: usize,
    /// How many.
    pub len: usize,
}

impl Region {
    /// A span of an arena.
    pub fn new(arena: Arena, span: Span) -> Self {
        Self { arena, offset: span.offset, len: span.len }
    }

    /// `len` of its elements from `offset` on.
    pub fn part(self, offset: usize, len: usize) -> Self {
        debug_assert!(offset + len <= self.len, "{len} elements from {offset} of {self:?}");
        Self { offset: self.offset + offset, len, ..self }
    }

    /// The single element at `index`.
    pub fn element(self, index: usize) -> Self {
        self.part(index, 1)
    }

    /// Its first elements cut into consecutive parts.
    pub fn carve<const N: usize>(self, sizes: [usize; N]) -> [Self; N] {
        let mut start = 0;
        sizes.map(|size| {
            let part = self.part(start, size);
            start += size;
            part
        })
    }

    /// Whether two regions share an element.
    pub fn overlaps(self, other: Self) -> bool {
        self.arena == other.arena && self.offset < other.offset + other.len && other.offset < self.offset + self.len
    }
}

/// Whether a product overwrites its output or is accumulated into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// The product replaces what is there.
    Overwrite,
    /// The product is added to what is there.
    Accumulate,
}

/// An operand of a product: a row-major matrix within a region, taken as it is or transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Its elements.
    pub region: Region,
    /// Rows as they are stored.
    pub rows: usize,
    /// Columns as they are stored.
    pub columns: usize,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// Whether the product takes it transposed.
    pub transposed: bool,
}

impl Matrix {
    /// A matrix that fills a region.
    pub fn new(region: Region, rows: usize, columns: usize) -> Self {
        Self { region, rows, columns, stride: columns, transposed: false }
    }

    /// The first columns of a matrix whose rows are `stride` elements apart.
    pub fn strided(region: Region, rows: usize, columns: usize, stride: usize) -> Self {
        Self { region, rows, columns, stride, transposed: false }
    }

    /// The same, transposed.
    pub fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

/// Heads of queries or keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Tokens in a row of the batch (T).
    pub length: usize,
    /// Heads (H).
    pub count: usize,
    /// Channels of a head (D).
    pub size: usize,
}

/// Sizes of one causal attention with grouped queries and a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// Rows of the batch (B).
    pub rows: usize,
    /// Tokens in a row (T).
    pub length: usize,
    /// Query heads (H).
    pub heads: usize,
    /// Key/value heads (G), which divide H.
    pub groups: usize,
    /// Channels of a head (D).
    pub size: usize,
    /// Tokens to the left that a query attends to besides itself.
    pub window: usize,
}

/// Where the gradients of the output projection go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadGradients {
    /// Of the normalised stream, overwritten.
    pub dx: Region,
    /// Of the projection, accumulated.
    pub dweight: Region,
}

/// One matrix of a Muon group, with its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MuonMember {
    /// The parameter.
    pub parameter: Region,
    /// Its gradient.
    pub gradient: Region,
    /// Momentum of the gradient.
    pub momentum: Region,
    /// Second moment of the update.
    pub second: Region,
}

/// A fused operation. Fields named `d…` are gradients. Shapes are as in the kernel of the same name.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the fields are the operation's operands, named as in the kernels")]
pub enum Op<'a> {
    /// Fills with zeros.
    Zero { out: Region },
    /// Adds one region to another.
    Add { from: Region, onto: Region },
    /// Rows of a table by the batch's ids.
    Gather { table: Region, width: usize, out: Region },
    /// RMS norm of every row.
    Norm { x: Region, width: usize, normed: Region, inverse: Region },
    /// Adds the gated previous token.
    Smear { embedded: Region, gate: Region, lambda: Region, length: usize, width: usize, out: Region, sigma: Region },
    /// `λ x + λ₀ x₀`, and its norm.
    Mix { x: Region, x0: Region, lambdas: [Region; 2], width: usize, mixed: Region, normed: Region, inverse: Region },
    /// A matrix product; with `full`, operands are not rounded to the compute dtype.
    Product { a: Matrix, b: Matrix, out: Region, mode: WriteMode, full: bool },
    /// Rotary embedding, norm and scale of heads; from token-major to head-major.
    Rotary { x: Region, angles: [Region; 2], heads: Heads, out: Region, inverse: Region },
    /// Values from token-major to head-major.
    Values { v: Region, heads: Heads, out: Region },
    /// The same, with the gated value embedding added.
    MixValues { v: Region, mix: ValueMix, heads: Heads, out: Region, sigma: Region },
    /// Attention of head-major queries, keys and values.
    Attend { shape: Attention, qkv: [Region; 3], out: Region, log_sum: Region },
    /// From head-major to token-major.
    ToTokens { shape: Attention, x: Region, out: Region },
    /// Cuts `x` off at 0 in place, and squares it into `out`.
    SquaredRelu { x: Region, out: Region },
    /// `last − λ middle`, and its norm.
    Backout { last: Region, middle: Region, lambda: Region, width: usize, normed: Region, inverse: Region },
    /// Projection to capped logits and cross-entropy of the batch's targets, a chunk of tokens at a time; with gradients
    /// of the sum of losses times the batch's factor.
    Head {
        x: Region,
        weight: Region,
        width: usize,
        vocab: usize,
        losses: Region,
        logits: Region,
        gradients: Option<HeadGradients>,
    },
    /// The mean over the batch's targets, into the element that the batch is numbered with.
    MeanLoss { losses: Region, means: Region },
    /// Backward pass of [`Op::Backout`].
    BackoutBackward {
        dnormed: Region,
        normed: Region,
        inverse: Region,
        middle: Region,
        lambda: Region,
        width: usize,
        dstream: Region,
        dmiddle: Region,
        dlambda: Region,
    },
    /// Backward pass of [`Op::Norm`], accumulated.
    NormBackward { dnormed: Region, normed: Region, inverse: Region, width: usize, onto: Region },
    /// Backward pass of [`Op::SquaredRelu`]: the gradient in place, and the activations again.
    SquaredReluBackward { x: Region, gradient: Region, out: Region },
    /// From the token-major gradient of attention's result to what its backward pass reads.
    AttendPrepare { shape: Attention, dattended: Region, attended: Region, dout: Region, delta: Region },
    /// Backward pass of [`Op::Attend`].
    AttendBackward {
        shape: Attention,
        qkv: [Region; 3],
        log_sum: Region,
        dout: Region,
        delta: Region,
        dqkv: [Region; 3],
    },
    /// Backward pass of [`Op::Rotary`].
    RotaryBackward { dy: Region, y: Region, inverse: Region, angles: [Region; 2], heads: Heads, dx: Region },
    /// Backward pass of [`Op::Values`].
    ValuesBackward { dy: Region, heads: Heads, dv: Region },
    /// What [`Op::MixValues`] adds to its backward pass: gradients of the embedding's rows and of the gates before their
    /// sigmoid, and, accumulated, of the gate's input.
    MixValuesBackward {
        dy: Region,
        mix: ValueMix,
        sigma: Region,
        heads: Heads,
        drows: Region,
        dgates: Region,
        dx: Region,
    },
    /// Backward pass of [`Op::Mix`]: the stream's gradient in place, the smeared embeddings' accumulated.
    MixBackward {
        dnormed: Region,
        normed: Region,
        inverse: Region,
        x: Region,
        x0: Region,
        lambdas: [Region; 2],
        width: usize,
        dstream: Region,
        dx0: Region,
        dlambdas: [Region; 2],
    },
    /// Backward pass of [`Op::Smear`].
    SmearBackward {
        dx: Region,
        embedded: Region,
        sigma: Region,
        gate: Region,
        lambda: Region,
        length: usize,
        width: usize,
        dembedded: Region,
        dgate: Region,
        dlambda: Region,
        slopes: Region,
    },
    /// Adds rows to those of a table that the batch's ids name, in the order of the batch.
    ScatterAdd { rows: Region, width: usize, table: Region },
    /// AdamW's step of one parameter, by the coefficients of that group.
    AdamW { parameter: Region, gradient: Region, first: Region, second: Region, group: usize },
    /// Muon's step of matrices of one shape, at the learning rate of that group.
    Muon { group: usize, rows: usize, columns: usize, members: &'a [MuonMember] },
}

/// A layer's value embedding and its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueMix {
    /// The embedding (V × G·D).
    pub table: Region,
    /// The gate's weights (G × gate channels).
    pub gate: Region,
    /// The layer's normalised input (N × width), whose first channels the gate reads.
    pub x: Region,
    /// Channels of `x`.
    pub width: usize,
}

/// What an operation does to memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Regions that are read.
    pub reads: Vec<Region>,
    /// Regions that are overwritten whole.
    pub writes: Vec<Region>,
    /// Regions that are read and written.
    pub updates: Vec<Region>,
    /// Workspaces: written and read within the operation, holding nothing before or after it.
    pub workspaces: Vec<Region>,
}

impl Op<'_> {
    /// What it reads and writes.
    pub fn access(&self) -> Access {
        let access = |reads: &[Region], writes: &[Region], updates: &[Region]| Access {
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            updates: updates.to_vec(),
            workspaces: Vec::new(),
        };
        match *self {
            Op::Zero { out } => access(&[], &[out], &[]),
            Op::Add { from, onto } => access(&[from], &[], &[onto]),
            Op::Gather { table, out, .. } => access(&[table], &[out], &[]),
            Op::Norm { x, normed, inverse, .. } => access(&[x], &[normed, inverse], &[]),
            Op::Smear { embedded, gate, lambda, out, sigma, .. } => {
                access(&[embedded, gate, lambda], &[out, sigma], &[])
            }
            Op::Mix { x, x0, lambdas: [lambda, lambda0], mixed, normed, inverse, .. } => {
                access(&[x, x0, lambda, lambda0], &[mixed, normed, inverse], &[])
            }
            Op::Product { a, b, out, mode: WriteMode::Overwrite, .. } => access(&[a.region, b.region], &[out], &[]),
            Op::Product { a, b, out, .. } => access(&[a.region, b.region], &[], &[out]),
            Op::Rotary { x, angles: [cos, sin], out, inverse, .. } => access(&[x, cos, sin], &[out, inverse], &[]),
            Op::Values { v, out, .. } => access(&[v], &[out], &[]),
            Op::MixValues { v, mix, out, sigma, .. } => access(&[v, mix.table, mix.gate, mix.x], &[out, sigma], &[]),
            Op::Attend { qkv, out, log_sum, .. } => access(&qkv, &[out, log_sum], &[]),
            Op::ToTokens { x, out, .. } => access(&[x], &[out], &[]),
            Op::SquaredRelu { x, out } => access(&[], &[out], &[x]),
            Op::Backout { last, middle, lambda, normed, inverse, .. } => {
                access(&[last, middle, lambda], &[normed, inverse], &[])
            }
            Op::Head { x, weight, losses, logits, gradients, .. } => Access {
                reads: vec![x, weight],
                writes: [losses].into_iter().chain(gradients.map(|gradients| gradients.dx)).collect(),
                updates: gradients.map(|gradients| gradients.dweight).into_iter().collect(),
                workspaces: vec![logits],
            },
            Op::MeanLoss { losses, means } => access(&[losses], &[], &[means]),
            Op::BackoutBackward { dnormed, normed, inverse, middle, lambda, dstream, dmiddle, dlambda, .. } => {
                access(&[dnormed, normed, inverse, middle, lambda], &[dstream, dmiddle], &[dlambda])
            }
            Op::NormBackward { dnormed, normed, inverse, onto, .. } => {
                access(&[dnormed, normed, inverse], &[], &[onto])
            }
            Op::SquaredReluBackward { x, gradient, out } => access(&[x], &[out], &[gradient]),
            Op::AttendPrepare { dattended, attended, dout, delta, .. } => {
                access(&[dattended, attended], &[dout, delta], &[])
            }
            Op::AttendBackward { qkv: [q, k, v], log_sum, dout, delta, dqkv, .. } => {
                access(&[q, k, v, log_sum, dout, delta], &dqkv, &[])
            }
            Op::RotaryBackward { dy, y, inverse, angles: [cos, sin], dx, .. } => {
                access(&[dy, y, inverse, cos, sin], &[dx], &[])
            }
            Op::ValuesBackward { dy, dv, .. } => access(&[dy], &[dv], &[]),
            Op::MixValuesBackward { dy, mix, sigma, drows, dgates, dx, .. } => {
                access(&[dy, mix.table, mix.gate, mix.x, sigma], &[drows, dgates], &[dx])
            }
            Op::MixBackward { dnormed, normed, inverse, x, x0, lambdas, dstream, dx0, dlambdas, .. } => access(
                &[dnormed, normed, inverse, x, x0, lambdas[0], lambdas[1]],
                &[],
                &[dstream, dx0, dlambdas[0], dlambdas[1]],
            ),
            Op::SmearBackward { dx, embedded, sigma, gate, lambda, dembedded, dgate, dlambda, slopes, .. } => Access {
                workspaces: vec![slopes],
                ..access(&[dx, embedded, sigma, gate, lambda], &[dembedded], &[dgate, dlambda])
            },
            Op::ScatterAdd { rows, table, .. } => access(&[rows], &[], &[table]),
            Op::AdamW { parameter, gradient, first, second, .. } => {
                access(&[gradient], &[], &[parameter, first, second])
            }
            Op::Muon { members, .. } => Access {
                reads: members.iter().map(|member| member.gradient).collect(),
                updates: members.iter().flat_map(|member| [member.parameter, member.momentum, member.second]).collect(),
                ..Access::default()
            },
        }
    }
}

/// A batch on the host, checked where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Token ids, row after row, each within the vocabulary.
    pub ids: &'a [i32],
    /// Targets, each within the vocabulary or −1, which is ignored.
    pub targets: &'a [i32],
    /// Its place among the micro-steps of a step, from 0.
    pub number: usize,
}

/// Most groups that Muon steps: the shapes of matrices that a model has.
pub const MUON_GROUPS: usize = 8;

/// All that changes from step to step, small enough for one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Coefficients {
    /// AdamW's coefficients by group, in f32 as the baseline holds them.
    pub adamw: [adamw::Coefficients<f32>; 6],
    /// Muon's learning rates by group.
    pub muon_learning_rates: [f32; MUON_GROUPS],
    /// Muon's momentum.
    pub muon_momentum: f32,
    /// Muon's cautious weight decay.
    pub muon_weight_decay: f32,
}

/// Carries operations out. Operations of one implementation run in the order in which they are given.
pub trait Ops {
    /// Takes the ids and targets of the next micro-step, and the factor on the gradient of every loss.
    fn load_batch(&mut self, batch: Batch<'_>, factor: f64);

    /// Takes the coefficients of the next optimizer step.
    fn load_coefficients(&mut self, coefficients: &Coefficients);

    /// Carries one operation out. The regions of an operation that are written share no element with its others.
    fn run(&mut self, op: &Op<'_>);
}
