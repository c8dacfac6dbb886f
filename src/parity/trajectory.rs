//! A whole pretraining run: from the baseline's initial weights, on the same text, every micro-batch, loss and evaluation.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use nanochat_engine::data::Batch;
use nanochat_engine::engines::{self, Setup};
use nanochat_engine::model::Gpt;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_engine::train::{Event, Inputs, NoCheckpoints, Trainer};
use nanochat_plan::{
    BudgetPlan, DataPlan, DeriveInputs, EvalPlan, InitPlan, OptimizerPlan, Profile, RunPlan, Settings, TokenizerPlan,
};

use super::check::Concerning;
use super::checkpoint::{document, open_corpus, tokenizer};
use super::{Bound, Check, ParityError};

/// A relative change of 1e-7 in the initial weights moves the reference's own losses by 1.2e-5 over 80 micro-steps; the
/// bound leaves room for another order of summation in every product of every step.
const LOSS_BOUND: f64 = 2e-4;
/// Likewise for bits per byte, where that change makes 5e-6.
const BPB_BOUND: f64 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    flags: Vec<String>,
    vocab_size: usize,
    micro_step_losses: Vec<f64>,
    val_bpb: Vec<f64>,
    batch_sha256: Vec<String>,
}

/// Trains as the reference did and compares.
///
/// # Errors
/// The file, its weights (`<stem>.safetensors`), its tokenizer (`tokenizer_<vocab_size>.tiktoken`) or the data can't be
/// read, or training fails.
pub fn check(path: &Path, data: &Path, device: &Device) -> Result<Vec<Check>, ParityError> {
    let reference: Reference = document(path)?;
    let tensors_path = path.with_extension("safetensors");
    let tensors = candle_core::safetensors::load(&tensors_path, &Device::Cpu).reading(&tensors_path)?;

    let plan = plan_of(path, &reference, data)?;
    let tokenizer = Arc::new(tokenizer(path, reference.vocab_size)?);
    let weights = initial_weights(&tensors);
    let seen = train(path, &plan, &tokenizer, &weights, data, device)?;
    let curves = [
        Curve {
            name: "micro-step losses",
            ours: &seen.losses,
            theirs: &reference.micro_step_losses,
            bound: LOSS_BOUND,
        },
        Curve { name: "validation bpb", ours: &seen.bpb, theirs: &reference.val_bpb, bound: BPB_BOUND },
    ];
    let mut checks = vec![Check::equal(path, "micro-batch hashes", &seen.hashes, &reference.batch_sha256)];
    if curves.iter().all(|curve| curve.check(path).ok) {
        checks.extend(curves.iter().map(|curve| curve.check(path)));
    } else {
        // Either the engine is wrong, or the run is one in which rounding errors grow until no two engines agree: the same
        // run from weights that are all but the same tells.
        let moved = train(path, &plan, &tokenizer, &disturbed(&weights).reading(&tensors_path)?, data, device)?;
        let moved = [&moved.losses, &moved.bpb];
        checks.extend(curves.iter().zip(moved).map(|(curve, moved)| curve.check_while_steady(path, moved)));
    }
    checks.extend(equal_batches(path, &seen.first_batches, &tensors)?);
    Ok(checks)
}

/// Relative change of the weights from which a run's own sensitivity is seen: about the last bit of an f32.
const DISTURBANCE: f64 = 1e-7;

/// The weights with every other element a little larger, and the rest a little smaller.
fn disturbed(weights: &HashMap<String, Tensor>) -> candle_core::Result<HashMap<String, Tensor>> {
    let change = |(name, weight): (&String, &Tensor)| {
        let signs = (0..weight.elem_count()).map(|at| if at % 2 == 0 { DISTURBANCE } else { -DISTURBANCE });
        let factors =
            Tensor::from_vec(signs.map(|change| 1.0 + change).collect::<Vec<f64>>(), weight.shape(), weight.device())?;
        let moved = (weight.to_dtype(DType::F64)? * factors)?;
        Ok((name.clone(), moved.to_dtype(weight.dtype())?))
    };
    weights.iter().map(change).collect()
}

/// A series of figures over a run, ours and the reference's.
struct Curve<'a> {
    name: &'static str,
    ours: &'a [f64],
    theirs: &'a [f64],
    bound: f64,
}

impl Curve<'_> {
    fn check(&self, path: &Path) -> Check {
        Check::numbers(path, self.name, self.ours.to_vec(), self.theirs.to_vec(), Bound::Absolute(self.bound))
    }

    /// The same up to where `moved`, our figures from disturbed weights, leave ours by more than the bound. A series that does
    /// so from its first figure on, or never, is compared as a whole.
    fn check_while_steady(&self, path: &Path, moved: &[f64]) -> Check {
        // What is no number is no sensitivity.
        let apart = |(ours, moved): (&f64, &f64)| (ours - moved).abs() > self.bound;
        let steady = self.ours.iter().zip(moved).position(apart).unwrap_or(0);
        let (Some(ours), Some(theirs)) = (self.ours.get(..steady), self.theirs.get(..steady)) else {
            return self.check(path);
        };
        if steady == 0 {
            return self.check(path);
        }
        let quantity = format!(
            "{}, the first {steady} of {}: after them a change of 1e-7 in the initial weights grows beyond the bound",
            self.name,
            self.theirs.len()
        );
        Check::numbers(path, quantity, ours.to_vec(), theirs.to_vec(), Bound::Absolute(self.bound))
    }
}

/// What our run did.
#[derive(Default)]
struct Seen {
    losses: Vec<f64>,
    hashes: Vec<String>,
    bpb: Vec<f64>,
    first_batches: Vec<Batch>,
}

fn train(
    path: &Path,
    plan: &RunPlan,
    tokenizer: &Arc<Tokenizer>,
    weights: &HashMap<String, Tensor>,
    data: &Path,
    device: &Device,
) -> Result<Seen, ParityError> {
    let model = Gpt::from_tensors(&plan.model, weights, device).computing(path)?;
    let (corpus, tokenizer, device) = (Arc::new(open_corpus(data)?), tokenizer.clone(), device.clone());
    let engine = engines::open(model, &Setup::of(plan)).computing(path)?;
    let inputs = Inputs { plan, corpus, tokenizer, engine, device, bundle: None };
    let mut trainer = Trainer::new(inputs).computing(path)?;
    let mut seen = Seen::default();
    let mut failure = None;
    let mut observe = |event: Event<'_>| match event {
        Event::Losses(losses) => seen.losses.extend(losses.iter().map(|loss| f64::from(*loss))),
        Event::MicroStep(batch) => {
            seen.hashes.push(batch.sha256());
            if seen.first_batches.len() < FIRST_BATCHES {
                seen.first_batches.push(batch.clone());
            }
        }
        Event::Evaluated(row) => seen.bpb.extend(row.val_bpb),
        Event::EvaluationFailed { reason, .. } => failure = Some(reason.to_string()),
        Event::Evaluating { .. } | Event::Phase(_) | Event::Step(_) | Event::RolledBack(_) => {}
    };
    trainer.run(&|| false, &mut NoCheckpoints, &mut observe).computing(path)?;
    match failure {
        Some(reason) => Err(ParityError::engine(path, reason)),
        None => Ok(seen),
    }
}

/// As many batches as the reference stores whole.
const FIRST_BATCHES: usize = 4;

fn initial_weights(tensors: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let strip = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix("initial.")?.to_string(), tensor.clone()));
    tensors.iter().filter_map(strip).collect()
}

fn equal_batches(path: &Path, ours: &[Batch], tensors: &HashMap<String, Tensor>) -> Result<Vec<Check>, ParityError> {
    let mut checks = Vec::new();
    for (index, batch) in ours.iter().enumerate() {
        let ids: Vec<i64> = batch.inputs.iter().map(|&id| i64::from(id)).collect();
        let targets: Vec<i64> = batch.targets.iter().map(|&id| i64::from(id)).collect();
        for (side, ours) in [("inputs", ids), ("targets", targets)] {
            let name = format!("batch{index}.{side}");
            let Some(tensor) = tensors.get(&name) else { continue };
            let theirs = tensor.flatten_all().and_then(|flat| flat.to_dtype(candle_core::DType::I64)?.to_vec1::<i64>());
            let theirs = theirs.map_err(|error| format!("{name}: {error}")).reading(path)?;
            checks.push(Check::equal(path, name, &ours, &theirs));
        }
    }
    Ok(checks)
}

/// The baseline's command-line flags, with its defaults (`scripts/base_train.py`).
struct Flags<'a> {
    path: &'a Path,
    given: BTreeMap<&'a str, &'a str>,
}

impl<'a> Flags<'a> {
    fn parse(path: &'a Path, flags: &'a [String]) -> Result<Self, ParityError> {
        let split = |flag: &'a String| flag.strip_prefix("--").and_then(|rest| rest.split_once('='));
        let given = flags.iter().map(|flag| {
            split(flag).ok_or_else(|| ParityError::unreadable(path, format!("flag `{flag}` is not --name=value")))
        });
        Ok(Self { path, given: given.collect::<Result<_, _>>()? })
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, ParityError> {
        match self.given.get(name) {
            None => Ok(default),
            Some(text) => {
                let wrong = || ParityError::unreadable(self.path, format!("flag --{name}={text} is not a number"));
                text.parse().map_err(|_| wrong())
            }
        }
    }

    fn budget(&self) -> Result<BudgetPlan, ParityError> {
        let iterations = self.number("num-iterations", -1i64)?;
        let flops = self.number("target-flops", -1.0)?;
        Ok(if iterations > 0 {
            BudgetPlan::Iterations(iterations as u64)
        } else if flops > 0.0 {
            BudgetPlan::Flops(flops)
        } else {
            BudgetPlan::ParamDataRatio(self.number("target-param-data-ratio", 12.0)?)
        })
    }
}

fn plan_of(path: &Path, reference: &Reference, data: &Path) -> Result<RunPlan, ParityError> {
    let flags = Flags::parse(path, &reference.flags)?;
    let batch = flags.number("total-batch-size", -1i64)?;
    let weight_decay = flags.number("weight-decay", 0.28)?;
    let inputs = DeriveInputs {
        aspect_ratio: flags.number("aspect-ratio", 64)?,
        head_dim: flags.number("head-dim", 128)?,
        sequence_len: flags.number("max-seq-len", 2048)?,
        window_pattern: flags.given.get("window-pattern").unwrap_or(&"SSSL").to_string(),
        reference_ratio: Some(flags.number("target-param-data-ratio", 12.0)?),
        total_batch_size: (batch > 0).then_some(batch as u64),
        budget: flags.budget()?,
        weight_decay,
        ..DeriveInputs::baseline(flags.number("depth", 20)?, reference.vocab_size)
    };
    let every = |name, default: i64| flags.number(name, default).map(|every: i64| u64::try_from(every).unwrap_or(0));
    let optimizer = OptimizerPlan {
        embedding_lr: flags.number("embedding-lr", OptimizerPlan::BASELINE.embedding_lr)?,
        unembedding_lr: flags.number("unembedding-lr", OptimizerPlan::BASELINE.unembedding_lr)?,
        matrix_lr: flags.number("matrix-lr", OptimizerPlan::BASELINE.matrix_lr)?,
        scalar_lr: flags.number("scalar-lr", OptimizerPlan::BASELINE.scalar_lr)?,
        weight_decay,
        warmup_steps: flags.number("warmup-steps", OptimizerPlan::BASELINE.warmup_steps)?,
        warmdown_ratio: flags.number("warmdown-ratio", OptimizerPlan::BASELINE.warmdown_ratio)?,
        final_lr_frac: flags.number("final-lr-frac", OptimizerPlan::BASELINE.final_lr_frac)?,
    };
    let data = DataPlan::parquet(data.display().to_string());
    let tokenizer = TokenizerPlan::Path(format!("tokenizer_{}.tiktoken", reference.vocab_size));
    let profile = Profile::cpu(flags.number("device-batch-size", 32)?, 0);
    let settings = Settings {
        optimizer,
        init: InitPlan::Weights("trajectory.safetensors".to_string()),
        eval: EvalPlan {
            every: every("eval-every", 250)?,
            tokens: flags.number("eval-tokens", 80 * 524_288)?,
            core: None,
        },
        ..Settings::baseline(inputs, data, tokenizer, profile)
    };
    settings.plan("parity", &BTreeMap::new(), 42).map_err(|error| ParityError::engine(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chaotic run is compared up to where its own sensitivity exceeds the bound; an error before that is one.
    #[test]
    fn a_run_is_compared_while_it_is_steady() {
        let theirs = [1.0, 0.9, 0.8, 0.7];
        let curve = |ours: &[f64; 4], moved: &[f64; 4]| {
            let curve = Curve { name: "losses", ours, theirs: &theirs, bound: 1e-4 };
            curve.check_while_steady(Path::new("x"), moved)
        };
        let chaotic = curve(&[1.0, 0.9, 0.85, 0.4], &[1.0, 0.90005, 0.81, 0.6]);
        assert!(chaotic.ok && chaotic.quantity.starts_with("losses, the first 2 of 4:"), "{chaotic:?}");
        assert!(!curve(&[1.0, 0.95, 0.85, 0.4], &[1.0, 0.95005, 0.81, 0.6]).ok, "wrong before the run leaves itself");
        assert!(!curve(&[1.0, 0.9, 0.85, 0.4], &[1.0, 0.9, 0.85, 0.4]).ok, "a steady run is compared as a whole");
        assert!(!curve(&[0.5, 0.9, 0.8, 0.7], &[0.4, 0.9, 0.8, 0.7]).ok, "nothing is left to compare");
        assert!(!curve(&[1.0, f64::NAN, 0.8, 0.7], &[1.0, f64::NAN, 0.8, 0.7]).ok);
    }
}
