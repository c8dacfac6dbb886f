//! Carries a bundle's tasks out.

use candle_core::{IndexOp, Tensor};
use serde::Serialize;

use super::examples::{Posed, Sequence, common_prefix, pose};
use super::score::{Judged, is_right, judge};
use super::{Bundle, Task};
use crate::evals::EvalError;
use crate::model::Gpt;
use crate::tokenizer::Tokenizer;

/// How options are computed; the answers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// One forward pass a question over all options in full, as the baseline does it.
    #[default]
    PerExample,
    /// A prefix that a question's options share is computed once; questions without one share batches.
    Shared,
}

/// Settings of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreOptions {
    /// How options are computed.
    pub method: Method,
    /// Options longer than this are cut from the left, and the cut is recorded.
    pub max_prompt_tokens: usize,
    /// Tokens that a batch of several questions may hold, padding included.
    pub batch_tokens: usize,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self { method: Method::PerExample, max_prompt_tokens: 32_768, batch_tokens: 4_096 }
    }
}

/// Result of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskResult {
    /// The task's name.
    pub label: String,
    /// Share of right answers, rounded to f32 as the baseline's is.
    pub accuracy: f64,
    /// 0 for guessing, 1 for all right.
    pub centered: f64,
    /// Right or wrong by example, in evaluation order.
    pub correct: Vec<bool>,
    /// Tokens cut off on the left, over all options of all examples.
    pub cropped_tokens: usize,
}

/// Result of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoreResult {
    /// By task, in the bundle's order.
    pub tasks: Vec<TaskResult>,
    /// Mean of the centred accuracies: the CORE metric.
    pub core_metric: f64,
}

/// Evaluates every task; `finished` is told of each as it is done.
///
/// All questions are posed, and those that can't be are refused, before the model runs.
pub fn evaluate(
    model: &Gpt,
    tokenizer: &Tokenizer,
    bundle: &Bundle,
    options: &CoreOptions,
    finished: &mut dyn FnMut(&TaskResult),
) -> Result<CoreResult, EvalError> {
    for task in &bundle.tasks {
        for index in 0..task.items.len() {
            pose(task, index, tokenizer, options.max_prompt_tokens)?;
        }
    }
    let mut tasks = Vec::new();
    for task in &bundle.tasks {
        let result = evaluate_task(model, tokenizer, task, options)?;
        finished(&result);
        tasks.push(result);
    }
    let total: f64 = tasks.iter().map(|task| task.centered).sum();
    let core_metric = total / tasks.len().max(1) as f64;
    Ok(CoreResult { tasks, core_metric })
}

fn evaluate_task(
    model: &Gpt,
    tokenizer: &Tokenizer,
    task: &Task,
    options: &CoreOptions,
) -> Result<TaskResult, EvalError> {
    let posed = (0..task.items.len()).map(|index| pose(task, index, tokenizer, options.max_prompt_tokens));
    let posed: Vec<Posed> = posed.collect::<Result<_, _>>()?;
    let mut correct = vec![false; posed.len()];
    for (index, right) in answers(model, &posed, options, tokenizer.bos_id())? {
        if let Some(slot) = correct.get_mut(index) {
            *slot = right;
        }
    }
    let right = correct.iter().filter(|right| **right).count();
    let accuracy = f64::from(right as f32 / correct.len() as f32);
    let guessing = 0.01 * task.random_baseline;
    let centered = (accuracy - guessing) / (1.0 - guessing);
    let cropped_tokens = posed.iter().map(|posed| posed.cropped).sum();
    Ok(TaskResult { label: task.label.clone(), accuracy, centered, correct, cropped_tokens })
}

/// Right or wrong by position in evaluation order, in any order.
fn answers(model: &Gpt, posed: &[Posed], options: &CoreOptions, padding: u32) -> Result<Vec<(usize, bool)>, EvalError> {
    let mut answers = Vec::new();
    let mut together: Vec<&Posed> = Vec::new();
    for posed in posed {
        let judged = match options.method {
            Method::PerExample => in_full(model, &[posed], padding)?,
            Method::Shared if saves_by_sharing(posed) => vec![over_shared_prefix(model, posed, padding)?],
            Method::Shared => {
                together.push(posed);
                continue;
            }
        };
        answers.extend(judged.iter().map(|options| (posed.index, is_right(posed, options))));
    }
    // Sequences of like lengths waste the least padding.
    together.sort_by_key(|posed| (longest(posed), posed.index));
    for batch in batches(&together, options.batch_tokens) {
        let judged = in_full(model, batch, padding)?;
        answers.extend(batch.iter().zip(&judged).map(|(posed, options)| (posed.index, is_right(posed, options))));
    }
    Ok(answers)
}

fn longest(posed: &Posed) -> usize {
    posed.sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or_default()
}

/// Whether computing the shared prefix once does away with a fifth of the tokens.
fn saves_by_sharing(posed: &Posed) -> bool {
    let full: usize = posed.sequences.iter().map(|sequence| sequence.tokens.len()).sum();
    let saved = shared_prefix(posed) * posed.sequences.len().saturating_sub(1);
    saved * 5 > full
}

/// Leading tokens that all options share and none of which is judged.
fn shared_prefix(posed: &Posed) -> usize {
    let tokens: Vec<Vec<u32>> = posed.sequences.iter().map(|sequence| sequence.tokens.clone()).collect();
    let first_judged = posed.sequences.iter().map(|sequence| sequence.start).min().unwrap_or_default();
    common_prefix(&tokens).min(first_judged)
}

/// Cuts questions, sorted by length, into runs whose padded sequences stay within `limit` tokens, or single ones.
fn batches<'a, 'b>(posed: &'b [&'a Posed], limit: usize) -> impl Iterator<Item = &'b [&'a Posed]> {
    let mut rest = posed;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let within = rest.iter().take_while(|posed| {
            rows += posed.sequences.len();
            rows * longest(posed) <= limit
        });
        let count = within.count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// All options of all questions in one forward pass, padded on the right, where causal attention never looks.
fn in_full(model: &Gpt, posed: &[&Posed], padding: u32) -> Result<Vec<Vec<Judged>>, EvalError> {
    let sequences: Vec<&Sequence> = posed.iter().flat_map(|posed| &posed.sequences).collect();
    let rows: Vec<&[u32]> = sequences.iter().map(|sequence| sequence.tokens.as_slice()).collect();
    let logits = model.logits(&stacked(model, &rows, padding)?)?;
    let mut judged = sequences.iter().enumerate().map(|(row, sequence)| judge(sequence, &logits.i(row)?, 1));
    posed.iter().map(|posed| judged.by_ref().take(posed.sequences.len()).collect()).collect()
}

/// The shared prefix once, then what is left of each option, padded on the right.
fn over_shared_prefix(model: &Gpt, posed: &Posed, padding: u32) -> Result<Vec<Judged>, EvalError> {
    let shared = shared_prefix(posed);
    let tokens = posed.sequences.first().map_or(&[][..], |sequence| &sequence.tokens);
    let prefix = tokens.get(..shared).unwrap_or_default();
    let mut cache = model.new_cache(1, shared)?;
    let before = model.logits_cached(&stacked(model, &[prefix], padding)?, &mut cache)?.i((0, shared - 1..))?;
    let rests = posed.sequences.iter().map(|sequence| sequence.tokens.get(shared..).unwrap_or_default());
    let rests: Vec<&[u32]> = rests.collect();
    if rests.iter().all(|rest| rest.is_empty()) {
        return posed.sequences.iter().map(|sequence| judge(sequence, &before, shared)).collect();
    }
    let width = rests.iter().map(|rest| rest.len()).max().unwrap_or_default();
    let mut cache = cache.repeat(rests.len(), shared + width)?;
    let after = model.logits_cached(&stacked(model, &rests, padding)?, &mut cache)?;
    let judged = posed.sequences.iter().enumerate().map(|(row, sequence)| {
        let logits = Tensor::cat(&[&before, &after.i(row)?], 0)?;
        judge(sequence, &logits, shared)
    });
    judged.collect()
}

/// Rows padded to the longest, as ids (B, T).
fn stacked(model: &Gpt, rows: &[&[u32]], padding: u32) -> Result<Tensor, EvalError> {
    let width = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    let mut ids = Vec::with_capacity(rows.len() * width);
    for row in rows {
        ids.extend_from_slice(row);
        ids.resize(ids.len() + width - row.len(), padding);
    }
    Ok(Tensor::from_vec(ids, (rows.len(), width), model.device())?)
}
