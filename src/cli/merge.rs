//! `nanochat merge`: joins the results of shards, then judges and reports.

use std::path::PathBuf;

use nanochat_artifacts::ResultsRoot;

use super::signals::stop_on_signals;
use super::{CliError, CliResult, Exit, run};
use crate::run::merge;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of results: projects, their `results`, or folders of one experiment
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Project whose results they become
    #[arg(long, value_name = "DIR", default_value = ".")]
    into: PathBuf,
}

pub fn execute(args: Args) -> CliResult {
    let stop = stop_on_signals(["stopping", ""]);
    let root = ResultsRoot::new(&args.into);
    let merged = merge(&args.folders, &root, &stop).map_err(CliError::invalid)?;
    for one in &merged {
        run::print_verdicts(&one.judged.scorecard, &root);
        say!("{}: {} runs brought in, {} were there", one.experiment, one.brought, one.there);
        for run_id in &one.missing {
            say!("not finished: {run_id}");
        }
        say!("report: {}", one.judged.reports.markdown.display());
    }
    Ok(Exit::Done)
}
