//! Operations by the processor's kernels, over two allocations: activations, in what elements are kept in between operations, and all else.

mod embed;
mod layer;
mod memory;
mod optimizer;

use nanochat_kernels::gemm::{self, ComputeDtype, Threads, multiply};
use nanochat_kernels::{Element, Scratch, Stored, head, norm, residual, rotary};

use super::ops::{Arena, Batch, Coefficients, HeadGradients, Heads, Matrix, Op, Ops, Region, WriteMode};
use memory::Memory;
use optimizer::MuonWorkspaces;

/// The processor's arenas: activations in f32, in bf16, or in f64 for comparisons with finite differences; weights, gradients, moments, factors and
/// losses in what kernels compute in.
#[derive(Debug)]
pub struct Cpu<S: Stored> {
    memory: Memory<S::Element>,
    activations: Memory<S>,
    compute_dtype: ComputeDtype,
    ids: Vec<i32>,
    targets: Vec<i32>,
    number: usize,
    factor: f64,
    coefficients: Coefficients,
    scratch: Scratch<S::Element>,
    /// The channels that the gates of value embeddings read, token after token.
    gate_inputs: Vec<S::Element>,
    muon: MuonWorkspaces,
}

impl<S: Stored> Cpu<S> {
    /// Arenas of these elements each, all zero.
    pub fn new(elements: &[(Arena, usize)], compute_dtype: ComputeDtype) -> Self {
        let of = |working: bool| {
            elements.iter().copied().filter(move |(arena, _)| (*arena == Arena::Activations) == working)
        };
        Self {
            memory: Memory::new(of(false)),
            activations: Memory::new(of(true)),
            compute_dtype,
            ids: Vec::new(),
            targets: Vec::new(),
            number: 0,
            factor: 0.0,
            coefficients: Coefficients::default(),
            scratch: Scratch::default(),
            gate_inputs: Vec::new(),
            muon: MuonWorkspaces::default(),
        }
    }

    /// What products round their operands to.
    pub fn compute_dtype(&self) -> ComputeDtype {
        self.compute_dtype
    }

    /// Bytes of all arenas.
    pub fn bytes(&self) -> usize {
        self.memory.bytes() + self.activations.bytes()
    }

    /// The elements of a region of any arena but that of activations.
    pub fn read(&self, region: Region) -> &[S::Element] {
        self.memory.read(region)
    }

    /// The same, to be filled.
    pub fn write(&mut self, region: Region) -> &mut [S::Element] {
        self.memory.write(region)
    }

    /// The elements of a region of activations.
    pub fn activations(&self, region: Region) -> &[S] {
        self.activations.read(region)
    }

    /// A copy of the elements of a region of any arena, widened.
    pub fn widened(&self, region: Region) -> Vec<S::Element> {
        match region.arena {
            Arena::Activations => self.activations.read(region).iter().map(|element| element.load()).collect(),
            _ => self.memory.read(region).to_vec(),
        }
    }

    /// The element of a region that has only one.
    fn scalar(&self, region: Region) -> S::Element {
        self.memory.read(region).first().copied().unwrap_or(S::Element::ZERO)
    }

    /// Adds to the element of a region that has only one.
    fn gain(&mut self, region: Region, value: f64) {
        if let Some(element) = self.memory.write(region).first_mut() {
            *element += S::Element::of(value);
        }
    }

    fn forward(&mut self, op: &Op<'_>) {
        match *op {
            Op::Zero { out } if out.arena == Arena::Activations => self.activations.write(out).fill(S::default()),
            Op::Zero { out } => self.memory.write(out).fill(S::Element::ZERO),
            Op::Add { from, onto } => {
                let ([onto], [from]) = self.activations.split([onto], [from]);
                residual::add(onto, from);
            }
            Op::Embed { table, smear, embedded, inverse, out, sigma } => {
                self.embed(table, smear, [embedded, inverse], [out, sigma]);
            }
            Op::Norm { x, width, normed, inverse } => {
                let ([normed], [x]) = self.activations.split([normed], [x]);
                norm::forward(x, width, normed, self.memory.write(inverse));
            }
            Op::Mix { x, x0, lambdas, width, mixed, normed, inverse } => {
                let lambdas = lambdas.map(|lambda| self.scalar(lambda));
                let ([mixed, normed], [x, x0]) = self.activations.split([mixed, normed], [x, x0]);
                residual::mix(x, x0, lambdas, width, mixed, normed, self.memory.write(inverse));
            }
            Op::Product { a, b, out, mode } => self.product(a, b, out, mode),
            Op::QueryKeyValue { layer, workspace } => self.query_key_value(&layer, workspace),
            Op::Attend { shape, qkv, workspace, out, log_sum } => {
                self.attend(shape, qkv, workspace, [out, log_sum]);
            }
            Op::MlpOutput { hidden, weight, workspace, out } => self.mlp_output(hidden, weight, workspace, out),
            Op::Backout { last, middle, lambda, width, normed, inverse } => {
                let lambda = self.scalar(lambda);
                let ([normed], [last, middle]) = self.activations.split([normed], [last, middle]);
                residual::backout(last, middle, lambda, width, normed, self.memory.write(inverse));
            }
            Op::Head { x, weight, width, vocab, losses, logits, gradients } => {
                self.head([x, weight], [width, vocab], [losses, logits], gradients);
            }
            Op::MeanLoss { losses, means } => self.mean_loss(losses, means),
            _ => self.backward(op),
        }
    }

    fn backward(&mut self, op: &Op<'_>) {
        match *op {
            Op::BackoutBackward { dnormed, normed, inverse, middle, lambda, width, dstream, dmiddle, dlambda } => {
                let lambda = self.scalar(lambda);
                let ([dstream, dmiddle], [dnormed, normed, middle]) =
                    self.activations.split([dstream, dmiddle], [dnormed, normed, middle]);
                let inverse = self.memory.read(inverse);
                let at = residual::Backout { dnormed, normed, inverse, middle, lambda };
                let slope = residual::backout_backward(at, width, dstream, dmiddle);
                self.gain(dlambda, slope);
            }
            Op::NormBackward { dnormed, normed, inverse, width, onto } => {
                let ([onto], [dnormed, normed]) = self.activations.split([onto], [dnormed, normed]);
                norm::backward_add(dnormed, normed, self.memory.read(inverse), width, onto);
            }
            Op::MlpOutputBackward { dout, hidden, weight, dhidden, workspace, dweight } => {
                self.mlp_output_backward([dout, hidden], weight, dhidden, workspace, dweight);
            }
            Op::AttendBackward { shape, qkv, attended, log_sum, dattended, delta, workspace, dqkv } => {
                self.attend_backward(shape, [qkv, attended, log_sum], dattended, [workspace, delta], dqkv);
            }
            Op::QueryKeyValueBackward { layer, dqkv, workspace, gradients } => {
                self.query_key_value_backward(&layer, dqkv, workspace, &gradients);
            }
            Op::MixBackward { dnormed, normed, inverse, x, x0, lambdas, width, dstream, dx0, dlambdas } => {
                let lambdas = lambdas.map(|lambda| self.scalar(lambda));
                let ([dstream, dx0], [dnormed, normed, x, x0]) =
                    self.activations.split([dstream, dx0], [dnormed, normed, x, x0]);
                let inverse = self.memory.read(inverse);
                let at = residual::Mixed { dnormed, normed, inverse, x, x0, lambdas };
                let slopes = residual::mix_backward(at, width, dstream, dx0);
                dlambdas.into_iter().zip(slopes).for_each(|(dlambda, slope)| self.gain(dlambda, slope));
            }
            Op::EmbedBackward { dx, embedded, inverse, sigma, smear, dtable, dgate, dlambda, slopes, workspaces } => {
                let [dembedded, dgathered] = workspaces;
                self.smear_backward([dx, embedded, sigma], smear, [dembedded, dgate, slopes], dlambda);
                self.activations.write(dgathered).fill(S::default());
                let ([onto], [dnormed, normed]) = self.activations.split([dgathered], [dembedded, embedded]);
                norm::backward_add(dnormed, normed, self.memory.read(inverse), smear.width, onto);
                self.scatter_add(dgathered, smear.width, dtable);
            }
            _ => self.optimize(op),
        }
    }

    /// A product of activations with weights, into activations; or of gradients of activations with activations, into gradients.
    fn product(&mut self, a: Matrix, b: Matrix, out: Region, mode: WriteMode) {
        let mode = write_mode(mode);
        let by = (Threads::Pool, self.compute_dtype);
        if out.arena == Arena::Activations {
            let ([out], [a_elements]) = self.activations.split([out], [a.region]);
            let b_elements = self.memory.read(b.region);
            multiply(out, view(a_elements, a), view(b_elements, b), mode, by.0, by.1);
        } else {
            let ([], [a_elements, b_elements]) = self.activations.split([], [a.region, b.region]);
            multiply(self.memory.write(out), view(a_elements, a), view(b_elements, b), mode, by.0, by.1);
        }
    }

    fn head(
        &mut self,
        [x, weight]: [Region; 2],
        [width, vocab]: [usize; 2],
        [losses, logits]: [Region; 2],
        gradients: Option<HeadGradients>,
    ) {
        self.scratch.reserve(vocab);
        let (targets, compute_dtype, factor) = (&self.targets, self.compute_dtype, self.factor);
        match gradients {
            Some(HeadGradients { dx, dweight }) => {
                let ([logits, dx], [x]) = self.activations.split([logits, dx], [x]);
                let ([losses, dweight], [weight]) = self.memory.split([losses, dweight], [weight]);
                let head = head::Head { x, weight, targets, width, vocab, compute_dtype };
                let gradients = head::HeadGradients { factor, dx, dweight };
                head::cross_entropy(head, Some(gradients), losses, logits, &self.scratch);
            }
            None => {
                let ([logits], [x]) = self.activations.split([logits], [x]);
                let ([losses], [weight]) = self.memory.split([losses], [weight]);
                let head = head::Head { x, weight, targets, width, vocab, compute_dtype };
                head::cross_entropy(head, None, losses, logits, &self.scratch);
            }
        }
    }

    /// In f64, and rounded once.
    fn mean_loss(&mut self, losses: Region, means: Region) {
        let counted = self.targets.iter().filter(|target| **target >= 0).count();
        let mean = self.memory.read(losses).iter().map(|loss| loss.wide()).sum::<f64>() / counted as f64;
        if let Some(element) = self.memory.write(means).get_mut(self.number) {
            *element = S::Element::of(mean);
        }
    }
}

/// A matrix over its elements.
fn view<S>(elements: &[S], matrix: Matrix) -> gemm::Matrix<'_, S> {
    let view = gemm::Matrix::strided(elements, matrix.rows, matrix.columns, matrix.stride);
    if matrix.transposed { view.transposed() } else { view }
}

fn write_mode(mode: WriteMode) -> gemm::WriteMode {
    match mode {
        WriteMode::Overwrite => gemm::WriteMode::Overwrite,
        WriteMode::Accumulate => gemm::WriteMode::Accumulate,
    }
}

fn of_heads(heads: Heads) -> rotary::Heads {
    let Heads { length, count, size } = heads;
    rotary::Heads { length, count, size }
}

impl<S: Stored> Ops for Cpu<S> {
    fn load_batch(&mut self, batch: Batch<'_>, factor: f64) {
        debug_assert!(batch.ids.iter().all(|id| *id >= 0), "ids are checked where the batch is made");
        self.ids.clear();
        self.ids.extend_from_slice(batch.ids);
        self.targets.clear();
        self.targets.extend_from_slice(batch.targets);
        self.number = batch.number;
        self.factor = factor;
    }

    fn load_coefficients(&mut self, coefficients: &Coefficients) {
        self.coefficients = *coefficients;
    }

    fn run(&mut self, op: &Op<'_>) {
        self.forward(op);
    }
}
