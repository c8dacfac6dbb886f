//! Continues prompts, all samples together.

use std::ops::ControlFlow;

use super::GenerateError;
use super::sampling::{Chosen, Draws, Sampling, score};
use super::tool::{Tool, ToolIds};
use crate::model::{Decoder, Gpt, KvCache, cache_bytes};
use crate::random::SplitMix64;
use crate::tokenizer::Tokenizer;

/// A prompt, and how many continuations it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// Token ids, at least one. May be more than the context that the model was trained with.
    pub ids: &'a [u32],
    /// How many continuations.
    pub samples: usize,
}

/// What is to be generated.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The prompts, continued side by side.
    pub prompts: &'a [Prompt<'a>],
    /// How tokens are chosen.
    pub sampling: &'a Sampling,
    /// Tokens that end a sample.
    pub stop_ids: &'a [u32],
    /// Answers calls of the calculator in the words of this tokenizer; none: they are text like any other.
    pub calculator: Option<&'a Tokenizer>,
}

/// A token of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// The sample's number, counted over all prompts.
    pub sample: usize,
    /// The token.
    pub id: u32,
    /// Logarithm of the probability that the model gives it (at temperature 1, among all tokens).
    pub log_probability: f64,
    /// It was not chosen by the model: the calculator's answer.
    pub forced: bool,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The new tokens, without the one that ended it.
    pub tokens: Vec<Token>,
    /// Why there are no more.
    pub end: End,
}

impl Sample {
    /// Ids of the new tokens.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// Why a sample has no more tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has as many as were asked for.
    Length,
    /// This token came, which isn't among the sample's.
    Stop(u32),
    /// Who watched had enough.
    Stopped,
}

/// Continues a prompt `samples` times. Each result holds the new tokens alone; it ends before the first of `stop_ids`.
///
/// # Errors
/// See [`continuations`].
pub fn generate(
    model: &Gpt,
    prompt: &[u32],
    samples: usize,
    sampling: &Sampling,
    stop_ids: &[u32],
) -> Result<Vec<Vec<u32>>, GenerateError> {
    let prompts = &[Prompt { ids: prompt, samples }];
    let samples = continuations(model, Request { prompts, sampling, stop_ids, calculator: None }, &mut go_on)?;
    Ok(samples.iter().map(Sample::ids).collect())
}

/// Watches without a word.
fn go_on(_: Token) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Continues prompts, and tells each token as it comes; those that end a sample aren't told. `observe` may stop it all.
///
/// # Errors
/// An empty prompt, senseless settings, a cache that would go past the limit, a model that fails.
pub fn continuations(
    model: &Gpt,
    request: Request<'_>,
    observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
) -> Result<Vec<Sample>, GenerateError> {
    check(model, &request)?;
    let tool = request.calculator.and_then(ToolIds::of);
    model.decoding(|decoder| {
        let mut batch = Batch::new(request, tool);
        if request.sampling.max_tokens == 0 {
            return Ok(batch.finished());
        }
        if decoder.takes_ragged_rows() {
            batch.carry_out(decoder, request.prompts, observe)?;
        } else {
            for prompt in request.prompts {
                batch.carry_out(decoder, std::slice::from_ref(prompt), observe)?;
            }
        }
        Ok(batch.finished())
    })?
}

fn check(model: &Gpt, request: &Request<'_>) -> Result<(), GenerateError> {
    let Request { prompts, sampling, .. } = request;
    sampling.check()?;
    if prompts.iter().any(|prompt| prompt.ids.is_empty()) {
        return Err(GenerateError::EmptyPrompt);
    }
    let rows = prompts.iter().map(|prompt| prompt.samples).sum();
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
    let tokens = longest.saturating_add(sampling.max_tokens);
    // The prompts' own rows are held beside the samples', which share their pages.
    let bytes = cache_bytes(model.shape(), rows as u64, tokens).saturating_add(cache_bytes(
        model.shape(),
        prompts.len() as u64,
        longest,
    ));
    match sampling.max_cache_bytes {
        Some(allowed) if bytes > allowed => Err(GenerateError::CacheTooLarge { rows, tokens, bytes, allowed }),
        _ => Ok(()),
    }
}

/// All samples, finished or under way.
pub(super) struct Batch<'a> {
    request: Request<'a>,
    samples: Vec<Row<'a>>,
    /// Numbers of the samples that are under way, in the order of the cache's rows.
    active: Vec<usize>,
    /// How many samples have been begun.
    begun: usize,
    draws: Draws,
    next: Vec<u32>,
}

/// One sample.
struct Row<'a> {
    tokens: Vec<Token>,
    end: Option<End>,
    generator: SplitMix64,
    tool: Option<Tool<'a>>,
}

impl<'a> Batch<'a> {
    /// The samples of a request, none of them begun.
    pub(super) fn new(request: Request<'a>, tool: Option<ToolIds<'a>>) -> Self {
        let numbers = request.prompts.iter().flat_map(|prompt| 0..prompt.samples);
        let samples: usize = request.prompts.iter().map(|prompt| prompt.samples).sum();
        let row = |number: usize| Row {
            tokens: Vec::with_capacity(request.sampling.max_tokens.min((1 << 18) / samples.max(1))),
            end: None,
            generator: SplitMix64::of_sample(request.sampling.seed, number as u64),
            tool: tool.map(Tool::new),
        };
        let samples: Vec<Row<'a>> = numbers.map(row).collect();
        Self { request, active: Vec::new(), begun: 0, draws: Draws::default(), next: Vec::new(), samples }
    }

    /// Continues some prompts to their ends.
    fn carry_out(
        &mut self,
        decoder: &mut Decoder<'_>,
        prompts: &[Prompt<'_>],
        observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
    ) -> Result<(), GenerateError> {
        let Some((mut cache, first)) = self.prefill(decoder, prompts)? else { return Ok(()) };
        let by: Vec<usize> = (0..prompts.len()).flat_map(|at| vec![at; prompts[at].samples]).collect();
        self.decode(decoder, &mut cache, &first, &by, observe)
    }

    /// Begins the next samples.
    pub(super) fn begin(&mut self, count: usize) {
        self.active.extend(self.begun..self.begun + count);
        self.begun += count;
    }

    /// Puts a sample in the midst of a call.
    #[cfg(test)]
    pub(super) fn give(&mut self, sample: usize, tool: Tool<'a>) {
        self.samples[sample].tool = Some(tool);
    }

    /// Continues the samples that were begun, whose prompts the cache's rows hold, to their ends. Each chooses its first
    /// token by the logits in `first` that `by` names, then by its own. The last rows stay in the cache.
    pub(super) fn decode(
        &mut self,
        decoder: &mut Decoder<'_>,
        cache: &mut KvCache,
        first: &[f32],
        by: &[usize],
        observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
    ) -> Result<(), GenerateError> {
        let vocab = decoder.model().shape().vocab_size;
        let mut stopped = self.choose(|row| &first[by[row] * vocab..][..vocab], observe).is_break();
        while !stopped && self.active.iter().any(|sample| self.samples[*sample].end.is_none()) {
            self.leave(cache)?;
            let logits = decoder.step(&self.next, cache)?;
            stopped = self.choose(|row| &logits[row * vocab..][..vocab], observe).is_break();
        }
        self.active.clear();
        Ok(())
    }

    /// Computes the prompts: a cache with a row a sample, and the logits after each prompt. None without a sample.
    fn prefill(
        &mut self,
        decoder: &mut Decoder<'_>,
        prompts: &[Prompt<'_>],
    ) -> Result<Option<(KvCache, Vec<f32>)>, GenerateError> {
        let (mut cache, mut first): (Option<KvCache>, Vec<f32>) = (None, Vec::new());
        for Prompt { ids, samples } in prompts {
            let capacity = ids.len().saturating_add(self.request.sampling.max_tokens);
            let mut own = decoder.new_cache(ids.len())?;
            first.extend_from_slice(decoder.prefill(ids, &mut own)?);
            let rows = own.repeat(*samples, capacity)?;
            match &mut cache {
                None => cache = Some(rows),
                Some(cache) => cache.join(rows)?,
            }
            self.begin(*samples);
        }
        Ok(cache.filter(|_| !self.active.is_empty()).map(|cache| (cache, first)))
    }

    /// Chooses the next token of each sample under way, by the logits of its row.
    fn choose<'l>(
        &mut self,
        logits: impl Fn(usize) -> &'l [f32],
        observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
    ) -> ControlFlow<()> {
        let Request { sampling, stop_ids, .. } = self.request;
        self.next.clear();
        for (at, sample) in self.active.iter().enumerate() {
            let row = &mut self.samples[*sample];
            let forced = row.tool.as_mut().and_then(Tool::forced);
            let Chosen { id, log_probability } = match forced {
                Some(id) => score(logits(at), id),
                None => self.draws.choose(logits(at), sampling, &mut row.generator),
            };
            self.next.push(id);
            if stop_ids.contains(&id) {
                row.end = Some(End::Stop(id));
                continue;
            }
            let token = Token { sample: *sample, id, log_probability, forced: forced.is_some() };
            row.tokens.push(token);
            if row.tokens.len() >= sampling.max_tokens {
                row.end = Some(End::Length);
            }
            if let Some(tool) = &mut row.tool {
                tool.take(id);
            }
            observe(token)?;
        }
        ControlFlow::Continue(())
    }

    /// Lets the rows go whose samples have ended.
    fn leave(&mut self, cache: &mut KvCache) -> Result<(), GenerateError> {
        let Self { active, samples, next, .. } = self;
        if active.iter().all(|sample| samples[*sample].end.is_none()) {
            return Ok(());
        }
        cache.retain(|row| active.get(row).is_some_and(|sample| samples[*sample].end.is_none()))?;
        let mut row = 0..;
        next.retain(|_| row.next().is_some_and(|row| samples[active[row]].end.is_none()));
        active.retain(|sample| samples[*sample].end.is_none());
        Ok(())
    }

    /// The samples as they are.
    pub(super) fn finished(self) -> Vec<Sample> {
        let no_more = if self.request.sampling.max_tokens == 0 { End::Length } else { End::Stopped };
        let sample = |row: Row<'_>| Sample { tokens: row.tokens, end: row.end.unwrap_or(no_more) };
        self.samples.into_iter().map(sample).collect()
    }
}
