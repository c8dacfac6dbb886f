//! `nanochat parity`.

use super::{CliError, CliResult};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn execute(_args: Args) -> CliResult {
    Err(CliError::usage("`nanochat parity` is not written yet", None))
}
