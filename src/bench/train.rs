//! A plan's first steps, timed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use super::limits::{self, median};
use super::phases::{self, PhaseClock, Seconds};
use super::{BenchError, Subject};
use crate::hardware::process_age_seconds;
use crate::run::{open_device, without_interruptions};
use nanochat_artifacts::{Bench, BenchEvaluation, BenchFigure, Better, Measured, loss_trace_sha256};
use nanochat_engine::device::memory;
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::model::Part;
use nanochat_engine::train::{Event, Inputs, NoCheckpoints, Phase, TrainError, Trainer};
use nanochat_plan::RunPlan;

/// How training is measured.
#[derive(Debug, Clone, Copy)]
pub struct TrainOptions {
    /// Optimizer steps.
    pub steps: u64,
    /// How many of the first don't count: buffers are made, caches fill.
    pub warmup: u64,
    /// Evaluate after the steps.
    pub evaluate: bool,
}

/// How far a benchmark is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Seconds of the last one.
    pub seconds: f64,
    /// Its loss.
    pub loss: f64,
}

/// Counts from the start of the process, or from its own where the system doesn't report that, and splits the time up to
/// the first step into parts.
struct Startup {
    age: f64,
    at: Instant,
    parts: BTreeMap<String, f64>,
}

impl Startup {
    fn new() -> Self {
        Self { at: Instant::now(), age: process_age_seconds().unwrap_or(0.0), parts: BTreeMap::new() }
    }

    /// Seconds since the start of the process.
    fn seconds(&self) -> f64 {
        self.age + self.at.elapsed().as_secs_f64()
    }

    /// A part ends `at` so many seconds, and began where the last one ended.
    fn end(&mut self, part: &str, at: f64) {
        let before: f64 = self.parts.values().sum();
        self.parts.insert(part.to_string(), at - before);
    }
}

/// What the steps gave.
#[derive(Default)]
struct Steps {
    first_forward: Option<f64>,
    seconds: Vec<f64>,
    phases: Vec<Seconds>,
    evaluation: Option<BenchEvaluation>,
    evaluation_failed: Option<String>,
}

/// Makes a plan's first steps, and measures them.
///
/// # Errors
/// More steps than the plan has, none beyond the warm-up, or what keeps a run from going on.
pub fn train(
    subject: &mut Subject,
    options: TrainOptions,
    observe: &mut dyn FnMut(Progress),
) -> Result<Bench, BenchError> {
    let TrainOptions { steps, warmup, .. } = options;
    let (plan, resources) = (&subject.plan, &mut subject.resources);
    if steps > plan.num_iterations {
        return Err(BenchError::TooManySteps { planned: plan.num_iterations, asked: steps });
    }
    if steps <= warmup {
        return Err(BenchError::NoSteadySteps { steps, warmup });
    }
    let mut startup = Startup::new();
    startup.end("program", startup.seconds());
    let device = open_device(plan)?;
    let corpus = resources.corpus(&plan.data)?;
    startup.end("data", startup.seconds());
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let tokenizer_sha256 = tokenizer.sha256();
    startup.end("tokenizer", startup.seconds());
    let engine = engines::open(resources.model(plan, &device)?, &Setup::of(plan)).map_err(TrainError::from)?;
    let shortened = without_interruptions(plan);
    let mut trainer =
        Trainer::new(Inputs { plan: &shortened, corpus, tokenizer, engine, device: device.clone(), bundle: None })?;
    startup.end("model", startup.seconds());
    let measured = measure(&mut trainer, options, &startup, plan, observe)?;
    if let Some(first_forward) = measured.first_forward {
        startup.end("first_batch", first_forward);
    }
    let peak_rss_bytes = memory::peak_resident_bytes();

    let evaluation = measured.evaluation;
    let a_step = evaluation.as_ref().map(|one| one.seconds * evaluations(plan) / plan.num_iterations as f64);
    let steady = &measured.seconds[warmup as usize..];
    let tokens_per_second = plan.total_batch_size as f64 / median(steady);
    let history = trainer.history();
    let loss = history.steps.last().map_or(f64::NAN, |row| row.loss);
    let achieved_gflops = plan.flops_per_token as f64 * tokens_per_second / 1e9;
    let figures = figures(achieved_gflops, limits::gemm_gflops(plan.dtype, &device)?, loss);
    Ok(Bench {
        repeats: Some(steps),
        warmup,
        tokens_per_second: Some(tokens_per_second),
        phases: Some(phases::mean(&measured.phases[warmup as usize..], a_step)),
        step_seconds: measured.seconds,
        first_step_after_seconds: measured.first_forward,
        startup: startup.parts,
        peak_rss_bytes,
        peak_device_bytes: history.peak_device_bytes,
        evaluation,
        loss_trace_sha256: Some(loss_trace_sha256(&history.steps)),
        first_batch_sha256: history.first_batch_sha256.clone(),
        tokenizer_sha256: Some(tokenizer_sha256),
        ..subject.document(Measured::Train, figures)
    })
}

/// What training makes of the best rate of matrix products in this compute dtype on this machine, measured after the
/// steps: by this program's own kernels on a processor, by candle's on a GPU.
fn figures(achieved_gflops: f64, gemm_gflops: f64, loss: f64) -> Vec<BenchFigure> {
    vec![
        BenchFigure::new("achieved", "GFLOP/s", Better::Higher, achieved_gflops),
        BenchFigure::new("matrix products reach", "GFLOP/s", Better::Neither, gemm_gflops),
        BenchFigure::new("share of that (MFU)", "", Better::Higher, achieved_gflops / gemm_gflops),
        BenchFigure::new("loss of the last step", "nats", Better::Neither, loss),
    ]
}

/// Trains, and evaluates when asked to.
fn measure(
    trainer: &mut Trainer<'_>,
    options: TrainOptions,
    clock: &Startup,
    plan: &RunPlan,
    observe: &mut dyn FnMut(Progress),
) -> Result<Steps, BenchError> {
    let mut measured = Steps::default();
    let mut phase_clock = PhaseClock::default();
    let done = Cell::new(0);
    let mut watch = |event: Event<'_>| match event {
        Event::Phase(phase) => {
            if phase == Phase::Model(Part::Forward) && measured.first_forward.is_none() {
                measured.first_forward = Some(clock.seconds());
            }
            phase_clock.begin(phase);
        }
        Event::Step(row) => {
            measured.phases.push(phase_clock.take());
            measured.seconds.push(row.seconds);
            done.set(row.step + 1);
            observe(Progress { step: row.step + 1, seconds: row.seconds, loss: row.loss });
        }
        Event::Evaluated(row) => {
            let (tokens, seconds, val_bpb) = (whole_batches(plan), row.eval_seconds, row.val_bpb);
            measured.evaluation = Some(BenchEvaluation { tokens, seconds, val_bpb });
        }
        Event::EvaluationFailed { reason, .. } => measured.evaluation_failed = Some(reason.to_string()),
        Event::Evaluating { .. } | Event::MicroStep(_) | Event::Losses(_) | Event::RolledBack(_) => {}
    };
    trainer.run(&|| done.get() >= options.steps, &mut NoCheckpoints, &mut watch)?;
    if options.evaluate {
        trainer.evaluate_now(&mut watch);
    }
    match measured.evaluation_failed {
        Some(reason) => Err(BenchError::Evaluation { reason }),
        None => Ok(measured),
    }
}

/// Tokens of one evaluation, rounded down to whole batches.
fn whole_batches(plan: &RunPlan) -> u64 {
    let batch = plan.device_batch_size * plan.model.sequence_len as u64;
    plan.eval.tokens / batch.max(1) * batch
}

/// How many evaluations the plan asks for: before the first step and every so many, and at the end.
fn evaluations(plan: &RunPlan) -> f64 {
    let during = if plan.eval.every == 0 { 0 } else { plan.num_iterations.div_ceil(plan.eval.every) };
    (during + 1) as f64
}
