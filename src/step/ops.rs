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
    /// Activations and workspaces in the run's precision.
    Activations,
    /// What is kept in f32 whatever the precision is: factors, logarithms, losses, angles.
    Factors,
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

impl Attention {
    /// Elements of queries, keys and values.
    pub fn elements(&self) -> [usize; 3] {
        let [queries, keys] = [self.heads, self.groups].map(|heads| self.rows * self.length * heads * self.size);
        [queries, keys, keys]
    }
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

/// A fused operation. Fields named `d…` are gradients. Shapes are as in the kernels that carry it out.
///
/// Operations are as large as what some device does in one piece: how queries, keys and values lie in memory between
/// [`Op::QueryKeyValue`] and its backward pass, and whether a workspace is used at all, is up to whoever carries them out.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the fields are the operation's operands, named as in the kernels")]
pub enum Op<'a> {
    /// Fills with zeros.
    Zero { out: Region },
    /// Adds one region to another.
    Add { from: Region, onto: Region },
    /// Rows of a table by the batch's ids, their norm, and that with the gated previous token.
    Embed { table: Region, smear: Smear, embedded: Region, inverse: Region, out: Region, sigma: Region },
    /// RMS norm of every row.
    Norm { x: Region, width: usize, normed: Region, inverse: Region },
    /// `λ x + λ₀ x₀`, and its norm.
    Mix { x: Region, x0: Region, lambdas: [Region; 2], width: usize, mixed: Region, normed: Region, inverse: Region },
    /// A matrix product.
    Product { a: Matrix, b: Matrix, out: Region, mode: WriteMode },
    /// Projections to queries, keys and values; rotary embedding, norm and scale of queries and keys; the gated value
    /// embedding added to values.
    QueryKeyValue { layer: QueryKeyValue, workspace: Region },
    /// Attention, token-major.
    Attend { shape: Attention, qkv: Region, workspace: Region, out: Region, log_sum: Region },
    /// Cuts `hidden` off at 0 in place, and adds the product of its squares with the transposed weight to `out`.
    MlpOutput { hidden: Region, weight: Matrix, workspace: Region, out: Region },
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
    /// Backward pass of [`Op::MlpOutput`]: the gradient of what was cut off, and, accumulated, the weight's.
    MlpOutputBackward {
        dout: Region,
        hidden: Region,
        weight: Matrix,
        dhidden: Region,
        workspace: Region,
        dweight: Region,
    },
    /// Backward pass of [`Op::Attend`].
    AttendBackward {
        shape: Attention,
        qkv: Region,
        attended: Region,
        log_sum: Region,
        dattended: Region,
        delta: Region,
        workspace: Region,
        dqkv: Region,
    },
    /// Backward pass of [`Op::QueryKeyValue`]: the gradient of its input, and, accumulated, those of the parameters.
    QueryKeyValueBackward { layer: QueryKeyValue, dqkv: Region, workspace: Region, gradients: QueryKeyValueGradients },
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
    /// Backward pass of [`Op::Embed`] into the table, the gate and λ, all accumulated.
    EmbedBackward {
        dx: Region,
        embedded: Region,
        inverse: Region,
        sigma: Region,
        smear: Smear,
        dtable: Region,
        dgate: Region,
        dlambda: Region,
        slopes: Region,
        workspaces: [Region; 2],
    },
    /// AdamW's step of one parameter, by the coefficients of that group.
    AdamW { parameter: Region, gradient: Region, first: Region, second: Region, group: usize },
    /// Muon's step of matrices of one shape, at the learning rate of that group.
    Muon { group: usize, rows: usize, columns: usize, members: &'a [MuonMember] },
}

/// The smear's parameters and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smear {
    /// The gate's weights.
    pub gate: Region,
    /// Factor on the gate.
    pub lambda: Region,
    /// Tokens in a row of the batch (T).
    pub length: usize,
    /// Channels.
    pub width: usize,
}

/// What leads from a layer's normalised input to queries, keys and values, with what the backward pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryKeyValue {
    /// The normalised input (N × width).
    pub x: Region,
    /// Channels of `x`.
    pub width: usize,
    /// Projections (outputs × width) to queries, keys and values, which lie one after the other.
    pub weights: [Matrix; 3],
    /// Cosines and sines of the rotary angles.
    pub angles: [Region; 2],
    /// Query heads.
    pub queries: Heads,
    /// Key/value heads.
    pub keys: Heads,
    /// The result.
    pub qkv: Region,
    /// Factors of the norms of queries and keys.
    pub inverses: [Region; 2],
    /// The layer's value embedding, where it has one.
    pub mix: Option<ValueMix>,
}

impl QueryKeyValue {
    /// The three projections as one, where nothing lies between them.
    pub fn joined_weights(&self) -> Option<Matrix> {
        let [q, k, v] = self.weights;
        let follows = |a: Matrix, b: Matrix| a.region.offset + a.region.len == b.region.offset;
        (follows(q, k) && follows(k, v)).then(|| {
            let region = Region { len: q.region.len + k.region.len + v.region.len, ..q.region };
            Matrix::new(region, q.rows + k.rows + v.rows, q.columns)
        })
    }
}

/// Where the gradients of a [`QueryKeyValue`] go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryKeyValueGradients {
    /// Of the normalised input, overwritten.
    pub dx: Region,
    /// Of the projections, accumulated.
    pub dweights: [Region; 3],
    /// Of the value embedding and its gate, where there are any.
    pub mix: Option<ValueMixGradients>,
}

/// Where the gradients of a [`ValueMix`] go, both accumulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueMixGradients {
    /// Of the embedding.
    pub dtable: Region,
    /// Of the gate's weights.
    pub dgate: Region,
    /// Workspace for the gradients of the gates before their sigmoid (N × G).
    pub gates: Region,
}

/// A layer's value embedding and its gate, which reads the first channels of the layer's normalised input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueMix {
    /// The embedding (V × G·D).
    pub table: Region,
    /// The gate's weights (G × gate channels).
    pub gate: Region,
    /// Sigmoids of the gates, for the backward pass.
    pub sigma: Region,
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
            Op::Embed { table, smear, embedded, inverse, out, sigma } => {
                access(&[table, smear.gate, smear.lambda], &[embedded, inverse, out, sigma], &[])
            }
            Op::Norm { x, normed, inverse, .. } => access(&[x], &[normed, inverse], &[]),
            Op::Mix { x, x0, lambdas: [lambda, lambda0], mixed, normed, inverse, .. } => {
                access(&[x, x0, lambda, lambda0], &[mixed, normed, inverse], &[])
            }
            Op::Product { a, b, out, mode: WriteMode::Overwrite } => access(&[a.region, b.region], &[out], &[]),
            Op::Product { a, b, out, .. } => access(&[a.region, b.region], &[], &[out]),
            Op::QueryKeyValue { layer, workspace } => Access {
                reads: layer.reads(),
                writes: [layer.qkv].into_iter().chain(layer.inverses).chain(layer.mix.map(|mix| mix.sigma)).collect(),
                updates: Vec::new(),
                workspaces: vec![workspace],
            },
            Op::Attend { qkv, workspace, out, log_sum, .. } => {
                Access { workspaces: vec![workspace], ..access(&[qkv], &[out, log_sum], &[]) }
            }
            Op::MlpOutput { hidden, weight, workspace, out } => {
                Access { workspaces: vec![workspace], ..access(&[weight.region], &[], &[hidden, out]) }
            }
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
            Op::MlpOutputBackward { dout, hidden, weight, dhidden, workspace, dweight } => {
                Access { workspaces: vec![workspace], ..access(&[dout, hidden, weight.region], &[dhidden], &[dweight]) }
            }
            Op::AttendBackward { qkv, attended, log_sum, dattended, delta, workspace, dqkv, .. } => Access {
                workspaces: vec![workspace, delta],
                ..access(&[qkv, attended, log_sum, dattended], &[dqkv], &[])
            },
            Op::QueryKeyValueBackward { layer, dqkv, workspace, gradients } => Access {
                reads: [layer.qkv]
                    .into_iter()
                    .chain(layer.inverses)
                    .chain(layer.sigma())
                    .chain(layer.reads())
                    .collect(),
                writes: vec![gradients.dx],
                updates: [dqkv].into_iter().chain(gradients.updates()).collect(),
                workspaces: [workspace].into_iter().chain(gradients.mix.map(|mix| mix.gates)).collect(),
            },
            Op::MixBackward { dnormed, normed, inverse, x, x0, lambdas, dstream, dx0, dlambdas, .. } => access(
                &[dnormed, normed, inverse, x, x0, lambdas[0], lambdas[1]],
                &[],
                &[dstream, dx0, dlambdas[0], dlambdas[1]],
            ),
            Op::EmbedBackward {
                dx,
                embedded,
                inverse,
                sigma,
                smear,
                dtable,
                dgate,
                dlambda,
                slopes,
                workspaces,
                ..
            } => Access {
                workspaces: [slopes].into_iter().chain(workspaces).collect(),
                ..access(&[dx, embedded, inverse, sigma, smear.gate, smear.lambda], &[], &[dtable, dgate, dlambda])
            },
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

impl QueryKeyValue {
    /// What its forward pass reads.
    fn reads(&self) -> Vec<Region> {
        let weights = self.weights.map(|weight| weight.region);
        let mix = self.mix.iter().flat_map(|mix| [mix.table, mix.gate]);
        [self.x].into_iter().chain(weights).chain(self.angles).chain(mix).collect()
    }

    fn sigma(&self) -> Option<Region> {
        self.mix.map(|mix| mix.sigma)
    }
}

impl QueryKeyValueGradients {
    /// What is accumulated.
    fn updates(&self) -> Vec<Region> {
        let mix = self.mix.iter().flat_map(|mix| [mix.dtable, mix.dgate]);
        self.dweights.into_iter().chain(mix).collect()
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
