//! Operations by the processor's kernels, over one allocation.

mod embed;
mod layer;
mod memory;
mod optimizer;

use nanochat_kernels::gemm::{self, ComputeDtype, Threads, multiply};
use nanochat_kernels::{Element, Scratch, head, norm, residual, rotary};

use super::ops::{Arena, Batch, Coefficients, HeadGradients, Heads, Matrix, Op, Ops, Region, WriteMode};
use memory::Memory;
use optimizer::MuonWorkspaces;

/// The processor's arenas, in f32, or in f64 for comparisons with finite differences.
#[derive(Debug)]
pub struct Cpu<T> {
    memory: Memory<T>,
    compute_dtype: ComputeDtype,
    ids: Vec<i32>,
    targets: Vec<i32>,
    number: usize,
    factor: f64,
    coefficients: Coefficients,
    attention: Scratch<T>,
    muon: MuonWorkspaces,
}

impl<T: Element> Cpu<T> {
    /// Arenas of these elements each, all zero.
    pub fn new(elements: &[(Arena, usize)], compute_dtype: ComputeDtype) -> Self {
        Self {
            memory: Memory::new(elements),
            compute_dtype,
            ids: Vec::new(),
            targets: Vec::new(),
            number: 0,
            factor: 0.0,
            coefficients: Coefficients::default(),
            attention: Scratch::default(),
            muon: MuonWorkspaces::default(),
        }
    }

    /// What products round their operands to.
    pub fn compute_dtype(&self) -> ComputeDtype {
        self.compute_dtype
    }

    /// Bytes of all arenas.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The elements of a region.
    pub fn read(&self, region: Region) -> &[T] {
        self.memory.read(region)
    }

    /// The elements of a region, to be filled.
    pub fn write(&mut self, region: Region) -> &mut [T] {
        self.memory.write(region)
    }

    /// The element of a region that has only one.
    fn scalar(&self, region: Region) -> T {
        self.memory.read(region).first().copied().unwrap_or(T::ZERO)
    }

    /// Adds to the element of a region that has only one.
    fn gain(&mut self, region: Region, value: f64) {
        if let Some(element) = self.memory.write(region).first_mut() {
            *element += T::of(value);
        }
    }

    fn forward(&mut self, op: &Op<'_>) {
        match *op {
            Op::Zero { out } => self.memory.write(out).fill(T::ZERO),
            Op::Add { from, onto } => {
                let ([onto], [from]) = self.memory.split([onto], [from]);
                residual::add(onto, from);
            }
            Op::Embed { table, smear, embedded, inverse, out, sigma } => {
                self.embed(table, smear, [embedded, inverse], [out, sigma]);
            }
            Op::Norm { x, width, normed, inverse } => {
                let ([normed, inverse], [x]) = self.memory.split([normed, inverse], [x]);
                norm::forward(x, width, normed, inverse);
            }
            Op::Mix { x, x0, lambdas, width, mixed, normed, inverse } => {
                let lambdas = lambdas.map(|lambda| self.scalar(lambda));
                let ([mixed, normed, inverse], [x, x0]) = self.memory.split([mixed, normed, inverse], [x, x0]);
                residual::mix(x, x0, lambdas, width, mixed, normed, inverse);
            }
            Op::Product { a, b, out, mode } => self.product(a, b, out, mode, self.compute_dtype),
            Op::QueryKeyValue { layer, workspace } => self.query_key_value(&layer, workspace),
            Op::Attend { shape, qkv, workspace, out, log_sum } => {
                self.attend(shape, qkv, workspace, [out, log_sum]);
            }
            Op::MlpOutput { hidden, weight, workspace, out } => self.mlp_output(hidden, weight, workspace, out),
            Op::Backout { last, middle, lambda, width, normed, inverse } => {
                let lambda = self.scalar(lambda);
                let ([normed, inverse], [last, middle]) = self.memory.split([normed, inverse], [last, middle]);
                residual::backout(last, middle, lambda, width, normed, inverse);
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
                let ([dstream, dmiddle], [dnormed, normed, inverse, middle]) =
                    self.memory.split([dstream, dmiddle], [dnormed, normed, inverse, middle]);
                let at = residual::Backout { dnormed, normed, inverse, middle, lambda };
                let slope = residual::backout_backward(at, width, dstream, dmiddle);
                self.gain(dlambda, slope);
            }
            Op::NormBackward { dnormed, normed, inverse, width, onto } => {
                let ([onto], [dnormed, normed, inverse]) = self.memory.split([onto], [dnormed, normed, inverse]);
                norm::backward_add(dnormed, normed, inverse, width, onto);
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
                let ([dstream, dx0], [dnormed, normed, inverse, x, x0]) =
                    self.memory.split([dstream, dx0], [dnormed, normed, inverse, x, x0]);
                let at = residual::Mixed { dnormed, normed, inverse, x, x0, lambdas };
                let slopes = residual::mix_backward(at, width, dstream, dx0);
                dlambdas.into_iter().zip(slopes).for_each(|(dlambda, slope)| self.gain(dlambda, slope));
            }
            Op::EmbedBackward { dx, embedded, inverse, sigma, smear, dtable, dgate, dlambda, slopes, workspaces } => {
                let [dembedded, dgathered] = workspaces;
                self.smear_backward([dx, embedded, sigma], smear, [dembedded, dgate, slopes], dlambda);
                self.memory.write(dgathered).fill(T::ZERO);
                let ([onto], [dnormed, normed, inverse]) =
                    self.memory.split([dgathered], [dembedded, embedded, inverse]);
                norm::backward_add(dnormed, normed, inverse, smear.width, onto);
                self.scatter_add(dgathered, smear.width, dtable);
            }
            _ => self.optimize(op),
        }
    }

    fn product(&mut self, a: Matrix, b: Matrix, out: Region, mode: WriteMode, compute_dtype: ComputeDtype) {
        let mode = match mode {
            WriteMode::Overwrite => gemm::WriteMode::Overwrite,
            WriteMode::Accumulate => gemm::WriteMode::Accumulate,
        };
        let ([out], operands) = self.memory.split([out], [a.region, b.region]);
        let matrix = |elements, matrix: Matrix| {
            let view = gemm::Matrix::strided(elements, matrix.rows, matrix.columns, matrix.stride);
            if matrix.transposed { view.transposed() } else { view }
        };
        multiply(out, matrix(operands[0], a), matrix(operands[1], b), mode, Threads::Pool, compute_dtype);
    }

    fn head(
        &mut self,
        [x, weight]: [Region; 2],
        [width, vocab]: [usize; 2],
        [losses, logits]: [Region; 2],
        gradients: Option<HeadGradients>,
    ) {
        let (targets, compute_dtype, factor) = (&self.targets, self.compute_dtype, self.factor);
        match gradients {
            Some(HeadGradients { dx, dweight }) => {
                let ([losses, logits, dx, dweight], [x, weight]) =
                    self.memory.split([losses, logits, dx, dweight], [x, weight]);
                let head = head::Head { x, weight, targets, width, vocab, compute_dtype };
                head::cross_entropy(head, Some(head::HeadGradients { factor, dx, dweight }), losses, logits);
            }
            None => {
                let ([losses, logits], [x, weight]) = self.memory.split([losses, logits], [x, weight]);
                let head = head::Head { x, weight, targets, width, vocab, compute_dtype };
                head::cross_entropy(head, None, losses, logits);
            }
        }
    }

    /// In f64, and rounded once.
    fn mean_loss(&mut self, losses: Region, means: Region) {
        let counted = self.targets.iter().filter(|target| **target >= 0).count();
        let mean = self.memory.read(losses).iter().map(|loss| loss.wide()).sum::<f64>() / counted as f64;
        if let Some(element) = self.memory.write(means).get_mut(self.number) {
            *element = T::of(mean);
        }
    }
}

fn of_heads(heads: Heads) -> rotary::Heads {
    let Heads { length, count, size } = heads;
    rotary::Heads { length, count, size }
}

impl<T: Element> Ops for Cpu<T> {
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
