//! A plan's first steps, timed.

use std::cell::Cell;
use std::time::Instant;

use super::BenchError;
use super::limits::{self, median};
use super::phases::{self, PhaseClock, Seconds};
use crate::hardware::process_age_seconds;
use crate::run::{Resources, environment, open_device};
use nanochat_artifacts::{BenchEvaluation, BenchStartup, BenchTrain, loss_trace_sha256};
use nanochat_engine::device::memory;
use nanochat_engine::model::Part;
use nanochat_engine::train::{Event, Inputs, NoCheckpoints, Phase, Trainer};
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
    /// The machine is what the profile says.
    pub hardware_matches: bool,
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

/// Counts from the start of the process, or from its own where the system doesn't tell that.
struct SinceStart {
    age: f64,
    at: Instant,
}

impl SinceStart {
    fn new() -> Self {
        Self { at: Instant::now(), age: process_age_seconds().unwrap_or(0.0) }
    }

    fn seconds(&self) -> f64 {
        self.age + self.at.elapsed().as_secs_f64()
    }
}

/// Parts time: each lap begins where the last one ended.
struct Laps<'a> {
    clock: &'a SinceStart,
    /// Seconds since the start of the process at which the last lap ended.
    last: f64,
}

impl Laps<'_> {
    /// Seconds of the lap that ends now.
    fn next(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.last, self.clock.seconds());
        self.last - before
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
    plan: &RunPlan,
    options: TrainOptions,
    resources: &mut Resources,
    observe: &mut dyn FnMut(Progress),
) -> Result<BenchTrain, BenchError> {
    let TrainOptions { steps, warmup, .. } = options;
    if steps > plan.num_iterations {
        return Err(BenchError::TooManySteps { planned: plan.num_iterations, asked: steps });
    }
    if steps <= warmup {
        return Err(BenchError::NoSteadySteps { steps, warmup });
    }
    let clock = SinceStart::new();
    let mut laps = Laps { clock: &clock, last: 0.0 };
    let program = laps.next();
    let device = open_device(plan)?;
    let corpus = resources.corpus(&plan.data)?;
    let data = laps.next();
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let tokenizer_sha256 = tokenizer.sha256();
    let tokenizer_seconds = laps.next();
    let model = resources.model(plan, &device)?;
    let shortened = without_interruptions(plan);
    let mut trainer =
        Trainer::new(Inputs { plan: &shortened, corpus, tokenizer, model, device: device.clone(), bundle: None })?;
    let model = laps.next();
    let measured = measure(&mut trainer, options, &clock, plan, observe)?;
    let first_step_after_seconds = measured.first_forward.unwrap_or(laps.last);
    let first_batch = first_step_after_seconds - laps.last;
    let startup = BenchStartup { program, data, tokenizer: tokenizer_seconds, model, first_batch };
    let peak_rss_bytes = memory::peak_resident_bytes();

    let evaluation = measured.evaluation;
    let a_step = evaluation.as_ref().map(|one| one.seconds * evaluations(plan) / plan.num_iterations as f64);
    let steady = &measured.seconds[warmup as usize..];
    let tokens_per_second = plan.total_batch_size as f64 / median(steady);
    let achieved_gflops = plan.flops_per_token as f64 * tokens_per_second / 1e9;
    let gemm_gflops = limits::gemm_gflops(plan.dtype, &device)?;
    let rows = &trainer.history().steps;
    Ok(BenchTrain {
        schema: "nanochat.bench_train/v1".to_string(),
        experiment: plan.experiment.clone(),
        run_id: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        model: plan.model.clone(),
        parameters: plan.parameters.total,
        dtype: plan.dtype,
        device_batch_size: plan.device_batch_size,
        grad_accum_steps: plan.grad_accum_steps,
        total_batch_size: plan.total_batch_size,
        steps,
        warmup_steps: warmup,
        tokens_per_second,
        phases: phases::mean(&measured.phases[warmup as usize..], a_step),
        step_seconds: measured.seconds,
        first_step_after_seconds,
        startup,
        peak_rss_bytes,
        peak_device_bytes: trainer.history().peak_device_bytes,
        evaluation,
        flops_per_token: plan.flops_per_token,
        achieved_gflops,
        gemm_gflops,
        mfu: achieved_gflops / gemm_gflops,
        train_loss: rows.last().map_or(f64::NAN, |row| row.loss),
        loss_trace_sha256: loss_trace_sha256(rows),
        first_batch_sha256: trainer.history().first_batch_sha256.clone(),
        tokenizer_sha256,
        environment: environment(plan, options.hardware_matches),
    })
}

/// The plan with nothing between its steps.
fn without_interruptions(plan: &RunPlan) -> RunPlan {
    let mut plan = plan.clone();
    plan.eval.every = 0;
    plan.eval.core = None;
    plan.checkpoint.every = 0;
    plan.wall_clock_seconds = None;
    plan
}

/// Trains, and evaluates when asked to.
fn measure(
    trainer: &mut Trainer<'_>,
    options: TrainOptions,
    clock: &SinceStart,
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
        Event::MicroStep { .. } | Event::RolledBack(_) => {}
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
