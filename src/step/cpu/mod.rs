//! Operations by the processor's kernels, over one allocation.

mod memory;
mod optimizer;

use nanochat_kernels::gemm::{self, ComputeDtype, Threads, multiply};
use nanochat_kernels::{
    Element, Scratch, attention, embedding, head, norm, residual, rotary, smear, squared_relu, value,
};

use super::ops::{
    Arena, Attention, Batch, Coefficients, HeadGradients, Heads, Matrix, Op, Ops, Region, ValueMix, WriteMode,
};
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
            Op::Gather { table, width, out } => {
                let ([out], [table]) = self.memory.split([out], [table]);
                embedding::gather(table, bytemuck::cast_slice(&self.ids), width, out);
            }
            Op::Norm { x, width, normed, inverse } => {
                let ([normed, inverse], [x]) = self.memory.split([normed, inverse], [x]);
                norm::forward(x, width, normed, inverse);
            }
            Op::Smear { embedded, gate, lambda, length, width, out, sigma } => {
                let lambda = self.scalar(lambda);
                let ([out, sigma], [embedded, gate]) = self.memory.split([out, sigma], [embedded, gate]);
                smear::forward(embedded, smear::Smear { length, width, gate, lambda }, out, sigma);
            }
            Op::Mix { x, x0, lambdas, width, mixed, normed, inverse } => {
                let lambdas = lambdas.map(|lambda| self.scalar(lambda));
                let ([mixed, normed, inverse], [x, x0]) = self.memory.split([mixed, normed, inverse], [x, x0]);
                residual::mix(x, x0, lambdas, width, mixed, normed, inverse);
            }
            Op::Product { a, b, out, mode, full } => self.product(a, b, out, mode, full),
            Op::Rotary { x, angles: [cos, sin], heads, out, inverse } => {
                let ([out, inverse], [x, cos, sin]) = self.memory.split([out, inverse], [x, cos, sin]);
                rotary::forward(x, rotary::Angles { cos, sin }, of(heads), out, inverse);
            }
            Op::Values { v, heads, out } => {
                let ([out], [v]) = self.memory.split([out], [v]);
                value::forward(v, of(heads), out);
            }
            Op::MixValues { v, mix, heads, out, sigma } => {
                let ValueMix { table, gate, x, width } = mix;
                let ([out, sigma], [v, table, gate, x]) = self.memory.split([out, sigma], [v, table, gate, x]);
                let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width };
                value::forward_mixed(v, mix, of(heads), out, sigma);
            }
            Op::Attend { shape, qkv, out, log_sum } => {
                let shape = self.shape(shape);
                self.attention.reserve(shape.workspace_elements());
                let ([out, log_sum], [q, k, v]) = self.memory.split([out, log_sum], qkv);
                attention::forward(shape, attention::Inputs { q, k, v }, out, log_sum, &self.attention);
            }
            Op::ToTokens { shape, x, out } => {
                let shape = self.shape(shape);
                let ([out], [x]) = self.memory.split([out], [x]);
                attention::to_tokens(x, shape, out);
            }
            Op::SquaredRelu { x, out } => {
                let ([x, out], []) = self.memory.split([x, out], []);
                squared_relu::forward(x, out);
            }
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
            Op::SquaredReluBackward { x, gradient, out } => {
                let ([gradient, out], [x]) = self.memory.split([gradient, out], [x]);
                squared_relu::backward(x, gradient, out);
            }
            Op::AttendPrepare { shape, dattended, attended, dout, delta } => {
                let shape = self.shape(shape);
                let ([dout, delta], [dattended, attended]) = self.memory.split([dout, delta], [dattended, attended]);
                attention::prepare_backward(dattended, attended, shape, dout, delta);
            }
            Op::AttendBackward { shape, qkv: [q, k, v], log_sum, dout, delta, dqkv } => {
                let shape = self.shape(shape);
                let ([dq, dk, dv], [q, k, v, lse, dout, delta]) =
                    self.memory.split(dqkv, [q, k, v, log_sum, dout, delta]);
                let (inputs, saved) = (attention::Inputs { q, k, v }, attention::Saved { lse, dout, delta });
                attention::backward(shape, inputs, saved, attention::Outputs { dq, dk, dv }, &self.attention);
            }
            Op::RotaryBackward { dy, y, inverse, angles: [cos, sin], heads, dx } => {
                let ([dx], [dy, y, inverse, cos, sin]) = self.memory.split([dx], [dy, y, inverse, cos, sin]);
                rotary::backward(dy, y, inverse, rotary::Angles { cos, sin }, of(heads), dx);
            }
            Op::ValuesBackward { dy, heads, dv } => {
                let ([dv], [dy]) = self.memory.split([dv], [dy]);
                value::backward(dy, of(heads), dv);
            }
            Op::MixValuesBackward { dy, mix, sigma, heads, drows, dgates, dx } => {
                let ValueMix { table, gate, x, width } = mix;
                let ([drows, dgates, dx], [dy, table, gate, x, sigma]) =
                    self.memory.split([drows, dgates, dx], [dy, table, gate, x, sigma]);
                let mix = value::Mix { ids: bytemuck::cast_slice(&self.ids), table, gate, x, width };
                value::backward_mixed(dy, mix, sigma, of(heads), drows, dgates, dx);
            }
            Op::MixBackward { dnormed, normed, inverse, x, x0, lambdas, width, dstream, dx0, dlambdas } => {
                let lambdas = lambdas.map(|lambda| self.scalar(lambda));
                let ([dstream, dx0], [dnormed, normed, inverse, x, x0]) =
                    self.memory.split([dstream, dx0], [dnormed, normed, inverse, x, x0]);
                let at = residual::Mixed { dnormed, normed, inverse, x, x0, lambdas };
                let slopes = residual::mix_backward(at, width, dstream, dx0);
                dlambdas.into_iter().zip(slopes).for_each(|(dlambda, slope)| self.gain(dlambda, slope));
            }
            Op::SmearBackward {
                dx,
                embedded,
                sigma,
                gate,
                lambda,
                length,
                width,
                dembedded,
                dgate,
                dlambda,
                slopes,
            } => {
                let lambda = self.scalar(lambda);
                let ([dembedded, dgate, slopes], [dx, embedded, sigma, gate]) =
                    self.memory.split([dembedded, dgate, slopes], [dx, embedded, sigma, gate]);
                let smear = smear::Smear { length, width, gate, lambda };
                let slope = smear::backward(dx, embedded, smear, sigma, dembedded, dgate, slopes);
                self.gain(dlambda, slope);
            }
            Op::ScatterAdd { rows, width, table } => {
                let ([table], [rows]) = self.memory.split([table], [rows]);
                embedding::scatter_add(rows, bytemuck::cast_slice(&self.ids), width, table);
            }
            _ => self.optimize(op),
        }
    }

    fn product(&mut self, a: Matrix, b: Matrix, out: Region, mode: WriteMode, full: bool) {
        let compute_dtype = if full { ComputeDtype::Full } else { self.compute_dtype };
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

    fn shape(&self, shape: Attention) -> attention::Shape {
        let Attention { rows, length, heads, groups, size, window } = shape;
        attention::Shape { rows, length, heads, groups, size, window, compute_dtype: self.compute_dtype }
    }
}

fn of(heads: Heads) -> rotary::Heads {
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
