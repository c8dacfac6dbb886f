//! `nanochat leaderboard`: all recorded results in one table.

use std::path::PathBuf;

use nanochat_artifacts::ResultsRoot;
use nanochat_lab::report;

use super::{CliError, CliResult, Exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the project, which holds `results/`
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Folder of templates that replace the built-in ones of the same name
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

pub fn execute(args: Args) -> CliResult {
    let root = ResultsRoot::new(&args.project);
    if !root.results().is_dir() {
        let help = "run it in the project's folder, or name that with --project";
        return Err(CliError::usage(format!("there is no folder `{}`", root.results().display()), Some(help)));
    }
    let path = report::write_leaderboard(&root, args.templates.as_deref()).map_err(CliError::failed)?;
    say!("{}", path.display());
    Ok(Exit::Done)
}
