//! `nanochat metrics`: steps and evaluations of an experiment for other programs.

use std::path::PathBuf;

use nanochat_artifacts::write_atomic;

use super::{CliError, CliResult, Exit, names, report};
use crate::metrics::Metrics;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of an experiment, or its results folder
    #[arg(add = names::experiments())]
    experiment: String,
    /// What to write
    #[arg(long, value_enum)]
    to: Layout,
    /// The file, or with `--to tensorboard` the folder; CSV and JSON lines go to standard output without it
    #[arg(long, value_name = "PATH", required_if_eq("to", "tensorboard"))]
    out: Option<PathBuf>,
    /// Folder of the project, which holds `results/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layout {
    /// One table, a row a step and a row an evaluation
    Csv,
    /// One JSON object a line
    Jsonl,
    /// Event files, one a run, for `tensorboard --logdir`
    Tensorboard,
}

pub fn execute(args: Args) -> CliResult {
    let (_, folder) = report::find(&args.experiment, &args.project)?;
    let metrics = Metrics::read(&folder).map_err(CliError::failed)?;
    if metrics.is_empty() {
        return Err(CliError::usage(
            format!("no run of `{}` has a step or an evaluation", args.experiment),
            Some("`nanochat run SPEC` trains them"),
        ));
    }
    let text = match args.to {
        Layout::Csv => metrics.csv(),
        Layout::Jsonl => metrics.jsonl(),
        Layout::Tensorboard => {
            let out = args.out.unwrap_or_default();
            for file in metrics.write_tensorboard(&out).map_err(CliError::failed)? {
                say!("{}", file.display());
            }
            return Ok(Exit::Done);
        }
    };
    match &args.out {
        Some(out) => {
            write_atomic(out, text.as_bytes()).map_err(CliError::failed)?;
            say!("{}: {} rows", out.display(), metrics.len());
        }
        None => super::output::text(&super::outside::lines(&text)),
    }
    Ok(Exit::Done)
}
