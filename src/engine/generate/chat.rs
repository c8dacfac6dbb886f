//! A conversation whose history stays in the key/value cache (`scripts/chat_cli.py`): each turn computes what is new.

use std::ops::ControlFlow;

use super::engine::{Batch, End, Prompt, Request, Token};
use super::tool::ToolIds;
use super::{GenerateError, Sampling};
use crate::model::{Gpt, KvCache};
use crate::tokenizer::{Tokenizer, special};

/// A conversation with a model.
#[derive(Debug)]
pub struct Chat<'m> {
    model: &'m Gpt,
    tokenizer: &'m Tokenizer,
    sampling: Sampling,
    system: Option<String>,
    /// All that was said, as ids.
    ids: Vec<u32>,
    /// Keys and values of as many of these as were computed; none before the first turn.
    cache: Option<KvCache>,
    turns: u64,
}

/// What the assistant said.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The new tokens, calls of the calculator and its answers among them.
    pub tokens: Vec<Token>,
    /// Why there are no more.
    pub end: End,
    /// Tokens that were computed before the first of the reply: what was new since the last.
    pub prefilled: usize,
}

impl<'m> Chat<'m> {
    /// An empty conversation. `sampling` bounds each reply; a system message is put before the first user's message, as the
    /// baseline renders it.
    ///
    /// # Errors
    /// Senseless settings.
    pub fn new(
        model: &'m Gpt,
        tokenizer: &'m Tokenizer,
        sampling: Sampling,
        system: Option<String>,
    ) -> Result<Self, GenerateError> {
        sampling.check()?;
        let ids = vec![tokenizer.bos_id()];
        Ok(Self { model, tokenizer, sampling, system, ids, cache: None, turns: 0 })
    }

    /// Forgets what was said; the system message stays.
    pub fn clear(&mut self) {
        self.ids.truncate(1);
        self.cache = None;
    }

    /// All that was said, as ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Says something, and has the model reply; `observe` is told each token, and may stop the reply, which then stands as
    /// far as it came.
    ///
    /// # Errors
    /// A model that fails; the turn is then taken back.
    pub fn say(
        &mut self,
        words: &str,
        observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
    ) -> Result<Reply, GenerateError> {
        let before = self.ids.len();
        let reply = self.turn(words, observe);
        if reply.is_err() {
            self.ids.truncate(before);
            self.cache = None;
        }
        reply
    }

    fn turn(
        &mut self,
        words: &str,
        observe: &mut (dyn FnMut(Token) -> ControlFlow<()> + Send),
    ) -> Result<Reply, GenerateError> {
        let special = |name| self.tokenizer.special_id(name);
        self.ids.extend(special(special::USER_START));
        match &self.system {
            Some(system) if self.ids.len() == 2 => {
                self.tokenizer.encode_into(&format!("{system}\n\n{words}"), &mut self.ids);
            }
            _ => self.tokenizer.encode_into(words, &mut self.ids),
        }
        self.ids.extend(special(special::USER_END));
        self.ids.extend(special(special::ASSISTANT_START));
        let end = special(special::ASSISTANT_END);
        let stop: Vec<u32> = end.into_iter().chain([self.tokenizer.bos_id()]).collect();
        let seed = self.sampling.seed.wrapping_add(self.turns);
        let sampling = Sampling { seed, ..self.sampling.clone() };
        let prompts = &[Prompt { ids: &self.ids, samples: 1 }];
        let calculator = Some(self.tokenizer);
        let request = Request { prompts, sampling: &sampling, stop_ids: &stop, calculator };
        let (model, mut cache) = (self.model, self.cache.take());
        let (reply, cache) = model.decoding(|decoder| {
            let mut cache = match cache.take() {
                Some(cache) => cache,
                None => decoder.new_cache(self.ids.len() + sampling.max_tokens)?,
            };
            let new = &self.ids[cache.len()..];
            let first = decoder.prefill(new, &mut cache)?.to_vec();
            let mut batch = Batch::new(request, ToolIds::of(self.tokenizer));
            batch.begin(1);
            batch.decode(decoder, &mut cache, &first, &[0], observe)?;
            let sample = batch.finished().pop();
            let (tokens, end) = sample.map_or((Vec::new(), End::Stopped), |sample| (sample.tokens, sample.end));
            Ok::<_, GenerateError>((Reply { tokens, end, prefilled: new.len() }, cache))
        })??;
        self.cache = Some(cache);
        self.turns += 1;
        self.ids.extend(reply.tokens.iter().map(|token| token.id));
        self.ids.extend(end);
        Ok(reply)
    }
}
