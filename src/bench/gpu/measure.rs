//! Kernels, products and attention on the GPU, each with its share of what the GPU can do.

use std::collections::BTreeMap;

use super::super::limits::median;
use super::super::{BenchError, Subject};
use super::timed::{self, Timed, Work};
use super::work::{self, MICRO_STEPS};
use super::{GpuOptions, check};
use nanochat_artifacts::{Bench, BenchFigure, BenchRate, Better, Measured};
use nanochat_cuda::Cuda;
use nanochat_gpu::{Address, Device, DeviceError, Dtype, GpuOps, Operand, Output, Product};
use nanochat_plan::activations::{BatchSize, Chunks, Pass};
use nanochat_plan::{DeviceKind, RunPlan};
use nanochat_step::{Network, StepSettings};

/// What is compared with its emulation: long enough for a window of 128, wide enough for heads of 128, small enough to emulate
/// every thread.
const CHECKED: (BatchSize, usize) = (BatchSize { rows: 1, length: 256 }, 256);
/// As near as orders of summation leave what is rounded to bf16. A wrong kernel's results are as far apart as they are large.
const LARGEST: f64 = 0.02;
/// Bytes that are copied, and the side of the square matrices that are multiplied, to find the GPU's limits.
const COPIED: usize = 1 << 30;
const SIDE: usize = 8192;
/// What the optimizer is run at; its time doesn't depend on it.
const AT: StepSettings = StepSettings { lr_multiplier: 1e-3, muon_momentum: 0.95, muon_weight_decay: 0.1 };

/// See [`super::gpu`].
pub(super) fn measure_gpu(
    subject: &Subject,
    options: GpuOptions,
    observe: &mut dyn FnMut(&BenchFigure),
) -> Result<Bench, BenchError> {
    let plan = &subject.plan;
    if plan.device != DeviceKind::Cuda || plan.dtype != nanochat_plan::Precision::Bf16 {
        return Err(BenchError::GpuPlan { profile: plan.hardware.clone() });
    }
    let mut report = Report { observe, figures: Vec::new(), limits: Limits::default() };
    let distances = check::distances(Cuda::open(0, true)?, CHECKED.0, CHECKED.1)?;
    for (command, distance) in &distances {
        report.plain(&format!("difference from the emulation: {command}"), "", *distance);
    }
    let wrong: Vec<&str> = distances
        .iter()
        .filter(|(_, distance)| distance.is_nan() || **distance > LARGEST)
        .map(|(name, _)| &**name)
        .collect();
    if !wrong.is_empty() {
        return Err(BenchError::GpuDiffers { commands: wrong.join("; ") });
    }
    report.limits = limits(Cuda::open(0, true)?, options.repeats)?;
    let Limits { copy, products } = report.limits;
    report.plain("copies reach", "GB/s", copy / 1e9);
    report.plain("matrix products reach", "GFLOP/s", products / 1e9);
    measure(plan, options, &mut report)?;
    Ok(subject.document(Measured::Kernels, report.figures))
}

/// Bytes and floating-point operations a second that the GPU reaches at its best.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    copy: f64,
    products: f64,
}

/// Takes figures down as they come.
struct Report<'a> {
    observe: &'a mut dyn FnMut(&BenchFigure),
    figures: Vec<BenchFigure>,
    limits: Limits,
}

impl Report<'_> {
    fn take(&mut self, figure: BenchFigure) {
        (self.observe)(&figure);
        self.figures.push(figure);
    }

    fn plain(&mut self, name: &str, unit: &str, value: f64) {
        self.take(BenchFigure::new(name, unit, Better::Neither, value));
    }

    fn seconds(&mut self, name: impl Into<String>, seconds: f64, work: Work) {
        let mut figure = BenchFigure::new(name, "s", Better::Lower, seconds);
        figure.rates = match work {
            Work::Flops(flops) => vec![BenchRate::new(flops / seconds / 1e9, "GFLOP/s", self.limits.products / 1e9)],
            Work::Bytes(bytes) => vec![BenchRate::new(bytes / seconds / 1e9, "GB/s", self.limits.copy / 1e9)],
            Work::Little => Vec::new(),
        };
        self.take(figure);
    }
}

fn limits(mut cuda: Cuda, repeats: usize) -> Result<Limits, DeviceError> {
    let [from, to] = [cuda.allocate(COPIED)?, cuda.allocate(COPIED)?];
    let copied = time(&mut cuda, repeats, |cuda| cuda.copy(from, to, COPIED))?;
    let square = |at: Address| Operand { at, rows: SIDE, columns: SIDE, transposed: false };
    let out = Output { at: cuda.allocate(2 * SIDE * SIDE)?, dtype: Dtype::Bf16 };
    let (a, b) = (square(from), square(to));
    let product = Product { dtype: Dtype::Bf16, a, b, c: out.at, out, count: 1, alpha: 1.0, beta: 0.0 };
    let multiplied = time(&mut cuda, repeats, |cuda| cuda.product(&product))?;
    Ok(Limits { copy: 2.0 * COPIED as f64 / copied, products: 2.0 * (SIDE as f64).powi(3) / multiplied })
}

/// The median time of a command, after once that doesn't count.
fn time(
    cuda: &mut Cuda,
    repeats: usize,
    mut command: impl FnMut(&mut Cuda) -> Result<(), DeviceError>,
) -> Result<f64, DeviceError> {
    command(cuda)?;
    cuda.mark()?;
    for _ in 0..repeats.max(1) {
        command(cuda)?;
        cuda.mark()?;
    }
    Ok(median(&cuda.seconds_between_marks()?))
}

fn measure(plan: &RunPlan, options: GpuOptions, report: &mut Report<'_>) -> Result<(), DeviceError> {
    let size = BatchSize { rows: plan.device_batch_size as usize, length: plan.model.sequence_len };
    let network = Network::with_chunks(&plan.model, size, Pass::Training, MICRO_STEPS, Chunks::GPU);
    let cuda = Timed::new(Cuda::open(0, true)?);
    let mut ops = GpuOps::new(cuda, &network, MICRO_STEPS, Dtype::Bf16)?;
    work::load(&network, &mut ops)?;
    let optimizer = work::optimizer(&network);
    let micro_step = |ops: &mut GpuOps<Timed>| work::micro_step(&network, ops, 0);
    let step = |ops: &mut GpuOps<Timed>| optimizer.step(ops, &AT, 1);

    network.zero_gradients(&mut ops);
    let first = watch(&mut ops, options.repeats, &micro_step)?;
    let second = watch(&mut ops, options.repeats, &step)?;
    let products: Vec<Product> = first.iter().chain(&second).filter_map(|total| total.product).collect();
    commands("micro-step", first, report);
    commands("optimizer", second, report);

    // Recorded: everything but the copies, which come before.
    let (ids, targets) = work::ids(&network, 0);
    let batch = nanochat_step::Batch { ids: &ids, targets: &targets, number: 0 };
    network.load(&mut ops, batch, 0.5);
    let recorded = ops.record(|ops| {
        network.forward(ops);
        network.head(ops);
        network.backward(ops);
    })?;
    let seconds = time(&mut ops.device_mut().cuda, options.repeats, |cuda| cuda.replay(recorded))?;
    let flops = plan.flops_per_token as f64 * size.tokens() as f64;
    report.seconds("micro-step as a graph", seconds, Work::Flops(flops));
    report.plain("tokens a second of such micro-steps", "tok/s", size.tokens() as f64 / seconds);
    let (free, total) = ops.device().cuda.memory()?;
    report.plain("memory in use on the GPU", "GiB", (total - free) as f64 / (1u64 << 30) as f64);
    if options.algorithms {
        for product in &products {
            algorithms(&mut ops.device_mut().cuda, product, options.repeats, report)?;
        }
    }
    Ok(())
}

/// Commands of one name.
struct Total {
    name: String,
    count: usize,
    seconds: f64,
    work: Work,
    product: Option<Product>,
}

/// Runs work twice so that nothing is new, then watches it: all commands of one name together, in their median times, the longest
/// first.
fn watch(
    ops: &mut GpuOps<Timed>,
    repeats: usize,
    work: &dyn Fn(&mut GpuOps<Timed>),
) -> Result<Vec<Total>, DeviceError> {
    (0..2).for_each(|_| work(ops));
    let mut runs = Vec::new();
    for _ in 0..repeats.max(1) {
        ops.check()?;
        ops.device_mut().watch()?;
        work(ops);
        runs.push(ops.device_mut().noted()?);
    }
    ops.check()?;
    let mut totals: BTreeMap<String, Total> = BTreeMap::new();
    for (place, (noted, _)) in runs[0].iter().enumerate() {
        let seconds: Vec<f64> = runs.iter().filter_map(|run| Some(run.get(place)?.1)).collect();
        let total = totals.entry(noted.name.clone()).or_insert_with(|| Total {
            name: noted.name.clone(),
            count: 0,
            seconds: 0.0,
            work: noted.work,
            product: noted.product,
        });
        total.work = if total.count == 0 { noted.work } else { plus(total.work, noted.work) };
        total.count += 1;
        total.seconds += median(&seconds);
    }
    let mut totals: Vec<Total> = totals.into_values().collect();
    totals.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(totals)
}

fn plus(a: Work, b: Work) -> Work {
    match (a, b) {
        (Work::Flops(a), Work::Flops(b)) => Work::Flops(a + b),
        (Work::Bytes(a), Work::Bytes(b)) => Work::Bytes(a + b),
        _ => Work::Little,
    }
}

/// All commands of a part, and their sum.
fn commands(part: &str, totals: Vec<Total>, report: &mut Report<'_>) {
    let seconds = totals.iter().map(|total| total.seconds).sum();
    report.seconds(format!("{part}, all commands"), seconds, Work::Little);
    for Total { name, count, seconds, work, .. } in totals {
        report.seconds(format!("{part}: {count} × {name}"), seconds, work);
    }
}

/// The time of the algorithm that is taken for a product, and of the best of all that are proposed.
fn algorithms(cuda: &mut Cuda, product: &Product, repeats: usize, report: &mut Report<'_>) -> Result<(), DeviceError> {
    let taken = time(cuda, repeats, |cuda| cuda.product(product))?;
    let mut best = (0, f64::INFINITY);
    for place in 0..cuda.product_algorithms(product)? {
        // One that the library proposes and can't do is left out.
        if let Ok(seconds) = time(cuda, repeats, |cuda| cuda.product_by(product, place))
            && seconds < best.1
        {
            best = (place, seconds);
        }
    }
    let mut figure = BenchFigure::new(
        format!("{}, algorithm {} is the best", timed::product_name(product), best.0),
        "s",
        Better::Lower,
        taken,
    );
    figure.reference = Some(best.1);
    report.take(figure);
    Ok(())
}
