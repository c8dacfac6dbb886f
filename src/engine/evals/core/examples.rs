//! From a question to token sequences and the positions on which it is judged.

use super::prompts::render;
use super::{Item, PythonRandom, Task, TaskKind};
use crate::evals::EvalError;
use crate::model::Continuation;
use crate::tokenizer::Tokenizer;

/// Seed of the few-shot choice for the first example; each next one's is one higher.
const SHOTS_SEED: u64 = 1234;

/// One option of a question: tokens, of which those from `start` on are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Tokens, the first is <|bos|>.
    pub tokens: Vec<u32>,
    /// First judged token. Those before it are only context.
    pub start: usize,
}

impl Sequence {
    /// As the model takes it.
    pub(super) fn continuation(&self) -> Continuation<'_> {
        Continuation { tokens: &self.tokens, start: self.start }
    }
}

/// A question in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posed {
    /// Position in evaluation order.
    pub index: usize,
    /// Its options; one for language modelling.
    pub sequences: Vec<Sequence>,
    /// The right option; none for language modelling.
    pub gold: Option<usize>,
    /// Tokens cut off on the left, over all options.
    pub cropped: usize,
}

/// Chooses the examples, renders and tokenizes the question at `index`, and cuts options longer than `max_tokens`.
pub(super) fn pose(task: &Task, index: usize, tokenizer: &Tokenizer, max_tokens: usize) -> Result<Posed, EvalError> {
    let fail = |reason: String| EvalError::Example { task: task.label.clone(), example: index, reason };
    let item = task.items.get(index).ok_or_else(|| fail("there is no such example".into()))?;
    let prompts = render(task, item, &shots(task, index)?);
    let tokens: Vec<Vec<u32>> = prompts
        .iter()
        .map(|prompt| {
            let mut tokens = vec![tokenizer.bos_id()];
            tokenizer.encode_into(prompt, &mut tokens);
            tokens
        })
        .collect();
    let mut sequences = match task.kind {
        TaskKind::MultipleChoice => after_common_prefix(tokens),
        TaskKind::Schema => from_common_suffix(tokens),
        TaskKind::LanguageModeling => vec![continuation(tokens).map_err(&fail)?],
    };
    let mut cropped = 0;
    for sequence in &mut sequences {
        cropped += crop(sequence, max_tokens).map_err(&fail)?;
    }
    let gold = match item {
        Item::MultipleChoice { gold, .. } | Item::Schema { gold, .. } => Some(*gold),
        Item::LanguageModeling { .. } => None,
    };
    Ok(Posed { index, sequences, gold, cropped })
}

/// The examples shown before the question at `index`: drawn among all others.
fn shots(task: &Task, index: usize) -> Result<Vec<&Item>, EvalError> {
    if task.shots == 0 {
        return Ok(Vec::new());
    }
    let others: Vec<usize> = (0..task.items.len()).filter(|&other| other != index).collect();
    let drawn = PythonRandom::new(SHOTS_SEED + index as u64).sample(&others, task.shots);
    let too_few =
        || EvalError::TooFewExamples { task: task.label.clone(), shots: task.shots, examples: task.items.len() };
    Ok(drawn.ok_or_else(too_few)?.into_iter().filter_map(|other| task.items.get(other)).collect())
}

/// Multiple choice: what is judged begins where the options part.
fn after_common_prefix(tokens: Vec<Vec<u32>>) -> Vec<Sequence> {
    let start = common_prefix(&tokens);
    tokens.into_iter().map(|tokens| Sequence { tokens, start }).collect()
}

/// Schema: what is judged is the end that all options share.
fn from_common_suffix(tokens: Vec<Vec<u32>>) -> Vec<Sequence> {
    let shared = common_length(&tokens, |sequence, at| sequence.iter().rev().nth(at).copied());
    let sequence = |tokens: Vec<u32>| Sequence { start: tokens.len() - shared, tokens };
    tokens.into_iter().map(sequence).collect()
}

/// Language modelling: what is judged is what the longer prompt adds to the shorter.
fn continuation(tokens: Vec<Vec<u32>>) -> Result<Sequence, String> {
    let [without, with] = tokens.as_slice() else { return Err("it has no two prompts".into()) };
    if with.len() <= without.len() || !with.starts_with(without) {
        return Err("in tokens, the prompt is no proper prefix of prompt and continuation".into());
    }
    Ok(Sequence { tokens: with.clone(), start: without.len() })
}

/// Number of leading tokens that all sequences share.
fn common_prefix(sequences: &[Vec<u32>]) -> usize {
    common_length(sequences, |sequence, at| sequence.get(at).copied())
}

fn common_length(sequences: &[Vec<u32>], token: impl Fn(&[u32], usize) -> Option<u32>) -> usize {
    let shortest = sequences.iter().map(Vec::len).min().unwrap_or_default();
    let same = |at: &usize| {
        let mut tokens = sequences.iter().map(|sequence| token(sequence, *at));
        let first = tokens.next().flatten();
        tokens.all(|other| other == first)
    };
    (0..shortest).take_while(same).count()
}

/// Cuts a sequence from the left to `max_tokens`; gives how many tokens went.
fn crop(sequence: &mut Sequence, max_tokens: usize) -> Result<usize, String> {
    let surplus = sequence.tokens.len().saturating_sub(max_tokens);
    if surplus == 0 {
        return Ok(0);
    }
    if sequence.start <= surplus {
        let judged = sequence.tokens.len() - sequence.start;
        return Err(format!("its answer of {judged} tokens leaves no context within {max_tokens} tokens"));
    }
    sequence.tokens.drain(..surplus);
    sequence.start -= surplus;
    Ok(surplus)
}
