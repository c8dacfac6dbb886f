//! Divergence: seen, told with its place, and gone back from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::checkpoint::{StoredTensor, tensors_sha256};
use crate::data::{Batch, Corpus, Loader, Split};
use crate::engines::{self, Engine, Group, Setup};
use crate::model::{Gpt, Gradients, Part};
use crate::optim::{OptimError, StepSettings};
use crate::tokenizer::Tokenizer;
use nanochat_experiment::expand;
use nanochat_experiment::{LoadOptions, load};
use nanochat_plan::{ModelShape, RunPlan};

const SPEC: &str = "schema: nanochat.experiment/v1
name: case
hardware: { profile: cpu-smoke, device_batch_size: 2 }
data: { source: synthetic, seed: 5, bytes: 4000000 }
tokenizer: { train: { vocab_size: 270 } }
model: { depth: 2, n_embd: 32, head_dim: 16, sequence_len: 64, window_pattern: L }
budget: { iterations: 9 }
optimizer: { total_batch_size: 256, warmup_steps: 2 }
eval: { every: 0, tokens: 256 }
checkpoint: { every: 3, keep: 1 }
";

fn plan(more: &str) -> RunPlan {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.yaml");
    std::fs::write(&path, format!("{SPEC}{more}")).unwrap();
    let experiment = load(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
    expand(&experiment).unwrap().remove(0)
}

fn tokenizer() -> Arc<Tokenizer> {
    // One token a byte and some more, as many as the plan says with the nine special ones.
    let pairs = (b'a'..=b'e').map(|letter| vec![letter, b' ']);
    Arc::new(Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).chain(pairs).collect()).unwrap())
}

fn engine(plan: &RunPlan) -> Box<dyn Engine> {
    let model = Gpt::initialized(&plan.model, plan.seed, &Device::Cpu).unwrap();
    engines::open(model, &Setup::of(plan)).unwrap()
}

fn trainer(plan: &RunPlan) -> Trainer<'_> {
    with_engine(plan, engine(plan))
}

fn with_engine(plan: &RunPlan, engine: Box<dyn Engine>) -> Trainer<'_> {
    let corpus = Arc::new(Corpus::open(&plan.data, Path::new(".")).unwrap());
    Trainer::new(Inputs { plan, corpus, tokenizer: tokenizer(), engine, device: Device::Cpu, bundle: None }).unwrap()
}

/// A trainer whose loss is no number at the batch of that hash.
fn poisoned<'a>(plan: &'a RunPlan, hash: &str) -> Trainer<'a> {
    let engine = Poisoned { engine: engine(plan), hash: hash.to_string(), places: Vec::new() };
    with_engine(plan, Box::new(engine))
}

/// An engine that gives no number as the mean loss of one batch.
struct Poisoned {
    engine: Box<dyn Engine>,
    hash: String,
    /// Micro-steps of this step that were of that batch.
    places: Vec<usize>,
}

impl Engine for Poisoned {
    fn shape(&self) -> &ModelShape {
        self.engine.shape()
    }

    fn steps(&self) -> u64 {
        self.engine.steps()
    }

    fn zero_gradients(&mut self) -> Result<(), OptimError> {
        self.places.clear();
        self.engine.zero_gradients()
    }

    fn micro_step(
        &mut self,
        batch: &Batch,
        number: usize,
        scale: f64,
        observe: &mut dyn FnMut(Part),
    ) -> Result<(), OptimError> {
        self.places.extend((batch.sha256() == self.hash).then_some(number));
        self.engine.micro_step(batch, number, scale, observe)
    }

    fn mean_losses(&mut self) -> Result<Vec<f32>, OptimError> {
        let mut losses = self.engine.mean_losses()?;
        self.places.iter().for_each(|place| losses[*place] = f32::NAN);
        Ok(losses)
    }

    fn optimizer_step(&mut self, at: &StepSettings) -> Result<(), OptimError> {
        self.engine.optimizer_step(at)
    }

    fn synchronize(&mut self) -> Result<(), OptimError> {
        self.engine.synchronize()
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Vec<f32>, OptimError> {
        self.engine.evaluate(batch)
    }

    fn model(&self) -> Result<Gpt, OptimError> {
        self.engine.model()
    }

    fn weights(&self) -> Result<Group<'_>, OptimError> {
        self.engine.weights()
    }

    fn optimizer_state(&self) -> Result<Group<'_>, OptimError> {
        self.engine.optimizer_state()
    }

    fn gradients(&self) -> Result<Group<'_>, OptimError> {
        self.engine.gradients()
    }

    fn load_weights(&mut self, model: Gpt) -> Result<(), OptimError> {
        self.engine.load_weights(model)
    }

    fn load_optimizer_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), OptimError> {
        self.engine.load_optimizer_state(state)
    }

    fn load_gradients(&mut self, gradients: &Gradients) -> Result<(), OptimError> {
        self.engine.load_gradients(gradients)
    }
}

/// Snapshots in memory.
#[derive(Default)]
struct Memory(BTreeMap<u64, (BTreeMap<String, BTreeMap<String, Tensor>>, serde_json::Value)>);

impl CheckpointSink for Memory {
    fn save(&mut self, snapshot: &Snapshot<'_>, _: bool) -> Result<(), TrainError> {
        let copied = |group: &Group<'_>| {
            group.iter().map(|(name, tensor)| (name.clone(), tensor.to_tensor().unwrap().copy().unwrap())).collect()
        };
        let tensors = snapshot.tensors.iter().map(|(name, group)| (name.clone(), copied(group))).collect();
        self.0.insert(snapshot.step, (tensors, snapshot.state.clone()));
        Ok(())
    }

    fn load(&mut self, step: u64) -> Result<Snapshot<'static>, TrainError> {
        let missing = || TrainError::State { reason: format!("no step {step}") };
        let (tensors, state) = self.0.get(&step).cloned().ok_or_else(missing)?;
        Ok(Snapshot::loaded(step, tensors, state))
    }
}

fn batch_hashes(plan: &RunPlan, count: usize) -> Vec<String> {
    let corpus = Arc::new(Corpus::open(&plan.data, Path::new(".")).unwrap());
    let (rows, length) = (plan.device_batch_size as usize, plan.model.sequence_len);
    let mut loader = Loader::new(corpus, tokenizer(), Split::Train, rows, length).unwrap();
    let hashes: Vec<String> = (0..count).map(|_| loader.next_batch().unwrap().sha256()).collect();
    assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), count, "no batch comes twice");
    hashes
}

fn weights(trainer: &Trainer<'_>) -> String {
    tensors_sha256(&trainer.weights().unwrap()).unwrap()
}

/// Runs to the end; the hashes of the batches that were trained on, in order, those of steps that came to nothing included.
fn run(trainer: &mut Trainer<'_>, sink: &mut Memory) -> (Result<Ending, TrainError>, Vec<String>) {
    let mut seen = Vec::new();
    let ending = trainer.run(&|| false, sink, &mut |event| {
        if let Event::MicroStep(batch) = event {
            seen.push(batch.sha256());
        }
    });
    (ending, seen)
}

/// Runs until so many steps were taken, those that a rollback undoes included.
fn run_until(trainer: &mut Trainer<'_>, steps: usize, sink: &mut Memory) -> Result<Ending, TrainError> {
    let taken = std::cell::Cell::new(0);
    trainer.run(&|| taken.get() >= steps, sink, &mut |event| {
        if let Event::Step(_) = event {
            taken.set(taken.get() + 1);
        }
    })
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_step_and_tensor() {
    let plan = plan("");
    // Two micro-steps a step: the eleventh batch belongs to the sixth step, number 5.
    let mut trainer = poisoned(&plan, &batch_hashes(&plan, 12)[10]);
    let mut sink = Memory::default();
    let (ending, _) = run(&mut trainer, &mut sink);
    let error = ending.unwrap_err().to_string();
    assert!(error.starts_with("the loss became NaN, the largest gradient that of `"), "{error}");
    assert!(error.contains(" at step 5; the last good checkpoint is kept"), "{error}");
    assert_eq!(sink.0.keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(trainer.history().steps.len(), 5);
}

#[test]
fn a_rollback_goes_on_from_the_checkpoint_with_the_data_after_the_divergence() {
    let plan = plan("on_divergence: rollback\n");
    let hashes = batch_hashes(&plan, 24);
    let mut rolled = poisoned(&plan, &hashes[10]);
    let mut sink = Memory::default();
    let (ending, seen) = run(&mut rolled, &mut sink);
    assert_eq!(ending.unwrap(), Ending::Finished);
    // Steps 0 to 5, of which 3, 4 and the broken-off 5 are gone; then six steps from the third on, with new data.
    assert_eq!(seen, hashes[..24]);
    let [record] = rolled.history().rollbacks.as_slice() else { panic!("one rollback") };
    assert_eq!((record.from_step, record.to_step, record.skipped_tokens), (5, 3, 3 * 256));
    let steps: Vec<u64> = rolled.history().steps.iter().map(|row| row.step).collect();
    assert_eq!(steps, (0..9).collect::<Vec<_>>());

    // The same by hand: a run that is put back to step 3 while its loader stays where the divergence left it.
    let undisturbed = RunPlan { on_divergence: nanochat_plan::OnDivergence::Stop, ..plan.clone() };
    let mut kept = Memory::default();
    run(&mut poisoned(&undisturbed, &hashes[10]), &mut kept).0.unwrap_err();
    let (tensors, mut state) = kept.0.remove(&3).unwrap();
    let mut ahead = Loader::new(
        Arc::new(Corpus::open(&plan.data, Path::new(".")).unwrap()),
        tokenizer(),
        Split::Train,
        plan.device_batch_size as usize,
        plan.model.sequence_len,
    )
    .unwrap();
    (0..12).for_each(|_| drop(ahead.next_batch().unwrap()));
    state["loader"] = serde_json::to_value(ahead.state()).unwrap();
    let mut by_hand = trainer(&undisturbed);
    by_hand.restore(Snapshot::loaded(3, tensors, state)).unwrap();
    run(&mut by_hand, &mut Memory::default()).0.unwrap();
    assert_eq!(weights(&rolled), weights(&by_hand));

    // Stopped on the way and gone on, before the divergence and after it, it comes the same way.
    for stop_at in [4, 5, 7] {
        let mut sink = Memory::default();
        let mut first = poisoned(&plan, &hashes[10]);
        assert_eq!(run_until(&mut first, stop_at, &mut sink).unwrap(), Ending::Stopped);
        let at = first.step();
        let mut second = poisoned(&plan, &hashes[10]);
        second.restore(sink.load(at).unwrap()).unwrap();
        run(&mut second, &mut sink).0.unwrap();
        assert_eq!(weights(&second), weights(&rolled), "stopped at step {at}");
        assert_eq!(second.history().rollbacks, rolled.history().rollbacks);
    }
}

/// At the first step there is a snapshot of the start to go back to; a run that diverges again and again is given up.
#[test]
fn rollbacks_have_an_end() {
    let plan = RunPlan {
        optimizer: nanochat_plan::OptimizerPlan { unembedding_lr: 1e30, ..plan("").optimizer },
        ..plan("on_divergence: rollback\n")
    };
    let mut trainer = trainer(&plan);
    let mut sink = Memory::default();
    let (ending, seen) = run(&mut trainer, &mut sink);
    let Err(TrainError::DivergedAgain { times: 3, step, what }) = ending else { panic!("{ending:?}") };
    // The loss says so, or, before it can, the weights on their way into a checkpoint.
    assert!(what.starts_with("the loss ") || what.contains("holds what is no finite number"), "{what}");
    assert_eq!(trainer.history().rollbacks.len(), 3);
    for record in &trainer.history().rollbacks {
        assert!(record.to_step % 3 == 0 && record.to_step <= record.from_step, "{record:?}, given up at step {step}");
    }
    assert_eq!(trainer.history().first_batch_sha256.as_ref(), seen.first(), "the first batch stays the first");
}

/// Weights that broke in the last step before a checkpoint don't get into it.
#[test]
fn what_is_no_number_is_never_saved() {
    let plan = plan("");
    let mut trainer = trainer(&plan);
    let mut snapshot = trainer.snapshot().unwrap();
    divergence::refuse_broken(&snapshot).unwrap();
    let large = Tensor::full(3e38f32, 64, &Device::Cpu).unwrap();
    let group = snapshot.tensors.get_mut("optimizer").unwrap();
    group.insert("large".into(), StoredTensor::Tensor(large));
    divergence::refuse_broken(&snapshot).expect("a sum that overflows is no infinity in the tensor");
    let broken = Tensor::full(f32::INFINITY, 1, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    snapshot.tensors.get_mut("optimizer").unwrap().insert("momentum".into(), StoredTensor::Tensor(broken));
    let error = divergence::refuse_broken(&snapshot).unwrap_err().to_string();
    assert!(error.starts_with("`momentum` of the optimizer holds what is no finite number at step 0"), "{error}");
}

#[test]
fn scheduled_steps_are_multiples_and_the_start() {
    let cases = [((0, 3), 0), ((2, 3), 0), ((3, 3), 3), ((8, 3), 6), ((8, 0), 0)];
    for ((step, every), expected) in cases {
        assert_eq!(divergence::scheduled_before(step, every), expected);
    }
}

/// The plan names a number of threads, and a machine has another: weights are the same, resumed or not.
#[test]
fn a_run_resumed_with_other_threads_has_the_same_bits() {
    let plan = plan("");
    let on = |threads: usize, work: &mut (dyn FnMut() -> String + Send)| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    };
    let whole = on(2, &mut || {
        let mut whole = trainer(&plan);
        run(&mut whole, &mut Memory::default()).0.unwrap();
        weights(&whole)
    });
    for [before, after] in [[1, 3], [3, 1], [2, 5]] {
        let mut sink = Memory::default();
        on(before, &mut || {
            let mut first = trainer(&plan);
            assert_eq!(run_until(&mut first, 4, &mut sink).unwrap(), Ending::Stopped);
            weights(&first)
        });
        let resumed = on(after, &mut || {
            let mut second = trainer(&plan);
            second.restore(sink.load(4).unwrap()).unwrap();
            run(&mut second, &mut sink).0.unwrap();
            weights(&second)
        });
        assert_eq!(resumed, whole, "{before} threads, then {after}");
    }
}

/// A stop is obeyed between the micro-steps of a step and between the batches of an evaluation; what was begun is made anew.
#[test]
fn a_stop_within_a_step_or_an_evaluation_loses_no_data() {
    let plan = RunPlan { eval: nanochat_plan::EvalPlan { every: 4, ..plan("").eval }, ..plan("") };
    let mut whole = trainer(&plan);
    run(&mut whole, &mut Memory::default()).0.unwrap();
    let evaluations =
        |trainer: &Trainer<'_>| trainer.history().evals.iter().map(|row| (row.step, row.val_bpb)).collect::<Vec<_>>();
    // The seventh micro-step is the first of step 3; the second evaluation is that after 4 steps.
    for (micro_steps, evaluated, stopped_at) in [(7, 9, 3), (99, 2, 4)] {
        let (seen, begun) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let mut first = trainer(&plan);
        let mut sink = Memory::default();
        let ending =
            first.run(&|| seen.get() >= micro_steps || begun.get() >= evaluated, &mut sink, &mut |event| match event {
                Event::MicroStep(_) => seen.set(seen.get() + 1),
                Event::Evaluating { .. } => begun.set(begun.get() + 1),
                _ => {}
            });
        assert_eq!((ending.unwrap(), first.step()), (Ending::Stopped, stopped_at));
        let mut second = trainer(&plan);
        second.restore(sink.load(stopped_at).unwrap()).unwrap();
        run(&mut second, &mut sink).0.unwrap();
        assert_eq!(weights(&second), weights(&whole));
        assert_eq!(evaluations(&second), evaluations(&whole));
    }
}
