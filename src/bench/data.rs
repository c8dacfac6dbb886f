//! A plan's data path: start-up, and how many tokens a second it packs when it never waits for the model.

use std::time::{Duration, Instant};

use super::{BenchError, Subject};
use crate::run::RunError;
use nanochat_artifacts::{Bench, BenchFigure, Better, Measured};
use nanochat_engine::data::{Loader, Split};

/// Packs a plan's training batches for `budget`, as fast as they come.
///
/// # Errors
/// What keeps a run's data and tokenizer from being prepared.
pub fn data(subject: &mut Subject, budget: Duration) -> Result<Bench, BenchError> {
    let (plan, resources) = (&subject.plan, &mut subject.resources);
    let (corpus, open_seconds) = timed(|| resources.corpus(&plan.data))?;
    let (tokenizer, tokenizer_seconds) = timed(|| resources.tokenizer(plan, &corpus))?;
    let (batch_size, sequence_len) = (plan.device_batch_size as usize, plan.model.sequence_len);
    let mut loader =
        Loader::new(corpus, tokenizer.clone(), Split::Train, batch_size, sequence_len).map_err(RunError::from)?;
    let (first, first_batch_seconds) = timed(|| Ok(loader.next_batch()?))?;
    let (mut batches, started) = (0u64, Instant::now());
    while batches == 0 || started.elapsed() < budget {
        std::hint::black_box(loader.next_batch().map_err(RunError::from)?);
        batches += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let tokens = batches * (batch_size * sequence_len) as u64;
    let figures = vec![
        BenchFigure::new("opening the data", "s", Better::Lower, open_seconds),
        BenchFigure::new("tokenizer", "s", Better::Lower, tokenizer_seconds),
        BenchFigure::new("first batch", "s", Better::Lower, first_batch_seconds),
        BenchFigure::new("tokens packed", "tok", Better::Neither, tokens as f64),
        BenchFigure::new("epochs begun", "", Better::Neither, loader.epoch() as f64),
    ];
    Ok(Bench {
        repeats: Some(batches),
        tokens_per_second: Some(tokens as f64 / seconds),
        first_batch_sha256: Some(first.sha256()),
        tokenizer_sha256: Some(tokenizer.sha256()),
        ..subject.document(Measured::Data, figures)
    })
}

/// What `work` gives, and its seconds.
fn timed<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<(T, f64), RunError> {
    let started = Instant::now();
    let result = work()?;
    Ok((result, started.elapsed().as_secs_f64()))
}
