//! `nanochat generate`: text from a checkpoint.

use std::path::PathBuf;

use candle_core::Device;
use serde::Serialize;

use super::{CliError, CliResult, Exit, Format};
use crate::evals::{Sampling, generate};
use crate::trained::Trained;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's folder, its checkpoints/, one of them, or the baseline's folder of model_….pt files or one of these.
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// The step to use; the newest by default.
    #[arg(long)]
    step: Option<u64>,
    /// The tokenizer, where none is stored with the checkpoint.
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Text to continue; empty by default.
    #[arg(long, default_value = "")]
    prompt: String,
    /// New tokens at most.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Draw among this many of the likeliest tokens; 0: among all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How many continuations.
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    step: u64,
    prompt: String,
    prompt_ids: Vec<u32>,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    text: String,
    ids: Vec<u32>,
}

pub fn execute(args: Args) -> CliResult {
    let Trained { model, tokenizer, step, remarks, .. } =
        Trained::open(&args.checkpoint, args.step, args.tokenizer.as_deref(), &Device::Cpu)
            .map_err(CliError::invalid)?;
    for remark in remarks {
        eprintln!("note: {remark}");
    }
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: (args.top_k > 0).then_some(args.top_k),
        seed: args.seed,
        ..Sampling::default()
    };
    let prompt_ids = tokenizer.encode_document(&args.prompt);
    let stop: Vec<u32> = tokenizer.special_id("<|assistant_end|>").into_iter().chain([tokenizer.bos_id()]).collect();
    let samples = generate(&model, &prompt_ids, args.samples, &sampling, &stop).map_err(CliError::failed)?;
    let samples = samples.into_iter().map(|ids| Sample { text: tokenizer.decode(&ids), ids }).collect();
    print(&Report { step, prompt: args.prompt, prompt_ids, samples }, args.format)
}

fn print(report: &Report, format: Format) -> CliResult {
    if format == Format::Json {
        let text = serde_json::to_string_pretty(report).map_err(|error| CliError::usage(error, None))?;
        println!("{text}");
        return Ok(Exit::Done);
    }
    for (number, sample) in report.samples.iter().enumerate() {
        if report.samples.len() > 1 {
            println!("--- {}", number + 1);
        }
        println!("{}{}", report.prompt, sample.text);
    }
    Ok(Exit::Done)
}
