//! `nanochat verify`: recompute every scorecard and report, and check every document and hash.

use std::path::PathBuf;

use nanochat_artifacts::ResultsRoot;
use nanochat_lab::verify::verify;

use super::{CliError, CliResult, Exit, Format};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The results folder; the reports are in `reports/` next to it
    #[arg(default_value = "results")]
    results: PathBuf,
    /// Folder of the templates of the reports
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn execute(args: Args) -> CliResult {
    if !args.results.is_dir() {
        let help = "give the folder that holds the experiments' results, `results` by default";
        return Err(CliError::usage(format!("there is no folder `{}`", args.results.display()), Some(help)));
    }
    let root = ResultsRoot::of_results(&args.results).map_err(CliError::invalid)?;
    let found = verify(&root, args.templates.as_deref()).map_err(CliError::failed)?;
    match args.format {
        Format::Json => super::output::json(&found)?,
        Format::Text => {
            found.findings.iter().for_each(|one| say!("{}: {}", one.file, one.problem));
            say!(
                "{} experiments, {} runs, {} files: {}",
                found.experiments,
                found.runs,
                found.files,
                if found.findings.is_empty() {
                    "all as recomputed".to_string()
                } else {
                    format!("{} problems", found.findings.len())
                }
            );
        }
    }
    Ok(if found.findings.is_empty() { Exit::Done } else { Exit::Failed })
}
