//! Carries a bundle's tasks out.

use rayon::prelude::*;
use serde::Serialize;

use super::examples::{Posed, pose};
use super::score::{Judged, is_right};
use super::{Bundle, Task};
use crate::data::DataError;
use crate::evals::EvalError;
use crate::model::{Continuation, Gpt, score_row};
use crate::tokenizer::Tokenizer;

/// Questions of a task that are in memory at a time.
const QUESTIONS: usize = 512;

/// How options are computed; the answers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// One forward pass a question over all options in full, as the baseline does it.
    PerExample,
    /// Questions share passes, and what options and questions begin with in common is computed once.
    #[default]
    Shared,
}

/// Settings of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreOptions {
    /// How options are computed.
    pub method: Method,
    /// Options longer than this are cut from the left, and the cut is recorded.
    pub max_prompt_tokens: usize,
    /// Tokens that a pass over several questions may hold.
    pub batch_tokens: usize,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self { method: Method::Shared, max_prompt_tokens: 32_768, batch_tokens: 4_096 }
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
    /// Right or wrong by example, in evaluation order, without those that are left out.
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

/// Evaluates every task; `finished` is told of each as it is done, and the work is given up with [`DataError::Stopped`] when
/// `stop` says so.
///
/// All questions are posed, and those that can't be are refused, before the model runs.
pub fn evaluate(
    model: &Gpt,
    tokenizer: &Tokenizer,
    bundle: &Bundle,
    options: &CoreOptions,
    finished: &mut dyn FnMut(&TaskResult),
    stop: &dyn Fn() -> bool,
) -> Result<CoreResult, EvalError> {
    for task in &bundle.tasks {
        let refused = |index| pose(task, index, tokenizer, options.max_prompt_tokens).err();
        if let Some(error) = bundle.evaluated(task).into_par_iter().find_map_first(refused) {
            return Err(error);
        }
    }
    let mut tasks = Vec::new();
    for task in &bundle.tasks {
        let result = evaluate_task(model, tokenizer, task, &bundle.evaluated(task), options, stop)?;
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
    evaluated: &[usize],
    options: &CoreOptions,
    stop: &dyn Fn() -> bool,
) -> Result<TaskResult, EvalError> {
    let (mut correct, mut cropped_tokens) = (Vec::with_capacity(evaluated.len()), 0);
    for questions in evaluated.chunks(QUESTIONS) {
        if stop() {
            return Err(DataError::Stopped.into());
        }
        let posed = questions.into_par_iter().map(|index| pose(task, *index, tokenizer, options.max_prompt_tokens));
        let posed: Vec<Posed> = posed.collect::<Result<_, _>>()?;
        correct.extend(answers(model, &posed, options)?);
        cropped_tokens += posed.iter().map(|posed| posed.cropped).sum::<usize>();
    }
    let right = correct.iter().filter(|right| **right).count();
    let accuracy = f64::from(right as f32 / correct.len() as f32);
    let guessing = 0.01 * task.random_baseline;
    let centered = (accuracy - guessing) / (1.0 - guessing);
    Ok(TaskResult { label: task.label.clone(), accuracy, centered, correct, cropped_tokens })
}

/// Whether each question is answered rightly.
fn answers(model: &Gpt, posed: &[Posed], options: &CoreOptions) -> Result<Vec<bool>, EvalError> {
    let judged = match options.method {
        Method::PerExample => posed.iter().map(|posed| in_full(model, posed)).collect::<Result<_, _>>()?,
        Method::Shared => together(model, posed, options.batch_tokens)?,
    };
    Ok(posed.iter().zip(&judged).map(|(posed, options)| is_right(posed, options)).collect())
}

/// All options of a question in one forward pass.
fn in_full(model: &Gpt, posed: &Posed) -> Result<Vec<Judged>, EvalError> {
    let rows: Vec<&[u32]> = posed.sequences.iter().map(|sequence| sequence.tokens.as_slice()).collect();
    let logits = model.padded_logits(&rows)?;
    let judged = posed.sequences.iter().zip(logits).map(|(sequence, logits)| {
        let scores = score_row(&logits, sequence.continuation())?;
        Ok(Judged::new(sequence, &scores))
    });
    judged.collect()
}

/// The options of all questions at once.
fn together(model: &Gpt, posed: &[Posed], batch_tokens: usize) -> Result<Vec<Vec<Judged>>, EvalError> {
    let sequences: Vec<Continuation<'_>> =
        posed.iter().flat_map(|posed| &posed.sequences).map(|sequence| sequence.continuation()).collect();
    let mut scores = model.scores(&sequences, batch_tokens)?.into_iter();
    let judged = posed.iter().map(|posed| {
        let scores = posed.sequences.iter().zip(scores.by_ref());
        scores.map(|(sequence, scores)| Judged::new(sequence, &scores)).collect()
    });
    Ok(judged.collect())
}
