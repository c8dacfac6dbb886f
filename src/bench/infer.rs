//! A plan's model at inference: how long a prompt takes, and each token after it, for samples side by side.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use super::BenchError;
use super::limits::{self, median};
use crate::run::{Resources, environment, open_device};
use nanochat_artifacts::{BenchDecoding, BenchInfer};
use nanochat_engine::device::memory;
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
    /// Numbers of samples side by side.
    pub batch_sizes: Vec<usize>,
    /// How often each measurement is repeated.
    pub repeats: usize,
    /// The machine is what the profile says.
    pub hardware_matches: bool,
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
    plan: &RunPlan,
    options: &InferOptions,
    resources: &Resources,
    observe: &mut dyn FnMut(&BenchDecoding),
) -> Result<BenchInfer, BenchError> {
    options.check()?;
    let model = model(plan, options, resources)?;
    let gemm_gflops = limits::gemm_gflops(Precision::F32, model.device())?;
    let read_gbs = limits::read_gbs(model.device())?;
    let prompt = prompt(&model, options.prompt_tokens);
    let (mut prefills, mut first_tokens) = (Vec::new(), Vec::new());
    for round in 0..=options.repeats {
        let (prefill, first_token) = (prefill_seconds(&model, &prompt)?, decoded(&model, &prompt, 1, 1)?.seconds[0]);
        // Buffers are made in the first round, which doesn't count.
        if round > 0 {
            prefills.push(prefill);
            first_tokens.push(first_token);
        }
    }
    let mut first_ids = Vec::new();
    let mut batches = Vec::new();
    for rows in options.batch_sizes.iter().copied() {
        let runs = (0..options.repeats).map(|_| decoded(&model, &prompt_to_decode(&model), rows, options.tokens));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        first_ids = runs.first().map(|run| run.ids.clone()).filter(|_| first_ids.is_empty()).unwrap_or(first_ids);
        let steps: Vec<f64> = runs.iter().map(|run| median(&run.seconds[1..])).collect();
        let batch = decoding(plan, options, rows, median(&steps), [gemm_gflops, read_gbs]);
        observe(&batch);
        batches.push(batch);
    }
    let prefill_seconds = median(&prefills);
    let prefill_gflops = prefill_flops(&plan.model, prompt.len() as u64) as f64 / prefill_seconds / 1e9;
    Ok(BenchInfer {
        schema: "nanochat.bench_infer/v1".to_string(),
        experiment: plan.experiment.clone(),
        plan_hash: plan.plan_hash.clone(),
        model: plan.model.clone(),
        parameters: plan.parameters.total,
        dtype: options.dtype,
        repeats: options.repeats as u64,
        prompt_tokens: prompt.len() as u64,
        first_token_seconds: median(&first_tokens),
        prefill_seconds,
        prefill_tokens_per_second: prompt.len() as f64 / prefill_seconds,
        prefill_gflops,
        prefill_flop_share: prefill_gflops / gemm_gflops,
        new_tokens: options.tokens as u64,
        decode_prompt_tokens: DECODE_PROMPT as u64,
        batches,
        gemm_gflops,
        read_gbs,
        first_ids,
        peak_rss_bytes: memory::peak_resident_bytes(),
        environment: environment(plan, options.hardware_matches),
    })
}

fn model(plan: &RunPlan, options: &InferOptions, resources: &Resources) -> Result<Gpt, BenchError> {
    let device = open_device(plan)?;
    let mut model = match &options.weights {
        None => resources.model(plan, &device)?,
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

fn prompt_to_decode(model: &Gpt) -> Vec<u32> {
    prompt(model, DECODE_PROMPT)
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

/// The figures of one number of samples.
fn decoding(
    plan: &RunPlan,
    options: &InferOptions,
    rows: usize,
    step_seconds: f64,
    [gemm_gflops, read_gbs]: [f64; 2],
) -> BenchDecoding {
    let (shape, context) = (&plan.model, (DECODE_PROMPT + options.tokens / 2) as u64);
    let counts = parameter_counts(shape);
    let bytes = match options.dtype {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let weights = (counts.lm_head + counts.transformer_matrices) * bytes;
    let step_bytes = weights + rows as u64 * kv_read_bytes(shape, context, 4);
    let achieved_gbs = step_bytes as f64 / step_seconds / 1e9;
    let achieved_gflops = rows as f64 * decode_flops(shape, context) as f64 / step_seconds / 1e9;
    BenchDecoding {
        rows: rows as u64,
        step_seconds,
        tokens_per_second: rows as f64 / step_seconds,
        step_bytes,
        achieved_gbs,
        bandwidth_share: achieved_gbs / read_gbs,
        achieved_gflops,
        flop_share: achieved_gflops / gemm_gflops,
        cache_bytes: cache_bytes(shape, rows as u64, DECODE_PROMPT + options.tokens),
    }
}
