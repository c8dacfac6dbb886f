//! A plan's model at inference: how long a prompt takes, and each token after it, for some samples at once.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use super::limits::{self, median};
use super::{BenchError, Subject};
use crate::run::open_device;
use nanochat_artifacts::{Bench, BenchFigure, BenchRate, Better, Measured};
use nanochat_engine::generate::{Prompt, Request, Sampling, Token, continuations};
use nanochat_engine::model::{Gpt, cache_bytes};
use nanochat_engine::trained::open_model;
use nanochat_plan::{Precision, RunPlan, decode_flops, kv_read_bytes, parameter_counts, prefill_flops};

/// Tokens of the prompt that decoding follows.
const DECODE_PROMPT: usize = 32;

/// How inference is measured.
#[derive(Debug, Clone)]
pub struct InferOptions {
    /// Checkpoint whose weights are taken, and the step; the plan's initial weights otherwise.
    pub weights: Option<(PathBuf, Option<u64>)>,
    /// What the weights of matrix products are kept in.
    pub dtype: Precision,
    /// Tokens of the long prompt.
    pub prompt_tokens: usize,
    /// Tokens decoded by each sample.
    pub tokens: usize,
    /// How many samples are decoded at once, one measurement each.
    pub batch_sizes: Vec<usize>,
    /// How often each measurement is repeated.
    pub repeats: usize,
}

impl InferOptions {
    fn check(&self) -> Result<(), BenchError> {
        let batch = self.batch_sizes.iter().copied().min().unwrap_or(0);
        let settings = [
            ("--prompt-tokens", 1, self.prompt_tokens),
            ("--tokens", 3, self.tokens),
            ("--batch-sizes", 1, batch),
            ("--repeats", 1, self.repeats),
        ];
        match settings.into_iter().find(|(_, least, got)| got < least) {
            Some((what, least, got)) => Err(BenchError::TooFew { what, least: least as u64, got: got as u64 }),
            None => Ok(()),
        }
    }
}

/// Measures a plan's model at inference, through the engine that `generate` and `chat` use.
///
/// # Errors
/// Settings that leave nothing to measure, a checkpoint of another shape, a model that can't be made.
pub fn infer(
    subject: &Subject,
    options: &InferOptions,
    observe: &mut dyn FnMut(&BenchFigure),
) -> Result<Bench, BenchError> {
    options.check()?;
    let plan = &subject.plan;
    let model = model(subject, options)?;
    let limits = Limits {
        gemm_gflops: limits::gemm_gflops(Precision::F32, model.device())?,
        read_gbs: limits::read_gbs(model.device())?,
    };
    let mut figures = prompt_figures(&model, options, &limits)?;
    let mut first_ids = Vec::new();
    for rows in options.batch_sizes.iter().copied() {
        let runs = (0..options.repeats).map(|_| decoded(&model, &prompt(&model, DECODE_PROMPT), rows, options.tokens));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        first_ids = runs.first().map(|run| run.ids.clone()).filter(|_| first_ids.is_empty()).unwrap_or(first_ids);
        let seconds = runs.iter().map(|run| median(&run.seconds[1..])).collect();
        let [decoding, cache] = decoding(plan, options, rows, seconds, &limits);
        observe(&decoding);
        figures.extend([decoding, cache]);
    }
    figures.extend([
        BenchFigure::new("matrix products reach", "GFLOP/s", Better::Neither, limits.gemm_gflops),
        BenchFigure::new("reading reaches", "GB/s", Better::Neither, limits.read_gbs),
    ]);
    Ok(Bench {
        dtype: options.dtype,
        repeats: Some(options.repeats as u64),
        first_ids,
        ..subject.document(Measured::Infer, figures)
    })
}

/// The machine's limits, measured before the work.
struct Limits {
    /// The best rate of this program's own matrix products in f32.
    gemm_gflops: f64,
    /// Bytes that all threads read a second of a buffer of 64 MiB, in GB/s.
    read_gbs: f64,
}

/// Of the long prompt: seconds from the request to its first token, chosen greedily, and its tokens over the seconds of the
/// prompt alone.
fn prompt_figures(model: &Gpt, options: &InferOptions, limits: &Limits) -> Result<Vec<BenchFigure>, BenchError> {
    let prompt = prompt(model, options.prompt_tokens);
    let (mut prefills, mut first_tokens) = (Vec::new(), Vec::new());
    for round in 0..=options.repeats {
        let (prefill, first_token) = (prefill_seconds(model, &prompt)?, decoded(model, &prompt, 1, 1)?.seconds[0]);
        // Buffers are made in the first round, which doesn't count.
        if round > 0 {
            prefills.push(prefill);
            first_tokens.push(first_token);
        }
    }
    let (count, prefill) = (prompt.len(), median(&prefills));
    let gflops = prefill_flops(model.shape(), count as u64) as f64 / prefill / 1e9;
    let [first_token, rate] = [
        BenchFigure::new(format!("first token (prompt of {count})"), "s", Better::Lower, median(&first_tokens)),
        BenchFigure::new(format!("prefill (prompt of {count})"), "tok/s", Better::Higher, count as f64 / prefill),
    ];
    let rates = vec![BenchRate::new(gflops, "GFLOP/s", limits.gemm_gflops)];
    Ok(vec![BenchFigure { seconds: first_tokens, ..first_token }, BenchFigure { seconds: prefills, rates, ..rate }])
}

fn model(subject: &Subject, options: &InferOptions) -> Result<Gpt, BenchError> {
    let plan = &subject.plan;
    let device = open_device(plan)?;
    let mut model = match &options.weights {
        None => subject.resources.model(plan, &device)?,
        Some((path, step)) => open_model(path, *step, &device)?,
    };
    if *model.shape() != plan.model {
        let (found, planned) = (Box::new(model.shape().clone()), Box::new(plan.model.clone()));
        return Err(BenchError::OtherShape { found, planned });
    }
    if options.dtype == Precision::Bf16 {
        model.round_weights()?;
    }
    Ok(model)
}

/// Some token ids.
fn prompt(model: &Gpt, count: usize) -> Vec<u32> {
    let below = model.shape().vocab_size.saturating_sub(16).max(1);
    (0..count).map(|place| ((7 + 31 * place) % below) as u32).collect()
}

/// Seconds of a prompt.
fn prefill_seconds(model: &Gpt, prompt: &[u32]) -> Result<f64, BenchError> {
    let seconds = model.decoding(|decoder| {
        let started = Instant::now();
        let mut cache = decoder.new_cache(prompt.len())?;
        decoder.prefill(prompt, &mut cache)?;
        Ok::<_, nanochat_engine::model::ModelError>(started.elapsed().as_secs_f64())
    })??;
    Ok(seconds)
}

/// What the first sample saw.
struct Decoded {
    /// Seconds to its first token from the request, and to each from the one before.
    seconds: Vec<f64>,
    ids: Vec<u32>,
}

/// Continues a prompt greedily.
fn decoded(model: &Gpt, prompt: &[u32], rows: usize, tokens: usize) -> Result<Decoded, BenchError> {
    let mut run = Decoded { seconds: Vec::with_capacity(tokens), ids: Vec::with_capacity(tokens) };
    let mut last = Instant::now();
    let mut observe = |token: Token| {
        if token.sample == 0 {
            let now = Instant::now();
            run.seconds.push((now - last).as_secs_f64());
            run.ids.push(token.id);
            last = now;
        }
        ControlFlow::Continue(())
    };
    let sampling = Sampling { max_tokens: tokens, ..Sampling::default() };
    let prompts = &[Prompt { ids: prompt, samples: rows }];
    let request = Request { prompts, sampling: &sampling, stop_ids: &[], calculator: None };
    continuations(model, request, &mut observe)?;
    Ok(run)
}

/// The figures of one number of samples: tokens a second over all of them, from the seconds between a sample's tokens, and
/// the most that their key/value cache takes.
fn decoding(
    plan: &RunPlan,
    options: &InferOptions,
    rows: usize,
    seconds: Vec<f64>,
    limits: &Limits,
) -> [BenchFigure; 2] {
    let (shape, context) = (&plan.model, (DECODE_PROMPT + options.tokens / 2) as u64);
    let counts = parameter_counts(shape);
    let bytes = match options.dtype {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let step_seconds = median(&seconds);
    // Weights and cache that a step must read, at the mean context.
    let weights = (counts.lm_head + counts.transformer_matrices) * bytes;
    let step_bytes = weights + rows as u64 * kv_read_bytes(shape, context, 4);
    let gflops = rows as f64 * decode_flops(shape, context) as f64 / step_seconds / 1e9;
    let rates = vec![
        BenchRate::new(step_bytes as f64 / step_seconds / 1e9, "GB/s", limits.read_gbs),
        BenchRate::new(gflops, "GFLOP/s", limits.gemm_gflops),
    ];
    let name = format!("decoding, {rows} samples ({} tokens after {DECODE_PROMPT})", options.tokens);
    let cache = cache_bytes(shape, rows as u64, DECODE_PROMPT + options.tokens) as f64 / f64::from(1 << 20);
    let cache = BenchFigure::new(format!("{name}: cache"), "MiB", Better::Neither, cache);
    let rate = BenchFigure::new(name, "tok/s", Better::Higher, rows as f64 / step_seconds);
    [BenchFigure { seconds, rates, ..rate }, cache]
}
