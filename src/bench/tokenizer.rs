//! A plan's tokenizer: how fast it is trained, and how fast it encodes on one thread.

use std::time::Instant;

use super::limits::median;
use super::{BenchError, Subject};
use crate::run::RunError;
use nanochat_artifacts::{Bench, BenchFigure, Better, Measured};
use nanochat_engine::data::{Corpus, Split, train_tokenizer, training_bytes};
use nanochat_plan::TokenizerPlan;

/// Limits of a training that the plan doesn't state, as the baseline's script has them.
const CHARACTERS_PER_DOCUMENT: u64 = 10_000;
const CHARACTERS: u64 = 2_000_000_000;

/// How a tokenizer is measured.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerOptions {
    /// How often each measurement is repeated.
    pub repeats: u64,
    /// Bytes of the training split that are encoded, at most.
    pub encode_bytes: u64,
}

/// Trains a vocabulary of the plan's size on its data, and encodes some of it on the calling thread. A tokenizer that the
/// plan names is the one that encodes.
///
/// # Errors
/// What keeps a run's data and tokenizer from being prepared.
pub fn tokenizer(subject: &mut Subject, options: TokenizerOptions) -> Result<Bench, BenchError> {
    let (plan, resources) = (&subject.plan, &mut subject.resources);
    let corpus = resources.corpus(&plan.data)?;
    let (vocab_size, per_document, most) = match &plan.tokenizer {
        TokenizerPlan::Train { vocab_size, max_chars_per_document, max_chars } => {
            (*vocab_size, *max_chars_per_document, *max_chars)
        }
        TokenizerPlan::Path(_) => (plan.model.vocab_size, CHARACTERS_PER_DOCUMENT, CHARACTERS),
    };
    let mut train_seconds = Vec::new();
    for _ in 0..options.repeats.max(1) {
        let started = Instant::now();
        train_tokenizer(&corpus, vocab_size, per_document, most).map_err(RunError::from)?;
        train_seconds.push(started.elapsed().as_secs_f64());
    }
    let train_bytes = training_bytes(&corpus, per_document, most).map_err(RunError::from)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let documents = documents(&corpus, options.encode_bytes)?;
    let encode_bytes: u64 = documents.iter().map(|document| document.len() as u64).sum();
    let (mut encode_seconds, mut ids) = (Vec::new(), Vec::new());
    let mut tokens = 0;
    for _ in 0..options.repeats.max(1) {
        let started = Instant::now();
        tokens = 0;
        for document in &documents {
            ids.clear();
            tokenizer.encode_into(document, &mut ids);
            tokens += ids.len() as u64;
        }
        encode_seconds.push(started.elapsed().as_secs_f64());
    }
    let threads = rayon::current_num_threads();
    let training = format!("training of {vocab_size} tokens on {train_bytes} bytes, {threads} threads");
    let encoding = format!("encoding of {encode_bytes} bytes as {tokens} tokens, 1 thread");
    let figures = vec![rate(training, train_bytes, train_seconds), rate(encoding, encode_bytes, encode_seconds)];
    Ok(Bench {
        repeats: Some(options.repeats.max(1)),
        tokenizer_sha256: Some(tokenizer.sha256()),
        ..subject.document(Measured::Tokenizer, figures)
    })
}

/// Megabytes (10^6) of text a second: the median.
fn rate(name: String, bytes: u64, seconds: Vec<f64>) -> BenchFigure {
    let value = bytes as f64 / median(&seconds) / 1e6;
    BenchFigure { seconds, ..BenchFigure::new(name, "MB/s", Better::Higher, value) }
}

/// The first documents of the training split, up to so many bytes and at least one.
fn documents(corpus: &Corpus, most: u64) -> Result<Vec<String>, RunError> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for document in corpus.documents(Split::Train) {
        let document = document?;
        bytes += document.len() as u64;
        if bytes > most && !taken.is_empty() {
            break;
        }
        taken.push(document);
    }
    Ok(taken)
}
