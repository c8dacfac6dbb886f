//! `nanochat schema`: writes or checks the JSON schemas.

use std::path::PathBuf;

use nanochat_lab::schemas;

use super::{CliError, CliResult, Exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare instead of writing; exit code 1 when the folder is out of date
    #[arg(long)]
    check: bool,
    /// The folder
    #[arg(long, value_name = "FOLDER", default_value = "schemas")]
    folder: PathBuf,
}

pub fn execute(args: Args) -> CliResult {
    if !args.check {
        for name in schemas::write(&args.folder).map_err(CliError::invalid)? {
            say!("{}", args.folder.join(name).display());
        }
        return Ok(Exit::Done);
    }
    let drifts = schemas::compare(&args.folder).map_err(CliError::invalid)?;
    for drift in &drifts {
        tell!("{} {}", args.folder.join(&drift.file).display(), drift.reason);
    }
    if drifts.is_empty() {
        say!("the schemas in {} match the types", args.folder.display());
        return Ok(Exit::Done);
    }
    tell!("run `nanochat schema` to write them");
    Ok(Exit::Failed)
}
