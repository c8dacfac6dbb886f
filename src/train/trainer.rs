//! The loop.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};

use crate::artifacts::{EvalRow, StepRow, training_seconds};
use crate::data::{Batch, Corpus, Loader, Split};
use crate::evals::core::{self, Bundle, CoreOptions};
use crate::hardware::memory;
use crate::model::{Gpt, Gradients, Part};
use crate::optim::{LearningRates, MuonAdamW, Schedule, StepSettings};
use crate::plan::{CorePlan, RunPlan};
use crate::tokenizer::Tokenizer;

use super::TrainError;
use super::clock::Clock;
use super::evaluator::Evaluator;
use super::state::{History, Snapshot, TrainState};

/// What a run starts from.
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a RunPlan,
    /// Opened data.
    pub corpus: Arc<Corpus>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Model with starting weights.
    pub model: Gpt,
    /// Where tensors live.
    pub device: Device,
}

/// What happens, as it happens.
pub enum Event<'a> {
    /// A phase of a step begins, and so the one before it ends.
    Phase(Phase),
    /// One micro-batch went forward and backward.
    MicroStep {
        /// The batch.
        batch: &'a Batch,
        /// Its mean loss, nats per token.
        loss: f32,
    },
    /// One optimizer step is done.
    Step(&'a StepRow),
    /// An evaluation is done.
    Evaluated(&'a EvalRow),
    /// An evaluation failed; training goes on.
    EvaluationFailed {
        /// Steps done.
        step: u64,
        /// Why.
        reason: &'a str,
    },
}

/// What a step spends its time on. On a GPU work is only queued: its time shows where a phase waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a batch, and handing it to the device.
    Data,
    /// A part of the model's pass.
    Model(Part),
    /// Clearing gradients, and the optimizer's step.
    Optimizer,
}

/// How a sitting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All iterations are done.
    Finished,
    /// A signal asked to stop.
    Stopped,
    /// The plan's wall clock ran out.
    OutOfTime,
}

/// One run in progress.
pub struct Trainer<'a> {
    plan: &'a RunPlan,
    model: Gpt,
    optimizer: MuonAdamW,
    schedule: Schedule,
    loader: Loader,
    evaluator: Evaluator,
    tokenizer: Arc<Tokenizer>,
    gradients: Gradients,
    history: History,
    clock: Clock,
    step: u64,
    device: Device,
}

/// Saves a snapshot; given by the caller, who knows where checkpoints go.
pub type Save<'s> = dyn FnMut(Snapshot) -> Result<(), TrainError> + 's;

impl<'a> Trainer<'a> {
    /// Sets a run up at step 0.
    pub fn new(inputs: Inputs<'a>) -> Result<Self, TrainError> {
        let Inputs { plan, corpus, tokenizer, mut model, device } = inputs;
        model.set_precision(plan.dtype);
        let (batch_size, sequence_len) = (plan.device_batch_size as usize, plan.model.sequence_len);
        let loader = Loader::new(corpus.clone(), tokenizer.clone(), Split::Train, batch_size, sequence_len)?;
        let evaluator = Evaluator::new(plan, corpus, tokenizer.clone())?;
        let optimizer = MuonAdamW::new(&model, &learning_rates(plan))?;
        let gradients = Gradients::zeros(model.parameters())?;
        Ok(Self {
            optimizer,
            schedule: schedule(plan),
            loader,
            evaluator,
            tokenizer,
            gradients,
            history: History::default(),
            clock: Clock::start(0.0),
            step: 0,
            plan,
            model,
            device,
        })
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Rows so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The model as it stands.
    pub fn model(&self) -> &Gpt {
        &self.model
    }

    /// Everything that the rest of the run depends on.
    pub fn snapshot(&mut self) -> Result<Snapshot, TrainError> {
        self.note_resources();
        let state = TrainState {
            plan_hash: self.plan.plan_hash.clone(),
            loader: self.loader.state(),
            history: self.history.clone(),
        };
        let state = serde_json::to_value(state).map_err(|error| TrainError::State { reason: error.to_string() })?;
        let model = self.model.parameters().iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let tensors = [("model".to_string(), model), ("optimizer".to_string(), self.optimizer.state()?)].into();
        Ok(Snapshot { step: self.step, tensors, state })
    }

    /// Continues from a snapshot of the same plan.
    pub fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), TrainError> {
        let state: TrainState = serde_json::from_value(snapshot.state)
            .map_err(|error| TrainError::State { reason: format!("its state is malformed: {error}") })?;
        if state.plan_hash != self.plan.plan_hash {
            let reason = format!("it belongs to plan {}, this is plan {}", state.plan_hash, self.plan.plan_hash);
            return Err(TrainError::State { reason });
        }
        let mut group = |name: &str| {
            let missing = || TrainError::State { reason: format!("it has no tensors of the {name}") };
            snapshot.tensors.remove(name).ok_or_else(missing)
        };
        let model = group("model")?.into_iter().collect();
        self.model = Gpt::from_tensors(&self.plan.model, &model, &self.device)?;
        self.model.set_precision(self.plan.dtype);
        self.optimizer.load_state(&group("optimizer")?)?;
        self.loader.restore(state.loader)?;
        self.clock = Clock::start(state.history.elapsed_seconds);
        self.history = state.history;
        self.step = snapshot.step;
        Ok(())
    }

    /// Trains to the end of the plan, or until `stop` says so. Saves at the plan's steps, at the end, and when stopped;
    /// always before evaluating.
    pub fn run(
        &mut self,
        stop: &dyn Fn() -> bool,
        save: &mut Save<'_>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Ending, TrainError> {
        let resumed_at = self.step;
        let mut saved_at = (self.step > 0).then_some(self.step);
        loop {
            let last = self.step == self.plan.num_iterations;
            if last || (self.step != resumed_at && due(self.step, self.plan.checkpoint.every)) {
                self.save_once(&mut saved_at, save)?;
            }
            self.evaluate_if_due(last, observe);
            if last {
                self.note_resources();
                return Ok(Ending::Finished);
            }
            if let Some(ending) = self.reason_to_stop(stop) {
                self.save_once(&mut saved_at, save)?;
                return Ok(ending);
            }
            self.train_step(observe)?;
        }
    }

    fn save_once(&mut self, saved_at: &mut Option<u64>, save: &mut Save<'_>) -> Result<(), TrainError> {
        if *saved_at != Some(self.step) {
            save(self.snapshot()?)?;
            *saved_at = Some(self.step);
        }
        Ok(())
    }

    fn reason_to_stop(&self, stop: &dyn Fn() -> bool) -> Option<Ending> {
        let cap = self.plan.wall_clock_seconds;
        if stop() {
            Some(Ending::Stopped)
        } else if cap.is_some_and(|cap| self.clock.elapsed_seconds() >= cap) {
            Some(Ending::OutOfTime)
        } else {
            None
        }
    }

    /// One optimizer step: micro-steps, then the update.
    fn train_step(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let started = Instant::now();
        observe(Event::Phase(Phase::Optimizer));
        self.gradients.reset()?;
        let scale = 1.0 / self.plan.grad_accum_steps as f64;
        let mut loss_sum = 0.0;
        for _ in 0..self.plan.grad_accum_steps {
            observe(Event::Phase(Phase::Data));
            let batch = self.loader.next_batch()?;
            if self.history.first_batch_sha256.is_none() {
                self.history.first_batch_sha256 = Some(batch.sha256());
            }
            let (ids, targets) = tensors(&batch, &self.device)?;
            let part = &mut |part| observe(Event::Phase(Phase::Model(part)));
            let loss = self.model.accumulate_gradients_observed(&ids, &targets, scale, &mut self.gradients, part)?;
            loss_sum += f64::from(loss);
            observe(Event::MicroStep { batch: &batch, loss });
        }
        observe(Event::Phase(Phase::Optimizer));
        let loss = loss_sum * scale;
        self.refuse_divergence(loss)?;
        let settings = self.schedule.at(self.step);
        self.optimizer.step(&mut self.model, &self.gradients, &settings)?;
        let row = self.record_step(loss, &settings, started.elapsed().as_secs_f64());
        observe(Event::Step(&row));
        Ok(())
    }

    fn refuse_divergence(&self, loss: f64) -> Result<(), TrainError> {
        if loss.is_finite() {
            return Ok(());
        }
        let not_finite = |tensor: &Tensor| {
            let sum = tensor.abs().and_then(|values| values.sum_all()).and_then(|sum| sum.to_scalar::<f32>());
            sum.is_ok_and(|sum| !sum.is_finite())
        };
        let weights = self.model.parameters().iter().find(|(_, tensor)| not_finite(tensor));
        let culprit = weights.or_else(|| self.gradients.tensors().iter().find(|(_, tensor)| not_finite(tensor)));
        Err(TrainError::Diverged { step: self.step, loss, tensor: culprit.map(|(name, _)| name.clone()) })
    }

    fn record_step(&mut self, loss: f64, settings: &StepSettings, seconds: f64) -> StepRow {
        let row = StepRow {
            step: self.step,
            tokens: (self.step + 1) * self.plan.total_batch_size,
            loss,
            lr_multiplier: settings.lr_multiplier,
            muon_momentum: settings.muon_momentum,
            muon_weight_decay: settings.muon_weight_decay,
            seconds,
            rss_bytes: memory::resident_bytes(),
        };
        self.history.steps.push(row.clone());
        self.step += 1;
        row
    }

    /// Evaluates as at the end of the plan, unless that was done at this step.
    pub fn evaluate_now(&mut self, observe: &mut dyn FnMut(Event<'_>)) {
        self.evaluate_if_due(true, observe);
    }

    /// Evaluates when the plan says so and it wasn't done at this step. A failure is recorded, and training goes on.
    fn evaluate_if_due(&mut self, last: bool, observe: &mut dyn FnMut(Event<'_>)) {
        let every = self.plan.eval.every;
        let bpb_due = last || (every > 0 && self.step.is_multiple_of(every));
        let core_due = self.plan.eval.core.as_ref().filter(|core| last || due(self.step, core.every)).cloned();
        if (!bpb_due && core_due.is_none()) || self.history.evaluated(self.step) {
            return;
        }
        match self.evaluate(bpb_due, core_due.as_ref()) {
            Ok(row) => {
                observe(Event::Evaluated(&row));
                self.history.evals.push(row);
            }
            Err(error) => {
                let reason = error.to_string();
                observe(Event::EvaluationFailed { step: self.step, reason: &reason });
                self.history.failed_evals.push((self.step, reason));
            }
        }
    }

    fn evaluate(&mut self, bpb: bool, core_plan: Option<&CorePlan>) -> Result<EvalRow, TrainError> {
        let started = Instant::now();
        let val_bpb = if bpb { Some(self.evaluator.evaluate(&self.model)?) } else { None };
        let core_metric = match core_plan {
            Some(plan) => {
                let most = (plan.max_per_task > 0).then_some(plan.max_per_task as usize);
                let bundle = Bundle::open(Path::new(&plan.bundle), most)?;
                let result =
                    core::evaluate(&self.model, &self.tokenizer, &bundle, &CoreOptions::default(), &mut |_| {})?;
                Some(result.core_metric)
            }
            None => None,
        };
        Ok(EvalRow {
            step: self.step,
            tokens: self.step * self.plan.total_batch_size,
            val_bpb,
            core_metric,
            training_seconds: training_seconds(&self.history.steps),
            eval_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Brings elapsed time and peak memory in the history up to date.
    pub fn note_resources(&mut self) {
        self.history.elapsed_seconds = self.clock.elapsed_seconds();
        self.history.peak_rss_bytes = self.history.peak_rss_bytes.max(memory::peak_resident_bytes());
    }
}

/// Whether something that happens every `every` steps happens after `step` steps; never before the first, never for 0.
fn due(step: u64, every: u64) -> bool {
    step > 0 && every > 0 && step.is_multiple_of(every)
}

fn learning_rates(plan: &RunPlan) -> LearningRates {
    let (base, scale) = (&plan.optimizer, plan.lr_scale);
    LearningRates {
        embedding: base.embedding_lr * scale,
        unembedding: base.unembedding_lr * scale,
        matrix: base.matrix_lr * scale,
        scalar: base.scalar_lr * scale,
    }
}

fn schedule(plan: &RunPlan) -> Schedule {
    Schedule {
        num_iterations: plan.num_iterations,
        warmup_steps: plan.optimizer.warmup_steps,
        warmdown_ratio: plan.optimizer.warmdown_ratio,
        final_lr_frac: plan.optimizer.final_lr_frac,
        weight_decay: plan.weight_decay,
    }
}

/// Token ids (u32) and targets (i64), both (B, T).
fn tensors(batch: &Batch, device: &Device) -> Result<(Tensor, Tensor), candle_core::Error> {
    let shape = (batch.batch_size, batch.sequence_len);
    let ids = Tensor::from_slice(&batch.inputs, shape, device)?;
    let targets: Vec<i64> = batch.targets.iter().map(|&target| i64::from(target)).collect();
    Ok((ids, Tensor::from_vec(targets, shape, device)?))
}
