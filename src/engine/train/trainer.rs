//! The loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};

use crate::data::{Batch, Corpus, DataError, Loader, Split};
use crate::device::memory;
use crate::engines::{Engine, Group};
use crate::evals::core::{self, Bundle, CoreOptions};
use crate::model::{Gpt, Part};
use crate::optim::{Schedule, StepSettings};
use crate::tokenizer::Tokenizer;
use nanochat_artifacts::{EvalRow, Rollback, StepRow, training_seconds};
use nanochat_plan::{OnDivergence, RunPlan};

use super::TrainError;
use super::clock::Clock;
use super::divergence;
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
    /// What trains, with starting weights.
    pub engine: Box<dyn Engine>,
    /// Where it works.
    pub device: Device,
    /// The tasks of the CORE metric, where the plan asks for it.
    pub bundle: Option<Bundle>,
}

/// What happens, as it happens.
pub enum Event<'a> {
    /// A phase of a step begins, and so the one before it ends.
    Phase(Phase),
    /// One micro-batch went forward and backward, or is on its way.
    MicroStep(&'a Batch),
    /// The mean losses of a step's micro-batches are known, in nats per token.
    Losses(&'a [f32]),
    /// One optimizer step is done.
    Step(&'a StepRow),
    /// An evaluation begins.
    Evaluating {
        /// Steps done.
        step: u64,
    },
    /// An evaluation is done.
    Evaluated(&'a EvalRow),
    /// An evaluation failed; training goes on.
    EvaluationFailed {
        /// Steps done.
        step: u64,
        /// Why.
        reason: &'a str,
    },
    /// Training diverged and went back to a checkpoint.
    RolledBack(&'a Rollback),
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

/// How a session ended.
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
    engine: Box<dyn Engine>,
    schedule: Schedule,
    loader: Loader,
    evaluator: Evaluator,
    tokenizer: Arc<Tokenizer>,
    bundle: Option<Bundle>,
    history: History,
    clock: Clock,
    /// Seconds that earlier starts of the program spent on the run.
    earlier_seconds: f64,
    step: u64,
    device: Device,
}

/// Keeps snapshots: the caller, who knows where checkpoints go.
pub trait CheckpointSink {
    /// Keeps one. `scheduled` tells those at the plan's own steps from those at a stop; the newest scheduled one must stay
    /// loadable where the plan rolls back.
    fn save(&mut self, snapshot: &Snapshot<'_>, scheduled: bool) -> Result<(), TrainError>;

    /// Gives back the scheduled one of a step.
    fn load(&mut self, step: u64) -> Result<Snapshot<'static>, TrainError>;
}

/// Keeps nothing: for measurements.
#[derive(Debug, Clone, Copy)]
pub struct NoCheckpoints;

impl CheckpointSink for NoCheckpoints {
    fn save(&mut self, _: &Snapshot<'_>, _: bool) -> Result<(), TrainError> {
        Ok(())
    }

    fn load(&mut self, _: u64) -> Result<Snapshot<'static>, TrainError> {
        Err(TrainError::State { reason: "nothing was kept".into() })
    }
}

impl<'a> Trainer<'a> {
    /// Sets a run up at step 0.
    pub fn new(inputs: Inputs<'a>) -> Result<Self, TrainError> {
        let Inputs { plan, corpus, tokenizer, engine, device, bundle } = inputs;
        let (batch_size, sequence_len) = (plan.device_batch_size as usize, plan.model.sequence_len);
        let loader = Loader::new(corpus.clone(), tokenizer.clone(), Split::Train, batch_size, sequence_len)?;
        let evaluator = Evaluator::new(plan, corpus, tokenizer.clone())?;
        Ok(Self {
            engine,
            schedule: Schedule::of(plan),
            loader,
            evaluator,
            tokenizer,
            bundle,
            history: History::default(),
            clock: Clock::start(0.0),
            earlier_seconds: 0.0,
            step: 0,
            plan,
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

    /// The weights as they stand, by name.
    pub fn weights(&self) -> Result<Group<'_>, TrainError> {
        Ok(self.engine.weights()?)
    }

    /// Everything that the rest of the run depends on.
    pub fn snapshot(&mut self) -> Result<Snapshot<'_>, TrainError> {
        self.note_resources();
        let state = TrainState {
            plan_hash: self.plan.plan_hash.clone(),
            loader: self.loader.state(),
            history: self.history.clone(),
        };
        let state = serde_json::to_value(state).map_err(|error| TrainError::State { reason: error.to_string() })?;
        let (model, optimizer) = (self.engine.weights()?, self.engine.optimizer_state()?);
        let tensors = [("model".to_string(), model), ("optimizer".to_string(), optimizer)].into();
        Ok(Snapshot { step: self.step, tensors, state })
    }

    /// Continues from a snapshot of the same plan.
    pub fn restore(&mut self, mut snapshot: Snapshot<'_>) -> Result<(), TrainError> {
        let state: TrainState = serde_json::from_value(snapshot.state)
            .map_err(|error| TrainError::State { reason: format!("its state is malformed: {error}") })?;
        if state.plan_hash != self.plan.plan_hash {
            let reason = format!("it belongs to plan {}, this is plan {}", state.plan_hash, self.plan.plan_hash);
            return Err(TrainError::State { reason });
        }
        let mut group = |name: &str| {
            let missing = || TrainError::State { reason: format!("it has no tensors of the {name}") };
            let group = snapshot.tensors.remove(name).ok_or_else(missing)?;
            let tensors = group.into_iter().map(|(name, stored)| Ok((name, stored.to_tensor()?)));
            tensors.collect::<Result<BTreeMap<String, Tensor>, TrainError>>()
        };
        let model = group("model")?.into_iter().collect();
        self.engine.load_weights(Gpt::from_tensors(&self.plan.model, &model, &self.device)?)?;
        drop(model);
        self.engine.load_optimizer_state(&group("optimizer")?)?;
        self.loader.restore(state.loader)?;
        self.clock = Clock::start(state.history.elapsed_seconds);
        self.earlier_seconds = state.history.elapsed_seconds;
        self.history = state.history;
        self.step = snapshot.step;
        Ok(())
    }

    /// Takes over what another program has trained: its weights are the model's already, `optimizer` is its state by this
    /// program's names, and the batches of its `step` steps are passed over.
    pub fn adopt(&mut self, step: u64, optimizer: &BTreeMap<String, Tensor>) -> Result<(), TrainError> {
        self.engine.load_optimizer_state(optimizer)?;
        if self.engine.steps() != step {
            let reason = format!("its optimizer has taken {} steps, not {step}", self.engine.steps());
            return Err(TrainError::State { reason });
        }
        for _ in 0..step * self.plan.grad_accum_steps {
            let batch = self.loader.next_batch()?;
            self.history.first_batch_sha256.get_or_insert_with(|| batch.sha256());
        }
        self.history.adopted_steps = step;
        self.step = step;
        Ok(())
    }

    /// Has a snapshot kept.
    pub fn save(&mut self, sink: &mut dyn CheckpointSink) -> Result<(), TrainError> {
        self.save_once(&mut None, true, sink)
    }

    /// Trains to the end of the plan, or until `stop` says so. Saves at the plan's steps, at the end, and when stopped;
    /// always before evaluating. Where the plan says so, a divergence leads back to the last scheduled snapshot.
    pub fn run(
        &mut self,
        stop: &dyn Fn() -> bool,
        sink: &mut dyn CheckpointSink,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Ending, TrainError> {
        let resumed_at = self.step;
        let mut saved_at = (self.step > 0).then_some(self.step);
        loop {
            match self.advance(resumed_at, &mut saved_at, stop, sink, observe) {
                Ok(None) => {}
                Ok(Some(ending)) => return Ok(ending),
                Err(TrainError::Diverged { step, what }) if self.rolls_back() => {
                    self.roll_back(step, what, saved_at, sink, observe)?;
                    saved_at = Some(self.step);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is due after the steps so far, then one step; how the session ended if it did.
    fn advance(
        &mut self,
        resumed_at: u64,
        saved_at: &mut Option<u64>,
        stop: &dyn Fn() -> bool,
        sink: &mut dyn CheckpointSink,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Ending>, TrainError> {
        let last = self.step == self.plan.num_iterations;
        let first = self.step == 0 && self.rolls_back();
        let scheduled = first || last || due(self.step, self.plan.checkpoint.every);
        if scheduled && (first || last || self.step != resumed_at) {
            self.save_once(saved_at, true, sink)?;
        }
        if !self.evaluate_if_due(last, stop, observe) {
            self.save_once(saved_at, scheduled, sink)?;
            return Ok(Some(Ending::Stopped));
        }
        if last {
            self.note_resources();
            return Ok(Some(Ending::Finished));
        }
        if let Some(ending) = self.reason_to_stop(self.step > resumed_at, stop) {
            self.save_once(saved_at, scheduled, sink)?;
            return Ok(Some(ending));
        }
        self.loader.mark();
        match self.train_step(stop, observe) {
            // The step is taken anew by whoever goes on.
            Err(error) if error.is_stop() => {
                self.loader.back_to_mark();
                self.save_once(saved_at, scheduled, sink)?;
                Ok(Some(Ending::Stopped))
            }
            taken => taken.map(|()| None),
        }
    }

    fn save_once(
        &mut self,
        saved_at: &mut Option<u64>,
        scheduled: bool,
        sink: &mut dyn CheckpointSink,
    ) -> Result<(), TrainError> {
        if *saved_at != Some(self.step) {
            let snapshot = self.snapshot()?;
            divergence::refuse_broken(&snapshot)?;
            sink.save(&snapshot, scheduled)?;
            *saved_at = Some(self.step);
        }
        Ok(())
    }

    fn rolls_back(&self) -> bool {
        self.plan.on_divergence == OnDivergence::Rollback
    }

    /// Goes back to the last scheduled snapshot, but on with the data that comes next, and keeps that at once: a run that is
    /// killed here or later comes the same way again.
    fn roll_back(
        &mut self,
        from_step: u64,
        what: String,
        saved_at: Option<u64>,
        sink: &mut dyn CheckpointSink,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let last = self.step == self.plan.num_iterations;
        let times = self.history.rollbacks.len();
        if times >= divergence::MOST_ROLLBACKS {
            return Err(TrainError::DivergedAgain { step: from_step, what, times });
        }
        // What was seen on the way to a snapshot kept that one from being made; in a step, its data is gone too.
        let in_step = saved_at == Some(self.step) || !(last || due(self.step, self.plan.checkpoint.every));
        let reached = if in_step { self.step } else { self.step.saturating_sub(1) };
        let to_step = divergence::scheduled_before(reached, self.plan.checkpoint.every);
        let data = self.loader.state();
        self.note_resources();
        let (before, earlier_seconds) = (std::mem::take(&mut self.history), self.earlier_seconds);
        let skipped_steps = self.step + u64::from(in_step) - to_step;
        self.restore(sink.load(to_step)?)?;
        self.loader.restore(data)?;
        self.clock = Clock::start(before.elapsed_seconds);
        self.earlier_seconds = earlier_seconds;
        self.history.peak_rss_bytes = before.peak_rss_bytes;
        self.history.peak_device_bytes = before.peak_device_bytes;
        self.history.first_batch_sha256 = before.first_batch_sha256;
        self.history.rollbacks = before.rollbacks;
        let skipped_tokens = skipped_steps * self.plan.total_batch_size;
        let record = Rollback { from_step, to_step, reason: what, skipped_tokens };
        observe(Event::RolledBack(&record));
        self.history.rollbacks.push(record);
        sink.save(&self.snapshot()?, true)
    }

    /// Why to stop here. However short the time is, every start takes a step.
    fn reason_to_stop(&self, took_a_step: bool, stop: &dyn Fn() -> bool) -> Option<Ending> {
        let cap = self.plan.wall_clock_seconds.filter(|_| took_a_step);
        if stop() {
            Some(Ending::Stopped)
        } else if cap.is_some_and(|cap| self.clock.elapsed_seconds() - self.earlier_seconds >= cap) {
            Some(Ending::OutOfTime)
        } else {
            None
        }
    }

    /// One optimizer step: micro-steps, then the update. Given up between micro-steps when `stop` says so.
    fn train_step(&mut self, stop: &dyn Fn() -> bool, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let started = Instant::now();
        observe(Event::Phase(Phase::Optimizer));
        self.engine.zero_gradients()?;
        for number in 0..self.plan.grad_accum_steps {
            self.micro_step(number as usize, stop, observe)?;
        }
        observe(Event::Phase(Phase::Optimizer));
        let losses = self.engine.mean_losses()?;
        observe(Event::Losses(&losses));
        let loss = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() * self.scale();
        divergence::refuse(loss, self.step, self.engine.as_ref())?;
        let settings = self.schedule.at(self.step);
        self.engine.optimizer_step(&settings)?;
        // A GPU's work is only queued so far; a step's time is that until it is done.
        self.engine.synchronize()?;
        let row = self.record_step(loss, &settings, started.elapsed().as_secs_f64());
        observe(Event::Step(&row));
        Ok(())
    }

    /// Weight of a micro-step's mean loss in that of the step.
    fn scale(&self) -> f64 {
        1.0 / self.plan.grad_accum_steps as f64
    }

    fn micro_step(
        &mut self,
        number: usize,
        stop: &dyn Fn() -> bool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        // What is nearly done isn't thrown away: only steps of several micro-steps are given up in their midst.
        if number > 0 && stop() {
            return Err(DataError::Stopped.into());
        }
        observe(Event::Phase(Phase::Data));
        let batch = self.loader.next_batch_unless(stop)?;
        if self.history.first_batch_sha256.is_none() {
            self.history.first_batch_sha256 = Some(batch.sha256());
        }
        let (scale, mut in_use) = (self.scale(), self.history.peak_device_bytes);
        let part = &mut |part| {
            // When the backward pass begins, all that the way forward leaves for it is there.
            in_use = in_use.max(memory::device_bytes_in_use(&self.device));
            observe(Event::Phase(Phase::Model(part)));
        };
        self.engine.micro_step(&batch, number, scale, part)?;
        self.history.peak_device_bytes = in_use;
        observe(Event::MicroStep(&batch));
        Ok(())
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
        self.evaluate_if_due(true, &|| false, observe);
    }

    /// Evaluates when the plan says so and it wasn't done at this step. A failure is recorded, and training goes on. False when
    /// `stop` had it given up.
    fn evaluate_if_due(&mut self, last: bool, stop: &dyn Fn() -> bool, observe: &mut dyn FnMut(Event<'_>)) -> bool {
        let every = self.plan.eval.every;
        let bpb_due = last || (every > 0 && self.step.is_multiple_of(every));
        let core_due = self.plan.eval.core.as_ref().is_some_and(|core| last || due(self.step, core.every));
        if !(bpb_due || core_due) || self.history.evaluated(self.step) {
            return true;
        }
        observe(Event::Evaluating { step: self.step });
        let (row, failures) = self.evaluate(bpb_due, core_due, stop);
        if failures.iter().any(TrainError::is_stop) {
            return false;
        }
        if row.val_bpb.is_some() || row.core_metric.is_some() {
            observe(Event::Evaluated(&row));
            self.history.evals.push(row);
        }
        for error in failures {
            let reason = error.to_string();
            observe(Event::EvaluationFailed { step: self.step, reason: &reason });
            self.history.failed_evals.push((self.step, reason));
        }
        true
    }

    /// Evaluates what is asked for: the figures, and what failed.
    fn evaluate(&mut self, bpb: bool, core: bool, stop: &dyn Fn() -> bool) -> (EvalRow, Vec<TrainError>) {
        let started = Instant::now();
        let mut failures = Vec::new();
        let val_bpb = bpb.then(|| self.evaluator.evaluate(self.engine.as_mut(), stop));
        let val_bpb = val_bpb.and_then(|result| result.map_err(|error| failures.push(error)).ok());
        let bundle = self.bundle.as_ref().filter(|_| core);
        let result = bundle.map(|bundle| self.evaluate_core(bundle, stop));
        let core_metric = result.and_then(|result| result.map_err(|error| failures.push(error)).ok());
        let row = EvalRow {
            step: self.step,
            tokens: self.step * self.plan.total_batch_size,
            val_bpb,
            core_metric,
            training_seconds: training_seconds(&self.history.steps),
            eval_seconds: started.elapsed().as_secs_f64(),
            rss_bytes: Some(memory::resident_bytes()),
        };
        (row, failures)
    }

    /// The CORE metric, by a copy of the model: its passes share beginnings, which a training pass doesn't.
    fn evaluate_core(&self, bundle: &Bundle, stop: &dyn Fn() -> bool) -> Result<f64, TrainError> {
        let model = self.engine.model()?;
        let result = core::evaluate(&model, &self.tokenizer, bundle, &CoreOptions::default(), &mut |_| {}, stop)?;
        Ok(result.core_metric)
    }

    /// Brings elapsed time and peak memory in the history up to date.
    pub fn note_resources(&mut self) {
        self.history.elapsed_seconds = self.clock.elapsed_seconds();
        self.history.peak_rss_bytes = self.history.peak_rss_bytes.max(memory::peak_resident_bytes());
        self.history.peak_device_bytes = self.history.peak_device_bytes.max(memory::device_bytes_in_use(&self.device));
    }
}

/// Whether something that happens every `every` steps happens after `step` steps; never before the first, never for 0.
fn due(step: u64, every: u64) -> bool {
    step > 0 && every > 0 && step.is_multiple_of(every)
}
