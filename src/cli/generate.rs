//! `nanochat generate`: text from a checkpoint.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use nanochat_artifacts::{Document, EndedBy, GeneratedSample, Generation};
use nanochat_engine::generate::{End, Prompt, Request, Sample, Sampling, TextStream, Token, continuations};
use nanochat_engine::tokenizer::{Tokenizer, special};
use nanochat_engine::trained::Trained;
use nanochat_plan::Precision;

use super::context::CheckpointArgs;
use super::output::json;
use super::signals::stop_on_signals;
use super::{CliError, CliResult, Exit, Format, device, input, outside};
use crate::hardware;

/// The model and the type of its weights.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Type of the weights of matrix products; bf16 rounds them, and decodes faster
    #[arg(long, value_parser = device::weights(), default_value_t)]
    dtype: Precision,
    /// Print what the model writes as it is; else characters that steer a terminal are shown escaped
    #[arg(long)]
    pub(super) raw: bool,
}

impl ModelArgs {
    /// Opens the model.
    pub(super) fn open(&self) -> Result<Trained, CliError> {
        let mut trained = self.checkpoint.open()?;
        if self.dtype == Precision::Bf16 {
            trained.model.round_weights().map_err(CliError::failed)?;
        }
        Ok(trained)
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue; without it and without a file, the model starts a new text
    #[arg(long, conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// File with the text to continue, `-` for standard input
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Maximum number of new tokens
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Sample from this many most likely tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Seed of the sampling
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Number of continuations
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// A token that ends a sample, besides <|bos|> and <|assistant_end|>: a special token's name, `#` and an id, or a text
    /// that is one token. May be given several times
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,
    /// How to print the result; text streams where there is one sample
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => input::text(file)?,
        (None, None) => String::new(),
    };
    let trained = args.model.open()?;
    let tokenizer: &Tokenizer = &trained.tokenizer;
    let stop_ids = stop_ids(tokenizer, &args.stop)?;
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: (args.top_k > 0).then_some(args.top_k),
        seed: args.seed,
        max_cache_bytes: Some(hardware::this_machine().memory_bytes),
    };
    let prompt_ids = tokenizer.encode_document(&prompt);
    let stop = stop_on_signals(["", ""]);
    let streams = args.format == Format::Text && args.samples == 1;
    let mut out = Stream { tokenizer, text: TextStream::default(), is_shown: streams, raw: args.model.raw };
    if streams && out.show(&prompt).is_break() {
        return Ok(Exit::Done);
    }
    let mut observe = |token: Token| {
        if stop.requested() { ControlFlow::Break(()) } else { out.take(token.id) }
    };
    let prompts = &[Prompt { ids: &prompt_ids, samples: args.samples }];
    let request = Request { prompts, sampling: &sampling, stop_ids: &stop_ids, calculator: Some(tokenizer) };
    let samples = continuations(&trained.model, request, &mut observe).map_err(CliError::failed)?;
    if streams {
        out.end();
    } else if args.format == Format::Json {
        json(&document(&trained, &prompt, &prompt_ids, &sampling, stop_ids, &samples))?;
    } else {
        for (number, sample) in samples.iter().enumerate() {
            if samples.len() > 1 {
                say!("--- {}", number + 1);
            }
            let _ = out.show(&format!("{prompt}{}\n", tokenizer.decode(&sample.ids())));
        }
    }
    Ok(if stop.requested() { Exit::Interrupted } else { Exit::Done })
}

/// Streams text to standard output, token by token.
pub(super) struct Stream<'t> {
    pub(super) tokenizer: &'t Tokenizer,
    pub(super) text: TextStream,
    pub(super) is_shown: bool,
    /// Nothing is escaped.
    pub(super) raw: bool,
}

impl Stream<'_> {
    /// Shows the text that a token completes; breaks if standard output is closed.
    pub(super) fn take(&mut self, id: u32) -> ControlFlow<()> {
        if !self.is_shown {
            return ControlFlow::Continue(());
        }
        let text = self.text.push(self.tokenizer, id);
        self.show(&text)
    }

    /// Shows the rest of the text, and ends the line.
    pub(super) fn end(&mut self) {
        let rest = self.text.finish() + "\n";
        let _ = self.show(&rest);
    }

    fn show(&self, text: &str) -> ControlFlow<()> {
        let harmless = if self.raw { text.to_string() } else { outside::generated(text) };
        let mut out = std::io::stdout().lock();
        match out.write_all(harmless.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Ids that end a sample: the baseline's two, and the named ones.
fn stop_ids(tokenizer: &Tokenizer, named: &[String]) -> Result<Vec<u32>, CliError> {
    let own = [special::BOS, special::ASSISTANT_END].into_iter().filter_map(|name| tokenizer.special_id(name));
    let mut ids: Vec<u32> = own.collect();
    for name in named {
        let id = match (tokenizer.special_id(name), name.strip_prefix('#').map(str::parse::<u32>)) {
            (Some(id), _) => Some(id),
            (None, Some(Ok(id))) => Some(id).filter(|id| (*id as usize) < tokenizer.vocab_size()),
            _ => Some(tokenizer.encode(name)).filter(|ids| ids.len() == 1).and_then(|ids| ids.first().copied()),
        };
        let help = "name a special token such as <|user_end|>, an id as in #17, or a text that is one token: `nanochat tokenizer encode` shows";
        ids.push(id.ok_or_else(|| CliError::usage(format!("{name:?} is not one token of this model"), Some(help)))?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn document(
    trained: &Trained,
    prompt: &str,
    prompt_ids: &[u32],
    sampling: &Sampling,
    stop_ids: Vec<u32>,
    samples: &[Sample],
) -> Generation {
    let sample = |sample: &Sample| GeneratedSample {
        text: trained.tokenizer.decode(&sample.ids()),
        ids: sample.ids(),
        log_probabilities: sample.tokens.iter().map(|token| token.log_probability).collect(),
        forced: sample.tokens.iter().map(|token| token.forced).collect(),
        ended_by: match sample.end {
            End::Length => EndedBy::Length,
            End::Stop(_) => EndedBy::StopToken,
            End::Stopped => EndedBy::Interrupted,
        },
        stop_id: match sample.end {
            End::Stop(id) => Some(id),
            End::Length | End::Stopped => None,
        },
    };
    Generation {
        schema: Generation::SCHEMA.to_string(),
        step: trained.step,
        tokenizer_sha256: trained.tokenizer.sha256(),
        prompt: prompt.to_string(),
        prompt_ids: prompt_ids.to_vec(),
        max_tokens: sampling.max_tokens as u64,
        temperature: sampling.temperature,
        top_k: sampling.top_k.map(|kept| kept as u64),
        seed: sampling.seed,
        stop_ids,
        samples: samples.iter().map(sample).collect(),
    }
}
