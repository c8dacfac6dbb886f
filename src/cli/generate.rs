//! `nanochat generate`.

use super::{CliError, CliResult};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn execute(_args: Args) -> CliResult {
    Err(CliError::usage("`nanochat generate` is not written yet", None))
}
