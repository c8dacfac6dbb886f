//! A plan's data path: start-up, and how many tokens a second it can pack when nobody makes it wait.

use std::time::{Duration, Instant};

use super::BenchError;
use crate::run::{Resources, RunError, environment};
use nanochat_artifacts::BenchData;
use nanochat_engine::data::{Loader, Split};
use nanochat_plan::RunPlan;

/// How the data path is measured.
#[derive(Debug, Clone, Copy)]
pub struct DataOptions {
    /// Time spent on packing.
    pub budget: Duration,
    /// The machine is what the profile says.
    pub hardware_matches: bool,
}

/// Packs a plan's training batches as fast as they come.
///
/// # Errors
/// What keeps a run's data and tokenizer from being prepared.
pub fn data(plan: &RunPlan, options: DataOptions, resources: &mut Resources) -> Result<BenchData, BenchError> {
    let started = Instant::now();
    let corpus = resources.corpus(&plan.data)?;
    let open_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let tokenizer_seconds = started.elapsed().as_secs_f64();
    let (batch_size, sequence_len) = (plan.device_batch_size as usize, plan.model.sequence_len);
    let loader = Loader::new(corpus, tokenizer.clone(), Split::Train, batch_size, sequence_len);
    let mut loader = loader.map_err(RunError::from)?;
    let started = Instant::now();
    let first = loader.next_batch().map_err(RunError::from)?;
    let first_batch_seconds = started.elapsed().as_secs_f64();
    let (mut batches, started) = (0u64, Instant::now());
    while batches == 0 || started.elapsed() < options.budget {
        std::hint::black_box(loader.next_batch().map_err(RunError::from)?);
        batches += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let tokens = batches * (batch_size * sequence_len) as u64;
    Ok(BenchData {
        schema: "nanochat.bench_data/v1".to_string(),
        experiment: plan.experiment.clone(),
        plan_hash: plan.plan_hash.clone(),
        device_batch_size: plan.device_batch_size,
        sequence_len: sequence_len as u64,
        open_seconds,
        tokenizer_seconds,
        first_batch_seconds,
        batches,
        tokens,
        seconds,
        tokens_per_second: tokens as f64 / seconds,
        epochs: loader.epoch(),
        first_batch_sha256: first.sha256(),
        tokenizer_sha256: tokenizer.sha256(),
        environment: environment(plan, options.hardware_matches),
    })
}
