//! `nanochat prune`: removes the folders of runs that nothing plans any more.

use std::io::{IsTerminal as _, Write as _};

use nanochat_experiment::LoadOptions;

use super::context::vocabulary_size;
use super::{CliError, CliResult, Exit};
use crate::run::{project, prune, unplanned};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove without asking
    #[arg(long)]
    yes: bool,
}

pub fn execute(args: Args) -> CliResult {
    let options = LoadOptions { vocabulary: Some(vocabulary_size), ..LoadOptions::default() };
    let folders = unplanned(&project(), &options).map_err(CliError::failed)?;
    if folders.is_empty() {
        say!("every run is planned by a spec or named by its experiment's record");
        return Ok(Exit::Done);
    }
    folders.iter().for_each(|folder| say!("{}", folder.path().display()));
    if !args.yes && !agreed(folders.len())? {
        say!("nothing was removed");
        return Ok(Exit::Done);
    }
    for folder in &folders {
        for path in prune(folder).map_err(CliError::failed)? {
            say!("left: {} is not this program's", path.display());
        }
    }
    say!("removed the files of {} runs", folders.len());
    Ok(Exit::Done)
}

/// Asks on the terminal; without one nobody can answer.
fn agreed(count: usize) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        let help = "`nanochat prune --yes` removes without asking";
        return Err(CliError::usage(
            format!("{count} run folders are not planned, and nobody is asked here"),
            Some(help),
        ));
    }
    super::output::text(&format!("Remove these {count} run folders? [y/N] "));
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| CliError::usage(format!("can't read the answer: {error}"), None))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
